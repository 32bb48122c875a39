package limits_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/gostream/gostream/codec/internal/limits"
)

func TestMistakes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		set   func(*limits.Limits)
		words string // "" where it is right
	}{
		{func(l *limits.Limits) { l.SetMaxSize(1) }, ""},
		{func(l *limits.Limits) { l.SetMaxSize(limits.MostSize) }, ""},
		{func(l *limits.Limits) { l.SetMaxSize(0) }, "test: MaxSize(0): it must be between 1 and 2147483647 bytes"},
		{func(l *limits.Limits) { l.SetMaxDepth(4) }, ""},
		{func(l *limits.Limits) { l.SetMaxDepth(10_000) }, ""},
		{func(l *limits.Limits) { l.SetMaxDepth(3) }, "test: MaxDepth(3): it must be between 4 and 10000 levels"},
		{func(l *limits.Limits) { l.SetMaxDepth(10_001) }, "test: MaxDepth(10001)"},
		{func(l *limits.Limits) { l.SetContentType("a/b; c=d") }, ""},
		{func(l *limits.Limits) { l.SetContentType("b") }, `test: ContentType("b"): a media type such as "a/test" is needed`},
		{func(l *limits.Limits) { l.SetContentType("a/b; c") }, `test: ContentType("a/b; c")`},
		{func(l *limits.Limits) { l.SetContentType("") }, `test: ContentType("")`},
	} {
		l := limits.New("test", "a/test")
		tt.set(&l)
		err := l.Err()
		if tt.words == "" && (err != nil || l.Declared() == "") {
			t.Errorf("it is a mistake: %v", err)
		}
		if tt.words != "" && (err == nil || !strings.Contains(err.Error(), tt.words) || l.Declared() != "") {
			t.Errorf("the mistake is %v, want %q; the content type is %q", err, tt.words, l.Declared())
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	l := limits.New("test", "a/test")
	l.SetMaxSize(5)
	if err := l.CheckSize(5); err != nil {
		t.Error(err)
	}
	for want, err := range map[string]error{
		"test: the payload has 6 bytes, over a limit of the codec: MaxSize is 5":              l.CheckSize(6),
		"test: the value is nested too deeply, over a limit of the codec: MaxDepth is 100":    l.TooDeep(),
		"test: the payload would be too large, over a limit of the codec: MaxSize is 5 bytes": l.TooLarge(),
	} {
		if !errors.Is(err, limits.ErrExceeded) || err.Error() != want {
			t.Errorf("the error is %v, want %s", err, want)
		}
	}
}

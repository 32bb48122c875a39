package gostream

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestErrorTextOfErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ text, want string }{
		{"", ""},
		{"no such customer: 17", "no such customer: 17"},
		{"größe 中 🙂 ±½", "größe 中 🙂 ±½"},
		{`"quoted" \ back`, `"quoted" \ back`},
		{"two\nlines", "two lines"},
		{"a\r\nX-Injected: yes", "a  X-Injected: yes"},
		{"tab\tnull\x00escape\x1bdelete\x7f", "tab null escape delete "},
		{"C1\u0085next line\u009f", "C1 next line "},
		{"line\u2028paragraph\u2029end", "line paragraph end"},
		{"right-to-left \u202eoverride", "right-to-left  override"},
		{"invalid \xff\xfe UTF-8 \xc3", "invalid    UTF-8  "},
		{"a replacement character \ufffd", "a replacement character  "},
	} {
		if got := errorText(errors.New(tt.text)); got != tt.want {
			t.Errorf("the text of %q is %q, want %q", tt.text, got, tt.want)
		}
	}
}

// A long text is cut at a rune's boundary, whatever that is, and says that it was.
func TestErrorTextIsBounded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want int // bytes; 0: unchanged
	}{
		{strings.Repeat("x", maxErrorText-1), 0},
		{strings.Repeat("x", maxErrorText), 0},
		{strings.Repeat("x", maxErrorText+1), maxErrorText},
		{strings.Repeat("x", 64<<10), maxErrorText},
		{strings.Repeat("é", 1000), maxErrorText - 1},   // 1021 is amid a rune of 2
		{"x" + strings.Repeat("é", 1000), maxErrorText}, // 1021 is not
		{strings.Repeat("中", 1000), maxErrorText - 1},   // 1021 is amid a rune of 3
		{"x" + strings.Repeat("中", 1000), maxErrorText}, // 1021 is not
		{strings.Repeat("🙂", 1000), maxErrorText - 1},   // 1021 is amid a rune of 4
		{"xyz" + strings.Repeat("🙂", 1000), maxErrorText - 2},
		{strings.Repeat("\xff", 2000), maxErrorText}, // each becomes one space
	} {
		got := errorText(errors.New(tt.text))
		name := fmt.Sprintf("%.8q and so on, %d bytes", tt.text, len(tt.text))
		if tt.want == 0 {
			if got != tt.text {
				t.Errorf("%s: changed to %d bytes", name, len(got))
			}
			continue
		}
		if len(got) != tt.want || !utf8.ValidString(got) || !strings.HasSuffix(got, "…") {
			t.Errorf("%s: %d bytes, want %d, valid, with an ellipsis: …%q", name, len(got), tt.want, got[len(got)-12:])
		}
	}
}

// nilErrorText is an error whose text cannot be had: the classic typed nil.
type nilErrorText struct{ text string }

func (e *nilErrorText) Error() string { return e.text }

// A handler's faulty error must not end the process on the way to the dead letter.
func TestErrorTextOfAPanickingError(t *testing.T) {
	t.Parallel()
	for _, err := range []error{(*nilErrorText)(nil), Reject((*nilErrorText)(nil))} {
		got := errorText(err)
		if !strings.Contains(got, fmt.Sprintf("%T", err)) || !strings.Contains(got, "panic") {
			t.Errorf("the text is %q, want the error's type and that its Error method panicked", got)
		}
	}
}

func FuzzErrorText(f *testing.F) {
	f.Add("plain")
	f.Add("two\r\nlines\x00\u0085\u2028")
	f.Add("\xff\xfe")
	f.Add(strings.Repeat("中", 400))
	f.Add(strings.Repeat("\x80", maxErrorText+1))
	f.Fuzz(func(t *testing.T, text string) {
		got := errorText(errors.New(text))
		if len(got) > maxErrorText {
			t.Errorf("%d bytes", len(got))
		}
		if !utf8.ValidString(got) {
			t.Errorf("not valid UTF-8: %q", got)
		}
		if i := strings.IndexFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("not printable at byte %d: %q", i, got)
		}
		if again := errorText(errors.New(got)); again != got {
			t.Errorf("not stable: %q, then %q", got, again)
		}
	})
}

func TestReplyID(t *testing.T) {
	t.Parallel()
	if got := replyID("m-1", "orders"); got != "m-1/orders" {
		t.Errorf("the id is %q", got)
	}
	long := strings.Repeat("m", maxReplyID-len("/orders"))
	if got := replyID(long, "orders"); got != long+"/orders" {
		t.Errorf("an id of exactly %d bytes was changed: %q", maxReplyID, got)
	}
	seen := make(map[string]string)
	for _, id := range []string{"a", long + "m", long + "n", long + "mm", strings.Repeat("m", 64<<10)} {
		for _, subscription := range []string{"orders", "payments", strings.Repeat("s", 64<<10)} {
			got := replyID(id, subscription)
			if len(got) > maxReplyID {
				t.Errorf("an id of %d bytes from %d and %d", len(got), len(id), len(subscription))
			}
			if again := replyID(id, subscription); again != got {
				t.Errorf("the same message has two ids: %q, %q", got, again)
			}
			what := fmt.Sprintf("%.4q (%d) at %.4q (%d)", id, len(id), subscription, len(subscription))
			if other, taken := seen[got]; taken {
				t.Errorf("%s and %s have the same id %q", what, other, got)
			}
			seen[got] = what
		}
	}
	// A chain of services: each takes the id of the one before.
	id := "m"
	for range 100 {
		next := replyID(id, "a subscription with a rather long name")
		if next == id || len(next) > maxReplyID {
			t.Fatalf("the id after %q is %q", id, next)
		}
		id = next
	}
}

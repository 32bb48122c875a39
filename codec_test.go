package gostream

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

// labelCodec is a codec that writes its label before the value's text.
type labelCodec struct {
	contentType, label string
}

func (c labelCodec) ContentType() string { return c.contentType }

func (c labelCodec) Append(dst []byte, v any) ([]byte, error) {
	return append(dst, c.label+v.(string)...), nil
}

func (c labelCodec) Unmarshal(data []byte, v any) error {
	text, ok := strings.CutPrefix(string(data), c.label)
	if !ok {
		return errors.New("not of " + c.label)
	}
	*v.(*string) = text
	return nil
}

func TestCodecTable(t *testing.T) {
	t.Parallel()
	main := labelCodec{"application/vnd.shop+json", "main"}
	upper := labelCodec{"Application/CBOR; version=1", "cbor"}
	msgpack := labelCodec{"application/msgpack", "msgpack"}
	table := newCodecTable(main, []Codec{
		upper, msgpack,
		labelCodec{"application/msgpack", "second of its type"},
		labelCodec{"APPLICATION/MsgPack;v=2", "third of its type"},
		labelCodec{"application/vnd.shop+json; v=2", "beside the main one"},
	})
	for _, tt := range []struct {
		declared string
		want     Codec // nil: unknown
	}{
		{"", main},
		{"application/vnd.shop+json", main},
		{"application/vnd.shop+json; charset=utf-8", main},
		{"application/vnd.shop+json;charset=utf-8", main},
		{"APPLICATION/vnd.Shop+JSON", main},
		{"  application/vnd.shop+json\t; a=b; c=d", main},
		{"application/cbor", upper},
		{"application/CBOR; version=7", upper},
		{"application/msgpack", msgpack},
		{"Application/MsgPack ;x", msgpack},
		{"application/json", nil},
		{"application/vnd.shop", nil},
		{"application/vnd.shop+json,application/msgpack", nil},
		{";", nil},
		{" ", nil},
		{"application/json\x00", nil},
		{strings.Repeat("x", 64<<10), nil},
	} {
		got, err := table.forContentType(tt.declared)
		switch {
		case got != tt.want:
			t.Errorf("content type %.40q: codec %v, want %v", tt.declared, got, tt.want)
		case tt.want == nil && !errors.Is(err, errUnknownContentType):
			t.Errorf("content type %.40q: error %v, want %v", tt.declared, err, errUnknownContentType)
		case tt.want != nil && err != nil:
			t.Errorf("content type %.40q: %v", tt.declared, err)
		}
	}
	want := []string{"application/vnd.shop+json", "application/cbor", "application/msgpack"}
	if got := table.contentTypes(); !slices.Equal(got, want) {
		t.Errorf("content types %q, want %q", got, want)
	}
}

// The main codec's own content type may carry parameters: what declares it without
// them, or with others, is still its.
func TestCodecTableMainWithParameters(t *testing.T) {
	t.Parallel()
	main := labelCodec{"application/json; profile=shop", "main"}
	table := newCodecTable(main, nil)
	for _, declared := range []string{"", "application/json; profile=shop", "application/json", "Application/JSON; profile=other"} {
		if got, err := table.forContentType(declared); got != main || err != nil {
			t.Errorf("content type %q: codec %v, error %v", declared, got, err)
		}
	}
	if got := table.contentTypes(); !slices.Equal(got, []string{main.contentType}) {
		t.Errorf("content types %q, want the main one as it is", got)
	}
}

// Of the main codec the nearest counts; of the others all do, and of two for one
// content type the nearer, then the first.
func TestCodecsNearerFirst(t *testing.T) {
	t.Parallel()
	codec := func(contentType, level string) Codec { return labelCodec{contentType, level} }
	levels := map[string][]HandleOption{
		"app": {
			WithCodec(codec("main/app", "app")),
			Codecs(codec("a/a", "app"), codec("a/b", "app"), codec("a/c", "app")),
		},
		"router": {
			WithCodec(codec("main/router", "router")),
			Codecs(codec("a/b", "router"), codec("a/c", "router")),
		},
		"subscription": {
			Codecs(codec("a/c", "subscription"), codec("a/c", "second of the subscription")),
			Codecs(codec("a/d", "subscription"), codec("a/d", "second of the subscription")),
		},
	}
	var set settings
	for _, level := range []string{"app", "router", "subscription"} {
		var own settings
		applyHandleOptions(&own, levels[level])
		if own.errs != nil {
			t.Fatal(own.errs)
		}
		set = own.within(set)
	}
	table := newCodecTable(set.mainCodec(), set.codecs)
	for declared, want := range map[string]string{
		"":    "router",
		"a/a": "app",
		"a/b": "router",
		"a/c": "subscription",
		"a/d": "subscription",
	} {
		got, err := table.forContentType(declared)
		if err != nil || got.(labelCodec).label != want {
			t.Errorf("content type %q: codec %v, error %v, want the one of the %s", declared, got, err, want)
		}
	}
	if _, err := table.forContentType("main/app"); err == nil {
		t.Error("a main codec that a nearer one replaced still decodes")
	}
}

// Levels do not share memory: what one subscription adds must not appear at the
// next one of the same router.
func TestCodecsOfSiblings(t *testing.T) {
	t.Parallel()
	var outer settings
	outer.codecs = make([]Codec, 1, 8)
	outer.codecs[0] = labelCodec{"a/outer", "outer"}
	rules := make([]Rule, 1, 8)
	rules[0] = AnyError().Ignore()
	outer.rules = rules
	var siblings [2]settings
	for i, label := range []string{"first", "second"} {
		var own settings
		own.codecs = append(make([]Codec, 0, 8), labelCodec{"a/own", label})
		own.rules = append(make([]Rule, 0, 8), Is(errors.New(label)).Reject())
		siblings[i] = own.within(outer)
		_ = own.within(outer)
	}
	for i, label := range []string{"first", "second"} {
		s := siblings[i]
		if len(s.codecs) != 2 || s.codecs[0].(labelCodec).label != label || s.codecs[1].(labelCodec).label != "outer" {
			t.Errorf("the %s one has codecs %v", label, s.codecs)
		}
		if len(s.rules) != 2 || !strings.Contains(s.rules[0].String(), label) || s.rules[1].action != actionIgnore {
			t.Errorf("the %s one has rules %v", label, s.rules)
		}
	}
}

func TestJSONAppend(t *testing.T) {
	t.Parallel()
	type order struct {
		ID string `json:"id"`
	}
	v := order{ID: "o-1"}
	for _, dst := range []string{"", "before "} {
		for _, value := range []any{v, &v} {
			got, err := JSON.Append([]byte(dst), value)
			if want := dst + `{"id":"o-1"}`; err != nil || string(got) != want {
				t.Errorf("Append(%q, %T) is %q, %v, want %q", dst, value, got, err, want)
			}
		}
	}
	room := append(make([]byte, 0, 64), "before "...)
	if got, err := JSON.Append(room, v); err != nil || &got[0] != &room[0] {
		t.Errorf("Append did not use the room in dst: %q, %v", got, err)
	}
	if got, err := JSON.Append([]byte("before"), math.Inf(1)); err == nil || len(got) != 0 {
		t.Errorf("what JSON cannot hold became %q, %v", got, err)
	}
	var back order
	if err := JSON.Unmarshal([]byte(`{"id":"o-2"}`), &back); err != nil || back.ID != "o-2" {
		t.Errorf("Unmarshal: %+v, %v", back, err)
	}
}

// panicCodec is a codec whose Append panics with value.
type panicCodec struct {
	Codec
	value any
}

func (c panicCodec) Append([]byte, any) ([]byte, error) { panic(c.value) }

func TestEncode(t *testing.T) {
	t.Parallel()
	if got, err := encode(JSON, 7); string(got) != "7" || err != nil {
		t.Errorf("encode is %q, %v", got, err)
	}

	got, err := encode(JSON, make(chan int))
	if got != nil || err == nil || !strings.HasPrefix(err.Error(), "encode as application/json: ") {
		t.Errorf("encoding a channel answers %q, %v", got, err)
	}

	cause := errors.New("broken")
	for _, value := range []any{"broken", cause, nil} {
		got, err := encode(panicCodec{JSON, value}, 7)
		var p *PanicError
		if !errors.As(err, &p) || got != nil {
			t.Errorf("panic(%v): %q, %v, want a *PanicError", value, got, err)
			continue
		}
		if !strings.Contains(string(p.Stack), "panicCodec") {
			t.Errorf("panic(%v): the stack does not show the codec:\n%s", value, p.Stack)
		}
		if value == cause && !errors.Is(err, cause) {
			t.Errorf("panic(%v): the error does not unwrap to what was panicked with", value)
		}
	}
}

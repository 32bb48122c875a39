package memory_test

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

var goodNames = []string{
	"a", "orders", "orders.new", "a.b.c.d", "größe.ünï", "with-dash_and:colon/slash", "0", "_inbo", "_inboxes.1",
	strings.Repeat("x", memory.MaxName),
}

var badNames = map[string]string{
	"empty":             "",
	"only a dot":        ".",
	"leading dot":       ".a",
	"trailing dot":      "a.",
	"empty token":       "a..b",
	"space":             "a b",
	"tab":               "a\tb",
	"line feed":         "a\n",
	"null":              "a\x00b",
	"delete":            "a\x7f",
	"control C1":        "a\u0085",
	"no-break space":    "a\u00a0b",
	"line separator":    "a\u2028b",
	"invalid UTF-8":     "a\xff",
	"too long":          strings.Repeat("x", memory.MaxName+1),
	"star":              "a.*",
	"star in a token":   "a*b",
	"greater":           "a.>",
	"greater in token":  "a>b",
	"reserved":          "_inbox",
	"never issued":      "_inbox.1.999999",
	"reserved, no form": "_inbox.x",
}

func TestNames(t *testing.T) {
	t.Parallel()
	b, p := connect(t)
	for _, name := range goodNames {
		if err := broker.CheckPublishName(b, name); err != nil {
			t.Errorf("CheckPublishName: %v", err)
		}
		if err := broker.CheckSubscribeName(b, name); err != nil {
			t.Errorf("CheckSubscribeName: %v", err)
		}
		if err := p.Publish(t.Context(), out(name, "x")); err != nil {
			t.Errorf("Publish: %v", err)
		}
		sub, err := b.Subscribe(t.Context(), name)
		if err != nil {
			t.Errorf("Subscribe: %v", err)
			continue
		}
		if m := receive(t, sub); m.Name() != name {
			t.Errorf("name is %q, want %q", m.Name(), name)
		}
	}
	tx, err := broker.Begin(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	for what, name := range badNames {
		wantError(t, what+": CheckPublishName", broker.CheckPublishName(b, name), broker.ErrInvalid)
		wantError(t, what+": CheckSubscribeName", broker.CheckSubscribeName(b, name), broker.ErrInvalid)
		wantError(t, what+": Publish", p.Publish(t.Context(), out(name, "x")), broker.ErrInvalid)
		wantError(t, what+": Publish in a transaction", tx.Publish(t.Context(), out(name, "x")), broker.ErrInvalid)
		_, err := broker.Request(t.Context(), p, out(name, "x"))
		wantError(t, what+": Request", err, broker.ErrInvalid)
		_, err = b.Subscribe(t.Context(), name)
		wantError(t, what+": Subscribe", err, broker.ErrInvalid)
	}
	if err := broker.CheckSubscribeName(b, "a.*"); !strings.Contains(err.Error(), "memory.Pattern") {
		t.Errorf("the error %q does not say what to use for a pattern", err)
	}
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	b := memory.New()
	good := append([]string{"*", ">", "a.*", "*.a", "a.>", "*.>", "a.*.b.>", "*.*"}, goodNames...)
	for _, pattern := range good {
		if err := memory.Pattern(pattern).Check(b); err != nil {
			t.Errorf("Pattern: %v", err)
		}
		if err := memory.Queue(pattern, "g").Check(b); err != nil {
			t.Errorf("Queue: %v", err)
		}
	}
	bad := []string{"a*", "*a.b", "a.b*", "a>", ">a", ">.a", "a.>.b", "**", ">>", "a..*", ".*", "*.", "a b.*", "_inbox.>", "_inbox.*.1", "", "a\xff.*"}
	for _, pattern := range bad {
		wantError(t, pattern, memory.Pattern(pattern).Check(b), broker.ErrInvalid)
		wantError(t, pattern, memory.Queue(pattern, "g").Check(b), broker.ErrInvalid)
		if memory.Pattern(pattern).Match("a") {
			t.Errorf("the pattern %q is none and matches", pattern)
		}
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		pattern, name string
		want          bool
	}{
		{"a", "a", true},
		{"a", "b", false},
		{"a", "a.b", false},
		{"a.b", "a", false},
		{"*", "a", true},
		{"*", "a.b", false},
		{"a.*", "a.b", true},
		{"a.*", "a", false},
		{"a.*", "a.b.c", false},
		{"*.b", "a.b", true},
		{"a.*.c", "a.b.c", true},
		{"a.*.c", "a.b.d", false},
		{">", "a", true},
		{">", "a.b.c", true},
		{"a.>", "a", false},
		{"a.>", "a.b", true},
		{"a.>", "a.b.c", true},
		{"a.>", "b.a", false},
		{"*.>", "a", false},
		{"*.>", "a.b", true},
		{">", "", false},
		{">", "a..b", false},
		{">", "a.*", false},
		{">", "_inbox.1.1", false},
	} {
		if got := memory.Pattern(test.pattern).Match(test.name); got != test.want {
			t.Errorf("Pattern(%q).Match(%q) is %v, want %v", test.pattern, test.name, got, test.want)
		}
		if got := memory.Queue(test.pattern, "g").Match(test.name); got != test.want {
			t.Errorf("Queue(%q).Match(%q) is %v, want %v", test.pattern, test.name, got, test.want)
		}
	}
	b := memory.New()
	if !b.MatchName("a", "a") || b.MatchName("a", "b") || b.MatchName("*", "a") {
		t.Error("MatchName is not equality")
	}
}

// FuzzMatch compares the match with a plain one on token lists.
func FuzzMatch(f *testing.F) {
	f.Add("a.*", "a.b")
	f.Add("a.>", "a.b.c")
	f.Add("*.>", "a")
	f.Add("größe.*", "größe.x")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		b := memory.New()
		src := memory.Pattern(pattern)
		got := src.Match(name)
		valid := src.Check(b) == nil && broker.CheckPublishName(b, name) == nil
		want := valid && matchTokens(strings.Split(pattern, "."), strings.Split(name, "."))
		if got != want {
			t.Errorf("Pattern(%q).Match(%q) is %v, want %v", pattern, name, got, want)
		}
		if valid && (!utf8.ValidString(name) || slices.Contains(strings.Split(name, "."), "")) {
			t.Errorf("the name %q is accepted", name)
		}
	})
}

func matchTokens(pattern, name []string) bool {
	if len(pattern) == 0 || len(name) == 0 {
		return len(pattern) == len(name)
	}
	if pattern[0] == ">" {
		return true
	}
	return (pattern[0] == "*" || pattern[0] == name[0]) && matchTokens(pattern[1:], name[1:])
}

func TestHeaderKeys(t *testing.T) {
	t.Parallel()
	_, p := connect(t)
	for _, key := range []string{"", "a b", "a:b", "a\r", "a\n", "a\x00", "\x7f", "a\u00a0", "ü:", "a\u0085"} {
		msg := out("a", "x")
		msg.Headers = broker.NewHeaders(broker.Header{Key: "fine", Value: "1"}, broker.Header{Key: key, Value: "1"})
		wantError(t, "header key "+broker.Quote(key), p.Publish(t.Context(), msg), broker.ErrInvalid)
		tx, err := broker.Begin(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, "header key in a transaction", tx.Publish(t.Context(), msg), broker.ErrInvalid)
	}
}

func TestHeadersArriveByteForByte(t *testing.T) {
	t.Parallel()
	b, p := connect(t)
	sub := subscribe(t, b, broker.ByName("a"))
	want := []broker.Header{
		{Key: "Mixed-Case", Value: "a\r\nb\x00\xff"},
		{Key: "multi", Value: "1"},
		{Key: "größe", Value: ""},
		{Key: "multi", Value: "2"},
	}
	msg := out("a", "x")
	msg.Headers = broker.NewHeaders(want...)
	if err := p.Publish(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	var got []broker.Header
	for k, v := range receive(t, sub).Headers().All() {
		got = append(got, broker.Header{Key: k, Value: v})
	}
	if !slices.Equal(got, want) {
		t.Errorf("headers %q, want %q", got, want)
	}
}

// mapView is a client's header structure that changes after Publish.
type mapView map[string]string

func (v mapView) Lookup(key string) (string, bool) { s, ok := v[key]; return s, ok }

func (v mapView) Range(yield func(key, value string) bool) {
	for k, s := range v {
		if !yield(k, s) {
			return
		}
	}
}

func TestHeadersAreOwned(t *testing.T) {
	t.Parallel()
	b, p := connect(t)
	sub := subscribe(t, b, broker.ByName("a"))
	view := mapView{"k": "before"}
	msg := out("a", "x")
	msg.Headers = broker.ViewHeaders(view)
	if err := p.Publish(t.Context(), msg); err != nil {
		t.Fatal(err)
	}
	msgs := []broker.OutgoingMessage{msg}
	if err := broker.PublishBatch(t.Context(), p, msgs); err != nil {
		t.Fatal(err)
	}
	view["k"] = "after"
	for range 2 {
		if got := receive(t, sub).Headers().Get("k"); got != "before" {
			t.Errorf("the header is %q: the broker kept a view", got)
		}
	}
	if got := msgs[0].Headers.Get("k"); got != "after" {
		t.Errorf("PublishBatch wrote to the caller's message")
	}
}

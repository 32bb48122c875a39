package broker_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gostream/gostream/broker"
)

// mapView is a client's own headers: a map from a lower-case key to its fields,
// as many clients keep them. It remembers the order of its keys, for a fuzz test
// wants its runs to be repeatable.
type mapView struct {
	fields map[string][]broker.Header
	keys   []string
}

func viewOf(fields ...broker.Header) *mapView {
	v := &mapView{fields: map[string][]broker.Header{}}
	for _, f := range fields {
		k := asciiLower(f.Key)
		if _, ok := v.fields[k]; !ok {
			v.keys = append(v.keys, k)
		}
		v.fields[k] = append(v.fields[k], f)
	}
	return v
}

func (v *mapView) Lookup(key string) (string, bool) {
	for _, k := range v.keys {
		if broker.EqualKey(k, key) {
			return v.fields[k][0].Value, true
		}
	}
	return "", false
}

func (v *mapView) Range(yield func(key, value string) bool) {
	for _, k := range v.keys {
		for _, f := range v.fields[k] {
			if !yield(f.Key, f.Value) {
				return
			}
		}
	}
}

// reuse empties the view, as a client does that reuses its structures.
func (v *mapView) reuse() {
	clear(v.fields)
	v.keys = nil
}

// asciiLower is the test's own idea of which keys are the same.
func asciiLower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZ", c) >= 0 {
			b[i] += 'a' - 'A'
		}
	}
	return string(b)
}

// grouped returns the fields in an order that tests may compare: keys sorted,
// the values of one key as they came.
func grouped(h broker.Headers) []broker.Header {
	var fields []broker.Header
	for k, v := range h.All() {
		fields = append(fields, broker.Header{Key: k, Value: v})
	}
	return groupFields(fields)
}

func groupFields(fields []broker.Header) []broker.Header {
	fields = slices.Clone(fields)
	slices.SortStableFunc(fields, func(a, b broker.Header) int {
		return strings.Compare(asciiLower(a.Key), asciiLower(b.Key))
	})
	return fields
}

func wantFields(t *testing.T, what string, h broker.Headers, want ...broker.Header) {
	t.Helper()
	if got := grouped(h); !slices.Equal(got, groupFields(want)) {
		t.Errorf("%s: got %q, want %q", what, got, groupFields(want))
	}
	if h.Len() != len(want) {
		t.Errorf("%s: Len is %d, want %d", what, h.Len(), len(want))
	}
}

// bothForms runs f with the fields as a list and as a view.
func bothForms(t *testing.T, fields []broker.Header, f func(t *testing.T, h broker.Headers)) {
	t.Helper()
	t.Run("list", func(t *testing.T) {
		t.Parallel()
		f(t, broker.NewHeaders(fields...))
	})
	t.Run("view", func(t *testing.T) {
		t.Parallel()
		f(t, broker.ViewHeaders(viewOf(fields...)))
	})
}

var sample = []broker.Header{
	{Key: "Trace", Value: "t1"},
	{Key: "tag", Value: "a"},
	{Key: "TAG", Value: "b"},
	{Key: "empty", Value: ""},
	{Key: "bytes", Value: "\x00\xff\n"},
}

func TestHeadersZeroValue(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]broker.Headers{
		"zero":                   {},
		"NewHeaders()":           broker.NewHeaders(),
		"ViewHeaders(nil)":       broker.ViewHeaders(nil),
		"view of nothing":        broker.ViewHeaders(viewOf()),
		"With without values":    broker.Headers{}.With("k"),
		"all removed":            broker.NewHeaders(sample...).Without("trace", "tag", "empty", "bytes"),
		"owned view of nothing":  broker.ViewHeaders(viewOf()).Owned(),
		"an empty reply-to":      broker.Headers{}.WithReplyTo(""),
		"Without on zero":        broker.Headers{}.Without("k"),
		"Owned of the zero form": broker.Headers{}.Owned(),
	} {
		wantFields(t, name, h)
		if v, ok := h.Lookup("k"); v != "" || ok {
			t.Errorf("%s: Lookup answers %q, %v", name, v, ok)
		}
		if h.Get("k") != "" || h.Has("k") {
			t.Errorf("%s: Get answers %q, Has %v", name, h.Get("k"), h.Has("k"))
		}
		if v := h.Values("k"); v != nil {
			t.Errorf("%s: Values answers %#v, want nil", name, v)
		}
		if s := h.String(); s != "[]" {
			t.Errorf("%s: String is %q", name, s)
		}
	}
}

func TestHeadersReading(t *testing.T) {
	t.Parallel()
	bothForms(t, sample, func(t *testing.T, h broker.Headers) {
		wantFields(t, "All", h, sample...)
		for _, tt := range []struct {
			key    string
			first  string
			has    bool
			values []string
		}{
			{"Trace", "t1", true, []string{"t1"}},
			{"tRACE", "t1", true, []string{"t1"}},
			{"tag", "a", true, []string{"a", "b"}},
			{"empty", "", true, []string{""}},
			{"bytes", "\x00\xff\n", true, []string{"\x00\xff\n"}},
			{"tra", "", false, nil},
			{"", "", false, nil},
		} {
			if v, ok := h.Lookup(tt.key); v != tt.first || ok != tt.has {
				t.Errorf("Lookup(%q) answers %q, %v", tt.key, v, ok)
			}
			if v := h.Get(tt.key); v != tt.first {
				t.Errorf("Get(%q) answers %q", tt.key, v)
			}
			if h.Has(tt.key) != tt.has {
				t.Errorf("Has(%q) answers %v", tt.key, !tt.has)
			}
			if v := h.Values(tt.key); !slices.Equal(v, tt.values) {
				t.Errorf("Values(%q) answers %q", tt.key, v)
			}
		}
	})
}

func TestHeadersAllStopsEarly(t *testing.T) {
	t.Parallel()
	bothForms(t, sample, func(t *testing.T, h broker.Headers) {
		n := 0
		for range h.All() {
			n++
			if n == 2 {
				break
			}
		}
		if n != 2 {
			t.Errorf("the loop ran %d times after a break at 2", n)
		}
	})
}

func TestHeadersValuesAreTheCallers(t *testing.T) {
	t.Parallel()
	bothForms(t, sample, func(t *testing.T, h broker.Headers) {
		v := h.Values("tag")
		v[0] = "changed"
		_ = append(v[:1], "changed")
		wantFields(t, "after the caller changed the slice", h, sample...)
	})
}

func TestNewHeadersCopies(t *testing.T) {
	t.Parallel()
	fields := slices.Clone(sample)
	h := broker.NewHeaders(fields...)
	fields[0] = broker.Header{Key: "changed", Value: "changed"}
	wantFields(t, "after the caller changed its slice", h, sample...)
}

func TestHeadersWith(t *testing.T) {
	t.Parallel()
	bothForms(t, sample, func(t *testing.T, h broker.Headers) {
		wantFields(t, "With a new key", h.With("new", "1"),
			append(slices.Clone(sample), broker.Header{Key: "new", Value: "1"})...)

		replaced := h.With("Tag", "c", "d", "e")
		if v := replaced.Values("tag"); !slices.Equal(v, []string{"c", "d", "e"}) {
			t.Errorf("With on a key of two values: %q", v)
		}
		var keys []string
		for k := range replaced.All() {
			if broker.EqualKey(k, "tag") {
				keys = append(keys, k)
			}
		}
		if !slices.Equal(keys, []string{"Tag", "Tag", "Tag"}) {
			t.Errorf("the keys keep the case in which they were written: %q", keys)
		}

		if gone := h.With("tag"); gone.Has("tag") || gone.Len() != len(sample)-2 {
			t.Errorf("With without values leaves %v", gone)
		}
		if v, ok := h.With("trace", "").Lookup("trace"); v != "" || !ok {
			t.Errorf("With an empty value: Lookup answers %q, %v", v, ok)
		}
		wantFields(t, "the original", h, sample...)
	})
}

func TestHeadersWithAdded(t *testing.T) {
	t.Parallel()
	bothForms(t, sample, func(t *testing.T, h broker.Headers) {
		added := h.WithAdded("tAg", "c").WithAdded("new", "1")
		if v := added.Values("tag"); !slices.Equal(v, []string{"a", "b", "c"}) {
			t.Errorf("the added value comes last: %q", v)
		}
		if added.Get("new") != "1" || added.Len() != len(sample)+2 {
			t.Errorf("after two more fields: %v", added)
		}
		wantFields(t, "the original", h, sample...)
	})
}

func TestHeadersWithAll(t *testing.T) {
	t.Parallel()
	bothForms(t, sample, func(t *testing.T, h broker.Headers) {
		more := []broker.Header{{Key: "TAG", Value: "c"}, {Key: "new", Value: "1"}}
		added := h.WithAll(more...)
		more[0], more[1] = broker.Header{}, broker.Header{} // the caller's slice is its own
		wantFields(t, "WithAll", added, append(slices.Clone(sample),
			broker.Header{Key: "TAG", Value: "c"}, broker.Header{Key: "new", Value: "1"})...)
		wantFields(t, "WithAll of nothing", h.WithAll(), sample...)
		wantFields(t, "the original", h, sample...)
	})
}

func TestHeadersWithout(t *testing.T) {
	t.Parallel()
	bothForms(t, sample, func(t *testing.T, h broker.Headers) {
		wantFields(t, "Without two keys", h.Without("TAG", "trace", "unknown"), sample[3:]...)
		wantFields(t, "Without nothing", h.Without(), sample...)
		wantFields(t, "the original", h, sample...)
	})
}

func TestHeadersOwned(t *testing.T) {
	t.Parallel()
	v := viewOf(sample...)
	h := broker.ViewHeaders(v)
	owned := h.Owned()
	v.reuse()
	wantFields(t, "an owned copy", owned, sample...)
	wantFields(t, "the view", h)

	list := broker.NewHeaders(sample...)
	wantFields(t, "a list is owned already", list.Owned(), sample...)
}

// Changes of a view are copies too: nothing reads the view afterwards.
func TestHeadersChangedViewIsNoView(t *testing.T) {
	t.Parallel()
	v := viewOf(sample...)
	h := broker.ViewHeaders(v)
	with, added, without := h.With("new", "1"), h.WithAdded("new", "1"), h.Without("trace")
	v.reuse()
	more := append(slices.Clone(sample), broker.Header{Key: "new", Value: "1"})
	wantFields(t, "With", with, more...)
	wantFields(t, "WithAdded", added, more...)
	wantFields(t, "Without", without, sample[1:]...)
}

// Two values that grew out of one never see each other's fields, also where the
// first left room behind it.
func TestHeadersSharing(t *testing.T) {
	t.Parallel()
	bothForms(t, sample, func(t *testing.T, h broker.Headers) {
		shared := h.With("tag", "x") // a copy with a hole: two fields went, one came
		a := shared.WithAdded("who", "a")
		b := shared.WithAdded("who", "b")
		c := shared.With("who", "c")
		d := a.With("trace", "d")
		for want, h := range map[string]broker.Headers{"a": a, "b": b, "c": c} {
			if got := h.Values("who"); !slices.Equal(got, []string{want}) {
				t.Errorf("%s sees %q", want, got)
			}
			if h.Get("trace") != "t1" {
				t.Errorf("%s sees the trace %q", want, h.Get("trace"))
			}
		}
		if d.Get("trace") != "d" || d.Get("who") != "a" {
			t.Errorf("a changed copy of a copy holds %q, %q", d.Get("trace"), d.Get("who"))
		}
		if shared.Has("who") {
			t.Error("the shared value has grown")
		}
	})
}

func TestHeadersConcurrentUse(t *testing.T) {
	t.Parallel()
	bothForms(t, sample, func(t *testing.T, h broker.Headers) {
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				id := fmt.Sprint(i)
				for range 100 {
					if h.Get("trace") != "t1" || !h.Has("tag") || len(h.Values("tag")) != 2 || h.Len() != len(sample) {
						t.Errorf("a reader sees %q", grouped(h))
						return
					}
					if got := h.With("id", id).WithAdded("id", "more").Without("trace").Owned(); got.Get("id") != id {
						t.Errorf("goroutine %s sees the id %q", id, got.Get("id"))
						return
					}
				}
			})
		}
		wg.Wait()
		wantFields(t, "afterwards", h, sample...)
	})
}

func TestHeadersStringHidesValues(t *testing.T) {
	t.Parallel()
	h := broker.NewHeaders(broker.Header{Key: "authorization", Value: "s3cret"}, broker.Header{Key: "tag", Value: "s3cret"})
	if got, want := h.String(), "[authorization tag]"; got != want {
		t.Errorf("String is %q, want %q", got, want)
	}
	msg := broker.OutgoingMessage{Name: "orders", Headers: h}
	for _, format := range []string{"%v", "%+v", "%s"} {
		if s := fmt.Sprintf(format, msg); strings.Contains(s, "s3cret") {
			t.Errorf("a message printed with %s shows a value: %s", format, s)
		}
	}
}

func TestEqualKey(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"", "", true},
		{"Content-Type", "content-tYPE", true},
		{"a", "b", false},
		{"a", "aa", false},
		{"[", "{", false},      // these differ by the same bit as letters do
		{"@", "`", false},      // and so do these
		{"k", "\u212a", false}, // the Kelvin sign is no ASCII letter
		{"Ä", "ä", false},
		{"\x00", "\x00", true},
	} {
		if broker.EqualKey(tt.a, tt.b) != tt.want || broker.EqualKey(tt.b, tt.a) != tt.want {
			t.Errorf("EqualKey(%q, %q) is not %v", tt.a, tt.b, tt.want)
		}
	}
}

func TestHeadersWellKnown(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		key  string
		get  func(broker.Headers) string
		with func(broker.Headers, string) broker.Headers
	}{
		{broker.HeaderContentType, broker.Headers.ContentType, broker.Headers.WithContentType},
		{broker.HeaderCorrelationID, broker.Headers.CorrelationID, broker.Headers.WithCorrelationID},
		{broker.HeaderReplyTo, broker.Headers.ReplyTo, broker.Headers.WithReplyTo},
		{broker.HeaderMessageID, broker.Headers.MessageID, broker.Headers.WithMessageID},
	} {
		t.Run(tt.key, func(t *testing.T) {
			t.Parallel()
			before := broker.NewHeaders(broker.Header{Key: strings.ToUpper(tt.key), Value: "native"})
			if got := tt.get(before); got != "native" {
				t.Errorf("in other case it reads %q", got)
			}
			set := tt.with(before, "v")
			wantFields(t, "set", set, broker.Header{Key: tt.key, Value: "v"})
			if got := tt.get(set); got != "v" {
				t.Errorf("after it was set it reads %q", got)
			}
			wantFields(t, "removed", tt.with(set, ""))
			if got := tt.get(broker.Headers{}); got != "" {
				t.Errorf("on the zero value it reads %q", got)
			}
			if tt.get(before) != "native" {
				t.Error("the original has changed")
			}
		})
	}
}

// sink keeps the results of measured calls alive.
var sink struct {
	h  broker.Headers
	s  string
	ok bool
	n  int
}

// The budgets of allocations. Not parallel: AllocsPerRun counts the process.
func TestHeadersAllocations(t *testing.T) {
	list := broker.NewHeaders(sample...)
	view := broker.ViewHeaders(viewOf(sample...))
	for _, tt := range []struct {
		name string
		want float64
		f    func()
	}{
		{"NewHeaders()", 0, func() { sink.h = broker.NewHeaders() }},
		{"ViewHeaders", 0, func() { sink.h = broker.ViewHeaders(viewOfNothing) }},
		{"zero: Lookup", 0, func() { sink.s, sink.ok = broker.Headers{}.Lookup("k") }},
		{"zero: Values", 0, func() { sink.n = len(broker.Headers{}.Values("k")) }},
		{"zero: Len", 0, func() { sink.n = broker.Headers{}.Len() }},
		{"zero: All", 0, func() {
			for range (broker.Headers{}).All() {
				sink.n++
			}
		}},
		{"zero: Without", 0, func() { sink.h = broker.Headers{}.Without("k") }},
		{"zero: WithContentType(\"\")", 0, func() { sink.h = broker.Headers{}.WithContentType("") }},
		{"zero: Owned", 0, func() { sink.h = broker.Headers{}.Owned() }},
		{"zero: With", 1, func() { sink.h = broker.Headers{}.With("k", "v") }},
		{"zero: WithAdded", 1, func() { sink.h = broker.Headers{}.WithAdded("k", "v") }},
		{"zero: WithAll", 1, func() { sink.h = broker.Headers{}.WithAll(sample...) }},
		{"zero: WithContentType", 1, func() { sink.h = broker.Headers{}.WithContentType("text/plain") }},
		{"list: Lookup", 0, func() { sink.s, sink.ok = list.Lookup("BYTES") }},
		{"list: Get", 0, func() { sink.s = list.Get("unknown") }},
		{"list: Has", 0, func() { sink.ok = list.Has("TAG") }},
		{"list: ContentType", 0, func() { sink.s = list.ContentType() }},
		{"list: All", 0, func() {
			for k, v := range list.All() {
				sink.n += len(k) + len(v)
			}
		}},
		{"list: Values of no field", 0, func() { sink.n = len(list.Values("unknown")) }},
		{"list: Len", 0, func() { sink.n = list.Len() }},
		{"list: With", 1, func() { sink.h = list.With("tag", "v") }},
		{"list: WithAdded", 1, func() { sink.h = list.WithAdded("tag", "v") }},
		{"list: WithAll", 1, func() { sink.h = list.WithAll(sample...) }},
		{"list: Owned", 0, func() { sink.h = list.Owned() }},
		{"view: Lookup", 0, func() { sink.s, sink.ok = view.Lookup("BYTES") }},
		{"view: Get", 0, func() { sink.s = view.Get("unknown") }},
	} {
		if got := testing.AllocsPerRun(100, tt.f); got != tt.want {
			t.Errorf("%s: %v allocations, want %v", tt.name, got, tt.want)
		}
	}
}

var viewOfNothing = viewOf()

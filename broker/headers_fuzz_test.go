package broker_test

import (
	"slices"
	"testing"

	"github.com/gostream/gostream/broker"
)

// Keys that are the same in other case, keys that only look so, and odd ones.
var fuzzKeys = []string{
	"a", "A", "b", "B", "content-type", "Content-Type", "k", "\u212a",
	"", "[", "{", "ä", "Ä", "\xff", "a b", "reply-to",
}

// FuzzHeaders reads its input as a sequence of operations on a few values that
// grow out of each other, lists and views, and compares each of them with a plain
// slice of fields.
func FuzzHeaders(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x00, 0x00, 0x03, 0x00, 0x10, 0x01, 0x21, 0x00, 0x32})
	f.Add([]byte("With, then a view of it, then Without and WithAdded on both"))
	f.Add([]byte{0x06, 0x01, 0x00, 0x00, 0x01, 0x01, 0x02, 0x02, 0x01, 0x00, 0x07, 0x01, 0x03, 0x05, 0x02, 0x01, 0x00})
	f.Fuzz(func(t *testing.T, data []byte) {
		in := &opReader{data: data}
		var slots [4]struct {
			h     broker.Headers
			model []broker.Header
		}
		for step := 0; in.more() && step < 64; step++ {
			op, from := in.next()%9, slots[in.next()%4]
			to := &slots[in.next()%4]
			key := fuzzKeys[in.next()%len(fuzzKeys)]
			switch op {
			case 0, 1: // With, of none to three values
				values := make([]string, in.next()%4)
				for i := range values {
					values[i] = in.text()
				}
				to.h = from.h.With(key, values...)
				to.model = modelWith(from.model, key, values...)
				for i := range values {
					values[i] = "changed by the caller"
				}
			case 2:
				v := in.text()
				to.h = from.h.WithAdded(key, v)
				to.model = append(slices.Clone(from.model), broker.Header{Key: key, Value: v})
			case 3:
				other := fuzzKeys[in.next()%len(fuzzKeys)]
				to.h = from.h.Without(key, other)
				to.model = modelWith(modelWith(from.model, key), other)
			case 4:
				to.h, to.model = from.h.Owned(), from.model
			case 5: // the same fields, as a view on a client's map
				to.h, to.model = broker.ViewHeaders(viewOf(from.model...)), from.model
			case 6:
				fields := slices.Clone(from.model)
				to.h, to.model = broker.NewHeaders(fields...), from.model
				clear(fields)
			case 7:
				more := slots[in.next()%4].model
				to.h = from.h.WithAll(more...)
				to.model = append(slices.Clone(from.model), more...)
				if len(to.model) > 100 {
					return
				}
			case 8: // the typed accessors are With and Without underneath
				v := in.text()
				to.h = from.h.WithContentType(v)
				to.model = modelWith(from.model, broker.HeaderContentType)
				if v != "" {
					to.model = modelWith(from.model, broker.HeaderContentType, v)
				}
			}
			compareHeaders(t, to.h, to.model)
		}
		// None of them was changed by what grew out of it.
		for i := range slots {
			compareHeaders(t, slots[i].h, slots[i].model)
		}
	})
}

func compareHeaders(t *testing.T, h broker.Headers, model []broker.Header) {
	t.Helper()
	if h.Len() != len(model) {
		t.Fatalf("Len is %d, want %d", h.Len(), len(model))
	}
	if got, want := grouped(h), groupFields(model); !slices.Equal(got, want) {
		t.Fatalf("All yields %q, want %q", got, want)
	}
	for _, key := range fuzzKeys {
		var want []string
		for _, f := range model {
			if asciiLower(f.Key) == asciiLower(key) {
				want = append(want, f.Value)
			}
		}
		got := h.Values(key)
		if !slices.Equal(got, want) || (got == nil) != (want == nil) {
			t.Fatalf("Values(%q) answers %q, want %q", key, got, want)
		}
		v, ok := h.Lookup(key)
		if ok != (want != nil) || ok && v != want[0] || h.Get(key) != v || h.Has(key) != ok {
			t.Fatalf("Lookup(%q) answers %q, %v; the values are %q", key, v, ok, want)
		}
		for i := range got {
			got[i] = "changed by the caller"
		}
	}
}

func modelWith(fields []broker.Header, key string, values ...string) []broker.Header {
	var c []broker.Header
	for _, f := range fields {
		if asciiLower(f.Key) != asciiLower(key) {
			c = append(c, f)
		}
	}
	for _, v := range values {
		c = append(c, broker.Header{Key: key, Value: v})
	}
	return c
}

// opReader hands out the input byte by byte, then zeros.
type opReader struct{ data []byte }

func (r *opReader) more() bool { return len(r.data) > 0 }

func (r *opReader) next() int {
	if len(r.data) == 0 {
		return 0
	}
	b := r.data[0]
	r.data = r.data[1:]
	return int(b)
}

// text is a string of up to seven of the next bytes.
func (r *opReader) text() string {
	n := min(r.next()%8, len(r.data))
	s := string(r.data[:n])
	r.data = r.data[n:]
	return s
}

package broker

import (
	"iter"
	"strings"
)

// Header is one header field.
type Header struct {
	Key   string
	Value string
}

// HeaderView is a client's own header structure, read in place. Its methods are
// called from several goroutines at once, and what they read must not change
// after the message was delivered.
type HeaderView interface {
	// Lookup returns the first value of key. Keys compare without regard to the
	// case of ASCII letters.
	Lookup(key string) (value string, ok bool)
	// Range calls yield for each field until it returns false, the values of one
	// key in their order.
	Range(yield func(key, value string) bool)
}

// Headers is an immutable multi-valued list of fields.
//
// The zero value is empty and costs nothing. With, WithAdded and Without return
// changed copies, so that sharing a value between messages and goroutines is
// safe. Keys compare without regard to the case of ASCII letters and keep the
// case in which they were written. Values are strings that hold any bytes. The
// order of the values of one key is kept; nothing more is promised.
//
// A key or value that a transport cannot hold is refused with [ErrInvalid] by
// its Publish, and never altered in silence.
type Headers struct {
	fields []Header // never written to after it is set
	view   HeaderView
}

// NewHeaders returns headers with those fields, in that order.
func NewHeaders(fields ...Header) Headers {
	if len(fields) == 0 {
		return Headers{}
	}
	return Headers{fields: append([]Header(nil), fields...)}
}

// ViewHeaders returns headers that read v in place. A broker's adapter uses it so
// that reading one key does not build a list. v nil is empty.
func ViewHeaders(v HeaderView) Headers { return Headers{view: v} }

// Lookup returns the first value of key, and whether there is one.
func (h Headers) Lookup(key string) (value string, ok bool) {
	if h.view != nil {
		return h.view.Lookup(key)
	}
	for i := range h.fields {
		if EqualKey(h.fields[i].Key, key) {
			return h.fields[i].Value, true
		}
	}
	return "", false
}

// Get returns the first value of key, "" where there is none.
func (h Headers) Get(key string) string {
	v, _ := h.Lookup(key)
	return v
}

// Has reports whether key has a value.
func (h Headers) Has(key string) bool {
	_, ok := h.Lookup(key)
	return ok
}

// Values returns all values of key in their order, nil where there is none. The
// slice is the caller's.
func (h Headers) Values(key string) []string {
	var values []string
	for k, v := range h.All() {
		if EqualKey(k, key) {
			values = append(values, v)
		}
	}
	return values
}

// All yields every field. On a view it lists them first.
func (h Headers) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		// yield is not handed to the view: it would escape, and so every loop over
		// a list would allocate as well.
		for _, f := range h.list() {
			if !yield(f.Key, f.Value) {
				return
			}
		}
	}
}

// list returns the fields, to be read only.
func (h Headers) list() []Header {
	if h.view == nil {
		return h.fields
	}
	return rangeFields(h.view)
}

// rangeFields returns the fields of v in a new slice.
func rangeFields(v HeaderView) []Header {
	var c []Header
	for k, value := range v.Range {
		c = append(c, Header{k, value})
	}
	return c
}

// Len returns the number of fields. On a view it counts them.
func (h Headers) Len() int {
	if h.view == nil {
		return len(h.fields)
	}
	n := 0
	for range h.view.Range {
		n++
	}
	return n
}

// With returns a copy in which key has exactly these values, in this order, at
// the end of the list. Without values the key is gone.
func (h Headers) With(key string, values ...string) Headers {
	c := h.copyWithout(key, len(values))
	for _, v := range values {
		c = append(c, Header{key, v})
	}
	return fromFields(c)
}

// WithAdded returns a copy in which key has one value more, after those that it had.
func (h Headers) WithAdded(key, value string) Headers {
	return fromFields(append(h.copyFields(1), Header{key, value}))
}

// WithAll returns a copy with those fields added at the end, in that order.
func (h Headers) WithAll(fields ...Header) Headers {
	if len(fields) == 0 {
		return h
	}
	return fromFields(append(h.copyFields(len(fields)), fields...))
}

// Without returns a copy that lacks the keys.
func (h Headers) Without(keys ...string) Headers {
	fields := h.list()
	c := make([]Header, 0, len(fields))
	for _, f := range fields {
		if !containsKey(keys, f.Key) {
			c = append(c, f)
		}
	}
	return fromFields(c)
}

// Owned returns the same headers as a value that is no view on a client's
// structure. A broker that keeps headers after Publish returned calls it.
func (h Headers) Owned() Headers {
	if h.view == nil {
		return h
	}
	return fromFields(h.copyFields(0))
}

func fromFields(f []Header) Headers {
	if len(f) == 0 {
		return Headers{}
	}
	return Headers{fields: f}
}

// copyFields returns the fields in a new slice with room for more.
func (h Headers) copyFields(room int) []Header {
	if h.view == nil {
		return append(make([]Header, 0, len(h.fields)+room), h.fields...)
	}
	return rangeFields(h.view)
}

func (h Headers) copyWithout(key string, room int) []Header {
	fields := h.list()
	c := make([]Header, 0, len(fields)+room)
	for _, f := range fields {
		if !EqualKey(f.Key, key) {
			c = append(c, f)
		}
	}
	return c
}

func containsKey(keys []string, key string) bool {
	for _, k := range keys {
		if EqualKey(k, key) {
			return true
		}
	}
	return false
}

// EqualKey reports whether two header keys are the same: equal without regard
// to the case of ASCII letters. A [HeaderView] uses it.
func EqualKey(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 0; i < len(a); i++ {
		if a[i] != b[i] && lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}

// String returns the keys, never the values: a header may hold a credential.
func (h Headers) String() string {
	var b strings.Builder
	b.WriteByte('[')
	for k := range h.All() {
		if b.Len() > 1 {
			b.WriteByte(' ')
		}
		b.WriteString(k)
	}
	b.WriteByte(']')
	return b.String()
}

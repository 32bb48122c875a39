package msgpack

import (
	"bytes"
	"encoding"
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"slices"
	"sync"
	"time"
)

// encoder writes one value. The same value has the same bytes: the keys of maps are
// sorted.
type encoder struct {
	cfg *config
	b   []byte
	// entries and sorted are for maps.
	entries []entry
	sorted  []byte
}

// entry is where an element of a map stands in what is written.
type entry struct{ key, value, end int }

var encoders = sync.Pool{New: func() any { return new(encoder) }}

// mostKept bounds the buffers that are kept for the next value.
const mostKept = 64 << 10

// free keeps the encoder for the next value.
func (e *encoder) free() {
	if cap(e.b) > mostKept || cap(e.sorted) > mostKept || cap(e.entries) > mostKept/8 {
		return
	}
	e.cfg, e.b, e.entries, e.sorted = nil, e.b[:0], e.entries[:0], e.sorted[:0]
	encoders.Put(e)
}

// value writes v, which is inside of depth maps and arrays.
func (e *encoder) value(l *layout, v reflect.Value, depth int) error {
	if len(e.b) > e.cfg.MaxSize { // an end for what holds another many times over
		return e.cfg.TooLarge()
	}
	for hops := 0; l.form == pointer || l.form == anything; hops++ {
		if v.IsNil() {
			e.b = append(e.b, 0xc0)
			return nil
		}
		if hops > e.cfg.MaxDepth { // pointers are no levels, but a chain of them may have no end
			return e.cfg.TooDeep()
		}
		v = v.Elem()
		if l.form == pointer {
			l = l.elem
		} else {
			l = layoutOf(v.Type())
		}
	}
	switch l.form {
	case boolean:
		if v.Bool() {
			e.b = append(e.b, 0xc3)
		} else {
			e.b = append(e.b, 0xc2)
		}
	case signed:
		e.int(v.Int())
	case unsigned:
		e.uint(v.Uint())
	case floating:
		if l.t.Kind() == reflect.Float32 {
			e.b = binary.BigEndian.AppendUint32(append(e.b, 0xca), math.Float32bits(float32(v.Float())))
		} else {
			e.b = binary.BigEndian.AppendUint64(append(e.b, 0xcb), math.Float64bits(v.Float()))
		}
	case text:
		return e.text(v.String())
	case bytesSlice:
		if v.IsNil() {
			e.b = append(e.b, 0xc0)
			return nil
		}
		return e.bytes(v.Bytes())
	case bytesArray:
		return e.bytes(addressable(v).Bytes())
	case list:
		if v.IsNil() {
			e.b = append(e.b, 0xc0)
			return nil
		}
		return e.list(l, v, depth)
	case fixedList:
		return e.list(l, v, depth)
	case mapping:
		if v.IsNil() {
			e.b = append(e.b, 0xc0)
			return nil
		}
		return e.mapping(l, v, depth)
	case structure:
		return e.structure(l, v, depth)
	case timestamp:
		e.time(v.Interface().(time.Time))
	case asText:
		b, err := methods[encoding.TextMarshaler](v).MarshalText()
		if err != nil {
			return fmt.Errorf("%v: %w", l.t, err)
		}
		return e.text(string(b))
	case asBinary:
		b, err := methods[encoding.BinaryMarshaler](v).MarshalBinary()
		if err != nil {
			return fmt.Errorf("%v: %w", l.t, err)
		}
		return e.bytes(b)
	default:
		return fmt.Errorf("%s", l.why)
	}
	return nil
}

// addressable is v, or a copy of it that has an address.
func addressable(v reflect.Value) reflect.Value {
	if v.CanAddr() {
		return v
	}
	p := reflect.New(v.Type()).Elem()
	p.Set(v)
	return p
}

// methods is v as an M, which it is itself or by its address.
func methods[M any](v reflect.Value) M {
	if m, ok := v.Interface().(M); ok {
		return m
	}
	return addressable(v).Addr().Interface().(M)
}

func (e *encoder) int(n int64) {
	switch {
	case n >= 0:
		e.uint(uint64(n))
	case n >= -32:
		e.b = append(e.b, byte(n))
	case n >= math.MinInt8:
		e.b = append(e.b, 0xd0, byte(n))
	case n >= math.MinInt16:
		e.b = binary.BigEndian.AppendUint16(append(e.b, 0xd1), uint16(n))
	case n >= math.MinInt32:
		e.b = binary.BigEndian.AppendUint32(append(e.b, 0xd2), uint32(n))
	default:
		e.b = binary.BigEndian.AppendUint64(append(e.b, 0xd3), uint64(n))
	}
}

func (e *encoder) uint(n uint64) {
	switch {
	case n < 0x80:
		e.b = append(e.b, byte(n))
	case n <= math.MaxUint8:
		e.b = append(e.b, 0xcc, byte(n))
	case n <= math.MaxUint16:
		e.b = binary.BigEndian.AppendUint16(append(e.b, 0xcd), uint16(n))
	case n <= math.MaxUint32:
		e.b = binary.BigEndian.AppendUint32(append(e.b, 0xce), uint32(n))
	default:
		e.b = binary.BigEndian.AppendUint64(append(e.b, 0xcf), n)
	}
}

// text writes a string; what is not UTF-8 would not be read again.
func (e *encoder) text(s string) error {
	if len(s) > e.cfg.MaxSize {
		return e.cfg.TooLarge()
	}
	if err := checkText(s); err != nil {
		return err
	}
	switch n := len(s); {
	case n < 32:
		e.b = append(e.b, 0xa0|byte(n))
	case n <= math.MaxUint8:
		e.b = append(e.b, 0xd9, byte(n))
	default:
		e.length(0xda, n)
	}
	e.b = append(e.b, s...)
	return nil
}

func (e *encoder) bytes(b []byte) error {
	if len(b) > e.cfg.MaxSize {
		return e.cfg.TooLarge()
	}
	if n := len(b); n <= math.MaxUint8 {
		e.b = append(e.b, 0xc4, byte(n))
	} else {
		e.length(0xc5, n)
	}
	e.b = append(e.b, b...)
	return nil
}

// length writes a head with a length of 16 bits, or the next one with 32. MaxSize is
// less than 2^32, and an element has a byte at least.
func (e *encoder) length(head byte, n int) {
	if n <= math.MaxUint16 {
		e.b = binary.BigEndian.AppendUint16(append(e.b, head), uint16(n))
	} else {
		e.b = binary.BigEndian.AppendUint32(append(e.b, head+1), uint32(n))
	}
}

// begin writes the head of a map or an array of n elements.
func (e *encoder) begin(short, long byte, n, depth int) error {
	if depth >= e.cfg.MaxDepth {
		return e.cfg.TooDeep()
	}
	if n > e.cfg.MaxSize {
		return e.cfg.TooLarge()
	}
	if n < 16 {
		e.b = append(e.b, short|byte(n))
	} else {
		e.length(long, n)
	}
	return nil
}

func (e *encoder) beginArray(n, depth int) error { return e.begin(0x90, 0xdc, n, depth) }

func (e *encoder) beginMap(n, depth int) error { return e.begin(0x80, 0xde, n, depth) }

func (e *encoder) list(l *layout, v reflect.Value, depth int) error {
	n := v.Len()
	if err := e.beginArray(n, depth); err != nil {
		return err
	}
	for i := range n {
		if err := e.value(l.elem, v.Index(i), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (e *encoder) mapping(l *layout, v reflect.Value, depth int) error {
	if err := e.beginMap(v.Len(), depth); err != nil {
		return err
	}
	begin, first := len(e.b), len(e.entries)
	for it := v.MapRange(); it.Next(); {
		one := entry{key: len(e.b)}
		if k := it.Key(); !k.Equal(k) {
			return fmt.Errorf("a key of a %v is not a number, so that nobody could find it", l.t)
		}
		if err := e.value(l.key, it.Key(), depth+1); err != nil {
			return err
		}
		one.value = len(e.b)
		if err := e.value(l.elem, it.Value(), depth+1); err != nil {
			return err
		}
		one.end = len(e.b)
		e.entries = append(e.entries, one)
	}
	entries := e.entries[first:]
	keyOf := func(one entry) []byte { return e.b[one.key:one.value] }
	slices.SortFunc(entries, func(a, b entry) int { return bytes.Compare(keyOf(a), keyOf(b)) })
	sorted := e.sorted[:0]
	for i, one := range entries {
		if i > 0 && bytes.Equal(keyOf(entries[i-1]), keyOf(one)) {
			return fmt.Errorf("two keys of a %v become the same", l.t)
		}
		sorted = append(sorted, e.b[one.key:one.end]...)
	}
	copy(e.b[begin:], sorted)
	e.entries, e.sorted = e.entries[:first], sorted
	return nil
}

func (e *encoder) structure(l *layout, v reflect.Value, depth int) error {
	if e.cfg.arrays {
		if err := e.beginArray(len(l.fields), depth); err != nil {
			return err
		}
		for i := range l.fields {
			f := &l.fields[i]
			at, ok := follow(v, f.path)
			if !ok {
				e.b = append(e.b, 0xc0)
				continue
			}
			if err := e.field(l, f, at, depth); err != nil {
				return err
			}
		}
		return nil
	}
	n := len(l.fields)
	if l.varies {
		n = 0
		for i := range l.fields {
			if at, ok := follow(v, l.fields[i].path); ok && !l.fields[i].omitted(at) {
				n++
			}
		}
	}
	if err := e.beginMap(n, depth); err != nil {
		return err
	}
	for i := range l.fields {
		f := &l.fields[i]
		at, ok := follow(v, f.path)
		if !ok || f.omitted(at) {
			continue
		}
		e.b = append(e.b, f.head...)
		if err := e.field(l, f, at, depth); err != nil {
			return err
		}
	}
	return nil
}

func (e *encoder) field(l *layout, f *field, v reflect.Value, depth int) error {
	return inField(l, f, e.value(f.layout, v, depth+1))
}

// follow returns a field; ok is false where it is behind an embedded pointer that is
// nil.
func follow(v reflect.Value, path []int) (at reflect.Value, ok bool) {
	for i, n := range path {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return v, false
			}
			v = v.Elem()
		}
		v = v.Field(n)
	}
	return v, true
}

func (f *field) omitted(v reflect.Value) bool {
	if f.omitZero && f.isZero(v) {
		return true
	}
	if !f.omitEmpty {
		return false
	}
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}

// time writes the timestamp extension, in the shortest of its three forms.
func (e *encoder) time(t time.Time) {
	seconds, nanos := t.Unix(), uint64(t.Nanosecond())
	switch {
	case seconds>>34 != 0:
		e.b = binary.BigEndian.AppendUint32(append(e.b, 0xc7, 12, 0xff), uint32(nanos))
		e.b = binary.BigEndian.AppendUint64(e.b, uint64(seconds))
	case nanos == 0 && seconds <= math.MaxUint32:
		e.b = binary.BigEndian.AppendUint32(append(e.b, 0xd6, 0xff), uint32(seconds))
	default:
		e.b = binary.BigEndian.AppendUint64(append(e.b, 0xd7, 0xff), nanos<<34|uint64(seconds))
	}
}

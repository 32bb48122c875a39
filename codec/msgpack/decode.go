package msgpack

import (
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"
	"unicode/utf8"
)

var (
	errNothing = errors.New("the payload is empty")
	errNotText = errors.New("a text is not UTF-8")
)

func checkText(s string) error {
	if !utf8.ValidString(s) {
		return errNotText
	}
	return nil
}

// value reads the next value into v.
func (d *decoder) value(l *layout, v reflect.Value, depth int) error {
	t, err := d.next()
	if err != nil {
		return err
	}
	return d.put(t, l, v, depth)
}

// put reads what t begins into v.
func (d *decoder) put(t token, l *layout, v reflect.Value, depth int) error {
	if l.form == refused {
		return errors.New(l.why)
	}
	if t.kind == isNil {
		v.SetZero()
		return nil
	}
	if depth >= d.cfg.MaxDepth && (t.kind == isArray || t.kind == isMap) {
		return d.cfg.TooDeep()
	}
	for l.form == pointer {
		if v.IsNil() {
			v.Set(reflect.New(l.elem.t))
		}
		l, v = l.elem, v.Elem()
	}
	switch l.form {
	case boolean:
		if t.kind == isBool {
			v.SetBool(t.n == 1)
			return nil
		}
	case signed, unsigned, floating:
		if t.kind == isInt || t.kind == isUint || t.kind == isFloat {
			return putNumber(t, l, v)
		}
	case text:
		if t.kind == isText || t.kind == isBytes { // bytes: of writers that know no texts
			b := d.take(t)
			if !utf8.Valid(b) {
				return errNotText
			}
			v.SetString(string(b))
			return nil
		}
	case bytesSlice:
		if t.kind == isBytes || t.kind == isText { // texts: of writers that know no bytes
			v.SetBytes(append(make([]byte, 0, t.n), d.take(t)...))
			return nil
		}
	case bytesArray:
		if t.kind == isBytes || t.kind == isText {
			if t.n != uint64(l.t.Len()) {
				return fmt.Errorf("byte %d begins %d bytes, which do not fit %v", t.at, t.n, l.t)
			}
			copy(v.Bytes(), d.take(t))
			return nil
		}
	case list:
		if t.kind == isArray {
			return d.list(t, l, v, depth)
		}
	case fixedList:
		if t.kind == isArray {
			return d.fixedList(t, l, v, depth)
		}
	case mapping:
		if t.kind == isMap {
			return d.mapping(t, l, v, depth)
		}
	case structure:
		switch {
		case d.cfg.arrays && t.kind == isArray:
			return d.positions(t, l, v, depth)
		case !d.cfg.arrays && t.kind == isMap:
			return d.names(t, l, v, depth)
		}
	case timestamp:
		if t.kind == isExtension {
			at, err := d.time(t)
			if err != nil {
				return err
			}
			v.Set(reflect.ValueOf(at))
			return nil
		}
	case asText:
		if t.kind == isText || t.kind == isBytes {
			b := d.take(t)
			if !utf8.Valid(b) {
				return errNotText
			}
			return by(l, v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText(append([]byte(nil), b...)))
		}
	case asBinary:
		if t.kind == isText || t.kind == isBytes {
			return by(l, v.Addr().Interface().(encoding.BinaryUnmarshaler).UnmarshalBinary(append([]byte(nil), d.take(t)...)))
		}
	case anything:
		if l.t.NumMethod() > 0 {
			return fmt.Errorf("%v is an interface with methods, which does not say what to decode to", l.t)
		}
		got, err := d.any(t, depth)
		if err != nil {
			return err
		}
		if got != nil {
			v.Set(reflect.ValueOf(got))
		}
		return nil
	}
	return fmt.Errorf("byte %d begins %s, which does not fit %v", t.at, kindNames[t.kind], l.t)
}

// by names the type whose own method refused a value.
func by(l *layout, err error) error {
	if err != nil {
		return fmt.Errorf("%v: %w", l.t, err)
	}
	return nil
}

// putNumber sets a number, if it is the same there. Only a float is rounded.
func putNumber(t token, l *layout, v reflect.Value) error {
	switch l.form {
	case signed:
		n, ok := t.int()
		if ok && !v.OverflowInt(n) {
			v.SetInt(n)
			return nil
		}
	case unsigned:
		n, ok := t.uint()
		if ok && !v.OverflowUint(n) {
			v.SetUint(n)
			return nil
		}
	default:
		if n := t.float(); !v.OverflowFloat(n) {
			v.SetFloat(n)
			return nil
		}
	}
	return fmt.Errorf("byte %d begins %s, which does not fit %v", t.at, t.number(), l.t)
}

// firstBytes is how much memory is reserved for what a list announces; then it grows
// with what there is.
const firstBytes = 1 << 10

func (d *decoder) list(t token, l *layout, v reflect.Value, depth int) error {
	n := int(t.n)
	room := n
	if size := int(l.elem.t.Size()); size > 0 {
		room = min(n, max(1, firstBytes/size))
	}
	v.Set(reflect.MakeSlice(l.t, 0, room))
	for i := range n {
		if i == v.Cap() {
			v.Grow(min(n-i, i))
		}
		v.SetLen(i + 1)
		if err := d.value(l.elem, v.Index(i), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) fixedList(t token, l *layout, v reflect.Value, depth int) error {
	if t.n != uint64(l.t.Len()) {
		return fmt.Errorf("byte %d begins an array of %d, which does not fit %v", t.at, t.n, l.t)
	}
	for i := range l.t.Len() {
		if err := d.value(l.elem, v.Index(i), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// firstEntries is how much room is made for what a map announces.
const firstEntries = 8

func (d *decoder) mapping(t token, l *layout, v reflect.Value, depth int) error {
	m := reflect.MakeMapWithSize(l.t, int(min(t.n, firstEntries)))
	key, elem := reflect.New(l.key.t).Elem(), reflect.New(l.elem.t).Elem()
	for i := range int(t.n) {
		at := d.off
		if l.key.form != anything && at < len(d.data) && d.data[at] == 0xc0 {
			return fmt.Errorf("byte %d begins a key that is nil, which does not fit %v", at, l.key.t)
		}
		key.SetZero()
		if err := d.value(l.key, key, depth+1); err != nil {
			return err
		}
		if l.key.form != text && l.key.form != signed && l.key.form != unsigned {
			if err := checkKey(at, key); err != nil {
				return err
			}
		}
		elem.SetZero()
		if err := d.value(l.elem, elem, depth+1); err != nil {
			return err
		}
		m.SetMapIndex(key, elem)
		if m.Len() != i+1 {
			return twice(at)
		}
	}
	v.Set(m)
	return nil
}

// checkKey refuses what cannot be a key of a map, or could not be found there.
func checkKey(at int, key reflect.Value) error {
	if !key.Comparable() {
		return badKey(at)
	}
	if !key.Equal(key) {
		return nanKey(at)
	}
	return nil
}

func badKey(at int) error {
	return fmt.Errorf("byte %d begins a key of a map that is bytes, an array or a map", at)
}

func nanKey(at int) error {
	return fmt.Errorf("byte %d begins a key of a map that is not a number, so that nobody could find it", at)
}

func twice(at int) error { return fmt.Errorf("byte %d begins a key that its map has already", at) }

// names reads a struct that is a map. Fields that the struct has not are skipped.
func (d *decoder) names(t token, l *layout, v reflect.Value, depth int) error {
	var few uint64    // the first 64 fields, by their number: those that were seen
	var many []uint64 // the others
	for range t.n {
		key, err := d.next()
		if err != nil {
			return err
		}
		if key.kind != isText && key.kind != isBytes {
			return fmt.Errorf("byte %d begins %s, which is no name of a field of %v", key.at, kindNames[key.kind], l.t)
		}
		i, known := l.byName[string(d.take(key))]
		if !known {
			unknown, err := d.next()
			if err == nil {
				err = d.skip(unknown, depth+1)
			}
			if err != nil {
				return err
			}
			continue
		}
		seen, bit := &few, uint64(1)<<(i%64)
		if i >= 64 {
			if many == nil {
				many = make([]uint64, len(l.fields)/64)
			}
			seen = &many[i/64-1]
		}
		if *seen&bit != 0 {
			return inField(l, &l.fields[i], twice(key.at))
		}
		*seen |= bit
		if err := d.field(l, &l.fields[i], v, depth); err != nil {
			return err
		}
	}
	return nil
}

// positions reads a struct that is an array. Where there are fewer elements than fields,
// the rest stays as it is; more are skipped.
func (d *decoder) positions(t token, l *layout, v reflect.Value, depth int) error {
	for i := range int(t.n) {
		if i < len(l.fields) {
			if err := d.field(l, &l.fields[i], v, depth); err != nil {
				return err
			}
			continue
		}
		unknown, err := d.next()
		if err == nil {
			err = d.skip(unknown, depth+1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// field reads a field, and makes the embedded structs that lead to it, unless it is nil.
func (d *decoder) field(l *layout, f *field, v reflect.Value, depth int) error {
	t, err := d.next()
	if err != nil {
		return err
	}
	for i, n := range f.path {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				if t.kind == isNil {
					return nil
				}
				if !v.CanSet() {
					return inField(l, f, fmt.Errorf("it is behind %v, an embedded pointer that is not exported", v.Type()))
				}
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(n)
	}
	return inField(l, f, d.put(t, f.layout, v, depth+1))
}

// fieldError says in which field something is wrong: in the innermost.
type fieldError struct {
	name string
	t    reflect.Type
	err  error
}

func (e *fieldError) Error() string { return fmt.Sprintf("field %s of %v: %v", e.name, e.t, e.err) }

func (e *fieldError) Unwrap() error { return e.err }

func inField(l *layout, f *field, err error) error {
	if err == nil || errors.Is(err, ErrLimit) {
		return err
	}
	if _, is := err.(*fieldError); is {
		return err
	}
	return &fieldError{f.name, l.t, err}
}

// time reads the timestamp extension.
func (d *decoder) time(t token) (at time.Time, err error) {
	if t.ext != -1 {
		return at, fmt.Errorf("byte %d begins the extension type %d, which is not known", t.at, t.ext)
	}
	b := d.take(t)
	var seconds int64
	var nanos uint64
	switch len(b) {
	case 4:
		seconds = int64(binary.BigEndian.Uint32(b))
	case 8:
		both := binary.BigEndian.Uint64(b)
		seconds, nanos = int64(both&(1<<34-1)), both>>34
	case 12:
		seconds, nanos = int64(binary.BigEndian.Uint64(b[4:])), uint64(binary.BigEndian.Uint32(b))
	default:
		return at, fmt.Errorf("byte %d begins a time of %d bytes: it has 4, 8 or 12", t.at, len(b))
	}
	if nanos >= 1e9 {
		return at, fmt.Errorf("byte %d begins a time with %d nanoseconds", t.at, nanos)
	}
	return time.Unix(seconds, int64(nanos)).UTC(), nil
}

// any reads what t begins as it comes.
func (d *decoder) any(t token, depth int) (any, error) {
	switch t.kind {
	case isBool:
		return t.n == 1, nil
	case isInt:
		return int64(t.n), nil
	case isUint:
		if t.n > math.MaxInt64 {
			return t.n, nil
		}
		return int64(t.n), nil
	case isFloat:
		return math.Float64frombits(t.n), nil
	case isText:
		s := string(d.take(t))
		return s, checkText(s)
	case isBytes:
		return append(make([]byte, 0, t.n), d.take(t)...), nil
	case isArray:
		return d.anyList(int(t.n), depth)
	case isMap:
		return d.anyMap(int(t.n), depth)
	case isExtension:
		return d.time(t)
	}
	return nil, nil
}

// nextAny reads the next value as it comes.
func (d *decoder) nextAny(depth int) (any, error) {
	t, err := d.next()
	if err != nil {
		return nil, err
	}
	return d.any(t, depth)
}

func (d *decoder) anyList(n, depth int) (any, error) {
	if depth >= d.cfg.MaxDepth {
		return nil, d.cfg.TooDeep()
	}
	all := make([]any, 0, min(n, firstBytes/16))
	for range n {
		one, err := d.nextAny(depth + 1)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

func (d *decoder) anyMap(n, depth int) (any, error) {
	if depth >= d.cfg.MaxDepth {
		return nil, d.cfg.TooDeep()
	}
	all := make(map[any]any, min(n, firstEntries))
	for i := range n {
		at := d.off
		key, err := d.nextAny(depth + 1)
		if err != nil {
			return nil, err
		}
		switch k := key.(type) {
		case []byte, []any, map[any]any:
			return nil, badKey(at)
		case float64:
			if math.IsNaN(k) {
				return nil, nanKey(at)
			}
		}
		if all[key], err = d.nextAny(depth + 1); err != nil {
			return nil, err
		}
		if len(all) != i+1 {
			return nil, twice(at)
		}
	}
	return all, nil
}

package cbor

import (
	"encoding"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// unbounded is the depth of a type whose values may be of any depth: a recursive one, or
// one with an interface in it.
const unbounded = -1

// shape is what is known of a type. It is asked before a value is encoded, because one
// that holds itself would overflow the stack, which ends the process.
type shape struct {
	// depth is how many structs, maps, slices and arrays can be inside one another, or
	// unbounded.
	depth int
	inner []innerField // of a struct: those that hold other values
}

// innerField is a field of a struct, by its number.
type innerField struct {
	index   int
	inlined bool
}

var shapes sync.Map // reflect.Type to *shape

// shapeOf returns the shape of t.
func shapeOf(t reflect.Type) *shape {
	if known, ok := shapes.Load(t); ok {
		return known.(*shape)
	}
	w := search{levels: make(map[reflect.Type]int)}
	s := &shape{depth: w.visit(t)}
	if w.unbounded {
		s.depth = unbounded
	}
	if t.Kind() == reflect.Struct {
		for i := range t.NumField() {
			f := t.Field(i)
			if inlined, ok := follows(f); ok && !flat(f.Type) {
				s.inner = append(s.inner, innerField{i, inlined})
			}
		}
	}
	known, _ := shapes.LoadOrStore(t, s)
	return known.(*shape)
}

// follows reports whether a field is encoded, and whether its own fields take part in
// the struct around it.
func follows(f reflect.StructField) (inlined, ok bool) {
	tag, has := f.Tag.Lookup("cbor")
	if !has {
		tag = f.Tag.Get("json")
	}
	name, _, _ := strings.Cut(tag, ",")
	if tag == "-" {
		return false, false
	}
	if f.Anonymous && name == "" {
		t := f.Type
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() == reflect.Struct {
			return true, true
		}
	}
	return false, f.IsExported()
}

// selfEncoding keeps what encodesItself found: it is asked for each value in an
// interface.
var selfEncoding sync.Map // reflect.Type to bool

// encodesItself reports a type that is looked at no further.
func encodesItself(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Array, reflect.Struct:
	default:
		return false
	}
	if known, ok := selfEncoding.Load(t); ok {
		return known.(bool)
	}
	p := reflect.PointerTo(t)
	does := t == reflect.TypeFor[time.Time]() || t == reflect.TypeFor[big.Int]()
	for _, how := range []reflect.Type{reflect.TypeFor[cbor.Marshaler](), reflect.TypeFor[encoding.BinaryMarshaler](), reflect.TypeFor[encoding.TextMarshaler]()} {
		does = does || p.Implements(how)
	}
	selfEncoding.Store(t, does)
	return does
}

// search is a walk through all types that a type refers to, each once.
type search struct {
	levels    map[reflect.Type]int // of those that are done; open for those on the way
	unbounded bool
}

// open marks a type that the walk is inside of.
const open = -1

// visit returns how deep t is; that means nothing once unbounded is set.
func (w *search) visit(t reflect.Type) int {
	if flat(t) || isBytes(t) {
		return 0
	}
	if t.Kind() == reflect.Interface {
		w.unbounded = true
		return 0
	}
	if n, seen := w.levels[t]; seen {
		w.unbounded = w.unbounded || n == open
		return max(n, 0)
	}
	w.levels[t] = open
	n := 0
	switch t.Kind() {
	case reflect.Pointer:
		n = w.visit(t.Elem())
	case reflect.Map:
		n = 1 + max(w.visit(t.Key()), w.visit(t.Elem()))
	case reflect.Struct:
		n = 1
		for i := range t.NumField() {
			f := t.Field(i)
			inlined, ok := follows(f)
			if !ok {
				continue
			}
			inside := 1 + w.visit(f.Type)
			if inlined {
				inside--
			}
			n = max(n, inside)
		}
	default:
		n = 1 + w.visit(t.Elem())
	}
	w.levels[t] = n
	return n
}

// flat reports a type whose values hold no others, or which encodes itself.
func flat(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Map, reflect.Slice, reflect.Array, reflect.Struct:
		return encodesItself(t)
	}
	return true
}

// isBytes reports a byte slice or a byte array.
func isBytes(t reflect.Type) bool {
	k := t.Kind()
	return (k == reflect.Slice || k == reflect.Array) && t.Elem().Kind() == reflect.Uint8
}

// bounds are what is left of the limits in a walk over a value.
type bounds struct {
	// values is how many maps and arrays there may be: each is a byte at least. What
	// holds another many times over would be walked over without end.
	values int
	cfg    *config
}

// bounded returns an error where v is over the depth, or has more in it than the size
// allows. A value that holds itself is too deep.
func (c *config) bounded(v any) error {
	rv := reflect.ValueOf(v)
	if !rv.IsValid() {
		return nil
	}
	if d := shapeOf(rv.Type()).depth; d != unbounded && d <= c.MaxDepth {
		return nil
	}
	b := bounds{values: c.MaxSize, cfg: c}
	// Pointers and interfaces are no levels, but a chain of them may have no end.
	return b.value(rv, c.MaxDepth, 4*c.MaxDepth+16, false)
}

func (b *bounds) value(v reflect.Value, levels, steps int, inlined bool) error {
	if steps == 0 {
		return b.cfg.TooDeep()
	}
	steps--
	t := v.Type()
	if flat(t) || isBytes(t) {
		return nil
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return nil
		}
		return b.value(v.Elem(), levels, steps, inlined)
	}
	if !inlined {
		if levels == 0 {
			return b.cfg.TooDeep()
		}
		levels--
		if b.values--; b.values < 0 {
			return b.cfg.TooLarge()
		}
	}
	switch t.Kind() {
	case reflect.Map:
		if flat(t.Elem()) && flat(t.Key()) {
			return nil
		}
		for it := v.MapRange(); it.Next(); {
			if err := b.value(it.Key(), levels, steps, false); err != nil {
				return err
			}
			if err := b.value(it.Value(), levels, steps, false); err != nil {
				return err
			}
		}
	case reflect.Struct:
		for _, f := range shapeOf(t).inner {
			if err := b.value(v.Field(f.index), levels, steps, f.inlined); err != nil {
				return err
			}
		}
	default:
		if flat(t.Elem()) {
			return nil
		}
		for i := range v.Len() {
			if err := b.value(v.Index(i), levels, steps, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// unfit returns the first thing in t that has no form in CBOR, "" for none.
func unfit(t reflect.Type, seen map[reflect.Type]bool) string {
	if seen[t] || encodesItself(t) {
		return ""
	}
	seen[t] = true
	switch t.Kind() {
	case reflect.Chan, reflect.Func, reflect.UnsafePointer, reflect.Complex64, reflect.Complex128:
		return fmt.Sprintf("%v has no form in CBOR", t)
	case reflect.Pointer, reflect.Slice, reflect.Array:
		return unfit(t.Elem(), seen)
	case reflect.Map:
		if why := unfit(t.Key(), seen); why != "" {
			return why
		}
		return unfit(t.Elem(), seen)
	case reflect.Struct:
		return unfitStruct(t, seen)
	}
	return ""
}

func unfitStruct(t reflect.Type, seen map[reflect.Type]bool) string {
	kept, hidden := false, false
	for i := range t.NumField() {
		f := t.Field(i)
		_, ok := follows(f)
		kept = kept || ok
		hidden = hidden || !f.IsExported() && f.Name != "_"
		if !ok {
			continue
		}
		if why := unfit(f.Type, seen); why != "" {
			return fmt.Sprintf("field %s of %v: %s; leave it out with the tag `cbor:\"-\"`, or give it another type", f.Name, t, why)
		}
	}
	if hidden && !kept {
		return fmt.Sprintf("%v has no exported field, so that nothing of it would be kept: take a type with exported fields, or with MarshalCBOR and UnmarshalCBOR", t)
	}
	return ""
}

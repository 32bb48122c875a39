// Package shape tells what values of a Go type can hold: how deep they can be, and
// whether there are byte slices in them. The codecs ask it before they encode,
// because a value that holds itself would overflow the stack, which ends the
// process.
package shape

import (
	"reflect"
	"strings"
	"sync"
)

// Unbounded is the depth of a type whose values may be of any depth: a recursive
// one, or one with an interface in it.
const Unbounded = -1

// Shape is what is known of a type.
type Shape struct {
	// Depth is how many structs, maps, slices and arrays can be inside one another,
	// or Unbounded.
	Depth int
	// Bytes says that there are byte slices in it, Interfaces that there is what can
	// hold one.
	Bytes, Interfaces bool
	// Fields are those of a struct that one of these is true for.
	Fields []int
	// EmbedsItself is true where following embedded structs does not end.
	EmbedsItself bool

	inner []field // of a struct: those that hold other values
}

// field is a field of a struct, by its number.
type field struct {
	index   int
	inlined bool
}

// HoldsBytes reports whether a value can have byte slices in it.
func (s *Shape) HoldsBytes() bool { return s.Bytes || s.Interfaces }

// Shapes keeps the shapes of types. It is safe for concurrent use.
type Shapes struct {
	// Tags are the struct tags that may leave a field out with "-"; the first that
	// a field has counts.
	Tags []string
	// Leaf says which types encode themselves. nil: none.
	Leaf func(reflect.Type) bool

	known sync.Map // reflect.Type to *Shape
}

// Of returns the shape of t.
func (s *Shapes) Of(t reflect.Type) *Shape {
	if known, ok := s.known.Load(t); ok {
		return known.(*Shape)
	}
	w := s.search(t)
	shape := &Shape{Depth: w.levels[t], Bytes: w.bytes, Interfaces: w.interfaces, EmbedsItself: w.embedsItself}
	if w.unbounded {
		shape.Depth = Unbounded
	}
	if t.Kind() == reflect.Struct {
		for i := range t.NumField() {
			f := t.Field(i)
			inlined, ok := s.follows(f)
			if !ok || s.flat(f.Type) {
				continue
			}
			shape.inner = append(shape.inner, field{i, inlined})
			if inner := s.search(f.Type); inner.bytes || inner.interfaces {
				shape.Fields = append(shape.Fields, i)
			}
		}
	}
	known, _ := s.known.LoadOrStore(t, shape)
	return known.(*Shape)
}

// follows reports whether a field is encoded, and whether its own fields take part
// in the struct around it.
func (s *Shapes) follows(f reflect.StructField) (inlined, ok bool) {
	tag := ""
	for _, name := range s.Tags {
		if v, has := f.Tag.Lookup(name); has {
			tag = v
			break
		}
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

// leaf reports a type with nothing inside, or which encodes itself.
func (s *Shapes) leaf(t reflect.Type) bool { return s.Leaf != nil && s.Leaf(t) }

// search is a walk through all types that a type refers to, each once.
type search struct {
	shapes                                     *Shapes
	levels                                     map[reflect.Type]int // of those that are done; open for those on the way
	bytes, interfaces, unbounded, embedsItself bool
}

// open marks a type that the walk is inside of.
const open = -1

func (s *Shapes) search(t reflect.Type) *search {
	w := &search{shapes: s, levels: make(map[reflect.Type]int)}
	w.visit(t)
	return w
}

// visit returns how deep t is; that means nothing once unbounded is set.
func (w *search) visit(t reflect.Type) int {
	if w.shapes.leaf(t) {
		return 0
	}
	switch t.Kind() {
	case reflect.Interface:
		w.unbounded, w.interfaces = true, true
		return 0
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map, reflect.Struct:
	default:
		return 0
	}
	if isBytes(t) {
		w.bytes = w.bytes || t.Kind() == reflect.Slice
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
		w.embedsItself = w.embedsItself || w.shapes.reaches(t, t, make(map[reflect.Type]bool))
		for i := range t.NumField() {
			f := t.Field(i)
			inlined, ok := w.shapes.follows(f)
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

// reaches reports whether embedding alone leads from one struct to another.
func (s *Shapes) reaches(from, to reflect.Type, seen map[reflect.Type]bool) bool {
	for i := range from.NumField() {
		f := from.Field(i)
		if inlined, ok := s.follows(f); !ok || !inlined {
			continue
		}
		t := f.Type
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t == to {
			return true
		}
		if !seen[t] {
			seen[t] = true
			if s.reaches(t, to, seen) {
				return true
			}
		}
	}
	return false
}

// isBytes reports a byte slice or a byte array.
func isBytes(t reflect.Type) bool {
	k := t.Kind()
	return (k == reflect.Slice || k == reflect.Array) && t.Elem().Kind() == reflect.Uint8
}

// Within reports whether v is nested at most most levels deep. A value that holds
// itself is not.
func (s *Shapes) Within(v any, most int) bool {
	rv := reflect.ValueOf(v)
	if !rv.IsValid() {
		return true
	}
	if d := s.Of(rv.Type()).Depth; d != Unbounded && d <= most {
		return true
	}
	// Pointers and interfaces are no levels, but a chain of them may have no end.
	return s.within(rv, most, 4*most+16, false)
}

func (s *Shapes) within(v reflect.Value, levels, steps int, inlined bool) bool {
	if steps == 0 {
		return false
	}
	steps--
	t := v.Type()
	if s.flat(t) || isBytes(t) {
		return true
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Interface:
		return v.IsNil() || s.within(v.Elem(), levels, steps, inlined)
	}
	if !inlined {
		if levels == 0 {
			return false
		}
		levels--
	}
	switch t.Kind() {
	case reflect.Map:
		if s.flat(t.Elem()) && s.flat(t.Key()) {
			return true
		}
		for it := v.MapRange(); it.Next(); {
			if !s.within(it.Key(), levels, steps, false) || !s.within(it.Value(), levels, steps, false) {
				return false
			}
		}
	case reflect.Struct:
		for _, f := range s.Of(t).inner {
			if !s.within(v.Field(f.index), levels, steps, f.inlined) {
				return false
			}
		}
	default:
		if s.flat(t.Elem()) {
			return true
		}
		for i := range v.Len() {
			if !s.within(v.Index(i), levels, steps, false) {
				return false
			}
		}
	}
	return true
}

// flat reports a type whose values hold no others.
func (s *Shapes) flat(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Map, reflect.Slice, reflect.Array, reflect.Struct:
		return s.leaf(t)
	}
	return true
}

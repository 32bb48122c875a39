package msgpack

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

// form is how the values of a type are written.
type form uint8

const (
	refused form = iota // not at all
	boolean
	signed
	unsigned
	floating
	text
	bytesSlice
	bytesArray
	list
	fixedList
	mapping
	structure
	pointer
	anything
	timestamp
	asText   // by MarshalText
	asBinary // by MarshalBinary
)

// layout is what is known of a type. It does not change once it is made.
type layout struct {
	t    reflect.Type
	form form
	// why says what is wrong with a refused type, and what to change.
	why string
	// key and elem are those of maps, lists and pointers.
	key, elem *layout
	fields    []field        // of a struct, in their order
	varies    bool           // not every value has all of them
	byName    map[string]int // into fields
}

// field is a field of a struct, or of one that is embedded in it.
type field struct {
	name      string
	head      []byte // the name as it is written
	path      []int  // through embedded structs
	layout    *layout
	omitEmpty bool
	omitZero  bool
	isZero    func(reflect.Value) bool // of omitZero
	tagged    bool
}

var (
	layouts sync.Map   // reflect.Type to *layout
	making  sync.Mutex // held while layouts are made
)

// layoutOf returns the layout of t.
func layoutOf(t reflect.Type) *layout {
	if known, ok := layouts.Load(t); ok {
		return known.(*layout)
	}
	making.Lock()
	defer making.Unlock()
	m := maker{made: make(map[reflect.Type]*layout)}
	l := m.layout(t)
	for t, l := range m.made { // types may refer to one another: not before all are done
		layouts.Store(t, l)
	}
	return l
}

type maker struct{ made map[reflect.Type]*layout }

func (m *maker) layout(t reflect.Type) *layout {
	if known, ok := layouts.Load(t); ok {
		return known.(*layout)
	}
	if l, ok := m.made[t]; ok {
		return l // made, or being made
	}
	l := &layout{t: t}
	m.made[t] = l
	m.fill(l)
	return l
}

func (m *maker) fill(l *layout) {
	t := l.t
	switch {
	case t == reflect.TypeFor[time.Time]():
		l.form = timestamp
		return
	case t.Kind() == reflect.Pointer:
		l.form = pointer
		l.elem = m.layout(t.Elem())
		for e := l.elem; e != nil && e.form == pointer; e = e.elem {
			if e == l {
				l.form, l.why = refused, fmt.Sprintf("%v points to itself, so that there is nothing to encode", t)
			}
		}
		return
	case t.Kind() == reflect.Interface:
		l.form = anything
		return
	case both[encoding.TextMarshaler, encoding.TextUnmarshaler](t):
		l.form = asText
		return
	case both[encoding.BinaryMarshaler, encoding.BinaryUnmarshaler](t):
		l.form = asBinary
		return
	}
	switch t.Kind() {
	case reflect.Bool:
		l.form = boolean
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		l.form = signed
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		l.form = unsigned
	case reflect.Float32, reflect.Float64:
		l.form = floating
	case reflect.String:
		l.form = text
	case reflect.Slice, reflect.Array:
		isBytes, isSlice := t.Elem().Kind() == reflect.Uint8, t.Kind() == reflect.Slice
		switch {
		case isBytes && isSlice:
			l.form = bytesSlice
		case isBytes:
			l.form = bytesArray
		case isSlice:
			l.form, l.elem = list, m.layout(t.Elem())
		default:
			l.form, l.elem = fixedList, m.layout(t.Elem())
		}
	case reflect.Map:
		l.form, l.key, l.elem = mapping, m.layout(t.Key()), m.layout(t.Elem())
		if t.Key().Kind() == reflect.Pointer {
			l.form, l.why = refused, fmt.Sprintf("%v has pointers as keys, so that nobody could find one that was read: take what they point to", t)
		}
	case reflect.Struct:
		m.structure(l)
	default:
		l.why = fmt.Sprintf("%v has no form in MessagePack", t)
	}
}

// both reports whether values of t, where they can be addressed, write and read
// themselves. Who does one alone would not read what it has written.
func both[W, R any](t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[W]()) && p.Implements(reflect.TypeFor[R]())
}

// structure finds the fields of a struct.
func (m *maker) structure(l *layout) {
	c := collector{maker: m}
	c.collect(l.t, nil, []reflect.Type{l.t})
	if c.why == "" && len(c.fields) == 0 && c.hidden {
		c.why = fmt.Sprintf("%v has no exported field, so that nothing of it would be kept: take a type with exported fields, or with MarshalText and UnmarshalText", l.t)
	}
	l.byName = make(map[string]int)
	for _, f := range c.fields {
		winner, clash := c.winner(f.name)
		if clash && c.why == "" {
			c.why = fmt.Sprintf("%v has two fields that are called %q: give one of them another name with a tag", l.t, f.name)
		}
		if clash || !slices.Equal(winner.path, f.path) {
			continue // hidden by one that is embedded less deeply, as in Go
		}
		l.byName[f.name] = len(l.fields)
		f.layout = m.layout(l.t.FieldByIndex(f.path).Type)
		e := encoder{cfg: defaults}
		if err := e.text(f.name); err != nil && c.why == "" {
			c.why = fmt.Sprintf("the name of the field %q of %v: %v", f.name, l.t, err)
		}
		f.head = e.b
		l.varies = l.varies || f.omitEmpty || f.omitZero || len(f.path) > 1
		l.fields = append(l.fields, f)
	}
	l.form, l.why = structure, c.why
	if l.why != "" {
		l.form = refused
	}
}

// collector gathers all fields of a struct and of those that it embeds.
type collector struct {
	maker  *maker
	fields []field
	hidden bool // there is a field that is not exported
	why    string
}

func (c *collector) collect(t reflect.Type, path []int, inside []reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, ok := f.Tag.Lookup("msgpack")
		if !ok {
			tag = f.Tag.Get("json")
		}
		if tag == "-" {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		here := append(slices.Clip(path), i)
		if f.Anonymous && name == "" {
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct && c.maker.inlined(inner) {
				if slices.Contains(inside, inner) {
					c.why = fmt.Sprintf("%v embeds itself: give the embedded field a name", inner)
					return
				}
				c.collect(inner, here, append(slices.Clip(inside), inner))
				continue
			}
		}
		if !f.IsExported() {
			c.hidden = c.hidden || f.Name != "_"
			continue
		}
		one := field{name: name, path: here, tagged: name != ""}
		if name == "" {
			one.name = f.Name
		}
		for option := range strings.SplitSeq(options, ",") {
			switch option {
			case "omitempty":
				one.omitEmpty = true
			case "omitzero":
				one.omitZero, one.isZero = true, zeroness(f.Type)
			}
		}
		c.fields = append(c.fields, one)
	}
}

// inlined reports whether the fields of an embedded struct stand beside the others.
func (m *maker) inlined(t reflect.Type) bool {
	return t != reflect.TypeFor[time.Time]() && !both[encoding.TextMarshaler, encoding.TextUnmarshaler](t) &&
		!both[encoding.BinaryMarshaler, encoding.BinaryUnmarshaler](t)
}

// winner is the field that a name means: the one that is embedded least deeply, of
// several the one whose tag says the name. clash: there are still several.
func (c *collector) winner(name string) (w field, clash bool) {
	better := func(a, b field) bool {
		if len(a.path) != len(b.path) {
			return len(a.path) < len(b.path)
		}
		return a.tagged && !b.tagged
	}
	for _, f := range c.fields {
		switch {
		case f.name != name:
		case w.path == nil || better(f, w):
			w, clash = f, false
		case !better(w, f):
			clash = true
		}
	}
	return w, clash
}

// zeroness is how omitzero asks: by the method IsZero where there is one.
func zeroness(t reflect.Type) func(reflect.Value) bool {
	type zeroer interface{ IsZero() bool }
	if !t.Implements(reflect.TypeFor[zeroer]()) {
		return reflect.Value.IsZero
	}
	return func(v reflect.Value) bool {
		if (v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface) && v.IsNil() {
			return true
		}
		return v.Interface().(zeroer).IsZero()
	}
}

// check returns the first thing in a type that cannot be encoded, "" for none.
func (l *layout) check(seen map[*layout]bool) string {
	if l == nil || seen[l] {
		return ""
	}
	seen[l] = true
	if l.form == refused {
		return l.why
	}
	for _, inner := range []*layout{l.key, l.elem} {
		if why := inner.check(seen); why != "" {
			return why
		}
	}
	for _, f := range l.fields {
		if why := f.layout.check(seen); why != "" {
			return fmt.Sprintf("field %s of %v: %s; leave it out with the tag `msgpack:\"-\"`, or give it another type", l.t.FieldByIndex(f.path).Name, l.t, why)
		}
	}
	return ""
}

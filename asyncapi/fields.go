package asyncapi

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
)

var timeType = reflect.TypeFor[time.Time]()

// field is one that encoding/json knows.
type field struct {
	name   string
	depth  int
	tagged bool
	field  reflect.StructField
}

// fields are those of a struct and of what is embedded in it, as encoding/json takes them:
// of one name the outermost, and of those one with a tag. Two that are alike are none. tags
// are the struct tags that may name a field, the first that stands there counts.
func fields(t reflect.Type, tags ...string) map[string]field {
	all := make(map[string][]field)
	collect(t, tags, 0, make(map[reflect.Type]bool), all)
	out := make(map[string]field, len(all))
	for name, list := range all {
		best, alike := list[0], false
		for _, f := range list[1:] {
			switch {
			case f.depth < best.depth, f.depth == best.depth && f.tagged && !best.tagged:
				best, alike = f, false
			case f.depth == best.depth && f.tagged == best.tagged:
				alike = true
			}
		}
		if !alike {
			out[name] = best
		}
	}
	return out
}

func collect(t reflect.Type, tags []string, depth int, within map[reflect.Type]bool, all map[string][]field) {
	if within[t] {
		return
	}
	within[t] = true
	defer delete(within, t)
	for i := range t.NumField() {
		f := t.Field(i)
		tag := ""
		for _, name := range tags {
			if v, has := f.Tag.Lookup(name); has {
				tag = v
				break
			}
		}
		if tag == "-" {
			continue
		}
		name, _, _ := strings.Cut(tag, ",")
		if inner := indirect(f.Type); f.Anonymous && name == "" && inner.Kind() == reflect.Struct {
			collect(inner, tags, depth+1, within, all)
			continue
		}
		if !f.IsExported() {
			continue
		}
		tagged := name != ""
		if !tagged {
			name = f.Name
		}
		all[name] = append(all[name], field{name, depth, tagged, f})
	}
}

func indirect(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// encoded reports whether encoding/json takes this field of owner, or of what is embedded
// in it, under that name.
func encoded(owner reflect.Type, name string, f reflect.StructField) bool {
	owner = indirect(owner)
	if owner.Kind() != reflect.Struct {
		return true
	}
	known, ok := fields(owner, "json")[name]
	return ok && known.field.Name == f.Name && known.field.Type == f.Type && known.field.Tag == f.Tag
}

// unsupported are the parts of a type that no JSON can hold, each with where it is.
func unsupported(t reflect.Type) []error {
	var errs []error
	seen := make(map[reflect.Type]bool)
	var walk func(t reflect.Type, at string)
	walk = func(t reflect.Type, at string) {
		t = indirect(t)
		if seen[t] {
			return
		}
		seen[t] = true
		if saysSchema(t) || implements(t, jsonMarshaler) || implements(t, textMarshaler) {
			return
		}
		bad := func(what string) {
			where := ""
			if at != "" {
				where = "field " + strings.TrimPrefix(at, ".") + ": "
			}
			errs = append(errs, errors.New(where+what))
			delete(seen, t) // told for each field
		}
		switch t.Kind() {
		case reflect.Func, reflect.Chan, reflect.Complex64, reflect.Complex128, reflect.UnsafePointer:
			bad(fmt.Sprintf("%v has no JSON: leave it out with the tag json:\"-\"", t))
		case reflect.Struct:
			known := fields(t, "json")
			for i := range reflect.VisibleFields(t) {
				f := reflect.VisibleFields(t)[i]
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				if name == "" {
					name = f.Name
				}
				if one, ok := known[name]; ok && one.field.Name == f.Name && one.field.Type == f.Type {
					walk(f.Type, at+"."+name)
				}
			}
		case reflect.Slice, reflect.Array:
			walk(t.Elem(), at+"[]")
		case reflect.Map:
			switch k := t.Key(); {
			case k.Kind() == reflect.String, k.Implements(textMarshaler):
			case reflect.Int <= k.Kind() && k.Kind() <= reflect.Uintptr:
			default:
				bad(fmt.Sprintf("a map with keys of %v has no JSON", k))
			}
			walk(t.Elem(), at+"{}")
		}
	}
	walk(t, "")
	return errs
}

// sameShape reports whether a codec that reads these tags encodes the type with the same
// field names and the same kinds of values as JSON, so that the schema of the JSON holds for
// it, too. textTimes says that it writes a time as text.
func sameShape(t reflect.Type, textTimes bool, tags ...string) bool {
	seen := make(map[reflect.Type]bool)
	var same func(t reflect.Type) bool
	same = func(t reflect.Type) bool {
		t = indirect(t)
		if seen[t] {
			return true
		}
		seen[t] = true
		if t == timeType {
			return textTimes
		}
		if t == rawMessage || t == numberType || saysSchema(t) || implements(t, jsonMarshaler) || implements(t, textMarshaler) {
			return false
		}
		switch t.Kind() {
		case reflect.Struct:
			inJSON, there := fields(t, "json"), fields(t, tags...)
			if len(inJSON) != len(there) {
				return false
			}
			for name, f := range inJSON {
				other, ok := there[name]
				_, options, _ := strings.Cut(f.field.Tag.Get("json"), ",")
				if !ok || other.field.Name != f.field.Name || strings.Contains(options, "string") || !same(f.field.Type) {
					return false
				}
			}
			return true
		case reflect.Slice, reflect.Array:
			return t.Elem().Kind() != reflect.Uint8 && same(t.Elem())
		case reflect.Map:
			return t.Key().Kind() == reflect.String && same(t.Elem())
		case reflect.Interface:
			return true
		default:
			return true
		}
	}
	return same(t)
}

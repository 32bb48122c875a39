package asyncapi

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/swaggest/jsonschema-go"
)

// schemas makes the schemas of Go types and gives them their keys. Until the keys are
// known a type is called by its number.
type schemas struct {
	types   []reflect.Type // by number
	numbers map[reflect.Type]int
	done    map[reflect.Type]reflected // payload types
	defs    map[int]*object            // schemas of named types
	keys    []string                   // by number, once they are assigned
}

// reflected is what came of a payload type.
type reflected struct {
	schema any // nil where it failed
	errs   []error
}

const schemasPath = "#/components/schemas/"

func newSchemas() *schemas {
	return &schemas{
		numbers: make(map[reflect.Type]int),
		done:    make(map[reflect.Type]reflected),
		defs:    make(map[int]*object),
	}
}

// number is that of a named type.
func (s *schemas) number(t reflect.Type) int {
	n, ok := s.numbers[t]
	if !ok {
		n = len(s.types)
		s.types = append(s.types, t)
		s.numbers[t] = n
	}
	return n
}

// of is the schema of a payload type. References in it are by number.
func (s *schemas) of(t reflect.Type) (schema any, errs []error) {
	if r, ok := s.done[t]; ok {
		return r.schema, r.errs
	}
	errs = unsupported(t)
	if len(errs) == 0 {
		var err error
		if schema, err = s.reflect(t); err != nil {
			errs = []error{err}
		}
	}
	s.done[t] = reflected{schema, errs}
	return schema, errs
}

// reflect asks jsonschema-go.
func (s *schemas) reflect(t reflect.Type) (schema any, err error) {
	defer func() {
		if r := recover(); r != nil { // a method of the type that its schema is made with
			schema, err = nil, fmt.Errorf("a method that says its schema panics: %v", r)
		}
	}()
	value := reflect.Zero(t).Interface()
	if value == nil { // an interface
		return obj(), nil
	}
	defs := make(map[int]*object)
	var failed error
	root, err := (&jsonschema.Reflector{}).Reflect(
		value,
		jsonschema.RootRef,
		jsonschema.ProcessWithoutTags, // as encoding/json does
		jsonschema.DefinitionsPrefix(schemasPath),
		jsonschema.InterceptDefName(func(t reflect.Type, _ string) string { return strconv.Itoa(s.number(t)) }),
		jsonschema.InterceptSchema(interceptSchema),
		jsonschema.InterceptProp(interceptField),
		jsonschema.InterceptNullability(nullability),
		jsonschema.CollectDefinitions(func(name string, def jsonschema.Schema) {
			n, err := strconv.Atoi(name)
			if err == nil {
				var tree any
				if tree, err = fromJSON(def); err == nil {
					defs[n], _ = tree.(*object)
				}
			}
			failed = errors.Join(failed, err)
		}),
	)
	if err = errors.Join(err, failed); err != nil {
		return nil, err
	}
	tree, err := fromJSON(root)
	if err != nil {
		return nil, err
	}
	for n, def := range defs {
		nullable(s.types[n], def)
		s.defs[n] = inOrder(def).(*object)
	}
	return inOrder(tree), nil
}

// nullability corrects what jsonschema-go says of a field: an array is never null, a
// pointer to what may be anything is not null alone, and bytes are null where they are nil.
func nullability(p jsonschema.InterceptNullabilityParams) {
	switch {
	case isBytes(p.Type) && p.Schema.Ref == nil && !p.OmitEmpty:
		p.Schema.AddType(jsonschema.Null)
	case !p.Schema.HasType(jsonschema.Null):
	case p.Type.Kind() == reflect.Array:
		p.Schema.Type = nil
		p.Schema.AddType(jsonschema.Array)
	case p.NullAdded && p.OrigSchema.Type == nil:
		p.Schema.Type = nil
	}
}

// nullable says whether the schema of a named type has null, by the type alone. Else the
// place that jsonschema-go met first would decide for all: a field with a pointer to it, or
// one without.
func nullable(t reflect.Type, def *object) {
	if def == nil || !def.has("type") || saysType(t) {
		return
	}
	types := slices.Clone(def.list("type"))
	if types == nil {
		types = []any{def.get("type")}
	}
	types = slices.DeleteFunc(types, func(v any) bool { return v == "null" })
	if (t.Kind() == reflect.Slice || t.Kind() == reflect.Map) && !implements(t, textMarshaler) {
		types = append(types, "null")
	}
	switch len(types) {
	case 0:
	case 1:
		def.set("type", types[0])
	default:
		def.set("type", types)
	}
}

// isBytes reports a type that encoding/json writes as text in base64: a slice of bytes,
// also of bytes of an own type, unless these encode themselves.
func isBytes(t reflect.Type) bool {
	if t == rawMessage || t.Kind() != reflect.Slice || t.Elem().Kind() != reflect.Uint8 {
		return false
	}
	p := reflect.PointerTo(t.Elem())
	return !p.Implements(jsonMarshaler) && !p.Implements(textMarshaler)
}

// keywords are those that stand first in a schema, in their order.
var keywords = []string{
	"$ref", "title", "description", "type", "format", "enum", "const", "minimum", "maximum",
	"required", "properties", "items", "additionalProperties",
}

// inOrder is a schema with its keywords in one order.
func inOrder(v any) any {
	s, ok := v.(*object)
	if !ok {
		return v
	}
	slices.SortStableFunc(s.keys, func(x, y string) int { return rank(x) - rank(y) })
	for _, k := range s.keys {
		switch part := s.values[k].(type) {
		case *object:
			if k == "properties" {
				for _, name := range part.keys {
					part.values[name] = inOrder(part.values[name])
				}
			} else if !data[k] {
				s.values[k] = inOrder(part)
			}
		case []any:
			if !data[k] {
				for i := range part {
					part[i] = inOrder(part[i])
				}
			}
		}
	}
	return s
}

func rank(keyword string) int {
	if i := slices.Index(keywords, keyword); i >= 0 {
		return i
	}
	return len(keywords)
}

var (
	jsonMarshaler = reflect.TypeFor[json.Marshaler]()
	textMarshaler = reflect.TypeFor[encoding.TextMarshaler]()
	rawMessage    = reflect.TypeFor[json.RawMessage]()
	numberType    = reflect.TypeFor[json.Number]()
)

func implements(t, i reflect.Type) bool {
	return t.Implements(i) || t.Kind() != reflect.Interface && reflect.PointerTo(t).Implements(i)
}

// saysSchema reports a type that says its own schema, or a part of it.
func saysSchema(t reflect.Type) bool {
	return saysType(t) || implements(t, reflect.TypeFor[jsonschema.Enum]()) || implements(t, reflect.TypeFor[jsonschema.NamedEnum]())
}

// saysType reports a type that says more than its values.
func saysType(t reflect.Type) bool {
	for _, i := range []reflect.Type{
		reflect.TypeFor[jsonschema.Exposer](), reflect.TypeFor[jsonschema.RawExposer](), reflect.TypeFor[jsonschema.Preparer](),
		reflect.TypeFor[jsonschema.OneOfExposer](), reflect.TypeFor[jsonschema.AnyOfExposer](), reflect.TypeFor[jsonschema.AllOfExposer](),
	} {
		if implements(t, i) {
			return true
		}
	}
	return false
}

// encodesItself reports a type whose JSON its own method writes, so that its fields and
// its kind say nothing.
func encodesItself(t reflect.Type) bool {
	return t != timeType && t != rawMessage && implements(t, jsonMarshaler)
}

// interceptSchema adds what a type says of itself, and keeps a type that encodes itself
// from being taken for its fields.
func interceptSchema(p jsonschema.InterceptSchemaParams) (stop bool, err error) {
	t := p.Schema.ReflectType
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil {
		return false, nil
	}
	if p.Processed {
		size(t, p.Schema)
		return false, describe(t, p.Schema)
	}
	switch {
	case saysSchema(t):
		return false, nil
	case encodesItself(t):
		p.Schema.Type = nil // it may be anything
		return true, describe(t, p.Schema)
	case t != timeType && t != rawMessage && implements(t, textMarshaler):
		p.Schema.Type = nil
		p.Schema.AddType(jsonschema.String)
		return true, describe(t, p.Schema)
	case isBytes(t):
		p.Schema.Type = nil
		p.Schema.AddType(jsonschema.String)
		p.Schema.WithFormat("base64")
		return true, describe(t, p.Schema)
	case t == numberType: // a string in Go, a number in JSON
		p.Schema.Type = nil
		p.Schema.AddType(jsonschema.Number)
		return true, nil
	}
	return false, nil
}

// size says which numbers fit into the Go type, so that an int64 that becomes an int32 is
// seen. What the type says itself stays.
func size(t reflect.Type, schema *jsonschema.Schema) {
	format := func(f string) {
		if schema.Format == nil {
			schema.WithFormat(f)
		}
	}
	between := func(lowest, highest float64) {
		if schema.Minimum == nil || *schema.Minimum < lowest {
			schema.WithMinimum(lowest)
		}
		if schema.Maximum == nil {
			schema.WithMaximum(highest)
		}
	}
	if !schema.HasType(jsonschema.Integer) && !schema.HasType(jsonschema.Number) || len(schema.Enum) > 0 {
		return
	}
	switch t.Kind() {
	case reflect.Int8:
		between(math.MinInt8, math.MaxInt8)
	case reflect.Int16:
		between(math.MinInt16, math.MaxInt16)
	case reflect.Int32:
		format("int32")
	case reflect.Int, reflect.Int64:
		format("int64")
	case reflect.Uint8:
		between(0, math.MaxUint8)
	case reflect.Uint16:
		between(0, math.MaxUint16)
	case reflect.Uint32:
		between(0, math.MaxUint32)
	case reflect.Float32:
		format("float")
	case reflect.Float64:
		format("double")
	}
}

// describe adds the own name and description of a named type.
func describe(t reflect.Type, schema *jsonschema.Schema) error {
	if t.PkgPath() == "" {
		return nil
	}
	name, err := ownName(t)
	text, err2 := ownDescription(t)
	if err = errors.Join(err, err2); err != nil {
		return err
	}
	if name != "" && schema.Title == nil {
		schema.WithTitle(name)
	}
	if t == reflect.TypeFor[time.Duration]() {
		text = "Nanoseconds."
	}
	if text != "" {
		schema.WithDescription(text)
	}
	return nil
}

// interceptField leaves out what encoding/json leaves out, and heeds its option string.
func interceptField(p jsonschema.InterceptPropParams) error {
	if !p.Processed {
		if owner := p.ParentSchema.ReflectType; owner != nil && !encoded(owner, p.Name, p.Field) {
			return jsonschema.ErrSkipProperty
		}
		return nil
	}
	_, options, _ := strings.Cut(p.Field.Tag.Get("json"), ",")
	s := p.PropertySchema
	if s.Ref == nil && s.HasType(jsonschema.Null) && neverNull(p.Field) && s.Type.SimpleTypes == nil && !saysType(indirect(p.Field.Type)) {
		s.RemoveType(jsonschema.Null)
	}
	if s.Ref == nil && s.HasType(jsonschema.Null) && len(s.Enum) > 0 && !slices.Contains(s.Enum, nil) {
		s.Enum = append(slices.Clone(s.Enum), nil) // a type alone does not let it be null
	}
	if s.Ref != nil && mayBeNull(p.Field) {
		of := jsonschema.Schema{Ref: s.Ref}
		s.Ref, s.AnyOf = nil, []jsonschema.SchemaOrBool{of.ToSchemaOrBool(), jsonschema.Null.ToSchemaOrBool()}
		return nil
	}
	if !strings.Contains(","+options+",", ",string,") || s.Ref != nil {
		return nil
	}
	t := p.Field.Type
	null := t.Kind() == reflect.Pointer
	if null {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		s.Type, s.Format, s.Minimum, s.Maximum = nil, nil, nil, nil
		s.AddType(jsonschema.String)
		if null {
			s.AddType(jsonschema.Null)
		}
	}
	return nil
}

// neverNull reports a field that is left out where it is nil, or whose tag
// nullable:"false" says that it never is.
func neverNull(f reflect.StructField) bool {
	if f.Tag.Get("nullable") == "true" {
		return false
	}
	_, options, _ := strings.Cut(f.Tag.Get("json"), ",")
	for option := range strings.SplitSeq(options, ",") {
		if option == "omitempty" || option == "omitzero" {
			return true
		}
	}
	return f.Tag.Get("nullable") == "false"
}

// mayBeNull reports a field that is written as null, while the schema of its type has none.
func mayBeNull(f reflect.StructField) bool {
	if f.Type.Kind() != reflect.Pointer || neverNull(f) {
		return false
	}
	switch t := indirect(f.Type); t.Kind() {
	case reflect.Slice, reflect.Map, reflect.Interface:
		return saysType(t)
	default:
		return !encodesItself(t) || saysSchema(t)
	}
}

// assign gives the types their keys: those that have a schema, and named payloads.
func (s *schemas) assign() error {
	var errs []error
	claims := make([]claim, len(s.types))
	for i, t := range s.types {
		own, err := ownName(t)
		errs = append(errs, err)
		claims[i] = claimOf(t, own)
	}
	s.keys = assign(claims)
	return errors.Join(errs...)
}

// claimOf is what a named type would be called: its name, with its package, with a hash of
// the whole.
func claimOf(t reflect.Type, own string) claim {
	name := own
	if name == "" {
		name = typeName(t.Name())
	}
	k, whole := key(name)
	pkg := t.PkgPath()
	long, _ := key(pkg[strings.LastIndexByte(pkg, '/')+1:] + "." + name)
	return claim{names: []string{k, long, long + "-" + hash(pkg+"."+t.Name())}, exact: own != "" && whole}
}

// typeName is the name of a type without the packages of its arguments:
// "Page[example.com/shop.Order]" is "Page_Order".
func typeName(name string) string {
	head, arguments, generic := strings.Cut(name, "[")
	if !generic {
		return name
	}
	var b strings.Builder
	b.WriteString(head)
	word := ""
	flush := func() {
		word = word[strings.LastIndexByte(word, '/')+1:]
		word = word[strings.LastIndexByte(word, '.')+1:]
		word, _, _ = strings.Cut(word, "·") // of a type inside a function
		word = strings.Trim(word, "*")
		if word != "" {
			b.WriteByte('_')
			b.WriteString(word)
		}
		word = ""
	}
	for _, r := range arguments {
		if strings.ContainsRune("[], {}", r) {
			flush()
			continue
		}
		word += string(r)
	}
	flush()
	return b.String()
}

// final is v with the references by number replaced by those by key.
func (s *schemas) final(v any) any {
	switch v := v.(type) {
	case *object:
		out := new(object)
		for _, key := range v.keys {
			if target, ok := v.values[key].(string); ok && key == "$ref" {
				if n, err := strconv.Atoi(strings.TrimPrefix(target, schemasPath)); err == nil && n < len(s.keys) {
					out.set(key, schemasPath+s.keys[n])
					continue
				}
			}
			out.set(key, s.final(v.values[key]))
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = s.final(v[i])
		}
		return out
	default:
		return v
	}
}

// components are all schemas of named types, by key.
func (s *schemas) components() *object {
	out := new(object)
	for n, def := range s.defs {
		out.set(s.keys[n], s.final(def))
	}
	return sorted(out)
}

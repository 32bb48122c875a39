package asyncapi

import (
	"encoding/json"
	"slices"
	"strings"
)

// comparison compares the schemas of one message.
type comparison struct {
	differ *differ
	where  string
	sent   bool // by the app; else it is received
	seen   map[pair]bool
}

// pair is two schemas that are compared, by where they are in memory.
type pair struct{ o, n *object }

// place is where a part of the message is, for texts.
func (c *comparison) place(path string) string {
	if path == "" {
		return c.where
	}
	return c.where + ", field " + path
}

// narrowed notes that fewer payloads fit than before: what others send may no longer do.
func (c *comparison) narrowed(rule, path, format string, args ...any) {
	c.differ.add(!c.sent, rule, c.place(path), format, args...)
}

// widened notes that more payloads fit than before: what is sent may be new to others.
func (c *comparison) widened(rule, path, format string, args ...any) {
	c.differ.add(c.sent, rule, c.place(path), format, args...)
}

// changed notes what is neither, or cannot be told.
func (c *comparison) changed(rule, path, format string, args ...any) {
	c.differ.add(true, rule, c.place(path), format, args...)
}

// schemas compares two schemas.
func (c *comparison) schemas(path string, before, after any) {
	before, oldTarget := resolve(c.differ.old, before)
	after, newTarget := resolve(c.differ.new, after)
	o, n := asSchema(before), asSchema(after)
	if o.has("$ref") || n.has("$ref") { // out of the document
		if oldTarget != newTarget {
			c.changed("reference", path, "its schema is %s; it was %s", shownTarget(newTarget), shownTarget(oldTarget))
		}
		return
	}
	if c.nulls(path, o, n) {
		return
	}
	switch oldNothing, newNothing := before == false, after == false; {
	case oldNothing && newNothing:
		return
	case newNothing:
		c.narrowed("type", path, "nothing fits any more")
		return
	case oldNothing:
		c.widened("type", path, "something fits now")
		return
	}
	// After true and false, which are no objects of their own.
	if c.seen[pair{o, n}] {
		return
	}
	c.seen[pair{o, n}] = true
	if !c.types(path, o, n) {
		return // what follows would only say the same
	}
	c.enums(path, o, n)
	c.bounds(path, o, n)
	c.patterns(path, o, n)
	c.fields(path, o, n)
	c.inner(path, o, n)
	c.alternatives(path, o, n)
	c.opaque(path, o, n)
	for _, key := range [...]string{"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"} {
		if !equal(o.get(key), n.get(key)) {
			c.differ.add(false, "description", c.place(path), "its %s has changed", key)
		}
	}
}

// nulls compares what null is an alternative to with what it is an alternative to on the
// other side, or with what is never null there; it reports whether that was all.
func (c *comparison) nulls(path string, o, n *object) bool {
	before, inOld := orNull(o)
	after, inNew := orNull(n)
	switch {
	case inOld && inNew:
	case inNew && never(c.differ.old, before):
		c.widened("type", path, "it may be null now")
	case inOld && never(c.differ.new, after):
		c.narrowed("type", path, "it is never null any more")
	default:
		return false
	}
	c.schemas(path, before, after)
	return true
}

// orNull takes a schema apart that says nothing but that null fits, or another schema.
func orNull(s *object) (other any, ok bool) {
	for _, key := range [...]string{"anyOf", "oneOf"} {
		branches := s.list(key)
		if len(branches) != 2 || slices.ContainsFunc(s.keys, func(k string) bool { return k != key && k != "title" && k != "description" }) {
			continue
		}
		for i, b := range branches {
			if o, _ := b.(*object); o.len() == 1 && o.get("type") == "null" {
				return branches[1-i], true
			}
		}
	}
	return s, false
}

// never reports a schema that null does not fit by its type.
func never(root *object, v any) bool {
	found, _ := resolve(root, v)
	return !slices.Contains(typesOf(asSchema(found)), "null")
}

// anything is the schema of no restriction.
var anything = new(object)

// asSchema is a schema as an object; of true, and of what is none, one that everything
// fits.
func asSchema(v any) *object {
	if o, ok := v.(*object); ok && o != nil {
		return o
	}
	return anything
}

func shownTarget(target string) string {
	if target == "" {
		return "no reference"
	}
	return target
}

var allTypes = []string{"null", "boolean", "object", "array", "number", "integer", "string"}

// typesOf are the types that fit, all where none is named; a number may be an integer.
func typesOf(s *object) []string {
	var out []string
	switch v := s.get("type").(type) {
	case string:
		out = []string{v}
	case []any:
		for _, t := range v {
			if text, ok := t.(string); ok && !slices.Contains(out, text) {
				out = append(out, text)
			}
		}
	}
	if len(out) == 0 {
		return allTypes
	}
	if slices.Contains(out, "number") && !slices.Contains(out, "integer") {
		out = append(out, "integer")
	}
	return out
}

func typesText(s *object) string {
	if v := s.get("type"); v != nil {
		return compact(v)
	}
	return "any"
}

// types compares the types; on is false where they have nothing in common.
func (c *comparison) types(path string, o, n *object) (on bool) {
	before, after := typesOf(o), typesOf(n)
	fewer := slices.ContainsFunc(before, func(t string) bool { return !slices.Contains(after, t) })
	more := slices.ContainsFunc(after, func(t string) bool { return !slices.Contains(before, t) })
	common := slices.ContainsFunc(before, func(t string) bool { return t != "null" && slices.Contains(after, t) })
	if !fewer && !more {
		return true
	}
	const text = "its type is %s; it was %s"
	switch args := []any{typesText(n), typesText(o)}; {
	case !common:
		c.changed("type", path, text, args...)
		return false
	case fewer && more:
		c.changed("type", path, text, args...)
	case fewer:
		c.narrowed("type", path, text, args...)
	default:
		c.widened("type", path, text, args...)
	}
	return true
}

// enum is the list of values that fit; ok is false where any does.
func enum(s *object) (values []any, ok bool) {
	if s.has("const") {
		return []any{s.get("const")}, true
	}
	values, ok = s.get("enum").([]any)
	return values, ok
}

func (c *comparison) enums(path string, o, n *object) {
	before, inOld := enum(o)
	after, inNew := enum(n)
	switch {
	case !inOld && !inNew:
	case !inOld:
		c.narrowed("enum", path, "it has a list of values now: %s", list(after))
	case !inNew:
		c.widened("enum", path, "it has no list of values any more")
	default:
		gone, come := compareLists(before, after)
		if len(gone) > 0 {
			c.narrowed("enum", path, "it no longer has the values %s", list(gone))
		}
		if len(come) > 0 {
			c.widened("enum", path, "it has the new values %s", list(come))
		}
	}
}

// lower and upper are keywords with a number that what fits must not go below or above.
var (
	lower = []string{"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"}
	upper = []string{"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}
)

func (c *comparison) bounds(path string, o, n *object) {
	for _, side := range []struct {
		keys []string
		sign int
	}{{lower, 1}, {upper, -1}} {
		for _, key := range side.keys {
			before, inOld := o.get(key).(json.Number)
			after, inNew := n.get(key).(json.Number)
			// Nothing has fewer than none.
			inOld, inNew = inOld && !idle(key, before), inNew && !idle(key, after)
			switch {
			case inOld && inNew:
				switch order := compareNumbers(after, before) * side.sign; {
				case order > 0:
					c.narrowed("bound", path, "%s is %s; it was %s", key, after, before)
				case order < 0:
					c.widened("bound", path, "%s is %s; it was %s", key, after, before)
				}
			case inNew:
				c.narrowed("bound", path, "%s is %s; there was none", key, after)
			case inOld:
				c.widened("bound", path, "%s is no longer %s", key, before)
			}
		}
	}
}

func idle(key string, n json.Number) bool {
	return strings.HasPrefix(key, "min") && key != "minimum" && compareNumbers(n, "0") <= 0
}

// wider are formats that hold all values of another.
var wider = map[string]string{"int32": "int64", "float": "double"}

// sizes are the lowest and the highest number of a format; of a float those up to which it
// has every integer.
var sizes = map[string][2]json.Number{
	"int32": {"-2147483648", "2147483647"}, "int64": {"-9223372036854775808", "9223372036854775807"},
	"float": {"-16777216", "16777216"}, "double": {"-9007199254740992", "9007199254740992"},
}

// within reports integers with bounds that a format of numbers holds anyway.
func within(s *object, format string) bool {
	size, ok := sizes[format]
	lowest, low := s.get("minimum").(json.Number)
	highest, high := s.get("maximum").(json.Number)
	return ok && low && high && !slices.Contains(typesOf(s), "number") &&
		compareNumbers(lowest, size[0]) >= 0 && compareNumbers(highest, size[1]) <= 0
}

// patterns compares what texts and numbers must look like.
func (c *comparison) patterns(path string, o, n *object) {
	for _, key := range [...]string{"format", "pattern", "multipleOf", "contentEncoding", "contentMediaType"} {
		before, after := o.get(key), n.get(key)
		switch x, y := o.text(key), n.text(key); {
		case equal(before, after):
		case key == "format" && (before == nil && within(o, y) || after == nil && within(n, x)):
			// The bounds have told it: all of a uint16 is in an int64.
		case before == nil:
			c.narrowed("format", path, "it has the %s %s now", key, compact(after))
		case after == nil:
			c.widened("format", path, "it no longer has the %s %s", key, compact(before))
		case key == "format" && wider[x] == y && y != "":
			c.widened("format", path, "its %s is %s; it was %s", key, compact(after), compact(before))
		case key == "format" && wider[y] == x && x != "":
			c.narrowed("format", path, "its %s is %s; it was %s", key, compact(after), compact(before))
		default:
			c.changed("format", path, "its %s is %s; it was %s", key, compact(after), compact(before))
		}
	}
	switch before, after := o.get("uniqueItems") == true, n.get("uniqueItems") == true; {
	case after && !before:
		c.narrowed("bound", path, "its items must differ now")
	case before && !after:
		c.widened("bound", path, "its items may be equal now")
	}
}

func required(s *object, name string) bool {
	return slices.ContainsFunc(s.list("required"), func(v any) bool { return v == name })
}

// closed reports a schema that has no other fields than those it names.
func closed(s *object) bool { return s.get("additionalProperties") == false }

// fields compares what objects hold.
func (c *comparison) fields(path string, o, n *object) {
	before, after := o.object("properties"), n.object("properties")
	all := new(object) // of either, also those that are only required
	for _, s := range []*object{o, n} {
		p := s.object("properties")
		for i := range p.len() {
			all.set(p.keys[i], nil)
		}
		for _, name := range s.list("required") {
			if text, ok := name.(string); ok {
				all.set(text, nil)
			}
		}
	}
	for _, name := range sorted(all).keys {
		at := join(path, name)
		was, is := required(o, name), required(n, name)
		switch inOld, inNew := before.has(name), after.has(name); {
		case inOld && !inNew && !is:
			c.removed(at, n)
			if others := n.object("additionalProperties"); others.len() > 0 {
				c.schemas(at, before.get(name), others)
			}
		case !inOld && inNew && !was:
			c.added(at, o, is)
			if others := o.object("additionalProperties"); others.len() > 0 {
				c.schemas(at, others, after.get(name))
			}
		default:
			if is && !was {
				c.narrowed("field-required", at, "it is required now")
			}
			if was && !is {
				c.widened("field-optional", at, "it is no longer required")
			}
			if inOld && inNew {
				c.schemas(at, before.get(name), after.get(name))
			}
		}
	}
}

// removed notes a field that is gone. Whoever reads what the app sends misses it.
func (c *comparison) removed(at string, n *object) {
	switch {
	case c.sent:
		c.differ.add(true, "field-removed", c.place(at), "removed")
	case closed(n):
		c.differ.add(true, "field-removed", c.place(at), "removed, and other fields are refused")
	default:
		c.differ.add(false, "field-removed", c.place(at), "removed: it is ignored now")
	}
}

// added notes a new field.
func (c *comparison) added(at string, o *object, isRequired bool) {
	switch {
	case isRequired && !c.sent:
		c.differ.add(true, "field-added-required", c.place(at), "a new field, which is required")
	case c.sent && closed(o):
		c.differ.add(true, "field-added", c.place(at), "a new field, where there were to be no others")
	default:
		c.differ.add(false, "field-added", c.place(at), "a new field")
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// inner compares the schemas of items and of fields without a name.
func (c *comparison) inner(path string, o, n *object) {
	x, y := o.get("items"), n.get("items")
	_, listed := x.([]any)
	_, list := y.([]any)
	switch {
	case listed || list:
		if !equal(x, y) {
			c.changed("schema", path, "its items have changed")
		}
	case x != nil || y != nil:
		c.schemas(path+"[]", orAnything(x), orAnything(y))
	}
	switch x, y := o.get("additionalProperties"), n.get("additionalProperties"); {
	case x == nil && y == nil, closed(o) && closed(n):
	case closed(n):
		c.narrowed("other-fields", path, "fields without a name here are refused now")
	case closed(o):
		c.widened("other-fields", path, "it may have fields without a name here now")
	default:
		c.schemas(path+"{}", orAnything(x), orAnything(y))
	}
}

func orAnything(v any) any {
	if v == nil {
		return true
	}
	return v
}

// alternatives compares the branches of anyOf and oneOf.
func (c *comparison) alternatives(path string, o, n *object) {
	for _, key := range [...]string{"anyOf", "oneOf"} {
		before, after := o.list(key), n.list(key)
		switch {
		case len(before) == 0 && len(after) == 0:
			continue
		case len(before) == 0:
			c.narrowed("alternatives", path, "it has alternatives now (%s)", key)
			continue
		case len(after) == 0:
			c.widened("alternatives", path, "it has no alternatives any more (%s)", key)
			continue
		}
		after = slices.Clone(after)
		var gone []any
		for _, branch := range before {
			i := slices.IndexFunc(after, func(v any) bool { return equal(branch, v) })
			if i < 0 {
				gone = append(gone, branch)
				continue
			}
			c.schemas(path, branch, after[i])
			after = slices.Delete(after, i, i+1)
		}
		if len(gone) == 1 && len(after) == 1 {
			c.schemas(path, gone[0], after[0])
			continue
		}
		for range gone {
			c.narrowed("alternatives", path, "it has an alternative less (%s)", key)
		}
		for range after {
			c.widened("alternatives", path, "it has a new alternative (%s)", key)
		}
	}
}

// opaque compares the keywords whose effect cannot be told: where one has changed, it may
// break either side.
func (c *comparison) opaque(path string, o, n *object) {
	before, after := o.list("allOf"), n.list("allOf")
	switch {
	case len(before) == len(after):
		for i := range before {
			c.schemas(path, before[i], after[i])
		}
	case len(before) == 0:
		c.narrowed("schema", path, "it has allOf now")
	case len(after) == 0:
		c.widened("schema", path, "it no longer has allOf")
	default:
		c.changed("schema", path, "its allOf has changed")
	}
	for _, key := range [...]string{"not", "if", "then", "else", "contains", "propertyNames", "patternProperties", "dependencies", "additionalItems", "discriminator"} {
		if !equal(o.get(key), n.get(key)) {
			c.changed("schema", path, "its %s has changed", key)
		}
	}
}

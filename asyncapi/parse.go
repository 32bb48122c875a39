package asyncapi

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// Parse reads an AsyncAPI 3 document, as JSON or as YAML. What [Diff] relies on is
// checked: the version, that the parts are of the right kind, that each operation has an
// action and a channel, that references inside the document lead somewhere. All mistakes
// are reported, joined, with the lines where they are known. It does not validate the whole,
// and does not follow references into other files.
//
// Input is bounded: 500 levels, 500000 values.
func Parse(data []byte) (*Spec, error) {
	v, at, err := read(data)
	if err != nil {
		return nil, fmt.Errorf("asyncapi: %w", err)
	}
	root, ok := v.(*object)
	if !ok {
		return nil, errors.New("asyncapi: this is no AsyncAPI document: it is no object at the top")
	}
	c := &checker{root: root, at: at}
	if err := c.version(); err != nil {
		return nil, fmt.Errorf("asyncapi: this is no AsyncAPI 3 document: %w", err)
	}
	c.structure()
	c.references(root, nil)
	if len(c.errs) > 0 {
		return nil, fmt.Errorf("asyncapi: the document is faulty:\n%w", errors.Join(c.errs...))
	}
	return &Spec{root}, nil
}

// checker finds what is wrong with a document.
type checker struct {
	root *object
	at   lines
	errs []error
}

// maxMistakes is how many are told.
const maxMistakes = 20

func (c *checker) add(o *object, format string, args ...any) {
	if len(c.errs) == maxMistakes {
		c.errs = append(c.errs, errors.New("… and more"))
	}
	if len(c.errs) > maxMistakes {
		return
	}
	where := ""
	if line := c.at[o]; line > 0 {
		where = "line " + strconv.Itoa(line) + ": "
	}
	c.errs = append(c.errs, fmt.Errorf(where+format, args...))
}

func (c *checker) version() error {
	v, ok := c.root.get("asyncapi").(string)
	switch {
	case ok && (v == "3" || strings.HasPrefix(v, "3.")):
		return nil
	case ok:
		return fmt.Errorf("its version is %q; convert it to 3.0.0", v)
	case c.root.has("asyncapi"):
		return errors.New("asyncapi is no string: write it in quotes, \"3.0.0\"")
	case c.root.has("openapi"), c.root.has("swagger"):
		return errors.New("it is an OpenAPI document")
	default:
		return errors.New("it has no asyncapi: 3.0.0")
	}
}

// structure checks the kinds of the parts.
func (c *checker) structure() {
	info := c.part(c.root, "info", "info")
	if info == nil && !c.root.has("info") {
		c.add(c.root, "info is missing")
	}
	for _, key := range [...]string{"title", "version"} {
		if _, ok := info.get(key).(string); info != nil && !ok {
			c.add(info, "info has no %s, or it is no string", key)
		}
	}
	c.parts(c.root, "servers", "servers")
	c.channels(c.root, "channels")
	c.operations(c.root, "operations")
	components := c.part(c.root, "components", "components")
	if components == nil {
		return
	}
	c.channels(components, "components/channels")
	c.operations(components, "components/operations")
	c.parts(components, "messages", "components/messages")
	schemas := c.part(components, "schemas", "components/schemas")
	for i := range schemas.len() {
		c.schema(schemas, schemas.keys[i], "components/schemas/"+schemas.keys[i])
	}
}

// part is the object at key; nil where there is none or another kind of value.
func (c *checker) part(o *object, key, path string) *object {
	if !o.has(key) {
		return nil
	}
	p := o.object(key)
	if p == nil {
		c.add(o, "%s is no object", path)
	}
	return p
}

// parts are the objects of the object at key, by their own keys.
func (c *checker) parts(o *object, key, path string) (keys []string, parts []*object) {
	p := c.part(o, key, path)
	for i := range p.len() {
		if one := c.part(p, p.keys[i], path+"/"+p.keys[i]); one != nil {
			keys, parts = append(keys, p.keys[i]), append(parts, one)
		}
	}
	return keys, parts
}

func last(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

func (c *checker) channels(o *object, path string) {
	keys, parts := c.parts(o, last(path), path)
	for i, ch := range parts {
		here := path + "/" + keys[i]
		if v := ch.get("address"); v != nil {
			if _, ok := v.(string); !ok {
				c.add(ch, "%s: the address is no string", here)
			}
		}
		c.parts(ch, "messages", here+"/messages")
		c.parts(ch, "parameters", here+"/parameters")
	}
}

func (c *checker) operations(o *object, path string) {
	keys, parts := c.parts(o, last(path), path)
	for i, op := range parts {
		here := path + "/" + keys[i]
		if op.has("$ref") {
			continue
		}
		switch v := op.get("action").(type) {
		case string:
			if v != "send" && v != "receive" {
				c.add(op, "%s: the action is %q: it is send or receive", here, v)
			}
		default:
			c.add(op, "%s has no action: send or receive", here)
		}
		if ch := c.part(op, "channel", here+"/channel"); ch != nil && ch.text("$ref") == "" {
			c.add(op, "%s: the channel is no reference ($ref)", here)
		} else if !op.has("channel") {
			c.add(op, "%s has no channel", here)
		}
		if op.has("messages") {
			if _, ok := op.get("messages").([]any); !ok {
				c.add(op, "%s: the messages are no list", here)
			}
		}
	}
}

// schema checks that a schema is an object or a boolean.
func (c *checker) schema(o *object, key, path string) {
	switch o.get(key).(type) {
	case *object, bool:
	default:
		c.add(o, "%s is no schema: neither an object nor true or false", path)
	}
}

// data are the keys whose values are data, where "$ref" is no reference.
var data = map[string]bool{"examples": true, "example": true, "default": true, "const": true, "enum": true}

// references checks that those inside the document lead somewhere.
func (c *checker) references(v any, path []string) {
	switch v := v.(type) {
	case []any:
		for i, item := range v {
			c.references(item, append(path, strconv.Itoa(i)))
		}
	case *object:
		if target, ok := v.get("$ref").(string); ok && strings.HasPrefix(target, "#") {
			if _, ok := lookup(c.root, target); !ok {
				c.add(v, "%s refers to %s, which is not there", strings.Join(path, "/"), target)
			}
		}
		for _, key := range v.keys {
			if !data[key] && !strings.HasPrefix(key, "x-") {
				c.references(v.values[key], append(path, key))
			}
		}
	}
}

var pointerUnescapes = strings.NewReplacer("~1", "/", "~0", "~")

// lookup finds what a reference inside the document refers to.
func lookup(root *object, target string) (any, bool) {
	rest, ok := strings.CutPrefix(target, "#")
	if !ok {
		return nil, false
	}
	var v any = root
	if rest == "" {
		return v, true
	}
	if rest[0] != '/' {
		return nil, false
	}
	for _, key := range strings.Split(rest[1:], "/") {
		if plain, err := url.PathUnescape(key); err == nil {
			key = plain
		}
		key = pointerUnescapes.Replace(key)
		switch at := v.(type) {
		case *object:
			if !at.has(key) {
				return nil, false
			}
			v = at.values[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(at) {
				return nil, false
			}
			v = at[i]
		default:
			return nil, false
		}
	}
	return v, true
}

// maxHops is how many references may follow one another.
const maxHops = 50

// resolve follows references until there is none; target is the last one, "" where v is
// none. A reference that leads nowhere, in a circle, or out of the document is returned as
// it is.
func resolve(root *object, v any) (found any, target string) {
	for range maxHops {
		o, ok := v.(*object)
		if !ok || !o.has("$ref") {
			return v, target
		}
		next, ok := o.get("$ref").(string)
		if !ok {
			return v, target
		}
		to, ok := lookup(root, next)
		if !ok {
			return v, next
		}
		v, target = to, next
	}
	return v, target
}

package asyncapi

import (
	"bytes"
	"encoding/json"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A document is a tree of values: nil, bool, json.Number, string, []any and *object. A
// tree is not changed once it is part of a Spec.

// object is a map that keeps the order of its keys.
type object struct {
	keys   []string
	values map[string]any
}

// obj makes an object of keys and values, one after the other. A nil value is left out.
func obj(pairs ...any) *object {
	o := new(object)
	for i := 0; i+1 < len(pairs); i += 2 {
		o.add(pairs[i].(string), pairs[i+1])
	}
	return o
}

// set adds the key, or replaces its value.
func (o *object) set(key string, v any) {
	if o.values == nil {
		o.values = make(map[string]any)
	}
	if _, has := o.values[key]; !has {
		o.keys = append(o.keys, key)
	}
	o.values[key] = v
}

// add is set for what says something: not nil, "", or without content.
func (o *object) add(key string, v any) {
	switch v := v.(type) {
	case nil:
		return
	case string:
		if v == "" {
			return
		}
	case *object:
		if v.len() == 0 {
			return
		}
	case []any:
		if len(v) == 0 {
			return
		}
	}
	o.set(key, v)
}

func (o *object) len() int {
	if o == nil {
		return 0
	}
	return len(o.keys)
}

// has reports whether the key is there; a nil object has none.
func (o *object) has(key string) bool {
	if o == nil {
		return false
	}
	_, ok := o.values[key]
	return ok
}

// get is the value, nil where there is none.
func (o *object) get(key string) any {
	if o == nil {
		return nil
	}
	return o.values[key]
}

// object, list and text are the value where it is of that kind, else nothing.
func (o *object) object(key string) *object {
	v, _ := o.get(key).(*object)
	return v
}

func (o *object) list(key string) []any {
	v, _ := o.get(key).([]any)
	return v
}

func (o *object) text(key string) string {
	v, _ := o.get(key).(string)
	return v
}

// texts are the strings as a list.
func texts(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

// ref is a reference to what lies at a path of keys.
func ref(path ...string) *object { return obj("$ref", pointer(path...)) }

var pointerEscapes = strings.NewReplacer("~", "~0", "/", "~1")

func pointer(path ...string) string {
	p := "#"
	for _, key := range path {
		p += "/" + pointerEscapes.Replace(key)
	}
	return p
}

// fromJSON turns a value into a tree, by what it is as JSON. Keys keep their order.
func fromJSON(v any) (any, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return readJSON(data, nil)
}

// appendJSON appends a value, indented by two blanks a level.
func appendJSON(dst []byte, v any, indent int) []byte {
	line := func(n int) {
		dst = append(dst, '\n')
		for range n {
			dst = append(dst, ' ', ' ')
		}
	}
	switch v := v.(type) {
	case *object:
		if v.len() == 0 {
			return append(dst, "{}"...)
		}
		dst = append(dst, '{')
		for i, key := range v.keys {
			if i > 0 {
				dst = append(dst, ',')
			}
			line(indent + 1)
			dst = appendText(dst, key)
			dst = append(dst, ": "...)
			dst = appendJSON(dst, v.values[key], indent+1)
		}
		line(indent)
		return append(dst, '}')
	case []any:
		if len(v) == 0 {
			return append(dst, "[]"...)
		}
		dst = append(dst, '[')
		for i, item := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			line(indent + 1)
			dst = appendJSON(dst, item, indent+1)
		}
		line(indent)
		return append(dst, ']')
	case string:
		return appendText(dst, v)
	case json.Number:
		return append(dst, v...)
	case bool:
		if v {
			return append(dst, "true"...)
		}
		return append(dst, "false"...)
	default:
		return append(dst, "null"...)
	}
}

// appendText appends a string as JSON, with <, > and & as they are.
func appendText(dst []byte, s string) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always encodes
	return append(dst, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...)
}

// compact is a value on one line, for texts.
func compact(v any) string {
	var buf bytes.Buffer
	if err := json.Compact(&buf, appendJSON(nil, v, 0)); err != nil {
		return "?"
	}
	return buf.String()
}

// equal reports whether two values are the same but for the order of keys.
func equal(a, b any) bool {
	switch a := a.(type) {
	case *object:
		b, ok := b.(*object)
		if !ok || a.len() != b.len() {
			return false
		}
		for _, key := range a.keys {
			if !b.has(key) || !equal(a.values[key], b.values[key]) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !equal(a[i], b[i]) {
				return false
			}
		}
		return true
	case json.Number:
		b, ok := b.(json.Number)
		return ok && compareNumbers(a, b) == 0
	default:
		switch b.(type) {
		case *object, []any:
			return false
		}
		return a == b
	}
}

// yamlNode turns a value into what the YAML encoder writes.
func yamlNode(v any) *yaml.Node {
	scalar := func(tag, value string) *yaml.Node {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
	}
	switch v := v.(type) {
	case *object:
		n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		if v.len() == 0 {
			n.Style = yaml.FlowStyle
		}
		for _, key := range v.keys {
			n.Content = append(n.Content, yamlText(key), yamlNode(v.values[key]))
		}
		return n
	case []any:
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		if len(v) == 0 {
			n.Style = yaml.FlowStyle
		}
		for _, item := range v {
			n.Content = append(n.Content, yamlNode(item))
		}
		return n
	case string:
		return yamlText(v)
	case json.Number:
		return scalar("", string(v)) // without a tag it is written as it is
	case bool:
		if v {
			return scalar("!!bool", "true")
		}
		return scalar("!!bool", "false")
	default:
		return scalar("!!null", "null")
	}
}

// yamlText is a string; one that another reader of YAML could take for something else
// stands in quotes.
func yamlText(s string) *yaml.Node {
	s = strings.ToValidUTF8(s, "\uFFFD")
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
	switch {
	case plainText(s):
	case strings.Contains(s, "\n") && blockText(s):
		n.Style = yaml.LiteralStyle
	default:
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

// plainText reports a string that is safe without quotes for every reader: it begins
// with a letter, has nothing but printable ASCII without a mark that means something, and
// is no word that YAML 1.1 takes for a boolean or nothing.
func plainText(s string) bool {
	if s == "" || !isLetter(s[0]) && s[0] != '$' && s[0] != '/' {
		return false
	}
	switch strings.ToLower(s) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null":
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case c < ' ' || c > '~', strings.IndexByte("#{}[]&*!|>'\"%@`\\", c) >= 0:
			return false
		case c == ':' && (i+1 == len(s) || s[i+1] == ' '):
			return false
		}
	}
	return s[len(s)-1] != ' '
}

// blockText reports a text of several lines that stands well in a block.
func blockText(s string) bool {
	for _, line := range strings.Split(s, "\n") {
		if strings.TrimSpace(line) != line {
			return false
		}
		for _, r := range line {
			if r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff || r > 0xfffd {
				return false
			}
		}
	}
	return s[0] != '\n' && !strings.HasSuffix(s, "\n\n")
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

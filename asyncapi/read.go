package asyncapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// Bounds of what is read.
const (
	maxDepth  = 500    // objects and lists inside one another
	maxValues = 500000 // values with all YAML aliases written out
)

// lines are where the objects of a document begin.
type lines map[*object]int

// read reads JSON or YAML. Where the first character opens an object, what is no JSON may
// still be YAML; the error is that of JSON then.
func read(data []byte) (any, lines, error) {
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	at := make(lines)
	if trimmed := bytes.TrimLeft(data, " \t\r\n"); len(trimmed) > 0 && (trimmed[0] == '{' || trimmed[0] == '[') {
		v, err := readJSON(data, at)
		if err == nil {
			return v, at, nil
		}
		if errors.Is(err, errValues) || errors.Is(err, errDepth) {
			return nil, nil, err // it is too much as YAML, too
		}
		clear(at)
		if v, yamlErr := readYAML(data, at); yamlErr == nil {
			return v, at, nil
		}
		return nil, nil, err
	}
	v, err := readYAML(data, at)
	return v, at, err
}

// readJSON reads one value. at may be nil.
func readJSON(data []byte, at lines) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	r := &jsonReader{dec: dec, data: data, at: at, line: 1}
	v, err := r.value(0)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = r.fault(errors.New("something follows the end of the document"))
		}
	}
	return v, err
}

type jsonReader struct {
	dec    *json.Decoder
	data   []byte
	at     lines
	offset int // up to which lines are counted
	line   int
	seen   int // values so far
}

// position is the line of where the decoder is.
func (r *jsonReader) position() int {
	to := min(int(r.dec.InputOffset()), len(r.data))
	r.line += bytes.Count(r.data[r.offset:to], []byte("\n"))
	r.offset = to
	return r.line
}

// fault says where in the text err is.
func (r *jsonReader) fault(err error) error {
	to := int(r.dec.InputOffset())
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &syntax):
		to = int(syntax.Offset)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		to, err = len(r.data), errors.New("the document ends in the middle")
	}
	before := r.data[:max(min(to, len(r.data)), 0)]
	return fmt.Errorf("line %d, column %d: %w", bytes.Count(before, []byte("\n"))+1, len(before)-bytes.LastIndexByte(before, '\n'), err)
}

func (r *jsonReader) value(depth int) (any, error) {
	t, err := r.dec.Token()
	if err != nil {
		return nil, r.fault(err)
	}
	if r.seen++; r.seen > maxValues {
		return nil, r.fault(errValues)
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if depth >= maxDepth {
		return nil, r.fault(errDepth)
	}
	if delim == '[' {
		list := []any{}
		for r.dec.More() {
			v, err := r.value(depth + 1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, r.end()
	}
	o := new(object)
	if r.at != nil {
		r.at[o] = r.position()
	}
	for r.dec.More() {
		t, err := r.dec.Token()
		if err != nil {
			return nil, r.fault(err)
		}
		key, ok := t.(string)
		if !ok {
			return nil, r.fault(errors.New("a key is no string"))
		}
		if o.has(key) {
			return nil, r.fault(fmt.Errorf("the key %q stands there twice", key))
		}
		v, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		o.set(key, v)
	}
	return o, r.end()
}

// end reads the closing bracket.
func (r *jsonReader) end() error {
	if _, err := r.dec.Token(); err != nil {
		return r.fault(err)
	}
	return nil
}

var (
	errDepth  = fmt.Errorf("more than %d levels inside one another", maxDepth)
	errValues = fmt.Errorf("more than %d values, with the aliases written out", maxValues)
)

// readYAML reads one document.
func readYAML(data []byte, at lines) (any, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var n yaml.Node
	if err := dec.Decode(&n); errors.Is(err, io.EOF) {
		return nil, errors.New("the document is empty")
	} else if err != nil {
		return nil, err
	}
	var next yaml.Node
	if err := dec.Decode(&next); err == nil {
		return nil, fmt.Errorf("line %d: a second document follows", next.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	r := &yamlReader{at: at}
	return r.value(&n, 0)
}

type yamlReader struct {
	at   lines
	seen int // values so far
}

func (r *yamlReader) value(n *yaml.Node, depth int) (any, error) {
	if r.seen++; r.seen > maxValues {
		return nil, yamlFault(n, errValues)
	}
	if depth > maxDepth { // an alias inside of itself, too
		return nil, yamlFault(n, errDepth)
	}
	switch n.Kind {
	case yaml.DocumentNode:
		if len(n.Content) != 1 {
			return nil, errors.New("the document is empty")
		}
		return r.value(n.Content[0], depth)
	case yaml.AliasNode:
		return r.value(n.Alias, depth+1)
	case yaml.SequenceNode:
		list := []any{}
		for _, item := range n.Content {
			v, err := r.value(item, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.MappingNode:
		o := new(object)
		r.at[o] = n.Line
		return o, r.mapping(o, n, depth)
	case yaml.ScalarNode:
		return scalarValue(n), nil
	default:
		return nil, yamlFault(n, errors.New("this cannot be read"))
	}
}

// mapping fills o. What is merged in (<<) gives way to the keys that stand there.
func (r *yamlReader) mapping(o *object, n *yaml.Node, depth int) error {
	own := make(map[string]bool)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		for k.Kind == yaml.AliasNode {
			k = k.Alias
		}
		if k.Kind != yaml.ScalarNode {
			return yamlFault(k, errors.New("a key is no string"))
		}
		v, err := r.value(n.Content[i+1], depth+1)
		if err != nil {
			return err
		}
		if k.ShortTag() == "!!merge" {
			if err := merge(o, v); err != nil {
				return yamlFault(k, err)
			}
			continue
		}
		if own[k.Value] {
			return yamlFault(k, fmt.Errorf("the key %q stands there twice", k.Value))
		}
		own[k.Value] = true
		o.set(k.Value, v)
	}
	return nil
}

func merge(o *object, v any) error {
	switch v := v.(type) {
	case *object:
		for _, key := range v.keys {
			if !o.has(key) {
				o.set(key, v.values[key])
			}
		}
		return nil
	case []any:
		for _, item := range v {
			if _, ok := item.(*object); !ok {
				return errors.New("only objects can be merged")
			}
			_ = merge(o, item)
		}
		return nil
	default:
		return errors.New("only objects can be merged")
	}
}

func yamlFault(n *yaml.Node, err error) error {
	return fmt.Errorf("line %d, column %d: %w", n.Line, n.Column, err)
}

var jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)

// scalarValue is what a scalar means. A date is a string, as in JSON.
func scalarValue(n *yaml.Node) any {
	if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 && n.Style&yaml.TaggedStyle == 0 {
		return n.Value
	}
	if n.Style&yaml.TaggedStyle == 0 && jsonNumber.MatchString(n.Value) {
		return json.Number(n.Value)
	}
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		var v bool
		if n.Decode(&v) == nil {
			return v
		}
	case "!!int":
		var i int64
		if n.Decode(&i) == nil {
			return json.Number(strconv.FormatInt(i, 10))
		}
		var u uint64
		if n.Decode(&u) == nil {
			return json.Number(strconv.FormatUint(u, 10))
		}
	case "!!float":
		var f float64
		if n.Decode(&f) == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			if data, err := json.Marshal(f); err == nil {
				return json.Number(data)
			}
		}
	}
	return n.Value
}

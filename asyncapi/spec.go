package asyncapi

import (
	"bytes"

	"go.yaml.in/yaml/v3"
)

// Spec is one AsyncAPI document. Make it with [Document] or [Parse]. It does not change
// and is safe for concurrent use. The zero value is an empty document, which is none that
// others accept.
type Spec struct{ root *object }

// JSON is the document as JSON, indented, with a newline at its end: the same bytes each
// time.
func (s *Spec) JSON() ([]byte, error) {
	return append(appendJSON(nil, s.tree(), 0), '\n'), nil
}

// YAML is the document as YAML, in the same order as [Spec.JSON]: the same bytes each
// time.
func (s *Spec) YAML() ([]byte, error) {
	var buf bytes.Buffer
	enc := yaml.NewEncoder(&buf)
	enc.SetIndent(2)
	enc.CompactSeqIndent()
	if err := enc.Encode(yamlNode(s.tree())); err != nil {
		return nil, err
	}
	if err := enc.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func (s *Spec) tree() *object {
	if s == nil || s.root == nil {
		return obj()
	}
	return s.root
}

// Package official validates documents against the schemas that the AsyncAPI project
// publishes. It is for tests.
package official

import (
	"bytes"
	"embed"
	"fmt"
	"sync"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// The schemas are from @asyncapi/specs 6.11.1, as they are there, under their own licence:
// schemas/LICENSE, schemas/NOTICE.
//
//go:embed schemas/*.json
var files embed.FS

var compiled = map[string]func() (*jsonschema.Schema, error){
	"3.0.0": sync.OnceValues(func() (*jsonschema.Schema, error) { return compile("3.0.0") }),
	"3.1.0": sync.OnceValues(func() (*jsonschema.Schema, error) { return compile("3.1.0") }),
}

func compile(version string) (*jsonschema.Schema, error) {
	data, err := files.ReadFile("schemas/" + version + ".json")
	if err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(version, doc); err != nil {
		return nil, err
	}
	return c.Compile(version)
}

// Validate says what is wrong with a document, as JSON, of that version of AsyncAPI.
func Validate(version string, data []byte) error {
	f, ok := compiled[version]
	if !ok {
		return fmt.Errorf("there is no schema of version %q", version)
	}
	schema, err := f()
	if err != nil {
		return err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return err
	}
	return schema.Validate(doc)
}

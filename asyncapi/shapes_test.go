package asyncapi_test

import (
	"bytes"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/asyncapi"
	"github.com/gostream/gostream/memory"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

type (
	digest  []byte
	octet   byte
	four    [4]byte
	level   int
	levels  []level
	nesting []nesting
)

func (level) Enum() []any { return []any{1, 2} }

// shapes are fields whose JSON is not what their Go type looks like.
type shapes struct {
	Bytes   []byte      `json:"bytes"`
	Digest  digest      `json:"digest"`
	Octets  []octet     `json:"octets"`
	Four    four        `json:"four"`
	Number  json.Number `json:"number"`
	Raw     json.RawMessage
	Any     *any `json:"any"`
	Level   level
	Levels  levels
	Nesting nesting
	Choice  *string `json:"choice" enum:"a,b"`
	Next    *shapes `json:"next" description:"The one behind."`
	Maybe   *level  `json:"maybe"`
	Big     *big.Int
	List    *levels
	Never   *direct `json:"never,omitempty"`
	Zero    *direct `json:"zero,omitzero"`
	Kept    []int   `json:"kept,omitzero"`
	Sum     []byte  `json:"sum,omitzero"`
	May     *level  `json:"may,omitempty" nullable:"true"`
	Key     []byte  `json:"key,omitempty" nullable:"false"`
	Not     *direct `json:"not,omitempty" nullable:"false"`
}

// What Go writes fits its own schema, and what it would never write does not.
func TestShapes(t *testing.T) {
	t.Parallel()
	value, choice := any("x"), "a"
	full := shapes{
		Bytes: []byte{1}, Digest: digest{250, 251}, Octets: []octet{1}, Number: "1.5", Raw: json.RawMessage(`[1,{"a":2}]`),
		Any: &value, Level: 1, Levels: levels{2}, Nesting: nesting{{}, nil}, Choice: &choice,
		Big: big.NewInt(1), List: &levels{1},
	}
	next, one := full, level(1)
	full.Next, full.Maybe = &next, &one
	spec := documentOf(t, mounting(gostream.Consume(take[shapes])))
	valid(t, spec)
	schema := compiled(t, spec, "/components/schemas/shapes")
	for _, v := range []any{full, shapes{Level: 1}} {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := fits(t, schema, string(data)); err != nil {
			t.Errorf("%s does not fit: %v", data, err)
		}
	}
	if err := fits(t, schema, `{"may":null}`); err != nil {
		t.Error(err)
	}
	for _, wrong := range []string{`{"digest":[1]}`, `{"octets":[1]}`, `{"number":"1"}`, `{"four":null}`, `{"choice":"c"}`, `{"Level":3}`, `{"maybe":3}`, `{"next":{"Level":3}}`, `{"never":null}`, `{"zero":null}`, `{"not":null}`, `{"kept":null}`, `{"sum":null}`, `{"key":null}`} {
		if err := fits(t, schema, wrong); err == nil {
			t.Errorf("%s fits", wrong)
		}
	}
}

func compiled(t *testing.T, spec *asyncapi.Spec, at string) *jsonschema.Schema {
	t.Helper()
	data, err := spec.JSON()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	if err := c.AddResource("mem:///document.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("mem:///document.json#" + at)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func fits(t *testing.T, schema *jsonschema.Schema, text string) error {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return schema.Validate(v)
}

type (
	direct  struct{ Level level }
	pointed struct{ Level *level }
)

// The schema of a type does not depend on who uses it first, nor last.
func TestSharedTypeIsTheSame(t *testing.T) {
	t.Parallel()
	of := func(handlers ...gostream.Handler) string {
		t.Helper()
		spec := documentOf(t, func(app *gostream.App) []asyncapi.Option {
			r := gostream.NewRouter()
			for i, h := range handlers {
				r.Handle(string(rune('a'+i)), h)
			}
			app.Mount(memory.New(), r)
			return nil
		})
		valid(t, spec)
		return string(schemasOf(t, spec)["level"])
	}
	want := of(gostream.Consume(take[level]))
	for name, got := range map[string]string{
		"behind a pointer":  of(gostream.Consume(take[pointed])),
		"the pointer last":  of(gostream.Consume(take[direct]), gostream.Consume(take[pointed])),
		"the pointer first": of(gostream.Consume(take[pointed]), gostream.Consume(take[direct])),
	} {
		if got != want {
			t.Errorf("%s the schema is %s, want %s", name, got, want)
		}
	}
}

// A json.Number is a number in JSON alone.
func TestNumberInOtherCodecs(t *testing.T) {
	t.Parallel()
	type numbered struct{ N json.Number }
	for _, contentType := range []string{"application/json", "application/cbor", "application/msgpack"} {
		spec := documentOf(t, mounting(gostream.Consume(take[numbered]), gostream.WithCodec(as(contentType))))
		valid(t, spec)
		if _, has := schemasOf(t, spec)["numbered"]; has != (contentType == "application/json") {
			t.Errorf("%s has a schema: %v", contentType, has)
		}
	}
}

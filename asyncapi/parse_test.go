package asyncapi_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gostream/gostream/asyncapi"
)

func TestParseFaults(t *testing.T) {
	t.Parallel()
	const head = "asyncapi: 3.0.0\ninfo: {title: a, version: '1'}\n"
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"nothing", "", []string{"empty"}},
		{"a comment", "# a\n", []string{"empty"}},
		{"a list", "- a\n", []string{"no object at the top"}},
		{"a text", "a", []string{"no object at the top"}},
		{"a JSON list", "[1]", []string{"no object at the top"}},
		{"broken JSON", "{\n  \"asyncapi\": \"3.0.0\",\n  \"info\": [}\n}", []string{"line 3, column 12"}},
		{"JSON that ends", "{\n  \"asyncapi\": \"3.0.0\"", []string{"line 2, column 22", "ends in the middle"}},
		{"a key twice in JSON", "{\n\"asyncapi\": \"3.0.0\",\n\"asyncapi\": \"3.0.0\"}", []string{"line 3", "twice"}},
		{"two JSON documents", "{} {}", []string{"line 1"}},
		{"broken YAML", "asyncapi: 3.0.0\ninfo: [a\n", []string{"yaml: line"}},
		{"a key twice in YAML", "asyncapi: 3.0.0\nasyncapi: 3.0.0\n", []string{"line 2", "twice"}},
		{"two YAML documents", head + "---\na: 1\n", []string{"second document"}},
		{"a key that is a list", "? [a]\n: b\n", []string{"a key is no string"}},
		{"an alias in itself", "a: &a {b: *a}\n", []string{"500 levels"}},
		{"deep", strings.Repeat("[", 2000), []string{"500 levels"}},
		{"many values in JSON", `{"asyncapi": "3.0.0", "info": {"title": "a", "version": "1"}, "x-a": [` + strings.Repeat("1,", 500000) + "1]}", []string{"line 1", "500000 values"}},
		{"no version", "info: {}\n", []string{"has no asyncapi: 3.0.0"}},
		{"another version", "asyncapi: 2.6.0\n", []string{`"2.6.0"; convert it to 3.0.0`}},
		{"a number", "asyncapi: 3.0\n", []string{"in quotes"}},
		{"OpenAPI", "openapi: 3.1.0\n", []string{"OpenAPI"}},
		{"no info", "asyncapi: 3.0.0\n", []string{"line 1: info is missing"}},
		{"info without a title", "asyncapi: 3.0.0\ninfo:\n  version: 1.0.0\n", []string{"line 3: info has no title"}},
		{
			"several", head + "channels:\n  a: 1\n  b:\n    address: 7\noperations:\n  o:\n    action: take\n  p:\n    channel: {}\n  q: {action: send, channel: {$ref: '#/channels/none'}}\ncomponents: {schemas: {s: 1}}\n",
			[]string{
				"channels/a is no object", "line 6: channels/b: the address is no string", `line 9: operations/o: the action is "take"`,
				"operations/o has no channel", "operations/p has no action", "operations/p: the channel is no reference",
				"line 12: operations/q/channel refers to #/channels/none, which is not there", "components/schemas/s is no schema",
			},
		},
		{"aliases of aliases", head + "x-a: &a [1,1,1,1,1,1,1,1,1,1]\n" + bomb(), []string{"500000 values"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			spec, err := asyncapi.Parse([]byte(tt.text))
			if err == nil || spec != nil {
				t.Fatalf("%v, %v", spec, err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v: does not say %q", err, want)
				}
			}
			if !strings.HasPrefix(err.Error(), "asyncapi: ") {
				t.Errorf("%v: does not begin with the package", err)
			}
		})
	}
}

// bomb is a small text with a billion values.
func bomb() string {
	var b strings.Builder
	names := "abcdefghij"
	for i := 1; i < len(names); i++ {
		of := "*" + names[i-1:i]
		b.WriteString("x-" + names[i:i+1] + ": &" + names[i:i+1] + " [" + strings.Repeat(of+",", 9) + of + "]\n")
	}
	return b.String()
}

// What YAML may say in several ways is the same as in JSON.
func TestParseYAML(t *testing.T) {
	t.Parallel()
	spec := parse(t, `
asyncapi: "3.0.0"
info: &i {title: a, version: !!str 1}
x-numbers: [1, -2.50, 1e3, 0x10, 1_000, .5, +1, 007, 18446744073709551615]
x-texts: ["1", 'true', 2020-01-01, 1.2.3, yes, .inf, "a\tb"]
x-block: |
  block
x-others: [true, null, ~, ]
x-info: *i
x-merged: {<<: *i, title: b}
x-base: {<<: [*i, {c: d}]}
`)
	data, err := spec.JSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"\"x-numbers\": [\n    1,\n    -2.50,\n    1e3,\n    16,\n    1000,\n    0.5,\n    1,\n    7,\n    18446744073709551615\n  ]",
		"\"x-texts\": [\n    \"1\",\n    \"true\",\n    \"2020-01-01\",\n    \"1.2.3\",\n    \"yes\",\n    \".inf\",\n    \"a\\tb\"\n  ]",
		"\"x-block\": \"block\\n\"",
		"\"x-others\": [\n    true,\n    null,\n    null\n  ]",
		"\"x-info\": {\n    \"title\": \"a\",\n    \"version\": \"1\"\n  }",
		"\"x-merged\": {\n    \"title\": \"b\",\n    \"version\": \"1\"\n  }",
		"\"x-base\": {\n    \"title\": \"a\",\n    \"version\": \"1\",\n    \"c\": \"d\"\n  }",
	} {
		if !bytes.Contains(data, []byte(want)) {
			t.Errorf("the document has not\n%s\nit is\n%s", want, data)
		}
	}
}

func seeds(f *testing.F) (docs []string) {
	for _, pattern := range []string{"testdata/golden/*", "internal/withbrokers/testdata/*"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatal(pattern, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			docs = append(docs, string(data))
		}
	}
	docs = append(docs, base, strings.NewReplacer("PAYLOAD", "{$ref: '#/components/schemas/Tree'}", "VALUE", "{oneOf: [{type: string}, {enum: [1, 1.0, 1e400, a]}]}").Replace(around))
	return docs
}

// Whatever is read comes back from both forms as it was, and differs from itself in
// nothing.
func FuzzParse(f *testing.F) {
	for _, doc := range seeds(f) {
		f.Add([]byte(doc))
	}
	for _, s := range []string{"", "{", "- a", "asyncapi: 3.0.0\ninfo: {title: \"\\x07\\n a \", version: \"\\u2028\"}", "asyncapi: 3.0.0\ninfo: {title: \"a\\nb\\n\", version: '1'}\nx-a: *b"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		spec, err := asyncapi.Parse(data)
		if err != nil {
			return
		}
		form, err := spec.JSON()
		if err != nil {
			t.Fatal(err)
		}
		text, err := spec.YAML()
		if err != nil {
			t.Fatal(err)
		}
		for _, written := range [][]byte{form, text} {
			back, err := asyncapi.Parse(written)
			if err != nil {
				t.Fatalf("it cannot be read again: %v\n%s", err, written)
			}
			if again, _ := back.JSON(); !bytes.Equal(again, form) {
				t.Fatalf("read again it is\n%s\nit was\n%s\nwritten as\n%s", again, form, written)
			}
			if c := asyncapi.Diff(spec, back); len(c.List) > 0 {
				t.Fatalf("it differs from itself: %s", c)
			}
		}
	})
}

// Diff never panics, and ends.
func FuzzDiff(f *testing.F) {
	docs := seeds(f)
	for i := range docs {
		f.Add([]byte(docs[i]), []byte(docs[(i+1)%len(docs)]))
	}
	f.Fuzz(func(t *testing.T, x, y []byte) {
		before, err := asyncapi.Parse(x)
		if err != nil {
			return
		}
		after, err := asyncapi.Parse(y)
		if err != nil {
			return
		}
		c := asyncapi.Diff(before, after)
		if c.Breaking() != strings.Contains(c.Text(), "breaking: ") && len(c.List) == 0 {
			t.Errorf("%s", c)
		}
		for _, one := range c.List {
			if one.Rule == "" || one.Where == "" || one.What == "" {
				t.Errorf("a change says nothing: %+v", one)
			}
		}
	})
}

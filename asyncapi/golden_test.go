package asyncapi_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/gostream/gostream/asyncapi"
	"github.com/gostream/gostream/asyncapi/internal/official"
)

var update = flag.Bool("update", false, "write testdata/golden anew")

// valid checks a document against the official schema, and that it comes back from both
// forms as it was.
func valid(t testing.TB, spec *asyncapi.Spec) {
	t.Helper()
	data, err := spec.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var head struct{ AsyncAPI string }
	if err := json.Unmarshal(data, &head); err != nil {
		t.Fatal(err)
	}
	if err := official.Validate(head.AsyncAPI, data); err != nil {
		t.Errorf("the document is not valid: %v\n%s", err, data)
	}
	text, err := spec.YAML()
	if err != nil {
		t.Fatal(err)
	}
	for form, read := range map[string][]byte{"JSON": data, "YAML": text} {
		back, err := asyncapi.Parse(read)
		if err != nil {
			t.Errorf("the document as %s cannot be read: %v\n%s", form, err, read)
			continue
		}
		if again, _ := back.JSON(); !bytes.Equal(again, data) {
			t.Errorf("read from %s the document is\n%s\nwant\n%s", form, again, data)
		}
		for _, c := range []*asyncapi.Changes{asyncapi.Diff(spec, back), asyncapi.Diff(back, spec)} {
			if len(c.List) > 0 {
				t.Errorf("read from %s it differs: %s", form, c)
			}
		}
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for name, build := range apps {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := documentOf(t, build)
			valid(t, spec)
			data, _ := spec.JSON()
			text, _ := spec.YAML()
			for range 20 { // the same bytes each time
				again := documentOf(t, build)
				if j, _ := again.JSON(); !bytes.Equal(j, data) {
					t.Fatalf("another time the document is\n%s\nbefore it was\n%s", j, data)
				}
			}
			golden(t, name+".json", data)
			golden(t, name+".yaml", text)
		})
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v: run go test -run %s -update", err, t.Name())
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; go test -update writes it. It is now\n%s", file, got)
	}
}

// The parser of the AsyncAPI project also finds what its schema does not: references that
// lead nowhere, messages that are not of the channel.
func TestParser(t *testing.T) {
	t.Parallel()
	folder := filepath.Join("testdata", "parser")
	missing := func(format string, args ...any) {
		t.Helper()
		if os.Getenv("GOSTREAM_REQUIRE_NODE") != "" {
			t.Fatalf("GOSTREAM_REQUIRE_NODE is set, and "+format, args...)
		}
		t.Skipf(format, args...)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		missing("there is no node here (Node.js 20 or later)")
	}
	if _, err := os.Stat(filepath.Join(folder, "node_modules", "@asyncapi", "parser")); err != nil {
		missing("the parser is not installed: npm ci --ignore-scripts --prefix asyncapi/testdata/parser")
	}
	var files []string
	for _, pattern := range []string{"testdata/golden/*.yaml", "internal/withbrokers/testdata/*.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("no document matches %s: %v", pattern, err)
		}
		files = append(files, found...)
	}
	out, err := exec.CommandContext(t.Context(), node, append([]string{filepath.Join(folder, "check.mjs")}, files...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("the parser: %v\n%s", err, out)
	}
	for _, file := range files {
		if !bytes.Contains(out, []byte(file+": ok")) {
			t.Errorf("the parser says nothing of %s:\n%s", file, out)
		}
	}
	t.Logf("%s", out)
}

// The document of the examples is valid, too.
func TestExampleIsValid(t *testing.T) {
	t.Parallel()
	d, err := shop().Describe()
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"3.0.0", "3.1.0"} {
		spec, err := asyncapi.Document(d, asyncapi.Version(version))
		if err != nil {
			t.Fatal(err)
		}
		valid(t, spec)
	}
}

package house

import (
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every Go fence of the documentation is a file that compiles, or an excerpt of
// one that does:
//
//   - A fence that begins with a package clause is compiled against this
//     repository.
//   - A fence under a line <!-- snippet: path/to/file.go --> must occur in that
//     file, lines in a row, wherever it is indented to.
func TestSnippets(t *testing.T) {
	t.Parallel()
	root := rootDir(t)
	for _, problem := range checkSnippets(t, root, documents(t, root)) {
		t.Error(problem)
	}
}

// Links in the documentation that stay in the repository lead somewhere.
func TestDocumentLinks(t *testing.T) {
	t.Parallel()
	root := rootDir(t)
	docs := documents(t, root)
	exists := func(name string) bool {
		_, err := os.Stat(filepath.Join(root, filepath.FromSlash(name)))
		return err == nil
	}
	known := map[string][]string{}
	anchorsOf := func(name string) ([]string, error) {
		if found, ok := known[name]; ok {
			return found, nil
		}
		_, prose, err := scan(readFile(t, filepath.Join(root, filepath.FromSlash(name))))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		known[name] = anchors(prose)
		return known[name], nil
	}
	for _, doc := range docs {
		_, prose, err := scan(doc.text)
		if err != nil {
			t.Errorf("%s: %v", doc.name, err)
			continue
		}
		for _, l := range links(prose) {
			if err := checkLink(doc.name, l.target, exists, anchorsOf); err != nil {
				t.Errorf("%s:%d: the link to %s: %v", doc.name, l.line, l.target, err)
			}
		}
	}
}

// A document is a Markdown file, by its path from the root with slashes.
type document struct{ name, text string }

// documents returns README.md, CHANGELOG.md and what is below docs.
func documents(t *testing.T, root string) []document {
	t.Helper()
	var docs []document
	walk(t, root, func(name string) {
		if name == "README.md" || name == "CHANGELOG.md" || strings.HasPrefix(name, "docs/") && path.Ext(name) == ".md" {
			docs = append(docs, document{name, readFile(t, filepath.Join(root, filepath.FromSlash(name)))})
		}
	})
	return docs
}

// checkSnippets returns what is wrong with the Go fences of docs.
func checkSnippets(t *testing.T, root string, docs []document) []string {
	t.Helper()
	var problems []string
	modules := moduleDirs(t, root)
	dir := t.TempDir()
	wholes := 0
	for _, doc := range docs {
		fences, _, err := scan(doc.text)
		if err != nil {
			problems = append(problems, fmt.Sprintf("%s: %v", doc.name, err))
			continue
		}
		for _, f := range fences {
			if f.lang != "go" && f.lang != "golang" {
				continue
			}
			if f.excerpt != "" {
				err = checkExcerptOf(root, f)
			} else if f.whole() {
				if err = writeSnippet(t, filepath.Join(dir, fmt.Sprintf("fence%03d", wholes+1)), root, doc.name, f, modules); err == nil {
					wholes++
				}
			} else {
				err = errors.New("a Go fence either begins with a package clause, or follows a line <!-- snippet: path/to/file.go --> that names the compiled file it is taken from")
			}
			if err != nil {
				problems = append(problems, fmt.Sprintf("%s:%d: %v", doc.name, f.line, err))
			}
		}
	}
	if wholes > 0 {
		writeModule(t, dir, root, "example.com/snippets")
		if _, err := tryGoCommand(t, dir, "vet", "./..."); err != nil {
			problems = append(problems, err.Error())
		}
	}
	for i, p := range problems {
		problems[i] = strings.ReplaceAll(p, root+string(filepath.Separator), "")
	}
	return problems
}

// checkExcerptOf reports why the fence is no excerpt of the file that it names,
// or why that is no file that is compiled.
func checkExcerptOf(root string, f fence) error {
	local := filepath.FromSlash(f.excerpt)
	if !filepath.IsLocal(local) || path.Ext(f.excerpt) != ".go" || slices.ContainsFunc(strings.Split(f.excerpt, "/"), func(s string) bool {
		return s == "testdata" || s == "vendor" || strings.HasPrefix(s, "_") || strings.HasPrefix(s, ".")
	}) {
		return fmt.Errorf("%s is no Go file of this repository that is compiled", f.excerpt)
	}
	source, err := os.ReadFile(filepath.Join(root, local))
	if err != nil {
		return fmt.Errorf("the file of the excerpt cannot be read: %w", err)
	}
	if err := checkExcerpt(f.code, string(source)); err != nil {
		return fmt.Errorf("the fence is no excerpt of %s: %w", f.excerpt, err)
	}
	return nil
}

// writeSnippet writes the fence as a package of its own, with a line directive so
// that the compiler names the document. It refuses what would need more than the
// core: that is shown as an excerpt of a file in the module that has it.
func writeSnippet(t *testing.T, dir, root, doc string, f fence, modules []string) error {
	t.Helper()
	code := strings.Join(f.code, "\n") + "\n"
	position := fmt.Sprintf("%s:%d:1\n", filepath.Join(root, filepath.FromSlash(doc)), f.line+1)
	parsed, err := parser.ParseFile(token.NewFileSet(), "", "//line "+position+code, parser.ImportsOnly)
	if err != nil {
		return fmt.Errorf("the fence does not parse: %w", err)
	}
	name := "snippet.go"
	if strings.HasSuffix(parsed.Name.Name, "_test") {
		name = "snippet_test.go"
	}
	for _, imported := range importPaths(t, parsed.Imports) {
		if imported == "testing" {
			name = "snippet_test.go"
		}
		ours, ok := short(imported)
		if !ok && isStandard(imported) {
			continue
		}
		if !ok || inModule(ours, modules) != "." {
			return fmt.Errorf("the fence imports %s, which is not in the core module: make it an excerpt of a compiled file", imported)
		}
	}
	writeFile(t, filepath.Join(dir, name), "//line "+position+code)
	return nil
}

// inModule returns the folder of the module that a package of ours is in.
func inModule(name string, modules []string) string {
	module := "."
	for _, m := range modules {
		if (name == m || strings.HasPrefix(name, m+"/")) && len(m) >= len(module) {
			module = m
		}
	}
	return module
}

func TestCheckSnippets(t *testing.T) {
	t.Parallel()
	root := rootDir(t)
	for _, tt := range []struct {
		name, text string
		broken     []string // what the problems say, one each
	}{
		{
			name: "a file that compiles",
			text: "```go\npackage main\n\nimport (\n\t\"fmt\"\n\n\t\"github.com/gostream/gostream/broker\"\n)\n\nfunc main() { fmt.Println(broker.ByName(\"orders\").Name()) }\n```\n",
		},
		{
			name: "a test that compiles",
			text: "```go\npackage shop_test\n\nimport \"testing\"\n\nfunc TestShop(t *testing.T) { t.Parallel() }\n```\n",
		},
		{
			name:   "a file that does not compile",
			text:   "Text.\n\n```go\npackage p\n\nfunc f() int {\n\treturn missing\n}\n```\n",
			broken: []string{"doc.md:7:9: undefined: missing"},
		},
		{
			name:   "a file that go vet refuses",
			text:   "```go\npackage p\n\nimport \"fmt\"\n\nfunc f() { fmt.Printf(\"%d\", \"x\") }\n```\n",
			broken: []string{"doc.md:6:"},
		},
		{
			name:   "a file that does not parse",
			text:   "```go\npackage p\n\nimport fmt\n```\n",
			broken: []string{"doc.md:1: the fence does not parse: doc.md:4:"},
		},
		{
			name:   "a file that needs a third party",
			text:   "```go\npackage p\n\nimport _ \"example.com/x\"\n```\n",
			broken: []string{"doc.md:1: the fence imports example.com/x, which is not in the core module"},
		},
		{
			name:   "a file that needs another module of ours",
			text:   "```go\npackage p\n\nimport _ \"github.com/gostream/gostream/examples/x\"\n```\n",
			broken: []string{"doc.md:1: the fence imports github.com/gostream/gostream/examples/x, which is not"},
		},
		{
			name: "an excerpt",
			text: "<!-- snippet: broker/broker.go -->\n```go\ntype PublisherProvider interface {\n```\n",
		},
		{
			name:   "an excerpt that is out of date",
			text:   "<!-- snippet: broker/broker.go -->\n\n```go\ntype PublisherProvider struct {\n```\n",
			broken: []string{"doc.md:3: the fence is no excerpt of broker/broker.go"},
		},
		{
			name:   "an excerpt of a file that is gone",
			text:   "<!-- snippet: broker/gone.go -->\n```go\nx\n```\n",
			broken: []string{"doc.md:2: the file of the excerpt cannot be read"},
		},
		{
			name:   "an excerpt of what is not compiled",
			text:   "<!-- snippet: testdata/x.go -->\n```go\nx\n```\n<!-- snippet: ../x.go -->\n```go\nx\n```\n<!-- snippet: go.mod -->\n```go\nx\n```\n",
			broken: []string{"doc.md:2: testdata/x.go is no Go file", "doc.md:6: ../x.go is no Go file", "doc.md:10: go.mod is no Go file"},
		},
		{
			name:   "neither",
			text:   "Text.\n\n```go\nx := 1\n```\n\n```sh\ngo test work\n```\n",
			broken: []string{"doc.md:3: a Go fence either begins with a package clause"},
		},
		{
			name:   "a fence that is never closed",
			text:   "```go\npackage p\n",
			broken: []string{"doc.md: the fence of line 1 is never closed"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := checkSnippets(t, root, []document{{"doc.md", tt.text}})
			if len(got) != len(tt.broken) {
				t.Fatalf("the problems are %q, want %q", got, tt.broken)
			}
			for i, want := range tt.broken {
				if !strings.Contains(got[i], want) {
					t.Errorf("the problem is %q, want %q", got[i], want)
				}
			}
		})
	}
}

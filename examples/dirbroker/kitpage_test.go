package dirbroker_test

import (
	"context"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokertest"
	"github.com/gostream/gostream/internal/docpage"
	"github.com/gostream/gostream/memory"
)

//go:generate go test -run "TestConformance|TestKitPage" -update .

var update = flag.Bool("update", false, "write the tables of docs/broker-authors/kit.md instead of comparing them")

var (
	guide   = filepath.Join("..", "..", "docs", "broker-authors")
	kitPage = filepath.Join(guide, "kit.md")
)

// sameTable compares what stands between the marks of that name on the kit's page
// with want, or writes it.
func sameTable(t *testing.T, name, want string) {
	t.Helper()
	docpage.Same(t, kitPage, name, want, *update, "go generate ./examples/dirbroker")
}

// sameReport compares the tables of a run, but for the results.
func sameReport(t *testing.T, name string, r *brokertest.Report) {
	t.Helper()
	if t.Failed() {
		return
	}
	tables, _, _ := strings.Cut(r.Markdown(), "### Checks")
	sameTable(t, name, strings.ReplaceAll(tables, "### ", "#### "))
}

// The page lists every check, in the order in which they run.
func TestKitPage(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	group := ""
	for _, c := range brokertest.Checks() {
		if c.Group != group {
			group = c.Group
			fmt.Fprintf(&b, "\n### %s\n\n| check | rule | where it is written | needs |\n|---|---|---|---|\n", group)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", c.Name, cell(c.Rule), cell(c.Where), cell(strings.Join(c.Needs, "; ")))
	}
	sameTable(t, "checks", b.String())

	page, err := os.ReadFile(kitPage)
	if err != nil {
		t.Fatal(err)
	}
	for _, of := range []reflect.Type{reflect.TypeFor[brokertest.Harness](), reflect.TypeFor[brokertest.Target](), reflect.TypeFor[brokertest.Group](), reflect.TypeFor[brokertest.Pattern]()} {
		for i := range of.NumField() {
			if field := of.Field(i).Name; !strings.Contains(string(page), "`"+field+"`") {
				t.Errorf("%s does not mention the field %s.%s", kitPage, of.Name(), field)
			}
		}
	}
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// The tables of memory on the page are those that the kit prints.
func TestKitPageMemory(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	sameReport(t, "memory", brokertest.Run(t, brokertest.Harness{
		New: func() broker.Broker { return memory.New(memory.On(store)) },
		Source: func(_ context.Context, id string) (brokertest.Target, error) {
			return brokertest.Target{Source: broker.ByName(id), Name: id}, nil
		},
		Group: func(_ context.Context, id string) (brokertest.Group, error) {
			return brokertest.Group{
				Name:   id,
				Member: func(group string) broker.Source { return memory.Queue(id, group) },
			}, nil
		},
		Pattern: func(_ context.Context, id string) (brokertest.Pattern, error) {
			return brokertest.Pattern{
				Source:   memory.Pattern(id + ".*"),
				Matching: []string{id + ".a", id + ".b"},
				Other:    []string{id, id + ".a.b"},
			}, nil
		},
		Bulk: 5_000, // memory's own test does all of it
	}))
}

// The guide names every interface, property and error of the contract.
func TestGuideIsComplete(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(guide, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range contract(t) {
		if !strings.Contains(string(text), name) {
			t.Errorf("docs/broker-authors/README.md does not mention %s", name)
		}
	}
}

// contract returns the names that an author must know: the exported interfaces of
// package broker, its errors and its properties.
func contract(t *testing.T) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "broker", "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err, fs.ErrNotExist)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				return false
			case *ast.TypeSpec:
				if _, ok := n.Type.(*ast.InterfaceType); ok && n.Name.IsExported() {
					names = append(names, n.Name.Name)
				}
			case *ast.ValueSpec:
				if name := n.Names[0].Name; strings.HasPrefix(name, "Err") {
					names = append(names, name)
				}
			}
			return true
		})
	}
	properties := reflect.TypeFor[broker.Properties]()
	for i := range properties.NumField() {
		names = append(names, properties.Field(i).Name)
	}
	return names
}

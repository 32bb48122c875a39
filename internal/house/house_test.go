package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Every package of every module, on every platform: read from the source, since
// the go command would need the third parties of the other modules.
func TestImportsOfTheTree(t *testing.T) {
	t.Parallel()
	packages := sourcePackages(t, rootDir(t))
	if len(packages) == 0 {
		t.Fatal("no package was found")
	}
	for _, p := range packages {
		for _, broken := range importViolations(p) {
			t.Error(broken)
		}
	}
}

// The core as the go command resolves it, with all that each package reaches.
func TestCoreFromGoList(t *testing.T) {
	t.Parallel()
	root := rootDir(t)
	dec := json.NewDecoder(strings.NewReader(goCommand(t, root, "list", "-deps", "-json=ImportPath,Standard,Imports,Deps", "./...")))
	seen := 0
	for {
		var listed struct {
			ImportPath    string
			Standard      bool
			Imports, Deps []string
		}
		if err := dec.Decode(&listed); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the output of go list: %v", err)
		}
		if listed.Standard {
			continue
		}
		seen++
		for _, broken := range importViolations(pkg{listed.ImportPath, listed.Imports}) {
			t.Error(broken)
		}
		for _, broken := range reachViolations(pkg{listed.ImportPath, listed.Deps}) {
			t.Error(broken)
		}
	}
	if seen == 0 {
		t.Error("go list named no package of ours")
	}
}

func TestCoreNeedsTheStandardLibraryAlone(t *testing.T) {
	t.Parallel()
	modules := strings.Fields(goCommand(t, rootDir(t), "list", "-m", "all"))
	if !slices.Equal(modules, []string{modulePath}) {
		t.Errorf("go list -m all in the core names %q, want %s alone", modules, modulePath)
	}
}

// A broker that somebody else writes sees the core and nothing else.
func TestThirdPartyBrokerSeesTheCoreAlone(t *testing.T) {
	t.Parallel()
	root, dir := rootDir(t), t.TempDir()
	writeModule(t, dir, root, "example.com/thirdparty")
	writeFile(t, filepath.Join(dir, "thirdparty.go"), `package thirdparty

import (
	"context"

	"github.com/gostream/gostream/broker"
)

type Broker struct{}

var _ broker.Broker = Broker{}

func (Broker) Connect(context.Context) error  { return nil }
func (Broker) Shutdown(context.Context) error { return nil }
`)
	goCommand(t, dir, "build", "./...")

	modules := strings.Fields(goCommand(t, dir, "list", "-m", "-f", "{{.Path}}", "all"))
	if want := []string{"example.com/thirdparty", modulePath}; !slices.Equal(modules, want) {
		t.Errorf("go list -m all names %q, want %q", modules, want)
	}
	packages := strings.Fields(goCommand(t, dir, "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./..."))
	if want := []string{modulePath + "/broker", "example.com/thirdparty"}; !slices.Equal(packages, want) {
		t.Errorf("beyond the standard library it is built from %q, want %q", packages, want)
	}
}

func TestWorkspaceListsEveryModule(t *testing.T) {
	t.Parallel()
	root := rootDir(t)
	var work struct {
		Use []struct{ DiskPath string }
	}
	if err := json.Unmarshal([]byte(goCommand(t, root, "work", "edit", "-json", "go.work")), &work); err != nil {
		t.Fatalf("the output of go work edit: %v", err)
	}
	var uses []string
	for _, u := range work.Use {
		uses = append(uses, path.Clean(filepath.ToSlash(u.DiskPath)))
	}
	for _, broken := range workspaceViolations(moduleDirs(t, root), uses) {
		t.Error(broken)
	}
}

// A module is called after its folder, or nobody could fetch it.
func TestModulePaths(t *testing.T) {
	t.Parallel()
	root := rootDir(t)
	for _, dir := range moduleDirs(t, root) {
		want := path.Join(modulePath, dir)
		if got := goModField(t, filepath.Join(root, filepath.FromSlash(dir), "go.mod"), "module"); got != want {
			t.Errorf("%s/go.mod: the module is called %s, want %s", dir, got, want)
		}
	}
}

// rootDir is the folder of the core module.
func rootDir(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "go.work")); err != nil {
		t.Fatalf("this test runs inside the repository: %v", err)
	}
	return root
}

// goCommand runs the go command in dir, without a workspace, and returns what it
// prints.
func goCommand(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, err := tryGoCommand(t, dir, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tryGoCommand(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false", "PWD="+dir)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

// walk calls f with each file of the repository, by its path with slashes, and
// leaves out testdata, build output, and what is hidden.
func walk(t *testing.T, root string, f func(name string)) {
	t.Helper()
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil || rel == "." {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); n == "testdata" || n == "vendor" || rel == "bin" || strings.HasPrefix(n, ".") || strings.HasPrefix(n, "_") {
				return filepath.SkipDir
			}
			return nil
		}
		f(filepath.ToSlash(rel))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// moduleDirs returns the folders that hold a go.mod, the root as a dot.
func moduleDirs(t *testing.T, root string) []string {
	t.Helper()
	var dirs []string
	walk(t, root, func(name string) {
		if path.Base(name) == "go.mod" {
			dirs = append(dirs, path.Dir(name))
		}
	})
	return dirs
}

// sourcePackages returns the packages of all modules with what their files
// import, tests left out, whatever platform a file is for.
func sourcePackages(t *testing.T, root string) []pkg {
	t.Helper()
	imports := map[string][]string{}
	walk(t, root, func(name string) {
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || strings.HasPrefix(path.Base(name), "_") {
			return
		}
		src := readFile(t, filepath.Join(root, filepath.FromSlash(name)))
		if strings.HasPrefix(src, "//go:build ignore\n") {
			return // a program that go run takes by its name
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, src, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		p := path.Join(modulePath, path.Dir(name))
		imports[p] = append(imports[p], importPaths(t, parsed.Imports)...)
	})
	var packages []pkg
	for p, list := range imports {
		slices.Sort(list)
		packages = append(packages, pkg{p, slices.Compact(list)})
	}
	slices.SortFunc(packages, func(a, b pkg) int { return strings.Compare(a.path, b.path) })
	return packages
}

// writeModule writes a go.mod that takes the core from the repository.
func writeModule(t *testing.T, dir, root, name string) {
	t.Helper()
	goVersion := goModField(t, filepath.Join(root, "go.mod"), "go")
	writeFile(t, filepath.Join(dir, "go.mod"), fmt.Sprintf("module %s\n\ngo %s\n\nrequire %s v0.0.0\n\nreplace %[3]s => %s\n",
		name, goVersion, modulePath, strconv.Quote(filepath.ToSlash(root))))
}

// goModField returns the first word after a directive of a go.mod.
func goModField(t *testing.T, file, directive string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + directive + `[ \t]+(\S+)`).FindStringSubmatch(readFile(t, file))
	if m == nil {
		t.Fatalf("%s has no %s line", file, directive)
	}
	return m[1]
}

func readFile(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func writeFile(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func importPaths(t *testing.T, specs []*ast.ImportSpec) []string {
	t.Helper()
	var paths []string
	for _, s := range specs {
		p, err := strconv.Unquote(s.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, p)
	}
	return paths
}

package scaffold

import (
	"bytes"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
	"mvdan.cc/gofumpt/format"
)

func config(t *testing.T, name, broker string) Config {
	t.Helper()
	origin, err := FindOrigin(filepath.Join("..", "..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return Config{Dir: filepath.Join(t.TempDir(), name), Broker: broker, Gostream: origin}
}

// What is written is formatted, and the files of one project agree on what it is called.
func TestFilesAreFormatted(t *testing.T) {
	t.Parallel()
	for _, broker := range Brokers() {
		t.Run(broker, func(t *testing.T) {
			t.Parallel()
			c := config(t, "my.shop-2", broker)
			files, err := render(c)
			if err != nil {
				t.Fatal(err)
			}
			for name, text := range files {
				if bytes.Contains(text, []byte("{{")) && !bytes.Contains(text, []byte("[]Order{{")) || bytes.Contains(text, []byte("<no value>")) {
					t.Errorf("%s is not rendered:\n%s", name, text)
				}
				if !bytes.HasSuffix(text, []byte("\n")) || bytes.HasSuffix(text, []byte("\n\n")) {
					t.Errorf("%s does not end with one line end", name)
				}
				for i, line := range strings.Split(string(text), "\n") {
					if strings.TrimRight(line, " \t") != line {
						t.Errorf("%s:%d ends with white space", name, i+1)
					}
				}
				if filepath.Ext(name) != ".go" {
					continue
				}
				formatted, err := format.Source(text, format.Options{LangVersion: "go1.26", ModulePath: "my.shop-2"})
				if err != nil {
					t.Errorf("%s: %v", name, err)
				} else if !bytes.Equal(text, formatted) {
					t.Errorf("%s is not as gofumpt has it:\n%s", name, formatted)
				}
				if _, err := parser.ParseFile(token.NewFileSet(), name, text, parser.SkipObjectResolution); err != nil {
					t.Error(err)
				}
			}
			for name, want := range map[string]string{
				"app.go":     `gostream.New("my.shop-2", "0.1.0"`,
				"README.md":  "# my.shop-2\n",
				"Dockerfile": `ENTRYPOINT ["/my.shop-2"]`,
				".gitignore": "/my.shop-2\n",
				"go.mod":     "module my.shop-2\n",
			} {
				if !bytes.Contains(files[name], []byte(want)) {
					t.Errorf("%s has no %q:\n%s", name, want, files[name])
				}
			}
		})
	}
}

// Every replaced module is there, and nothing is replaced that the project does not need.
func TestReplaceLines(t *testing.T) {
	t.Parallel()
	for broker, others := range map[string][]string{"memory": nil, "kafka": {"brokers/kafka"}, "nats": {"brokers/nats"}, "nats-embedded": {"brokers/nats"}} {
		files, err := render(config(t, "demo", broker))
		if err != nil {
			t.Fatal(err)
		}
		f, err := modfile.Parse("go.mod", files["go.mod"], nil)
		if err != nil {
			t.Fatal(err)
		}
		var brokers []string
		replaced := map[string]bool{}
		for _, r := range f.Replace {
			replaced[r.Old.Path] = true
			if _, err := os.Stat(filepath.Join(r.New.Path, "go.mod")); err != nil {
				t.Errorf("%s: %v", broker, err)
			}
			if below := strings.TrimPrefix(r.Old.Path, corePath+"/"); strings.HasPrefix(below, "brokers/") {
				brokers = append(brokers, below)
			}
		}
		if !slices.Equal(brokers, others) {
			t.Errorf("%s: the brokers %q are replaced, want %q", broker, brokers, others)
		}
		for _, r := range f.Require {
			if !replaced[r.Mod.Path] {
				t.Errorf("%s requires %s, which is not replaced", broker, r.Mod.Path)
			}
		}
	}
}

// Of a release nothing is replaced.
func TestRelease(t *testing.T) {
	t.Parallel()
	c := config(t, "demo", "kafka")
	c.Gostream = Origin{Version: "v1.2.3"}
	files, err := render(c)
	if err != nil {
		t.Fatal(err)
	}
	goMod := string(files["go.mod"])
	for _, want := range []string{"github.com/gostream/gostream v1.2.3", "gostream/cli v1.2.3", "gostream/brokers/kafka v1.2.3"} {
		if !strings.Contains(goMod, want) {
			t.Errorf("go.mod has no %q:\n%s", want, goMod)
		}
	}
	if strings.Contains(goMod, "replace") {
		t.Errorf("go.mod replaces something:\n%s", goMod)
	}
	for _, name := range []string{"Dockerfile", "README.md"} {
		if strings.Contains(string(files[name]), "vendor") {
			t.Errorf("%s speaks of vendoring:\n%s", name, files[name])
		}
	}
	for version, want := range map[string]bool{
		"v1.2.3": true, "v0.1.0-rc.1": true, "(devel)": false, "": false,
		"v0.0.0-20260918054303-01f206a7e32c": false, "v1.2.3+dirty": false, "v1.2.4-0.20260918054303-01f206a7e32c+dirty": false,
	} {
		if isRelease(version) != want {
			t.Errorf("%q is a release: %v, want %v", version, !want, want)
		}
	}
}

// Without a flag the checkout is the one that the tool was built from.
func TestFindOrigin(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs(filepath.Join("..", "..", "..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-trimpath", Value: "true"}) {
		t.Skip("built with -trimpath")
	}
	got, err := FindOrigin("")
	if want := (Origin{Checkout: root}); err != nil || got != want {
		t.Errorf("FindOrigin: %+v, %v; want %+v", got, err, want)
	}
}

// A write that fails leaves nothing, and what is there is never touched.
func TestWriteLeavesNothing(t *testing.T) {
	t.Parallel()
	c := config(t, "demo", "nats")
	c.Gostream.Checkout = t.TempDir() // without the modules
	if err := Write(c); err == nil || !strings.Contains(err.Error(), "is not complete") {
		t.Errorf("Write: %v", err)
	}
	assertEmpty(t, filepath.Dir(c.Dir))
	// In the middle: the last of these cannot be written.
	if err := writeAll(c.Dir, map[string][]byte{"a": nil, "no/folder": nil}); err == nil {
		t.Error("a file in a folder that is not there was written")
	}
	assertEmpty(t, filepath.Dir(c.Dir))

	c = config(t, "demo", "nats")
	if err := os.Mkdir(c.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Write(c); err != nil {
		t.Errorf("Write into an empty folder: %v", err)
	}
	if err := Write(c); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("Write for the second time: %v", err)
	}
	entries, err := os.ReadDir(filepath.Dir(c.Dir))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside the project there is %v, %v", entries, err)
	}
}

func assertEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("in %s there is %v, %v", dir, entries, err)
	}
}

func TestIdent(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"my-shop_2": "my-shop_2", "my.shop~x": "my-shop-x"} {
		if got := ident(name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for name, ok := range map[string]bool{
		"demo": true, "my-service": true, "my.service": true, "v2": true, "Shop": true,
		"-demo": false, "my service": false, ".demo": false, "demo.": false, "größe": false, "a:b": false, "con": false, "net": false, "log": false,
		"main": false, "all": false, "tool": false, "work": false,
	} {
		c := config(t, name, "memory")
		if err := c.Check(); (err == nil) != ok {
			t.Errorf("%s: %v", name, fmt.Sprint(err))
		}
	}
}

// What "go build" leaves in the folder is called by the module path, not by the folder.
func TestBinaryIsIgnored(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{"": "demo", "example.com/shop": "shop", "example.com/shop/v2": "shop"} {
		c := config(t, "demo", "memory")
		c.Module = path
		if err := Write(c); err != nil {
			t.Fatal(err)
		}
		for file, line := range map[string]string{".gitignore": "/" + want, ".dockerignore": want} {
			text, err := os.ReadFile(filepath.Join(c.Dir, file))
			if err != nil || !slices.Contains(strings.Split(string(text), "\n"), line) {
				t.Errorf("module %q: %s has no line %s: %q, %v", path, file, line, text, err)
			}
		}
	}
}

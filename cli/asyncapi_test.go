package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gostream/gostream/asyncapi"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/cli"
	"github.com/gostream/gostream/memory"
)

func TestAsyncAPIGen(t *testing.T) {
	t.Parallel()
	app, _ := bigShop()
	opts := []cli.Option{cli.AsyncAPIOptions(asyncapi.Title("The shop"), asyncapi.Version("3.1.0"))}
	gen := func(args ...string) outcome {
		return command{app: app, args: append([]string{"asyncapi", "gen"}, args...), opts: opts}.run(t)
	}
	var doc struct {
		AsyncAPI string
		Info     struct{ Title, Version string }
		Channels map[string]any
	}
	got := gen()
	got.want(t, 0, "{", "")
	if err := json.Unmarshal([]byte(got.out), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.AsyncAPI != "3.1.0" || doc.Info.Title != "The shop" || doc.Info.Version != "1.4.0" || len(doc.Channels) == 0 {
		t.Errorf("the document is %+v", doc)
	}
	gen("--version", "3.0.0").want(t, 0, `"asyncapi": "3.0.0"`, "")
	gen("--format", "yaml").want(t, 0, "asyncapi: \"3.1.0\"\n", "")
	gen("--version", "2.6.0").want(t, 2, "", "error: --version \"2.6.0\": it must be 3.0.0 or 3.1.0\n")
	gen("--format", "xml").want(t, 2, "", "error: --format \"xml\": it must be json or yaml\n")
	opts = append(opts, cli.AsyncAPIOptions(asyncapi.Server("", broker.ServerSpec{})))
	gen().want(t, 2, "", "the name is empty\n  - ")
}

func TestAsyncAPIOutput(t *testing.T) {
	t.Parallel()
	app := newShop(memory.New())
	dir := t.TempDir()
	file, link := filepath.Join(dir, "shop.yaml"), filepath.Join(dir, "link.yaml")
	gen := func(output string) outcome {
		return call(t, app, "asyncapi", "gen", "--format", "yaml", "--output", output)
	}
	want := call(t, app, "asyncapi", "gen", "--format", "yaml").out

	check := func(mode os.FileMode) {
		t.Helper()
		got, err := os.ReadFile(file)
		if err != nil || string(got) != want {
			t.Errorf("the file holds %q, %v", got, err)
		}
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != mode {
			t.Errorf("its mode is %v, %v; want %v", info.Mode(), err, mode)
		}
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), ".") {
				t.Errorf("%s is left behind", e.Name())
			}
		}
	}
	gen(file).want(t, 0, "", "")
	check(0o644)

	// One that is there keeps its mode, and a link to it stays.
	if err := os.WriteFile(file, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	gen(link).want(t, 0, "", "")
	check(0o600)
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info.Mode(), err)
	}

	gen(filepath.Join(dir, "none", "shop.yaml")).want(t, 1, "", "error: write the document: ")
	gen(dir).want(t, 1, "", "error: write the document: ")
	gen(os.DevNull).want(t, 0, "", "")
}

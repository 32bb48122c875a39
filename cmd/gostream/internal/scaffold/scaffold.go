// Package scaffold writes the project that "gostream new" makes.
package scaffold

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"golang.org/x/mod/module"
)

// DefaultBroker needs no server, and other processes can publish to it.
const DefaultBroker = "nats-embedded"

// needs says which module of a broker a project requires beside the core and cli; "" where
// the core has the broker.
var needs = map[string]string{
	"memory":        "",
	"nats":          "brokers/nats",
	"nats-embedded": "brokers/nats",
	"kafka":         "brokers/kafka",
}

// Brokers are the brokers that there are templates for.
func Brokers() []string { return []string{"memory", "nats", "nats-embedded", "kafka"} }

// all: so that nothing is left out for its name.
//
//go:embed all:templates
var templates embed.FS

// Config says what [Write] writes.
type Config struct {
	// Dir is the folder of the project: its last element is the project's name. It must
	// not exist, or be empty. Its parent must exist.
	Dir string
	// Module is the module path; "" is the name.
	Module string
	// Broker is one of [Brokers].
	Broker string
	// Gostream is where gostream comes from.
	Gostream Origin
}

// project is what the templates see.
type project struct {
	Name, Ident, Broker, DefaultBroker string
	// Binary is what "go build" calls the program.
	Binary string
	// Go is the version of the image to build with.
	Go string
	// Replaced: gostream comes from a checkout.
	Replaced bool
}

// Check reports every mistake in c, joined. It writes nothing.
func (c Config) Check() error {
	var found []error
	name := filepath.Base(c.Dir)
	if err := checkName(name); err != nil {
		found = append(found, err)
	} else if err := module.CheckImportPath(c.module()); err != nil {
		found = append(found, fmt.Errorf("--module %q is no module path: take one such as example.com/%s", c.Module, name))
	} else if slices.Contains(reserved, c.module()) {
		found = append(found, fmt.Errorf("%q means something else to the go command: set a module path, such as --module example.com/%s", c.module(), name))
	} else if _, standard := needsOwnPath(c.module()); standard {
		found = append(found, fmt.Errorf("%q is a package of the standard library: set a module path, such as --module example.com/%s", c.module(), name))
	}
	if !slices.Contains(Brokers(), c.Broker) {
		found = append(found, fmt.Errorf("--broker %q is none: take one of %s", c.Broker, strings.Join(Brokers(), ", ")))
	}
	if err := checkDir(c.Dir); err != nil {
		found = append(found, err)
	}
	return errors.Join(found...)
}

func (c Config) module() string {
	if c.Module != "" {
		return c.Module
	}
	return filepath.Base(c.Dir)
}

// checkName reports a name that cannot be an element of a module path.
func checkName(name string) error {
	if strings.ContainsAny(name, `/\`) || strings.HasPrefix(name, "-") || strings.HasPrefix(name, ".") || module.CheckImportPath(name) != nil {
		return fmt.Errorf("the name %q cannot be part of a module path: take letters, digits, '-', '_' and '.', such as my-service", name)
	}
	return nil
}

// needsOwnPath reports a module path that is a package of the standard library: go takes
// it for that.
func needsOwnPath(path string) (string, bool) {
	first, _, _ := strings.Cut(path, "/")
	return first, slices.Contains(standard, first)
}

// reserved are module paths that the go command takes for something else: a package that
// no test can import, and words for sets of packages.
var reserved = []string{"all", "main", "tool", "work"}

// standard are the first elements of the standard library's packages.
var standard = []string{
	"archive", "bufio", "builtin", "bytes", "cmd", "cmp", "compress", "container", "context", "crypto",
	"database", "debug", "embed", "encoding", "errors", "expvar", "flag", "fmt", "go", "hash", "html", "image", "index",
	"internal", "io", "iter", "log", "maps", "math", "mime", "net", "os", "path", "plugin", "reflect", "regexp",
	"runtime", "slices", "sort", "std", "strconv", "strings", "structs", "sync", "syscall", "testing", "text", "time",
	"unicode", "unique", "unsafe", "vendor", "weak",
}

// checkDir reports a folder that has something in it, and a parent that is none.
func checkDir(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		parent := filepath.Dir(dir)
		if info, err := os.Stat(parent); err != nil || !info.IsDir() {
			return fmt.Errorf("there is no folder %s to make the project in", parent)
		}
		return nil
	case err != nil:
		return fmt.Errorf("%s is there and is no folder: take another name", dir)
	case len(entries) > 0:
		return fmt.Errorf("the folder %s is there and not empty: take another name, or empty it", dir)
	}
	return nil
}

// Write writes the project, all of it or nothing: into a folder beside, which is renamed
// in the end. It runs no command.
func Write(c Config) error {
	if err := c.Check(); err != nil {
		return err
	}
	files, err := render(c)
	if err != nil {
		return err
	}
	return writeAll(c.Dir, files)
}

// writeAll makes the folder with the files, or nothing.
func writeAll(dir string, files map[string][]byte) (err error) {
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".gostream-new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(tmp, name), content, 0o644); err != nil {
			return err
		}
	}
	if err := os.Chmod(tmp, 0o755); err != nil { // MkdirTemp's is 0700
		return err
	}
	// An empty folder is in the way of a rename on some systems.
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(tmp, dir)
}

// render returns the files of the project by their names.
func render(c Config) (map[string][]byte, error) {
	name := filepath.Base(c.Dir)
	goMod, goSum, goVersion, err := c.Gostream.modules(c.module(), needs[c.Broker])
	if err != nil {
		return nil, err
	}
	p := project{
		Name: name, Ident: ident(name), Broker: c.Broker, DefaultBroker: DefaultBroker,
		Binary: binary(c.module()),
		Go:     goVersion, Replaced: c.Gostream.Checkout != "",
	}
	files := map[string][]byte{"go.mod": goMod}
	if len(goSum) > 0 {
		files["go.sum"] = goSum
	}
	for _, folder := range []string{"base", c.Broker} {
		entries, err := templates.ReadDir(path.Join("templates", folder))
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			content, err := execute(path.Join("templates", folder, e.Name()), p)
			if err != nil {
				return nil, err
			}
			files[target(e.Name())] = content
		}
	}
	return files, nil
}

// target is the name of the file that a template makes. Templates have no names with a
// dot before them, which many tools pass over.
func target(template string) string {
	name := strings.TrimSuffix(template, ".tmpl")
	switch name {
	case "gitignore", "dockerignore":
		return "." + name
	}
	return name
}

func execute(name string, p project) ([]byte, error) {
	text, err := templates.ReadFile(name)
	if err != nil {
		return nil, err
	}
	t, err := template.New(name).Option("missingkey=error").Parse(string(text))
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, p); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// binary is what "go build" calls the program of a module: the last element of its path
// that is no major version.
func binary(modulePath string) string {
	if prefix, _, ok := module.SplitPathVersion(modulePath); ok {
		modulePath = prefix
	}
	return path.Base(modulePath)
}

// ident makes of a project's name one for streams, consumers and groups, in which NATS
// allows no dots.
func ident(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		}
		return '-'
	}, name)
}

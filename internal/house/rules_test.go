package house

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// modulePath is the core's. Packages of ours are named by what follows it, the
// root package by a dot.
const modulePath = "github.com/gostream/gostream"

// A rule says what a package may import outside of its tests. Patterns are
// package names as above; one that ends in /... is a folder and all below it, and
// a * is one path element, the same on both sides.
type rule struct {
	packages string
	ours     []string // packages of ours
	others   others   // packages that are neither ours nor in the standard library
	words    string   // completes "X may import …"
}

type others int

const (
	none     others = iota // the standard library alone
	client                 // what the table of clients names
	anything               // a module of its own may need anything
)

// clients names the client library of each broker module, as prefixes of import
// paths.
var clients = map[string][]string{
	"brokers/kafka": {"github.com/twmb/franz-go"},
	"brokers/nats":  {"github.com/nats-io/nats.go"},
}

// rules holds for the packages that there are; the first that matches decides.
var rules = []rule{
	{".", []string{"broker", "internal/..."}, none, "package broker and internal packages"},
	{"broker", nil, none, "nothing of ours"},
	{"internal/...", []string{"broker", "internal/..."}, none, "package broker and internal packages"},
	{"memory", []string{"broker", "internal/..."}, none, "package broker and internal packages"},
	{"brokertest", []string{"broker", "internal/..."}, none, "package broker and internal packages (memory in its own tests only)"},
	{"gostreamtest", []string{".", "broker", "memory", "internal/..."}, none, "the root, broker, memory and internal packages"},
	{"ops", []string{"."}, none, "the root package only"},
	{"brokers/*", []string{"broker"}, client, "package broker and its client library only"},
	{"brokers/*/...", []string{"broker", "brokers/*/..."}, anything, "package broker and its own broker's packages"},
	{"codec/...", []string{".", "codec/..."}, anything, "the root package and codecs"},
	{"otelgostream/...", []string{".", "broker", "otelgostream/..."}, anything, "the root package and broker"},
	{"asyncapi/viewer", nil, none, "nothing of ours"},
	{"asyncapi/...", []string{".", "broker", "asyncapi/..."}, anything, "the root package and broker"},
	{"cli/...", []string{".", "broker", "ops", "otelgostream/...", "asyncapi/...", "cli/..."}, anything, "what lies below it: the root, broker, ops, otelgostream, asyncapi"},
	{"cmd/*/...", []string{".", "broker", "ops", "otelgostream/...", "asyncapi/...", "cli/...", "cmd/*/..."}, anything, "what lies below it: the root, broker, ops, otelgostream, asyncapi, cli"},
	{"examples/...", public, anything, "what users may import: nothing internal, no tools"},
	{"benchmarks/...", public, anything, "what users may import: nothing internal, no tools"},
	{"tools/...", nil, anything, "nothing of ours"},
}

var public = []string{
	".", "broker", "memory", "brokertest", "gostreamtest", "ops", "brokers/...", "codec/...",
	"otelgostream/...", "asyncapi/...", "cli/...", "examples/...", "benchmarks/...",
}

// neverReached names what a package must not reach, neither itself nor through
// what it imports. These may be packages of the standard library.
var neverReached = []struct{ packages, reached string }{
	{".", "memory"},
	{".", "asyncapi/..."},
	{".", "otelgostream/..."},
	{".", "testing/..."},
	{"broker", "testing/..."},
}

// A pkg is a package by its import path, with what it imports.
type pkg struct {
	path    string
	imports []string
}

// short returns the name of a package of ours.
func short(importPath string) (name string, ours bool) {
	if importPath == modulePath {
		return ".", true
	}
	return strings.CutPrefix(importPath, modulePath+"/")
}

// called is how a message names a package.
func called(importPath string) string {
	switch name, ours := short(importPath); {
	case !ours:
		return importPath
	case name == ".":
		return "the root package"
	default:
		return "package " + name
	}
}

// importViolations returns a sentence for each import of p that breaks a rule.
func importViolations(p pkg) []string {
	name, ours := short(p.path)
	if !ours {
		return []string{fmt.Sprintf("%s is no package of module %s", p.path, modulePath)}
	}
	i := slices.IndexFunc(rules, func(r rule) bool { return match(r.packages, name) })
	if i < 0 {
		return []string{fmt.Sprintf("no rule says what %s may import: add one to the table of rules", called(p.path))}
	}
	var broken []string
	for _, imported := range p.imports {
		if !allowed(rules[i], name, imported) {
			broken = append(broken, fmt.Sprintf("%s imports %s, but it may import %s", called(p.path), called(imported), rules[i].sentence()))
		}
	}
	return broken
}

func (r rule) sentence() string {
	if r.others == none {
		return r.words + "; beyond that the standard library alone"
	}
	return r.words
}

func allowed(r rule, name, imported string) bool {
	if other, ours := short(imported); ours {
		return slices.ContainsFunc(r.ours, func(pattern string) bool {
			return match(bind(pattern, name), other)
		})
	}
	if isStandard(imported) || r.others == anything {
		return true
	}
	return r.others == client && slices.ContainsFunc(clients[name], func(prefix string) bool {
		return imported == prefix || strings.HasPrefix(imported, prefix+"/")
	})
}

// reachViolations returns a sentence for each package among deps, all that p
// reaches, that p must not reach.
func reachViolations(p pkg) []string {
	name, _ := short(p.path)
	var broken []string
	for _, never := range neverReached {
		if !match(never.packages, name) {
			continue
		}
		for _, dep := range p.imports {
			reached := dep
			if ours, ok := short(dep); ok {
				reached = ours
			} else if !isStandard(dep) {
				continue
			}
			if match(never.reached, reached) {
				broken = append(broken, fmt.Sprintf("%s reaches %s through its imports, but it must not depend on %s", called(p.path), called(dep), never.reached))
			}
		}
	}
	return broken
}

// match reports whether name fits pattern.
func match(pattern, name string) bool {
	folder, below := strings.CutSuffix(pattern, "/...")
	want, got := strings.Split(folder, "/"), strings.Split(name, "/")
	if len(got) < len(want) || !below && len(got) != len(want) {
		return false
	}
	for i := range want {
		if want[i] != "*" && want[i] != got[i] {
			return false
		}
	}
	return true
}

// bind replaces each * in pattern by the element of name at that place.
func bind(pattern, name string) string {
	elements, of := strings.Split(pattern, "/"), strings.Split(name, "/")
	for i := range elements {
		if elements[i] == "*" && i < len(of) {
			elements[i] = of[i]
		}
	}
	return strings.Join(elements, "/")
}

// isStandard reports whether a package belongs to the standard library: no
// first element of a module path lacks a dot.
func isStandard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".")
}

// workspaceViolations compares the folders that hold a go.mod with the use lines
// of go.work. The module of tools stays out.
func workspaceViolations(modules, uses []string) []string {
	var broken []string
	for _, m := range modules {
		if m != "tools" && !slices.Contains(uses, m) {
			broken = append(broken, fmt.Sprintf("module %s is not in go.work: add a use line", m))
		}
	}
	for _, u := range uses {
		switch {
		case u == "tools":
			broken = append(broken, "tools is in go.work: its graph would move the versions of the others")
		case !slices.Contains(modules, u):
			broken = append(broken, fmt.Sprintf("go.work uses %s, where there is no go.mod", u))
		}
	}
	return broken
}

func TestImportRules(t *testing.T) {
	t.Parallel()
	const kafkaClient = "github.com/twmb/franz-go/pkg/kgo"
	for _, tt := range []struct {
		pkg     string // of ours
		imports string // of ours, unless it has a dot in its first element or begins with std:
		broken  bool
	}{
		{".", "broker", false},
		{".", "internal/lanes", false},
		{".", "std:log/slog", false},
		{".", "memory", true},
		{".", "asyncapi", true},
		{".", "otelgostream", true},
		{".", "ops", true},
		{".", "brokers/nats", true},
		{".", kafkaClient, true},
		{"broker", "std:context", false},
		{"broker", ".", true},
		{"broker", "internal/lanes", true},
		{"broker", "example.com/x", true},
		{"internal/lanes", "broker", false},
		{"internal/lanes", "internal/clock", false},
		{"internal/lanes/deep", "internal/clock", false},
		{"internal/lanes", ".", true},
		{"internal/lanes", "memory", true},
		{"internal/lanes", "example.com/x", true},
		{"memory", "broker", false},
		{"memory", "internal/lanes", false},
		{"memory", ".", true},
		{"memory", "example.com/x", true},
		{"brokertest", "broker", false},
		{"brokertest", "std:testing", false},
		{"brokertest", "memory", true},
		{"brokertest", ".", true},
		{"gostreamtest", ".", false},
		{"gostreamtest", "memory", false},
		{"gostreamtest", "brokers/nats", true},
		{"ops", ".", false},
		{"ops", "std:net/http", false},
		{"ops", "memory", true},
		{"ops", "asyncapi", true},
		{"ops", "example.com/x", true},
		{"brokers/kafka", "broker", false},
		{"brokers/kafka", kafkaClient, false},
		{"brokers/kafka", ".", true},
		{"brokers/kafka", "internal/lanes", true},
		{"brokers/kafka", "memory", true},
		{"brokers/kafka", "github.com/nats-io/nats.go", true},
		{"brokers/kafka", "github.com/twmb/franz-goat", true},
		{"brokers/unknown", "example.com/x", true},
		{"brokers/nats/embedded", "brokers/nats", false},
		{"brokers/nats/embedded", "example.com/server", false},
		{"brokers/nats/embedded", "brokers/kafka", true},
		{"brokers/nats/embedded", ".", true},
		{"codec/cbor", ".", false},
		{"codec/cbor", "example.com/cbor", false},
		{"codec/cbor", "memory", true},
		{"otelgostream", "broker", false},
		{"otelgostream", "example.com/otel", false},
		{"otelgostream", "asyncapi", true},
		{"otelgostream", "internal/lanes", true},
		{"asyncapi", ".", false},
		{"asyncapi/viewer", "asyncapi", true},
		{"asyncapi", "cli", true},
		{"cli", "ops", false},
		{"cli", "asyncapi/viewer", false},
		{"cli", "memory", true},
		{"cli", "cmd/gostream", true},
		{"cmd/gostream", "cli", false},
		{"cmd/gostream", "cmd/gostream/scaffold", false},
		{"cmd/gostream/scaffold", "asyncapi", false},
		{"cmd/gostream", "cmd/other", true},
		{"cmd/gostream", "internal/lanes", true},
		{"examples/quickstart", "memory", false},
		{"examples/quickstart", "internal/lanes", true},
		{"benchmarks", "example.com/peer", false},
		{"benchmarks", "internal/lanes", true},
		{"tools", "broker", true},
		{"newcomer", "std:fmt", true},
	} {
		imports := modulePath + "/" + tt.imports
		if std, ok := strings.CutPrefix(tt.imports, "std:"); ok {
			imports = std
		} else if tt.imports == "." {
			imports = modulePath
		} else if !isStandard(tt.imports) {
			imports = tt.imports
		}
		path := modulePath + "/" + tt.pkg
		if tt.pkg == "." {
			path = modulePath
		}
		got := importViolations(pkg{path, []string{imports}})
		if tt.broken != (len(got) == 1) {
			t.Errorf("%s imports %s: reported %q", tt.pkg, tt.imports, got)
			continue
		}
		if tt.broken && tt.pkg != "newcomer" && !strings.HasPrefix(got[0], called(path)+" imports "+called(imports)+", but it may import ") {
			t.Errorf("%s imports %s: the message %q does not name both and the rule", tt.pkg, tt.imports, got[0])
		}
	}
	if got := importViolations(pkg{"example.com/x", nil}); len(got) != 1 {
		t.Errorf("a package that is not ours: reported %q", got)
	}
}

// Every rule of the table is one that can be broken.
func TestEveryRuleCanFail(t *testing.T) {
	t.Parallel()
	for _, r := range rules {
		name := strings.ReplaceAll(strings.Replace(r.packages, "/...", "/x", 1), "*", "x")
		path := strings.TrimSuffix(modulePath+"/"+name, "/.")
		if len(importViolations(pkg{path, []string{modulePath + "/nobody/may/import"}})) != 1 {
			t.Errorf("the rule for %s allows an import of any package of ours", r.packages)
		}
		if strange := importViolations(pkg{path, []string{"example.com/x"}}); (len(strange) == 1) != (r.others != anything) {
			t.Errorf("the rule for %s answers a third party's package with %q", r.packages, strange)
		}
	}
}

func TestReachRules(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		path, dep string
		broken    bool
	}{
		{modulePath, "log/slog", false},
		{modulePath, modulePath + "/broker", false},
		{modulePath, modulePath + "/memory", true},
		{modulePath, modulePath + "/asyncapi/viewer", true},
		{modulePath, modulePath + "/otelgostream", true},
		{modulePath, "testing", true},
		{modulePath, "testing/synctest", true},
		{modulePath, "example.com/testing", false}, // the import rules see this one
		{modulePath + "/broker", "testing", true},
		{modulePath + "/brokertest", "testing", false},
		{modulePath + "/gostreamtest", modulePath + "/memory", false},
	} {
		got := reachViolations(pkg{tt.path, []string{"context", tt.dep}})
		if tt.broken != (len(got) == 1) {
			t.Errorf("%s reaches %s: reported %q", tt.path, tt.dep, got)
		}
	}
}

func TestWorkspaceRules(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		modules, uses []string
		broken        string
	}{
		{"complete", []string{".", "brokers/nats", "tools"}, []string{".", "brokers/nats"}, ""},
		{"forgotten", []string{".", "brokers/nats"}, []string{"."}, "module brokers/nats is not in go.work"},
		{"the root forgotten", []string{".", "examples"}, []string{"examples"}, "module . is not in go.work"},
		{"tools", []string{".", "tools"}, []string{".", "tools"}, "tools is in go.work"},
		{"gone", []string{"."}, []string{".", "old"}, "go.work uses old"},
	} {
		got := workspaceViolations(tt.modules, tt.uses)
		if tt.broken == "" && len(got) != 0 || tt.broken != "" && (len(got) != 1 || !strings.HasPrefix(got[0], tt.broken)) {
			t.Errorf("%s: reported %q, want %q", tt.name, got, tt.broken)
		}
	}
}

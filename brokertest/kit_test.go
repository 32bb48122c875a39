package brokertest_test

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokertest"
	"github.com/gostream/gostream/memory"
)

// The table of checks is complete, and the places that it names exist.
func TestChecks(t *testing.T) {
	t.Parallel()
	declared := declaredIn(t, "../broker")
	name := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*/[a-z0-9]+(-[a-z0-9]+)*$`)
	place := regexp.MustCompile(`broker\.([A-Z]\w*)`)
	seen := make(map[string]bool)
	var groups []string
	for _, c := range brokertest.Checks() {
		if seen[c.Name] {
			t.Errorf("%s is there twice", c.Name)
		}
		seen[c.Name] = true
		if !name.MatchString(c.Name) || !strings.HasPrefix(c.Name, c.Group+"/") {
			t.Errorf("%q in the group %q is no name for a check", c.Name, c.Group)
		}
		if len(groups) == 0 || groups[len(groups)-1] != c.Group {
			groups = append(groups, c.Group)
		}
		if len(c.Rule) < 20 || strings.HasSuffix(c.Rule, ".") {
			t.Errorf("%s: %q is no sentence for a rule", c.Name, c.Rule)
		}
		places := place.FindAllStringSubmatch(c.Where, -1)
		if len(places) == 0 && !strings.Contains(c.Where, "package broker") {
			t.Errorf("%s: %q names no place in package broker", c.Name, c.Where)
		}
		for _, p := range places {
			if !declared[p[1]] {
				t.Errorf("%s: there is no broker.%s", c.Name, p[1])
			}
		}
	}
	for i, g := range groups {
		for _, other := range groups[:i] {
			if g == other {
				t.Errorf("the checks of the group %s are not together", g)
			}
		}
	}
	if last := groups[len(groups)-1]; last != "leaks" {
		t.Errorf("the last group is %s, want leaks", last)
	}
}

// declaredIn returns the exported names of the package in dir.
func declaredIn(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files in %s: %v", dir, err)
	}
	names := make(map[string]bool)
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				names[d.Name.Name] = true
			case *ast.GenDecl:
				for _, s := range d.Specs {
					switch s := s.(type) {
					case *ast.TypeSpec:
						names[s.Name.Name] = true
					case *ast.ValueSpec:
						for _, n := range s.Names {
							names[n.Name] = true
						}
					}
				}
			}
		}
	}
	return names
}

// A suite can repeat against one server, and two can run at once.
func TestRepeatAndTwoAtOnce(t *testing.T) {
	t.Parallel()
	h := memoryHarness()
	h.Quiet, h.Bulk = 50*time.Millisecond, 10_000
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			errs, err := brokertest.RunAll(h)
			if err != nil {
				t.Error(err)
			}
			for name, err := range errs {
				if _, na := brokertest.IsInapplicable(err); err != nil && !na {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	wg.Wait()
	for _, name := range []string{"settlement/ack", "order/competing", "readiness/backlog"} {
		if err := brokertest.RunCheck(name, h); err != nil {
			t.Errorf("once more: %v", err)
		}
	}
}

func TestHarnessMistakes(t *testing.T) {
	t.Parallel()
	h := brokertest.Harness{Quiet: -1, Skip: map[string]string{"settlement/none": "why not", "shape": ""}}
	err := brokertest.RunCheck("shape/payload", h)
	if err == nil {
		t.Fatal("a harness with mistakes was accepted")
	}
	for _, want := range []string{"Harness.New is nil", "Harness.Source is nil", "negative", `"settlement/none"`, `no reason for "shape"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not tell of %q:\n%v", want, err)
		}
	}
	if err := brokertest.RunCheck("shape/none", memoryHarness()); err == nil {
		t.Error("a check that does not exist was run")
	}
}

func TestSkip(t *testing.T) {
	t.Parallel()
	h := memoryHarness()
	h.Skip = map[string]string{"settlement/ack": "there is a ticket", "shape": "known to be odd"}
	for name, want := range map[string]string{"settlement/ack": "there is a ticket", "shape/key": "known to be odd"} {
		if err := brokertest.RunCheck(name, h); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want the reason %q", name, err, want)
		}
	}
}

// stubborn is a broker whose Connect does what its function does.
type stubborn struct {
	*memory.Broker
	connect func() error
}

func (s stubborn) Connect(context.Context) error { return s.connect() }

// A failure says the rule, what was seen and where the rule is written.
func TestFailure(t *testing.T) {
	t.Parallel()
	cause := errors.New("the cable is out")
	h := memoryHarness()
	h.New = func() broker.Broker { return stubborn{memory.New(), func() error { return cause }} }
	err := brokertest.RunCheck("shape/payload", h)
	var f *brokertest.Failure
	if !errors.As(err, &f) || !errors.Is(err, cause) || f.Check.Name != "shape/payload" {
		t.Fatalf("the error is %v, want a failure of shape/payload because of %v", err, cause)
	}
	for _, want := range []string{f.Check.Rule, f.Check.Where, "the cable is out"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the failure does not say %q:\n%v", want, err)
		}
	}
}

func TestPanic(t *testing.T) {
	t.Parallel()
	h := memoryHarness()
	h.New = func() broker.Broker { return stubborn{memory.New(), func() error { panic("oh dear") }} }
	if err := brokertest.RunCheck("shape/payload", h); err == nil || !strings.Contains(err.Error(), "panic: oh dear") {
		t.Errorf("the error is %v, want one that tells of the panic", err)
	}
}

// A call that does not return is given up, and a check that does not end is ended by
// its watchdog, with the stacks of its goroutines.
func TestHanging(t *testing.T) {
	t.Parallel()
	never := make(chan struct{})
	defer close(never)
	hang := func() error {
		<-never
		return nil
	}
	h := memoryHarness()
	h.New = func() broker.Broker { return stubborn{memory.New(), hang} }
	h.Timeout, h.Watchdog = 50*time.Millisecond, 10*time.Second
	if err := brokertest.RunCheck("shape/payload", h); err == nil || !strings.Contains(err.Error(), "Connect did not return") {
		t.Errorf("the error is %v, want one that says what did not return", err)
	}
	h.Timeout, h.Watchdog = 2*time.Second, time.Second
	err := brokertest.RunCheck("shape/payload", h)
	if err == nil || !strings.Contains(err.Error(), "did not end within 1s") || !strings.Contains(err.Error(), "stubborn.Connect") {
		t.Errorf("the error is %v, want one of the watchdog with the stack of Connect", err)
	}
}

// What a check opens is closed at its end, targets after all brokers, and an error of
// closing is a failure.
func TestClosing(t *testing.T) {
	t.Parallel()
	h := memoryHarness()
	store := memory.NewStore()
	var mu sync.Mutex
	var open, targets int
	h.New = func() broker.Broker {
		return &counted{memory.New(memory.On(store)), func(d int) {
			mu.Lock()
			defer mu.Unlock()
			open += d
		}, nil}
	}
	h.Publisher = func(_ broker.Source, b broker.Broker) broker.Publisher { return b.(*counted).Broker.Publisher() }
	h.Source = func(_ context.Context, id string) (brokertest.Target, error) {
		mu.Lock()
		defer mu.Unlock()
		targets++
		return brokertest.Target{Source: unwrapping{broker.ByName(id)}, Name: id, Close: func(context.Context) error {
			mu.Lock()
			defer mu.Unlock()
			targets--
			if open != 0 {
				t.Errorf("a target was closed with %d brokers connected", open)
			}
			return nil
		}}, nil
	}
	for _, name := range []string{"shape/payload", "readiness/live", "lifecycle/shutdown-twice"} {
		if err := brokertest.RunCheck(name, h); err != nil {
			t.Error(err)
		}
	}
	if open != 0 || targets != 0 {
		t.Errorf("%d brokers and %d targets are still open", open, targets)
	}

	cause := errors.New("the buffer was not flushed")
	h.New = func() broker.Broker { return &counted{memory.New(), func(int) {}, cause} }
	if err := brokertest.RunCheck("shape/payload", h); !errors.Is(err, cause) {
		t.Errorf("the error is %v, want that of Shutdown at the end of the check", err)
	}
}

// counted counts connected brokers.
type counted struct {
	*memory.Broker
	add  func(int)
	fail error
}

func (c *counted) Connect(ctx context.Context) error {
	err := c.Broker.Connect(ctx)
	if err == nil {
		c.add(1)
	}
	return err
}

func (c *counted) Shutdown(ctx context.Context) error {
	if c.Broker.Health(ctx) == nil {
		c.add(-1)
	}
	return errors.Join(c.Broker.Shutdown(ctx), c.fail)
}

// unwrapping subscribes on the broker that is counted.
type unwrapping struct{ broker.ByName }

func (u unwrapping) Subscribe(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
	return u.ByName.Subscribe(ctx, b.(*counted).Broker)
}

// The report has what was seen, as text and as Markdown.
func TestReport(t *testing.T) {
	t.Parallel()
	h := memoryHarness()
	h.Quiet, h.Bulk = 20*time.Millisecond, 5000
	h.Skip = map[string]string{"leaks": "seen | elsewhere", "concurrency": "seen elsewhere"}
	var r *brokertest.Report
	t.Run("suite", func(t *testing.T) { r = brokertest.Run(t, h) })
	if got, want := len(r.Results()), len(brokertest.Checks()); got != want {
		t.Errorf("the report has %d results, want one of each of %d checks", got, want)
	}
	count := make(map[brokertest.Status]int)
	for _, res := range r.Results() {
		count[res.Status]++
		if (res.Err == nil) != (res.Status == brokertest.Passed) {
			t.Errorf("%s is %s with the error %v", res.Name, res.Status, res.Err)
		}
	}
	if count[brokertest.Failed] > 0 || count[brokertest.Passed] == 0 || count[brokertest.NotApplicable] == 0 || count[brokertest.Skipped] < 2 {
		t.Errorf("the results are %v", count)
	}
	for what, text := range map[string]string{"text": r.String(), "Markdown": r.Markdown()} {
		for _, want := range []string{"delayed nack", "Ordered", "settlement/ack", "not applicable", "seen elsewhere", "Checks: "} {
			if !strings.Contains(text, want) {
				t.Errorf("the %s does not have %q:\n%s", what, want, text)
			}
		}
	}
	for _, want := range []string{"| Redelivers | yes | yes |", "| MaxPayload | no limit known | - |", `seen \| elsewhere`, "|---|---|---|"} {
		if !strings.Contains(r.Markdown(), want) {
			t.Errorf("the Markdown does not have %q:\n%s", want, r.Markdown())
		}
	}
}

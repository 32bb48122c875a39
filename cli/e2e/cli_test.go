package e2e

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/cli"
)

// limit bounds what a test waits for.
const limit = 60 * time.Second

type order struct {
	ID int `json:"id"`
}

// errSold is why an order fails for good.
var errSold = errors.New("sold out")

// shop is a service under test. Its handler refuses orders above 100 while it is closed.
type shop struct {
	mu      sync.Mutex
	closed  bool
	handled []int
	refused int
}

func (s *shop) handle(_ context.Context, o order) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed && o.ID > 100 {
		s.refused++
		return gostream.DeadLetter(errSold)
	}
	s.handled = append(s.handled, o.ID)
	return nil
}

func (s *shop) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.handled)
}

// result is what a command did.
type result struct {
	code     int
	out, err string
}

func call(t *testing.T, app *gostream.App, opts []cli.Option, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var out, errs bytes.Buffer
	code := cli.Run(ctx, app, args, cli.Streams{Out: &out, Err: &errs, Getenv: noEnv}, opts...)
	return result{code, out.String(), errs.String()}
}

func noEnv(string) string { return "" }

// want checks a command.
func (r result) want(t *testing.T, code int, out, errs string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.out, out) || !strings.Contains(r.err, errs) || errs == "" && r.err != "" {
		t.Fatalf("exit code %d, want %d\nout %s\nerr %s\nwant %q and %q", r.code, code, r.out, r.err, out, errs)
	}
}

// runUntil is the command run, until done says so.
func runUntil(t *testing.T, app *gostream.App, opts []cli.Option, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var errs bytes.Buffer
	ended := make(chan int, 1)
	go func() {
		ended <- cli.Run(ctx, app, []string{"run", "--log-level", "warn"}, cli.Streams{Err: &errs, Getenv: noEnv}, opts...)
	}()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case code := <-ended:
			t.Fatalf("run ended with %d: %s", code, errs.String())
		case <-ctx.Done():
			t.Fatal("it takes too long")
		}
	}
	cancel()
	if code := <-ended; code != 0 {
		t.Fatalf("run ended with %d: %s", code, errs.String())
	}
}

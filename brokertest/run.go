package brokertest

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"runtime/pprof"
	"sync"
	"testing"
	"time"

	"github.com/gostream/gostream/broker"
)

// Run runs every check against the broker of h, each as a subtest "group/name" of
// t, one after the other. It logs the report and returns it. A mistake in h ends the
// test at once.
func Run(t *testing.T, h Harness) *Report {
	t.Helper()
	s, err := newSuite(h)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups() {
		t.Run(g.name, func(t *testing.T) {
			for i := range g.checks {
				c := g.checks[i]
				c.group = g.name
				t.Run(c.name, func(t *testing.T) {
					switch r := s.run(&c); r.Status {
					case Failed:
						t.Error(r.Err)
					case Skipped, NotApplicable:
						t.Skip(r.Err)
					}
				})
			}
		})
	}
	s.probe()
	t.Log("\n" + s.report.String())
	return s.report
}

// runCheck runs the one check of that full name and returns nil, a [*Failure], or
// an error that says why there was nothing to try ([*inapplicable], [*omitted]).
func runCheck(name string, h Harness) error {
	s, err := newSuite(h)
	if err != nil {
		return err
	}
	for c := range allChecks {
		if c.fullName() == name {
			return s.run(c).Err
		}
	}
	return fmt.Errorf("brokertest: there is no check %q", name)
}

// runAll runs all checks and returns what runCheck returns for each, by full name.
func runAll(h Harness) (map[string]error, error) {
	s, err := newSuite(h)
	if err != nil {
		return nil, err
	}
	errs := make(map[string]error)
	for c := range allChecks {
		errs[c.fullName()] = s.run(c).Err
	}
	return errs, nil
}

// suite is one run of the kit.
type suite struct {
	h      Harness
	report *Report

	described sync.Once
	source    broker.SourceSpec // of the first source of the harness
	srcErr    error
}

func newSuite(h Harness) (*suite, error) {
	h, err := h.checked()
	if err != nil {
		return nil, err
	}
	return &suite{h: h, report: newReport()}, nil
}

// run runs one check and keeps its result.
func (s *suite) run(c *check) Result {
	begin := time.Now()
	err := s.attempt(c)
	r := Result{Check: c.describe(), Status: Passed, Err: err, Duration: time.Since(begin)}
	var omit *omitted
	switch _, na := isInapplicable(err); {
	case err == nil:
	case na:
		r.Status = NotApplicable
	case errors.As(err, &omit):
		r.Status = Skipped
	default:
		r.Status = Failed
	}
	s.report.add(r)
	return r
}

func (s *suite) attempt(c *check) error {
	for _, name := range []string{c.fullName(), c.group} {
		if reason, ok := s.h.Skip[name]; ok {
			return &omitted{reason}
		}
	}
	limit := s.h.Watchdog
	if c.slow {
		limit *= 5
	}
	err := s.watch(limit, func(e *env) error {
		for _, n := range c.needs {
			why, err := n.missing(e)
			if err != nil {
				return err
			}
			if why != "" {
				return &inapplicable{why}
			}
		}
		return c.run(e)
	})
	if _, na := isInapplicable(err); na || err == nil {
		return err
	}
	return &Failure{Check: c.describe(), Seen: err}
}

// watch runs f with an environment of its own and closes what f opened. When the
// time of the watchdog is over it returns without waiting for f any longer.
func (s *suite) watch(limit time.Duration, f func(*env) error) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	e := newEnv(ctx, s)
	done := make(chan error, 1)
	go pprof.Do(ctx, e.labels(), func(ctx context.Context) {
		e.ctx = ctx
		err := protect(func() error { return f(e) })
		if closing := e.closeAll(); err == nil {
			err = closing
		}
		done <- err
	})
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
	}
	err := fmt.Errorf("the check did not end within %v; its goroutines:\n%s", limit, e.stacks())
	cancel()
	// It may end now, and close what it opened.
	timer.Reset(s.h.Timeout / 2)
	select {
	case <-done:
	case <-timer.C:
	}
	return err
}

// protect turns a panic of f into an error.
func protect(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return f()
}

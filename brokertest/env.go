package brokertest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gostream/gostream/broker"
)

// env is what one check works with. Its methods may be called from several
// goroutines.
type env struct {
	h   Harness
	s   *suite
	ctx context.Context // ends with the check
	id  string

	mu      sync.Mutex
	closers []closer // brokers and subscriptions
	targets []closer // closed after all of these
	lenient bool     // what goes wrong while closing does not matter
}

// closer is something to close at the end of the check.
type closer struct {
	what  string
	close func(ctx context.Context) error
}

func newEnv(ctx context.Context, s *suite) *env {
	return &env{h: s.h, s: s, ctx: ctx, id: newID()}
}

var (
	idBase  = "bt" + strings.ToLower(rand.Text()[:8])
	idCount atomic.Int64
)

// newID returns an id that no other check, suite or process uses.
func newID() string { return idBase + "x" + strconv.FormatInt(idCount.Add(1), 36) }

// notApplicable returns the error of a check that found nothing to try.
func (e *env) notApplicable(format string, args ...any) error {
	return &inapplicable{fmt.Sprintf(format, args...)}
}

// saw keeps for the report what was seen of a property or a capability, such as
// "yes". The last word counts.
func (e *env) saw(what, value string) { e.s.report.saw(what, value) }

// call runs f with a context that ends after the harness's Timeout, and gives up
// when f has not returned some time after that. A panic is an error.
func (e *env) call(what string, f func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(e.ctx, e.h.Timeout)
	defer cancel()
	return e.bounded(ctx, what, f)
}

// bounded runs f with ctx and gives up when f has not returned some time after ctx
// ended.
func (e *env) bounded(ctx context.Context, what string, f func(ctx context.Context) error) error {
	done := make(chan error, 1)
	go func() { done <- protect(func() error { return f(ctx) }) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	grace := time.NewTimer(e.grace())
	defer grace.Stop()
	select {
	case err := <-done:
		return err
	case <-grace.C:
		return &stuck{fmt.Sprintf("%s did not return: %v after its context ended it still waits", what, e.grace())}
	}
}

// grace is how long a call may take to return after its context ended: half a
// Timeout, and at least what a busy machine needs.
func (e *env) grace() time.Duration { return max(e.h.Timeout/2, time.Second) }

// stuck is the error of a call that did not return.
type stuck struct{ text string }

func (s *stuck) Error() string { return s.text }

// isStuck reports whether err says that a call did not return.
func isStuck(err error) bool {
	var s *stuck
	return errors.As(err, &s)
}

// wait waits for d, less where the check ends before.
func (e *env) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-e.ctx.Done():
	}
}

// eventually asks until f returns "" or the harness's Timeout is over. Then what f
// said last is the error.
func (e *env) eventually(f func() string) error {
	deadline := time.Now().Add(e.h.Timeout)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		said := f()
		if said == "" {
			return nil
		}
		if e.ctx.Err() != nil || time.Now().After(deadline) {
			return fmt.Errorf("after %v: %s", e.h.Timeout, said)
		}
		e.wait(pause)
	}
}

// together runs all of fs at once, waits for them and returns the first error in
// their order.
func (e *env) together(fs ...func() error) error {
	errs := make([]error, len(fs))
	var wg sync.WaitGroup
	for i, f := range fs {
		wg.Go(func() { errs[i] = protect(f) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// atEnd adds something to be closed at the end of the check; the last added is
// closed first.
func (e *env) atEnd(what string, f func(ctx context.Context) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closers = append(e.closers, closer{what, f})
}

// atLast adds a target to be closed when every broker was shut down.
func (e *env) atLast(what string, f func(ctx context.Context) error) {
	if f == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.targets = append(e.targets, closer{what, f})
}

// closeAll closes what the check opened and returns what went wrong with it. A
// handle that the check itself closed may answer broker.ErrClosed.
func (e *env) closeAll() error {
	e.mu.Lock()
	closers, lenient := append(e.targets, e.closers...), e.lenient
	e.targets, e.closers = nil, nil
	e.mu.Unlock()
	// The check's own context may have ended.
	base := context.WithoutCancel(e.ctx)
	var errs []error
	for i := len(closers) - 1; i >= 0; i-- {
		ctx, cancel := context.WithTimeout(base, e.h.Timeout)
		err := e.bounded(ctx, closers[i].what, closers[i].close)
		cancel()
		if err != nil && !errors.Is(err, broker.ErrClosed) {
			errs = append(errs, fmt.Errorf("at the end of the check, %s: %w", closers[i].what, err))
		}
	}
	if lenient {
		return nil
	}
	return errors.Join(errs...)
}

// closeLeniently says that what goes wrong while closing does not matter: the check
// has broken the connection for good.
func (e *env) closeLeniently() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lenient = true
}

// newBroker returns a broker that is not connected, and that is shut down at the
// end of the check.
func (e *env) newBroker() (broker.Broker, error) {
	b := e.h.New()
	if b == nil {
		return nil, errors.New("the harness: New returned nil")
	}
	e.atEnd("Shutdown", b.Shutdown)
	return b, nil
}

// connect returns a connected broker, which is shut down at the end of the check.
func (e *env) connect() (broker.Broker, error) {
	b, err := e.newBroker()
	if err != nil {
		return nil, err
	}
	if err := e.call("Connect", b.Connect); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return b, nil
}

// shutdown shuts b down now.
func (e *env) shutdown(b broker.Broker) error {
	if err := e.call("Shutdown", b.Shutdown); err != nil {
		return fmt.Errorf("shutdown: %w", err)
	}
	return nil
}

// target returns a fresh target, which is closed at the end of the check.
func (e *env) target() (Target, error) { return e.targetOf("Source", e.h.Source) }

// targetOf returns a fresh target of a function of the harness.
func (e *env) targetOf(field string, f func(ctx context.Context, id string) (Target, error)) (Target, error) {
	var t Target
	err := e.call("Harness."+field, func(ctx context.Context) (err error) {
		t, err = f(ctx, newID())
		return err
	})
	switch {
	case err != nil:
		return Target{}, fmt.Errorf("the harness: %s: %w", field, err)
	case t.Source == nil || t.Name == "":
		return Target{}, fmt.Errorf("the harness: %s returned a target without a source or without a name", field)
	}
	e.atLast("closing the target "+broker.Quote(t.Name), t.Close)
	return t, nil
}

// newGroup returns a fresh name with groups.
func (e *env) newGroup() (Group, error) {
	var g Group
	err := e.call("Harness.Group", func(ctx context.Context) (err error) {
		g, err = e.h.Group(ctx, newID())
		return err
	})
	switch {
	case err != nil:
		return Group{}, fmt.Errorf("the harness: Group: %w", err)
	case g.Member == nil || g.Name == "":
		return Group{}, errors.New("the harness: Group returned a group without members or without a name")
	}
	e.atLast("closing the group "+broker.Quote(g.Name), g.Close)
	return g, nil
}

// member returns the target of one more member of a group.
func (g *Group) member(name string) Target { return Target{Source: g.Member(name), Name: g.Name} }

// singleGroup is the answer of a check that needs two groups where there is one.
func (e *env) singleGroup() error {
	return e.notApplicable("the transport has no groups that each get all: Group.Single")
}

// newPattern returns a fresh source with a wildcard.
func (e *env) newPattern() (Pattern, error) {
	var p Pattern
	err := e.call("Harness.Pattern", func(ctx context.Context) (err error) {
		p, err = e.h.Pattern(ctx, newID())
		return err
	})
	switch {
	case err != nil:
		return Pattern{}, fmt.Errorf("the harness: Pattern: %w", err)
	case p.Source == nil || len(p.Matching) < 2:
		return Pattern{}, errors.New("the harness: Pattern returned no source or fewer than two matching names")
	}
	e.atLast("closing the pattern", p.Close)
	return p, nil
}

// spec returns what the source of the harness says of itself. It is asked once.
func (e *env) spec() (broker.SourceSpec, error) {
	e.s.described.Do(func() {
		t, err := e.target()
		if err != nil {
			e.s.srcErr = err
			return
		}
		e.s.source = e.specOf(t, e.h.New())
		e.s.report.declare(e.s.source.Properties)
	})
	return e.s.source, e.s.srcErr
}

// specOf returns what the source of t says of itself on b. The largest payload is
// the publisher's affair: where the source does not say it, the broker's holds.
func (e *env) specOf(t Target, b broker.Broker) broker.SourceSpec {
	spec, _ := broker.DescribeSource(t.Source, b)
	if spec.Properties.MaxPayload == 0 {
		spec.Properties.MaxPayload = broker.PropertiesOf(b).MaxPayload
	}
	return spec
}

// properties returns the properties of the source of the harness.
func (e *env) properties() (broker.Properties, error) {
	spec, err := e.spec()
	return spec.Properties, err
}

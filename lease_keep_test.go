package gostream_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

// leaseProbe is a message whose lease is extended as the test says; without extend,
// by ten seconds.
type leaseProbe struct {
	*stubMessage
	until  atomic.Int64
	calls  atomic.Int64
	extend func(ctx context.Context) error
}

func newProbe(payload string, term time.Duration) *leaseProbe {
	m := &leaseProbe{stubMessage: incoming(payload)}
	m.leaseFor(term)
	return m
}

func (m *leaseProbe) leaseFor(d time.Duration) { m.until.Store(time.Now().Add(d).UnixNano()) }
func (m *leaseProbe) LeaseUntil() time.Time    { return time.Unix(0, m.until.Load()) }
func (m *leaseProbe) Stale() bool              { return false }

func (m *leaseProbe) ExtendLease(ctx context.Context) error {
	m.calls.Add(1)
	if m.extend != nil {
		return m.extend(ctx)
	}
	m.leaseFor(10 * time.Second)
	return nil
}

// wantKept fails where the lease has ended.
func (m *leaseProbe) wantKept(t *testing.T) {
	t.Helper()
	if late := time.Since(m.LeaseUntil()); late > 0 {
		t.Errorf("the lease of %s ended %v ago, after %d extensions, while it is handled", m.payload, late, m.calls.Load())
	}
}

// hang takes all the time that it is given.
func hang(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

// withLeases runs body in a bubble, with a service whose handler is in the messages
// "a" and "b" until they are released.
func withLeases(t *testing.T, body func(t *testing.T, f *feed, release func(payload string))) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		gates := map[string]chan struct{}{"a": make(chan struct{}), "b": make(chan struct{})}
		b := atMostOnce(f)
		b.properties.Redelivers = true
		app := batchApp(b, gostream.Consume(func(_ context.Context, payload string) error {
			<-gates[payload]
			return nil
		}), gostream.Workers(2))
		run(t, app, func(*gostream.Service) {
			body(t, f, func(payload string) { close(gates[payload]) })
			synctest.Wait()
		})
	})
}

// Where the extension of one message fails, those of the others go on.
func TestLeaseFailureStopsNoOther(t *testing.T) {
	for name, fail := range map[string]func(context.Context) error{
		"timeout": hang,
		"error":   func(context.Context) error { return errors.New("no") },
		"stale":   func(context.Context) error { return broker.ErrStale },
	} {
		t.Run(name, func(t *testing.T) {
			withLeases(t, func(t *testing.T, f *feed, release func(string)) {
				good, bad := newProbe("a", 10*time.Second), newProbe("b", 10*time.Second)
				bad.extend = fail
				f.in <- good
				synctest.Wait()
				f.in <- bad
				for range 12 {
					time.Sleep(5*time.Second + time.Millisecond)
					good.wantKept(t)
				}
				release("a")
				release("b")
			})
		})
	}
}

// A message that arrives while the only other one is being extended, and turns out
// settled, has its lease extended.
func TestLeaseOfWhatArrivesMeanwhile(t *testing.T) {
	withLeases(t, func(t *testing.T, f *feed, release func(string)) {
		a, b := newProbe("a", 10*time.Second), newProbe("b", 10*time.Second)
		a.extend = func(context.Context) error {
			release("a")
			time.Sleep(500 * time.Millisecond)
			b.leaseFor(10 * time.Second)
			f.in <- b
			time.Sleep(500 * time.Millisecond)
			return broker.ErrSettled
		}
		f.in <- a
		time.Sleep(time.Minute)
		synctest.Wait()
		b.wantKept(t)
		release("b")
	})
}

// A lease that ends before the one that came first is extended in time.
func TestShorterLeaseBehindALongerOne(t *testing.T) {
	withLeases(t, func(t *testing.T, f *feed, release func(string)) {
		a, b := newProbe("a", 10*time.Second), newProbe("b", 2*time.Second)
		f.in <- a
		synctest.Wait()
		f.in <- b
		time.Sleep(3 * time.Second)
		synctest.Wait()
		a.wantKept(t)
		b.wantKept(t)
		release("a")
		release("b")
	})
}

// An extension that hangs does not cost the others their leases, even where its own
// lease is much longer.
func TestLeaseExtensionThatHangs(t *testing.T) {
	for _, first := range []string{"the one that hangs", "the other"} {
		t.Run(first, func(t *testing.T) {
			withLeases(t, func(t *testing.T, f *feed, release func(string)) {
				hanging, good := newProbe("a", time.Minute), newProbe("b", 10*time.Second)
				hanging.extend = hang
				messages := []*leaseProbe{hanging, good}
				if first == "the other" {
					messages = []*leaseProbe{good, hanging}
				}
				for _, m := range messages {
					f.in <- m
					synctest.Wait()
				}
				for range 50 {
					time.Sleep(time.Second)
					good.wantKept(t)
				}
				release("a")
				release("b")
			})
		})
	}
}

// An extension that keeps failing is tried again, but not in a busy loop.
func TestFailingLeaseIsNoBusyLoop(t *testing.T) {
	withLeases(t, func(t *testing.T, f *feed, release func(string)) {
		m := newProbe("a", 10*time.Second)
		m.extend = func(context.Context) error { return errors.New("no") }
		f.in <- m
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := m.calls.Load(); n < 2 || n > 20 {
			t.Errorf("%d tries, want a few", n)
		}
		release("a")
	})
}

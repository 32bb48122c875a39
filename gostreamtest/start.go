package gostreamtest

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/internal/seam"
)

// DefaultAttemptLimit is how often one message may be attempted before the test fails:
// a retry without end would else run for ever.
const DefaultAttemptLimit = 100

// DefaultTimeout is how long Publish waits, outside of a testing/synctest bubble, for
// things to come to rest.
const DefaultTimeout = 10 * time.Second

// Option configures [Start].
type Option func(*TS)

// DeliverTwice delivers every message twice. A handler that bears that is idempotent.
func DeliverTwice() Option { return func(ts *TS) { ts.bus.twice = true } }

// AttemptLimit sets how often one message may be attempted before the test fails. The
// default is [DefaultAttemptLimit].
func AttemptLimit(n int) Option { return func(ts *TS) { ts.bus.limit = n } }

// DefaultMessageLimit is how many messages one publish of a test may set off before the
// test fails. It finds a loop whose messages do not know where they came from, because
// they are published with another context than the handler's.
const DefaultMessageLimit = 100_000

// MessageLimit sets how many messages one publish of the test may set off. The default
// is [DefaultMessageLimit].
func MessageLimit(n int) Option { return func(ts *TS) { ts.bus.maxMessages = n } }

// Timeout sets how long Publish and Wait wait, outside of a bubble, for things to come
// to rest. The default is [DefaultTimeout].
func Timeout(d time.Duration) Option { return func(ts *TS) { ts.timeout = d } }

// TS is an app that runs inside a test. Its methods may be called from the goroutine
// of the test alone, unless they say otherwise.
type TS struct {
	t       testing.TB
	app     *gostream.App
	bus     *bus
	service *gostream.Service
	brokers []broker.Broker
	timeout time.Duration
	on      broker.Broker // what On chose; nil for the only one
}

// Start starts app with every broker replaced by a double, and shuts it down at the
// end of the test; a shutdown that is not clean fails the test. The app is used up
// by it, as by [gostream.App.Start]. A start that fails ends the test.
func Start(t testing.TB, app *gostream.App, opts ...Option) *TS {
	t.Helper()
	ts := &TS{t: t, app: app, bus: newBus(), timeout: DefaultTimeout}
	ts.bus.bubble = inBubble()
	for _, o := range opts {
		o(ts)
	}
	d, err := app.Describe()
	if err != nil {
		t.Fatalf("gostreamtest: %v", err)
	}
	for _, b := range d.Brokers {
		ts.brokers = append(ts.brokers, b.Broker)
	}
	app.Observe(ts.observer())
	service, err := seam.Start(context.Background(), app, ts.bus)
	if err != nil {
		t.Fatalf("gostreamtest: %v", err)
	}
	ts.service = service.(*gostream.Service)
	t.Cleanup(ts.shutdown)
	return ts
}

// inBubble reports whether the caller runs inside a testing/synctest bubble: Wait
// panics outside of one.
func inBubble() (in bool) {
	defer func() { in = recover() == nil }()
	synctest.Wait()
	return true
}

// Quiet is a logger option for apps whose log would disturb a test's output.
func Quiet() gostream.AppOption { return gostream.WithLogger(slog.New(slog.DiscardHandler)) }

func (ts *TS) observer() gostream.Observer {
	b := ts.bus
	return gostream.Observer{
		Settled: func(e gostream.SettledEvent) {
			b.timeline.settle(b, e)
			if e.Outcome == gostream.OutcomeRetried && e.Delivery.Attempt() >= b.limit {
				b.rest.fail(fmt.Sprintf("a retry without end: subscription %q attempted a message of %q %d times, the last error is: %v", e.Delivery.Subscription().Name(), e.Delivery.Name(), e.Delivery.Attempt(), e.Err))
			}
		},
		Parked: func(d *gostream.Delivery, until time.Time) {
			b.timeline.add(b, "parked", "%s for %v: %s", d.Subscription().Name(), time.Until(until).Round(time.Millisecond), show(d.Payload()))
		},
		StateChanged: func(s *gostream.Subscription, to gostream.State) {
			b.setPaused(s.Name(), to == gostream.StatePaused)
			if to == gostream.StatePaused || to == gostream.StateDown {
				b.timeline.add(b, to.String(), "%s", s.Name())
			}
		},
	}
}

// shutdown drains the app at the end of the test. Where it had ended before, its end
// was the test's matter.
func (ts *TS) shutdown() {
	select {
	case <-ts.service.Done():
		ts.bus.close()
		return
	default:
	}
	err := ts.service.Shutdown(context.Background())
	ts.bus.close()
	if err != nil && !ts.t.Failed() {
		ts.t.Errorf("gostreamtest: the shutdown was not clean: %v\n%s", err, ts.bus.timeline.String())
	}
}

// Service is the running service: for Pause, Resume, Health and Shutdown.
func (ts *TS) Service() *gostream.Service { return ts.service }

// On returns ts for publishing on b, where the app has several brokers.
func (ts *TS) On(b broker.Broker) *TS {
	ts.t.Helper()
	for _, have := range ts.brokers {
		if have == b {
			on := *ts
			on.on = b
			return &on
		}
	}
	ts.t.Fatalf("gostreamtest: %T is not mounted on the app", b)
	return nil
}

// Publish publishes v to name, and returns when everything that it set off has come to
// rest. v is encoded as JSON; []byte and string are the payload as it is; a
// [broker.OutgoingMessage] is published whole, its Name replaced by name. A publish
// that fails, an endless loop, a retry beyond the attempt limit, and a paused
// subscription that the message waits for end the test with the timeline.
func (ts *TS) Publish(name string, v any, opts ...gostream.PublishOption) {
	ts.t.Helper()
	if err := ts.send(name, v, opts); err != nil {
		ts.t.Fatalf("gostreamtest: publish to %q: %v", name, err)
	}
	ts.Wait()
}

// Send publishes v to name and does not wait. It may be called from any goroutine. A
// publish that fails fails the test, which goes on.
func (ts *TS) Send(name string, v any, opts ...gostream.PublishOption) {
	ts.t.Helper()
	if err := ts.send(name, v, opts); err != nil {
		ts.t.Errorf("gostreamtest: publish to %q: %v", name, err)
	}
}

func (ts *TS) send(name string, v any, opts []gostream.PublishOption) error {
	of, err := ts.broker()
	if err != nil {
		return err
	}
	msg, err := outgoing(name, v, opts)
	if err != nil {
		return err
	}
	ts.bus.mu.Lock()
	ts.bus.published = 0
	ts.bus.mu.Unlock()
	p := &publisher{bus: ts.bus, broker: of}
	return p.Publish(context.Background(), msg)
}

func (ts *TS) broker() (broker.Broker, error) {
	switch {
	case ts.on != nil:
		return ts.on, nil
	case len(ts.brokers) == 1:
		return ts.brokers[0], nil
	}
	return nil, fmt.Errorf("the app has %d brokers: say which with ts.On(broker).Publish", len(ts.brokers))
}

// Wait returns when everything has come to rest. Outside of a bubble messages that
// wait for a retry are at rest.
func (ts *TS) Wait() {
	ts.t.Helper()
	var limit <-chan time.Time
	if !ts.bus.bubble {
		timer := time.NewTimer(ts.timeout)
		defer timer.Stop()
		limit = timer.C
	}
	for {
		tokens, parked, failure, change := ts.bus.rest.look()
		if failure != "" {
			ts.fatal("%s", failure)
		}
		if tokens == 0 || !ts.bus.bubble && tokens == parked {
			ts.checkAlive()
			return
		}
		if name := ts.bus.pausedWith(); name != "" {
			ts.fatal("subscription %q is paused: its messages would wait for ever", name)
		}
		if parked == tokens && ts.anyPaused() {
			ts.fatal("a subscription is paused while a retry waits: it would wait for ever")
		}
		select {
		case <-change:
		case <-ts.service.Done():
			ts.checkAlive()
		case <-limit:
			ts.fatal("not at rest after %v: %d messages or hooks are under way\n%s", ts.timeout, tokens-parked, strings.TrimRight(ts.bus.busy(), "\n"))
		}
	}
}

// checkAlive ends the test where the app has shut itself down: what it has in hand
// comes to rest by being given back.
func (ts *TS) checkAlive() {
	ts.t.Helper()
	if ts.service.Health(context.Background()).Draining {
		ts.fatal("the app shut itself down: %v", ts.service.Wait())
	}
}

// anyPaused reports a paused subscription.
func (ts *TS) anyPaused() bool {
	ts.bus.mu.Lock()
	defer ts.bus.mu.Unlock()
	for _, s := range ts.bus.subs {
		if s.paused {
			return true
		}
	}
	return false
}

// fatal ends the test with the timeline.
func (ts *TS) fatal(format string, args ...any) {
	ts.t.Helper()
	ts.t.Fatalf("gostreamtest: "+format+"\ntimeline:\n%s", append(args, ts.bus.timeline.String())...)
}

// FailPublish makes the next n publishes to name fail with [ErrFailPublish]: those of
// handlers, replies and dead letters. It may be called from any goroutine.
func (ts *TS) FailPublish(name string, n int) {
	ts.bus.mu.Lock()
	defer ts.bus.mu.Unlock()
	ts.bus.fails[name] = n
}

package brokertest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/gostream/gostream/broker"
)

// healthChecks: health and events. What they say of a long cut is a check of
// resilience.
var healthChecks = []check{
	{
		name:  "connected",
		rule:  "Health is nil on a broker that is connected, and answers ErrNotConnected before Connect and ErrClosed after Shutdown",
		where: "broker.HealthChecker, Health; package broker, Rules that hold for every handle",
		run:   checkHealth,
	},
	{
		name:  "cut",
		rule:  "Health says that the connection is lost, and that it is back",
		where: "broker.HealthChecker, Health",
		needs: []need{needInterrupt},
		run:   checkHealthCut,
	},
	{
		name:  "events",
		rule:  "every listener hears that the connection was cut and, when everything is subscribed again, that it is back",
		where: "broker.Notifier, Notify; broker.EventKind",
		needs: []need{needInterrupt},
		run:   checkEvents,
	},
	{
		name:  "no-events",
		rule:  "a connection that was not cut is not reported as cut, and no subscription as lost",
		where: "broker.EventKind",
		run:   checkNoEvents,
	},
}

// health returns what Health says.
func (e *env) health(b broker.Broker) error {
	return e.call("Health", func(ctx context.Context) error { return broker.Health(ctx, b) })
}

// hasHealth answers that the check is not applicable where the health of b is not
// known.
func (e *env) hasHealth(b broker.Broker) error {
	if err := e.health(b); errors.Is(err, errors.ErrUnsupported) {
		e.saw(capHealth, "no")
		return e.notApplicable("the broker does not know its health")
	}
	e.saw(capHealth, "yes")
	return nil
}

func checkHealth(e *env) error {
	b, err := e.newBroker()
	if err != nil {
		return err
	}
	if err := e.hasHealth(b); err != nil {
		return err
	}
	if err := mustBe("Health before Connect", e.health(b), broker.ErrNotConnected); err != nil {
		return err
	}
	if err := e.call("Connect", b.Connect); err != nil {
		return fmt.Errorf("Connect: %w", err)
	}
	if err := e.health(b); err != nil {
		return fmt.Errorf("after Connect Health answers %w", err)
	}
	if err := e.shutdown(b); err != nil {
		return err
	}
	return mustBe("Health after Shutdown", e.health(b), broker.ErrClosed)
}

// unhealthy and healthy wait until Health says so.
func (e *env) unhealthy(b broker.Broker) error {
	return e.eventually(func() string {
		if e.health(b) == nil {
			return "the connection is cut, and Health answers nil"
		}
		return ""
	})
}

func (e *env) healthy(b broker.Broker) error {
	return e.eventually(func() string {
		if err := e.health(b); err != nil {
			return fmt.Sprintf("the server can be reached again, and Health answers %q", err)
		}
		return ""
	})
}

func checkHealthCut(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	if err := e.hasHealth(l.b); err != nil {
		return err
	}
	for range 2 {
		restore, err := e.interrupt()
		if err != nil {
			return err
		}
		if err := e.unhealthy(l.b); err != nil {
			return err
		}
		if err := mustNotBe("Health while the connection is cut", e.health(l.b), broker.ErrClosed); err != nil {
			return err
		}
		if err := restore(); err != nil {
			return err
		}
		if err := e.healthy(l.b); err != nil {
			return err
		}
	}
	return s.heals(l, "after two cuts")
}

// mustNotBe is the opposite of mustBe.
func mustNotBe(what string, err, target error) error {
	if errors.Is(err, target) {
		return fmt.Errorf("%s answers %q", what, err)
	}
	return nil
}

// heals publishes on l, whose connection has come back, until a message comes on s.
// What came on s before that is acknowledged.
func (s *stream) heals(l *link, when string) error {
	// The publisher may need longer than the rest to find out, and what it could not
	// publish may come nevertheless.
	var payload string
	if err := s.e.eventually(func() string {
		payload = "healed " + newID()
		if err := l.publish(payload); err != nil {
			return fmt.Sprintf("%s: %v", when, err)
		}
		return ""
	}); err != nil {
		return err
	}
	for {
		d, err := s.receive()
		if err != nil {
			return fmt.Errorf("%s, without a new Subscribe: %w", when, err)
		}
		if err := d.ack(); err != nil {
			return err
		}
		if d.text == payload {
			return nil
		}
	}
}

// listener hears the events of a broker.
type listener struct {
	mu     sync.Mutex
	events []broker.Event
}

func (l *listener) hear(ev broker.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, ev)
}

// count returns how many events of that kind were heard.
func (l *listener) count(kind broker.EventKind) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, ev := range l.events {
		if ev.Kind == kind {
			n++
		}
	}
	return n
}

// String lists the events.
func (l *listener) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprint(l.events)
}

// heard waits until every listener has heard n events of that kind.
func (e *env) heard(kind broker.EventKind, n int, listeners ...*listener) error {
	return e.eventually(func() string {
		for i, l := range listeners {
			if l.count(kind) < n {
				return fmt.Sprintf("listener %d of %d has not heard the event %q %d times; it heard %v", i+1, len(listeners), kind, n, l)
			}
		}
		return ""
	})
}

// openListening opens a target on a broker with two listeners.
func (e *env) openListening() (*link, *stream, []*listener, error) {
	b, err := e.newBroker()
	if err != nil {
		return nil, nil, nil, err
	}
	listeners := []*listener{{}, {}}
	for _, l := range listeners {
		if !broker.Notify(b, l.hear) {
			e.saw(capEvents, "no")
			return nil, nil, nil, e.notApplicable("the broker does not tell of events")
		}
	}
	e.saw(capEvents, "yes")
	if err := e.call("Connect", b.Connect); err != nil {
		return nil, nil, nil, fmt.Errorf("Connect: %w", err)
	}
	t, err := e.target()
	if err != nil {
		return nil, nil, nil, err
	}
	l, err := e.link(t, b)
	if err != nil {
		return nil, nil, nil, err
	}
	s, err := l.subscribe()
	return l, s, listeners, err
}

func checkEvents(e *env) error {
	l, s, listeners, err := e.openListening()
	if err != nil {
		return err
	}
	for n := 1; n <= 2; n++ {
		restore, err := e.interrupt()
		if err != nil {
			return err
		}
		if err := e.heard(broker.EventDisconnected, n, listeners...); err != nil {
			return err
		}
		if back := listeners[0].count(broker.EventReconnected); back >= n {
			return fmt.Errorf("the connection is cut for the %d. time, and the event %q came %d times", n, broker.EventReconnected, back)
		}
		if err := restore(); err != nil {
			return err
		}
		if err := e.heard(broker.EventReconnected, n, listeners...); err != nil {
			return err
		}
		// Everything is subscribed again.
		payload := fmt.Sprintf("after cut %d", n)
		other, err := e.dial(l.t)
		if err != nil {
			return err
		}
		if err := other.publish(payload); err != nil {
			return err
		}
		d, err := s.one(payload)
		if err != nil {
			return fmt.Errorf("published after the event %q: %w", broker.EventReconnected, err)
		}
		if err := d.ack(); err != nil {
			return err
		}
	}
	return nil
}

func checkNoEvents(e *env) error {
	l, s, listeners, err := e.openListening()
	if err != nil {
		return err
	}
	if err := l.publish("a", "b"); err != nil {
		return err
	}
	if err := s.arrive(l.props, "a", "b"); err != nil {
		return err
	}
	if err := s.quiet(); err != nil {
		return err
	}
	for _, heard := range listeners {
		for _, kind := range []broker.EventKind{broker.EventDisconnected, broker.EventReconnected, broker.EventSubscriptionLost} {
			if heard.count(kind) > 0 {
				return fmt.Errorf("nothing was cut, and a listener heard %v", heard)
			}
		}
	}
	return nil
}

// lagChecks: how much waits.
var lagChecks = []check{
	{
		name:  "waiting",
		rule:  "the lag is how many messages wait to be delivered, and unsettled deliveries do not count",
		where: "broker.Lagger, Lag",
		needs: []need{needUnsettled(8)},
		run:   checkLag,
	},
	{
		name:  "shutdown",
		rule:  "Lag answers ErrClosed after Shutdown",
		where: "package broker, Rules that hold for every handle",
		run:   checkLagShutdown,
	},
}

// lag returns the lag of s, and says that the check is not applicable where it is
// not known.
func (s *stream) lag() (int64, error) {
	var n int64
	err := s.e.call("Lag", func(ctx context.Context) (err error) {
		n, err = broker.Lag(ctx, s.sub)
		return err
	})
	if errors.Is(err, errors.ErrUnsupported) {
		s.e.saw(capLag, "no")
		return 0, s.e.notApplicable("the lag of the subscription is not known")
	}
	return n, err
}

// lags waits until the lag is n.
func (s *stream) lags(n int64, when string) error {
	var failed error
	err := s.e.eventually(func() string {
		got, err := s.lag()
		if failed = err; err != nil || got == n {
			return ""
		}
		return fmt.Sprintf("%s the lag is %d, want %d", when, got, n)
	})
	if failed != nil {
		return fmt.Errorf("lag %s: %w", when, failed)
	}
	return err
}

func checkLag(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	if err := s.lags(0, "before anything was published"); err != nil {
		return err
	}
	e.saw(capLag, "yes")
	const n, taken = 20, 8
	if err := l.publish(numbered("m", n)...); err != nil {
		return err
	}
	if err := s.lags(n, fmt.Sprintf("after %d messages were published", n)); err != nil {
		return err
	}
	var ds []*delivery
	for range taken {
		d, err := s.receive()
		if err != nil {
			return err
		}
		ds = append(ds, d)
	}
	if err := s.lags(n-taken, fmt.Sprintf("with %d of %d messages unsettled", taken, n)); err != nil {
		return err
	}
	if err := ackAll(ds...); err != nil {
		return err
	}
	if err := s.lags(n-taken, fmt.Sprintf("after %d of %d messages were settled", taken, n)); err != nil {
		return err
	}
	for range n - taken {
		d, err := s.receive()
		if err != nil {
			return err
		}
		if err := d.ack(); err != nil {
			return err
		}
	}
	return s.lags(0, "after all messages were settled")
}

func checkLagShutdown(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	if _, err := s.lag(); err != nil {
		return err
	}
	if err := e.shutdown(l.b); err != nil {
		return err
	}
	_, err = s.lag()
	return mustBe("Lag after Shutdown", err, broker.ErrClosed)
}

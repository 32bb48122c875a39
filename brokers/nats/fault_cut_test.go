package nats_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
)

// The connections of an app that handles and of one that publishes are cut ten times
// while both are at work. Nothing is lost, each cut is told, health follows, and what
// was acknowledged does not come again after a clean shutdown.
func TestConnectionCutTenTimesUnderLoad(t *testing.T) {
	const cuts, between = 10, 500
	onServers(t, func(t *testing.T, s *faultServer) {
		name := unique()
		s.dropAtEnd(t, name)
		p := s.proxy(t)
		source := nats.Stream(name+".*", name).Durable("desk").AckWait(time.Second).
			Create(jetstream.StreamConfig{Subjects: []string{name + ".>"}})
		f := newFlow(name, 20)
		f.ahead, f.recounts = 2*between, s.old()
		late := &lateMessages{subject: name + ".late", stop: 300, stopped: make(chan struct{}), goOn: make(chan struct{})}
		b := nats.New(p.Addr(), quick()...)
		told := listen(b)
		service := startApp(t, b, source, gostream.Raw(func(_ context.Context, d *gostream.Delivery) error {
			if d.Name() == late.subject {
				late.handle(number(t, d.Payload()))
			} else {
				f.handle(t, d.Message())
			}
			return nil
		}), gostream.Observer{Settled: late.settled})
		other := nats.New(p.Addr(), quick()...)
		toldOther := connectBroker(t, other)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			f.publish(t, other.JetStreamPublisher(), 1_000_000)
		}()
		t.Cleanup(f.end)

		for i := range cuts {
			_, last := f.count()
			until(t, "that there is a load", func() bool {
				_, handled := f.count()
				return handled >= last+between
			})
			if i%3 == 2 { // a long one
				p.Cut()
				told.await(t, broker.EventDisconnected, i+1)
				unhealthy(t, b, service)
				p.Restore()
			} else {
				p.CutOnce()
			}
			for _, e := range []*events{told, toldOther} {
				e.await(t, broker.EventDisconnected, i+1)
				e.await(t, broker.EventReconnected, i+1)
			}
			if err := b.Health(t.Context()); err != nil {
				t.Errorf("health after cut %d: %v", i+1, err)
			}
		}
		f.end()
		closed(t, "the end of publishing", ended)
		until(t, "that everything is handled", func() bool {
			published, handled := f.count()
			return handled == published
		})
		s.settled(t, name, "desk")
		s.holds(t, name, f.published)
		t.Logf("%d messages, %d batches were published again, %d messages came again, %d of them were handled again", f.published, f.retries, f.redelivered, f.reruns)
		if f.retries < cuts/2 {
			t.Error("the cuts have hit nothing")
		}
		for _, e := range []*events{told, toldOther} {
			if down, up := len(e.of(broker.EventDisconnected)), len(e.of(broker.EventReconnected)); down != cuts || up != cuts {
				t.Errorf("told %d times of a lost connection and %d times that it is back, want %d", down, up, cuts)
			}
		}

		// A shutdown with a backlog and a message in hand.
		s.put(t, late.subject, 0, lateCount-1)
		closed(t, "the handler's stop", late.stopped)
		shut := make(chan struct{})
		go func() {
			defer close(shut)
			shutdownApp(t, service)
		}()
		until(t, "that the shutdown has begun", func() bool { return service.Health(context.Background()).Draining })
		close(late.goOn)
		closed(t, "the end of the app", shut)
		late.rest(t, s, source)
		s.settled(t, name, "desk")
	})
}

// The network swallows everything, and no connection breaks. The client finds out by
// its pings, and when the network is well again nothing is lost.
func TestConnectionStalledUnderLoad(t *testing.T) {
	const before, all = 500, 2000
	onServers(t, func(t *testing.T, s *faultServer) {
		name := unique()
		s.dropAtEnd(t, name)
		p := s.proxy(t)
		f := newFlow(name, 20)
		f.ahead, f.recounts = before, s.old()
		b := nats.New(p.Addr(), quick(nats.PingInterval(50*time.Millisecond), nats.ConnectTimeout(500*time.Millisecond))...)
		told := listen(b)
		service := startApp(t, b, nats.Stream(name+".*", name).Durable("desk").AckWait(time.Second).Create(jetstream.StreamConfig{}),
			gostream.Raw(func(_ context.Context, d *gostream.Delivery) error {
				f.handle(t, d.Message())
				return nil
			}), gostream.Observer{})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			f.publish(t, b.JetStreamPublisher(), all)
		}()
		t.Cleanup(f.end)
		until(t, "that there is a load", func() bool {
			_, handled := f.count()
			return handled >= before
		})
		p.Stall()
		told.await(t, broker.EventDisconnected, 1)
		unhealthy(t, b, service)
		p.Resume()
		told.await(t, broker.EventReconnected, 1)
		closed(t, "the end of publishing", ended)
		until(t, "that everything is handled", func() bool {
			published, handled := f.count()
			return handled == published
		})
		s.settled(t, name, "desk")
		s.holds(t, name, all)
	})
}

// unhealthy checks that the broker and the service say at once that the connection is
// lost: a probe that asks does not wait.
func unhealthy(t *testing.T, b *nats.Broker, service *gostream.Service) {
	t.Helper()
	const atOnce = time.Second
	ask := func(who string, health func(context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), atOnce)
		defer cancel()
		if health(ctx) == nil {
			t.Errorf("%s says that the broker is healthy while the network is down", who)
		}
		if ctx.Err() != nil {
			t.Errorf("%s took more than %v to say how it is", who, atOnce)
		}
	}
	ask("the broker", b.Health)
	ask("the service", func(ctx context.Context) error { return service.Health(ctx).Brokers[0].Err })
}

// lateCount is how many messages there are when an app is shut down.
const lateCount = 1000

// lateMessages are what an app shuts down with: 0, 1, 2 … on one subject.
type lateMessages struct {
	subject       string
	stop          int           // where the handler waits
	stopped, goOn chan struct{} // closed when it does, and to have it go on

	once  sync.Once
	mu    sync.Mutex
	acked map[string]bool // what the app has acknowledged, by payload
}

func (l *lateMessages) handle(n int) {
	if n == l.stop {
		l.once.Do(func() { close(l.stopped) })
		<-l.goOn
	}
}

func (l *lateMessages) settled(e gostream.SettledEvent) {
	if e.Delivery.Name() != l.subject || e.Outcome != gostream.OutcomeAcked {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.acked == nil {
		l.acked = make(map[string]bool)
	}
	l.acked[string(e.Delivery.Payload())] = true
}

// rest receives what the app has left: all that it has not acknowledged, and nothing
// that it has.
func (l *lateMessages) rest(t *testing.T, s *faultServer, source broker.Source) {
	t.Helper()
	if n := len(l.acked); n <= l.stop || n == lateCount {
		t.Errorf("the app has acknowledged %d of %d messages: it was not shut down in the middle", n, lateCount)
	}
	b := nats.New(s.url, quick()...)
	connectBroker(t, b)
	sub := subscribe(t, b, source)
	for have := len(l.acked); have < lateCount; {
		m := receive(t, sub)
		if n := string(m.Payload()); l.acked[n] {
			t.Errorf("%s came again, which was acknowledged before the shutdown", n)
		} else {
			l.acked[n] = true
			have++
		}
		if err := m.Ack(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

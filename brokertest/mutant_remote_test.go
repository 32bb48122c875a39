package brokertest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokertest"
	"github.com/gostream/gostream/memory"
)

// Faults of a broker whose connection can be cut.
var remoteMutants = []mutant{
	{
		"what is published while the connection is lost is dropped in silence", "resilience/publishes", "are missing",
		remotely(func(r *remoteRig) {
			r.publish = func(ctx context.Context, b *remote, msg broker.OutgoingMessage) error {
				if errors.Is(b.Health(ctx), errCut) {
					return nil
				}
				return remotePublisher{b}.Publish(ctx, msg)
			}
		}),
	},
	{
		"publishes are buffered and that is not declared: a cut loses them", "resilience/publishes", "are missing",
		remotely(func(r *remoteRig) {
			var mu sync.Mutex
			var buffered []broker.OutgoingMessage
			r.publish = func(ctx context.Context, b *remote, msg broker.OutgoingMessage) error {
				mu.Lock()
				defer mu.Unlock()
				msg.Payload = bytes.Clone(msg.Payload)
				buffered = append(buffered, msg)
				for len(buffered) > 3 {
					if err := (remotePublisher{b}).Publish(ctx, buffered[0]); err != nil {
						return err
					}
					buffered = buffered[1:]
				}
				return nil
			}
			r.cut = func() {
				mu.Lock()
				defer mu.Unlock()
				buffered = nil
			}
		}),
	},
	{
		"what was in hand when the connection was lost is lost as well", "resilience/cuts", "did not come again",
		remotely(func(r *remoteRig) {
			var out sync.Map
			r.message = func(m *remoteMessage) broker.IncomingMessage {
				out.Store(m.Message, nil)
				return m
			}
			r.cut = func() {
				for m := range out.Range {
					_ = m.(*memory.Message).Ack(context.Background())
				}
			}
		}),
	},
	{
		"what comes again after a cut counts as a first delivery", "resilience/cuts", "its delivery count is 1",
		remotely(func(r *remoteRig) {
			r.message = func(m *remoteMessage) broker.IncomingMessage { return countedAnew{m, 1} }
		}),
	},
	{
		"a subscription ends with its connection", "resilience/long-cut", "must block while the connection is lost",
		remotely(func(r *remoteRig) {
			r.receive = func(ctx context.Context, s *remoteSubscription) (broker.IncomingMessage, error) {
				ctx, cancel := context.WithCancel(ctx)
				defer cancel()
				s.b.mu.Lock()
				changed := s.b.changed
				s.b.mu.Unlock()
				go func() {
					select {
					case <-changed:
						cancel()
					case <-ctx.Done():
					}
				}()
				m, err := s.Receive(ctx)
				if err != nil && errors.Is(s.b.Health(context.Background()), errCut) {
					return nil, errCut
				}
				return m, err
			}
		}),
	},
	{
		"nothing is subscribed again after a cut", "resilience/long-cut", "without a new Subscribe",
		remotely(func(r *remoteRig) {
			var mu sync.Mutex
			first := make(map[*remote]*memory.Broker)
			r.receive = func(ctx context.Context, s *remoteSubscription) (broker.IncomingMessage, error) {
				s.b.mu.Lock()
				conn := s.b.conn
				s.b.mu.Unlock()
				mu.Lock()
				if first[s.b] == nil {
					first[s.b] = conn
				}
				same := conn == first[s.b]
				mu.Unlock()
				if !same {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				m, err := s.Receive(ctx)
				s.b.mu.Lock()
				lost := s.b.conn != conn && !s.b.closed
				s.b.mu.Unlock()
				if err == nil && lost {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return m, err
			}
		}),
	},
	{
		"Health is nil while the connection is lost", "health/cut", "Health answers nil",
		remotely(func(r *remoteRig) {
			r.broker = func(f *faultyRemote) {
				f.health = func(ctx context.Context) error {
					err := f.remote.Health(ctx)
					if errors.Is(err, errCut) {
						return nil
					}
					return err
				}
			}
		}),
	},
	{
		"nobody is told of a cut", "health/events", `has not heard the event "disconnected"`,
		remotely(func(r *remoteRig) {
			r.broker = func(f *faultyRemote) { f.notify = func(func(broker.Event)) {} }
		}),
	},
	{
		"only the listener that was added last is told", "health/events", "listener 1 of 2",
		remotely(func(r *remoteRig) {
			r.broker = func(f *faultyRemote) {
				f.notify = func(g func(broker.Event)) { f.listeners = []func(broker.Event){g} }
			}
		}),
	},
	{
		"a cut is told when nothing was cut", "health/no-events", "nothing was cut",
		remotely(func(r *remoteRig) {
			r.broker = func(f *faultyRemote) {
				f.notify = func(g func(broker.Event)) {
					f.remote.Notify(g)
					g(broker.Event{Kind: broker.EventReconnected})
				}
			}
		}),
	},
	{
		"the event of a cut has the password in its error", "describe/secrets-when-cut", `the error of the event "disconnected"`,
		remotely(func(r *remoteRig) {
			r.broker = func(f *faultyRemote) {
				f.notify = func(g func(broker.Event)) {
					f.remote.Notify(func(ev broker.Event) {
						if ev.Err != nil {
							ev.Err = fmt.Errorf("%s: %w", f.url, ev.Err)
						}
						g(ev)
					})
				}
			}
		}),
	},
	{
		"a Connect that failed is the last", "resilience/connect", "fails afterwards",
		remotely(func(r *remoteRig) {
			r.broker = func(f *faultyRemote) {
				var failed error
				f.connect = func(ctx context.Context) error {
					if failed == nil {
						failed = f.remote.Connect(ctx)
					}
					return failed
				}
			}
		}),
	},
	{
		"Connect answers nil while the server cannot be reached", "resilience/connect", "while the server cannot be reached answers nil",
		remotely(func(r *remoteRig) {
			r.broker = func(f *faultyRemote) {
				f.connect = func(ctx context.Context) error {
					err := f.remote.Connect(ctx)
					if errors.Is(err, errCut) {
						return nil
					}
					return err
				}
			}
		}),
	},
	{
		"Connect waits for the server to come back, whatever its context", "resilience/connect", "did not return",
		remotely(func(r *remoteRig) {
			r.broker = func(f *faultyRemote) {
				f.connect = func(ctx context.Context) error {
					err := f.remote.Connect(ctx)
					if errors.Is(err, errCut) {
						<-r.ended
					}
					return err
				}
			}
		}),
	},
	{
		"Shutdown waits for the server to come back", "lifecycle/shutdown-server-gone", "did not return",
		remotely(func(r *remoteRig) {
			r.broker = func(f *faultyRemote) {
				f.shutdown = func(ctx context.Context) error {
					if errors.Is(f.remote.Health(ctx), errCut) {
						<-r.ended
					}
					return f.remote.Shutdown(ctx)
				}
			}
		}),
	},
	{
		"a Receive that waits for the connection does not see Shutdown", "resilience/shutdown", "Receive",
		remotely(func(r *remoteRig) {
			r.receive = func(ctx context.Context, s *remoteSubscription) (broker.IncomingMessage, error) {
				m, err := s.Receive(ctx)
				if errors.Is(err, broker.ErrClosed) {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return m, err
			}
		}),
	},
	{
		"delivery counts begin anew with a restart of the server", "resilience/restart-stored", "after a restart of the server it is",
		remotely(func(r *remoteRig) {
			var mu sync.Mutex
			before := make(map[string]int) // deliveries before the restart
			last := make(map[string]int)
			r.message = func(m *remoteMessage) broker.IncomingMessage {
				mu.Lock()
				defer mu.Unlock()
				key := m.Name() + " " + string(m.Payload())
				last[key] = m.DeliveryCount()
				return countedAnew{m, m.DeliveryCount() - before[key]}
			}
			r.restart = func() {
				mu.Lock()
				defer mu.Unlock()
				before, last = last, make(map[string]int)
			}
		}),
	},
	{
		"persistence is declared and a restart empties the server", "resilience/restart-stored", "messages are missing",
		remotely(func(r *remoteRig) {
			r.restart = func() {
				r.server.mu.Lock()
				defer r.server.mu.Unlock()
				r.server.store = memory.NewStore()
			}
		}),
	},
	{
		"a subscription does not outlive a restart of the server", "resilience/restart-live", "without a new Subscribe",
		remotely(func(r *remoteRig) {
			var restarted sync.Map
			r.restart = func() {
				r.server.mu.Lock()
				defer r.server.mu.Unlock()
				for b := range r.server.clients {
					restarted.Store(b, nil)
				}
			}
			r.receive = func(ctx context.Context, s *remoteSubscription) (broker.IncomingMessage, error) {
				if _, dead := restarted.Load(s.b); dead {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return s.Receive(ctx)
			}
		}),
	},
}

// remoteRig is a broker whose connection can be cut, behind wrappers. Hooks that are
// nil change nothing.
type remoteRig struct {
	*rig
	server  *server
	broker  func(*faultyRemote)
	publish func(ctx context.Context, b *remote, msg broker.OutgoingMessage) error
	receive func(ctx context.Context, s *remoteSubscription) (broker.IncomingMessage, error)
	message func(*remoteMessage) broker.IncomingMessage
	cut     func() // before a cut
	restart func() // while the server is down
}

// remotely gives a rig the harness of a remote broker with a fault.
func remotely(fault func(*remoteRig)) func(*rig) {
	return func(base *rig) {
		r := &remoteRig{rig: base, server: newServer()}
		h := r.server.harness()
		r.Harness, h.Timeout, h.Watchdog, h.Load = h, base.Timeout, base.Watchdog, 200
		fault(r)
		newBroker := h.New
		h.New = func() broker.Broker {
			f := &faultyRemote{remote: newBroker().(*remote)}
			if r.broker != nil {
				r.broker(f)
			}
			return f
		}
		wrap := func(source func(context.Context, string) (brokertest.Target, error)) func(context.Context, string) (brokertest.Target, error) {
			return func(ctx context.Context, id string) (brokertest.Target, error) {
				t, err := source(ctx, id)
				t.Source = remoteSource{t.Source.(workers), r}
				return t, err
			}
		}
		h.Source, h.Lease = wrap(h.Source), wrap(h.Lease)
		h.Publisher = func(_ broker.Source, b broker.Broker) broker.Publisher {
			return &faultyRemotePublisher{b.(*faultyRemote).remote, r}
		}
		interrupt := h.Interrupt
		h.Interrupt = func(ctx context.Context) (func(context.Context) error, error) {
			if r.cut != nil {
				r.cut()
			}
			return interrupt(ctx)
		}
		h.Restart = func(context.Context) error {
			err := r.server.reach(false)
			if r.restart != nil {
				r.restart()
			}
			return errors.Join(err, r.server.reach(true))
		}
		base.Harness = h
	}
}

type faultyRemote struct {
	*remote
	connect  func(ctx context.Context) error
	shutdown func(ctx context.Context) error
	health   func(ctx context.Context) error
	notify   func(func(broker.Event))
}

func (f *faultyRemote) Connect(ctx context.Context) error {
	if f.connect != nil {
		return f.connect(ctx)
	}
	return f.remote.Connect(ctx)
}

func (f *faultyRemote) Shutdown(ctx context.Context) error {
	if f.shutdown != nil {
		return f.shutdown(ctx)
	}
	return f.remote.Shutdown(ctx)
}

func (f *faultyRemote) Health(ctx context.Context) error {
	if f.health != nil {
		return f.health(ctx)
	}
	return f.remote.Health(ctx)
}

func (f *faultyRemote) Notify(g func(broker.Event)) {
	if f.notify != nil {
		f.notify(g)
		return
	}
	f.remote.Notify(g)
}

type faultyRemotePublisher struct {
	b *remote
	r *remoteRig
}

func (p *faultyRemotePublisher) Publish(ctx context.Context, msg broker.OutgoingMessage) error {
	if p.r.publish != nil {
		return p.r.publish(ctx, p.b, msg)
	}
	return remotePublisher{p.b}.Publish(ctx, msg)
}

// remoteSource unwraps the broker.
type remoteSource struct {
	workers
	r *remoteRig
}

func (s remoteSource) String() string { return s.Name() }

func (s remoteSource) Check(b broker.Broker) error {
	if f, ok := b.(*faultyRemote); ok {
		b = f.remote
	}
	return s.workers.Check(b)
}

func (s remoteSource) Subscribe(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
	if f, ok := b.(*faultyRemote); ok {
		b = f.remote
	}
	sub, err := s.workers.Subscribe(ctx, b)
	if err != nil {
		return nil, err
	}
	return &faultyRemoteSubscription{sub.(*remoteSubscription), s.r}, nil
}

type faultyRemoteSubscription struct {
	*remoteSubscription
	r *remoteRig
}

func (s *faultyRemoteSubscription) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	receive := (*remoteSubscription).Receive
	if s.r.receive != nil {
		receive = func(s2 *remoteSubscription, ctx context.Context) (broker.IncomingMessage, error) {
			return s.r.receive(ctx, s2)
		}
	}
	m, err := receive(s.remoteSubscription, ctx)
	if err != nil || s.r.message == nil {
		return m, err
	}
	return s.r.message(m.(*remoteMessage)), nil
}

// countedAnew has a delivery count of its own.
type countedAnew struct {
	*remoteMessage
	count int
}

func (m countedAnew) DeliveryCount() int { return m.count }

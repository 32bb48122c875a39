package brokertest_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gostream/gostream/broker"
)

// Faults of what a broker says: counts, leases, names, descriptions, health and lag.
var describeMutants = []mutant{
	{
		"delivery counts begin at 0", "delivery-count/first", "is 0, and the first is 1",
		messages(func(m *faultyMessage) {
			m.count = func() int { return m.message.DeliveryCount() - 1 }
		}),
	},
	{
		"delivery counts go in twos", "delivery-count/redelivered", "never was one added",
		messages(func(m *faultyMessage) {
			m.count = func() int { return 2*m.message.DeliveryCount() - 1 }
		}),
	},
	{
		"delivery counts begin anew on another connection", "delivery-count/another-connection", "on another connection it is 1",
		func(r *rig) {
			type place struct {
				c *conn
				m string
			}
			var first sync.Map // place -> the count at its first delivery there
			messages(func(m *faultyMessage) {
				n := m.message.DeliveryCount()
				before, _ := first.LoadOrStore(place{m.on(), m.Name() + " " + string(m.Payload())}, n-1)
				m.count = func() int { return n - before.(int) }
			})(r)
		},
	},
	{
		"the key of a redelivery is lost", "keys/redelivered", `has ""`,
		messages(func(m *faultyMessage) {
			m.key = func() []byte {
				if m.DeliveryCount() > 1 {
					return nil
				}
				return m.message.PartitionKey()
			}
		}),
	},
	{
		"ExtendLease gives half of the lease", "lease/extend", "extended after a quarter of it",
		leases(func(m *faultyLease) {
			m.extend = func(ctx context.Context) error {
				if err := m.leasedMessage.ExtendLease(ctx); err != nil {
					return err
				}
				l := m.leasedMessage.(*leasedRaw)
				l.mu.Lock()
				defer l.mu.Unlock()
				l.until = time.Now().Add(l.on().r.lease / 2)
				return nil
			}
		}),
	},
	{
		"the lease of a settled delivery can be extended", "lease/lost", "ExtendLease of a delivery that was acknowledged answers nil",
		leases(func(m *faultyLease) {
			m.extend = func(ctx context.Context) error {
				err := m.leasedMessage.ExtendLease(ctx)
				if errors.Is(err, broker.ErrSettled) {
					return nil
				}
				return err
			}
		}),
	},
	{
		"every delivery is stale", "lease/fresh", "stale right after Receive",
		func(r *rig) {
			r.message = func(m message) broker.IncomingMessage { return staleMessage{m} }
		},
	},
	{
		"a source says that it matches everything", "matching/name", "matches",
		sources(func(s *faultySource) {
			s.match = func(string) bool { return true }
		}),
	},
	{
		"a source with a wildcard matches its own name alone", "matching/pattern", "is false, and that it receives it is true",
		sources(func(s *faultySource) {
			s.match = func(name string) bool { return name == s.Name() }
		}),
	},
	{
		"a member of a group does not match the name of its group", "matching/group", "is false, and that it receives it is true",
		sources(func(s *faultySource) {
			s.match = func(string) bool { return false }
		}),
	},
	{
		"a source describes itself in another way each time", "describe/source", "described itself as",
		func(r *rig) {
			var asked atomic.Int64
			sources(func(s *faultySource) {
				s.spec = func() broker.SourceSpec {
					spec := s.source.Spec()
					spec.Limit += int(asked.Add(1))
					return spec
				}
			})(r)
		},
	},
	{
		"the bindings of a source do not encode as JSON", "describe/source", "unsupported type",
		sources(func(s *faultySource) {
			s.spec = func() broker.SourceSpec {
				spec := s.source.Spec()
				spec.Bindings = map[string]any{"memory": make(chan int)}
				return spec
			}
		}),
	},
	{
		"the description of the server has the password in it", "describe/secrets-in-descriptions", "the description of the server",
		brokers(func(b *faultyBroker) {
			b.describe = func() broker.ServerSpec {
				return broker.ServerSpec{Protocol: "memory", Description: "at memory://user:" + secret + "@host"}
			}
		}),
	},
	{
		"the host of the server has the user in it", "describe/server", "has the host",
		brokers(func(b *faultyBroker) {
			b.describe = func() broker.ServerSpec {
				return broker.ServerSpec{Protocol: "memory", Hosts: []string{"user@host:1"}}
			}
		}),
	},
	{
		"the broker that is printed shows the password, escaped as in a URL", "describe/secrets-in-descriptions", "the broker before Connect",
		brokers(func(b *faultyBroker) {
			b.text = func() string { return "memory://user:hunter2%20&%20co%2Fltd@host" }
		}),
	},
	{
		"a broker that is printed with %+v shows its configuration", "describe/secrets-in-descriptions", "the broker before Connect printed with %+v",
		func(r *rig) {
			r.broker = func(c *conn) client { return configured{c, struct{ Password string }{secret}} }
		},
	},
	{
		"the error of Connect has the password in it", "describe/secrets-in-errors", "the error of Connect without a server",
		brokers(func(b *faultyBroker) {
			b.connect = func(ctx context.Context) error {
				err := b.conn.Connect(ctx)
				if errors.Is(err, errRefused) {
					return &broker.Error{Op: "connect", Broker: "memory", Err: fmt.Errorf("dial memory://user:%s@host: %w", secret, err)}
				}
				return err
			}
		}),
	},
	{
		"an error hides the password in its text and shows it with %+v", "describe/secrets-in-errors", "printed with %+v",
		publishers(func(p *faultyPublisher) {
			p.publish = func(ctx context.Context, msg broker.OutgoingMessage) error {
				if err := p.publisher.Publish(ctx, msg); err != nil {
					return talkative{err}
				}
				return nil
			}
		}),
	},
	{
		"Health is nil before Connect", "health/connected", "Health before Connect answers nil",
		unhealthy(broker.ErrNotConnected),
	},
	{
		"Health is nil after Shutdown", "health/connected", "Health after Shutdown answers nil",
		unhealthy(broker.ErrClosed),
	},
	{
		"the lag is always 0", "lag/waiting", "the lag is 0, want 20",
		subscriptions(func(s *faultySubscription) {
			s.lag = func(context.Context) (int64, error) { return 0, nil }
		}),
	},
	{
		"the lag counts what is unsettled", "lag/waiting", "8 of 20 messages unsettled the lag is 20, want 12",
		func(r *rig) {
			var mu sync.Mutex
			out := make(map[string]int64)
			subscriptions(func(s *faultySubscription) {
				var unsettled []message
				s.receive = func(ctx context.Context) (broker.IncomingMessage, error) {
					m, err := s.subscription.Receive(ctx)
					if err == nil {
						unsettled = append(unsettled, m.(message))
					}
					return m, err
				}
				s.lag = func(ctx context.Context) (int64, error) {
					n, err := s.subscription.Lag(ctx)
					mu.Lock()
					defer mu.Unlock()
					for _, m := range unsettled {
						n += out[m.Name()+" "+string(m.Payload())]
					}
					return n, err
				}
			})(r)
			messages(func(m *faultyMessage) {
				key := m.Name() + " " + string(m.Payload())
				set := func(n int64) {
					mu.Lock()
					defer mu.Unlock()
					out[key] = n
				}
				set(1)
				m.ack = func(ctx context.Context) error {
					set(0)
					return m.message.Ack(ctx)
				}
			})(r)
		},
	},
	{
		"Lag after Shutdown answers 0", "lag/shutdown", "Lag after Shutdown answers nil",
		subscriptions(func(s *faultySubscription) {
			s.lag = func(ctx context.Context) (int64, error) {
				n, err := s.subscription.Lag(ctx)
				if errors.Is(err, broker.ErrClosed) {
					return 0, nil
				}
				return n, err
			}
		}),
	},
}

// staleMessage is never ours.
type staleMessage struct{ message }

func (staleMessage) Stale() bool { return true }

// configured keeps its configuration in a field.
type configured struct {
	c      *conn
	Config struct{ Password string }
}

func (b configured) inner() *conn                       { return b.c }
func (b configured) Connect(ctx context.Context) error  { return b.c.Connect(ctx) }
func (b configured) Shutdown(ctx context.Context) error { return b.c.Shutdown(ctx) }
func (b configured) Properties() broker.Properties      { return b.c.Properties() }

// talkative tells more with %+v.
type talkative struct{ error }

func (t talkative) Unwrap() error { return t.error }

func (t talkative) Format(f fmt.State, _ rune) {
	fmt.Fprint(f, t.Error())
	if f.Flag('+') {
		fmt.Fprint(f, " with the password ", secret)
	}
}

// unhealthy makes a nil of an error that Health answers.
func unhealthy(target error) func(*rig) {
	return brokers(func(b *faultyBroker) {
		b.health = func(ctx context.Context) error {
			err := b.conn.Health(ctx)
			if errors.Is(err, target) {
				return nil
			}
			return err
		}
	})
}

// keysInHeader makes of memory a broker without keys of its own.
func keysInHeader(r *rig) {
	r.declare = func(p *broker.Properties) { p.Keys = broker.KeysHeader }
	outgoing(func(msg *broker.OutgoingMessage) {
		if msg.Key != nil {
			msg.Headers = msg.Headers.With(broker.HeaderKey, string(msg.Key))
			msg.Key = nil
		}
	})(r)
	messages(func(m *faultyMessage) {
		m.key = func() []byte {
			if key, ok := m.Headers().Lookup(broker.HeaderKey); ok {
				return []byte(key)
			}
			return nil
		}
	})(r)
}

var keyMutants = []mutant{
	{
		"a key is declared to travel in its header and does not", "keys/header", "the header gostream-key is",
		func(r *rig) { r.publisher = nil },
	},
}

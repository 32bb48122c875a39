package brokertest_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gostream/gostream/broker"
)

var settlementMutants = []mutant{
	{
		"Ack does nothing and answers nil", "settlement/ack", "came again after Ack returned nil",
		messages(func(m *faultyMessage) {
			m.ack = func(context.Context) error { return nil }
		}),
	},
	{
		"a message is delivered once more after Ack returned nil", "settlement/ack", "came again after Ack returned nil",
		messages(func(m *faultyMessage) {
			m.ack = func(ctx context.Context) error {
				if m.DeliveryCount() == 1 {
					return m.message.Nack(ctx, true)
				}
				return m.message.Ack(ctx)
			}
		}),
	},
	{
		"a requeued message is lost", "settlement/requeue", "nothing came",
		messages(func(m *faultyMessage) {
			m.nack = func(ctx context.Context, _ bool) error { return m.message.Nack(ctx, false) }
		}),
	},
	{"a requeued message goes to the back of the queue", "settlement/requeue-first", `"m0"`, requeueToTheBack},
	{
		"a rejected message comes again", "settlement/reject", "came again after Nack without requeue",
		messages(func(m *faultyMessage) {
			m.nack = func(ctx context.Context, _ bool) error { return m.message.Nack(ctx, true) }
		}),
	},
	{"an Ack takes along all deliveries before it", "settlement/any-order", "already settled", cumulativeAck},
	{
		"Shutdown drops the deliveries that it finds unsettled", "settlement/unsettled-at-shutdown", "nothing came",
		func(r *rig) {
			var out sync.Map // message -> *conn
			messages(func(m *faultyMessage) { out.Store(m.message, m.on()) })(r)
			brokers(func(b *faultyBroker) {
				b.shutdown = func(ctx context.Context) error {
					for m, c := range out.Range {
						if c == b.conn {
							_ = m.(message).Ack(ctx)
						}
					}
					return b.conn.Shutdown(ctx)
				}
			})(r)
		},
	},
	{
		"a delayed nack comes again at once", "settlement/delayed", "came again",
		messages(func(m *faultyMessage) {
			m.nackAfter = func(ctx context.Context, _ time.Duration) error { return m.message.Nack(ctx, true) }
		}),
	},
	{
		"a delayed nack loses the message", "settlement/delayed", "after NackAfter of",
		messages(func(m *faultyMessage) {
			m.nackAfter = func(ctx context.Context, _ time.Duration) error { return m.message.Ack(ctx) }
		}),
	},
	{
		"a delayed nack answers nil and leaves the delivery unsettled", "settlement/delayed", "Ack after NackAfter answers nil",
		messages(func(m *faultyMessage) {
			m.nackAfter = func(context.Context, time.Duration) error { return nil }
		}),
	},
	{
		"a delayed nack without a delay is rejected", "settlement/delayed-at-once", "invalid",
		messages(func(m *faultyMessage) {
			m.nackAfter = func(ctx context.Context, d time.Duration) error {
				if d <= 0 {
					return &broker.Error{Op: "nack", Broker: "memory", Kind: broker.ErrInvalid}
				}
				return m.message.NackAfter(ctx, d)
			}
		}),
	},
	{
		"more deliveries than the limit are unsettled at once", "settlement/limit", "which is the limit",
		halfLimit,
	},
	{
		"a second settlement answers nil", "settlement/twice", "answers nil",
		messages(func(m *faultyMessage) {
			m.ack = func(ctx context.Context) error {
				err := m.message.Ack(ctx)
				if errors.Is(err, broker.ErrSettled) {
					return nil
				}
				return err
			}
		}),
	},
	{
		"a second settlement answers ErrSettled and requeues the message", "settlement/twice", "came again after Ack",
		func(r *rig) {
			messages(func(m *faultyMessage) {
				m.nack = func(ctx context.Context, requeue bool) error {
					err := m.message.Nack(ctx, requeue)
					if requeue && errors.Is(err, broker.ErrSettled) {
						_ = m.on().Publisher().Publish(ctx, broker.OutgoingMessage{Name: m.Name(), Payload: m.Payload()})
					}
					return err
				}
			})(r)
		},
	},
	{
		"two settlements at once both win", "settlement/concurrent", "returned nil",
		messages(func(m *faultyMessage) {
			var done atomic.Bool
			settle := func(f func() error) error {
				if done.Load() {
					return f()
				}
				time.Sleep(time.Millisecond)
				done.Store(true)
				if err := f(); !errors.Is(err, broker.ErrSettled) {
					return err
				}
				return nil
			}
			m.ack = func(ctx context.Context) error { return settle(func() error { return m.message.Ack(ctx) }) }
			m.nack = func(ctx context.Context, requeue bool) error {
				return settle(func() error { return m.message.Nack(ctx, requeue) })
			}
		}),
	},
	{
		"of two settlements at once neither wins", "settlement/concurrent", "none returned nil",
		messages(func(m *faultyMessage) {
			var begun atomic.Int32
			settle := func(f func() error) error {
				n := begun.Add(1)
				time.Sleep(time.Millisecond)
				err := f()
				if err == nil && begun.Load() > n {
					return &broker.Error{Op: "settle", Broker: "memory", Kind: broker.ErrSettled}
				}
				return err
			}
			m.ack = func(ctx context.Context) error { return settle(func() error { return m.message.Ack(ctx) }) }
			m.nack = func(ctx context.Context, requeue bool) error {
				return settle(func() error { return m.message.Nack(ctx, requeue) })
			}
		}),
	},
	{
		"a settlement that its context ended cannot be tried again", "settlement/retry", "tried again",
		messages(func(m *faultyMessage) {
			m.ack = func(ctx context.Context) error {
				err := m.message.Ack(ctx)
				if err == nil {
					err = ctx.Err()
				}
				return err
			}
		}),
	},
	{
		"a settlement after Shutdown answers nil", "settlement/after-shutdown", "answers nil",
		messages(func(m *faultyMessage) {
			m.ack = func(ctx context.Context) error {
				err := m.message.Ack(ctx)
				if errors.Is(err, broker.ErrClosed) {
					return nil
				}
				return err
			}
		}),
	},
	{
		"a delivery that was settled answers ErrSettled also after Shutdown", "settlement/after-shutdown", "of a settled delivery after Shutdown answers",
		messages(func(m *faultyMessage) {
			var done atomic.Bool
			m.ack = func(ctx context.Context) error {
				if done.Load() {
					return &broker.Error{Op: "ack", Broker: "memory", Kind: broker.ErrSettled}
				}
				err := m.message.Ack(ctx)
				done.Store(err == nil)
				return err
			}
		}),
	},
	{
		"redelivery is declared where nothing redelivers", "settlement/ack", "unsupported operation",
		all(unacknowledged, declares(func(p *broker.Properties) { p.CountsDeliveries = false })),
	},
	{
		"an extension of the lease answers nil and extends nothing", "settlement/lease-extended", "after ExtendLease with half of it left it ends at",
		leases(func(m *faultyLease) {
			m.extend = func(context.Context) error { return nil }
		}),
	},
	{
		"an extension of the lease is said to be longer than it is", "settlement/lease-extended", "stale although its lease was extended",
		leases(func(m *faultyLease) {
			var said atomic.Pointer[time.Time]
			m.extend = func(context.Context) error {
				until := time.Now().Add(m.on().r.lease)
				said.Store(&until)
				return nil
			}
			m.until = func() time.Time {
				if until := said.Load(); until != nil {
					return *until
				}
				return m.leasedMessage.LeaseUntil()
			}
		}),
	},
	{
		"a delivery whose lease ran out can still be acked", "settlement/lease-expired", "Ack after the lease ran out answers nil",
		leases(func(m *faultyLease) {
			m.ack = func(ctx context.Context) error {
				err := m.leasedMessage.Ack(ctx)
				if errors.Is(err, broker.ErrStale) {
					return nil
				}
				return err
			}
		}),
	},
	{
		"a delivery whose lease ran out does not say that it is stale", "settlement/lease-expired", "the old delivery is not stale",
		leases(func(m *faultyLease) {
			m.stale = func() bool { return false }
		}),
	},
	{
		"a redelivery has the count of the first delivery", "settlement/requeue", "the delivery count was 1, after Nack with requeue it is 1",
		messages(func(m *faultyMessage) {
			m.count = func() int { return 1 }
		}),
	},
	{
		"delivery counts are declared and messages have none", "settlement/requeue", "declares CountsDeliveries",
		func(r *rig) {
			r.message = func(m message) broker.IncomingMessage { return struct{ broker.IncomingMessage }{m} }
		},
	},
}

// requeueToTheBack delivers a requeued message when nothing else is left.
func requeueToTheBack(r *rig) {
	var requeued sync.Map // what was given back and did not come again yet
	messages(func(m *faultyMessage) {
		m.nack = func(ctx context.Context, requeue bool) error {
			if requeue {
				requeued.Store(m.Name()+string(m.Payload()), nil)
			}
			return m.message.Nack(ctx, requeue)
		}
	})(r)
	subscriptions(func(s *faultySubscription) {
		var back []broker.IncomingMessage
		s.receive = func(ctx context.Context) (broker.IncomingMessage, error) {
			for {
				rest, err := s.Lag(ctx)
				if err == nil && rest == 0 && len(back) > 0 {
					m := back[0]
					back = back[1:]
					return m, nil
				}
				m, err := s.subscription.Receive(ctx)
				if err != nil {
					return nil, err
				}
				if _, again := requeued.LoadAndDelete(m.Name() + string(m.Payload())); !again {
					return m, nil
				}
				back = append(back, m)
			}
		}
	})(r)
}

// cumulativeAck acks with a message all that were delivered before it.
func cumulativeAck(r *rig) {
	var mu sync.Mutex
	out := make(map[*conn][]message)
	messages(func(m *faultyMessage) {
		mu.Lock()
		defer mu.Unlock()
		out[m.on()] = append(out[m.on()], m.message)
		before := out[m.on()][:len(out[m.on()])-1]
		m.ack = func(ctx context.Context) error {
			for _, other := range before {
				_ = other.Ack(ctx)
			}
			return m.message.Ack(ctx)
		}
	})(r)
}

// halfLimit declares half of the limit.
func halfLimit(r *rig) {
	sources(func(s *faultySource) {
		s.spec = func() broker.SourceSpec {
			spec := s.source.Spec()
			spec.Limit = limit / 2
			return spec
		}
	})(r)
}

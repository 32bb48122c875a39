package brokertest_test

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gostream/gostream/broker"
)

// Faults of brokers and of handles that come too early or too late.
var lifecycleMutants = []mutant{
	{
		"Publish before Connect succeeds in silence", "lifecycle/publish-before-connect", "Publish before Connect answers nil",
		silent(broker.ErrNotConnected),
	},
	{
		"Publish after Shutdown succeeds in silence", "lifecycle/after-shutdown", "Publish after Shutdown answers nil",
		silent(broker.ErrClosed),
	},
	{
		"a message that is published before Connect is sent at Connect", "lifecycle/publish-before-connect", "came, expected nothing",
		func(r *rig) {
			var late lateMessages
			publishers(func(p *faultyPublisher) {
				p.publish = func(ctx context.Context, msg broker.OutgoingMessage) error {
					err := p.publisher.Publish(ctx, msg)
					if errors.Is(err, broker.ErrNotConnected) {
						late.add(msg)
					}
					return err
				}
			})(r)
			brokers(func(b *faultyBroker) {
				b.connect = func(ctx context.Context) error {
					err := b.conn.Connect(ctx)
					if err == nil {
						late.flush(b.Broker.Publisher())
					}
					return err
				}
			})(r)
		},
	},
	{
		"Subscribe before Connect answers ErrClosed", "lifecycle/before-connect", "Subscribe before Connect answers",
		sources(func(s *faultySource) {
			s.subscribe = func(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
				sub, err := s.source.Subscribe(ctx, b)
				if errors.Is(err, broker.ErrNotConnected) {
					return nil, broker.ErrClosed
				}
				return sub, err
			}
		}),
	},
	{
		"a batch before Connect succeeds in silence", "batch-publish/lifecycle", "nil",
		publishers(func(p *faultyPublisher) {
			p.batch = func(ctx context.Context, msgs []broker.OutgoingMessage) error {
				err := p.publisher.PublishBatch(ctx, msgs)
				if errors.Is(err, broker.ErrNotConnected) {
					return nil
				}
				return err
			}
		}),
	},
	{
		"the source does I/O in Check", "lifecycle/no-io", "not connected",
		sources(func(s *faultySource) {
			s.check = func(b broker.Broker) error {
				if c, ok := b.(client); ok {
					if err := c.inner().Health(context.Background()); err != nil {
						return err
					}
				}
				return s.source.Check(b)
			}
		}),
	},
	{
		"the constructor starts a goroutine", "lifecycle/no-io", "goroutines",
		func(r *rig) {
			brokers(func(*faultyBroker) { go func() { <-r.ended }() })(r)
		},
	},
	{
		"the source takes a broker of another kind", "lifecycle/foreign-broker", "answers nil",
		sources(func(s *faultySource) {
			s.check = func(b broker.Broker) error {
				if _, ok := b.(client); !ok {
					return nil
				}
				return s.source.Check(b)
			}
		}),
	},
	{
		"the source refuses a broker of another kind and does not name it", "lifecycle/foreign-broker", "does not name both",
		sources(func(s *faultySource) {
			s.check = func(b broker.Broker) error {
				if _, ok := b.(client); !ok {
					return errors.New("wrong broker for " + s.Name())
				}
				return s.source.Check(b)
			}
		}),
	},
	{
		"Check hides the mistakes of the configuration", "lifecycle/mistakes", "answers nil",
		func(r *rig) {
			misconfigured := r.Misconfigured
			r.Misconfigured = func() broker.Broker { return hiddenMistakes{misconfigured()} }
		},
	},
	{
		"a second Connect fails", "lifecycle/connect-twice", "already connected",
		brokers(func(b *faultyBroker) {
			var connected atomic.Bool
			b.connect = func(ctx context.Context) error {
				if connected.Swap(true) {
					return errors.New("already connected")
				}
				return b.conn.Connect(ctx)
			}
		}),
	},
	{
		"a Connect that was cancelled cannot be repeated", "lifecycle/connect-cancelled", "connect after a cancelled Connect",
		brokers(func(b *faultyBroker) {
			var once sync.Once
			var err error
			b.connect = func(ctx context.Context) error {
				once.Do(func() { err = b.conn.Connect(ctx) })
				return err
			}
		}),
	},
	{
		"a Connect that was cancelled has connected all the same", "lifecycle/connect-cancelled", "Publish after a Connect that failed",
		brokers(func(b *faultyBroker) {
			b.connect = func(ctx context.Context) error {
				if err := b.conn.Connect(context.WithoutCancel(ctx)); err != nil {
					return err
				}
				return ctx.Err()
			}
		}),
	},
	{
		"a Connect that was cancelled leaves a goroutine behind", "lifecycle/connect-cancelled", "goroutines",
		func(r *rig) {
			brokers(func(b *faultyBroker) {
				b.connect = func(ctx context.Context) error {
					if ctx.Err() != nil {
						go func() { <-r.ended }()
					}
					return b.conn.Connect(ctx)
				}
			})(r)
		},
	},
	{
		"Connect to a server that is not there answers nil", "lifecycle/connect-unreachable", "returned nil",
		brokers(func(b *faultyBroker) {
			b.connect = func(ctx context.Context) error {
				err := b.conn.Connect(ctx)
				if errors.Is(err, errRefused) {
					return nil
				}
				return err
			}
		}),
	},
	{
		"Connect waits for the server for ever", "lifecycle/connect-unreachable", "did not return",
		func(r *rig) {
			brokers(func(b *faultyBroker) {
				b.connect = func(ctx context.Context) error {
					if b.dead {
						<-r.ended
					}
					return b.conn.Connect(ctx)
				}
			})(r)
		},
	},
	{
		"Shutdown blocks, whatever its context", "lifecycle/shutdown-dead-context", "did not return",
		func(r *rig) {
			brokers(func(b *faultyBroker) {
				b.shutdown = func(context.Context) error {
					<-r.ended
					return nil
				}
			})(r)
		},
	},
	{
		"a second Shutdown panics", "lifecycle/shutdown-twice", "close of closed channel",
		brokers(func(b *faultyBroker) {
			done := make(chan struct{})
			b.shutdown = func(ctx context.Context) error {
				close(done)
				return b.conn.Shutdown(ctx)
			}
		}),
	},
	{
		"Shutdown before Connect fails", "lifecycle/shutdown-unconnected", "not connected",
		brokers(func(b *faultyBroker) {
			b.shutdown = func(ctx context.Context) error {
				if err := b.Health(ctx); errors.Is(err, broker.ErrNotConnected) {
					return err
				}
				return b.conn.Shutdown(ctx)
			}
		}),
	},
	{
		"Connect after Shutdown answers nil", "lifecycle/after-shutdown", "Connect after Shutdown answers nil",
		brokers(func(b *faultyBroker) {
			b.connect = func(ctx context.Context) error {
				err := b.conn.Connect(ctx)
				if errors.Is(err, broker.ErrClosed) {
					return nil
				}
				return err
			}
		}),
	},
	{
		"a broker whose Shutdown was cancelled stays open", "lifecycle/shutdown-dead-context", "after Shutdown answers nil",
		brokers(func(b *faultyBroker) {
			b.shutdown = func(ctx context.Context) error {
				if err := ctx.Err(); err != nil {
					return err
				}
				return b.conn.Shutdown(ctx)
			}
		}),
	},
	{"Shutdown drops what is still buffered", "lifecycle/shutdown-flushes", "did not arrive", bufferPublishes},
	{
		"a Publish that meets Shutdown is lost in silence", "lifecycle/publish-during-shutdown", "did not arrive",
		silent(broker.ErrClosed),
	},
	{
		"a Receive that waits does not see that the broker was shut down", "lifecycle/shutdown-wakes-receive", "did not return",
		func(r *rig) {
			subscriptions(func(s *faultySubscription) {
				s.receive = func(ctx context.Context) (broker.IncomingMessage, error) {
					m, err := s.subscription.Receive(ctx)
					if errors.Is(err, broker.ErrClosed) {
						<-r.ended
					}
					return m, err
				}
			})(r)
		},
	},
	{
		"Receive after Shutdown answers a context error", "lifecycle/after-shutdown", "Receive after Shutdown answers",
		subscriptions(func(s *faultySubscription) {
			s.receive = func(ctx context.Context) (broker.IncomingMessage, error) {
				m, err := s.subscription.Receive(ctx)
				if errors.Is(err, broker.ErrClosed) {
					return nil, context.Canceled
				}
				return m, err
			}
		}),
	},
	{"Receive goes on after Close", "lifecycle/close-backlog", "it received", receiveAfterClose},
	{"Close loses what was prefetched", "lifecycle/close-backlog", "did not arrive", loseAtClose},
	{
		"settling ends with Close", "lifecycle/close-settling", "after Close: Ack of",
		func(r *rig) {
			var closed sync.Map // *conn, when one of its subscriptions was closed
			subscriptions(func(s *faultySubscription) {
				s.close = func(ctx context.Context) error {
					closed.Store(s.on(), nil)
					return s.subscription.Close(ctx)
				}
			})(r)
			messages(func(m *faultyMessage) {
				m.ack = func(ctx context.Context) error {
					if _, is := closed.Load(m.on()); is {
						return broker.ErrClosed
					}
					return m.message.Ack(ctx)
				}
			})(r)
		},
	},
	{
		"a Receive that waits does not see that the subscription was closed", "lifecycle/close-wakes-receive", "Receive that waits at Close answers",
		subscriptions(func(s *faultySubscription) {
			s.receive = func(ctx context.Context) (broker.IncomingMessage, error) {
				m, err := s.subscription.Receive(ctx)
				if errors.Is(err, broker.ErrClosed) {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return m, err
			}
		}),
	},
	{
		"a second Close fails", "lifecycle/close-wakes-receive", "closed twice",
		subscriptions(func(s *faultySubscription) {
			var closed atomic.Bool
			s.close = func(ctx context.Context) error {
				if closed.Swap(true) {
					return errors.New("closed twice")
				}
				return s.subscription.Close(ctx)
			}
		}),
	},
	{
		"Close shuts the broker down", "lifecycle/close-alone", "closed",
		subscriptions(func(s *faultySubscription) {
			s.close = func(ctx context.Context) error {
				_ = s.subscription.Close(ctx)
				return s.on().Shutdown(ctx)
			}
		}),
	},
	{
		"a member of a group takes messages after it was closed", "lifecycle/close-membership", "did not arrive",
		subscriptions(func(s *faultySubscription) {
			s.close = func(ctx context.Context) error {
				if err := s.subscription.Close(ctx); err != nil {
					return err
				}
				ghost, err := s.again(ctx)
				if err != nil {
					return err
				}
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
				go func() {
					defer cancel()
					_, _ = ghost.Receive(ctx)
				}()
				return nil
			}
		}),
	},
	{
		"each connection leaves a goroutine behind", "leaks/goroutines", "goroutines",
		func(r *rig) {
			brokers(func(b *faultyBroker) {
				b.connect = func(ctx context.Context) error {
					go func() { <-r.ended }()
					return b.conn.Connect(ctx)
				}
			})(r)
		},
	},
	{
		"each subscription leaves a goroutine behind", "leaks/subscription-goroutines", "goroutines",
		func(r *rig) {
			subscriptions(func(*faultySubscription) { go func() { <-r.ended }() })(r)
		},
	},
	{
		"everything that was published is kept", "leaks/memory", "were in use",
		func(r *rig) {
			r.Bulk = 100_000 // other tests of the process make noise
			var mu sync.Mutex
			var kept [][]byte
			outgoing(func(msg *broker.OutgoingMessage) {
				mu.Lock()
				defer mu.Unlock()
				kept = append(kept, bytes.Clone(msg.Payload))
			})(r)
			brokers(func(b *faultyBroker) {
				b.shutdown = func(ctx context.Context) error {
					mu.Lock()
					defer mu.Unlock()
					kept = nil
					return b.conn.Shutdown(ctx)
				}
			})(r)
		},
	},
	{
		"a Receive with a context that has ended answers ErrClosed", "cancellation/receive-returns", "answers \"closed\"",
		subscriptions(func(s *faultySubscription) {
			s.receive = func(ctx context.Context) (broker.IncomingMessage, error) {
				if ctx.Err() != nil {
					return nil, broker.ErrClosed
				}
				return s.subscription.Receive(ctx)
			}
		}),
	},
	{
		"a Subscribe that was cancelled leaves a member of the group behind", "cancellation/subscribe-dead-context", "after a cancelled Subscribe there are",
		sources(func(s *faultySource) {
			s.subscribe = func(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
				if ctx.Err() == nil {
					return s.source.Subscribe(ctx, b)
				}
				live := context.WithoutCancel(ctx)
				sub, err := s.source.Subscribe(live, b)
				if err != nil {
					return nil, err
				}
				go func() { _, _ = sub.Receive(live) }()
				return nil, ctx.Err()
			}
		}),
	},
	{
		"a Subscribe that was cancelled answers nil with a subscription that is closed", "cancellation/subscribe-dead-context", "returned nil: ",
		sources(func(s *faultySource) {
			s.subscribe = func(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
				sub, err := s.source.Subscribe(context.WithoutCancel(ctx), b)
				if err == nil && ctx.Err() != nil {
					err = sub.Close(ctx)
				}
				return sub, err
			}
		}),
	},
}

// silent makes a nil of an error that Publish answers.
func silent(target error) func(*rig) {
	return publishers(func(p *faultyPublisher) {
		p.publish = func(ctx context.Context, msg broker.OutgoingMessage) error {
			err := p.publisher.Publish(ctx, msg)
			if errors.Is(err, target) {
				return nil
			}
			return err
		}
	})
}

// hiddenMistakes has nothing to say before I/O.
type hiddenMistakes struct{ broker.Broker }

// bufferPublishes sends in tens. What is left at Shutdown is lost.
func bufferPublishes(r *rig) {
	publishers(func(p *faultyPublisher) {
		var mu sync.Mutex
		var buffered []broker.OutgoingMessage
		p.publish = func(ctx context.Context, msg broker.OutgoingMessage) error {
			mu.Lock()
			defer mu.Unlock()
			buffered = append(buffered, msg)
			if len(buffered) < 7 {
				return nil
			}
			for _, msg := range buffered {
				if err := p.publisher.Publish(ctx, msg); err != nil {
					return err
				}
			}
			buffered = nil
			return nil
		}
	})(r)
}

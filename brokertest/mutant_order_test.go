package brokertest_test

import (
	"context"
	"sync"
	"time"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

// Faults of order, of groups and of what a subscription receives.
var orderMutants = []mutant{
	{"messages come in reverse order", "order/publish-order", `expected "m0"`, reverse},
	{
		"messages of one key overtake each other", "order/key-order", "as the next of its key",
		all(declares(func(p *broker.Properties) { p.Ordered = false }), reverse),
	},
	{
		"the keys of messages are mixed up", "order/key-order", "published was",
		func(r *rig) {
			var mu sync.Mutex
			var before []byte
			publishers(func(p *faultyPublisher) {
				p.publish = func(ctx context.Context, msg broker.OutgoingMessage) error {
					mu.Lock()
					before, msg.Key = append([]byte(nil), msg.Key...), before
					mu.Unlock()
					return p.publisher.Publish(ctx, msg)
				}
			})(r)
		},
	},
	{
		"each member of a group gets all messages", "order/competing", "came again after Ack",
		sources(func(s *faultySource) {
			s.subscribe = func(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
				raw := s.source.(*rawSource)
				alone := &rawSource{memory.Pattern(raw.Name()), raw.r, raw.wrap}
				return alone.Subscribe(ctx, b)
			}
		}),
	},
	{
		"all groups are one", "order/each-group", "nothing came",
		sources(func(s *faultySource) {
			s.subscribe = func(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
				raw := s.source.(*rawSource)
				one := &rawSource{memory.Queue(raw.Name(), "one"), raw.r, raw.wrap}
				return one.Subscribe(ctx, b)
			}
		}),
	},
	{
		"a member that leaves takes one more message along", "order/join-and-leave", "did not arrive",
		subscriptions(func(s *faultySubscription) {
			s.close = func(ctx context.Context) error {
				short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
				defer cancel()
				if m, err := s.subscription.Receive(short); err == nil {
					_ = m.Ack(ctx)
				}
				return s.subscription.Close(ctx)
			}
		}),
	},
	{
		"Subscribe returns before the subscription is live: what is published at once is missed", "readiness/live", "nothing came",
		missFirst,
	},
	{
		"what is published at once after a member has joined is missed", "readiness/live-members", "group a: ",
		missFirst,
	},
	{
		"a backlog is declared, and the first subscription begins at the end", "readiness/backlog", "did not arrive",
		sources(func(s *faultySource) {
			s.subscribe = func(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
				sub, err := s.source.Subscribe(ctx, b)
				if err == nil {
					ackAllOf(ctx, sub)
				}
				return sub, err
			}
		}),
	},
	{
		"Receive ignores its context", "cancellation/receive", "did not return",
		subscriptions(func(s *faultySubscription) {
			s.receive = func(ctx context.Context) (broker.IncomingMessage, error) {
				return s.subscription.Receive(context.WithoutCancel(ctx))
			}
		}),
	},
	{"a message that arrives while Receive is cancelled is lost", "cancellation/receive", "nothing came", loseAtCancel},
	{
		"a Receive that was cancelled is the last", "cancellation/receive", "context canceled",
		subscriptions(func(s *faultySubscription) {
			var failed error
			s.receive = func(ctx context.Context) (m broker.IncomingMessage, err error) {
				if failed == nil {
					m, failed = s.subscription.Receive(ctx)
				}
				return m, failed
			}
		}),
	},
	{
		"a batch is longer than its dst", "batch-receive/size", "for a dst of",
		subscriptions(func(s *faultySubscription) {
			s.batch = func(ctx context.Context, dst []broker.IncomingMessage) (int, error) {
				n, err := s.subscription.ReceiveBatch(ctx, dst)
				if n == len(dst) && n > 0 {
					if more, err := s.Lag(ctx); err == nil && more > 0 {
						n++
					}
				}
				return n, err
			}
		}),
	},
	{
		"a batch is written beyond its dst", "batch-receive/size", "beyond a dst of",
		subscriptions(func(s *faultySubscription) {
			s.batch = func(ctx context.Context, dst []broker.IncomingMessage) (int, error) {
				n, err := s.subscription.ReceiveBatch(ctx, dst[:cap(dst)])
				return min(n, len(dst)), err
			}
		}),
	},
	{
		"a batch is empty when nothing is there", "batch-receive/first", "returned 0, nil",
		subscriptions(func(s *faultySubscription) {
			s.batch = func(ctx context.Context, dst []broker.IncomingMessage) (int, error) {
				if waiting, err := s.Lag(ctx); err == nil && waiting == 0 {
					return 0, nil
				}
				return s.subscription.ReceiveBatch(ctx, dst)
			}
		}),
	},
	{
		"a batch waits until its dst is full", "batch-receive/available", "it waited for more",
		subscriptions(func(s *faultySubscription) {
			s.batch = func(ctx context.Context, dst []broker.IncomingMessage) (n int, err error) {
				for n < len(dst) {
					k, err := s.subscription.ReceiveBatch(ctx, dst[n:])
					n += k
					if err != nil && n > 0 {
						return n, nil
					}
					if err != nil || k == 0 {
						return n, err
					}
				}
				return n, nil
			}
		}),
	},
	{
		"a batch that found something before its context ended returns both", "batch-receive/available", "together with the error",
		subscriptions(func(s *faultySubscription) {
			s.batch = func(ctx context.Context, dst []broker.IncomingMessage) (n int, err error) {
				for n < len(dst) && err == nil {
					var k int
					k, err = s.subscription.ReceiveBatch(ctx, dst[n:])
					n += k
				}
				return n, err
			}
		}),
	},
	{
		"a batch for an empty dst waits for a message", "batch-receive/empty", "with an empty dst, while nothing waits, answers",
		subscriptions(func(s *faultySubscription) {
			s.batch = func(ctx context.Context, dst []broker.IncomingMessage) (int, error) {
				if len(dst) > 0 {
					return s.subscription.ReceiveBatch(ctx, dst)
				}
				m, err := s.subscription.Receive(ctx)
				if err != nil {
					return 0, err
				}
				return 0, m.Nack(ctx, true)
			}
		}),
	},
	{
		"a batch receives after Close", "batch-receive/close", "after Close, with a backlog, returned",
		receiveAfterClose,
	},
}

// missFirst misses the first message.
func missFirst(r *rig) {
	subscriptions(func(s *faultySubscription) {
		live := false
		s.receive = func(ctx context.Context) (broker.IncomingMessage, error) {
			m, err := s.subscription.Receive(ctx)
			if err == nil && !live {
				live = true
				_ = m.Ack(ctx)
				return s.subscription.Receive(ctx)
			}
			return m, err
		}
	})(r)
}

// ackAllOf acks what waits for sub.
func ackAllOf(ctx context.Context, sub broker.Subscription) {
	for {
		n, err := broker.Lag(ctx, sub)
		if err != nil || n == 0 {
			return
		}
		m, err := sub.Receive(ctx)
		if err != nil {
			return
		}
		_ = m.Ack(ctx)
	}
}

// reverse delivers the last first of what is there.
func reverse(r *rig) {
	subscriptions(func(s *faultySubscription) {
		var ready []broker.IncomingMessage
		s.receive = func(ctx context.Context) (broker.IncomingMessage, error) {
			if len(ready) == 0 {
				room := make([]broker.IncomingMessage, limit)
				n, err := s.subscription.ReceiveBatch(ctx, room)
				if err != nil {
					return nil, err
				}
				ready = room[:n]
			}
			m := ready[len(ready)-1]
			ready = ready[:len(ready)-1]
			return m, nil
		}
	})(r)
}

// loseAtClose acks at Close what was not received yet.
func loseAtClose(r *rig) {
	subscriptions(func(s *faultySubscription) {
		s.close = func(ctx context.Context) error {
			ackAllOf(ctx, s.subscription)
			return s.subscription.Close(ctx)
		}
	})(r)
}

// loseAtCancel lets the Receive go on after its context ended, and drops what comes.
func loseAtCancel(r *rig) {
	subscriptions(func(s *faultySubscription) {
		turn := make(chan struct{}, 1)
		s.receive = func(ctx context.Context) (broker.IncomingMessage, error) {
			turn <- struct{}{}
			type result struct {
				m   broker.IncomingMessage
				err error
			}
			came := make(chan result)
			longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
			go func() {
				defer func() { <-turn }()
				m, err := s.subscription.Receive(longer)
				select {
				case came <- result{m, err}:
				case <-longer.Done():
					if err == nil {
						_ = m.Ack(longer)
					}
				}
			}()
			defer cancel()
			select {
			case r := <-came:
				return r.m, r.err
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	})(r)
}

// receiveAfterClose leaves the subscription as it is at Close.
func receiveAfterClose(r *rig) {
	subscriptions(func(s *faultySubscription) {
		s.close = func(context.Context) error { return nil }
	})(r)
}

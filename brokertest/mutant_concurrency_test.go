package brokertest_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gostream/gostream/broker"
)

// Faults that show when several things happen at once.
var concurrencyMutants = []mutant{
	{
		"of two messages that are published at once one is lost", "concurrency/publishers", "nothing came",
		func(r *rig) {
			var busy atomic.Int32
			publishers(func(p *faultyPublisher) {
				p.publish = func(ctx context.Context, msg broker.OutgoingMessage) error {
					defer busy.Add(-1)
					if busy.Add(1) > 1 {
						return nil
					}
					time.Sleep(50 * time.Microsecond)
					return p.publisher.Publish(ctx, msg)
				}
			})(r)
		},
	},
	{
		"publishers use the same place for what they send", "concurrency/everything", "did not arrive",
		func(r *rig) {
			var mu sync.Mutex
			var place broker.OutgoingMessage
			publishers(func(p *faultyPublisher) {
				p.publish = func(ctx context.Context, msg broker.OutgoingMessage) error {
					mu.Lock()
					place = msg
					mu.Unlock()
					time.Sleep(20 * time.Microsecond)
					mu.Lock()
					msg = place
					mu.Unlock()
					return p.publisher.Publish(ctx, msg)
				}
			})(r)
		},
	},
	{
		"while one delivery is being acked another cannot be", "concurrency/settling", "busy",
		func(r *rig) {
			var busy atomic.Int32
			messages(func(m *faultyMessage) {
				m.ack = func(ctx context.Context) error {
					defer busy.Add(-1)
					if busy.Add(1) > 1 {
						return &broker.Error{Op: "ack busy", Broker: "memory", Kind: broker.ErrInvalid}
					}
					time.Sleep(200 * time.Microsecond)
					return m.message.Ack(ctx)
				}
			})(r)
		},
	},
	{
		"readers of one message's headers move the same cursor", "concurrency/headers", "received",
		messages(func(m *faultyMessage) {
			view := &cursor{h: m.message.Headers()}
			m.headers = func() broker.Headers { return broker.ViewHeaders(view) }
		}),
	},
	{
		"messages that arrive while ReceiveBatch is cancelled are lost", "batch-receive/cancel", "missing",
		subscriptions(func(s *faultySubscription) {
			s.batch = func(ctx context.Context, dst []broker.IncomingMessage) (int, error) {
				n, err := s.subscription.ReceiveBatch(ctx, dst)
				time.Sleep(50 * time.Microsecond)
				if n == 0 || ctx.Err() == nil {
					return n, err
				}
				for _, m := range dst[:n] {
					_ = m.Ack(ctx)
				}
				clear(dst[:n])
				return 0, ctx.Err()
			}
		}),
	},
}

// cursor is a view that is read from one goroutine at a time.
type cursor struct {
	h   broker.Headers
	pos atomic.Int64
}

func (c *cursor) Lookup(key string) (string, bool) { return c.h.Lookup(key) }

func (c *cursor) Range(yield func(key, value string) bool) {
	var fields []broker.Header
	for key, value := range c.h.All() {
		fields = append(fields, broker.Header{Key: key, Value: value})
	}
	c.pos.Store(0)
	for i := c.pos.Add(1) - 1; i < int64(len(fields)); i = c.pos.Add(1) - 1 {
		time.Sleep(time.Microsecond)
		if !yield(fields[i].Key, fields[i].Value) {
			return
		}
	}
}

// batchMutants are more faults of batches.
var batchMutants = []mutant{
	{
		"a ReceiveBatch that waits does not see Shutdown", "batch-receive/shutdown", "ReceiveBatch",
		subscriptions(func(s *faultySubscription) {
			s.batch = func(ctx context.Context, dst []broker.IncomingMessage) (int, error) {
				n, err := s.subscription.ReceiveBatch(ctx, dst)
				if s.on().isShutDown() {
					<-ctx.Done()
					return 0, ctx.Err()
				}
				return n, err
			}
		}),
	},
	{
		"an Ack of one delivery of a batch is an Ack of all", "batch-receive/settle", "already settled",
		subscriptions(func(s *faultySubscription) {
			s.batch = func(ctx context.Context, dst []broker.IncomingMessage) (int, error) {
				n, err := s.subscription.ReceiveBatch(ctx, dst)
				batch := slices.Clone(dst[:n])
				for i := range batch {
					own := batch[i].(message)
					dst[i] = &faultyMessage{message: own, ack: func(ctx context.Context) error {
						for _, other := range batch {
							if other != own {
								_ = other.Ack(ctx)
							}
						}
						return own.Ack(ctx)
					}}
				}
				return n, err
			}
		}),
	},
	{
		"batches leave more deliveries unsettled than the limit", "batch-receive/limit", "limit",
		halfLimit,
	},
	{
		"PublishBatch keeps the caller's buffers", "batch-publish/buffer-reuse", "##",
		func(r *rig) {
			var late lateMessages
			publishers(func(p *faultyPublisher) {
				p.batch = func(_ context.Context, msgs []broker.OutgoingMessage) error {
					for _, msg := range msgs {
						late.add(msg)
					}
					return nil
				}
			})(r)
			subscriptions(func(s *faultySubscription) {
				s.receive = func(ctx context.Context) (broker.IncomingMessage, error) {
					late.flush(s.on().Broker.Publisher())
					return s.subscription.Receive(ctx)
				}
			})(r)
		},
	},
	{
		"PublishBatch with a context that has ended answers nil and sends nothing", "batch-publish/cancel", "nil",
		publishers(func(p *faultyPublisher) {
			p.batch = func(ctx context.Context, msgs []broker.OutgoingMessage) error {
				if ctx.Err() != nil {
					return nil
				}
				return p.publisher.PublishBatch(ctx, msgs)
			}
		}),
	},
}

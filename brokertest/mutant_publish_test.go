package brokertest_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gostream/gostream/broker"
)

// Faults of what is published: its bytes, headers, key, name and options.
var publishMutants = []mutant{
	{
		"a payload ends at its first zero byte", "shape/payload", "every byte: published",
		outgoing(func(msg *broker.OutgoingMessage) {
			msg.Payload, _, _ = bytes.Cut(msg.Payload, []byte{0})
		}),
	},
	{
		"a payload of more than 64 KiB is truncated", "shape/payload-1mib", "received 65536 that are not the same",
		outgoing(func(msg *broker.OutgoingMessage) {
			msg.Payload = msg.Payload[:min(len(msg.Payload), 64<<10)]
		}),
	},
	{
		"a payload over the declared maximum is accepted", "shape/max-payload", "answers nil",
		declares(func(p *broker.Properties) {
			if p.MaxPayload > 0 {
				p.MaxPayload = 1 << 20
			}
		}),
	},
	{
		"a payload over the maximum is refused with an error of no category", "shape/max-payload", "one more than the limit, answers",
		publishers(func(p *faultyPublisher) {
			p.publish = func(ctx context.Context, msg broker.OutgoingMessage) error {
				err := p.publisher.Publish(ctx, msg)
				if errors.Is(err, broker.ErrTooLarge) {
					return errors.New(err.Error())
				}
				return err
			}
		}),
	},
	{
		"a payload over the maximum is refused and sent all the same, truncated", "shape/max-payload", "came, expected nothing",
		publishers(func(p *faultyPublisher) {
			p.publish = func(ctx context.Context, msg broker.OutgoingMessage) error {
				err := p.publisher.Publish(ctx, msg)
				if errors.Is(err, broker.ErrTooLarge) {
					msg.Payload = msg.Payload[:10]
					_ = p.publisher.Publish(ctx, msg)
				}
				return err
			}
		}),
	},
	{"the broker keeps the caller's buffer", "shape/buffer-reuse", "##", keepBuffer},
	{
		"the broker keeps the caller's buffer when the context ends", "shape/buffer-reuse-cancelled", "the buffer was read after Publish returned",
		func(r *rig) {
			var late lateMessages
			publishers(func(p *faultyPublisher) {
				p.publish = func(ctx context.Context, msg broker.OutgoingMessage) error {
					late.flush(p.publisher)
					if ctx.Err() == nil {
						return p.publisher.Publish(ctx, msg)
					}
					late.add(msg)
					return ctx.Err()
				}
			})(r)
		},
	},
	{
		"all subscriptions get the same bytes", "shape/bytes-shared", "changed when that of another was written to",
		sharePayloads,
	},
	{
		"a redelivery has the bytes of the first delivery", "shape/bytes-redelivered", "a redelivery shares the bytes",
		sharePayloads,
	},
	{
		"the bytes of a delivery are used again after it was settled", "shape/bytes-kept", "after it was settled the payload",
		messages(func(m *faultyMessage) {
			m.ack = func(ctx context.Context) error {
				err := m.message.Ack(ctx)
				p := m.Payload()
				for i := range p {
					p[i] = '?'
				}
				return err
			}
		}),
	},
	{
		"the key is lost", "shape/key", "received with",
		outgoing(func(msg *broker.OutgoingMessage) { msg.Key = nil }),
	},
	{
		"every message has the key of the first", "shape/key", `received with "customer-7"`,
		func(r *rig) {
			var first atomic.Pointer[[]byte]
			messages(func(m *faultyMessage) {
				m.key = func() []byte {
					key := m.message.PartitionKey()
					first.CompareAndSwap(nil, &key)
					return bytes.Clone(*first.Load())
				}
			})(r)
		},
	},
	{
		"keys are declared and messages have none", "shape/key", "the message has no partition key",
		func(r *rig) {
			r.message = func(m message) broker.IncomingMessage {
				return struct {
					broker.IncomingMessage
					broker.DelayedNacker
					broker.DeliveryCounter
				}{m, m, m}
			}
		},
	},
	{
		"a key is dropped in silence where keys are declared as none", "shape/key", "Publish with a key where Keys is none answers nil",
		all(
			declares(func(p *broker.Properties) { p.Keys, p.OrderedByKey = broker.KeysNone, false }),
			outgoing(func(msg *broker.OutgoingMessage) { msg.Key = nil }),
		),
	},
	{
		"Name is the pattern of the subscription", "shape/name", "under the wildcard",
		func(r *rig) {
			r.source = func(s source) broker.Source {
				return &faultySource{source: s, subscribe: func(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
					sub, err := s.Subscribe(ctx, b)
					if err != nil {
						return nil, err
					}
					f := &faultySubscription{subscription: sub.(subscription)}
					f.receive = func(ctx context.Context) (broker.IncomingMessage, error) {
						m, err := f.subscription.Receive(ctx)
						if err != nil {
							return nil, err
						}
						return &faultyMessage{message: m.(message), name: s.Name}, nil
					}
					return f, nil
				}}
			}
		},
	},
	{
		"a name with a wildcard is accepted", "shape/invalid-name", `Publish to "a.*" answers nil`,
		publishers(func(p *faultyPublisher) {
			p.publish = func(ctx context.Context, msg broker.OutgoingMessage) error {
				err := p.publisher.Publish(ctx, msg)
				if errors.Is(err, broker.ErrInvalid) && strings.Contains(msg.Name, "*") {
					return nil
				}
				return err
			}
		}),
	},
	{
		"an option that the publisher does not know is ignored", "shape/refused-options", "answers nil",
		outgoing(func(msg *broker.OutgoingMessage) { msg.Options = nil }),
	},
	{
		"an option that is refused is refused after the message was sent", "shape/refused-options", "came, expected nothing",
		publishers(func(p *faultyPublisher) {
			p.publish = func(ctx context.Context, msg broker.OutgoingMessage) error {
				err := p.publisher.Publish(ctx, msg)
				if msg.Options != nil && errors.Is(err, broker.ErrInvalid) {
					msg.Options = nil
					_ = p.publisher.Publish(ctx, msg)
				}
				return err
			}
		}),
	},
	{
		"an option of the right type with a bad value is taken for a good one", "shape/refused-options", "priority answers nil",
		outgoing(func(msg *broker.OutgoingMessage) {
			if _, ok := msg.Options.(priority); ok {
				msg.Options = nil
			}
		}),
	},
	{
		"header keys are in lower case", "shape/header-case", "x-tenant-id=Acme",
		headers(func(h broker.Header) []broker.Header {
			return []broker.Header{{Key: strings.ToLower(h.Key), Value: h.Value}}
		}),
	},
	{
		"the values of a repeated header are joined", "shape/header-repeated", `"tag=c,a,b"`,
		outgoing(func(msg *broker.OutgoingMessage) {
			var joined broker.Headers
			for key := range msg.Headers.All() {
				joined = joined.With(key, strings.Join(msg.Headers.Values(key), ","))
			}
			msg.Headers = joined
		}),
	},
	{
		"the last value of a repeated header wins", "shape/header-repeated", `received ["tag=b"]`,
		outgoing(func(msg *broker.OutgoingMessage) {
			for key, value := range msg.Headers.All() {
				msg.Headers = msg.Headers.With(key, value)
			}
		}),
	},
	{
		"a header with an empty value is dropped", "shape/header-values", "an empty value: published",
		headers(func(h broker.Header) []broker.Header {
			if h.Value == "" {
				return nil
			}
			return []broker.Header{h}
		}),
	},
	{
		"line ends are taken out of header values", "shape/header-values", "line end: published",
		headers(func(h broker.Header) []broker.Header {
			return []broker.Header{{Key: h.Key, Value: strings.NewReplacer("\r", "", "\n", "").Replace(h.Value)}}
		}),
	},
	{
		"header values are made valid UTF-8", "shape/header-values", "not UTF-8: published",
		headers(func(h broker.Header) []broker.Header {
			return []broker.Header{{Key: h.Key, Value: strings.ToValidUTF8(h.Value, "?")}}
		}),
	},
	{
		"white space in a header key becomes a hyphen", "shape/header-keys", "with space",
		headers(func(h broker.Header) []broker.Header {
			return []broker.Header{{Key: strings.ReplaceAll(h.Key, " ", "-"), Value: h.Value}}
		}),
	},
	{
		"a message has at most 64 headers", "shape/header-many", "100 headers: published",
		outgoing(func(msg *broker.OutgoingMessage) {
			var few []broker.Header
			for key, value := range msg.Headers.All() {
				few = append(few, broker.Header{Key: key, Value: value})
			}
			msg.Headers = broker.NewHeaders(few[:min(len(few), 64)]...)
		}),
	},
	{
		"the correlation id becomes the message id", "shape/header-well-known", "the correlation id: published",
		outgoing(func(msg *broker.OutgoingMessage) {
			if id := msg.Headers.CorrelationID(); id != "" {
				msg.Headers = msg.Headers.WithCorrelationID("").WithMessageID(id)
			}
		}),
	},
	{
		"a message with the id of an earlier one is dropped as a duplicate", "shape/header-message-id", "nothing came",
		func(r *rig) {
			var ids sync.Map
			publishers(func(p *faultyPublisher) {
				p.publish = func(ctx context.Context, msg broker.OutgoingMessage) error {
					if id := msg.Headers.MessageID(); id != "" {
						if _, known := ids.LoadOrStore(id, nil); known {
							return nil
						}
					}
					return p.publisher.Publish(ctx, msg)
				}
			})(r)
		},
	},
	{
		"a batch says that nothing failed", "batch-publish/one-bad", "nil",
		publishers(func(p *faultyPublisher) {
			p.batch = func(ctx context.Context, msgs []broker.OutgoingMessage) error {
				err := p.publisher.PublishBatch(ctx, msgs)
				var failed *broker.BatchError
				if errors.As(err, &failed) {
					return nil
				}
				return err
			}
		}),
	},
	{
		"a batch ends at the first message that fails", "batch-publish/one-bad", "nothing came",
		publishers(func(p *faultyPublisher) {
			p.batch = func(ctx context.Context, msgs []broker.OutgoingMessage) error {
				for i, msg := range msgs {
					if err := p.publisher.Publish(ctx, msg); err != nil {
						failed := &broker.BatchError{Errs: make([]error, len(msgs))}
						failed.Errs[i] = err
						return failed
					}
				}
				return nil
			}
		}),
	},
	{
		"a batch with a message that fails is not sent and says that the others were", "batch-publish/one-bad", "nothing came",
		publishers(func(p *faultyPublisher) {
			p.batch = func(ctx context.Context, msgs []broker.OutgoingMessage) error {
				failed := &broker.BatchError{Errs: make([]error, len(msgs))}
				bad := false
				for i, msg := range msgs {
					if msg.Name == "" || broker.CheckPublishName(p.on(), msg.Name) != nil || msg.Options != nil || len(msg.Payload) > 2<<20 {
						failed.Errs[i], bad = broker.ErrInvalid, true
					}
				}
				if bad {
					return failed
				}
				return p.publisher.PublishBatch(ctx, msgs)
			}
		}),
	},
	{
		"a batch is published in reverse order", "batch-publish/all", "came as number 1",
		publishers(func(p *faultyPublisher) {
			p.batch = func(ctx context.Context, msgs []broker.OutgoingMessage) error {
				var reversed []broker.OutgoingMessage
				for _, msg := range msgs {
					reversed = append([]broker.OutgoingMessage{msg}, reversed...)
				}
				return p.publisher.PublishBatch(ctx, reversed)
			}
		}),
	},
	{
		"Publish with a context that has ended answers nil and sends nothing", "cancellation/publish-dead-context", "nothing came",
		publishers(func(p *faultyPublisher) {
			p.publish = func(ctx context.Context, msg broker.OutgoingMessage) error {
				if ctx.Err() != nil {
					return nil
				}
				return p.publisher.Publish(ctx, msg)
			}
		}),
	},
	{
		"Publish hides that its context ended", "cancellation/publish-dead-context", "want an error that is",
		publishers(func(p *faultyPublisher) {
			p.publish = func(ctx context.Context, msg broker.OutgoingMessage) error {
				err := p.publisher.Publish(ctx, msg)
				if errors.Is(err, context.Canceled) {
					return errors.New("the publish failed")
				}
				return err
			}
		}),
	},
	{
		"an option that is documented is refused", "shape/valid-options", "valid option 0",
		publishers(func(p *faultyPublisher) {
			p.publish = func(ctx context.Context, msg broker.OutgoingMessage) error {
				if msg.Options != nil {
					return &broker.Error{Op: "publish", Broker: "memory", Name: msg.Name, Kind: broker.ErrInvalid}
				}
				return p.publisher.Publish(ctx, msg)
			}
		}),
	},
}

// outgoing changes each message before it is published.
func outgoing(f func(*broker.OutgoingMessage)) func(*rig) {
	return publishers(func(p *faultyPublisher) {
		p.publish = func(ctx context.Context, msg broker.OutgoingMessage) error {
			f(&msg)
			return p.publisher.Publish(ctx, msg)
		}
	})
}

// headers replaces each header field of what is published.
func headers(f func(broker.Header) []broker.Header) func(*rig) {
	return outgoing(func(msg *broker.OutgoingMessage) {
		var fields []broker.Header
		for key, value := range msg.Headers.All() {
			fields = append(fields, f(broker.Header{Key: key, Value: value})...)
		}
		msg.Headers = broker.NewHeaders(fields...)
	})
}

// lateMessages are sent later than Publish said, and from the caller's buffer.
type lateMessages struct {
	mu   sync.Mutex
	msgs []broker.OutgoingMessage
}

func (l *lateMessages) add(msg broker.OutgoingMessage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.msgs = append(l.msgs, msg)
}

// flush is called by who publishes or receives next: there is no data race.
func (l *lateMessages) flush(p broker.Publisher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, msg := range l.msgs {
		_ = p.Publish(context.Background(), msg)
	}
	l.msgs = nil
}

// keepBuffer sends a message when the next is published or something is received.
func keepBuffer(r *rig) {
	var late lateMessages
	publishers(func(p *faultyPublisher) {
		p.publish = func(ctx context.Context, msg broker.OutgoingMessage) error {
			late.flush(p.publisher)
			late.add(msg)
			return nil
		}
	})(r)
	subscriptions(func(s *faultySubscription) {
		s.receive = func(ctx context.Context) (broker.IncomingMessage, error) {
			late.flush(s.on().Broker.Publisher())
			return s.subscription.Receive(ctx)
		}
	})(r)
}

// sharePayloads gives every delivery of a message the same bytes.
func sharePayloads(r *rig) {
	var shared sync.Map
	messages(func(m *faultyMessage) {
		p := m.message.Payload()
		first, _ := shared.LoadOrStore(m.Name()+" "+string(p), p)
		m.payload = func() []byte { return first.([]byte) }
	})(r)
}

package broker_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gostream/gostream/broker"
)

// The bare types implement what is required and no capability.

type bareBroker struct{}

func (bareBroker) Connect(context.Context) error  { return nil }
func (bareBroker) Shutdown(context.Context) error { return nil }

type bareMessage struct{ id int }

func (bareMessage) Name() string                     { return "orders" }
func (bareMessage) Payload() []byte                  { return nil }
func (bareMessage) Headers() broker.Headers          { return broker.Headers{} }
func (bareMessage) Ack(context.Context) error        { return nil }
func (bareMessage) Nack(context.Context, bool) error { return nil }

type bareSubscription struct{}

func (bareSubscription) Receive(context.Context) (broker.IncomingMessage, error) {
	return nil, broker.ErrClosed
}
func (bareSubscription) Close(context.Context) error { return nil }

type barePublisher struct{}

func (barePublisher) Publish(context.Context, broker.OutgoingMessage) error { return nil }

type bareSource struct{ name string }

func (s bareSource) Name() string              { return s.name }
func (bareSource) Check(b broker.Broker) error { return nil }
func (bareSource) Subscribe(context.Context, broker.Broker) (broker.Subscription, error) {
	return bareSubscription{}, nil
}

// The full types have every capability of their kind. A method that can fail
// answers err, after it has seen that the caller's context came through.

type ctxKey struct{}

// callerContext returns a context that the full types recognise.
func callerContext() context.Context {
	return context.WithValue(context.Background(), ctxKey{}, "the caller's")
}

var errForeignContext = errors.New("the context is not the caller's")

func seen(ctx context.Context, err error) error {
	if ctx.Value(ctxKey{}) == nil {
		return errForeignContext
	}
	return err
}

type fullBroker struct {
	bareBroker
	err       error
	publisher broker.Publisher
	listeners []func(broker.Event)
	asked     []string // what the name methods were called with
}

func (b *fullBroker) Subscribe(ctx context.Context, name string) (broker.Subscription, error) {
	b.asked = append(b.asked, "subscribe "+name)
	if err := seen(ctx, b.err); err != nil {
		return nil, err
	}
	return bareSubscription{}, nil
}
func (b *fullBroker) Publisher() broker.Publisher      { return b.publisher }
func (b *fullBroker) Check() error                     { return b.err }
func (b *fullBroker) Health(ctx context.Context) error { return seen(ctx, b.err) }
func (b *fullBroker) Notify(f func(broker.Event))      { b.listeners = append(b.listeners, f) }
func (b *fullBroker) DescribeServer() broker.ServerSpec {
	return broker.ServerSpec{Protocol: "full", Hosts: []string{"localhost:1"}}
}

func (b *fullBroker) Properties() broker.Properties {
	return broker.Properties{Redelivers: true, Keys: broker.KeysNative}
}

// MatchName takes a trailing star for anything.
func (b *fullBroker) MatchName(pattern, name string) bool {
	b.asked = append(b.asked, "match "+pattern+" "+name)
	if prefix, ok := cutStar(pattern); ok {
		return len(name) >= len(prefix) && name[:len(prefix)] == prefix
	}
	return pattern == name
}

func (b *fullBroker) CheckSubscribeName(name string) error {
	b.asked = append(b.asked, "subscribe to "+name)
	return b.err
}

func (b *fullBroker) CheckPublishName(name string) error {
	b.asked = append(b.asked, "publish to "+name)
	return b.err
}

func cutStar(pattern string) (string, bool) {
	if n := len(pattern) - 1; n >= 0 && pattern[n] == '*' {
		return pattern[:n], true
	}
	return pattern, false
}

type fullMessage struct {
	bareMessage
	err   error
	delay *time.Duration
	count int
	key   []byte
	until time.Time
	stale bool
}

func (m fullMessage) NackAfter(ctx context.Context, d time.Duration) error {
	if m.delay != nil {
		*m.delay = d
	}
	return seen(ctx, m.err)
}
func (m fullMessage) DeliveryCount() int                    { return m.count }
func (m fullMessage) PartitionKey() []byte                  { return m.key }
func (m fullMessage) LeaseUntil() time.Time                 { return m.until }
func (m fullMessage) ExtendLease(ctx context.Context) error { return seen(ctx, m.err) }
func (m fullMessage) Stale() bool                           { return m.stale }

type fullSubscription struct {
	bareSubscription
	err error
}

func (s fullSubscription) Lag(ctx context.Context) (int64, error) { return 7, seen(ctx, s.err) }
func (s fullSubscription) Begin(ctx context.Context) (broker.Transaction, error) {
	return openTransaction{}, seen(ctx, s.err)
}

func (s fullSubscription) ReceiveBatch(ctx context.Context, dst []broker.IncomingMessage) (int, error) {
	if err := seen(ctx, s.err); err != nil {
		return 0, err
	}
	dst[0] = bareMessage{id: 1}
	return 1, nil
}

type fullPublisher struct {
	barePublisher
	err   error
	batch *[]broker.OutgoingMessage
}

func (p fullPublisher) Request(ctx context.Context, msg broker.OutgoingMessage) (broker.IncomingMessage, error) {
	if err := seen(ctx, p.err); err != nil {
		return nil, err
	}
	if msg.Name != "ask" {
		return nil, fmt.Errorf("the message is not the caller's: %q", msg.Name)
	}
	return bareMessage{id: 2}, nil
}

func (p fullPublisher) Begin(ctx context.Context) (broker.Transaction, error) {
	return openTransaction{}, seen(ctx, p.err)
}

func (p fullPublisher) PublishBatch(ctx context.Context, msgs []broker.OutgoingMessage) error {
	if p.batch != nil {
		*p.batch = append(*p.batch, msgs...)
	}
	return seen(ctx, p.err)
}

type openTransaction struct{}

func (openTransaction) Publish(context.Context, broker.OutgoingMessage) error { return nil }
func (openTransaction) Ack(context.Context, broker.IncomingMessage) error     { return nil }
func (openTransaction) Commit(context.Context) error                          { return nil }
func (openTransaction) Abort(context.Context) error                           { return nil }

type fullSource struct {
	bareSource
	publisher broker.Publisher
	spec      broker.SourceSpec
}

func (s fullSource) Spec() broker.SourceSpec                    { return s.spec }
func (s fullSource) Match(name string) bool                     { return name == "matched" }
func (s fullSource) Publisher(b broker.Broker) broker.Publisher { return s.publisher }

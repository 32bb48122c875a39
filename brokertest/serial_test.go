package brokertest_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokertest"
	"github.com/gostream/gostream/memory"
)

// TestSerial: a broker that has what memory has not passes: one transaction at a time,
// which belongs to the subscription, keys in a header, and a limit that is soon
// reached.
func TestSerial(t *testing.T) {
	t.Parallel()
	store := memory.NewStore(memory.MaxPayload(1 << 20))
	h := memoryHarness()
	h.Timeout, h.Quiet, h.Load, h.Bulk = 3*time.Second, 30*time.Millisecond, 400, 10_000
	h.New = func() broker.Broker {
		return &serial{Broker: memory.New(memory.On(store)), open: make(chan struct{}, 1), done: make(chan struct{})}
	}
	h.Source = func(_ context.Context, id string) (brokertest.Target, error) {
		return brokertest.Target{Source: serialSource{memory.Pattern(id).Limit(20)}, Name: id}, nil
	}
	h.Group = func(_ context.Context, id string) (brokertest.Group, error) {
		return brokertest.Group{
			Name:   id,
			Member: func(group string) broker.Source { return serialSource{memory.Queue(id, group).Limit(20)} },
		}, nil
	}
	h.Pattern = nil
	r := brokertest.Run(t, h)
	for _, name := range []string{"batch-receive/limit", "keys/header", "transactions/two"} {
		if !slices.ContainsFunc(r.Results(), func(res brokertest.Result) bool {
			return res.Name == name && res.Status == brokertest.Passed
		}) {
			t.Errorf("%s did not pass", name)
		}
	}
}

// serial is memory with one transaction at a time, and keys in a header.
type serial struct {
	*memory.Broker
	open chan struct{} // has an element while a transaction is open
	once sync.Once
	done chan struct{} // closed by Shutdown
}

func (b *serial) Shutdown(ctx context.Context) error {
	b.once.Do(func() { close(b.done) })
	return b.Broker.Shutdown(ctx)
}

func serialProperties(p broker.Properties) broker.Properties {
	p.SerialTransactions, p.Keys = true, broker.KeysHeader
	return p
}

func (b *serial) Properties() broker.Properties { return serialProperties(b.Broker.Properties()) }

func (b *serial) Subscribe(ctx context.Context, name string) (broker.Subscription, error) {
	return serialSource{memory.Pattern(name)}.Subscribe(ctx, b)
}

func (b *serial) Publisher() broker.Publisher { return serialPublisher{b} }

func (b *serial) begin(ctx context.Context) (broker.Transaction, error) {
	if err := b.Health(context.Background()); err != nil {
		return nil, err
	}
	select {
	case b.open <- struct{}{}:
	case <-b.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	t, err := b.Broker.Publisher().(broker.Transactor).Begin(ctx)
	if err != nil {
		return nil, err
	}
	return &serialTransaction{Transaction: t, b: b}, nil
}

// keyed puts the key into the header.
func keyed(msg broker.OutgoingMessage) broker.OutgoingMessage {
	if msg.Key != nil {
		msg.Headers = msg.Headers.With(broker.HeaderKey, string(msg.Key))
		msg.Key = nil
	}
	return msg
}

// serialPublisher has no transactions: they belong to the subscription.
type serialPublisher struct{ b *serial }

func (p serialPublisher) Publish(ctx context.Context, msg broker.OutgoingMessage) error {
	return p.b.Broker.Publisher().Publish(ctx, keyed(msg))
}

type serialTransaction struct {
	broker.Transaction
	b    *serial
	once sync.Once
}

func (t *serialTransaction) Publish(ctx context.Context, msg broker.OutgoingMessage) error {
	return t.Transaction.Publish(ctx, keyed(msg))
}

func (t *serialTransaction) Ack(ctx context.Context, m broker.IncomingMessage) error {
	if s, ok := m.(serialMessage); ok {
		m = s.m
	}
	return t.Transaction.Ack(ctx, m)
}

func (t *serialTransaction) Commit(ctx context.Context) error {
	defer t.ended()
	return t.Transaction.Commit(ctx)
}

func (t *serialTransaction) Abort(ctx context.Context) error {
	defer t.ended()
	return t.Transaction.Abort(ctx)
}

func (t *serialTransaction) ended() { t.once.Do(func() { <-t.b.open }) }

type serialSource struct{ source }

func (s serialSource) Check(b broker.Broker) error {
	x, ok := b.(*serial)
	if !ok {
		return fmt.Errorf("%w: the source %q needs a serial broker, not %T", broker.ErrInvalid, s.Name(), b)
	}
	return s.source.Check(x.Broker)
}

func (s serialSource) Spec() broker.SourceSpec {
	spec := s.source.Spec()
	spec.Properties = serialProperties(spec.Properties)
	return spec
}

func (s serialSource) Subscribe(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
	if err := s.Check(b); err != nil {
		return nil, err
	}
	sub, err := s.source.Subscribe(ctx, b.(*serial).Broker)
	if err != nil {
		return nil, err
	}
	return &serialSubscription{sub.(memorySubscription), b.(*serial)}, nil
}

type serialSubscription struct {
	memorySubscription
	b *serial
}

func (s *serialSubscription) Begin(ctx context.Context) (broker.Transaction, error) {
	return s.b.begin(ctx)
}

func (s *serialSubscription) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	m, err := s.memorySubscription.Receive(ctx)
	if err != nil {
		return nil, err
	}
	return serialMessage{m, m.(*memory.Message)}, nil
}

func (s *serialSubscription) ReceiveBatch(ctx context.Context, dst []broker.IncomingMessage) (int, error) {
	n, err := s.memorySubscription.ReceiveBatch(ctx, dst)
	for i, m := range dst[:n] {
		dst[i] = serialMessage{m, m.(*memory.Message)}
	}
	return n, err
}

// serialMessage has its key in the header, counts and knows no delayed nack.
type serialMessage struct {
	broker.IncomingMessage
	m *memory.Message
}

func (m serialMessage) DeliveryCount() int { return m.m.DeliveryCount() }

func (m serialMessage) PartitionKey() []byte {
	if key, ok := m.Headers().Lookup(broker.HeaderKey); ok {
		return []byte(key)
	}
	return nil
}

package gostream_test

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

// quiet is a logger that drops everything.
func quiet() gostream.AppOption { return gostream.WithLogger(slog.New(slog.DiscardHandler)) }

// stubBroker is a broker whose subscriptions the test supplies: for what a real
// one cannot be made to do, and for measuring dispatch alone.
type stubBroker struct {
	properties broker.Properties
	subscribe  func(ctx context.Context, name string) (broker.Subscription, error)
	publish    func(ctx context.Context, msg broker.OutgoingMessage) error
	connect    func(ctx context.Context) error
	shutdown   func(ctx context.Context) error
}

func (b *stubBroker) Connect(ctx context.Context) error {
	if b.connect != nil {
		return b.connect(ctx)
	}
	return nil
}

func (b *stubBroker) Shutdown(ctx context.Context) error {
	if b.shutdown != nil {
		return b.shutdown(ctx)
	}
	return nil
}

func (b *stubBroker) Subscribe(ctx context.Context, name string) (broker.Subscription, error) {
	return b.subscribe(ctx, name)
}
func (b *stubBroker) Properties() broker.Properties { return b.properties }
func (b *stubBroker) Publisher() broker.Publisher {
	if b.publish == nil {
		return nil
	}
	return stubPublisher{b}
}

type stubPublisher struct{ b *stubBroker }

func (p stubPublisher) Publish(ctx context.Context, msg broker.OutgoingMessage) error {
	return p.b.publish(ctx, msg)
}

// stubMessage records how it was settled.
type stubMessage struct {
	name    string
	payload []byte
	headers broker.Headers

	mu      sync.Mutex
	settled []string
	settle  func(how string) error
}

func (m *stubMessage) Name() string            { return m.name }
func (m *stubMessage) Payload() []byte         { return m.payload }
func (m *stubMessage) Headers() broker.Headers { return m.headers }
func (m *stubMessage) Ack(context.Context) error {
	return m.record("ack")
}

func (m *stubMessage) Nack(_ context.Context, requeue bool) error {
	if requeue {
		return m.record("requeue")
	}
	return m.record("reject")
}

func (m *stubMessage) record(how string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settled = append(m.settled, how)
	if m.settle != nil {
		return m.settle(how)
	}
	return nil
}

func (m *stubMessage) how() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.settled...)
}

// feed is a subscription fed by a channel: a message, or an error of Receive. Made
// in a synctest bubble it belongs to it.
type feed struct {
	in     chan any // broker.IncomingMessage or error
	closed chan struct{}
	once   sync.Once
	drains bool // hands out what has arrived before ErrClosed
}

func newFeed() *feed { return &feed{in: make(chan any, 1024), closed: make(chan struct{})} }

func (f *feed) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	if f.drains {
		select {
		case v := <-f.in:
			return feedValue(v)
		default:
		}
	}
	select {
	case <-f.closed:
		return nil, broker.ErrClosed
	default:
	}
	select {
	case v := <-f.in:
		return feedValue(v)
	case <-f.closed:
		return nil, broker.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func feedValue(v any) (broker.IncomingMessage, error) {
	if err, ok := v.(error); ok {
		return nil, err
	}
	return v.(broker.IncomingMessage), nil
}

func (f *feed) Close(context.Context) error {
	f.once.Do(func() { close(f.closed) })
	return nil
}

// tap is a subscription that hands out one message as often as it is told to,
// without any cost of its own.
type tap struct {
	msg  broker.IncomingMessage
	left int // the receiver's
	more chan int
}

func (t *tap) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	for t.left == 0 {
		select {
		case t.left = <-t.more:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	t.left--
	return t.msg, nil
}
func (t *tap) Close(context.Context) error { return nil }

// bareMessage is a message that costs nothing.
type bareMessage struct {
	payload []byte
	acks    atomic.Int64
}

func (m *bareMessage) Name() string                     { return "stub" }
func (m *bareMessage) Payload() []byte                  { return m.payload }
func (m *bareMessage) Headers() broker.Headers          { return broker.Headers{} }
func (m *bareMessage) Ack(context.Context) error        { m.acks.Add(1); return nil }
func (m *bareMessage) Nack(context.Context, bool) error { return nil }

// exit ends the goroutine, as t.FailNow does.
func exit() { runtime.Goexit() }

package brokertest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokertest"
)

// TestUnacknowledged: a transport that has no acknowledgements passes.
func TestUnacknowledged(t *testing.T) {
	t.Parallel()
	r := newRig()
	unacknowledged(r)
	brokertest.Run(t, r.Harness)
}

// unacknowledged makes of memory a transport without acknowledgements: what was
// received is gone, and nothing redelivers.
func unacknowledged(r *rig) {
	r.declare = func(p *broker.Properties) { p.Redelivers, p.CountsDeliveries = false, false }
	r.Lease = nil
	r.subscription = func(s subscription) broker.Subscription { return newUnacked(s) }
	r.publisher = func(p publisher) broker.Publisher {
		return struct { // what is received cannot be part of a transaction
			broker.Publisher
			broker.BatchPublisher
			broker.Requester
		}{p, p, p}
	}
}

// unackedSubscription settles what it hands out. What had arrived when it was closed
// it still hands out.
type unackedSubscription struct {
	s        subscription
	receiver chan struct{} // held by whoever receives
	closing  context.Context
	close    context.CancelFunc
	arrived  []broker.IncomingMessage // guarded by receiver
}

func newUnacked(s subscription) *unackedSubscription {
	u := &unackedSubscription{s: s, receiver: make(chan struct{}, 1)}
	u.closing, u.close = context.WithCancel(context.Background())
	return u
}

func (u *unackedSubscription) on() *conn { return u.s.on() }

func (u *unackedSubscription) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	u.receiver <- struct{}{}
	defer func() { <-u.receiver }()
	if u.closing.Err() == nil {
		both, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(u.closing, cancel)()
		m, err := u.s.Receive(both)
		if err == nil {
			return u.handOut(m), nil
		}
		if u.closing.Err() == nil || ctx.Err() != nil {
			return nil, err
		}
		u.drain()
	}
	if len(u.arrived) > 0 && !u.on().isShutDown() {
		m := u.arrived[0]
		u.arrived = u.arrived[1:]
		return m, nil
	}
	return nil, &broker.Error{Op: "receive", Broker: "memory", Kind: broker.ErrClosed}
}

// drain takes what has arrived. The receiver calls it.
func (u *unackedSubscription) drain() {
	for {
		n, err := u.s.Lag(context.Background())
		if err != nil || n == 0 {
			return
		}
		m, err := u.s.Receive(context.Background())
		if err != nil {
			return
		}
		u.arrived = append(u.arrived, u.handOut(m))
	}
}

func (u *unackedSubscription) Close(ctx context.Context) error {
	u.close()
	u.receiver <- struct{}{}
	defer func() { <-u.receiver }()
	u.drain()
	return u.s.Close(ctx)
}

func (u *unackedSubscription) handOut(m broker.IncomingMessage) broker.IncomingMessage {
	raw := m.(message)
	if err := raw.Ack(context.Background()); err != nil && !errors.Is(err, broker.ErrClosed) {
		panic(err)
	}
	r := u.on().r
	if r.unacked != nil {
		return r.unacked(&unackedMessage{raw})
	}
	return &unackedMessage{raw}
}

// unackedMessage cannot be settled.
type unackedMessage struct{ m message }

func (m *unackedMessage) Name() string            { return m.m.Name() }
func (m *unackedMessage) Payload() []byte         { return m.m.Payload() }
func (m *unackedMessage) Headers() broker.Headers { return m.m.Headers() }
func (m *unackedMessage) PartitionKey() []byte    { return m.m.PartitionKey() }

func (m *unackedMessage) Ack(context.Context) error                      { return m.refuse("ack") }
func (m *unackedMessage) Nack(context.Context, bool) error               { return m.refuse("nack") }
func (m *unackedMessage) NackAfter(context.Context, time.Duration) error { return m.refuse("nack") }

func (m *unackedMessage) refuse(op string) error {
	kind := errors.ErrUnsupported
	if m.m.on().isShutDown() {
		kind = broker.ErrClosed
	}
	return &broker.Error{Op: op, Broker: "memory", Name: m.Name(), Kind: kind}
}

package memory

import (
	"context"
	"errors"
	"time"

	"github.com/gostream/gostream/broker"
)

// Ack says that the message was processed: it is gone. See
// [broker.IncomingMessage] for the errors.
func (m *Message) Ack(context.Context) error {
	return m.settle("ack", nil)
}

// Nack says that the message was not processed. With requeue it comes again,
// before anything that was not yet received; without, it is gone.
func (m *Message) Nack(_ context.Context, requeue bool) error {
	if !requeue {
		return m.settle("nack", nil)
	}
	return m.settle("nack", func(q *queue) { q.giveBack(m.again()) })
}

// NackAfter gives the message back so that it comes again after d, before anything
// that was not yet received by then. d <= 0 is at once. The time runs on while no
// subscription is attached.
func (m *Message) NackAfter(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return m.Nack(ctx, true)
	}
	due := time.Now().Add(d)
	return m.settle("nack", func(q *queue) { q.giveBackAt(m.again(), due) })
}

var errNotReceived = errors.New("the message was not received from a subscription")

// settle settles the delivery and does what then is to be done with the message,
// under one lock. The lock is what decides between two settlements, and between a
// settlement and the broker's Shutdown.
func (m *Message) settle(op string, then func(*queue)) error {
	s := m.sub
	if s == nil {
		return fail(op, m.name, broker.ErrInvalid, errNotReceived)
	}
	if s.b.isClosed() {
		return fail(op, m.name, broker.ErrClosed, nil)
	}
	q := m.q
	q.mu.Lock()
	if m.state != unsettled {
		err := m.refuse(op)
		q.mu.Unlock()
		return err
	}
	m.state = settled
	if then != nil {
		then(q)
	}
	last := s.drop(m)
	q.mu.Unlock()
	if last {
		s.done()
	}
	return nil
}

// refuse is the answer to settling a delivery that is not unsettled.
func (m *Message) refuse(op string) error {
	if m.state == takenBack {
		return fail(op, m.name, broker.ErrClosed, nil)
	}
	return fail(op, m.name, broker.ErrSettled, nil)
}

// done is called when the last delivery of a closed subscription was settled.
func (s *subscription) done() {
	s.b.store.lastSettled(s.q)
	s.b.forgetIfDone(s)
}

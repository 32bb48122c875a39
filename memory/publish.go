package memory

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/gostream/gostream/broker"
)

// publisher implements broker.Publisher, broker.BatchPublisher, broker.Transactor
// and broker.Requester.
type publisher struct {
	b    *Broker
	last atomic.Pointer[route] // the route of the last publish, which the next often needs
}

var errOptions = errors.New("the field Options must be nil: this broker has no options for a message")

// Publish puts the message into every queue that takes it. See [Broker.Publisher].
func (p *publisher) Publish(ctx context.Context, msg broker.OutgoingMessage) error {
	return p.publish(ctx, "publish", &msg)
}

func (p *publisher) publish(ctx context.Context, op string, msg *broker.OutgoingMessage) error {
	b := p.b
	if err := b.usable(op, msg.Name); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fail(op, msg.Name, nil, err)
	}
	if err := b.store.checkMessage(op, msg); err != nil {
		return err
	}
	r := p.route(msg.Name)
	if r == nil {
		if isReserved(msg.Name) {
			return b.store.inboxes.publish(op, msg)
		}
		if err := checkName(msg.Name); err != nil {
			return fail(op, msg.Name, broker.ErrInvalid, err)
		}
		r = b.store.resolve(msg.Name, true)
		p.last.Store(r)
	}
	m := newMessage(r.name, msg)
	if len(r.queues) == 1 && r.queues[0].tryPush(m) {
		return nil
	}
	return b.place(ctx, op, r, m, false)
}

// route returns the route of name where it is known.
func (p *publisher) route(name string) *route {
	if r := p.last.Load(); r != nil && r.name == name && !r.stale.Load() {
		return r
	}
	r := p.b.store.route(name)
	if r != nil {
		p.last.Store(r)
	}
	return r
}

// checkMessage checks everything but the name, and makes the headers ours. msg is
// our copy of what the caller gave.
func (st *Store) checkMessage(op string, msg *broker.OutgoingMessage) error {
	if msg.Options != nil {
		return fail(op, msg.Name, broker.ErrInvalid, fmt.Errorf("%w (got a %T)", errOptions, msg.Options))
	}
	if st.maxPayload > 0 && len(msg.Payload) > st.maxPayload {
		return fail(op, msg.Name, broker.ErrTooLarge, fmt.Errorf("the payload has %d bytes, the limit is %d", len(msg.Payload), st.maxPayload))
	}
	msg.Headers = msg.Headers.Owned()
	if err := checkHeaders(msg.Headers); err != nil {
		return fail(op, msg.Name, broker.ErrInvalid, err)
	}
	return nil
}

// tryPush is the way of most messages: one queue, with room.
func (q *queue) tryPush(m *Message) bool {
	q.mu.Lock()
	if !q.accepting || q.room() <= 0 {
		q.mu.Unlock()
		return false
	}
	q.push(m, q.store.seq.Add(1))
	q.mu.Unlock()
	return true
}

// place puts m into every queue of its route and waits for room where it must.
// With ask there must be an attached subscription.
func (b *Broker) place(ctx context.Context, op string, r *route, m *Message, ask bool) error {
	var few [8]*Message
	copies := append(few[:0], m)
	var w *waiter    // made when it is needed
	var woken *queue // where w was woken
	for {
		if r == nil {
			return fail(op, m.name, ErrNoResponders, nil)
		}
		for len(copies) < len(r.queues) {
			copies = append(copies, m.another())
		}
		how, q := r.put(copies[:len(r.queues)], ask, w)
		woken.pass()
		woken = nil
		switch how {
		case placed:
			return nil
		case nobody:
			return fail(op, m.name, ErrNoResponders, nil)
		case outdated:
			r = b.store.resolve(m.name, !ask)
		case full:
			if w == nil {
				w = newWaiter()
				continue
			}
			if err := b.awaitRoom(ctx, op, m.name, q, w); err != nil {
				return err
			}
			woken = q
		}
	}
}

// awaitRoom waits until w is woken at q. The caller then tries once and calls
// pass; on an error all is done.
func (b *Broker) awaitRoom(ctx context.Context, op, name string, q *queue, w *waiter) error {
	select {
	case <-w.wake:
	case <-ctx.Done():
	case <-b.done:
	}
	var err error
	if b.isClosed() {
		err = fail(op, name, broker.ErrClosed, nil)
	} else if cause := ctx.Err(); cause != nil {
		err = fail(op, name, ErrFull, fmt.Errorf("no room in the queue of %s: %w", broker.Quote(q.key.name), cause))
	}
	if err != nil {
		q.mu.Lock()
		q.writers.remove(w)
		q.passRoom() // w may have been woken, or have stood before one that needs less
		q.mu.Unlock()
	}
	return err
}

// pass wakes the next publisher that waits at q, if there is room: the one that
// was woken may not have used it. A nil q is fine.
func (q *queue) pass() {
	if q == nil {
		return
	}
	q.mu.Lock()
	q.passRoom()
	q.mu.Unlock()
}

// PublishBatch publishes msgs in order, each as Publish does. What could not be
// published is told by a [*broker.BatchError]; the others were.
func (p *publisher) PublishBatch(ctx context.Context, msgs []broker.OutgoingMessage) error {
	if err := p.b.usable("publish", ""); err != nil {
		return err
	}
	var failed *broker.BatchError
	for i := range msgs {
		msg := msgs[i]
		err := p.publish(ctx, "publish", &msg)
		if err == nil {
			continue
		}
		if failed == nil {
			failed = &broker.BatchError{Errs: make([]error, len(msgs))}
		}
		failed.Errs[i] = err
	}
	if failed != nil {
		return failed
	}
	return nil
}

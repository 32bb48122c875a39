package memory

import (
	"context"
	"errors"

	"github.com/gostream/gostream/broker"
)

// DefaultLimit is how many deliveries of one subscription may be unsettled at once
// unless its source says otherwise.
const DefaultLimit = 65_536

// subscription reads one queue. It implements broker.Subscription,
// broker.BatchReceiver and broker.Lagger.
type subscription struct {
	// Never changed once Subscribe returned.
	b     *Broker
	q     *queue
	name  string // as the subscriber gave it
	limit int

	// Guarded by q.mu, but for the channel.
	waiter
	closed      bool
	receiving   bool     // a Receive is waiting, or about to
	starved     bool     // it waits for a settlement
	unsettled   int      // how many deliveries are out
	first, last *Message // these deliveries, in the order of their delivery
}

// errConcurrent tells of a mistake that would otherwise look like a hang.
var errConcurrent = errors.New("a Receive waits already: there is one receiver per subscription")

// Receive returns the next delivery. A ctx that has ended takes nothing.
func (s *subscription) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	if ctx.Err() == nil {
		s.q.mu.Lock()
		if s.ready() {
			m := s.take()
			s.q.mu.Unlock()
			m.fill()
			return m, nil
		}
		s.q.mu.Unlock()
	}
	var one [1]broker.IncomingMessage
	if _, err := s.receive(ctx, one[:]); err != nil {
		return nil, err
	}
	return one[0], nil
}

// ReceiveBatch waits for the first delivery and returns what is there. A ctx that
// has ended takes nothing.
func (s *subscription) ReceiveBatch(ctx context.Context, dst []broker.IncomingMessage) (int, error) {
	return s.receive(ctx, dst)
}

// receive fills dst with at least one delivery.
func (s *subscription) receive(ctx context.Context, dst []broker.IncomingMessage) (int, error) {
	s.q.mu.Lock()
	if s.receiving && !s.closed {
		s.q.mu.Unlock()
		return 0, fail("receive", s.name, broker.ErrInvalid, errConcurrent)
	}
	s.receiving = true
	n, err := s.await(ctx, dst)
	s.receiving = false
	s.q.mu.Unlock()
	for _, m := range dst[:n] {
		m.(*Message).fill()
	}
	return n, err
}

// await takes what is there, and waits for it if it must. The queue is locked when
// it is called and when it returns, and not while it waits.
func (s *subscription) await(ctx context.Context, dst []broker.IncomingMessage) (int, error) {
	q := s.q
	for {
		switch err := ctx.Err(); {
		case s.closed:
			return 0, fail("receive", s.name, broker.ErrClosed, nil)
		case len(dst) == 0:
			return 0, nil
		case err != nil:
			if !q.readers.remove(&s.waiter) {
				q.passReader() // s may have been woken for a message, which it leaves
			}
			return 0, fail("receive", s.name, nil, err)
		}
		n := 0
		for n < len(dst) && s.ready() {
			dst[n] = s.take()
			n++
		}
		if n > 0 {
			q.readers.remove(&s.waiter)
			return n, nil
		}
		if s.unsettled < s.limit {
			q.readers.add(&s.waiter)
		} else {
			s.starved = true
		}
		q.mu.Unlock()
		select {
		case <-s.wake:
		case <-ctx.Done():
		}
		q.mu.Lock()
	}
}

// ready reports whether take may be called.
func (s *subscription) ready() bool {
	return !s.closed && s.unsettled < s.limit && s.q.available() > 0
}

// take takes the next message of the queue.
func (s *subscription) take() *Message {
	m := s.q.pop()
	m.sub = s
	m.prev = s.last
	if s.last == nil {
		s.first = m
	} else {
		s.last.next = m
	}
	s.last = m
	s.unsettled++
	return m
}

// drop takes a settled delivery out of the list and reports whether it was the
// last of a closed subscription.
func (s *subscription) drop(m *Message) (last bool) {
	if m.prev == nil {
		s.first = m.next
	} else {
		m.prev.next = m.next
	}
	if m.next == nil {
		s.last = m.prev
	} else {
		m.next.prev = m.prev
	}
	m.prev, m.next = nil, nil
	s.unsettled--
	if s.starved {
		s.starved = false
		s.signal()
	}
	if s.closed && s.unsettled == 0 {
		s.q.forget(s)
		return true
	}
	return false
}

// takeBack gives every unsettled delivery back to the queue, also those that an
// open transaction holds.
func (s *subscription) takeBack() {
	for m := s.first; m != nil; {
		next := m.next
		m.state = takenBack
		m.prev, m.next = nil, nil
		s.q.giveBack(m.again())
		m = next
	}
	s.first, s.last, s.unsettled = nil, nil, 0
}

// forget takes s off the list of those that read q or have deliveries of it.
func (q *queue) forget(s *subscription) {
	for i, other := range q.subs {
		if other == s {
			last := len(q.subs) - 1
			q.subs[i] = q.subs[last]
			q.subs[last] = nil
			q.subs = q.subs[:last]
			return
		}
	}
}

// Close stops the intake. What waits stays in the queue, as the package comment
// says. Deliveries that are out can be settled until the broker's Shutdown. ctx is
// not asked: Close does not wait.
func (s *subscription) Close(context.Context) error {
	s.b.store.detach(s, false)
	s.b.forgetIfDone(s)
	return nil
}

// Lag is how many messages of the queue wait to be delivered, those included whose
// delay has not passed. The members of a group share a queue and its lag.
func (s *subscription) Lag(ctx context.Context) (int64, error) {
	if err := s.b.usable("lag", s.name); err != nil {
		return 0, err
	}
	s.q.mu.Lock()
	defer s.q.mu.Unlock()
	if s.closed {
		return 0, fail("lag", s.name, broker.ErrClosed, nil)
	}
	if err := ctx.Err(); err != nil {
		return 0, fail("lag", s.name, nil, err)
	}
	return int64(s.q.waiting()), nil
}

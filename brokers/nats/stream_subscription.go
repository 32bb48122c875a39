package nats

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/broker"
)

var (
	_ broker.Subscription  = (*streamSubscription)(nil)
	_ broker.BatchReceiver = (*streamSubscription)(nil)
	_ broker.Lagger        = (*streamSubscription)(nil)
)

// streamSubscription pulls from a consumer. Requests for messages go out from Receive.
// What they bring comes into a channel, from which Receive takes it itself: no other
// goroutine has to run for a message.
type streamSubscription struct {
	b    *Broker
	c    *connection
	src  StreamSource
	in   chan *natsgo.Msg // what the inbox gets
	wake chan struct{}    // wakes a Receive that waits, for something else than a message
	gone atomic.Bool      // the consumer is gone: nothing can be settled

	closing sync.Once

	mu      sync.Mutex
	inbox   *inbox
	from    *consumer
	pull    pull
	waiting bool  // a Receive waits at the channel, or has something of it in hand
	closed  bool  // nothing more is handed out, but what an ordered reader has
	drained bool  // closed, and whatever was sent has arrived
	lost    error // what Receive answers from now on
	order   order
	timer   *time.Timer
	ticking bool
	alive   *time.Timer // of a consumer that the server removes; nil for none
	last    string      // the reply subject of what was handed out last

	// The unsettled messages, in the order in which they were handed out.
	head, tail *Message
}

func (b *Broker) subscribeStream(ctx context.Context, src StreamSource) (broker.Subscription, error) {
	c, err := b.enter("subscribe", src.subject)
	if err != nil {
		return nil, err
	}
	defer b.life.leave()
	if err := ctx.Err(); err != nil {
		return nil, b.fail("subscribe", src.subject, err)
	}
	ctx, cancel := withDefault(ctx, broker.DefaultTimeout)
	defer cancel()
	s := &streamSubscription{b: b, c: c, src: src, wake: make(chan struct{}, 1)}
	err = c.askUntil(ctx, func(ctx context.Context) (err error) {
		s.src = src
		s.from, err = b.topology(ctx, c, &s.src)
		return err
	})
	if err != nil {
		return nil, b.failTopology(src.subject, err)
	}
	s.pull.init(s.from, src.prefetch)
	s.timer = time.AfterFunc(time.Hour, s.tick)
	s.timer.Stop()
	// What may arrive is bounded by what was asked for: on this connection, and on the
	// one before, whose requests the server may not have forgotten.
	s.in = make(chan *natsgo.Msg, 4*src.prefetch+inboxSpare)
	if s.inbox, err = s.newInbox(); err != nil {
		return nil, b.fail("subscribe", src.subject, err)
	}
	if !b.add(s) {
		_ = s.inbox.sub.Unsubscribe()
		return nil, fail("subscribe", src.subject, broker.ErrClosed, nil)
	}
	if s.from.inactive > 0 && !src.ordered {
		s.mu.Lock()
		if !s.closed { // Shutdown may have been here
			s.alive = time.AfterFunc(s.from.inactive/aliveShare, s.keepAlive)
		}
		s.mu.Unlock()
	}
	return s, nil
}

// failTopology translates an error that may be a mistake of the source.
func (b *Broker) failTopology(name string, err error) error {
	var m mismatch
	if errors.As(err, &m) {
		return fail("subscribe", name, broker.ErrInvalid, err)
	}
	return b.fail("subscribe", name, err)
}

// consumer is the one that messages come from; an ordered reader changes it.
func (s *streamSubscription) consumer() *consumer {
	if !s.src.ordered {
		return s.from
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.from
}

// Receive returns the next message.
func (s *streamSubscription) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	var one [1]broker.IncomingMessage
	if _, err := s.receive(ctx, one[:]); err != nil {
		return nil, err
	}
	return one[0], nil
}

// ReceiveBatch waits for the first message and returns what is there.
func (s *streamSubscription) ReceiveBatch(ctx context.Context, dst []broker.IncomingMessage) (int, error) {
	if len(dst) == 0 {
		return 0, nil
	}
	return s.receive(ctx, dst)
}

func (s *streamSubscription) receive(ctx context.Context, dst []broker.IncomingMessage) (int, error) {
	var got *natsgo.Msg // out of the channel
	for {
		now := clock()
		s.mu.Lock()
		if s.waiting {
			s.waiting = false
			s.pull.empty = now // nothing was in the channel until now
		}
		if got != nil {
			s.arrived(got, now, now)
			got = nil
		}
		if s.pull.buffered() == 0 {
			s.collect(now)
		}
		if err := s.over(); err != nil {
			back := s.leftBehind()
			s.mu.Unlock()
			s.giveBack(back)
			return 0, err
		}
		n := 0
		if err := ctx.Err(); err != nil {
			s.mu.Unlock()
			return 0, s.b.fail("receive", s.src.subject, err)
		}
		for n < len(dst) {
			m := s.take(now)
			if m == nil {
				break
			}
			dst[n] = m
			n++
		}
		ask := s.pull.ask(now, n, len(dst))
		doubtful, refused, to := s.pull.doubtful, s.pull.refused, s.inbox.sub.Subject
		s.waiting = n == 0 && !doubtful && refused == nil
		s.keepTicking()
		s.mu.Unlock()

		if ask > 0 {
			s.request(ask, to)
		}
		switch {
		case n > 0:
			return n, nil
		case refused != nil:
			s.lose(fail("receive", s.src.subject, nil, refused))
			continue
		case doubtful:
			s.verify(ctx)
			continue
		}
		select {
		case got = <-s.in:
		case <-s.wake:
		case <-ctx.Done():
		}
	}
}

// over says why nothing more is handed out; mu is held.
func (s *streamSubscription) over() error {
	switch {
	case s.b.life.isClosed():
		return fail("receive", s.src.subject, broker.ErrClosed, nil)
	case s.closed && (!s.src.ordered || s.drained && s.pull.buffered() == 0):
		return fail("receive", s.src.subject, broker.ErrClosed, nil)
	}
	return s.lost
}

// take takes the next message out of the buffer, nil where there is none; mu is held.
func (s *streamSubscription) take(now int64) broker.IncomingMessage {
	for {
		a, ok := s.pull.pop()
		if !ok {
			return nil
		}
		if s.src.ordered {
			switch s.order.next(a.msg.Reply, s.from.name) {
			case inOrder:
				return &OrderedMessage{stored{a.msg, s}}
			case gap:
				s.pull.doubt()
				return nil
			}
			continue // of a consumer that was given up
		}
		lease := a.at + int64(s.from.ackWait)
		if now >= lease {
			continue // the server delivers it again
		}
		m := &Message{stored: stored{a.msg, s}}
		m.lease.Store(lease)
		s.last = a.msg.Reply
		m.prev = s.tail
		if s.tail != nil {
			s.tail.next = m
		} else {
			s.head = m
		}
		s.tail = m
		return m
	}
}

// done takes m out of the list of unsettled messages. It may be called again.
func (s *streamSubscription) done(m *Message) {
	s.mu.Lock()
	if m.prev == nil && m.next == nil && s.head != m {
		s.mu.Unlock()
		return
	}
	if m.prev != nil {
		m.prev.next = m.next
	} else {
		s.head = m.next
	}
	if m.next != nil {
		m.next.prev = m.prev
	} else {
		s.tail = m.prev
	}
	m.prev, m.next = nil, nil
	finished := s.closed && s.head == nil
	s.mu.Unlock()
	if finished {
		s.b.forget(s)
	}
}

// poke wakes a Receive that waits.
func (s *streamSubscription) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// lose ends the subscription: its consumer or its stream is gone.
func (s *streamSubscription) lose(err error) {
	s.mu.Lock()
	if s.lost != nil || s.closed {
		s.mu.Unlock()
		return
	}
	s.lost = err
	s.pull.reset()
	in := s.inbox
	s.letDie()
	s.mu.Unlock()
	s.gone.Store(true)
	_ = in.sub.Unsubscribe()
	s.poke()
	s.b.tell(broker.Event{Kind: broker.EventSubscriptionLost, Name: s.src.subject, Err: err})
}

// Lag is how many messages of the consumer were not delivered yet, those that wait here
// included. What was given back and waits to come again does not count.
func (s *streamSubscription) Lag(ctx context.Context) (int64, error) {
	c, err := s.b.enter("lag", s.src.subject)
	if err != nil {
		return 0, err
	}
	defer s.b.life.leave()
	ctx, cancel := withDefault(ctx, broker.DefaultTimeout)
	defer cancel()
	info, err := c.consumerInfo(ctx, s.consumer())
	if err != nil {
		return 0, s.b.fail("lag", s.src.subject, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.waiting {
		s.collect(clock())
	}
	return int64(info.NumPending) + int64(s.pull.buffered()), nil
}

// consumerInfo asks the server about a consumer.
func (c *connection) consumerInfo(ctx context.Context, of *consumer) (info *jetstream.ConsumerInfo, err error) {
	err = c.ask(ctx, func(ctx context.Context) error {
		found, err := c.js.Consumer(ctx, of.stream, of.name)
		if err == nil {
			info = found.CachedInfo()
		}
		return err
	})
	return info, err
}

// Close ends the intake and gives back what was prefetched. An ordered reader hands it
// out instead. It returns when the server knows.
func (s *streamSubscription) Close(ctx context.Context) error {
	if err := s.b.life.refuse("close", s.src.subject); err != nil {
		return err
	}
	var err error
	s.closing.Do(func() {
		ctx, cancel := withDefault(ctx, broker.DefaultShutdownTimeout)
		defer cancel()
		err = s.stopIntake(ctx)
		if err == nil && s.c.nc.IsConnected() {
			err = s.c.settled.flush(ctx)
		}
		s.mu.Lock()
		idle := s.head == nil
		s.mu.Unlock()
		if idle {
			s.removeConsumer(ctx)
			s.b.forget(s)
		}
		if err != nil {
			err = s.b.fail("close", s.src.subject, err)
		}
	})
	return err
}

// removeConsumer removes a consumer that nobody else can use; if that fails, the server
// does after a while.
func (s *streamSubscription) removeConsumer(ctx context.Context) {
	from := s.consumer()
	if !from.durable && s.c.nc.IsConnected() && !s.gone.Load() {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		_ = s.c.js.DeleteConsumer(ctx, from.stream, from.name)
	}
}

// end is called by Shutdown: whatever is unsettled goes back, in its order.
func (s *streamSubscription) end(ctx context.Context) {
	_ = s.stopIntake(ctx)
	var held []*Message
	s.mu.Lock()
	for m := s.head; m != nil; m = m.next {
		held = append(held, m)
	}
	s.mu.Unlock()
	back := 0
	for _, m := range held {
		if m.state.CompareAndSwap(unsettled, settled) && !m.Stale() {
			s.nak(m.msg.Reply)
			back++
		}
	}
	if back == 0 {
		s.removeConsumer(ctx)
	}
	s.poke()
}

// reconnected asks again: requests do not survive the connection.
func (s *streamSubscription) reconnected() {
	if s.c.nc.IsClosed() {
		s.lose(s.b.fail("receive", s.src.subject, natsgo.ErrConnectionClosed))
		return
	}
	s.mu.Lock()
	// The consumer may be another one of the same name; to an ordered reader what was on
	// its way is lost.
	s.pull.doubt()
	s.mu.Unlock()
	s.poke()
}

// verify finds out whether the consumer is still there, and makes that of an ordered
// reader anew. It returns when Receive shall go on.
func (s *streamSubscription) verify(ctx context.Context) {
	asking, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var err error
	if s.src.ordered {
		err = s.c.ask(asking, s.renew)
	} else {
		var info *jetstream.ConsumerInfo
		info, err = s.c.consumerInfo(asking, s.from)
		if err == nil && !info.Created.Equal(s.from.created) {
			err = errMadeAnew
		}
	}
	switch {
	case err == nil:
		s.mu.Lock()
		unwanted := s.pull.trust()
		s.mu.Unlock()
		if unwanted && !s.src.ordered {
			s.pause(ctx, leastVerify) // it was refused for a reason
		}
	case errors.Is(err, errMadeAnew), errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrConsumerDoesNotExist), errors.Is(err, jetstream.ErrStreamNotFound):
		s.lose(s.b.fail("receive", s.src.subject, fmt.Errorf("the consumer %s of stream %s is gone: %w", broker.Quote(s.from.name), broker.Quote(s.from.stream), err)))
	default:
		s.pause(ctx, time.Second) // the server is not well; the connection may be lost
	}
}

const leastVerify = 100 * time.Millisecond

// errMadeAnew: what has the name is another one. The sequences of what was delivered
// before say nothing there.
var errMadeAnew = errors.New("another one of the same name is there now")

// pause waits for d, less where something happens.
func (s *streamSubscription) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.wake:
	case <-ctx.Done():
	}
}

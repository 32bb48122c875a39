package nats

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gostream/gostream/broker"
)

var (
	_ broker.Subscription  = (*coreSubscription)(nil)
	_ broker.BatchReceiver = (*coreSubscription)(nil)
	_ broker.Lagger        = (*coreSubscription)(nil)
)

// coreSubscription is a subscription of Core NATS. The client puts what arrives into
// the channel, as it is: its own way of receiving takes a message whose header says
// "Status: 503" for an error.
type coreSubscription struct {
	b    *Broker
	c    *connection
	sub  *natsgo.Subscription
	name string
	in   chan *natsgo.Msg
	wake chan struct{} // wakes a Receive that waits, for something else than a message

	// slow tells that messages were dropped, where the client's error handler is not
	// ours; the receiver's.
	slow <-chan natsgo.SubStatus

	closing sync.Once
	drained atomic.Bool // it is closed, and whatever was sent to it has arrived
}

func (b *Broker) subscribeCore(ctx context.Context, src SubjectSource) (broker.Subscription, error) {
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
	s := &coreSubscription{
		b: b, c: c, name: src.subject,
		in: make(chan *natsgo.Msg, b.config.pendingMessages), wake: make(chan struct{}, 1),
	}
	if err := s.open(ctx, src); err != nil {
		return nil, b.fail("subscribe", src.subject, err)
	}
	if !b.add(s) {
		_ = s.sub.Unsubscribe()
		return nil, fail("subscribe", src.subject, broker.ErrClosed, nil)
	}
	return s, nil
}

// open subscribes, and finds out whether the server refuses it. Of refusals the client
// keeps the last alone, of a publish or a subscription: one subscription is opened at a
// time, and again where another error came between.
func (s *coreSubscription) open(ctx context.Context, src SubjectSource) error {
	select {
	case s.c.subscribing <- struct{}{}:
		defer func() { <-s.c.subscribing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	nc := s.c.nc
	for try := 1; ; try++ {
		before := nc.LastError()
		var err error
		if src.queue != "" {
			s.sub, err = nc.ChanQueueSubscribe(src.subject, src.queue, s.in)
		} else {
			s.sub, err = nc.ChanSubscribe(src.subject, s.in)
		}
		if err != nil {
			return err
		}
		if !s.c.owned {
			s.slow = s.sub.StatusChanged(natsgo.SubscriptionSlowConsumer)
		}
		// When the server answers it has seen the SUB, and refused it if it did.
		err = s.c.answer(ctx)
		last := nc.LastError()
		other := err == nil && last != before && errors.Is(last, natsgo.ErrPermissionViolation)
		if other && strings.Contains(last.Error(), `Subscription to "`+src.subject+`"`) {
			err, other = last, false
		}
		if err == nil && (!other || try == openTries) {
			return nil
		}
		_ = s.sub.Unsubscribe()
		if err != nil {
			return err
		}
	}
}

// openTries is how often a subscription is opened while the server refuses other things.
const openTries = 10

// Receive returns the next message.
func (s *coreSubscription) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	for !s.b.life.isClosed() {
		select {
		case msg := <-s.in:
			if s.slow != nil {
				s.tellSlow()
			}
			return &CoreMessage{msg, s.b}, nil
		default:
		}
		if s.drained.Load() {
			break
		}
		if s.c.nc.IsClosed() {
			return nil, s.b.fail("receive", s.name, natsgo.ErrConnectionClosed)
		}
		select {
		case msg := <-s.in:
			return &CoreMessage{msg, s.b}, nil
		case <-s.wake:
		case <-ctx.Done():
			return nil, s.b.fail("receive", s.name, ctx.Err())
		}
	}
	return nil, fail("receive", s.name, broker.ErrClosed, nil)
}

// tellSlow tells of dropped messages, where there were any.
func (s *coreSubscription) tellSlow() {
	select {
	case _, open := <-s.slow:
		if !open {
			s.slow = nil
			return
		}
		s.b.tell(broker.Event{Kind: broker.EventSlowConsumer, Name: s.name, Err: slowConsumer(s.sub)})
	default:
	}
}

// ReceiveBatch waits for the first message and returns what is there.
func (s *coreSubscription) ReceiveBatch(ctx context.Context, dst []broker.IncomingMessage) (int, error) {
	if len(dst) == 0 {
		return 0, nil
	}
	m, err := s.Receive(ctx)
	if err != nil {
		return 0, err
	}
	dst[0] = m
	for n := 1; n < len(dst); n++ {
		select {
		case msg := <-s.in:
			dst[n] = &CoreMessage{msg, s.b}
		default:
			return n, nil
		}
	}
	return len(dst), nil
}

// Lag is how many messages have arrived here and were not received.
func (s *coreSubscription) Lag(ctx context.Context) (int64, error) {
	if _, err := s.b.enter("lag", s.name); err != nil {
		return 0, err
	}
	defer s.b.life.leave()
	if err := ctx.Err(); err != nil {
		return 0, s.b.fail("lag", s.name, err)
	}
	return int64(len(s.in)), nil
}

// Close ends the intake. What the server had sent until then can still be received.
func (s *coreSubscription) Close(ctx context.Context) error {
	if err := s.b.life.refuse("close", s.name); err != nil {
		return err
	}
	var err error
	s.closing.Do(func() {
		defer s.b.forget(s)
		ctx, cancel := withDefault(ctx, broker.DefaultShutdownTimeout)
		defer cancel()
		err = s.c.drain(s.sub)
		if err == nil && s.c.nc.IsConnected() {
			err = s.c.roundTrip(ctx) // the answer comes after whatever the server had sent
		}
		if errors.Is(err, natsgo.ErrDisconnected) || s.c.nc.IsClosed() {
			err = nil // nothing more can arrive
		}
		s.drained.Store(true)
		s.poke()
		if err != nil {
			err = s.b.fail("close", s.name, err)
		}
	})
	return err
}

func (s *coreSubscription) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// reconnected has nothing to do when the connection is back: the client has subscribed
// again. It wakes a Receive that would wait for ever where the connection is given up.
func (s *coreSubscription) reconnected() { s.poke() }

// end is called by Shutdown.
func (s *coreSubscription) end(context.Context) {
	_ = s.sub.Unsubscribe()
	s.poke()
}

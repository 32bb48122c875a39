package nats

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gostream/gostream/broker"
)

var (
	_ broker.Subscription  = (*coreSubscription)(nil)
	_ broker.BatchReceiver = (*coreSubscription)(nil)
	_ broker.Lagger        = (*coreSubscription)(nil)
)

// coreSubscription is a subscription of Core NATS: the client's own, with its channel.
type coreSubscription struct {
	b    *Broker
	c    *connection
	sub  *natsgo.Subscription
	name string

	first   *natsgo.Msg // taken when the subscription was opened; the receiver's
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
	s := &coreSubscription{b: b, c: c, name: src.subject}
	if src.queue != "" {
		s.sub, err = c.nc.QueueSubscribeSync(src.subject, src.queue)
	} else {
		s.sub, err = c.nc.SubscribeSync(src.subject)
	}
	if err != nil {
		return nil, b.fail("subscribe", src.subject, err)
	}
	// When the server answers it has seen the SUB, and refused it if it did.
	if err = c.nc.FlushWithContext(ctx); err == nil {
		err = s.allowed()
	}
	if err != nil {
		_ = s.sub.Unsubscribe()
		return nil, b.fail("subscribe", src.subject, err)
	}
	if !b.add(s) {
		_ = s.sub.Unsubscribe()
		return nil, fail("subscribe", src.subject, broker.ErrClosed, nil)
	}
	return s, nil
}

// allowed asks the client whether the server has refused the subscription. The only
// call that tells is the one that receives.
func (s *coreSubscription) allowed() error {
	msg, err := s.sub.NextMsg(time.Nanosecond)
	if err == nil {
		s.first = msg
	}
	if errors.Is(err, natsgo.ErrPermissionViolation) {
		return err
	}
	return nil
}

// Receive returns the next message.
func (s *coreSubscription) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	for {
		if s.b.life.isClosed() {
			return nil, fail("receive", s.name, broker.ErrClosed, nil)
		}
		if msg := s.first; msg != nil && ctx.Err() == nil {
			s.first = nil
			return &CoreMessage{msg, s.b}, nil
		}
		if s.drained.Load() && s.waiting() == 0 {
			return nil, fail("receive", s.name, broker.ErrClosed, nil)
		}
		msg, err := s.sub.NextMsgWithContext(ctx)
		if err == nil {
			return &CoreMessage{msg, s.b}, nil
		}
		if err := s.failed(ctx, err); err != nil {
			return nil, err
		}
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
	n := 1
	for more := min(s.waiting(), len(dst)-1); n <= more; n++ {
		msg, err := s.sub.NextMsg(time.Nanosecond)
		if err != nil {
			break // the next call says it again
		}
		dst[n] = &CoreMessage{msg, s.b}
	}
	return n, nil
}

// failed translates an error of the client; nil means to go on.
func (s *coreSubscription) failed(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return s.b.fail("receive", s.name, ctx.Err())
	case errors.Is(err, natsgo.ErrSlowConsumer):
		if !s.c.owned { // else the client's error handler has told it
			s.b.tell(broker.Event{Kind: broker.EventSlowConsumer, Name: s.name, Err: slowConsumer(s.sub)})
		}
		return nil
	case s.b.life.isClosed(), s.drained.Load(), errors.Is(err, natsgo.ErrBadSubscription):
		return fail("receive", s.name, broker.ErrClosed, nil)
	}
	return s.b.fail("receive", s.name, err)
}

// waiting is how many messages have arrived and were not received.
func (s *coreSubscription) waiting() int {
	n, _, err := s.sub.Pending()
	if err != nil {
		return 0
	}
	return n
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
	return int64(s.waiting()), nil
}

// Close ends the intake. What the server had sent until then can still be received.
func (s *coreSubscription) Close(ctx context.Context) error {
	if err := s.b.life.refuse("close", s.name); err != nil {
		return err
	}
	var err error
	s.closing.Do(func() {
		defer s.b.forget(s)
		if err = s.sub.Drain(); err != nil {
			err = s.b.fail("close", s.name, err)
			return
		}
		ctx, cancel := withDefault(ctx, broker.DefaultShutdownTimeout)
		defer cancel()
		// With the server gone nothing more can arrive. Else its answer comes after
		// whatever it had sent.
		if s.c.nc.IsConnected() {
			if err = s.c.nc.FlushWithContext(ctx); err != nil {
				err = s.b.fail("close", s.name, err)
			}
		}
		s.drained.Store(true)
	})
	return err
}

// reconnected has nothing to do: the client has subscribed again.
func (s *coreSubscription) reconnected() {}

// end is called by Shutdown.
func (s *coreSubscription) end(context.Context) { _ = s.sub.Unsubscribe() }

package brokertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/gostream/gostream/broker"
)

// cancellationChecks: a context that ends loses nothing.
var cancellationChecks = []check{
	{
		name:  "receive",
		rule:  "a message that arrives while the context of Receive ends is returned or stays with the broker; it is never lost, and a later Receive goes on",
		where: "broker.Subscription, Receive",
		run:   checkReceiveCancelled,
	},
	{
		name:  "receive-returns",
		rule:  "Receive returns the context's error when the context ends, or has ended before, and nothing comes",
		where: "broker.Subscription, Receive; package broker, Rules that hold for every handle",
		run:   checkReceiveReturns,
	},
	{
		name:  "publish-dead-context",
		rule:  "Publish with a context that has ended returns a context error, or nil and the message arrives",
		where: "broker.Publisher, Publish",
		run:   checkPublishDeadContext,
	},
	{
		name:  "subscribe-dead-context",
		rule:  "Subscribe with a context that has ended returns a context error and leaves nothing behind, or a live subscription",
		where: "broker.Source, Subscribe; package broker, Rules that hold for every handle",
		run:   checkSubscribeDeadContext,
	},
}

// cancellations is how often Receive is cancelled.
const cancellations = 1000

func checkReceiveCancelled(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	// As many receives as messages, each cancelled about when its message arrives.
	all := numbered("m", cancellations)
	left := newTally(all)
	cancelled := 0
	for i, payload := range all {
		ctx, cancel := context.WithCancel(e.ctx)
		published := make(chan error, 1)
		go func() {
			published <- l.publish(payload)
			if i%4 == 0 {
				cancel()
			}
		}()
		switch i % 4 {
		case 1:
			cancel()
		case 2:
			go cancel()
		case 3:
			timer := time.AfterFunc(time.Duration(rand.Int64N(int64(e.h.Quiet)/100+1)), cancel)
			defer timer.Stop()
		}
		var d *delivery
		err := e.bounded(ctx, "Receive", func(ctx context.Context) (err error) {
			d, err = s.next(ctx)
			return err
		})
		cancel()
		switch {
		case err == nil:
			left.settled(d.text)
			err = d.ack()
		case errors.Is(err, context.Canceled):
			cancelled++
			err = nil
		default:
			err = fmt.Errorf("receive with a context that ends: %w", err)
		}
		if failed := <-published; err == nil {
			err = failed
		}
		if err != nil {
			return err
		}
	}
	if err := s.consume(left); err != nil {
		return fmt.Errorf("after %d of %d receives were cancelled: %w", cancelled, cancellations, err)
	}
	return s.quiet()
}

func checkReceiveReturns(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	for range 3 {
		ended, cancel := context.WithCancel(e.ctx)
		cancel()
		err := receiveNothing(ended, e, s, "Receive with a context that has ended")
		if err := mustBe("Receive with a context that has ended", err, context.Canceled); err != nil {
			return err
		}
	}
	short, cancel := context.WithTimeout(e.ctx, e.h.Quiet)
	defer cancel()
	const late = "Receive with a deadline that passes"
	if err := mustBe(late, receiveNothing(short, e, s, late), context.DeadlineExceeded); err != nil {
		return err
	}
	waiting, end := context.WithCancel(e.ctx)
	defer end()
	timer := time.AfterFunc(e.h.Quiet, end)
	defer timer.Stop()
	const during = "Receive whose context is cancelled while it waits"
	if err := mustBe(during, receiveNothing(waiting, e, s, during), context.Canceled); err != nil {
		return err
	}
	return l.works(s)
}

// receiveNothing calls Receive where there is nothing to receive.
func receiveNothing(ctx context.Context, e *env, s *stream, what string) error {
	return e.bounded(ctx, what, func(ctx context.Context) error {
		d, err := s.next(ctx)
		if err == nil {
			return fmt.Errorf("%v came, and nothing was published", d)
		}
		return err
	})
}

func checkPublishDeadContext(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	dead, cancel := context.WithCancel(e.ctx)
	cancel()
	for i := range 10 {
		payload := fmt.Sprintf("dead%d", i)
		const what = "Publish with a context that has ended"
		err = e.bounded(dead, what, func(ctx context.Context) error {
			return l.pub.Publish(ctx, broker.OutgoingMessage{Name: l.t.Name, Payload: []byte(payload)})
		})
		if err != nil {
			if err := mustBe(what, err, context.Canceled); err != nil {
				return err
			}
			continue
		}
		if err := s.consume(newTally([]string{payload})); err != nil {
			return fmt.Errorf("%s returned nil: %w", what, err)
		}
	}
	// The publisher still works. What a context error left on its way may come, too.
	if err := l.publish("alive"); err != nil {
		return err
	}
	return s.consume(newTally([]string{"alive"}))
}

func checkSubscribeDeadContext(e *env) error {
	t, err := e.target()
	if err != nil {
		return err
	}
	l, err := e.dial(t)
	if err != nil {
		return err
	}
	dead, cancel := context.WithCancel(e.ctx)
	cancel()
	for range 3 {
		var sub broker.Subscription
		const what = "Subscribe with a context that has ended"
		err := e.bounded(dead, what, func(ctx context.Context) (err error) {
			sub, err = t.Source.Subscribe(ctx, l.b)
			return err
		})
		if err == nil {
			if err := l.works(&stream{e: e, sub: sub, book: &ledger{redelivers: l.props.Redelivers}}); err != nil {
				return fmt.Errorf("%s returned nil: %w", what, err)
			}
			if err := e.call("Close", sub.Close); err != nil {
				return fmt.Errorf("close: %w", err)
			}
			continue
		}
		if err := mustBe(what, err, context.Canceled); err != nil {
			return err
		}
	}
	// A subscription that was left behind would take its share.
	s, err := l.subscribe()
	if err != nil {
		return err
	}
	all := numbered("m", 20)
	if err := l.publish(all...); err != nil {
		return err
	}
	return s.consume(newTally(all))
}

package brokertest

import (
	"context"
	"errors"
	"fmt"
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
	// Every other message is there before Receive is called, the others arrive while it
	// waits. For both the moment of the cancellation is moved to where half of the
	// receives win.
	var moments [2]moment
	cancelled := 0
	for i, payload := range numbered("m", cancellations) {
		there, at := i%2 == 0, &moments[i%2]
		if there {
			if err := l.publish(payload); err != nil {
				return err
			}
		}
		ctx, cancel := context.WithCancel(e.ctx)
		if i%10 == 0 {
			cancel() // before anything
		}
		began := make(chan struct{})
		published := make(chan error, 1)
		go func() {
			<-began
			var err error
			if !there {
				err = l.publish(payload)
			}
			pause(at.delay)
			cancel()
			published <- err
		}()
		var d *delivery
		err := e.bounded(ctx, "Receive", func(ctx context.Context) (err error) {
			close(began)
			d, err = s.next(ctx)
			return err
		})
		if failed := <-published; failed != nil {
			return failed
		}
		switch {
		case err == nil:
			at.earlier()
		case errors.Is(err, context.Canceled):
			cancelled++
			if i%10 != 0 {
				at.later(e.h.Quiet)
			}
			// It must be there for the next Receive.
			if d, err = s.receive(); err != nil {
				return fmt.Errorf("receive number %d was cancelled while %q arrived, and then: %w", i+1, payload, err)
			}
		default:
			return fmt.Errorf("receive with a context that ends: %w", err)
		}
		if d.text != payload {
			return fmt.Errorf("%v came, expected %q", d, payload)
		}
		if err := d.ack(); err != nil {
			return err
		}
	}
	if err := s.quiet(); err != nil {
		return fmt.Errorf("after %d of %d receives were cancelled: %w", cancelled, cancellations, err)
	}
	return nil
}

// moment is how long to wait before something, in small steps near zero and in larger
// ones far from it.
type moment struct{ delay time.Duration }

func (m *moment) step() time.Duration { return m.delay/64 + 20*time.Nanosecond }

func (m *moment) earlier()                 { m.delay = max(m.delay-m.step(), 0) }
func (m *moment) later(most time.Duration) { m.delay = min(m.delay+m.step(), most) }

// pause waits for d, more exactly than a timer does where d is short. It does not
// give way then: the receiver shall run beside it.
func pause(d time.Duration) {
	if d > 100*time.Microsecond {
		timer := time.NewTimer(d)
		defer timer.Stop()
		<-timer.C
		return
	}
	for begin := time.Now(); time.Since(begin) < d; {
	}
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
	if err := subscribeDead(e, t); err != nil || e.h.Group == nil {
		return err
	}
	// A member that was left behind would take its share.
	g, err := e.newGroup()
	if err != nil {
		return err
	}
	if err := subscribeDead(e, g.member("a")); err != nil {
		return fmt.Errorf("as a member of a group: %w", err)
	}
	return nil
}

// subscribeDead subscribes with a context that has ended, and then properly.
func subscribeDead(e *env, t Target) error {
	l, err := e.dial(t)
	if err != nil {
		return err
	}
	before, _ := e.goroutines()
	dead, cancel := context.WithCancel(e.ctx)
	cancel()
	failed := false
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
		failed = true
		if err := mustBe(what, err, context.Canceled); err != nil {
			return err
		}
	}
	if failed {
		if err := e.settleDown(before, "after a cancelled Subscribe"); err != nil {
			return err
		}
	}
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

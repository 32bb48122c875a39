package brokertest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/gostream/gostream/broker"
)

// shutdownChecks belong to the group lifecycle.
var shutdownChecks = []check{
	{
		name:  "after-shutdown",
		rule:  "after Shutdown every operation of every handle answers ErrClosed, also of publishers made earlier and from any goroutine, and nothing is sent",
		where: "package broker, Rules that hold for every handle; broker.PublisherProvider, Publisher",
		run:   checkAfterShutdown,
	},
	{
		name:  "shutdown-twice",
		rule:  "Shutdown is idempotent, also when several shut down at once",
		where: "broker.Broker, Shutdown",
		run:   checkShutdownTwice,
	},
	{
		name:  "shutdown-unconnected",
		rule:  "Shutdown before Connect does not fail, and Connect after it answers ErrClosed",
		where: "broker.Broker, Connect and Shutdown",
		run:   checkShutdownUnconnected,
	},
	{
		name:  "shutdown-wakes-receive",
		rule:  "Shutdown closes every subscription: a Receive that waits answers ErrClosed",
		where: "broker.Broker, Shutdown; package broker, Rules that hold for every handle",
		run:   checkShutdownWakesReceive,
	},
	{
		name:  "shutdown-flushes",
		rule:  "Shutdown flushes what Publish accepted",
		where: "broker.Broker, Shutdown",
		run:   checkShutdownFlushes,
	},
	{
		name:  "publish-during-shutdown",
		rule:  "a Publish that meets Shutdown is accepted and arrives, or answers ErrClosed",
		where: "broker.Broker, Shutdown; package broker, Rules that hold for every handle",
		run:   checkPublishDuringShutdown,
	},
	{
		name:  "shutdown-dead-context",
		rule:  "the context bounds Shutdown: with one that has ended it returns, and the broker is closed",
		where: "broker.Broker, Shutdown",
		run:   checkShutdownDeadContext,
	},
	{
		name:  "shutdown-server-gone",
		rule:  "Shutdown returns in time with the server gone: its context bounds it, without a deadline DefaultShutdownTimeout does",
		where: "broker.Broker, Shutdown; broker.DefaultShutdownTimeout",
		needs: []need{needInterrupt},
		run:   checkShutdownServerGone,
	},
}

// receiving returns the operations of a subscription.
func (s *stream) receiving() []operation {
	return []operation{
		{"Receive", false, func(ctx context.Context) error {
			m, err := s.sub.Receive(ctx)
			if err == nil {
				err = fmt.Errorf("it received %s", quote(m.Payload()))
			}
			return err
		}},
		{"ReceiveBatch", true, func(ctx context.Context) error {
			n, err := broker.ReceiveBatch(ctx, s.sub, make([]broker.IncomingMessage, 2))
			if err == nil {
				err = fmt.Errorf("it received %d messages", n)
			}
			return err
		}},
	}
}

func checkAfterShutdown(e *env) error {
	l, err := e.unconnected()
	if err != nil {
		return err
	}
	if err := e.call("Connect", l.b.Connect); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	s, err := l.subscribe()
	if err != nil {
		return err
	}
	if err := l.publish("used"); err != nil {
		return err
	}
	d, err := s.one("used")
	if err != nil {
		return err
	}
	if err := d.ack(); err != nil {
		return err
	}
	if err := e.shutdown(l.b); err != nil {
		return err
	}

	ops := l.operations() // of a publisher that was made before Connect
	later, err := e.link(l.t, l.b)
	if err != nil {
		return err
	}
	ops = append(ops, later.operations()...)
	ops = append(ops, operation{"Connect", false, l.b.Connect})
	ops = append(ops, operation{"Lag", true, func(ctx context.Context) error {
		_, err := broker.Lag(ctx, s.sub)
		return err
	}})
	ops = append(ops, operation{"Begin of the subscription", true, func(ctx context.Context) error {
		_, err := broker.BeginReceived(ctx, s.sub)
		return err
	}})
	if err := mustRefuse(e, "after Shutdown", ops, broker.ErrClosed); err != nil {
		return err
	}
	for _, op := range s.receiving() { // not at once: there is one receiver
		if err := mustRefuse(e, "after Shutdown", []operation{op}, broker.ErrClosed); err != nil {
			return err
		}
	}
	if err := e.call("Close", s.sub.Close); err != nil && !errors.Is(err, broker.ErrClosed) {
		return fmt.Errorf("close after Shutdown answers %w, want nil or ErrClosed", err)
	}

	_, elsewhere, err := e.openOn(l.t)
	if err != nil {
		return err
	}
	return elsewhere.quiet()
}

func checkShutdownTwice(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	if err := l.works(s); err != nil {
		return err
	}
	shutdown := func() error { return e.shutdown(l.b) }
	if err := e.together(shutdown, shutdown, shutdown, shutdown); err != nil {
		return fmt.Errorf("several at once: %w", err)
	}
	if err := shutdown(); err != nil {
		return fmt.Errorf("once more: %w", err)
	}
	return nil
}

func checkShutdownUnconnected(e *env) error {
	l, err := e.unconnected()
	if err != nil {
		return err
	}
	for range 2 {
		if err := e.shutdown(l.b); err != nil {
			return fmt.Errorf("before Connect: %w", err)
		}
	}
	ops := append(l.operations(), operation{"Connect", false, l.b.Connect})
	return mustRefuse(e, "after Shutdown", ops, broker.ErrClosed)
}

func checkShutdownWakesReceive(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	received := make(chan error, 1)
	go func() {
		received <- e.call("Receive", func(ctx context.Context) error {
			_, err := s.sub.Receive(ctx)
			return err
		})
	}()
	e.wait(e.h.Quiet) // let it wait
	if err := e.shutdown(l.b); err != nil {
		return err
	}
	return mustBe("Receive that waits at Shutdown", <-received, broker.ErrClosed)
}

func checkShutdownFlushes(e *env) error {
	t, err := e.target()
	if err != nil {
		return err
	}
	_, s, err := e.openOn(t)
	if err != nil {
		return err
	}
	publisher, err := e.dial(t)
	if err != nil {
		return err
	}
	all := numbered("flushed", 200)
	if err := publisher.publish(all...); err != nil {
		return err
	}
	if err := e.shutdown(publisher.b); err != nil {
		return err
	}
	return s.consume(newTally(all))
}

// consume receives and acknowledges until nothing of the tally is left.
func (s *stream) consume(t *tally) error {
	for !t.isDone() {
		d, err := s.receive()
		if err != nil {
			return fmt.Errorf("%s: %w", t.missing(), err)
		}
		t.settled(d.text)
		if err := d.ack(); err != nil {
			return err
		}
	}
	return nil
}

func checkPublishDuringShutdown(e *env) error {
	t, err := e.target()
	if err != nil {
		return err
	}
	_, s, err := e.openOn(t)
	if err != nil {
		return err
	}
	l, err := e.dial(t)
	if err != nil {
		return err
	}
	const publishers = 8
	var accepted [publishers][]string
	var begun atomic.Int64
	work := make([]func() error, publishers, publishers+1)
	for i := range publishers {
		work[i] = func() error {
			for n := range e.h.Load {
				payload := fmt.Sprintf("p%d-%d", i, n)
				if err := l.try(broker.OutgoingMessage{Payload: []byte(payload)}); err != nil {
					return mustBe("Publish during Shutdown", err, broker.ErrClosed)
				}
				accepted[i] = append(accepted[i], payload)
				begun.Add(1)
			}
			return nil
		}
	}
	work = append(work, func() error {
		if err := e.eventually(func() string {
			if begun.Load() < publishers {
				return "the publishers did not get going"
			}
			return ""
		}); err != nil {
			return err
		}
		return e.shutdown(l.b)
	})
	if err := e.together(work...); err != nil {
		return err
	}
	var all []string
	for _, a := range accepted {
		all = append(all, a...)
	}
	return s.consume(newTally(all))
}

func checkShutdownDeadContext(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	if err := l.works(s); err != nil {
		return err
	}
	ended, cancel := context.WithCancel(e.ctx)
	cancel()
	e.closeLeniently() // a Shutdown that failed may say so again
	err = e.bounded(ended, "Shutdown with a context that has ended", l.b.Shutdown)
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("shutdown with a context that has ended answers %w, want nil or a context error", err)
	}
	return mustRefuse(e, "after Shutdown", l.operations(), broker.ErrClosed)
}

// interrupt cuts the connections. restore is called at the end of the check at the
// latest.
func (e *env) interrupt() (restore func() error, err error) {
	var undo func(ctx context.Context) error
	err = e.call("Harness.Interrupt", func(ctx context.Context) (err error) {
		undo, err = e.h.Interrupt(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("the harness: Interrupt: %w", err)
	}
	if undo == nil {
		return nil, errors.New("the harness: Interrupt returned no function that restores the connections")
	}
	var done atomic.Bool
	once := func(ctx context.Context) error {
		if done.Swap(true) {
			return nil
		}
		return undo(ctx)
	}
	e.atEnd("restoring the connections", once)
	return func() error { return e.call("restoring the connections", once) }, nil
}

func checkShutdownServerGone(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	other, os, err := e.openOn(l.t)
	if err != nil {
		return err
	}
	if err := l.publish("in hand"); err != nil {
		return err
	}
	var d *delivery
	for _, s := range []*stream{s, os} {
		if d, err = s.untilQuiet(); err != nil {
			return err
		}
		if d != nil {
			break
		}
	}
	if d == nil {
		return errors.New("neither of two subscriptions received the message")
	}
	restore, err := e.interrupt()
	if err != nil {
		return err
	}
	e.closeLeniently() // a Shutdown that failed may say so again
	err = e.together(
		func() error {
			ctx, cancel := context.WithTimeout(e.ctx, e.h.Timeout/2)
			defer cancel()
			return returns(ctx, e, "Shutdown with the server gone and a deadline", l.b.Shutdown)
		},
		func() error {
			// One without a deadline takes as long as the contract allows.
			if e.h.Watchdog < 2*broker.DefaultShutdownTimeout {
				return e.call("Shutdown with the server gone", func(ctx context.Context) error { return returns(ctx, e, "Shutdown", other.b.Shutdown) })
			}
			ctx, cancel := context.WithTimeout(e.ctx, broker.DefaultShutdownTimeout)
			defer cancel()
			return returns(ctx, e, "Shutdown with the server gone and no deadline", func(ctx context.Context) error {
				return other.b.Shutdown(context.WithoutCancel(ctx))
			})
		},
	)
	if err != nil {
		return err
	}
	if err := mustRefuse(e, "after Shutdown", l.operations(), broker.ErrClosed); err != nil {
		return err
	}
	if err := mustAnswer(e, "after Shutdown with the server gone", d.IncomingMessage, broker.ErrClosed); err != nil {
		return err
	}
	return restore()
}

// returns runs f, whose own error does not matter, and fails if it does not return
// when ctx ends.
func returns(ctx context.Context, e *env, what string, f func(ctx context.Context) error) error {
	return e.bounded(ctx, what, func(ctx context.Context) error {
		_ = f(ctx)
		return nil
	})
}

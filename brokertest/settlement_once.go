package brokertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gostream/gostream/broker"
)

// settleOnceChecks belong to the group settlement: a delivery is settled once.
var settleOnceChecks = []check{
	{
		name:  "concurrent",
		rule:  "which of several settlements wins is decided by one atomic step: one returns nil, the others ErrSettled, and the message fares as the winner says",
		where: "broker.IncomingMessage",
		needs: []need{needRedelivers},
		run:   checkConcurrentSettle,
	},
	{
		name:  "twice",
		rule:  "a second settlement answers ErrSettled and changes nothing",
		where: "broker.IncomingMessage",
		needs: []need{needRedelivers},
		run:   checkSettleTwice,
	},
	{
		name:  "retry",
		rule:  "a settlement that a context ended may be tried again",
		where: "broker.IncomingMessage",
		needs: []need{needRedelivers},
		run:   checkSettleRetry,
	},
	{
		name:  "after-shutdown",
		rule:  "after Shutdown every settlement answers ErrClosed, also of a delivery that was settled before",
		where: "broker.IncomingMessage",
		run:   checkSettleAfterShutdown,
	},
	{
		name:  "unsupported",
		rule:  "on a transport that does not redeliver every settlement answers errors.ErrUnsupported, each time: faking success is a defect",
		where: "broker.IncomingMessage; broker.Properties, Redelivers",
		needs: []need{needNoRedelivery},
		run:   checkSettleUnsupported,
	},
}

// settlement is one way to settle.
type settlement struct {
	what     string
	to       state
	optional bool // errors.ErrUnsupported is an answer, too
	do       func(ctx context.Context, m broker.IncomingMessage) error
}

// settlements returns all ways to settle.
func settlements() []settlement {
	return []settlement{
		{"Ack", acked, false, func(ctx context.Context, m broker.IncomingMessage) error { return m.Ack(ctx) }},
		{"Nack with requeue", requeued, false, func(ctx context.Context, m broker.IncomingMessage) error { return m.Nack(ctx, true) }},
		{"Nack without requeue", rejected, false, func(ctx context.Context, m broker.IncomingMessage) error { return m.Nack(ctx, false) }},
		{"NackAfter", requeued, true, func(ctx context.Context, m broker.IncomingMessage) error {
			return broker.NackAfter(ctx, m, time.Millisecond)
		}},
	}
}

// mustAnswer tries every settlement of m, twice, and returns an error unless each
// answers target.
func mustAnswer(e *env, when string, m broker.IncomingMessage, target error) error {
	for range 2 {
		for _, w := range settlements() {
			err := e.call(w.what, func(ctx context.Context) error { return w.do(ctx, m) })
			if w.optional && errors.Is(err, errors.ErrUnsupported) {
				continue
			}
			if err := mustBe(w.what+" "+when, err, target); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkConcurrentSettle(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	ways := settlements()[:3]
	for round := range 30 {
		payload := fmt.Sprintf("contested%d", round)
		if err := l.publish(payload); err != nil {
			return err
		}
		d, err := s.one(payload)
		if err != nil {
			return err
		}
		won, err := settleAtOnce(e, d, ways)
		if err != nil {
			return fmt.Errorf("%d settlements at once: %w", 2*len(ways), err)
		}
		if err := d.was(ways[won].to, ways[won].what, ways[won].do); err != nil {
			return err
		}
		if ways[won].to != requeued {
			continue
		}
		again, err := s.one(payload)
		if err != nil {
			return fmt.Errorf("the winner was %s: %w", ways[won].what, err)
		}
		if err := again.ack(); err != nil {
			return err
		}
	}
	return s.quiet()
}

// settleAtOnce settles d in every way twice, at once, and returns the winner.
func settleAtOnce(e *env, d *delivery, ways []settlement) (won int, err error) {
	begin := make(chan struct{})
	errs := make([]error, 2*len(ways))
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			<-begin
			w := ways[i%len(ways)]
			errs[i] = e.call(w.what, func(ctx context.Context) error { return w.do(ctx, d.IncomingMessage) })
		})
	}
	close(begin)
	wg.Wait()
	won = -1
	for i, err := range errs {
		w := ways[i%len(ways)]
		switch {
		case err == nil && won >= 0:
			return 0, fmt.Errorf("both %s and %s returned nil", ways[won].what, w.what)
		case err == nil:
			won = i % len(ways)
		default:
			if err := mustBe(w.what, err, broker.ErrSettled); err != nil {
				return 0, err
			}
		}
	}
	if won < 0 {
		return 0, errors.New("none returned nil")
	}
	return won, nil
}

func checkSettleTwice(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	if err := l.publish("acked", "rejected", "requeued"); err != nil {
		return err
	}
	for range 3 {
		d, err := s.receive()
		if err != nil {
			return err
		}
		switch d.text {
		case "acked":
			err = d.ack()
		case "rejected":
			err = d.reject()
		case "requeued":
			err = d.requeue()
		default:
			err = fmt.Errorf("%v came, which was not published", d)
		}
		if err != nil {
			return err
		}
		if err := mustAnswer(e, "of a message that was "+d.text, d.IncomingMessage, broker.ErrSettled); err != nil {
			return err
		}
		if d.text != "requeued" {
			continue
		}
		// The second settlements must not have acked it.
		again, err := s.one("requeued")
		if err != nil {
			return fmt.Errorf("requeued, and then settled in other ways, which answered ErrSettled: %w", err)
		}
		if err := again.ack(); err != nil {
			return err
		}
	}
	return s.quiet()
}

func checkSettleRetry(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	ended, cancel := context.WithCancel(e.ctx)
	cancel()
	for i, w := range settlements()[:3] {
		payload := fmt.Sprintf("retry%d", i)
		if err := l.publish(payload); err != nil {
			return err
		}
		d, err := s.one(payload)
		if err != nil {
			return err
		}
		what := w.what + " with a context that has ended"
		err = e.bounded(ended, what, func(ctx context.Context) error { return w.do(ctx, d.IncomingMessage) })
		if err != nil {
			if err := mustBe(what, err, context.Canceled); err != nil {
				return err
			}
			err = e.call(w.what, func(ctx context.Context) error { return w.do(ctx, d.IncomingMessage) })
			if err != nil {
				return fmt.Errorf("%s failed with its context, and when it is tried again: %w", w.what, err)
			}
		}
		if err := d.was(w.to, w.what, w.do); err != nil {
			return err
		}
		if w.to != requeued {
			continue
		}
		again, err := s.one(payload)
		if err != nil {
			return err
		}
		if err := again.ack(); err != nil {
			return err
		}
	}
	return s.quiet()
}

func checkSettleAfterShutdown(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	if err := l.publish("settled"); err != nil {
		return err
	}
	settled, err := s.one("settled")
	if err != nil {
		return err
	}
	if err := settled.ack(); err != nil {
		return err
	}
	if err := l.publish("unsettled"); err != nil {
		return err
	}
	unsettled, err := s.one("unsettled")
	if err != nil {
		return err
	}
	if err := e.shutdown(l.b); err != nil {
		return err
	}
	if err := mustAnswer(e, "of an unsettled delivery after Shutdown", unsettled.IncomingMessage, broker.ErrClosed); err != nil {
		return err
	}
	if err := mustAnswer(e, "of a settled delivery after Shutdown", settled.IncomingMessage, broker.ErrClosed); err != nil {
		return err
	}
	if !l.props.Redelivers {
		return nil
	}
	// Nor did any of this settle it behind the error.
	s.book.released()
	other, err := e.dial(l.t)
	if err != nil {
		return err
	}
	again, err := other.subscribeWith(s.book)
	if err != nil {
		return err
	}
	d, err := again.one("unsettled")
	if err != nil {
		return fmt.Errorf("settled after Shutdown, which answered ErrClosed: %w", err)
	}
	return d.ack()
}

func checkSettleUnsupported(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	for i := range 3 {
		payload := fmt.Sprintf("once%d", i)
		if err := l.publish(payload); err != nil {
			return err
		}
		d, err := s.one(payload)
		if err != nil {
			return err
		}
		if err := mustAnswer(e, "where the source does not redeliver", d.IncomingMessage, errors.ErrUnsupported); err != nil {
			return err
		}
	}
	e.saw("Redelivers", "no")
	return s.quiet()
}

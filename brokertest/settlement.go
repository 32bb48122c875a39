package brokertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gostream/gostream/broker"
)

// settlementChecks: what Ack and Nack promise. What must hold when several settle at
// once, or twice, or too late, is in settlement_once.go, leases are in
// settlement_lease.go.
var settlementChecks = slices.Concat([]check{
	{
		name:  "ack",
		rule:  "a message whose Ack returned nil does not come again, on another connection neither",
		where: "broker.IncomingMessage, Ack",
		needs: []need{needRedelivers},
		run:   checkAck,
	},
	{
		name:  "requeue",
		rule:  "a message whose Nack with requeue returned nil comes again, with a higher delivery count where deliveries are counted",
		where: "broker.IncomingMessage, Nack; broker.Properties, Redelivers; broker.DeliveryCounter",
		needs: []need{needRedelivers},
		run:   checkRequeue,
	},
	{
		name:  "requeue-first",
		rule:  "a requeued message comes before anything that was not yet received, where the source is ordered",
		where: "broker.IncomingMessage, Nack; broker.Properties, Ordered",
		needs: []need{needRedelivers, needOrdered},
		run:   checkRequeueFirst,
	},
	{
		name:  "reject",
		rule:  "a message whose Nack without requeue returned nil does not come again on this subscription",
		where: "broker.IncomingMessage, Nack",
		needs: []need{needRedelivers},
		run:   checkReject,
	},
	{
		name:  "any-order",
		rule:  "deliveries are settled in any order relative to each other: each settlement concerns its own message alone",
		where: "broker.IncomingMessage",
		needs: []need{needRedelivers, needUnsettled(3)},
		run:   checkAnyOrder,
	},
	{
		name:  "unsettled-at-shutdown",
		rule:  "a delivery that Shutdown finds unsettled comes back, and what was settled does not",
		where: "broker.IncomingMessage; broker.Broker, Shutdown",
		needs: []need{needRedelivers, needUnsettled(4)},
		run:   checkUnsettledAtShutdown,
	},
	{
		name:  "delayed",
		rule:  "a message that was nacked with a delay comes again, and not before its time",
		where: "broker.DelayedNacker, NackAfter",
		needs: []need{needRedelivers},
		run:   checkDelayed,
	},
	{
		name:  "delayed-at-once",
		rule:  "a delay of zero or less is at once",
		where: "broker.DelayedNacker, NackAfter",
		needs: []need{needRedelivers},
		run:   checkDelayedAtOnce,
	},
	{
		name:  "limit",
		rule:  "no more deliveries than the source's limit are unsettled at once: at the limit Receive waits, and goes on when one is settled",
		where: "broker.Subscription; broker.SourceSpec, Limit",
		needs: []need{needRedelivers},
		run:   checkLimit,
	},
}, settleOnceChecks, leaseChecks)

// afterLease is how long to wait until a message that was not settled would have
// come again: Quiet, and where the delivery has a lease that ends soon, its end.
func (d *delivery) afterLease() time.Duration {
	quiet := d.s.e.h.Quiet
	if until, ok := broker.LeaseUntil(d.IncomingMessage); ok {
		if left := time.Until(until); left > 0 && left < d.s.e.h.Timeout {
			return left + quiet
		}
	}
	return quiet
}

func checkAck(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	wait := e.h.Quiet
	for _, p := range []string{"a", "b", "c"} {
		if err := l.publish(p); err != nil {
			return err
		}
		d, err := s.one(p)
		if err != nil {
			return err
		}
		wait = max(wait, d.afterLease())
		if err := d.ack(); err != nil {
			return err
		}
	}
	if err := s.quietFor(wait); err != nil {
		return err
	}
	return s.elsewhere(l)
}

// elsewhere shuts the link down and looks at what a subscription on another
// connection gets: payloads alone.
func (s *stream) elsewhere(l *link, payloads ...string) error {
	if err := s.e.shutdown(l.b); err != nil {
		return err
	}
	s.book.released()
	other, err := s.e.dial(l.t)
	if err != nil {
		return err
	}
	again, err := other.subscribeWith(s.book)
	if err != nil {
		return err
	}
	ds, err := again.expect(payloads...)
	if err != nil {
		return fmt.Errorf("on another connection: %w", err)
	}
	if err := ackAll(ds...); err != nil {
		return err
	}
	if err := again.quiet(); err != nil {
		return fmt.Errorf("on another connection: %w", err)
	}
	return nil
}

func checkRequeue(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	if err := l.publish("again"); err != nil {
		return err
	}
	d, err := s.one("again")
	if err != nil {
		return err
	}
	for range 3 {
		before, counts := broker.DeliveryCount(d.IncomingMessage)
		if l.props.CountsDeliveries && !counts {
			return errors.New("the source declares CountsDeliveries, and the message has no delivery count")
		}
		if err := d.requeue(); err != nil {
			return err
		}
		if d, err = s.one("again"); err != nil {
			return fmt.Errorf("after Nack with requeue: %w", err)
		}
		if after, _ := broker.DeliveryCount(d.IncomingMessage); counts && after <= before {
			return fmt.Errorf("the delivery count was %d, after Nack with requeue it is %d", before, after)
		}
	}
	if err := d.ack(); err != nil {
		return err
	}
	e.saw("Redelivers", "yes")
	return s.quiet()
}

func checkRequeueFirst(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	all := numbered("m", 6)
	if err := l.publish(all...); err != nil {
		return err
	}
	for i, p := range all {
		ds, err := s.inOrder(p)
		if err != nil {
			return err
		}
		if i%2 == 0 { // at the beginning, in the middle, with one left
			if err := ds[0].requeue(); err != nil {
				return err
			}
			if ds, err = s.inOrder(p); err != nil {
				return fmt.Errorf("after Nack with requeue of %q: %w", p, err)
			}
		}
		if err := ds[0].ack(); err != nil {
			return err
		}
	}
	return s.quiet()
}

func checkReject(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	if err := l.publish("rejected", "wanted"); err != nil {
		return err
	}
	wait := e.h.Quiet
	for range 2 {
		d, err := s.receive()
		if err != nil {
			return err
		}
		if d.text == "rejected" {
			wait = max(wait, d.afterLease())
			err = d.reject()
		} else {
			err = d.ack()
		}
		if err != nil {
			return err
		}
	}
	return s.quietFor(wait)
}

func checkAnyOrder(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	if err := l.publish("a", "b", "c"); err != nil {
		return err
	}
	ds, err := s.expect("a", "b", "c")
	if err != nil {
		return err
	}
	// The last first: it must not take those before it along.
	if err := ds[2].ack(); err != nil {
		return err
	}
	if err := ds[0].requeue(); err != nil {
		return err
	}
	if err := ds[1].reject(); err != nil {
		return err
	}
	again, err := s.one("a")
	if err != nil {
		return fmt.Errorf("of a, b and c, c was acked, a requeued and b rejected: %w", err)
	}
	if err := again.requeue(); err != nil {
		return err
	}
	return s.elsewhere(l, "a")
}

func checkUnsettledAtShutdown(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	if err := l.publish("a", "b", "c", "d", "e"); err != nil {
		return err
	}
	// One is never received.
	held := make(map[string]*delivery)
	for range 4 {
		d, err := s.receive()
		if err != nil {
			return err
		}
		held[d.text] = d
	}
	var back []string
	for _, p := range []string{"a", "b", "c", "d", "e"} {
		d := held[p]
		if d == nil || len(back) < 3 {
			back = append(back, p)
			continue
		}
		if err := d.ack(); err != nil {
			return err
		}
	}
	return s.elsewhere(l, back...)
}

// noDelay makes a refused NackAfter not applicable.
func noDelay(e *env, err error) error {
	if errors.Is(err, errors.ErrUnsupported) {
		return e.notApplicable("messages have no delayed nack: %v", err)
	}
	return err
}

func checkDelayed(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	if err := l.publish("later"); err != nil {
		return err
	}
	d, err := s.one("later")
	if err != nil {
		return err
	}
	delay := e.h.Delay
	before, counts := broker.DeliveryCount(d.IncomingMessage)
	begin := time.Now()
	nackAfter := func(ctx context.Context, m broker.IncomingMessage) error { return broker.NackAfter(ctx, m, delay) }
	err = e.call("NackAfter", func(ctx context.Context) error { return nackAfter(ctx, d.IncomingMessage) })
	if err != nil {
		if errors.Is(err, errors.ErrUnsupported) {
			// It is still unsettled.
			if err := d.ack(); err != nil {
				return fmt.Errorf("after NackAfter answered errors.ErrUnsupported: %w", err)
			}
		}
		return noDelay(e, fmt.Errorf("NackAfter of %v: %w", delay, err))
	}
	if err := d.was(requeued, "NackAfter", nackAfter); err != nil {
		return err
	}
	err = e.call("Ack", d.Ack)
	if err := mustBe("Ack after NackAfter", err, broker.ErrSettled); err != nil {
		return err
	}
	var again *delivery
	err = e.bounded(e.ctx, "Receive", func(ctx context.Context) (err error) {
		ctx, cancel := context.WithTimeout(ctx, delay+e.h.Timeout)
		defer cancel()
		again, err = s.next(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("after NackAfter of %v: %w", delay, err)
	}
	// A millisecond for clocks of another resolution.
	if waited := time.Since(begin); waited < delay-time.Millisecond {
		return fmt.Errorf("the message came again %v after NackAfter of %v", waited, delay)
	}
	if after, _ := broker.DeliveryCount(again.IncomingMessage); counts && after <= before {
		return fmt.Errorf("the delivery count was %d, after NackAfter it is %d", before, after)
	}
	if err := again.ack(); err != nil {
		return err
	}
	e.saw(capDelay, "yes")
	return s.quiet()
}

func checkDelayedAtOnce(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	if err := l.publish("soon"); err != nil {
		return err
	}
	for _, delay := range []time.Duration{0, -time.Hour} {
		d, err := s.one("soon")
		if err != nil {
			return err
		}
		nackAfter := func(ctx context.Context, m broker.IncomingMessage) error { return broker.NackAfter(ctx, m, delay) }
		err = e.call("NackAfter", func(ctx context.Context) error { return nackAfter(ctx, d.IncomingMessage) })
		if err != nil {
			return noDelay(e, fmt.Errorf("NackAfter of %v: %w", delay, err))
		}
		if err := d.was(requeued, "NackAfter", nackAfter); err != nil {
			return err
		}
	}
	d, err := s.one("soon")
	if err != nil {
		return fmt.Errorf("after NackAfter with a delay of zero or less: %w", err)
	}
	return d.ack()
}

func checkLimit(e *env) error {
	spec, err := e.spec()
	if err != nil {
		return err
	}
	switch {
	case spec.Limit == 0:
		return e.notApplicable("the source does not say its limit")
	case spec.Limit > e.h.Load:
		return e.notApplicable("the limit of %d is above Harness.Load", spec.Limit)
	}
	l, s, err := e.open()
	if err != nil {
		return err
	}
	all := numbered("m", spec.Limit+2)
	if err := l.publish(all...); err != nil {
		return err
	}
	var held []*delivery
	for range spec.Limit {
		d, err := s.receive()
		if err != nil {
			return fmt.Errorf("with %d unsettled of the %d that the source allows: %w", len(held), spec.Limit, err)
		}
		held = append(held, d)
	}
	if err := s.quiet(); err != nil {
		return fmt.Errorf("with %d unsettled, which is the limit: %w", len(held), err)
	}
	if err := held[0].ack(); err != nil {
		return err
	}
	d, err := s.receive()
	if err != nil {
		return fmt.Errorf("after one of %d was settled: %w", spec.Limit, err)
	}
	if err := ackAll(append(held[1:], d)...); err != nil {
		return err
	}
	last, err := s.receive()
	if err != nil {
		return err
	}
	return last.ack()
}

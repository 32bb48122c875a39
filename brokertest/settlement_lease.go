package brokertest

import (
	"context"
	"fmt"
	"time"

	"github.com/gostream/gostream/broker"
)

// leaseChecks belong to the group settlement.
var leaseChecks = []check{
	{
		name:  "lease-extended",
		rule:  "a delivery whose lease is extended in time stays ours: it does not come again and can be settled",
		where: "broker.Leased, ExtendLease",
		needs: []need{needRedelivers},
		run:   checkLeaseExtended,
	},
	{
		name:  "lease-expired",
		rule:  "a delivery whose lease ran out is stale: it comes again, and the old one answers ErrStale to every settlement and extension",
		where: "broker.IncomingMessage; broker.Leased; broker.Staler",
		needs: []need{needRedelivers},
		run:   checkLeaseExpired,
	},
}

// leased opens a subscription to a source with a short lease and receives a message
// of it.
func (e *env) leased(payload string) (*link, *stream, *delivery, error) {
	field, f := "Source", e.h.Source
	if e.h.Lease != nil {
		field, f = "Lease", e.h.Lease
	}
	t, err := e.targetOf(field, f)
	if err != nil {
		return nil, nil, nil, err
	}
	l, s, err := e.openOn(t)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := l.publish(payload); err != nil {
		return nil, nil, nil, err
	}
	d, err := s.one(payload)
	if err != nil {
		return nil, nil, nil, err
	}
	until, ok := broker.LeaseUntil(d.IncomingMessage)
	var na error
	switch left := time.Until(until); {
	case !ok && e.h.Lease != nil:
		return nil, nil, nil, fmt.Errorf("the messages of Harness.Lease have no lease")
	case !ok:
		na = e.notApplicable("messages have no lease")
	case left > e.h.Timeout && e.h.Lease != nil:
		return nil, nil, nil, fmt.Errorf("the lease of Harness.Lease ends in %v, which is above Timeout", left)
	case left > e.h.Timeout:
		na = e.notApplicable("the lease of %v is longer than Timeout, and the harness has no Lease", left.Round(time.Second))
	default:
		return l, s, d, nil
	}
	if err := d.ack(); err != nil {
		return nil, nil, nil, err
	}
	return nil, nil, nil, na
}

func checkLeaseExtended(e *env) error {
	const attempts = 3
	for i := range attempts {
		late, err := extendInTime(e, fmt.Sprintf("slow%d", i))
		if err != nil || !late {
			return err
		}
	}
	return fmt.Errorf("the kit came too late to extend the lease, %d times: the lease of the harness is too short for this machine", attempts)
}

// extendInTime holds a delivery for twice its lease and extends it at half of what
// remains each time. It reports whether it came too late itself.
func extendInTime(e *env, payload string) (late bool, err error) {
	l, s, d, err := e.leased(payload)
	if err != nil {
		return false, err
	}
	until, _ := broker.LeaseUntil(d.IncomingMessage)
	lease := time.Until(until)
	for end := time.Now().Add(2 * lease); time.Now().Before(end); {
		e.wait(min(time.Until(until)/2, time.Until(end)))
		err := e.call("ExtendLease", func(ctx context.Context) error { return broker.ExtendLease(ctx, d.IncomingMessage) })
		switch longer, _ := broker.LeaseUntil(d.IncomingMessage); {
		case time.Now().After(until):
			return true, nil
		case err != nil:
			return false, fmt.Errorf("ExtendLease with half of the lease left: %w", err)
		case !longer.After(until):
			return false, fmt.Errorf("the lease was to end at %v, after ExtendLease with half of it left it ends at %v", until, longer)
		case broker.Stale(d.IncomingMessage):
			return false, fmt.Errorf("the delivery is stale although its lease was extended")
		default:
			until = longer
		}
	}
	// Whoever has a look now must not get it.
	got, err := s.rawUntilQuiet()
	switch {
	case err != nil:
		return false, err
	case time.Now().After(until):
		return true, nil
	case got != nil:
		return false, fmt.Errorf("%v came again although its lease was extended in time", got)
	}
	if err := d.ack(); err != nil {
		return time.Now().After(until), err
	}
	e.saw(capLease, "yes")
	return false, s.elsewhere(l)
}

// rawUntilQuiet is untilQuiet without the ledger.
func (s *stream) rawUntilQuiet() (*delivery, error) {
	book := s.book
	s.book = &ledger{redelivers: book.redelivers}
	defer func() { s.book = book }()
	return s.untilQuiet()
}

func checkLeaseExpired(e *env) error {
	_, s, d, err := e.leased("late")
	if err != nil {
		return err
	}
	until, _ := broker.LeaseUntil(d.IncomingMessage)
	e.wait(time.Until(until))
	s.book.released()
	again, err := s.one("late")
	if err != nil {
		return fmt.Errorf("the lease ran out: %w", err)
	}
	if !broker.Stale(d.IncomingMessage) {
		return fmt.Errorf("the lease ran out and the message came again, and the old delivery is not stale")
	}
	if err := mustAnswer(e, "after the lease ran out", d.IncomingMessage, broker.ErrStale); err != nil {
		return err
	}
	err = e.call("ExtendLease", func(ctx context.Context) error { return broker.ExtendLease(ctx, d.IncomingMessage) })
	if err := mustBe("ExtendLease after the lease ran out", err, broker.ErrStale); err != nil {
		return err
	}
	if broker.Stale(again.IncomingMessage) {
		return fmt.Errorf("the new delivery is stale, too")
	}
	// The old one did not settle the new one.
	if err := again.ack(); err != nil {
		return err
	}
	e.saw(capStale, "yes")
	return s.quiet()
}

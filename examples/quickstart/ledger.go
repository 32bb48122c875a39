package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

// Ledger is where each order that was read must turn up again, once. It knows
// them by their message id.
type Ledger struct {
	mu     sync.Mutex
	open   map[string]bool // read, and not seen again so far
	counts Counts
	done   chan struct{} // closed when open is empty
}

// Counts is what a Ledger has seen.
type Counts struct {
	Read      int
	Confirmed int
	Recovered int            // of the confirmed, those that had failed before
	Dead      map[string]int // by reason
	Retries   int
	Strays    int // seen twice, or never read
}

// NewLedger returns a ledger that waits for msgs.
func NewLedger(msgs []broker.OutgoingMessage) *Ledger {
	l := &Ledger{open: make(map[string]bool, len(msgs)), done: make(chan struct{})}
	l.counts.Read = len(msgs)
	l.counts.Dead = make(map[string]int)
	for _, m := range msgs {
		l.open[m.Headers.MessageID()] = true
	}
	return l
}

// Confirmed handles a confirmation. Its correlation id is the message id of the
// order: gostream carries it over.
func (l *Ledger) Confirmed(_ context.Context, m gostream.Message[Confirmation]) error {
	l.settle(m.Headers().CorrelationID(), func(c *Counts) { c.Confirmed++ })
	return nil
}

// Dead handles a dead letter: the order as it came, with the reason in a header.
func (l *Ledger) Dead(_ context.Context, d *gostream.Delivery) error {
	reason := d.Headers().Get(gostream.HeaderDeadReason)
	l.settle(d.Headers().MessageID(), func(c *Counts) { c.Dead[reason]++ })
	return nil
}

// Observe counts attempts: it is called at the end of each.
func (l *Ledger) Observe(e gostream.SettledEvent) {
	if e.Delivery.Name() != "orders" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case e.Outcome == gostream.OutcomeRetried:
		l.counts.Retries++
	case e.Outcome == gostream.OutcomeAcked && e.Delivery.Attempt() > 1:
		l.counts.Recovered++
	}
}

func (l *Ledger) settle(id string, count func(*Counts)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.open[id] {
		l.counts.Strays++
		return
	}
	count(&l.counts)
	delete(l.open, id)
	if len(l.open) == 0 {
		close(l.done)
	}
}

// Done is closed when every order was seen again.
func (l *Ledger) Done() <-chan struct{} { return l.done }

// Counts returns what was seen so far.
func (l *Ledger) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts
	c.Dead = maps.Clone(c.Dead)
	return c
}

// Check reports what does not add up.
func (l *Ledger) Check() error {
	l.mu.Lock()
	open := slices.Sorted(maps.Keys(l.open))
	l.mu.Unlock()
	c := l.Counts()
	var errs []error
	if n := len(open); n > 0 {
		ids := strings.Join(open[:min(n, 5)], ", ")
		if n > 5 {
			ids += ", …"
		}
		errs = append(errs, fmt.Errorf("%d of %d orders are not settled: %s", n, c.Read, ids))
	}
	if c.Strays > 0 {
		errs = append(errs, fmt.Errorf("%d came twice or were never read", c.Strays))
	}
	if len(errs) == 0 && c.Settled() != c.Read {
		errs = append(errs, fmt.Errorf("%d read, but %d confirmed and %d dead-lettered", c.Read, c.Confirmed, c.DeadLettered()))
	}
	return errors.Join(errs...)
}

// DeadLettered is the number of dead letters.
func (c Counts) DeadLettered() int {
	n := 0
	for _, ofReason := range c.Dead {
		n += ofReason
	}
	return n
}

// Settled is the number of orders that were seen again.
func (c Counts) Settled() int { return c.Confirmed + c.DeadLettered() }

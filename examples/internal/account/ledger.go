// Package account says what became of the orders that an example has read: its own
// proof that nothing is missing.
package account

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

// Orders is the name of the subscription that handles the orders.
const Orders = "orders"

// Ledger is where each order that was read must turn up again, once. It knows
// them by their message id.
type Ledger struct {
	mayRepeat bool

	mu     sync.Mutex
	seen   map[string]bool // of each order that was read: was it seen again?
	open   int             // how many were not
	counts Counts
	done   chan struct{} // closed when open is 0
}

// Counts is what a Ledger has seen.
type Counts struct {
	Read      int
	Confirmed int
	Recovered int            // of the confirmed, those that had failed before
	Dead      map[string]int // by reason
	Retries   int
	Handled   int // by this process; others were by one before it
	Repeats   int // seen again a second time
	Strays    int // never read
}

// New returns a ledger that waits for msgs.
func New(msgs []broker.OutgoingMessage) *Ledger {
	l := &Ledger{seen: make(map[string]bool, len(msgs)), done: make(chan struct{})}
	l.counts.Dead = make(map[string]int)
	for _, m := range msgs {
		l.seen[m.Headers.MessageID()] = false
	}
	l.counts.Read, l.open = len(msgs), len(l.seen)
	return l
}

// NewAtLeastOnce returns a ledger that bears an order which turns up twice: a process
// that was killed may have confirmed it, and not acknowledged it.
func NewAtLeastOnce(msgs []broker.OutgoingMessage) *Ledger {
	l := New(msgs)
	l.mayRepeat = true
	return l
}

// Confirmed handles a confirmation. Its correlation id is the message id of the
// order: gostream carries it over.
func (l *Ledger) Confirmed(_ context.Context, d *gostream.Delivery) error {
	l.settle(d.Headers().CorrelationID(), func(c *Counts) { c.Confirmed++ })
	return nil
}

// Dead handles a dead letter: the order as it came, with the reason in a header.
func (l *Ledger) Dead(_ context.Context, d *gostream.Delivery) error {
	reason := d.Headers().Get(gostream.HeaderDeadReason)
	l.settle(d.Headers().MessageID(), func(c *Counts) { c.Dead[reason]++ })
	return nil
}

// Observe counts attempts at orders: it is called at the end of each.
func (l *Ledger) Observe(e gostream.SettledEvent) {
	if e.Delivery.Subscription().Name() != Orders {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch e.Outcome {
	case gostream.OutcomeRetried:
		l.counts.Retries++
	case gostream.OutcomeDeadLettered:
		l.counts.Handled++
	case gostream.OutcomeAcked:
		l.counts.Handled++
		if e.Delivery.Attempt() > 1 {
			l.counts.Recovered++
		}
	}
}

func (l *Ledger) settle(id string, count func(*Counts)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch seen, read := l.seen[id]; {
	case !read:
		l.counts.Strays++
		return
	case seen:
		l.counts.Repeats++
		return
	}
	count(&l.counts)
	l.seen[id] = true
	if l.open--; l.open == 0 {
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
	var open []string
	for id, seen := range l.seen {
		if !seen {
			open = append(open, id)
		}
	}
	l.mu.Unlock()
	slices.Sort(open)
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
		errs = append(errs, fmt.Errorf("%d were never read", c.Strays))
	}
	if c.Repeats > 0 && !l.mayRepeat {
		errs = append(errs, fmt.Errorf("%d came twice", c.Repeats))
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

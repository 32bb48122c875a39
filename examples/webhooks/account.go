package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"

	"github.com/gostream/gostream"
)

// Account counts every event at every place where it must turn up.
type Account struct {
	keyless   int // events without a key
	corrupted int
	typed     int  // events with a handler of their own
	ordered   bool // each repository's events of one kind must be handled in order

	mu          sync.Mutex
	entries     map[string]*entry // by kind of event
	reasons     map[string]int    // of the dead letters
	keylessSeen int               // by the audit
	batches     int               // that the audit took; 0 for single events
	last        map[place]int     // the line that was handled last
	overtaken   []string          // what was handled out of order
	seen        int               // audited, handled or dead-lettered
	awaited     int               // how many there will be
	done        chan struct{}
}

// place is where order is kept: one kind of event of one repository.
type place struct{ kind, repo string }

// entry is the account of one kind of event.
type entry struct {
	read, audited, handled, dead int
	typed                        bool
}

// NewAccount returns an account of events that are going to be published. Where
// ordered, they must be handled in the order of their lines, for each kind and
// repository.
func NewAccount(events []event, ordered bool) *Account {
	a := &Account{
		ordered: ordered,
		entries: make(map[string]*entry),
		reasons: make(map[string]int),
		last:    make(map[place]int),
		done:    make(chan struct{}),
	}
	for _, e := range events {
		entry := a.entry(e.kind)
		entry.read++
		a.awaited++ // by the audit
		if entry.typed {
			a.typed++
			a.awaited++ // by its handler, or in the dead letter
		}
		if e.repo == "" {
			a.keyless++
		}
		if e.corrupted {
			a.corrupted++
		}
	}
	return a
}

// Audit sees every event, whatever it holds.
func (a *Account) Audit(_ context.Context, d *gostream.Delivery) error {
	a.audit(d)
	return nil
}

// AuditBatch is Audit for several events at once. Payloads that are raw bytes can
// always be decoded: none is missing.
func (a *Account) AuditBatch(_ context.Context, events []gostream.Message[[]byte]) error {
	a.mu.Lock()
	a.batches++
	a.mu.Unlock()
	for _, e := range events {
		a.audit(e.Delivery())
	}
	return nil
}

func (a *Account) audit(d *gostream.Delivery) {
	a.count(d.Name(), func(e *entry) {
		e.audited++
		if len(d.Key()) == 0 {
			a.keylessSeen++
		}
	})
}

// Handled is middleware that counts what a handler has taken without an error.
func (a *Account) Handled(next gostream.Next) gostream.Next {
	return func(ctx context.Context, b *gostream.Batch) error {
		if err := next(ctx, b); err != nil {
			return err
		}
		for i := range b.Len() {
			d := b.At(i)
			a.count(d.Name(), func(e *entry) {
				e.handled++
				a.inOrder(d)
			})
		}
		return nil
	}
}

// inOrder compares a handled event with the one of its kind and repository that was
// handled before; mu is held. An event without a repository has no order to keep.
func (a *Account) inOrder(d *gostream.Delivery) {
	line, err := strconv.Atoi(strings.TrimPrefix(d.Headers().MessageID(), linePrefix))
	if !a.ordered || len(d.Key()) == 0 || err != nil {
		return
	}
	p := place{strings.TrimPrefix(d.Name(), prefix), string(d.Key())}
	if before := a.last[p]; before >= line {
		a.overtaken = append(a.overtaken, fmt.Sprintf("%s of %s: line %d was handled after line %d", p.kind, p.repo, line, before))
	}
	a.last[p] = max(a.last[p], line)
}

// Dead sees the events that no handler could take. Where they came from, and why
// they are here, stands in their headers.
func (a *Account) Dead(_ context.Context, d *gostream.Delivery) error {
	reason := d.Headers().Get(gostream.HeaderDeadReason)
	a.count(d.Headers().Get(gostream.HeaderDeadSource), func(e *entry) {
		e.dead++
		a.reasons[reason]++
	})
	return nil
}

// count counts an event by the name that it was published to.
func (a *Account) count(name string, f func(*entry)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f(a.entry(strings.TrimPrefix(name, prefix)))
	a.seen++
	if a.seen == a.awaited {
		close(a.done)
	}
}

// entry returns the entry of a kind; mu is held, or the account is new.
func (a *Account) entry(kind string) *entry {
	e := a.entries[kind]
	if e == nil {
		e = &entry{typed: typed(kind)}
		a.entries[kind] = e
	}
	return e
}

// Done is closed when as many events were seen as there must be.
func (a *Account) Done() <-chan struct{} { return a.done }

// Seen is how many were seen so far.
func (a *Account) Seen() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen
}

// total adds the entries up.
func (a *Account) total() entry {
	var t entry
	for _, e := range a.entries {
		t.read += e.read
		t.audited += e.audited
		t.handled += e.handled
		t.dead += e.dead
	}
	return t
}

// Check reports what does not add up.
func (a *Account) Check() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.check()
}

// check is Check; mu is held.
func (a *Account) check() error {
	var errs []error
	for _, kind := range slices.Sorted(maps.Keys(a.entries)) {
		e := a.entries[kind]
		if e.read != e.audited {
			errs = append(errs, fmt.Errorf("%s: %d read, but %d audited", kind, e.read, e.audited))
		}
		if e.typed && e.read != e.handled+e.dead {
			errs = append(errs, fmt.Errorf("%s: %d read, but %d handled and %d dead-lettered", kind, e.read, e.handled, e.dead))
		}
		if !e.typed && e.handled+e.dead > 0 {
			errs = append(errs, fmt.Errorf("%s: %d handled and %d dead-lettered without a handler", kind, e.handled, e.dead))
		}
	}
	if t := a.total(); t.dead != a.corrupted {
		errs = append(errs, fmt.Errorf("%d corrupted, but %d dead-lettered", a.corrupted, t.dead))
	}
	if n := len(a.overtaken); n > 0 {
		errs = append(errs, fmt.Errorf("%d events were handled out of order, the first: %s", n, a.overtaken[0]))
	}
	if a.keyless != a.keylessSeen {
		errs = append(errs, fmt.Errorf("%d published without a key, but %d audited without one", a.keyless, a.keylessSeen))
	}
	return errors.Join(errs...)
}

// Print writes the account as a table.
func (a *Account) Print(out io.Writer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	kinds := slices.Sorted(maps.Keys(a.entries))
	width := len("EVENT")
	for _, kind := range kinds {
		width = max(width, len(kind))
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%-*s\tREAD\tAUDITED\tHANDLED\tDEAD-LETTERED\t\n", width, "EVENT")
	row := func(kind string, e entry) {
		handled, dead := fmt.Sprint(e.handled), fmt.Sprint(e.dead)
		if !e.typed {
			handled, dead = "-", "-"
		}
		fmt.Fprintf(w, "%-*s\t%d\t%d\t%s\t%s\t\n", width, kind, e.read, e.audited, handled, dead)
	}
	for _, kind := range kinds {
		row(kind, *a.entries[kind])
	}
	t := a.total()
	t.typed = true // so that its numbers are shown
	row("total", t)
	w.Flush()

	fmt.Fprintf(out, "\nkeyless: %d (events without a repository)\n", a.keyless)
	fmt.Fprintf(out, "corrupted: %d\n", a.corrupted)
	for _, reason := range slices.Sorted(maps.Keys(a.reasons)) {
		fmt.Fprintf(out, "dead-lettered as %s: %d\n", reason, a.reasons[reason])
	}
	if a.batches > 0 {
		fmt.Fprintf(out, "audited in batches: %d\n", a.batches)
	}
	if a.ordered && len(a.overtaken) == 0 {
		fmt.Fprintf(out, "order per repository: kept\n")
	}
	if a.check() == nil {
		fmt.Fprintf(out, "\n%d read = %d audited; %d of them typed = %d handled + %d dead-lettered\n", t.read, t.audited, a.typed, t.handled, t.dead)
	}
}

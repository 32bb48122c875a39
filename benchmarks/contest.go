package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

// A contest is entrants that take turns. The first is the base of the ratios.
type contest struct {
	name     string
	inFlight int
	traffic  traffic
	entrants []entrant
	ledger   *work // what a ledger numbers and checks, which then makes the traffic; nil for none
	level    bool  // all entrants get as many messages, and never less than are in flight twice
	stub     bool  // there is no server: what is added to the base in nanoseconds is of interest
}

type entrant struct {
	name    string
	start   func(p probe, t traffic) (*rig, error)
	traffic *traffic // instead of the contest's; nil for that
}

// rig is a started entrant.
type rig struct {
	send func(i int) error // publishes message i; one goroutine calls it
	many func(n int) error // in place of send: publishes n messages
	// ready is called before each measurement, which it is no part of; nil for nothing.
	ready func(ctx context.Context) error
	stop  func() error
	held  float64 // bytes for each subscription, where that is measured
}

// probe is what the handlers call, the same on all sides: raw for a payload, order for
// an order that gets no reply, reply for a reply that was read. fail ends the pass where
// a loop cannot go on.
type probe struct {
	raw   func(payload []byte)
	order func(o Order)
	reply func(c Confirmation)
	fail  func(err error)
}

// traffic is what is sent.
type traffic struct {
	payload func(i int) []byte
	key     func(i int) []byte // nil for none
	order   func(i int) Order
	number  func() uint64 // of a ledger: the next message's, where something else makes its payload
}

// flight bounds the messages in flight, outside of what is measured and the same on
// all sides. The publisher goes on until limit are in flight, and then waits until half
// of them are handled: one wake-up for many messages, or what is measured would be the
// waking of goroutines. With a limit of 1 it waits for each.
type flight struct {
	limit  int64
	sent   int64 // the publisher's
	done   atomic.Int64
	wanted atomic.Int64 // done must reach this to wake the publisher; 0: it does not wait
	wake   chan struct{}
	broken chan error // holds what a loop could not go on for
}

func newFlight(limit int) *flight {
	return &flight{limit: int64(limit), wake: make(chan struct{}, 1), broken: make(chan error, 1)}
}

// fail has pass end with err.
func (f *flight) fail(err error) {
	select {
	case f.broken <- err:
	default: // the first one tells
	}
}

// handled is called for each message that was handled.
func (f *flight) handled() {
	done := f.done.Add(1)
	if w := f.wanted.Load(); w != 0 && done >= w && f.wanted.CompareAndSwap(w, 0) {
		f.wake <- struct{}{}
	}
}

// wait waits until so many were handled.
func (f *flight) wait(ctx context.Context, until int64) error {
	if f.done.Load() >= until {
		return nil
	}
	f.wanted.Store(until)
	if f.done.Load() >= until && f.wanted.CompareAndSwap(until, 0) {
		return nil // nobody wakes us any more
	}
	select {
	case <-f.wake:
		return nil
	case err := <-f.broken:
		return err
	case <-ctx.Done():
		return fmt.Errorf("of %d messages %d were handled: %w", f.sent, f.done.Load(), context.Cause(ctx))
	}
}

func (f *flight) probe() probe {
	return probe{
		raw:   func([]byte) { f.handled() },
		order: func(Order) { f.handled() },
		reply: func(Confirmation) { f.handled() },
		fail:  f.fail,
	}
}

// stuck is how long a pass may take.
const stuck = time.Minute

// pass sends n messages and returns when all are handled. After an error f cannot be
// used again.
func (f *flight) pass(ctx context.Context, r *rig, n int) error {
	ctx, cancel := context.WithTimeout(ctx, stuck)
	defer cancel()
	for i := 0; i < n; i++ {
		if f.sent-f.done.Load() >= f.limit {
			if err := f.wait(ctx, f.sent-f.limit/2); err != nil {
				return err
			}
		}
		if r.many != nil {
			k := min(int64(n-i), f.limit-(f.sent-f.done.Load()))
			f.sent += k
			i += int(k) - 1
			if err := r.many(int(k)); err != nil {
				return err
			}
			continue
		}
		f.sent++
		if err := r.send(i); err != nil {
			return err
		}
	}
	return f.wait(ctx, f.sent)
}

// sample is one measurement, for each message.
type sample struct{ ns, cpu, allocs, bytes float64 } // cpu is 0 where it is not known

// runner is an entrant that runs.
type runner struct {
	name    string
	rig     *rig
	flight  *flight
	ledger  *ledger // nil for none
	count   int     // messages of a sample
	least   int     // of them
	samples []sample
}

// pass is that of the flight; then the ledger must be in order.
func (r *runner) pass(ctx context.Context) error {
	if err := r.flight.pass(ctx, r.rig, r.count); err != nil || r.ledger == nil {
		return err
	}
	return r.ledger.check(r.flight)
}

func (r *runner) ready(ctx context.Context) error {
	if r.rig.ready == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stuck)
	defer cancel()
	return r.rig.ready(ctx)
}

func (r *runner) measure(ctx context.Context) (sample, error) {
	if err := r.ready(ctx); err != nil {
		return sample{}, err
	}
	runtime.GC() // nobody pays for the garbage of the one before
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpuBefore, _ := cpuTime()
	begun := time.Now()
	err := r.pass(ctx)
	took := time.Since(begun)
	cpuAfter, _ := cpuTime()
	runtime.ReadMemStats(&after)
	n := float64(r.count)
	return sample{
		ns:     float64(took.Nanoseconds()) / n,
		cpu:    float64((cpuAfter - cpuBefore).Nanoseconds()) / n,
		allocs: float64(after.Mallocs-before.Mallocs) / n,
		bytes:  float64(after.TotalAlloc-before.TotalAlloc) / n,
	}, err
}

// The bounds of the messages of a sample.
const (
	minCount = 64
	maxCount = 4 << 20
)

// calibrate warms the rig up and finds how many messages take about d.
func (r *runner) calibrate(ctx context.Context, d time.Duration) error {
	for r.count = r.least; ; r.count *= 2 {
		if err := r.ready(ctx); err != nil {
			return err
		}
		begun := time.Now()
		if err := r.pass(ctx); err != nil {
			return err
		}
		if took := time.Since(begun); took >= d/4 || r.count >= maxCount {
			r.count = min(max(r.least, int(float64(r.count)*float64(d)/float64(took))), maxCount)
			return nil
		}
	}
}

// run measures the contest. What was started is stopped.
func (c contest) run(ctx context.Context, s settings) (result Case, err error) {
	var runners []*runner
	defer func() {
		for _, r := range runners {
			err = errors.Join(err, r.rig.stop())
		}
	}()
	for _, e := range c.entrants {
		r := &runner{name: e.name, flight: newFlight(c.inFlight), least: minCount}
		if c.level {
			r.least = max(minCount, 2*c.inFlight) // else it is a latency that is measured
		}
		t := c.traffic
		if e.traffic != nil {
			t = *e.traffic
		}
		p := r.flight.probe()
		if c.ledger != nil {
			r.ledger = newLedger(*c.ledger)
			p, t = r.ledger.probe(r.flight), r.ledger.traffic()
		}
		if r.rig, err = e.start(p, t); err != nil {
			return Case{}, fmt.Errorf("%s: %w", e.name, err)
		}
		runners = append(runners, r)
		if err = r.calibrate(ctx, s.sample); err != nil {
			return Case{}, fmt.Errorf("%s: %w", e.name, err)
		}
	}
	if c.level {
		most := 0
		for _, r := range runners {
			most = max(most, r.count)
		}
		for _, r := range runners {
			r.count = most
		}
	}
	err = rounds(s.rounds, len(runners), func(i int, counts bool) error {
		r := runners[i]
		got, err := r.measure(ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		if counts {
			r.samples = append(r.samples, got)
		}
		return ctx.Err()
	})
	if err != nil {
		return Case{}, err
	}
	result = summarizeCase(c.name, runners)
	if c.stub {
		result.add(runners)
	}
	return result, nil
}

// rounds lets n entrants take turns, one round more than count; the first does not
// count.
func rounds(count, n int, turn func(entrant int, counts bool) error) error {
	for round := range count + 1 {
		for i := range n {
			if err := turn(i, round > 0); err != nil {
				return err
			}
		}
	}
	return nil
}

func summarizeCase(name string, runners []*runner) Case {
	c := Case{Name: name}
	var base, baseCPU []float64
	for i, r := range runners {
		var ns, cpu, allocs, bytes []float64
		for _, s := range r.samples {
			ns, cpu = append(ns, s.ns), append(cpu, s.cpu)
			allocs, bytes = append(allocs, s.allocs), append(bytes, s.bytes)
		}
		row := Row{Name: r.name, Time: ptr(summarize(ns)), Allocs: ptr(median(allocs)), Bytes: ptr(median(bytes))}
		if i == 0 {
			base, baseCPU = ns, cpu
		} else {
			row.Ratio = ptr(summarize(ratios(ns, base)))
			row.Verdict = verdict(*row.Ratio)
		}
		if slices.Min(cpu) > 0 && slices.Min(baseCPU) > 0 {
			row.CPU = ptr(summarize(cpu))
			if i > 0 {
				row.CPURatio = ptr(summarize(ratios(cpu, baseCPU)))
			}
		}
		if r.rig.held > 0 {
			row.Held = &r.rig.held
		}
		c.Rows = append(c.Rows, row)
	}
	return c
}

// add says what the entrants add to the base, pair by pair.
func (c *Case) add(runners []*runner) {
	base := runners[0].samples
	for i, r := range runners[1:] {
		var ns, cpu []float64
		for j, s := range r.samples {
			ns, cpu = append(ns, s.ns-base[j].ns), append(cpu, s.cpu-base[j].cpu)
		}
		row := &c.Rows[i+1]
		row.Added = ptr(summarize(ns))
		if row.CPU != nil {
			row.AddedCPU = ptr(summarize(cpu))
		}
	}
}

func ptr[T any](v T) *T { return &v }

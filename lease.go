package gostream

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/gostream/gostream/broker"
)

// leaseKeeper extends the leases of everything that a subscription has in hand:
// what is handled, what waits in a lane, what is parked. It has one timer, which
// runs while something is in hand, and nothing for each message.
type leaseKeeper struct {
	c     *consumer
	known atomic.Int32 // leases: leaseUnknown, leaseNone, leaseNeeded
	armed atomic.Bool  // the timer will fire
	timer *time.Timer  // guarded by c.mu
}

const (
	leaseUnknown = iota // no message has come yet
	leaseNone
	leaseNeeded
)

// leastLeaseWait keeps very short leases from turning the timer into a busy loop.
const leastLeaseWait = 5 * time.Millisecond

// needed reports whether the subscription's messages have leases; the first of them
// tells. It starts the timer where it does not run.
func (k *leaseKeeper) needed(m broker.IncomingMessage) bool {
	switch k.known.Load() {
	case leaseNone:
		return false
	case leaseUnknown:
		if _, ok := broker.LeaseUntil(m); !ok {
			k.known.Store(leaseNone)
			return false
		}
		k.known.Store(leaseNeeded)
	}
	if !k.armed.Swap(true) {
		until, _ := broker.LeaseUntil(m)
		k.arm(time.Until(until) / 2)
	}
	return true
}

// arm has extend called after d.
func (k *leaseKeeper) arm(d time.Duration) {
	d = max(d, leastLeaseWait)
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	if k.timer == nil {
		k.timer = time.AfterFunc(d, k.extend)
		return
	}
	k.timer.Reset(d)
}

// extend extends the lease of everything in hand, and sets the timer for half of
// the shortest that then remains.
func (k *leaseKeeper) extend() {
	if k.c.settleCtx.Err() != nil {
		return // the service has ended
	}
	held := k.c.inHand()
	if len(held) == 0 {
		k.armed.Store(false)
		if len(k.c.inHand()) == 0 || k.armed.Swap(true) {
			return
		}
		held = k.c.inHand() // one came meanwhile and saw the timer running
	}
	var shortest time.Duration = -1
	for _, m := range held {
		if left, ok := k.extendOne(m); ok && (shortest < 0 || left < shortest) {
			shortest = left
		}
	}
	if shortest < 0 {
		k.armed.Store(false) // nothing of it is ours any more
		return
	}
	k.arm(shortest / 2)
}

// extendOne extends the lease of m and returns how long it lasts; ok is false where
// m is not ours any more.
func (k *leaseKeeper) extendOne(m broker.IncomingMessage) (left time.Duration, ok bool) {
	until, ok := broker.LeaseUntil(m)
	if !ok || broker.Stale(m) {
		return 0, false
	}
	ctx, cancel := context.WithDeadline(k.c.settleCtx, until)
	defer cancel()
	if err := broker.ExtendLease(ctx, m); err != nil {
		if !isFinal(err) {
			k.c.log.Warn("extending a lease failed", "name", m.Name(), "error", err)
		}
		return time.Until(until), !isFinal(err)
	}
	until, _ = broker.LeaseUntil(m)
	return time.Until(until), true
}

// inHand lists the deliveries that are neither settled nor with the broker.
func (c *consumer) inHand() (held []broker.IncomingMessage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.slots {
		if f := s.frame.Load(); f != nil {
			held = f.messages(held)
		}
	}
	for _, list := range [][]*parked{c.parking, c.due} {
		for _, p := range list {
			for _, f := range p.frames() {
				held = f.messages(held)
			}
		}
	}
	if c.lanes != nil {
		for i := range c.lanes.all {
			held = c.lanes.all[i].messages(held)
		}
	}
	return held
}

// messages adds those of f that are not settled yet.
func (f *frame) messages(to []broker.IncomingMessage) []broker.IncomingMessage {
	if f.run == nil {
		return append(to, f.delivery.msg)
	}
	for i := range f.run.elements {
		to = append(to, f.run.elements[i].delivery.msg)
	}
	return to
}

// messages adds those that wait in the lane.
func (l *lane) messages(to []broker.IncomingMessage) []broker.IncomingMessage {
	l.mu.Lock()
	defer l.mu.Unlock()
	add := func(t task) {
		if t.parked != nil {
			to = t.parked.frame.messages(to)
			return
		}
		to = append(to, t.msg)
	}
	for i := range l.front.Len() {
		add(l.front.At(i))
	}
	for i := range l.queue.Len() {
		add(l.queue.At(i))
	}
	for _, w := range l.waiting {
		for i := range w.behind.Len() {
			add(w.behind.At(i))
		}
	}
	return to
}

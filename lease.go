package gostream

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gostream/gostream/broker"
)

// leaseKeeper extends the leases of everything that a subscription has in hand:
// what is handled, what waits in a lane, what is parked. It has one timer, which
// runs while something is in hand, and no goroutine for a message.
type leaseKeeper struct {
	c     *consumer
	known atomic.Int32 // leaseUnknown, leaseNone or leaseNeeded
	armed atomic.Bool  // the timer will fire, or extend runs
	at    atomic.Int64 // when it will, in nanoseconds since the service began
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
// tells. It sets the timer for half of what remains of m's, unless it fires before.
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
	until, _ := broker.LeaseUntil(m)
	half := time.Until(until) / 2
	if !k.armed.Swap(true) || int64(k.c.svc.since()+half) < k.at.Load() {
		k.arm(half)
	}
	return true
}

// arm has extend called after d.
func (k *leaseKeeper) arm(d time.Duration) {
	d = max(d, leastLeaseWait)
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	k.at.Store(int64(k.c.svc.since() + d))
	if k.timer == nil {
		k.timer = time.AfterFunc(d, k.extend)
		return
	}
	k.timer.Reset(d)
}

// extend extends the lease of everything in hand, what ends first before the others,
// and sets the timer for half of the shortest that then remains.
func (k *leaseKeeper) extend() {
	for k.c.settleCtx.Err() == nil {
		held := k.c.inHand()
		if shortest, ours := k.extendAll(held); ours {
			k.arm(shortest / 2)
			return
		}
		// Nothing of it is ours any more. One that came meanwhile saw the timer
		// running, and relies on it.
		k.armed.Store(false)
		if !anyNew(k.c.inHand(), held) || k.armed.Swap(true) {
			return
		}
	}
}

// extendAll extends the leases of held and returns the shortest that remains; ours is
// false where none of them is. One extension that hangs must not cost the others
// theirs: it has a quarter of the shortest lease.
func (k *leaseKeeper) extendAll(held []broker.IncomingMessage) (shortest time.Duration, ours bool) {
	type lease struct {
		m     broker.IncomingMessage
		until time.Time
	}
	leases := make([]lease, 0, len(held))
	for _, m := range held {
		if until, ok := broker.LeaseUntil(m); ok && !broker.Stale(m) {
			leases = append(leases, lease{m, until})
		}
	}
	if len(leases) == 0 {
		return 0, false
	}
	slices.SortStableFunc(leases, func(a, b lease) int { return a.until.Compare(b.until) })
	limit := max(time.Until(leases[0].until)/4, leastLeaseWait)
	for _, l := range leases {
		left, ok := k.extendOne(l.m, limit)
		if ok && (!ours || left < shortest) {
			shortest, ours = left, true
		}
	}
	return shortest, ours
}

// extendOne extends the lease of m and returns how long it lasts; ok is false where
// m is settled, or not ours any more.
func (k *leaseKeeper) extendOne(m broker.IncomingMessage, limit time.Duration) (left time.Duration, ok bool) {
	ctx, cancel := context.WithTimeout(k.c.settleCtx, limit)
	defer cancel()
	err := broker.ExtendLease(ctx, m)
	if err != nil && isFinal(err) {
		return 0, false
	}
	if err != nil {
		k.c.log.Warn("extending a lease failed", AttrName, m.Name(), "error", err)
	}
	until, _ := broker.LeaseUntil(m)
	left = time.Until(until)
	return left, left > 0
}

// anyNew reports a message of now that is not among before.
func anyNew(now, before []broker.IncomingMessage) bool {
	known := make(map[broker.IncomingMessage]bool, len(before))
	for _, m := range before {
		known[m] = true
	}
	return slices.ContainsFunc(now, func(m broker.IncomingMessage) bool { return !known[m] })
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

// messages adds those of f, the settled ones of a batch too: extending says so.
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

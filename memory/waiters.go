package memory

// waiter is somebody who waits at a queue: a subscription for a message, a
// publisher for room. Everything but the channel is guarded by the queue's mutex.
type waiter struct {
	wake       chan struct{} // capacity 1: a signal is remembered, and never blocks
	prev, next *waiter
	queued     bool
	need       int // how much room a publisher waits for
}

func newWaiter() *waiter { return &waiter{wake: make(chan struct{}, 1)} }

// signal wakes the waiter, now or at its next wait. A signal too many does no
// harm: whoever wakes looks again.
func (w *waiter) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// waiters is a first-in, first-out list. The zero value is empty.
//
// No wake-up is lost by these rules. A reader waits only when there is nothing to
// receive, and each message that comes wakes one. A publisher waits only when there
// is no room, and room wakes one, which wakes the next when it has made its attempt.
// A reader or publisher that leaves without an attempt passes the signal on.
type waiters struct {
	head, tail *waiter
}

// add puts w at the end, unless it is in the list.
func (l *waiters) add(w *waiter) {
	if w.queued {
		return
	}
	w.queued = true
	w.prev = l.tail
	if l.tail == nil {
		l.head = w
	} else {
		l.tail.next = w
	}
	l.tail = w
}

// remove takes w out and reports whether it was in the list.
func (l *waiters) remove(w *waiter) bool {
	if !w.queued {
		return false
	}
	if w.prev == nil {
		l.head = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		l.tail = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next, w.queued = nil, nil, false
	return true
}

// wakeOne takes the first waiter off the list and signals it.
func (l *waiters) wakeOne() {
	if w := l.head; w != nil {
		l.remove(w)
		w.signal()
	}
}

// wakeAll takes every waiter off the list and signals it.
func (l *waiters) wakeAll() {
	for l.head != nil {
		l.wakeOne()
	}
}

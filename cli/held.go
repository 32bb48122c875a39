package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gostream/gostream/broker"
)

// held are messages that wait, unsettled, for the end of a replay. Where they have leases,
// these are extended by one goroutine, which giveBack ends.
type held struct {
	mu       sync.Mutex
	messages []heldMessage
	wake     chan struct{} // nil: no goroutine
	stopped  chan struct{}
	stop     context.CancelFunc
}

type heldMessage struct {
	m   broker.IncomingMessage
	due time.Time // when its lease is extended; zero: it has none
}

func (h *held) count() int { return len(h.messages) }

// add holds m. It is called by one goroutine, as count and giveBack are.
func (h *held) add(m broker.IncomingMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.messages = append(h.messages, heldMessage{m: m, due: extendAt(m)})
	if h.messages[len(h.messages)-1].due.IsZero() {
		return
	}
	if h.wake == nil {
		h.wake, h.stopped = make(chan struct{}, 1), make(chan struct{})
		var ctx context.Context
		ctx, h.stop = context.WithCancel(context.Background())
		go h.keep(ctx)
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// extendAt is when half of what remains of a lease has passed.
func extendAt(m broker.IncomingMessage) time.Time {
	until, ok := broker.LeaseUntil(m)
	if !ok || until.IsZero() {
		return time.Time{}
	}
	return time.Now().Add(time.Until(until) / 2)
}

// keep extends leases until ctx ends.
func (h *held) keep(ctx context.Context) {
	defer close(h.stopped)
	for {
		timer := time.NewTimer(h.extend(ctx))
		select {
		case <-timer.C:
		case <-h.wake:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// shortestNap keeps leases that cannot be extended from being tried without a pause.
const shortestNap = 50 * time.Millisecond

// extend extends the leases whose time has come, and returns when it is to be called again.
func (h *held) extend(ctx context.Context) time.Duration {
	h.mu.Lock()
	list := h.messages[:len(h.messages):len(h.messages)]
	now := time.Now()
	var due []int
	for i := range list {
		if t := list[i].due; !t.IsZero() && !t.After(now) {
			due = append(due, i)
		}
	}
	h.mu.Unlock()
	for _, i := range due {
		m := list[i].m
		err := broker.ExtendLease(ctx, m)
		next := extendAt(m)
		if errors.Is(err, broker.ErrStale) || errors.Is(err, errors.ErrUnsupported) {
			next = time.Time{} // it is no longer ours
		}
		h.mu.Lock()
		h.messages[i].due = next
		h.mu.Unlock()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	nap := time.Hour
	for i := range h.messages {
		if t := h.messages[i].due; !t.IsZero() {
			nap = min(nap, time.Until(t))
		}
	}
	return max(nap, shortestNap)
}

// giveBack returns all to the broker. What is no longer ours needs no return.
func (h *held) giveBack(ctx context.Context) error {
	if h.stop != nil {
		h.stop()
		<-h.stopped
	}
	var first error
	n := 0
	for _, one := range h.messages {
		err := one.m.Nack(ctx, true)
		if err == nil || errors.Is(err, broker.ErrStale) || errors.Is(err, broker.ErrSettled) {
			continue
		}
		n++
		if first == nil {
			first = err
		}
	}
	if first != nil {
		return fmt.Errorf("%s could not be given back at once, and will come again when the broker misses them: %w", count(n, "message"), first)
	}
	return nil
}

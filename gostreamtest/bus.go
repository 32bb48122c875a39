package gostreamtest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gostream/gostream/broker"
)

// bus is the double of all brokers of an app: it routes what is published to the
// subscriptions that match, and counts what is not at rest.
type bus struct {
	began  time.Time
	bubble bool // inside a testing/synctest bubble

	mu       sync.Mutex
	subs     []*subscription
	turn     map[string]int // of a group: whose turn it is
	inboxes  map[string]chan *message
	requests int
	// published counts the messages since the test published one.
	published   int
	maxMessages int
	shut        map[broker.Broker]bool
	fails       map[string]int // by name: how many publishes still fail
	twice       bool
	maxHops     int
	limit       int // of attempts

	rest     rest
	timeline timeline
}

func newBus() *bus {
	return &bus{
		began: time.Now(), turn: make(map[string]int), inboxes: make(map[string]chan *message),
		shut: make(map[broker.Broker]bool), fails: make(map[string]int),
		maxHops: defaultMaxHops, limit: DefaultAttemptLimit, maxMessages: DefaultMessageLimit,
		rest: rest{parked: make(map[broker.IncomingMessage]time.Time)},
	}
}

// subscription is one subscription on the bus.
type subscription struct {
	bus    *bus
	broker broker.Broker
	source broker.Source
	name   string // the app's
	group  string // whose members compete: its name, of that name and kind of source; "" for its own copy of everything
	wake   chan struct{}

	// Guarded by bus.mu.
	queue  []*message
	closed bool
	paused bool
}

// Properties are what the double keeps: a nack with requeue comes again.
func (b *bus) Properties() broker.Properties {
	return broker.Properties{Redelivers: true, Ordered: true, OrderedByKey: true, CompetingConsumers: true}
}

// Subscribe adds a subscription. It is live at once.
func (b *bus) Subscribe(of broker.Broker, src broker.Source, name string) broker.Subscription {
	spec, _ := broker.DescribeSource(src, of)
	s := &subscription{bus: b, broker: of, source: src, name: name, wake: make(chan struct{}, 1)}
	if spec.Group != "" {
		s.group = fmt.Sprintf("%s\x00%s\x00%T", spec.Group, src.Name(), src)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subs = append(b.subs, s)
	return s
}

func (s *subscription) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s.bus.mu.Lock()
		switch {
		case s.closed:
			s.bus.mu.Unlock()
			return nil, broker.ErrClosed
		case len(s.queue) > 0:
			m := s.queue[0]
			s.queue[0] = nil
			s.queue = s.queue[1:]
			s.bus.mu.Unlock()
			return m, nil
		}
		s.bus.mu.Unlock()
		select {
		case <-s.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *subscription) Close(context.Context) error {
	s.bus.mu.Lock()
	s.closed = true
	s.bus.mu.Unlock()
	s.poke()
	return nil
}

func (s *subscription) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// route delivers a publish on a broker to the subscriptions that match. It reports
// how many copies it made.
func (b *bus) route(of broker.Broker, o *origin) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	to := b.matching(of, o.name)
	copies := 1
	if b.twice {
		copies = 2
	}
	for _, s := range to {
		for range copies {
			b.rest.hold(1)
			s.queue = append(s.queue, o.message(b, s))
		}
		s.poke()
	}
	return len(to)
}

// matching lists the subscriptions that get a copy: all that match, and of each group
// the one whose turn it is. mu is held.
func (b *bus) matching(of broker.Broker, name string) (to []*subscription) {
	groups := make(map[string][]*subscription)
	var order []string
	for _, s := range b.subs {
		if s.closed || s.broker != of || !broker.Matches(s.source, of, name) {
			continue
		}
		if s.group == "" {
			to = append(to, s)
			continue
		}
		if groups[s.group] == nil {
			order = append(order, s.group)
		}
		groups[s.group] = append(groups[s.group], s)
	}
	for _, key := range order {
		members := groups[key]
		to = append(to, members[b.turn[key]%len(members)])
		b.turn[key]++
	}
	return to
}

// requeue puts a new copy of m to the front of its subscription.
func (b *bus) requeue(m *message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m.sub.closed {
		return // the service shuts down: what a broker would keep
	}
	b.rest.hold(1)
	m.sub.queue = slices.Insert(m.sub.queue, 0, m.origin.message(b, m.sub))
	m.sub.poke()
}

// Parked is told by the runtime.
func (b *bus) Parked(m broker.IncomingMessage, until time.Time) { b.rest.park(m, until) }

// Unparked is told by the runtime.
func (b *bus) Unparked(m broker.IncomingMessage) { b.rest.unpark(m) }

// Finished is told by the runtime.
func (b *bus) Finished(m broker.IncomingMessage) { b.rest.release(1) }

// Hold is told by the runtime.
func (b *bus) Hold(n int) { b.rest.hold(n) }

// Release is told by the runtime.
func (b *bus) Release() { b.rest.release(1) }

// close ends the double: what comes later is refused.
func (b *bus) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.subs {
		b.shut[s.broker] = true
	}
}

func (b *bus) isShut(of broker.Broker) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.shut[of]
}

// setPaused notes that the app paused or resumed a subscription.
func (b *bus) setPaused(name string, paused bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.subs {
		if s.name == name {
			s.paused = paused
		}
	}
	b.rest.changed()
}

// pausedWith names a paused subscription for which messages wait; "" for none.
func (b *bus) pausedWith() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.subs {
		if s.paused && len(s.queue) > 0 {
			return s.name
		}
	}
	return ""
}

// busy says what is not at rest, for a message.
func (b *bus) busy() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var s string
	for _, sub := range b.subs {
		if len(sub.queue) > 0 {
			s += fmt.Sprintf("  %s: %d waiting\n", sub.name, len(sub.queue))
		}
	}
	return s
}

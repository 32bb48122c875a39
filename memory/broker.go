package memory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/gostream/gostream/broker"
)

// Broker is a connection to a [Store]. Make one with [New]. All methods are safe
// for concurrent use.
type Broker struct {
	store    *Store
	mistakes []error
	pub      publisher

	state atomic.Int32 // connectionState; changed under mu

	mu   sync.Mutex
	done chan struct{} // made by Connect, closed by Shutdown
	subs map[*subscription]struct{}

	ending sync.Mutex // held by Shutdown, so that a second one returns when all is done
}

type connectionState = int32

const (
	notConnected connectionState = iota
	connected
	closed
)

// New returns a broker that is not connected. Without options it has a store of
// its own, with the defaults of [NewStore]. It does no I/O and starts nothing; the
// mistakes that it finds are told by [Broker.Check].
func New(opts ...Option) *Broker {
	var s brokerSettings
	for _, o := range opts {
		if o == nil {
			s.mistakes = append(s.mistakes, errors.New("memory: an option is nil"))
			continue
		}
		o.applyBroker(&s)
	}
	if s.on && len(s.own) > 0 {
		s.mistakes = append(s.mistakes, errors.New("memory.On together with options of a store: give Capacity and MaxPayload to memory.NewStore"))
	}
	if s.store == nil {
		s.store = NewStore(s.own...)
	}
	b := &Broker{
		store:    s.store,
		mistakes: append(s.mistakes, s.store.mistakes...),
		subs:     make(map[*subscription]struct{}),
	}
	b.pub.b = b
	return b
}

// Check reports every mistake in the options of the broker and of its store,
// joined; each is broker.ErrInvalid.
func (b *Broker) Check() error {
	if len(b.mistakes) == 0 {
		return nil
	}
	return fail("check", "", broker.ErrInvalid, errors.Join(b.mistakes...))
}

// Connect makes the broker usable. It does not wait. A broker with mistakes
// answers as [Broker.Check] does.
func (b *Broker) Connect(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.state.Load() {
	case closed:
		return fail("connect", "", broker.ErrClosed, nil)
	case connected:
		return nil
	}
	if len(b.mistakes) > 0 {
		return fail("connect", "", broker.ErrInvalid, errors.Join(b.mistakes...))
	}
	if err := ctx.Err(); err != nil {
		return fail("connect", "", nil, err)
	}
	b.done = make(chan struct{})
	b.state.Store(connected)
	return nil
}

// Shutdown closes every subscription and gives the unsettled deliveries back to
// the store, also those that an open transaction holds. When it returns, all of
// them are there for the next subscription. Whoever waits in a Receive, Publish,
// Request or Commit gets broker.ErrClosed. It does not wait for anything, so that
// ctx is not asked.
func (b *Broker) Shutdown(context.Context) error {
	b.ending.Lock()
	defer b.ending.Unlock()

	// 1. Every operation that begins from here on answers ErrClosed.
	b.mu.Lock()
	if b.state.Swap(closed) == connected {
		close(b.done)
	}
	subs := b.subs
	b.subs = nil
	b.mu.Unlock()

	// 2. One subscription after the other: intake ends, deliveries go back. A
	// settlement that began before step 1 comes before or after this, under the
	// queue's lock.
	for s := range subs {
		b.store.detach(s, true)
	}
	return nil
}

// usable says why no operation can begin now.
func (b *Broker) usable(op, name string) error {
	switch b.state.Load() {
	case connected:
		return nil
	case closed:
		return fail(op, name, broker.ErrClosed, nil)
	default:
		return fail(op, name, broker.ErrNotConnected, nil)
	}
}

func (b *Broker) isClosed() bool { return b.state.Load() == closed }

// Subscribe opens a subscription to a concrete name. It has a queue of its own and
// gets a copy of every message; at most [DefaultLimit] deliveries may be unsettled
// at once. A name with a wildcard is broker.ErrInvalid: see [Pattern].
func (b *Broker) Subscribe(ctx context.Context, name string) (broker.Subscription, error) {
	if err := b.usable("subscribe", name); err != nil {
		return nil, err
	}
	if err := checkName(name); err != nil {
		return nil, fail("subscribe", name, broker.ErrInvalid, err)
	}
	return b.subscribe(ctx, queueKey{name: name}, DefaultLimit)
}

// subscribe opens a subscription to what key says, which was checked.
func (b *Broker) subscribe(ctx context.Context, key queueKey, limit int) (broker.Subscription, error) {
	b.mu.Lock()
	defer b.mu.Unlock() // held until s is attached, so that Shutdown finds it complete
	if err := b.usable("subscribe", key.name); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fail("subscribe", key.name, nil, err)
	}
	s := &subscription{b: b, name: key.name, limit: limit}
	s.wake = make(chan struct{}, 1)
	b.store.attach(s, key)
	b.subs[s] = struct{}{}
	return s, nil
}

// forgetIfDone forgets a closed subscription that has nothing unsettled: Shutdown
// has nothing to do for it.
func (b *Broker) forgetIfDone(s *subscription) {
	s.q.mu.Lock()
	done := s.closed && s.unsettled == 0
	s.q.mu.Unlock()
	if done {
		b.mu.Lock()
		delete(b.subs, s)
		b.mu.Unlock()
	}
}

// Publisher returns the publisher. Beside [broker.Publisher] it implements
// [broker.BatchPublisher], [broker.Transactor] and [broker.Requester].
//
// Publish waits while a queue that takes the message is full, until its context
// ends: the error is then [ErrFull] and the context's. A handler that publishes to
// the queue it reads from, directly or by way of others, with a context that has
// no deadline can therefore wait for itself for ever. It looks like a consumer that
// stands still with its queue at [Capacity] and one goroutine in Publish. Give
// such a Publish a deadline: it then gets ErrFull, the handler fails, and its
// message is given back, which no bound holds up.
//
// A nil from Publish means that the message is in the store, in every queue that
// takes it. A context error other than with ErrFull does not occur after the
// message was placed: an error always means that nothing was published.
func (b *Broker) Publisher() broker.Publisher { return &b.pub }

// Properties returns what the broker promises.
func (b *Broker) Properties() broker.Properties { return properties(b.store.maxPayload) }

func properties(maxPayload int) broker.Properties {
	return broker.Properties{
		Persistent:         false, // the store lives as long as the process
		Redelivers:         true,
		CountsDeliveries:   true,
		Ordered:            true,
		OrderedByKey:       true,
		Keys:               broker.KeysNative,
		CompetingConsumers: true,
		Backlog:            true,
		MaxPayload:         maxPayload,
	}
}

// CheckSubscribeName reports why name cannot be subscribed to by name.
func (b *Broker) CheckSubscribeName(name string) error {
	if err := checkName(name); err != nil {
		return fail("subscribe", name, broker.ErrInvalid, err)
	}
	return nil
}

// CheckPublishName reports why nothing can be published to name. The reply-to
// name of a request that was made through this store is fine.
func (b *Broker) CheckPublishName(name string) error {
	if b.store.inboxes.issued(name) {
		return nil
	}
	if err := checkName(name); err != nil {
		return fail("publish", name, broker.ErrInvalid, err)
	}
	return nil
}

// MatchName reports whether a subscription by name receives what is published to
// the concrete name: when the two are equal.
func (b *Broker) MatchName(pattern, name string) bool { return pattern == name }

// Health is nil while the broker is connected.
func (b *Broker) Health(ctx context.Context) error {
	if err := b.usable("health", ""); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fail("health", "", nil, err)
	}
	return nil
}

// DescribeServer describes the store. It has no host.
func (b *Broker) DescribeServer() broker.ServerSpec {
	return broker.ServerSpec{Protocol: kindOfBroker, Description: "queues in the memory of the process"}
}

// String returns "memory broker".
func (b *Broker) String() string { return fmt.Sprintf("%s broker", kindOfBroker) }

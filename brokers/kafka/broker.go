package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream/broker"
)

// The capabilities, so that a method with a wrong signature does not compile. A
// capability is found by its interface: one that is misspelt is absent in silence.
var (
	_ broker.Broker              = (*Broker)(nil)
	_ broker.Checker             = (*Broker)(nil)
	_ broker.Subscriber          = (*Broker)(nil)
	_ broker.PublisherProvider   = (*Broker)(nil)
	_ broker.PropertiesDescriber = (*Broker)(nil)
	_ broker.NameChecker         = (*Broker)(nil)
	_ broker.HealthChecker       = (*Broker)(nil)
	_ broker.Notifier            = (*Broker)(nil)
	_ broker.ServerDescriber     = (*Broker)(nil)
)

// Broker is a connection to a Kafka cluster. Make one with [New]. All methods are safe
// for concurrent use.
//
// One client publishes for the whole broker; each subscription has a client of its own,
// since a group's membership belongs to a client.
type Broker struct {
	config    *config
	life      life
	link      link
	conn      atomic.Pointer[connection] // set before life says connected
	publisher publisher
	tx        txPublisher

	// dialing is held by whoever connects or shuts down.
	dialing chan struct{}

	promises sync.Pool // of the publisher

	mu        sync.Mutex
	abort     context.CancelFunc // of the Connect that runs
	subs      map[subscriber]struct{}
	listeners []func(broker.Event)
	owed      error // of subscriptions that have left by themselves, for Shutdown to tell

	// done ends what waits in the broker when it is shut down.
	done       context.Context
	finishDone context.CancelFunc
}

// connection holds the clients that every part of the broker uses.
type connection struct {
	producer *kgo.Client
	admin    *kadm.Client // on the same client
	lonely   lonely
	tx       *transactions      // nil without TransactionalID
	cancel   context.CancelFunc // ends all of them at once
}

// subscriber is a subscription as its broker sees it.
type subscriber interface {
	// end closes the subscription for good and commits what is acknowledged.
	end(ctx context.Context) error
	// trouble is what keeps it from working, nil for nothing.
	trouble() error
	// partitions adds what it knows of each of its partitions.
	partitions() []PartitionStatus
}

// New returns a broker for the cluster that brokers belong to: the addresses of one or
// several of them with commas between, each "host:port"; the port is 9092 by default. New
// does no I/O; [Broker.Check] tells the mistakes.
func New(brokers string, opts ...Option) *Broker {
	c := newConfig()
	for _, o := range opts {
		if o == nil {
			c.mistake(errors.New("kafka.New: an option is nil"))
			continue
		}
		o.apply(c)
	}
	c.parse(brokers)
	c.finish()
	b := &Broker{config: c, dialing: make(chan struct{}, 1), subs: make(map[subscriber]struct{})}
	b.life.idle = make(chan struct{}, 1)
	b.done, b.finishDone = context.WithCancel(context.Background())
	b.link.config, b.link.ping, b.link.tell, b.link.done = c, b.ping, b.tell, b.done
	b.publisher.b, b.tx.b = b, b
	b.promises.New = newPromise
	return b
}

// Check reports every mistake in the configuration, joined; each is broker.ErrInvalid.
func (b *Broker) Check() error { return b.config.check() }

// Connect dials the brokers until one answers. A broker with mistakes answers as
// [Broker.Check] does. ctx bounds it; without a deadline 30 s do. With [TransactionalID]
// it also ends what an earlier producer of that id has left open.
func (b *Broker) Connect(ctx context.Context) error {
	if err := b.config.check(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil && !b.life.isClosed() {
		return b.fail("connect", "", err)
	}
	select {
	case b.dialing <- struct{}{}:
		defer func() { <-b.dialing }()
	case <-ctx.Done():
		return b.fail("connect", "", ctx.Err())
	}
	ctx, cancel := withDefault(ctx, broker.DefaultTimeout)
	defer cancel()
	b.mu.Lock()
	b.abort = cancel
	b.mu.Unlock()
	switch b.life.state.Load() {
	case connected:
		return nil
	case closed:
		return fail("connect", "", broker.ErrClosed, nil)
	}
	c, err := b.dial(ctx)
	if err == nil {
		b.conn.Store(c)
		if b.life.state.CompareAndSwap(notConnected, connected) {
			return nil
		}
		b.conn.Store(nil)
		c.close()
	}
	if b.life.isClosed() {
		return fail("connect", "", broker.ErrClosed, nil)
	}
	return b.fail("connect", strings.Join(b.config.brokers, ","), err)
}

func (b *Broker) dial(ctx context.Context) (*connection, error) {
	own, cancel := context.WithCancel(context.Background())
	producer, err := b.config.client(&b.link, kgo.WithContext(own))
	if err != nil {
		cancel()
		return nil, err
	}
	c := &connection{producer: producer, admin: kadm.NewClient(producer), cancel: cancel}
	c.lonely.init(func() (*kgo.Client, error) { return b.config.client(&b.link, kgo.WithContext(own)) })
	if err = producer.Ping(ctx); err == nil && b.config.transactionalID != "" {
		c.tx, err = b.newTransactions(ctx, kgo.WithContext(own))
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// ping asks any broker for a sign of life; while there is no connection it has nothing to
// say.
func (b *Broker) ping(ctx context.Context) error {
	if c := b.conn.Load(); c != nil {
		return c.producer.Ping(ctx)
	}
	return nil
}

func (c *connection) close() {
	c.cancel() // nothing is to be sent any more: else Close takes its time for statistics
	if c.tx != nil {
		c.tx.client.Close()
	}
	c.lonely.close()
	c.producer.Close()
}

// Shutdown ends every subscription, commits what was acknowledged, leaves the groups,
// waits for what is being published and closes the clients. While the brokers cannot be
// reached it waits until ctx ends; the error then says what was not committed.
func (b *Broker) Shutdown(ctx context.Context) error {
	ctx, cancel := withDefault(ctx, broker.DefaultShutdownTimeout)
	defer cancel()

	// 1. Operations that begin from here on answer ErrClosed. A Connect ends.
	b.life.state.Store(closed)
	b.mu.Lock()
	if b.abort != nil {
		b.abort()
	}
	b.mu.Unlock()
	select {
	case b.dialing <- struct{}{}:
		defer func() { <-b.dialing }()
	case <-ctx.Done():
		return b.failShutdown(ctx.Err())
	}
	c := b.conn.Load()
	if c == nil {
		return nil // it was never connected, or is shut down
	}

	// 2. Subscriptions end side by side: each may wait for its group.
	b.finishDone()
	err := b.endSubscriptions(ctx)

	// 3. Whoever publishes gets an answer, and an open transaction is aborted.
	b.life.end(ctx)
	if c.tx != nil {
		err = errors.Join(err, c.tx.end(ctx))
	}
	if flushErr := c.producer.Flush(ctx); flushErr != nil {
		if n := c.producer.BufferedProduceRecords(); n > 0 {
			err = errors.Join(err, fmt.Errorf("%d messages were not published: %w", n, flushErr))
		}
	}
	b.link.end()
	b.conn.Store(nil)
	c.close()
	if err != nil {
		return b.failShutdown(err)
	}
	return nil
}

// failShutdown is the error of a Shutdown, of which ErrClosed would say nothing.
func (b *Broker) failShutdown(err error) error { return fail("shutdown", "", nil, err) }

func (b *Broker) endSubscriptions(ctx context.Context) error {
	b.mu.Lock()
	subs, err := b.subs, b.owed
	b.subs = nil
	b.mu.Unlock()
	errs := make(chan error, len(subs))
	for s := range subs {
		go func() { errs <- s.end(ctx) }()
	}
	for range subs {
		err = errors.Join(err, <-errs)
	}
	return err
}

// owe has Shutdown tell of an error that nobody was there for.
func (b *Broker) owe(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.owed = errors.Join(b.owed, err)
}

// enter begins an operation; after a nil error the caller calls life.leave.
func (b *Broker) enter(op, name string) (*connection, error) {
	if err := b.life.enter(op, name); err != nil {
		return nil, err
	}
	return b.conn.Load(), nil
}

// add registers a subscription; false after Shutdown has begun.
func (b *Broker) add(s subscriber) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.subs == nil || b.life.isClosed() {
		return false
	}
	b.subs[s] = struct{}{}
	return true
}

func (b *Broker) remove(s subscriber) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.subs, s)
}

// subscriptions are those that are open now.
func (b *Broker) subscriptions() []subscriber {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]subscriber, 0, len(b.subs))
	for s := range b.subs {
		list = append(list, s)
	}
	return list
}

// Subscribe subscribes to the topic of that name in the default group, as [Topic] does
// with its defaults. Without [DefaultGroup] it is broker.ErrInvalid.
func (b *Broker) Subscribe(ctx context.Context, name string) (broker.Subscription, error) {
	return Topic(name).Subscribe(ctx, b)
}

// Publisher returns the default publisher. It returns nil when all in-sync replicas have
// the message, so that what was published survives the loss of a broker where the topic
// is replicated. Messages with one key go to one partition, by the hash that Kafka's own
// clients use. With [TransactionalID] it has transactions, for which it uses a second
// client: what is published outside of them is not held up.
func (b *Broker) Publisher() broker.Publisher {
	if b.config.transactionalID != "" {
		return &b.tx
	}
	return &b.publisher
}

// trackedProperties are those of a topic that is read by a group.
var trackedProperties = broker.Properties{
	Persistent:         true,
	Redelivers:         true,
	OrderedByKey:       true,
	Keys:               broker.KeysNative,
	CompetingConsumers: true,
	Backlog:            true,
	SerialTransactions: true,
}

// Properties are those of a subscription by name and of the default publisher.
func (b *Broker) Properties() broker.Properties { return trackedProperties }

// CheckSubscribeName reports why name is no topic to subscribe to by name: by its form,
// or because there is no default group.
func (b *Broker) CheckSubscribeName(name string) error {
	err := checkTopic(name)
	if b.config.group == "" {
		err = errors.Join(err, errNoGroup)
	}
	if err != nil {
		return fail("subscribe", name, broker.ErrInvalid, err)
	}
	return nil
}

// CheckPublishName reports why nothing can be published to name.
func (b *Broker) CheckPublishName(name string) error {
	if err := checkTopic(name); err != nil {
		return fail("publish", name, broker.ErrInvalid, err)
	}
	return nil
}

// Health asks a broker for a sign of life, and names the partitions that are paused
// because a message of theirs is not settled, the groups that cannot be joined and a
// fenced transactional producer. A client dials again where the connection was closed for
// being idle. A ctx without a deadline gets one of 30 s.
func (b *Broker) Health(ctx context.Context) error {
	c, err := b.enter("health", "")
	if err != nil {
		return err
	}
	defer b.life.leave()
	ctx, cancel := withDefault(ctx, broker.DefaultTimeout)
	defer cancel()
	err = c.producer.Ping(ctx)
	for _, s := range b.subscriptions() {
		err = errors.Join(err, s.trouble())
	}
	if c.tx != nil {
		err = errors.Join(err, c.tx.trouble())
	}
	if err != nil {
		return b.fail("health", "", err)
	}
	return nil
}

// Notify adds a listener. It must be called before Connect.
func (b *Broker) Notify(f func(broker.Event)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listeners = append(slices.Clip(b.listeners), f)
}

func (b *Broker) tell(e broker.Event) {
	if b.life.isClosed() {
		return
	}
	b.mu.Lock()
	listeners := b.listeners
	b.mu.Unlock()
	for _, f := range listeners {
		f(e)
	}
}

// DescribeServer names the brokers that [New] was given.
func (b *Broker) DescribeServer() broker.ServerSpec {
	return broker.ServerSpec{Protocol: kindOfBroker, Hosts: slices.Clone(b.config.brokers)}
}

// String names the broker and its servers.
func (b *Broker) String() string {
	if len(b.config.brokers) == 0 {
		return "kafka broker"
	}
	return "kafka broker " + strings.Join(b.config.brokers, ",")
}

// GoString is String: what is printed holds no credential.
func (b *Broker) GoString() string { return b.String() }

// withDefault gives ctx a deadline where it has none.
func withDefault(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}

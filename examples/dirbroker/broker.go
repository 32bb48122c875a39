package dirbroker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"sync"

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
	_ broker.ServerDescriber     = (*Broker)(nil)
	_ broker.Source              = QueueSource{}
	_ broker.SourceDescriber     = QueueSource{}
	_ broker.Lagger              = (*subscription)(nil)
	_ broker.IncomingMessage     = (*delivery)(nil)
	_ broker.DelayedNacker       = (*delivery)(nil)
	_ broker.DeliveryCounter     = (*delivery)(nil)
	_ broker.Partitioned         = (*delivery)(nil)
)

// Broker is a connection to a folder of queues. Make one with [New]. All methods are
// safe for concurrent use.
type Broker struct {
	config   Config
	mistakes error

	// life guards state, and what Connect sets. An operation holds it for reading,
	// so that Connect and Shutdown wait for those that have begun: that is all of the
	// rule "before Connect ErrNotConnected, after Shutdown ErrClosed".
	life  sync.RWMutex
	state state
	root  *os.Root // the connection
	id    string   // its name
	lock  *os.File // says that it is alive

	mu     sync.Mutex
	queues map[string]*queue // those that were used

	ending sync.Mutex // held by Shutdown, so that a second one returns when all is done
}

type state int

const (
	notConnected state = iota
	connected
	closed
)

// enter begins an operation, or says why it cannot begin. After a nil the caller
// calls leave; it must not wait for anything but the file system before that.
func (b *Broker) enter(op, name string) error {
	b.life.RLock()
	switch b.state {
	case connected:
		return nil
	case closed:
		b.life.RUnlock()
		return fail(op, name, broker.ErrClosed, nil)
	default:
		b.life.RUnlock()
		return fail(op, name, broker.ErrNotConnected, nil)
	}
}

func (b *Broker) leave() { b.life.RUnlock() }

// Connect opens the folder, which must exist. A broker with mistakes answers as
// [Broker.Check] does.
func (b *Broker) Connect(ctx context.Context) error {
	b.life.Lock()
	defer b.life.Unlock()
	switch b.state {
	case closed:
		return fail("connect", "", broker.ErrClosed, nil)
	case connected:
		return nil
	}
	if b.mistakes != nil {
		return fail("connect", "", broker.ErrInvalid, b.mistakes)
	}
	if err := ctx.Err(); err != nil {
		return fail("connect", "", nil, err)
	}
	// Nothing outside of the folder can be reached through a root, whatever a name
	// may hold.
	root, err := os.OpenRoot(b.config.Dir)
	if err != nil {
		return fail("connect", "", nil, err)
	}
	id := newID()
	lock, err := hold(root, id)
	if err != nil {
		return fail("connect", "", nil, errors.Join(err, root.Close()))
	}
	b.root, b.id, b.lock = root, id, lock
	b.state = connected
	return nil
}

// Shutdown gives back what is unsettled. When it returns nil, the next subscription
// to these queues finds it, and what was acknowledged is gone for good. What it
// cannot give back, because ctx ends or the file system fails, is given back by the
// next subscription.
func (b *Broker) Shutdown(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, broker.DefaultShutdownTimeout)
		defer cancel()
	}
	b.ending.Lock()
	defer b.ending.Unlock()

	// 1. Operations that have begun end, others answer ErrClosed from here on.
	b.life.Lock()
	b.state = closed
	b.life.Unlock()
	if b.root == nil {
		return nil // it was never connected, or is shut down
	}

	// 2. Every Receive that waits returns, and what was claimed goes back.
	var errs []error
	for _, q := range b.queues {
		q.wake()
		errs = append(errs, q.giveBackAll(ctx, b.id))
	}

	// 3. Only now the lock ends: from here on others may take what is left.
	errs = append(errs, release(b.root, b.id, b.lock), b.root.Close())
	b.root, b.lock = nil, nil
	if err := errors.Join(errs...); err != nil {
		return fail("shutdown", "", nil, err)
	}
	return nil
}

// queue returns the queue of a name that was checked. It is called between enter and
// leave.
func (b *Broker) queue(name string) (*queue, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if q := b.queues[name]; q != nil {
		return q, nil
	}
	q := &queue{name: name, root: b.root, id: b.id, sync: !b.config.NoSync, subs: make(map[*subscription]struct{})}
	if err := q.makeFolders(); err != nil {
		return nil, err
	}
	b.queues[name] = q
	return q, nil
}

// Subscribe opens a subscription with at most [DefaultLimit] unsettled deliveries.
// [Queue] is the source with a limit that can be set.
func (b *Broker) Subscribe(ctx context.Context, name string) (broker.Subscription, error) {
	return b.subscribe(ctx, name, DefaultLimit)
}

func (b *Broker) subscribe(ctx context.Context, name string, limit int) (broker.Subscription, error) {
	if err := b.enter("subscribe", name); err != nil {
		return nil, err
	}
	defer b.leave()
	if err := b.CheckSubscribeName(name); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fail("subscribe", name, nil, err)
	}
	q, err := b.queue(name)
	if err == nil {
		err = q.makeFolders() // a folder that was removed since is there again
	}
	if err == nil {
		err = q.reclaim(ctx)
	}
	if err != nil {
		return nil, fail("subscribe", name, nil, err)
	}
	s := &subscription{b: b, q: q, limit: limit, wake: make(chan struct{}, 1)}
	q.attach(s)
	return s, nil
}

// Publisher returns the publisher.
func (b *Broker) Publisher() broker.Publisher { return publisher{b} }

// Properties returns what the broker promises.
func (b *Broker) Properties() broker.Properties { return properties(b.config.MaxPayload) }

func properties(maxPayload int) broker.Properties {
	return broker.Properties{
		Persistent:         true,
		Redelivers:         true,
		BuffersPublishes:   false, // the file is there when Publish returns nil
		CountsDeliveries:   true,
		Ordered:            true,
		OrderedByKey:       true, // there is one order for all keys
		Keys:               broker.KeysNative,
		CompetingConsumers: true,
		Backlog:            true,
		MaxPayload:         maxPayload,
	}
}

// Health is nil while the folder is there.
func (b *Broker) Health(ctx context.Context) error {
	if err := b.enter("health", ""); err != nil {
		return err
	}
	defer b.leave()
	err := ctx.Err()
	if err == nil {
		_, err = b.root.Stat(path.Join(connections, b.id))
	}
	if err != nil {
		return fail("health", "", nil, err)
	}
	return nil
}

// DescribeServer describes the folder.
func (b *Broker) DescribeServer() broker.ServerSpec {
	return broker.ServerSpec{Protocol: "dir", Description: fmt.Sprintf("queues in the folder %s", broker.Quote(b.config.Dir))}
}

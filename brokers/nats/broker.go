package nats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	natsgo "github.com/nats-io/nats.go"

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
	_ broker.NameMatcher         = (*Broker)(nil)
	_ broker.HealthChecker       = (*Broker)(nil)
	_ broker.Notifier            = (*Broker)(nil)
	_ broker.ServerDescriber     = (*Broker)(nil)
)

// Broker is a connection to NATS. Make one with [New] or [FromConn]. All methods are
// safe for concurrent use.
type Broker struct {
	config *config
	life   life
	conn   atomic.Pointer[connection] // set before life says connected
	core   corePublisher
	stream streamPublisher

	// dialing is held by whoever connects or shuts down.
	dialing chan struct{}

	mu        sync.Mutex
	abort     context.CancelFunc // of the Connect that runs
	subs      map[subscriber]struct{}
	listeners []func(broker.Event)

	// done ends the requests that wait when the broker is shut down.
	done       context.Context
	finishDone context.CancelFunc
}

// subscriber is a subscription as its broker sees it.
type subscriber interface {
	// reconnected is called when the connection is back, or given up.
	reconnected()
	// end closes the subscription and gives back what is unsettled. It does not flush.
	end(ctx context.Context)
}

// New returns a broker for the servers of urls: one or several addresses with commas
// between them, each "nats://host:port"; the scheme may be left out, or be tls, ws or
// wss, and the port is 4222 by default. New does no I/O; [Broker.Check] tells the
// mistakes. With [InProcess] urls is "".
func New(urls string, opts ...Option) *Broker {
	c := newConfig()
	for _, o := range opts {
		if o == nil {
			c.mistake(errors.New("nats.New: an option is nil"))
			continue
		}
		o.apply(c)
	}
	c.parse(urls)
	c.finish()
	return newBroker(c)
}

// FromConn returns a broker on a connection that the program has made. Its settings
// stay the program's: Connect asks the server for a sign of life, and Shutdown flushes
// and leaves it open. nil is a mistake that Check reports.
//
// Messages that were dropped are then told by the next Receive, and publishes that
// permissions forbid by the connection's own error handler alone.
func FromConn(nc *natsgo.Conn, opts ...ClientOption) *Broker {
	c := newConfig()
	c.conn = nc
	if nc == nil {
		c.mistake(errors.New("nats.FromConn: the connection is nil"))
	} else {
		c.inboxPrefix = nc.Opts.InboxPrefix
	}
	for _, o := range opts {
		if o == nil {
			c.mistake(errors.New("nats.FromConn: an option is nil"))
			continue
		}
		o.applyClient(c)
	}
	return newBroker(c)
}

func newBroker(c *config) *Broker {
	b := &Broker{config: c, dialing: make(chan struct{}, 1), subs: make(map[subscriber]struct{})}
	b.life.idle = make(chan struct{}, 1)
	b.done, b.finishDone = context.WithCancel(context.Background())
	b.core.b, b.stream.b = b, b
	return b
}

// Check reports every mistake in the configuration, joined; each is broker.ErrInvalid.
func (b *Broker) Check() error { return b.config.check() }

// Connect dials one of the servers. A broker with mistakes answers as [Broker.Check]
// does. ctx bounds dialing all of them; [ConnectTimeout] bounds each.
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
	ctx, cancel := context.WithCancel(ctx)
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
	return b.fail("connect", strings.Join(b.config.hosts(), ","), err)
}

// Shutdown closes every subscription, gives back what is unsettled, flushes what was
// published and acknowledged, and closes the connection if [New] made it. While the
// server cannot be reached and something waits to be sent, it waits until ctx ends; the
// error then says how many bytes were lost. A listener that calls it waits until ctx
// ends, too: the broker waits for its listeners.
func (b *Broker) Shutdown(ctx context.Context) error {
	ctx, cancel := withDefault(ctx, broker.DefaultShutdownTimeout)
	defer cancel()

	// 1. Operations that begin from here on answer ErrClosed. Requests that wait, and
	// a Connect, end. Publishes that wait for their confirmation may have it.
	b.life.state.Store(closed)
	b.finishDone()
	b.mu.Lock()
	if b.abort != nil {
		b.abort()
	}
	b.mu.Unlock()
	select {
	case b.dialing <- struct{}{}:
	case <-ctx.Done():
		return b.fail("shutdown", "", ctx.Err())
	}
	c := b.conn.Load()
	if c == nil {
		<-b.dialing
		return nil // it was never connected, or is shut down
	}
	ended := make(chan error, 1)
	go func() {
		defer func() { <-b.dialing }()
		ended <- b.finish(ctx, c)
	}()
	select {
	case err := <-ended:
		select {
		case <-c.watched:
		case <-ctx.Done(): // a listener does not return: it may be the one that called
		}
		return err
	case <-ctx.Done():
	}
	// The client may be stuck in a write, where no context reaches it.
	c.interrupt()
	timer := time.NewTimer(shutdownGrace)
	defer timer.Stop()
	select {
	case err := <-ended:
		return err
	case <-timer.C: // the connection is the program's
		return b.fail("shutdown", "", ctx.Err())
	}
}

// shutdownGrace is how long Shutdown waits when its time is up, for what then ends
// everywhere.
const shutdownGrace = time.Second

// finish is the part of Shutdown that needs the connection.
func (b *Broker) finish(ctx context.Context, c *connection) error {
	b.life.end(ctx)

	// 2. The intake ends, and what is unsettled goes back.
	b.eachSubscription(func(s subscriber) { s.end(ctx) })
	b.mu.Lock()
	b.subs = nil
	b.mu.Unlock()

	// 3. The server has everything.
	err := c.flush(ctx)
	if err != nil {
		if n, bufErr := c.nc.Buffered(); bufErr == nil && n > 0 {
			err = fmt.Errorf("%d bytes of publishes and acknowledgements could not be sent: %w", n, err)
		}
	}
	b.conn.Store(nil)
	c.close()
	if err != nil {
		return b.fail("shutdown", "", err)
	}
	return nil
}

// enter begins an operation on the connection. After a nil error the caller calls
// b.life.leave.
func (b *Broker) enter(op, name string) (*connection, error) {
	if err := b.life.enter(op, name); err != nil {
		return nil, err
	}
	c := b.conn.Load()
	if c == nil { // a Shutdown whose time was up did not wait
		b.life.leave()
		return nil, fail(op, name, broker.ErrClosed, nil)
	}
	return c, nil
}

// add keeps s until it has ended.
func (b *Broker) add(s subscriber) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.subs == nil || b.life.isClosed() {
		return false
	}
	b.subs[s] = struct{}{}
	return true
}

// forget lets go of a subscription for which Shutdown has nothing to do.
func (b *Broker) forget(s subscriber) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.subs, s)
}

// eachSubscription calls f for those that there are, without the lock.
func (b *Broker) eachSubscription(f func(subscriber)) {
	b.mu.Lock()
	subs := make([]subscriber, 0, len(b.subs))
	for s := range b.subs {
		subs = append(subs, s)
	}
	b.mu.Unlock()
	for _, s := range subs {
		f(s)
	}
}

// Subscribe opens a [Subject] subscription, which may have wildcards.
func (b *Broker) Subscribe(ctx context.Context, name string) (broker.Subscription, error) {
	return Subject(name).Subscribe(ctx, b)
}

// Publisher returns the Core NATS publisher, or with [ConfirmPublishes] the one of
// JetStream. Both implement [broker.BatchPublisher] and [broker.Requester].
func (b *Broker) Publisher() broker.Publisher {
	if b.config.confirm {
		return confirmedPublisher{&b.stream}
	}
	return &b.core
}

// JetStreamPublisher returns the publisher that waits until the server has confirmed
// that a stream has the message. A subject that no stream takes is broker.ErrNotFound,
// for a single message after half a second of the server's silence; one that only
// subscribers of Core NATS take is both that and a context error, when the time is up,
// because they may have the message. A context without a deadline gets one of five
// seconds. What is published to an inbox (a subject that begins with "_", or with
// [InboxPrefix], or that of FromConn's connection) is a reply that no stream keeps: it is sent and flushed. The publisher
// does not ask: the reply to a request that a stream takes is the stream's confirmation.
func (b *Broker) JetStreamPublisher() broker.Publisher { return &b.stream }

// Properties are those of a subscription by name and of the default publisher.
func (b *Broker) Properties() broker.Properties {
	p := coreProperties
	p.BuffersPublishes = !b.config.confirm
	return p
}

// CheckSubscribeName reports why name is no subject to subscribe to.
func (b *Broker) CheckSubscribeName(name string) error {
	if _, err := checkSubject(name); err != nil {
		return fail("subscribe", name, broker.ErrInvalid, err)
	}
	return nil
}

// CheckPublishName reports why nothing can be published to name.
func (b *Broker) CheckPublishName(name string) error {
	if err := checkPublish(name); err != nil {
		return fail("publish", name, broker.ErrInvalid, err)
	}
	return nil
}

// MatchName reports whether a subscription by the name pattern receives what is
// published to name, by the server's rule.
func (b *Broker) MatchName(pattern, name string) bool { return matches(pattern, name) }

// Health asks the server for a sign of life; while the connection is lost it fails at
// once. A ctx without a deadline gets one of 30 s.
func (b *Broker) Health(ctx context.Context) error {
	c, err := b.enter("health", "")
	if err != nil {
		return err
	}
	defer b.life.leave()
	if err := ctx.Err(); err != nil {
		return b.fail("health", "", err)
	}
	ctx, cancel := withDefault(ctx, broker.DefaultTimeout)
	defer cancel()
	// The client answers nothing, whatever the context, while it is stuck in a write.
	answer := make(chan error, 1)
	b.life.stay()
	go func() {
		defer b.life.leave()
		if !c.nc.IsConnected() {
			answer <- fmt.Errorf("%w: %w", natsgo.ErrDisconnected, orClosed(c.nc.LastError()))
			return
		}
		answer <- c.roundTrip(ctx)
	}()
	select {
	case err = <-answer:
	case <-ctx.Done():
		err = ctx.Err()
	}
	switch {
	case errors.Is(err, natsgo.ErrDisconnected):
		return fail("health", "", nil, err)
	case err != nil:
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
	b.mu.Lock()
	listeners := b.listeners
	b.mu.Unlock()
	for _, f := range listeners {
		f(e)
	}
}

// DescribeServer names the servers that [New] was given.
func (b *Broker) DescribeServer() broker.ServerSpec {
	spec := broker.ServerSpec{Protocol: kindOfBroker, Hosts: b.config.hosts()}
	switch {
	case b.config.inProcess != nil:
		spec.Description = "a NATS server in the same process"
	case b.config.conn != nil:
		spec.Description = "a NATS connection that the program has made"
	}
	return spec
}

// String names the broker and its servers.
func (b *Broker) String() string {
	if hosts := b.config.hosts(); len(hosts) > 0 {
		return "nats broker " + strings.Join(hosts, ",")
	}
	return "nats broker"
}

// GoString is String: what is printed holds no credential.
func (b *Broker) GoString() string { return b.String() }

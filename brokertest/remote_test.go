package brokertest_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokertest"
	"github.com/gostream/gostream/memory"
)

// TestRemote: a broker with a connection that can be cut, leases and a persistent
// store passes.
func TestRemote(t *testing.T) {
	t.Parallel()
	brokertest.Run(t, newServer().harness())
}

// server is memory's store behind a network that can be cut. Each connection to it is
// a broker of memory, so that what a lost connection had in hand goes back.
type server struct {
	store *memory.Store
	lease time.Duration

	mu      sync.Mutex
	up      bool
	clients map[*remote]struct{}
}

func newServer() *server {
	return &server{store: memory.NewStore(), lease: time.Hour, up: true, clients: make(map[*remote]struct{})}
}

func (sv *server) harness() brokertest.Harness {
	const quiet = 30 * time.Millisecond
	h := memoryHarness()
	h.Timeout, h.Quiet, h.Load, h.Bulk = 3*time.Second, quiet, 400, 10_000
	h.Secrets = []string{"p@ss word/1"}
	h.New = func() broker.Broker {
		return &remote{sv: sv, url: "remote://kit:" + url.QueryEscape(h.Secrets[0]) + "@localhost"}
	}
	h.Source = func(_ context.Context, id string) (brokertest.Target, error) {
		return brokertest.Target{Source: workers{name: id, lease: sv.lease}, Name: id}, nil
	}
	h.Lease = func(_ context.Context, id string) (brokertest.Target, error) {
		return brokertest.Target{Source: workers{name: id, lease: 10 * quiet}, Name: id}, nil
	}
	h.Group, h.Pattern, h.Misconfigured = nil, nil, nil
	h.Interrupt = func(context.Context) (func(context.Context) error, error) {
		return func(context.Context) error { return sv.reach(true) }, sv.reach(false)
	}
	h.Restart = func(context.Context) error { return errors.Join(sv.reach(false), sv.reach(true)) }
	return h
}

// reach cuts all connections, or lets them come back.
func (sv *server) reach(up bool) error {
	sv.mu.Lock()
	defer sv.mu.Unlock()
	sv.up = up
	var errs []error
	for c := range sv.clients {
		if up {
			errs = append(errs, c.redial())
		} else {
			c.lose()
		}
	}
	return errors.Join(errs...)
}

var errCut = errors.New("connection lost")

func remoteError(op string, kind error) error {
	return &broker.Error{Op: op, Broker: "remote", Kind: kind}
}

// remote is the broker.
type remote struct {
	sv  *server
	url string // with the password

	mu        sync.Mutex
	conn      *memory.Broker // nil while there is none
	changed   chan struct{}  // closed when conn changes; nil before Connect
	closed    bool
	subs      []*remoteSubscription
	listeners []func(broker.Event)
}

// String leaves the password out, and so does GoString.
func (b *remote) String() string   { return "remote broker" }
func (b *remote) GoString() string { return b.String() }

func (b *remote) Properties() broker.Properties {
	p := memory.New().Properties()
	p.Persistent = true
	return p
}

func (b *remote) DescribeServer() broker.ServerSpec {
	return broker.ServerSpec{Protocol: "remote", Hosts: []string{"localhost"}}
}

func (b *remote) Notify(f func(broker.Event)) { b.listeners = append(b.listeners, f) }

func (b *remote) Connect(ctx context.Context) error {
	b.sv.mu.Lock()
	defer b.sv.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return remoteError("connect", broker.ErrClosed)
	case b.changed != nil:
		return nil
	case ctx.Err() != nil:
		return remoteError("connect", ctx.Err())
	case !b.sv.up:
		return remoteError("connect", errCut)
	}
	b.conn, b.changed = memory.New(memory.On(b.sv.store)), make(chan struct{})
	b.sv.clients[b] = struct{}{}
	return b.conn.Connect(ctx)
}

// redial connects and subscribes again.
func (b *remote) redial() error {
	b.mu.Lock()
	if b.closed || b.conn != nil {
		b.mu.Unlock()
		return nil
	}
	ctx := context.Background()
	b.conn = memory.New(memory.On(b.sv.store))
	err := b.conn.Connect(ctx)
	for _, s := range b.subs {
		if err == nil && !s.closed {
			s.sub, err = s.src.inner().Subscribe(ctx, b.conn)
		}
	}
	b.change()
	b.mu.Unlock()
	b.tell(broker.Event{Kind: broker.EventReconnected})
	return err
}

// lose loses the connection. The server takes back what was in hand.
func (b *remote) lose() {
	b.mu.Lock()
	conn := b.conn
	b.conn = nil
	for _, s := range b.subs {
		s.sub = nil
	}
	b.change()
	b.mu.Unlock()
	if conn != nil {
		_ = conn.Shutdown(context.Background())
		b.tell(broker.Event{Kind: broker.EventDisconnected, Err: errCut})
	}
}

// change wakes whoever waits for another connection. b is locked.
func (b *remote) change() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *remote) tell(ev broker.Event) {
	for _, f := range b.listeners {
		f(ev)
	}
}

func (b *remote) Shutdown(ctx context.Context) error {
	b.sv.mu.Lock()
	delete(b.sv.clients, b)
	b.sv.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	if b.changed != nil {
		b.change()
	}
	if b.conn == nil {
		return nil
	}
	return b.conn.Shutdown(ctx)
}

// usable says why there is no connection, nil where there is one or will be. b is
// locked.
func (b *remote) usable(op string) error {
	switch {
	case b.closed:
		return remoteError(op, broker.ErrClosed)
	case b.changed == nil:
		return remoteError(op, broker.ErrNotConnected)
	}
	return nil
}

func (b *remote) Health(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.usable("health"); err != nil || b.conn != nil {
		return err
	}
	return remoteError("health", errCut)
}

// online calls f with a connection until it was not lost meanwhile. f is called again
// only after an error, which says that nothing was done.
func (b *remote) online(ctx context.Context, op string, f func(conn *memory.Broker) error) error {
	for {
		b.mu.Lock()
		err, conn, changed := b.usable(op), b.conn, b.changed
		b.mu.Unlock()
		if err != nil {
			return err
		}
		if conn != nil {
			if err := f(conn); !errors.Is(err, broker.ErrClosed) {
				return err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return remoteError(op, ctx.Err())
		}
	}
}

func (b *remote) Publisher() broker.Publisher { return remotePublisher{b} }

type remotePublisher struct{ b *remote }

func (p remotePublisher) Publish(ctx context.Context, msg broker.OutgoingMessage) error {
	return p.b.online(ctx, "publish", func(conn *memory.Broker) error { return conn.Publisher().Publish(ctx, msg) })
}

// workers is the source of a durable group, whose deliveries have a lease.
type workers struct {
	name  string
	lease time.Duration
}

const workersLimit = 64

func (w workers) inner() memory.QueueSource {
	return memory.Queue(w.name, "workers").Limit(workersLimit)
}
func (w workers) Name() string           { return w.name }
func (w workers) Match(name string) bool { return w.inner().Match(name) }
func (w workers) Spec() broker.SourceSpec {
	spec := w.inner().Spec()
	spec.Properties.Persistent = true
	return spec
}

func (w workers) Check(b broker.Broker) error {
	if _, ok := b.(*remote); !ok {
		return fmt.Errorf("%w: the source %q needs a remote broker, not %T", broker.ErrInvalid, w.name, b)
	}
	return w.inner().Check(memory.New())
}

func (w workers) Subscribe(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
	if err := w.Check(b); err != nil {
		return nil, err
	}
	r := b.(*remote)
	s := &remoteSubscription{b: r, src: w}
	err := r.online(ctx, "subscribe", func(conn *memory.Broker) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if conn != r.conn {
			return remoteError("subscribe", broker.ErrClosed)
		}
		sub, err := w.inner().Subscribe(ctx, conn)
		if err == nil {
			s.sub = sub
			r.subs = append(r.subs, s)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

type remoteSubscription struct {
	b   *remote
	src workers

	// Guarded by b.mu.
	sub    broker.Subscription // on the connection that there is
	closed bool
}

func (s *remoteSubscription) Receive(ctx context.Context) (m broker.IncomingMessage, err error) {
	err = s.b.online(ctx, "receive", func(*memory.Broker) error {
		s.b.mu.Lock()
		sub, closed := s.sub, s.closed
		s.b.mu.Unlock()
		switch {
		case closed:
			return nil
		case sub == nil:
			return remoteError("receive", broker.ErrClosed)
		}
		m, err = sub.Receive(ctx)
		return err
	})
	s.b.mu.Lock()
	closed := s.closed
	s.b.mu.Unlock()
	switch {
	case err != nil && closed || err == nil && m == nil:
		return nil, remoteError("receive", broker.ErrClosed)
	case err != nil:
		return nil, err
	}
	l := &remoteMessage{Message: m.(*memory.Message), b: s.b, lease: s.src.lease, until: time.Now().Add(s.src.lease)}
	l.timer = time.AfterFunc(l.lease, l.expire)
	return l, nil
}

func (s *remoteSubscription) Close(ctx context.Context) error {
	s.b.mu.Lock()
	s.closed = true
	sub := s.sub
	s.b.change()
	s.b.mu.Unlock()
	if sub == nil {
		return nil
	}
	return sub.Close(ctx)
}

// remoteMessage is a delivery with a lease. It is lost with its connection.
type remoteMessage struct {
	*memory.Message
	b     *remote
	lease time.Duration

	mu      sync.Mutex
	timer   *time.Timer
	until   time.Time
	settled bool
	lost    bool
}

// expire gives the message to the next when the lease is over.
func (m *remoteMessage) expire() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if rest := time.Until(m.until); rest > 0 {
		m.timer.Reset(rest)
	} else if !m.settled {
		m.lost = true
		_ = m.Message.Nack(context.Background(), true)
	}
}

// act does something with a delivery that is ours.
func (m *remoteMessage) act(op string, f func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.b.mu.Lock()
	closed := m.b.closed
	m.b.mu.Unlock()
	switch {
	case closed:
		return remoteError(op, broker.ErrClosed)
	case m.lost:
		return remoteError(op, broker.ErrStale)
	case m.settled:
		return remoteError(op, broker.ErrSettled)
	}
	err := f()
	if errors.Is(err, broker.ErrClosed) { // the connection is gone, or ended just now
		if errors.Is(m.b.Health(context.Background()), broker.ErrClosed) {
			return err
		}
		m.lost = true
		return remoteError(op, broker.ErrStale)
	}
	return err
}

func (m *remoteMessage) settle(op string, f func() error) error {
	return m.act(op, func() error {
		err := f()
		if err == nil {
			m.settled = true
			m.timer.Stop()
		}
		return err
	})
}

func (m *remoteMessage) Ack(ctx context.Context) error {
	return m.settle("ack", func() error { return m.Message.Ack(ctx) })
}

func (m *remoteMessage) Nack(ctx context.Context, requeue bool) error {
	return m.settle("nack", func() error { return m.Message.Nack(ctx, requeue) })
}

func (m *remoteMessage) NackAfter(ctx context.Context, d time.Duration) error {
	return m.settle("nack", func() error { return m.Message.NackAfter(ctx, d) })
}

func (m *remoteMessage) Stale() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lost
}

func (m *remoteMessage) LeaseUntil() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.until
}

func (m *remoteMessage) ExtendLease(context.Context) error {
	return m.act("extend the lease", func() error {
		m.until = time.Now().Add(m.lease)
		return nil
	})
}

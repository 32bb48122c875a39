package brokertest_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokertest"
	"github.com/gostream/gostream/memory"
)

// rig is memory behind wrappers of everything that the kit reaches. Without hooks it
// behaves as memory does. A hook gets what the kit would get and returns what the
// kit gets instead; one that is nil changes nothing.
type rig struct {
	brokertest.Harness

	declare      func(*broker.Properties) // of the broker and of every source
	broker       func(*conn) client
	source       func(source) broker.Source
	subscription func(subscription) broker.Subscription
	message      func(message) broker.IncomingMessage
	leased       func(leasedMessage) broker.IncomingMessage
	unacked      func(*unackedMessage) broker.IncomingMessage // see unacknowledged
	publisher    func(publisher) broker.Publisher
	transaction  func(*conn, broker.Transaction) broker.Transaction

	store *memory.Store
	lease time.Duration
	ended chan struct{} // closed at the end of the test
}

// secret is in the configuration of every rig.
const secret = "hunter2 & co/ltd"

// limit is how many deliveries of a source of a rig may be unsettled at once.
const limit = 128

// priority is the option for a message that the rig's publishers honour, up to 9.
type priority int

// newRig returns a rig without hooks, whose times are small.
func newRig() *rig {
	r := &rig{store: memory.NewStore(memory.MaxPayload(2 << 20)), ended: make(chan struct{})}
	r.Harness = memoryHarness()
	r.Timeout, r.Quiet, r.Watchdog = 2*time.Second, 30*time.Millisecond, 30*time.Second
	r.Load, r.Bulk = 400, 20_000
	r.lease = 20 * r.Quiet
	r.Secrets = []string{secret}
	r.ValidOptions, r.InvalidOptions = []any{priority(1), priority(9)}, []any{priority(10), priority(-1)}
	r.New = func() broker.Broker { return r.dial(&conn{Broker: memory.New(memory.On(r.store)), r: r}) }
	r.Unreachable = func() broker.Broker {
		return r.dial(&conn{Broker: memory.New(memory.On(r.store)), r: r, dead: true})
	}
	r.Source = func(_ context.Context, id string) (brokertest.Target, error) {
		return brokertest.Target{Source: r.wrapSource(memory.Pattern(id).Limit(limit), nil), Name: id}, nil
	}
	r.Lease = func(_ context.Context, id string) (brokertest.Target, error) {
		return brokertest.Target{Source: r.wrapSource(memory.Pattern(id).Limit(limit), r.newLease), Name: id}, nil
	}
	r.Group = func(_ context.Context, id string) (brokertest.Group, error) {
		return brokertest.Group{
			Name:   id,
			Member: func(group string) broker.Source { return r.wrapSource(memory.Queue(id, group), nil) },
		}, nil
	}
	pattern := r.Pattern
	r.Pattern = func(ctx context.Context, id string) (brokertest.Pattern, error) {
		p, err := pattern(ctx, id)
		p.Source = r.wrapSource(memory.Pattern(p.Source.Name()), nil)
		return p, err
	}
	r.Publisher = func(_ broker.Source, b broker.Broker) broker.Publisher { return b.(client).inner().Publisher() }
	return r
}

// client is a broker of a rig, however wrapped. Sources unwrap it.
type client interface {
	broker.Broker
	inner() *conn
}

// conn is a broker of a rig without a fault.
type conn struct {
	*memory.Broker
	r    *rig
	dead bool // there is no server
}

func (r *rig) dial(c *conn) client {
	if r.broker != nil {
		return r.broker(c)
	}
	return c
}

func (c *conn) inner() *conn { return c }

var errRefused = errors.New("connection refused")

func (c *conn) Connect(ctx context.Context) error {
	if c.dead {
		return &broker.Error{Op: "connect", Broker: "memory", Err: errRefused}
	}
	return c.Broker.Connect(ctx)
}

func (c *conn) Properties() broker.Properties {
	p := c.Broker.Properties()
	c.r.amend(&p)
	return p
}

func (c *conn) Subscribe(ctx context.Context, name string) (broker.Subscription, error) {
	return c.r.subscribe(ctx, c, broker.ByName(name), nil)
}

func (c *conn) Publisher() broker.Publisher {
	p := publisher(&rawPublisher{c.Broker.Publisher().(memoryPublisher), c})
	if c.r.publisher != nil {
		return c.r.publisher(p)
	}
	return p
}

// isShutDown reports whether Shutdown was called.
func (c *conn) isShutDown() bool {
	return errors.Is(c.Broker.Health(context.Background()), broker.ErrClosed)
}

func (r *rig) amend(p *broker.Properties) {
	if r.declare != nil {
		r.declare(p)
	}
}

// source is what memory's sources are.
type source interface {
	broker.Source
	broker.SourceDescriber
	broker.Matcher
	fmt.Stringer
}

// rawSource unwraps the broker, and wraps what comes out of the subscription.
type rawSource struct {
	source
	r    *rig
	wrap func(message) broker.IncomingMessage // before the rig's own; nil for none
}

func (r *rig) wrapSource(s source, wrap func(message) broker.IncomingMessage) broker.Source {
	s = &rawSource{s, r, wrap}
	if r.source != nil {
		return r.source(s)
	}
	return s
}

func (s *rawSource) Check(b broker.Broker) error {
	if c, ok := b.(client); ok {
		b = c.inner().Broker
	}
	return s.source.Check(b)
}

func (s *rawSource) Spec() broker.SourceSpec {
	spec := s.source.Spec()
	s.r.amend(&spec.Properties)
	return spec
}

func (s *rawSource) Subscribe(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
	c, ok := b.(client)
	if !ok {
		return s.source.Subscribe(ctx, b)
	}
	return s.r.subscribe(ctx, c.inner(), s.source, s.wrap)
}

// memorySubscription is what memory's subscriptions are.
type memorySubscription interface {
	broker.Subscription
	broker.BatchReceiver
	broker.Lagger
}

// subscription is one of memory whose messages are wrapped.
type subscription interface {
	memorySubscription
	on() *conn
	again(ctx context.Context) (broker.Subscription, error) // another one of memory's, without hooks
}

type rawSubscription struct {
	memorySubscription
	c    *conn
	wrap func(message) broker.IncomingMessage
	open func(ctx context.Context) (broker.Subscription, error)
}

func (s *rawSubscription) again(ctx context.Context) (broker.Subscription, error) { return s.open(ctx) }

func (r *rig) subscribe(ctx context.Context, c *conn, src broker.Source, wrap func(message) broker.IncomingMessage) (broker.Subscription, error) {
	open := func(ctx context.Context) (broker.Subscription, error) { return src.Subscribe(ctx, c.Broker) }
	sub, err := open(ctx)
	if err != nil {
		return nil, err
	}
	s := subscription(&rawSubscription{sub.(memorySubscription), c, wrap, open})
	if r.subscription != nil {
		return r.subscription(s), nil
	}
	return s, nil
}

func (s *rawSubscription) on() *conn { return s.c }

func (s *rawSubscription) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	m, err := s.memorySubscription.Receive(ctx)
	if err != nil {
		return nil, err
	}
	return s.wrapMessage(m), nil
}

func (s *rawSubscription) ReceiveBatch(ctx context.Context, dst []broker.IncomingMessage) (int, error) {
	n, err := s.memorySubscription.ReceiveBatch(ctx, dst)
	for i := range dst[:n] {
		dst[i] = s.wrapMessage(dst[i])
	}
	return n, err
}

func (s *rawSubscription) wrapMessage(m broker.IncomingMessage) broker.IncomingMessage {
	raw := &rawMessage{m.(*memory.Message), s.c}
	switch r := s.c.r; {
	case s.wrap != nil:
		return s.wrap(raw)
	case r.message != nil:
		return r.message(raw)
	}
	return raw
}

// message is one of memory.
type message interface {
	broker.IncomingMessage
	broker.DelayedNacker
	broker.DeliveryCounter
	broker.Partitioned
	on() *conn
	unwrap() *memory.Message
}

type rawMessage struct {
	*memory.Message
	c *conn
}

func (m *rawMessage) on() *conn               { return m.c }
func (m *rawMessage) unwrap() *memory.Message { return m.Message }

// memoryPublisher is what memory's publisher is.
type memoryPublisher interface {
	broker.Publisher
	broker.BatchPublisher
	broker.Transactor
	broker.Requester
}

// publisher is one of memory that honours a priority.
type publisher interface {
	memoryPublisher
	on() *conn
}

type rawPublisher struct {
	memoryPublisher
	c *conn
}

func (p *rawPublisher) on() *conn { return p.c }

func (p *rawPublisher) Publish(ctx context.Context, msg broker.OutgoingMessage) error {
	return p.memoryPublisher.Publish(ctx, withoutPriority(msg))
}

func (p *rawPublisher) PublishBatch(ctx context.Context, msgs []broker.OutgoingMessage) error {
	c := make([]broker.OutgoingMessage, len(msgs))
	for i := range msgs {
		c[i] = withoutPriority(msgs[i])
	}
	return p.memoryPublisher.PublishBatch(ctx, c)
}

func (p *rawPublisher) Request(ctx context.Context, msg broker.OutgoingMessage) (broker.IncomingMessage, error) {
	return p.memoryPublisher.Request(ctx, withoutPriority(msg))
}

func (p *rawPublisher) Begin(ctx context.Context) (broker.Transaction, error) {
	t, err := p.memoryPublisher.Begin(ctx)
	if err != nil {
		return nil, err
	}
	t = &rawTransaction{t}
	if p.c.r.transaction != nil {
		return p.c.r.transaction(p.c, t), nil
	}
	return t, nil
}

// withoutPriority takes a good priority off the message. Memory refuses the others.
func withoutPriority(msg broker.OutgoingMessage) broker.OutgoingMessage {
	if p, ok := msg.Options.(priority); ok && p >= 0 && p <= 9 {
		msg.Options = nil
	}
	return msg
}

// rawTransaction unwraps what it acknowledges.
type rawTransaction struct{ broker.Transaction }

func (t *rawTransaction) Publish(ctx context.Context, msg broker.OutgoingMessage) error {
	return t.Transaction.Publish(ctx, withoutPriority(msg))
}

func (t *rawTransaction) Ack(ctx context.Context, m broker.IncomingMessage) error {
	if w, ok := m.(interface{ unwrap() *memory.Message }); ok {
		m = w.unwrap()
	}
	return t.Transaction.Ack(ctx, m)
}

// leasedMessage is a message with a lease.
type leasedMessage interface {
	message
	broker.Leased
	broker.Staler
}

// leasedRaw gives a message back when its lease is over.
type leasedRaw struct {
	message
	mu      sync.Mutex
	until   time.Time
	timer   *time.Timer
	settled bool
	lost    bool
}

func (r *rig) newLease(m message) broker.IncomingMessage {
	l := &leasedRaw{message: m, until: time.Now().Add(r.lease)}
	l.timer = time.AfterFunc(r.lease, l.expire)
	if r.leased != nil {
		return r.leased(l)
	}
	return l
}

func (l *leasedRaw) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if rest := time.Until(l.until); rest > 0 && !l.settled {
		l.timer.Reset(rest)
		return
	}
	if !l.settled && l.message.Nack(context.Background(), true) == nil {
		l.lost = true
	}
}

func (l *leasedRaw) LeaseUntil() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.until
}

func (l *leasedRaw) Stale() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

func (l *leasedRaw) ExtendLease(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refusal("extend the lease"); err != nil {
		return err
	}
	l.until = time.Now().Add(l.on().r.lease)
	return nil
}

// refusal says why nothing can be done with the delivery.
func (l *leasedRaw) refusal(op string) error {
	var kind error
	switch {
	case l.on().isShutDown():
		kind = broker.ErrClosed
	case l.lost:
		kind = broker.ErrStale
	case l.settled:
		kind = broker.ErrSettled
	default:
		return nil
	}
	return &broker.Error{Op: op, Broker: "memory", Name: l.Name(), Kind: kind}
}

func (l *leasedRaw) settle(op string, f func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.refusal(op); err != nil {
		return err
	}
	err := f()
	if err == nil {
		l.settled = true
		l.timer.Stop()
	}
	return err
}

func (l *leasedRaw) Ack(ctx context.Context) error {
	return l.settle("ack", func() error { return l.message.Ack(ctx) })
}

func (l *leasedRaw) Nack(ctx context.Context, requeue bool) error {
	return l.settle("nack", func() error { return l.message.Nack(ctx, requeue) })
}

func (l *leasedRaw) NackAfter(ctx context.Context, d time.Duration) error {
	return l.settle("nack", func() error { return l.message.NackAfter(ctx, d) })
}

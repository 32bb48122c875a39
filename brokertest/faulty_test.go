package brokertest_test

import (
	"context"
	"time"

	"github.com/gostream/gostream/broker"
)

// The faulty things of a mutant: what a function is nil for behaves as it should.

type faultyMessage struct {
	message
	ack       func(ctx context.Context) error
	nack      func(ctx context.Context, requeue bool) error
	nackAfter func(ctx context.Context, d time.Duration) error
	name      func() string
	payload   func() []byte
	headers   func() broker.Headers
	key       func() []byte
	count     func() int
}

func (m *faultyMessage) Ack(ctx context.Context) error {
	if m.ack != nil {
		return m.ack(ctx)
	}
	return m.message.Ack(ctx)
}

func (m *faultyMessage) Nack(ctx context.Context, requeue bool) error {
	if m.nack != nil {
		return m.nack(ctx, requeue)
	}
	return m.message.Nack(ctx, requeue)
}

func (m *faultyMessage) NackAfter(ctx context.Context, d time.Duration) error {
	if m.nackAfter != nil {
		return m.nackAfter(ctx, d)
	}
	return m.message.NackAfter(ctx, d)
}

func (m *faultyMessage) Name() string {
	if m.name != nil {
		return m.name()
	}
	return m.message.Name()
}

func (m *faultyMessage) Payload() []byte {
	if m.payload != nil {
		return m.payload()
	}
	return m.message.Payload()
}

func (m *faultyMessage) Headers() broker.Headers {
	if m.headers != nil {
		return m.headers()
	}
	return m.message.Headers()
}

func (m *faultyMessage) PartitionKey() []byte {
	if m.key != nil {
		return m.key()
	}
	return m.message.PartitionKey()
}

func (m *faultyMessage) DeliveryCount() int {
	if m.count != nil {
		return m.count()
	}
	return m.message.DeliveryCount()
}

type faultyLease struct {
	leasedMessage
	ack    func(ctx context.Context) error
	extend func(ctx context.Context) error
	stale  func() bool
	until  func() time.Time
}

func (m *faultyLease) Ack(ctx context.Context) error {
	if m.ack != nil {
		return m.ack(ctx)
	}
	return m.leasedMessage.Ack(ctx)
}

func (m *faultyLease) ExtendLease(ctx context.Context) error {
	if m.extend != nil {
		return m.extend(ctx)
	}
	return m.leasedMessage.ExtendLease(ctx)
}

func (m *faultyLease) Stale() bool {
	if m.stale != nil {
		return m.stale()
	}
	return m.leasedMessage.Stale()
}

func (m *faultyLease) LeaseUntil() time.Time {
	if m.until != nil {
		return m.until()
	}
	return m.leasedMessage.LeaseUntil()
}

type faultySubscription struct {
	subscription
	receive func(ctx context.Context) (broker.IncomingMessage, error)
	batch   func(ctx context.Context, dst []broker.IncomingMessage) (int, error)
	close   func(ctx context.Context) error
	lag     func(ctx context.Context) (int64, error)
}

func (s *faultySubscription) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	if s.receive != nil {
		return s.receive(ctx)
	}
	return s.subscription.Receive(ctx)
}

func (s *faultySubscription) ReceiveBatch(ctx context.Context, dst []broker.IncomingMessage) (int, error) {
	if s.batch != nil {
		return s.batch(ctx, dst)
	}
	return s.subscription.ReceiveBatch(ctx, dst)
}

func (s *faultySubscription) Close(ctx context.Context) error {
	if s.close != nil {
		return s.close(ctx)
	}
	return s.subscription.Close(ctx)
}

func (s *faultySubscription) Lag(ctx context.Context) (int64, error) {
	if s.lag != nil {
		return s.lag(ctx)
	}
	return s.subscription.Lag(ctx)
}

type faultyPublisher struct {
	publisher
	publish func(ctx context.Context, msg broker.OutgoingMessage) error
	batch   func(ctx context.Context, msgs []broker.OutgoingMessage) error
	begin   func(ctx context.Context) (broker.Transaction, error)
	request func(ctx context.Context, msg broker.OutgoingMessage) (broker.IncomingMessage, error)
}

func (p *faultyPublisher) Publish(ctx context.Context, msg broker.OutgoingMessage) error {
	if p.publish != nil {
		return p.publish(ctx, msg)
	}
	return p.publisher.Publish(ctx, msg)
}

func (p *faultyPublisher) PublishBatch(ctx context.Context, msgs []broker.OutgoingMessage) error {
	if p.batch != nil {
		return p.batch(ctx, msgs)
	}
	return p.publisher.PublishBatch(ctx, msgs)
}

func (p *faultyPublisher) Begin(ctx context.Context) (broker.Transaction, error) {
	if p.begin != nil {
		return p.begin(ctx)
	}
	return p.publisher.Begin(ctx)
}

func (p *faultyPublisher) Request(ctx context.Context, msg broker.OutgoingMessage) (broker.IncomingMessage, error) {
	if p.request != nil {
		return p.request(ctx, msg)
	}
	return p.publisher.Request(ctx, msg)
}

type faultyTransaction struct {
	broker.Transaction
	publish func(ctx context.Context, msg broker.OutgoingMessage) error
	ack     func(ctx context.Context, m broker.IncomingMessage) error
	commit  func(ctx context.Context) error
	abort   func(ctx context.Context) error
}

func (t *faultyTransaction) Publish(ctx context.Context, msg broker.OutgoingMessage) error {
	if t.publish != nil {
		return t.publish(ctx, msg)
	}
	return t.Transaction.Publish(ctx, msg)
}

func (t *faultyTransaction) Ack(ctx context.Context, m broker.IncomingMessage) error {
	if t.ack != nil {
		return t.ack(ctx, m)
	}
	return t.Transaction.Ack(ctx, m)
}

func (t *faultyTransaction) Commit(ctx context.Context) error {
	if t.commit != nil {
		return t.commit(ctx)
	}
	return t.Transaction.Commit(ctx)
}

func (t *faultyTransaction) Abort(ctx context.Context) error {
	if t.abort != nil {
		return t.abort(ctx)
	}
	return t.Transaction.Abort(ctx)
}

type faultySource struct {
	source
	check     func(b broker.Broker) error
	spec      func() broker.SourceSpec
	match     func(name string) bool
	subscribe func(ctx context.Context, b broker.Broker) (broker.Subscription, error)
}

func (s *faultySource) Check(b broker.Broker) error {
	if s.check != nil {
		return s.check(b)
	}
	return s.source.Check(b)
}

func (s *faultySource) Spec() broker.SourceSpec {
	if s.spec != nil {
		return s.spec()
	}
	return s.source.Spec()
}

func (s *faultySource) Match(name string) bool {
	if s.match != nil {
		return s.match(name)
	}
	return s.source.Match(name)
}

func (s *faultySource) Subscribe(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
	if s.subscribe != nil {
		return s.subscribe(ctx, b)
	}
	return s.source.Subscribe(ctx, b)
}

type faultyBroker struct {
	*conn
	connect  func(ctx context.Context) error
	shutdown func(ctx context.Context) error
	check    func() error
	health   func(ctx context.Context) error
	describe func() broker.ServerSpec
	text     func() string
}

func (b *faultyBroker) Connect(ctx context.Context) error {
	if b.connect != nil {
		return b.connect(ctx)
	}
	return b.conn.Connect(ctx)
}

func (b *faultyBroker) Shutdown(ctx context.Context) error {
	if b.shutdown != nil {
		return b.shutdown(ctx)
	}
	return b.conn.Shutdown(ctx)
}

func (b *faultyBroker) Check() error {
	if b.check != nil {
		return b.check()
	}
	return b.conn.Check()
}

func (b *faultyBroker) Health(ctx context.Context) error {
	if b.health != nil {
		return b.health(ctx)
	}
	return b.conn.Health(ctx)
}

func (b *faultyBroker) DescribeServer() broker.ServerSpec {
	if b.describe != nil {
		return b.describe()
	}
	return b.conn.DescribeServer()
}

func (b *faultyBroker) String() string {
	if b.text != nil {
		return b.text()
	}
	return b.conn.String()
}

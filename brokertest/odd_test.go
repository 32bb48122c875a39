package brokertest_test

import (
	"bytes"
	"context"
	"flag"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokertest"
)

var oddSeed = flag.Uint64("odd", 1, "the seed of the odd broker")

// TestOddBroker: a broker that is slow, that repeats deliveries at random until they
// are settled, with a delivery count above 1, and that settles later than it says
// passes: all of this is legal.
func TestOddBroker(t *testing.T) {
	t.Parallel()
	t.Logf("repeat with -odd=%d", *oddSeed)
	r := newRig()
	odd(r, *oddSeed)
	brokertest.Run(t, r.Harness)
}

// odd makes memory odd.
func odd(r *rig, seed uint64) {
	o := &oddities{rand: rand.New(rand.NewPCG(seed, 0)), counts: make(map[string]int), ending: make(map[*conn]bool)}
	r.Timeout, r.Quiet, r.Watchdog = 4*time.Second, 60*time.Millisecond, time.Minute
	r.Lease = nil
	r.Load, r.Bulk = 200, 5000
	r.broker = func(c *conn) client {
		return &faultyBroker{conn: c, shutdown: func(ctx context.Context) error {
			o.end(c)
			return c.Shutdown(ctx)
		}}
	}
	r.subscription = func(s subscription) broker.Subscription { return &oddSubscription{s: s, o: o} }
	r.publisher = func(p publisher) broker.Publisher {
		slow := &faultyPublisher{publisher: p, publish: func(ctx context.Context, msg broker.OutgoingMessage) error {
			o.delay()
			return p.Publish(ctx, msg)
		}}
		return struct { // what is settled late cannot be part of a transaction
			broker.Publisher
			broker.BatchPublisher
			broker.Requester
		}{slow, slow, slow}
	}
}

// oddities are what the brokers of one rig share.
type oddities struct {
	mu     sync.Mutex // guards all of this and what becomes of the deliveries
	rand   *rand.Rand
	counts map[string]int // how often a message that is not settled was delivered
	ending map[*conn]bool // Shutdown has begun
	acked  []*oddFate     // not yet settled in memory
}

// delay waits for a while, once in ten times.
func (o *oddities) delay() {
	o.mu.Lock()
	n := o.rand.IntN(30)
	o.mu.Unlock()
	if n < 3 {
		time.Sleep(time.Duration(n+1) * 300 * time.Microsecond)
	}
}

// settleLate settles in memory what was acked.
func (o *oddities) settleLate() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, f := range o.acked {
		if err := f.m.Ack(context.Background()); err != nil {
			panic(err)
		}
		delete(o.counts, f.key())
	}
	o.acked = nil
}

// end refuses what comes later on c.
func (o *oddities) end(c *conn) {
	o.mu.Lock()
	o.ending[c] = true
	o.mu.Unlock()
	o.settleLate()
}

// oddFate is what becomes of one delivery and of those that repeat it.
type oddFate struct {
	o       *oddities
	m       message
	settled bool
}

func (f *oddFate) key() string { return f.m.Name() + " " + string(f.m.unwrap().Payload()) }

// deliver returns one more delivery. o.mu is held.
func (f *oddFate) deliver() *oddMessage {
	f.o.counts[f.key()]++
	return &oddMessage{message: f.m, fate: f, count: f.o.counts[f.key()], payload: bytes.Clone(f.m.Payload())}
}

// oddSubscription repeats what is not settled.
type oddSubscription struct {
	s      subscription
	o      *oddities
	closed bool       // guarded by o.mu
	out    []*oddFate // guarded by o.mu
}

func (s *oddSubscription) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	s.o.delay()
	if m := s.repeat(); m != nil && ctx.Err() == nil {
		return m, nil
	}
	m, err := s.s.Receive(ctx)
	if err != nil {
		return nil, err
	}
	f := &oddFate{o: s.o, m: m.(message)}
	s.o.mu.Lock()
	defer s.o.mu.Unlock()
	s.out = append(s.out, f)
	return f.deliver(), nil
}

// repeat returns a delivery that is out once more, or nil.
func (s *oddSubscription) repeat() broker.IncomingMessage {
	s.o.mu.Lock()
	defer s.o.mu.Unlock()
	s.out = slices.DeleteFunc(s.out, func(f *oddFate) bool { return f.settled })
	if len(s.out) == 0 || s.closed || s.o.ending[s.s.on()] || s.o.rand.IntN(4) != 0 {
		return nil
	}
	return s.out[s.o.rand.IntN(len(s.out))].deliver()
}

// ReceiveBatch receives batches of one.
func (s *oddSubscription) ReceiveBatch(ctx context.Context, dst []broker.IncomingMessage) (int, error) {
	if len(dst) == 0 {
		return 0, nil
	}
	m, err := s.Receive(ctx)
	if err != nil {
		return 0, err
	}
	dst[0] = m
	return 1, nil
}

func (s *oddSubscription) Close(ctx context.Context) error {
	s.o.mu.Lock()
	s.closed = true
	s.o.mu.Unlock()
	s.o.settleLate()
	return s.s.Close(ctx)
}

func (s *oddSubscription) Lag(ctx context.Context) (int64, error) { return s.s.Lag(ctx) }

// oddMessage is one delivery of several.
type oddMessage struct {
	message
	fate    *oddFate
	count   int
	payload []byte
}

func (m *oddMessage) Payload() []byte      { return m.payload }
func (m *oddMessage) DeliveryCount() int   { return m.count }
func (m *oddMessage) PartitionKey() []byte { return bytes.Clone(m.message.PartitionKey()) }

// settle decides by one step for all deliveries of the message.
func (m *oddMessage) settle(ctx context.Context, op string, f func() error) error {
	o := m.fate.o
	o.delay()
	o.mu.Lock()
	defer o.mu.Unlock()
	var kind error
	switch {
	case o.ending[m.on()]:
		kind = broker.ErrClosed
	case m.fate.settled:
		kind = broker.ErrSettled
	case ctx.Err() != nil:
		return ctx.Err()
	}
	if kind != nil {
		return &broker.Error{Op: op, Broker: "memory", Name: m.Name(), Kind: kind}
	}
	err := f()
	m.fate.settled = err == nil
	return err
}

// Ack settles later than it says.
func (m *oddMessage) Ack(ctx context.Context) error {
	return m.settle(ctx, "ack", func() error {
		m.fate.o.acked = append(m.fate.o.acked, m.fate)
		time.AfterFunc(time.Millisecond, m.fate.o.settleLate)
		return nil
	})
}

func (m *oddMessage) Nack(ctx context.Context, requeue bool) error {
	if !requeue {
		return m.Ack(ctx)
	}
	return m.settle(ctx, "nack", func() error { return m.message.Nack(ctx, true) })
}

func (m *oddMessage) NackAfter(ctx context.Context, d time.Duration) error {
	return m.settle(ctx, "nack", func() error { return m.message.NackAfter(ctx, d) })
}

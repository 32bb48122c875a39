package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
)

const (
	churnPartitions = 12
	churnKeys       = 200
	churnMembers    = 3    // at once
	churnStays      = 60   // at least so many memberships
	churnBatch      = 500  // published at once
	churnAhead      = 5000 // published and not settled, at most
	churnOut        = 30   // with one member and not settled, at most
	churnGroup      = "shift"
)

func churnMessages() int {
	if raceEnabled {
		return 15_000
	}
	return 100_000
}

// Members come and go, in all the ways there are but a crash, while much is published.
// Nothing is lost; what is delivered for the first time is in the order of its partition,
// and so of its key; what comes again was given back, or its earlier delivery is stale;
// and what was acknowledged does not come again, since each partition's acknowledgements
// are committed before it goes to another member.
func TestMembersComeAndGo(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	c := newChurn(t, s.topic(t, churnPartitions), churnMessages())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() { c.publish(ctx, s.broker(t)) })
	for slot := range churnMembers {
		rng := rand.New(rand.NewPCG(uint64(slot), 7))
		all.Go(func() {
			for n := slot; ctx.Err() == nil && !c.isOver(); n++ {
				c.stay(ctx, s, rng, leaving(n%int(leavings)))
				c.progress(rng.IntN(c.total / churnStays)) // the others have all partitions for a while
			}
		})
	}
	all.Wait()
	c.report(s)
}

// leaving is how a member leaves.
type leaving int

const (
	settledThenClose leaving = iota
	closeThenSettle
	shutdownUnsettled
	leavings
)

// churn keeps account of every message.
type churn struct {
	t     *testing.T
	topic string
	total int
	over  chan struct{} // closed when everything is settled

	mu        sync.Mutex
	changed   *sync.Cond
	ended     bool
	pausing   bool // a member waits in progress
	held      bool // nothing is published until a member has left
	published int
	settled   int
	parts     [churnPartitions][]churnEntry // by offset
	numbers   [churnKeys]int                // the number of each key that is to come next for the first time
	stays     [leavings]int
	owners    [churnPartitions]broker.Subscription
	handovers int // a partition came from one member to another
	repeats   int // deliveries but the first
	givenBack int // of these after a Nack
	lateAcks  int // answered ErrStale
	wrong     int
}

// churnEntry is a message.
type churnEntry struct {
	last     *kafka.Message // the latest delivery
	returned bool           // which was given back
	settled  int            // how often a settlement that is final has returned nil
}

func newChurn(t *testing.T, topic string, total int) *churn {
	c := &churn{t: t, topic: topic, total: total, over: make(chan struct{})}
	c.changed = sync.NewCond(&c.mu)
	return c
}

// complain reports the first of many mistakes; mu is held.
func (c *churn) complain(format string, args ...any) {
	if c.wrong++; c.wrong <= 10 {
		c.t.Errorf(format, args...)
	}
}

func (c *churn) fail(what string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.complain("%s: %v", what, err)
}

func (c *churn) isOver() bool {
	select {
	case <-c.over:
		return true
	default:
		return false
	}
}

// publish publishes the numbers of all keys in turn, not too far ahead of the members.
func (c *churn) publish(ctx context.Context, b *kafka.Broker) {
	defer context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ended = true
		c.changed.Broadcast()
	})()
	for n := 0; n < c.total; n += churnBatch {
		var batch []broker.OutgoingMessage
		for i := n; i < n+churnBatch; i++ {
			key := i % churnKeys
			batch = append(batch, broker.OutgoingMessage{
				Name: c.topic, Key: []byte(strconv.Itoa(key)), Payload: fmt.Appendf(nil, "%d %d", key, i/churnKeys),
			})
		}
		if err := broker.PublishBatch(ctx, b.Publisher(), batch); err != nil {
			c.fail("publishing", err)
			return
		}
		c.wait(len(batch))
	}
}

// wait waits until the members have caught up with what is published now, and enough of
// them have left.
func (c *churn) wait(published int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.published += published
	c.changed.Broadcast()
	for !c.ended && c.published-c.settled > churnAhead {
		c.changed.Wait()
	}
	for !c.ended && c.left() < churnStays*c.published/c.total-churnMembers {
		c.held = true
		c.changed.Broadcast()
		c.changed.Wait()
	}
	c.held = false
}

// left is how many members have left; mu is held.
func (c *churn) left() (sum int) {
	for _, n := range c.stays {
		sum += n
	}
	return sum
}

// progress waits until more messages are settled, where more are published. One member
// does at a time: somebody must settle them.
func (c *churn) progress(more int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pausing {
		return
	}
	c.pausing = true
	defer func() { c.pausing = false }()
	for enough := c.settled + more; !c.ended && !c.held && c.published < c.total && c.settled < enough; {
		c.changed.Wait()
	}
}

// stay is one membership from its beginning to its end.
func (c *churn) stay(ctx context.Context, s *site, rng *rand.Rand, how leaving) {
	// What is slow here must not end a membership: that would be a crash to the others.
	b := kafka.New(s.brokers, s.options(kafka.ClientOptions(kgo.SessionTimeout(2*time.Minute)))...)
	if err := b.Connect(ctx); err != nil {
		c.fail("connecting", err)
		return
	}
	defer func() {
		if err := b.Shutdown(context.WithoutCancel(ctx)); err != nil {
			c.fail("shutting down", err)
		}
	}()
	// Some wait for what is out when they give up a partition, some do not.
	wait := [...]time.Duration{0, time.Millisecond, 300 * time.Millisecond}[rng.IntN(3)]
	sub, err := quickly(c.topic, churnGroup).RevokeTimeout(wait).Subscribe(ctx, b)
	if err != nil {
		c.fail("subscribing", err)
		return
	}
	out := c.consume(ctx, s, sub, rng, c.total/churnStays/4+rng.IntN(c.total/churnStays/4))
	c.mu.Lock()
	c.stays[how]++
	c.changed.Broadcast()
	c.mu.Unlock()
	switch how {
	case settledThenClose:
		for len(out) > 0 {
			out = c.settleOne(out, rng)
		}
		c.close(ctx, sub)
	case closeThenSettle:
		c.close(ctx, sub)
		for len(out) > 0 {
			out = c.settleOne(out, rng)
		}
	case shutdownUnsettled:
		if err := b.Shutdown(ctx); err != nil {
			c.fail("shutting down", err)
		}
		for _, m := range out {
			if err := m.Ack(ctx); !errors.Is(err, broker.ErrClosed) {
				c.fail("acknowledging after Shutdown, want broker.ErrClosed", err)
			}
		}
	}
}

func (c *churn) close(ctx context.Context, sub broker.Subscription) {
	if err := sub.Close(ctx); err != nil {
		c.fail("closing", err)
	}
}

// consume receives as many messages, or until everything is settled. It stays at least
// until there was another member in the group, and returns what it did not settle.
func (c *churn) consume(ctx context.Context, s *site, sub broker.Subscription, rng *rand.Rand, enough int) (out []*kafka.Message) {
	for n := 0; ctx.Err() == nil && !c.isOver(); {
		if n >= enough {
			if g := s.cluster.GroupInfo(churnGroup); g != nil && g.State == "Stable" && len(g.Members) > 1 && g.NumAssigned() == churnPartitions {
				return out
			}
		}
		// Whoever has nothing to do settles what it has: the others may wait for that.
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		var dst [8]broker.IncomingMessage
		got, err := broker.ReceiveBatch(short, sub, dst[:1+rng.IntN(len(dst))])
		cancel()
		switch {
		case err == nil:
			n += got
			for _, m := range dst[:got] {
				c.delivered(sub, m.(*kafka.Message))
				out = append(out, m.(*kafka.Message))
			}
		case errors.Is(err, context.DeadlineExceeded):
			n = enough // the others may have to wait for it to leave
			for range (len(out) + 1) / 2 {
				out = c.settleOne(out, rng)
			}
		default:
			c.fail("receiving", err)
			return out
		}
		for len(out) > churnOut {
			out = c.settleOne(out, rng)
		}
	}
	return out
}

// delivered takes a delivery down.
func (c *churn) delivered(sub broker.Subscription, m *kafka.Message) {
	var key, n int
	if _, err := fmt.Sscanf(string(m.Payload()), "%d %d", &key, &n); err != nil {
		c.fail("a payload that nobody published", err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if owner := &c.owners[m.Partition()]; *owner != sub {
		*owner = sub
		c.handovers++
	}
	part := &c.parts[m.Partition()]
	switch next := int64(len(*part)); {
	case m.Offset() > next:
		c.complain("partition %d: offset %d came before %d did", m.Partition(), m.Offset(), next)
		return
	case m.Offset() == next:
		if n != c.numbers[key] {
			c.complain("key %d: %d came first when %d was to come", key, n, c.numbers[key])
		}
		c.numbers[key] = n + 1
		*part = append(*part, churnEntry{last: m})
		return
	}
	e := &(*part)[m.Offset()]
	c.repeats++
	switch {
	case e.settled > 0:
		c.complain("partition %d: offset %d came again after it was settled", m.Partition(), m.Offset())
	case e.returned:
		c.givenBack++
	case !e.last.Stale():
		c.complain("partition %d: offset %d came again while it was out", m.Partition(), m.Offset())
	}
	e.last, e.returned = m, false
}

// settleOne settles any of the messages, mostly by Ack, and returns the others.
func (c *churn) settleOne(out []*kafka.Message, rng *rand.Rand) []*kafka.Message {
	i := rng.IntN(len(out))
	m := out[i]
	out[i] = out[len(out)-1]
	out = out[:len(out)-1]

	ctx := context.Background()
	kind := rng.IntN(100)
	final := kind > 0
	c.mu.Lock()
	e := &c.parts[m.Partition()][m.Offset()]
	if !final && e.last == m {
		e.returned = true // before it is: it may come again at once
	}
	c.mu.Unlock()
	var err error
	switch kind {
	case 0:
		err = m.Nack(ctx, true)
	case 1:
		err = m.Nack(ctx, false)
	default:
		err = m.Ack(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case errors.Is(err, broker.ErrStale):
		c.lateAcks++
	case err != nil:
		c.complain("settling offset %d of partition %d: %v", m.Offset(), m.Partition(), err)
	case final:
		c.isSettled(m)
	}
	return out
}

// isSettled notes that a message is done with; mu is held.
func (c *churn) isSettled(m *kafka.Message) {
	e := &c.parts[m.Partition()][m.Offset()]
	if e.settled++; e.settled > 1 {
		c.complain("partition %d: offset %d was settled %d times: it came again after the first", m.Partition(), m.Offset(), e.settled)
		return
	}
	c.settled++
	c.changed.Broadcast()
	if c.settled == c.total {
		close(c.over)
	}
}

// report checks the account.
func (c *churn) report(s *site) {
	c.t.Logf("%d messages, %d memberships: %v, %d partitions taken over; came again: %d, of these given back %d; settlements too late: %d",
		c.total, c.left(), c.stays, c.handovers, c.repeats, c.givenBack, c.lateAcks)
	if c.settled != c.total {
		c.t.Errorf("%d of %d messages were settled", c.settled, c.total)
	}
	if c.wrong > 10 {
		c.t.Errorf("and %d more mistakes", c.wrong-10)
	}
	for how, n := range c.stays {
		if n == 0 {
			c.t.Errorf("no member has left in way %d", how)
		}
	}
	if c.repeats == c.givenBack || c.handovers < 10*churnPartitions {
		c.t.Error("the members came and went too quietly: the test shows nothing")
	}
	for p := range c.parts {
		// The last member may have had no turn at what an earlier one had settled: the metadata
		// says it.
		at := s.commit(churnGroup, c.topic, int32(p))
		if done := kafka.DoneUpTo(at.Offset, at.Metadata); done != int64(len(c.parts[p])) {
			c.t.Errorf("of the %d messages in partition %d the group has committed up to %d, with the metadata up to %d", len(c.parts[p]), p, at.Offset, done)
		}
	}
}

package nats_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
)

// Two instances share a durable consumer. In a quiet system each message goes to one of
// them, once, and both get a fair part. When one closes in the middle the other gets
// the rest, what the first had prefetched included.
func TestTwoInstancesShareADurable(t *testing.T) {
	const half = 2000
	onServers(t, func(t *testing.T, s *faultServer) {
		name := unique()
		s.stream(t, name)
		source := nats.Stream(name+".>", name).Durable("shared").AckWait(10 * time.Minute) // nothing comes again by itself
		desk := newLedger()
		desk.stopAt(half)
		desk.lead, desk.least = half/2, half/10     // a busy machine may run one of them alone for long
		t.Cleanup(func() { desk.stopAt(2 * half) }) // after a failure they may wait there
		var instances [2]*instance
		for i := range instances {
			b := nats.New(s.url, quick()...)
			connectBroker(t, b)
			instances[i] = &instance{sub: subscribe(t, b, source), desk: desk, which: i, ended: make(chan struct{})}
		}
		for _, in := range instances {
			go in.run(t)
		}

		s.put(t, name+".orders", 0, half-1)
		desk.await(t, half)
		for i, n := range desk.shares() {
			if n < half/10 {
				t.Errorf("instance %d got %d of %d messages, want a tenth at least", i, n, half)
			}
		}

		// The first closes while both have one in hand and there is a backlog, of which
		// they may have prefetched some.
		s.put(t, name+".orders", half, 2*half-1)
		const middle = half + half/10
		desk.stopAt(middle)
		desk.await(t, middle)
		until(t, "that both have one in hand", func() bool { return s.consumer(t, name, "shared").NumAckPending >= 2 })
		if c := s.consumer(t, name, "shared"); c.NumPending < half/2 {
			t.Errorf("when the instance closes %d messages wait: that is no backlog", c.NumPending)
		}
		ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
		defer cancel()
		if err := instances[0].sub.Close(ctx); err != nil {
			t.Error(err)
		}
		before := desk.shares()
		desk.stopAt(2 * half)
		closed(t, "the end of the instance that was closed", instances[0].ended)
		desk.await(t, 2*half)
		if more := desk.shares()[0] - before[0]; more > 1 {
			t.Errorf("the instance that was closed has handled %d more messages, want the one in hand at most", more)
		}
		t.Logf("shares: %v when one closed, %v at the end", before, desk.shares())
		if err := instances[1].sub.Close(ctx); err != nil {
			t.Error(err)
		}
		closed(t, "the end of the other instance", instances[1].ended)

		desk.check(t, 2*half)
		s.settled(t, name, "shared")
	})
}

// instance receives and acknowledges until its subscription is closed.
type instance struct {
	sub   broker.Subscription
	desk  *ledger
	which int
	ended chan struct{}
}

func (in *instance) run(t *testing.T) {
	defer close(in.ended)
	ctx, cancel := context.WithTimeout(context.Background(), faultLimit)
	defer cancel()
	for {
		m, err := in.sub.Receive(ctx)
		if errors.Is(err, broker.ErrClosed) {
			return
		}
		if err != nil {
			t.Errorf("instance %d: %v", in.which, err)
			return
		}
		in.desk.handle(in.which, number(t, m.Payload()))
		if err := m.Ack(ctx); err != nil {
			t.Errorf("instance %d: %v", in.which, err)
		}
	}
}

// ledger counts who has handled what.
type ledger struct {
	mu    sync.Mutex
	may   *sync.Cond // more may be handled
	most  int
	lead  int // who has handled so many waits until the other has handled least
	least int
	by    [2]int
	times map[int]int
}

func newLedger() *ledger {
	l := &ledger{times: make(map[int]int)}
	l.may = sync.NewCond(&l.mu)
	return l
}

// stopAt has handle wait when n messages were handled.
func (l *ledger) stopAt(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.most = n
	l.may.Broadcast()
}

func (l *ledger) handle(who, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.times) >= l.most && l.times[n] == 0 || l.by[who] >= l.lead && l.by[1-who] < l.least {
		l.may.Wait()
	}
	l.by[who]++
	l.times[n]++
	l.may.Broadcast()
}

// await waits until n different messages were handled.
func (l *ledger) await(t *testing.T, n int) {
	t.Helper()
	until(t, fmt.Sprintf("%d handled messages", n), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.times) >= n
	})
}

func (l *ledger) shares() [2]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.by
}

// check reports messages that were not handled once.
func (l *ledger) check(t *testing.T, published int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for n := range published {
		if l.times[n] != 1 {
			t.Errorf("message %d was handled %d times", n, l.times[n])
		}
	}
}

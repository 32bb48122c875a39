package memory_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

// TestStress publishes from 64 goroutines while competing and fan-out
// subscriptions, nacks, closes, reopened brokers and transactions go on, and then
// accounts for every copy: each was acknowledged exactly once, by everybody who
// was to get it.
func TestStress(t *testing.T) {
	t.Parallel()
	const (
		publishers = 64
		each       = 120
		total      = publishers * each
		readers    = 4 // of each source
	)
	store := memory.NewStore(memory.Capacity(128))
	// Each message is published to a name that the groups and the keeper take, and to
	// one that only the plain source takes: while its reader is away the backlogs hold
	// what comes, and the next reader takes over these and the queue.
	sources := map[string]struct {
		src     broker.Source
		readers int
		keeps   bool // does not close its subscription, or it would miss something
	}{
		"group one": {memory.Queue("n.*", "one"), readers, false},
		"group two": {memory.Queue("n.>", "two"), readers, false},
		"keeper":    {memory.Pattern("n.*"), 1, true},
		"plain":     {memory.Pattern("p.*"), 1, false},
	}

	// All subscribe before the first publish.
	acked := map[string]*[total]atomic.Int32{}
	var left atomic.Int64
	left.Store(int64(len(sources) * total))
	finished := make(chan struct{})
	var readersDone, publishersDone sync.WaitGroup
	start := make(chan struct{})
	var ready sync.WaitGroup
	for name, s := range sources {
		seen := new([total]atomic.Int32)
		acked[name] = seen
		for i := range s.readers {
			ready.Add(1)
			readersDone.Go(func() {
				r := stressReader{
					t: t, store: store, src: s.src, seen: seen, left: &left, finished: finished,
					rnd: rand.New(rand.NewPCG(uint64(i), 7)), keeps: s.keeps,
				}
				r.run(&ready, start)
			})
		}
	}
	ready.Wait()
	close(start)

	for g := range publishers {
		publishersDone.Go(func() {
			b, p := connect(t, memory.On(store))
			for i := range each {
				id := uint64(g*each + i)
				payload := binary.BigEndian.AppendUint64(nil, id)
				msgs := []broker.OutgoingMessage{
					{Name: fmt.Sprintf("n.%d", g%8), Payload: payload},
					{Name: fmt.Sprintf("p.%d", g%8), Payload: payload},
				}
				var err error
				switch ctx := context.Background(); i % 3 {
				case 0:
					tx := begin(t, p)
					err = errors.Join(tx.Publish(ctx, msgs[0]), tx.Publish(ctx, msgs[1]), tx.Commit(ctx))
				case 1:
					err = broker.PublishBatch(ctx, p, msgs)
				default:
					err = errors.Join(p.Publish(ctx, msgs[0]), p.Publish(ctx, msgs[1]))
				}
				if err != nil {
					t.Errorf("publish: %v", err)
				}
			}
			shutdown(t, b)
		})
	}
	publishersDone.Wait()
	readersDone.Wait()
	for name, seen := range acked {
		for id := range seen {
			if n := seen[id].Load(); n != 1 {
				t.Fatalf("%s: message %d was acknowledged %d times", name, id, n)
			}
		}
	}
	for i := range 8 {
		wantLen(t, store, fmt.Sprintf("n.%d", i), 0)
		wantLen(t, store, fmt.Sprintf("p.%d", i), 0)
	}
}

// stressReader receives until every copy was acknowledged by somebody.
type stressReader struct {
	t        *testing.T
	store    *memory.Store
	src      broker.Source
	seen     *[64 * 120]atomic.Int32
	left     *atomic.Int64
	finished chan struct{}
	rnd      *rand.Rand
	keeps    bool
}

func (r *stressReader) run(ready *sync.WaitGroup, start chan struct{}) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { <-r.finished; cancel() }()
	for round := 0; ctx.Err() == nil; round++ {
		b, p := connect(r.t, memory.On(r.store))
		for range 5 {
			sub := subscribe(r.t, b, r.src)
			if round == 0 && ready != nil {
				ready.Done()
				ready = nil
				<-start
			}
			r.read(ctx, p, sub, 100+r.rnd.IntN(200))
			for r.keeps && ctx.Err() == nil {
				r.read(ctx, p, sub, 100)
			}
			closeSub(r.t, sub)
		}
		// What is still out goes back.
		shutdown(r.t, b)
	}
}

// read handles about n deliveries in every way there is.
func (r *stressReader) read(ctx context.Context, p broker.Publisher, sub broker.Subscription, n int) {
	var kept []broker.IncomingMessage
	dst := make([]broker.IncomingMessage, 7)
	for n > 0 {
		// What waits for a Shutdown cannot be waited for, so that no wait is without end.
		short, cancel := context.WithTimeout(ctx, time.Duration(r.rnd.IntN(500))*time.Microsecond)
		got, err := broker.ReceiveBatch(short, sub, dst[:1+r.rnd.IntN(len(dst))])
		cancel()
		if err != nil {
			if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
				r.t.Errorf("receive: %v", err)
			}
			if ctx.Err() != nil {
				return
			}
			n--
			continue
		}
		n -= got
		for _, m := range dst[:got] {
			switch r.rnd.IntN(10) {
			case 0:
				requeue(r.t, m)
			case 1:
				nackAfter(r.t, m, time.Duration(r.rnd.IntN(300))*time.Microsecond)
			case 2:
				kept = append(kept, m)
			case 3:
				r.ackInTransaction(p, m)
			default:
				id := string(m.Payload())
				scribble(m.Payload())
				ack(r.t, m)
				r.count(id)
			}
		}
	}
	for i, m := range kept {
		if i%2 == 0 || r.keeps { // the others are given back by Shutdown
			id := string(m.Payload())
			ack(r.t, m)
			r.count(id)
		}
	}
}

func (r *stressReader) ackInTransaction(p broker.Publisher, m broker.IncomingMessage) {
	tx := begin(r.t, p)
	txAck(r.t, tx, m)
	if r.rnd.IntN(2) == 0 {
		if err := tx.Abort(context.Background()); err != nil {
			r.t.Errorf("abort: %v", err)
		}
		requeue(r.t, m)
		return
	}
	if err := tx.Commit(context.Background()); err != nil {
		r.t.Errorf("commit: %v", err)
	}
	r.count(string(m.Payload()))
}

func (r *stressReader) count(payload string) {
	r.seen[binary.BigEndian.Uint64([]byte(payload))].Add(1)
	if r.left.Add(-1) == 0 {
		close(r.finished)
	}
}

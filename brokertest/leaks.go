package brokertest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/gostream/gostream/broker"
)

// leakChecks: what is left behind. They come last.
var leakChecks = []check{
	{
		name:  "goroutines",
		rule:  "after Shutdown no goroutine of the broker is left",
		where: "broker.Broker, Shutdown",
		run:   checkGoroutines,
	},
	{
		name:  "subscription-goroutines",
		rule:  "a closed subscription leaves no goroutine behind, nor does a message or a cancelled call",
		where: "broker.Subscription, Close",
		run:   checkSubscriptionGoroutines,
	},
	{
		name:  "memory",
		rule:  "a message that was settled is not kept: the memory in use does not grow with the number of messages",
		where: "broker.IncomingMessage",
		slow:  true,
		run:   checkMemory,
	},
}

func checkGoroutines(e *env) error {
	// Once to begin with: clients start some goroutines for the whole process.
	if err := workAndShutdown(e); err != nil {
		return err
	}
	before, _ := e.goroutines()
	const rounds = 5
	for range rounds {
		if err := workAndShutdown(e); err != nil {
			return err
		}
	}
	return e.settleDown(before, fmt.Sprintf("after %d more brokers were used and shut down", rounds))
}

// workAndShutdown uses a broker for everything and shuts it down.
func workAndShutdown(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	if err := l.publish("a", "b"); err != nil {
		return err
	}
	for i := range 2 {
		d, err := s.receive()
		if err != nil {
			return err
		}
		if i == 1 {
			break // left unsettled
		}
		if err := d.ack(); err != nil {
			return err
		}
	}
	if err := cancelReceive(e, s); err != nil {
		return err
	}
	if tx, err := broker.Begin(e.ctx, l.pub); err == nil { // left open
		_ = tx.Publish(e.ctx, broker.OutgoingMessage{Name: l.t.Name, Payload: []byte("c")})
	}
	return e.shutdown(l.b)
}

// cancelReceive calls Receive with a context that has ended.
func cancelReceive(e *env, s *stream) error {
	ended, cancel := context.WithCancel(e.ctx)
	cancel()
	err := e.bounded(ended, "Receive with a context that has ended", func(ctx context.Context) error {
		_, err := s.raw(ctx)
		return err
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("receive with a context that has ended: %w", err)
	}
	return nil
}

func checkSubscriptionGoroutines(e *env) error {
	t, err := e.target()
	if err != nil {
		return err
	}
	l, err := e.dial(t)
	if err != nil {
		return err
	}
	use := func(round int) error {
		var sub broker.Subscription
		err := e.call("Subscribe", func(ctx context.Context) (err error) {
			sub, err = t.Source.Subscribe(ctx, l.b)
			return err
		})
		if err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
		s := &stream{e: e, sub: sub, book: &ledger{redelivers: l.props.Redelivers}}
		payloads := numbered(fmt.Sprintf("round%d-", round), 5)
		if err := l.publish(payloads...); err != nil {
			return err
		}
		if err := s.consume(newTally(payloads)); err != nil {
			return err
		}
		if err := cancelReceive(e, s); err != nil {
			return err
		}
		return s.close()
	}
	if err := use(0); err != nil {
		return err
	}
	before, _ := e.goroutines()
	const rounds = 10
	for i := range rounds {
		if err := use(i + 1); err != nil {
			return err
		}
	}
	return e.settleDown(before, fmt.Sprintf("after %d more subscriptions were used and closed", rounds))
}

// checkMemory pumps messages through one subscription. It compares the memory in use
// before and after, and looks whether the bytes of deliveries that were settled are
// still referred to.
func checkMemory(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	const size = 512 // of a payload
	first := e.h.Bulk / 5
	if _, err := pump(e, l, s, 0, first, size); err != nil {
		return err
	}
	// The memory is that of the whole process, in which other tests may run. What
	// leaks does so in each round: two that are fine decide, or three that are not, and
	// two more for each fine one between them.
	var grown, fine int
	for round := 0; ; round++ {
		before := heapInUse()
		for range 4 { // somebody may hold something for a while
			e.wait(e.h.Quiet / 4)
			before = min(before, heapInUse())
		}
		n := 2 * e.h.Bulk / 5
		sample, err := pump(e, l, s, first+round*n, n, size)
		if err != nil {
			return err
		}
		err = e.eventually(func() string {
			after := heapInUse()
			if after <= before+uint64(n)*size/8+4<<20 {
				return ""
			}
			return fmt.Sprintf("%d KiB were in use, after %d more messages of %d bytes it is %d KiB", before>>10, n, size, after>>10)
		})
		if kept := e.eventually(func() string { return referredTo(sample) }); kept != nil {
			return kept
		}
		if err != nil {
			grown++
		} else {
			fine++
		}
		if fine == 2 {
			return nil
		}
		if grown-2*fine == 3 {
			return err
		}
	}
}

// referredTo says whether too much of a sample is still there.
func referredTo(sample []weak.Pointer[byte]) string {
	runtime.GC()
	kept := 0
	for _, p := range sample {
		if p.Value() != nil {
			kept++
		}
	}
	if kept <= len(sample)/5 { // neighbours in a slab may be pinned
		return ""
	}
	return fmt.Sprintf("of %d deliveries that were settled %d are still referred to", len(sample), kept)
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC() // what finalizers and pools held on to
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// pump publishes n messages, numbered from first, from several goroutines, with a
// bound on how many are on their way, and receives and acknowledges all of them. It
// returns where the bytes of some of the deliveries are.
func pump(e *env, l *link, s *stream, first, n, size int) ([]weak.Pointer[byte], error) {
	const publishers, window = 8, 512
	onTheWay := make(chan struct{}, window)
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	var next atomic.Int64
	var wg sync.WaitGroup
	failed := make(chan error, publishers)
	for range publishers {
		wg.Go(func() {
			payload := make([]byte, size)
			for {
				i := next.Add(1) - 1
				if i >= int64(n) {
					return
				}
				select {
				case onTheWay <- struct{}{}:
				case <-ctx.Done():
					return
				}
				binary.BigEndian.PutUint64(payload, uint64(first)+uint64(i))
				if err := l.pub.Publish(ctx, broker.OutgoingMessage{Name: l.t.Name, Payload: payload}); err != nil {
					failed <- fmt.Errorf("publish: %w", err)
					cancel() // nobody waits for the rest
					return
				}
			}
		})
	}
	sample, err := drain(ctx, s, first, n, onTheWay)
	if err != nil {
		cancel()
	}
	wg.Wait() // a message may come before its Publish returns
	select {
	case publish := <-failed:
		return nil, publish
	default:
		return sample, err
	}
}

// drain receives and acknowledges n different messages, numbered from first. It
// returns where the bytes of some of them are.
func drain(ctx context.Context, s *stream, first, n int, onTheWay <-chan struct{}) ([]weak.Pointer[byte], error) {
	const samples = 500
	sample := make([]weak.Pointer[byte], 0, samples+1)
	seen := make([]bool, n)
	redelivers := s.book.redelivers
	for left := n; left > 0; {
		m, err := s.sub.Receive(ctx)
		if err != nil {
			return nil, fmt.Errorf("receive, with %d of %d messages left: %w", left, n, err)
		}
		p := m.Payload()
		if len(p) < 8 {
			return nil, fmt.Errorf("%s came, which was not published", quote(p))
		}
		i := int(binary.BigEndian.Uint64(p)) - first
		switch {
		case i < 0 || i >= n:
			return nil, fmt.Errorf("message %d came, which was not published", i+first)
		case seen[i]:
			// A repeated delivery of what was in hand; the check of acks looks closer.
		default:
			seen[i] = true
			left--
			if left%(n/samples+1) == 0 {
				sample = append(sample, weak.Make(&p[0]))
			}
			<-onTheWay
		}
		err = m.Ack(ctx)
		if redelivers && err != nil && !errors.Is(err, broker.ErrSettled) && !errors.Is(err, broker.ErrStale) {
			return nil, fmt.Errorf("ack: %w", err)
		}
	}
	return sample, nil
}

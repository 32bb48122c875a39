package memory_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

func TestSecondSettlement(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	settlements := map[string]func(m broker.IncomingMessage) error{
		"Ack":               func(m broker.IncomingMessage) error { return m.Ack(ctx) },
		"Nack":              func(m broker.IncomingMessage) error { return m.Nack(ctx, false) },
		"Nack with requeue": func(m broker.IncomingMessage) error { return m.Nack(ctx, true) },
		"NackAfter":         func(m broker.IncomingMessage) error { return broker.NackAfter(ctx, m, time.Hour) },
	}
	for first, f := range settlements {
		store := memory.NewStore()
		b, p := connect(t, memory.On(store))
		sub := subscribe(t, b, broker.ByName("a"))
		publish(t, p, "a", "1")
		m := receive(t, sub)
		if err := f(m); err != nil {
			t.Errorf("%s: %v", first, err)
		}
		n := store.Len("a")
		for second, g := range settlements {
			wantError(t, second+" after "+first, g(m), broker.ErrSettled)
		}
		wantLen(t, store, "a", n)
	}
}

// Many settle one delivery at the same time: one wins.
func TestOneSettlementWins(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	b, p := connect(t, memory.On(store))
	sub := subscribe(t, b, broker.ByName("a"))
	for round := range 200 {
		publish(t, p, "a", "1")
		m := receive(t, sub)
		var won atomic.Int32
		var requeued atomic.Bool
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				var err error
				if i%2 == round%2 {
					err = m.Ack(t.Context())
				} else if err = m.Nack(t.Context(), true); err == nil {
					requeued.Store(true)
				}
				if err == nil {
					won.Add(1)
				} else if !errors.Is(err, broker.ErrSettled) {
					t.Errorf("settlement: %v", err)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d settlements won", won.Load())
		}
		if requeued.Load() {
			ack(t, expect(t, sub, "1")...)
		}
		wantLen(t, store, "a", 0)
	}
}

func TestSettlingAfterClose(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	b, p := connect(t, memory.On(store))
	for _, src := range []broker.Source{broker.ByName("a"), memory.Queue("a", "g")} {
		sub := subscribe(t, b, src)
		publish(t, p, "a", "1", "2", "3")
		ms := expect(t, sub, "1", "2", "3")
		closeSub(t, sub)
		ack(t, ms[2], ms[0])
		requeue(t, ms[1])
		wantError(t, "Ack", ms[0].Ack(t.Context()), broker.ErrSettled)
		sub = subscribe(t, b, src)
		ack(t, expect(t, sub, "2")...)
		wantLen(t, store, "a", 0)
		closeSub(t, sub)
	}
}

// Unsettled deliveries are back in the store when Shutdown has returned, also those
// of subscriptions that were closed before.
func TestShutdownGivesBack(t *testing.T) {
	t.Parallel()
	for _, src := range []broker.Source{broker.ByName("a"), memory.Pattern("*"), memory.Queue("a", "g")} {
		store := memory.NewStore()
		b, p := connect(t, memory.On(store))
		sub := subscribe(t, b, src)
		publish(t, p, "a", numbered("", 6)...)
		ms := expect(t, sub, "0", "1", "2", "3", "4")
		ack(t, ms[1])
		closeSub(t, sub)
		ack(t, ms[3])
		shutdown(t, b)
		wantLen(t, store, "a", 4)
		wantError(t, "Ack", ms[0].Ack(t.Context()), broker.ErrClosed)

		b, _ = connect(t, memory.On(store))
		for i, m := range expect(t, subscribe(t, b, src), "0", "2", "4", "5") {
			want := 2
			if i == 3 {
				want = 1
			}
			if n, _ := broker.DeliveryCount(m); n != want {
				t.Errorf("delivery count of %s is %d, want %d", m.Payload(), n, want)
			}
		}
	}
}

// The members of other brokers get what a Shutdown gave back at once.
func TestShutdownWakesTheMembersOfOtherBrokers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := memory.NewStore()
		one, p := connect(t, memory.On(store))
		two, _ := connect(t, memory.On(store))
		src := memory.Queue("a", "g")
		sub := subscribe(t, one, src)
		publish(t, p, "a", "1")
		expect(t, sub, "1")
		time.AfterFunc(time.Second, func() { shutdown(t, one) })
		receiveAfter(t, subscribe(t, two, src), "1", time.Second)
	})
}

// Settlements race the Shutdown: what was acked with nil does not come again, and
// everything else does.
func TestSettlingRacesShutdown(t *testing.T) {
	t.Parallel()
	const n = 64
	for round := range 60 {
		store := memory.NewStore()
		b, p := connect(t, memory.On(store))
		src := broker.Source(memory.Queue("a", "g"))
		if round%2 == 0 {
			src = broker.ByName("a")
		}
		sub := subscribe(t, b, src)
		publish(t, p, "a", numbered("", n)...)
		left := map[string]int{} // how often it is to come
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i, m := range expect(t, sub, numbered("", n)...) {
			wg.Go(func() {
				var err error
				requeue := i%3 == 0
				if requeue {
					err = m.Nack(context.Background(), true)
				} else {
					err = m.Ack(context.Background())
				}
				if err != nil && !errors.Is(err, broker.ErrClosed) {
					t.Errorf("settlement: %v", err)
				}
				if requeue || err != nil {
					mu.Lock()
					left[string(m.Payload())]++
					mu.Unlock()
				}
			})
		}
		wg.Go(func() { shutdown(t, b) })
		if round%4 == 0 {
			wg.Go(func() { closeSub(t, sub) })
		}
		wg.Wait()

		next, _ := connect(t, memory.On(store))
		sub = subscribe(t, next, src)
		wantLen(t, store, "a", len(left))
		for range left {
			m := receive(t, sub)
			if left[string(m.Payload())]--; left[string(m.Payload())] != 0 {
				t.Errorf("%s came again after a nil Ack, or twice", m.Payload())
			}
		}
		expectNothing(t, sub)
	}
}

func TestZeroMessage(t *testing.T) {
	t.Parallel()
	m := new(memory.Message)
	wantError(t, "Ack", m.Ack(t.Context()), broker.ErrInvalid)
	if len(m.Payload()) != 0 || m.PartitionKey() != nil || m.String() == "" {
		t.Error("the zero message has content")
	}
}

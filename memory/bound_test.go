package memory_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

func within(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}

func TestPublishWaitsForRoom(t *testing.T) {
	for what, src := range map[string]broker.Source{
		"by name": broker.ByName("a"), "group": memory.Queue("a", "g"), "pattern": memory.Pattern("*"), "backlog": nil,
	} {
		t.Run(what, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				store := memory.NewStore(memory.Capacity(2))
				b, p := connect(t, memory.On(store))
				var sub broker.Subscription
				if src != nil {
					sub = subscribe(t, b, src)
				}
				publish(t, p, "a", "1", "2")
				ctx, cancel := within(time.Second)
				defer cancel()
				start := time.Now()
				err := p.Publish(ctx, out("a", "never"))
				wantError(t, "Publish", err, memory.ErrFull, context.DeadlineExceeded)
				if d := time.Since(start); d != time.Second {
					t.Errorf("Publish waited %v, want 1s", d)
				}
				wantLen(t, store, "a", 2)

				published := make(chan error, 1)
				go func() { published <- p.Publish(context.Background(), out("a", "3")) }()
				synctest.Wait()
				select {
				case err := <-published:
					t.Fatalf("Publish to a full queue returned %v", err)
				default:
				}
				if sub == nil { // who waits at a backlog then waits at the queue that took it over
					sub = subscribe(t, b, broker.ByName("a"))
					synctest.Wait()
					if n := lag(t, sub); n != 2 {
						t.Fatalf("%d messages wait, want 2", n)
					}
				}
				expect(t, sub, "1")
				if err := <-published; err != nil {
					t.Fatalf("Publish: %v", err)
				}
				expect(t, sub, "2", "3")
			})
		})
	}
}

func TestErrFullOfACancelledContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		_, p := connect(t, memory.Capacity(1))
		publish(t, p, "a", "1")
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Second, cancel)
		wantError(t, "Publish", p.Publish(ctx, out("a", "2")), memory.ErrFull, context.Canceled)
	})
}

// Publishers that wait are served one for each place, and none is forgotten when
// another that was woken leaves.
func TestManyWaitForRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, p := connect(t, memory.Capacity(3))
		sub := subscribe(t, b, broker.ByName("a"))
		publish(t, p, "a", "x", "x", "x")
		var wg sync.WaitGroup
		const n = 50
		var waiting, failed atomic.Int64
		waiting.Store(n)
		for i := range n {
			wg.Go(func() {
				defer waiting.Add(-1)
				ctx, cancel := within(time.Duration(1+i%5) * time.Second)
				defer cancel()
				if err := p.Publish(ctx, out("a", "x")); err != nil {
					wantError(t, "Publish", err, memory.ErrFull)
					failed.Add(1)
				}
			})
		}
		received := 0
		for waiting.Load() > 0 {
			// Room comes at the very moment at which contexts end.
			time.Sleep(500 * time.Millisecond)
			for range 3 {
				ack(t, receive(t, sub))
				received++
			}
			synctest.Wait()
			if n := lag(t, sub); n < 3 && waiting.Load() > 0 {
				t.Fatalf("%d publishers wait, and the queue holds %d of 3", waiting.Load(), n)
			}
		}
		wg.Wait()
		for lag(t, sub) > 0 {
			ack(t, receive(t, sub))
			received++
		}
		if received+int(failed.Load()) != n+3 {
			t.Errorf("%d received and %d failed of %d", received, failed.Load(), n+3)
		}
	})
}

// What comes back is never held up by the bound, and does not count.
func TestGivingBackToAFullQueue(t *testing.T) {
	t.Parallel()
	store := memory.NewStore(memory.Capacity(1))
	b, p := connect(t, memory.On(store))
	src := memory.Queue("a", "g")
	sub := subscribe(t, b, src)
	var ms []broker.IncomingMessage
	for range 4 {
		publish(t, p, "a", "x")
		ms = append(ms, receive(t, sub))
	}
	requeue(t, ms[0])
	publish(t, p, "a", "last") // what came back does not count
	requeue(t, ms[1])
	nackAfter(t, ms[2], time.Nanosecond)
	shutdown(t, b) // gives ms[3] back
	wantLen(t, store, "a", 5)
	b, p = connect(t, memory.On(store))
	sub = subscribe(t, b, src)
	for range 4 {
		receiveAny(t, sub, "x")
	}
	expect(t, sub, "last")
	publish(t, p, "a", "y")
}

func receiveAny(tb testing.TB, sub broker.Subscription, want string) {
	tb.Helper()
	m, err := sub.Receive(context.Background())
	if err != nil || string(m.Payload()) != want {
		tb.Fatalf("Receive: %v, %v", m, err)
	}
}

// One full queue holds up the copies for all, and none of them is visible.
func TestFanOutIsAtomic(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, p := connect(t, memory.Capacity(2))
		fast, slow := subscribe(t, b, broker.ByName("a")), subscribe(t, b, memory.Pattern("*"))
		publish(t, p, "a", "1", "2")
		expect(t, fast, "1", "2")
		ctx, cancel := within(time.Second)
		defer cancel()
		wantError(t, "Publish", p.Publish(ctx, out("a", "3")), memory.ErrFull)
		expectNothing(t, fast)
		expect(t, slow, "1")
		publish(t, p, "a", "4")
		expect(t, fast, "4")
		expect(t, slow, "2", "4")
	})
}

// The slow subscription of a fan-out leaves: its queue holds nobody up any more.
func TestPublisherIsFreedByAClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, p := connect(t, memory.Capacity(1))
		fast, slow := subscribe(t, b, broker.ByName("a")), subscribe(t, b, broker.ByName("a"))
		publish(t, p, "a", "1")
		expect(t, fast, "1")
		published := make(chan error)
		go func() { published <- p.Publish(context.Background(), out("a", "2")) }()
		synctest.Wait()
		closeSub(t, slow)
		if err := <-published; err != nil {
			t.Fatal(err)
		}
		expect(t, fast, "2")
		expect(t, subscribe(t, b, broker.ByName("a")), "1")
	})
}

// A handler that publishes to its own full queue waits for itself; with a deadline
// it gets out, and can give its message back.
func TestPublishToOneself(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, p := connect(t, memory.Capacity(1))
		sub := subscribe(t, b, broker.ByName("a"))
		publish(t, p, "a", "1")
		m := receive(t, sub)
		publish(t, p, "a", "2")
		ctx, cancel := within(time.Minute)
		defer cancel()
		wantError(t, "Publish", p.Publish(ctx, out("a", "3")), memory.ErrFull, context.DeadlineExceeded)
		requeue(t, m)
		expect(t, sub, "1", "2")
	})
}

func TestPublishBatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, p := connect(t, memory.Capacity(2), memory.MaxPayload(3))
		sub, other := subscribe(t, b, broker.ByName("a")), subscribe(t, b, broker.ByName("b"))
		if err := broker.PublishBatch(t.Context(), p, nil); err != nil {
			t.Errorf("an empty batch: %v", err)
		}
		ctx, cancel := within(time.Second)
		defer cancel()
		err := broker.PublishBatch(ctx, p, []broker.OutgoingMessage{
			out("a", "1"), out("a..b", "x"), out("a", "2"), out("b", "long"), out("b", "3"), out("a", "4"), out("b", "5"),
		})
		var be *broker.BatchError
		if !errors.As(err, &be) {
			t.Fatalf("PublishBatch: %v", err)
		}
		for i, want := range []error{nil, broker.ErrInvalid, nil, broker.ErrTooLarge, nil, memory.ErrFull, context.DeadlineExceeded} {
			if !errors.Is(be.Errs[i], want) {
				t.Errorf("message %d: %v, want %v", i, be.Errs[i], want)
			}
		}
		expect(t, sub, "1", "2")
		expect(t, other, "3")
		expectNothing(t, sub)
		expectNothing(t, other)
		if err := broker.PublishBatch(t.Context(), p, []broker.OutgoingMessage{out("a", "6"), out("a", "7")}); err != nil {
			t.Error(err)
		}
		expect(t, sub, "6", "7")
	})
}

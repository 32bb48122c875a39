package memory_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

func TestReceiveBlocks(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, p := connect(t)
		sub := subscribe(t, b, broker.ByName("a"))
		time.AfterFunc(time.Second, func() { publish(t, p, "a", "1") })
		receiveAfter(t, sub, "1", time.Second)

		ctx, cancel := within(time.Second)
		defer cancel()
		start := time.Now()
		_, err := sub.Receive(ctx)
		wantError(t, "Receive", err, context.DeadlineExceeded)
		if d := time.Since(start); d != time.Second {
			t.Errorf("Receive ended after %v, want 1s", d)
		}
		publish(t, p, "a", "2") // a later Receive goes on
		expect(t, sub, "2")
	})
}

func TestCloseWakesReceive(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, p := connect(t)
		sub := subscribe(t, b, broker.ByName("a"))
		done := make(chan error)
		go func() { _, err := sub.Receive(context.Background()); done <- err }()
		synctest.Wait()
		closeSub(t, sub)
		wantError(t, "the Receive that waited", <-done, broker.ErrClosed)
		closeSub(t, sub)
		publish(t, p, "a", "1")
		_, err := sub.Receive(t.Context())
		wantError(t, "Receive", err, broker.ErrClosed)
		_, err = sub.Receive(ended())
		wantError(t, "Receive with an ended context", err, broker.ErrClosed)
	})
}

func TestClosedAnswersErrClosedWithABacklog(t *testing.T) {
	t.Parallel()
	b, p := connect(t)
	for _, src := range []broker.Source{broker.ByName("a"), memory.Queue("a", "g")} {
		sub := subscribe(t, b, src)
		publish(t, p, "a", "1")
		closeSub(t, sub)
		_, err := sub.Receive(t.Context())
		wantError(t, "Receive", err, broker.ErrClosed)
		_, err = broker.ReceiveBatch(t.Context(), sub, make([]broker.IncomingMessage, 1))
		wantError(t, "ReceiveBatch", err, broker.ErrClosed)
		_, err = broker.Lag(t.Context(), sub)
		wantError(t, "Lag", err, broker.ErrClosed)
	}
}

func TestLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, p := connect(t)
		for name, src := range map[string]broker.Source{
			"a": memory.Pattern("a").Limit(2),
			"b": memory.Queue("b", "g").Limit(2),
		} {
			sub := subscribe(t, b, src)
			publish(t, p, name, "1", "2", "3", "4")
			ms := expect(t, sub, "1", "2")
			ctx, cancel := within(time.Second)
			_, err := sub.Receive(ctx)
			wantError(t, "Receive at the limit", err, context.DeadlineExceeded)
			cancel()
			time.AfterFunc(time.Second, func() { ack(t, ms[1]) })
			m := receiveAfter(t, sub, "3", time.Second)
			time.AfterFunc(time.Second, func() { requeue(t, m) })
			m = receiveAfter(t, sub, "3", time.Second)
			time.AfterFunc(time.Second, func() { nackAfter(t, m, time.Hour) })
			receiveAfter(t, sub, "4", time.Second)
			time.AfterFunc(time.Second, func() { requeue(t, ms[0]) })
			receiveAfter(t, sub, "1", time.Second)

			dst := make([]broker.IncomingMessage, 4)
			ctx, cancel = within(time.Second)
			_, err = broker.ReceiveBatch(ctx, sub, dst)
			wantError(t, "ReceiveBatch at the limit", err, context.DeadlineExceeded)
			cancel()
		}
	})
}

// A delivery that a transaction holds is unsettled.
func TestClaimedDeliveriesCountForTheLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, p := connect(t)
		sub := subscribe(t, b, memory.Queue("a", "g").Limit(1))
		publish(t, p, "a", "1", "2")
		m := receive(t, sub)
		tx, err := broker.Begin(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		if err := tx.Ack(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Second, func() {
			if err := tx.Commit(context.Background()); err != nil {
				t.Error(err)
			}
		})
		receiveAfter(t, sub, "2", time.Second)
	})
}

func TestReceiveBatch(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, p := connect(t)
		sub := subscribe(t, b, memory.Queue("a", "g").Limit(5))
		dst := make([]broker.IncomingMessage, 3)
		if n, err := broker.ReceiveBatch(t.Context(), sub, nil); n != 0 || err != nil {
			t.Errorf("an empty dst: %d, %v", n, err)
		}
		batch := func(want ...string) {
			t.Helper()
			n, err := broker.ReceiveBatch(t.Context(), sub, dst)
			if err != nil || n != len(want) {
				t.Fatalf("ReceiveBatch: %d, %v; want %d", n, err, len(want))
			}
			for i, m := range dst[:n] {
				if string(m.Payload()) != want[i] {
					t.Errorf("delivery %d is %q, want %q", i, m.Payload(), want[i])
				}
			}
		}
		publish(t, p, "a", numbered("", 5)...)
		batch("0", "1", "2")
		requeue(t, dst[2], dst[0])
		batch("0", "2", "3")
		batch("4") // what is there
		publish(t, p, "a", "5", "6")
		time.AfterFunc(time.Second, func() { ack(t, dst[0]) })
		batch("5") // the limit is five
		time.AfterFunc(time.Second, func() { publish(t, p, "a", "7"); ack(t, dst[0]) })
		batch("6")
	})
}

func TestConcurrentReceiveIsToldOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, p := connect(t)
		sub := subscribe(t, b, broker.ByName("a"))
		got := make(chan error)
		go func() { _, err := sub.Receive(context.Background()); got <- err }()
		synctest.Wait()
		_, err := sub.Receive(t.Context())
		wantError(t, "a second Receive", err, broker.ErrInvalid)
		publish(t, p, "a", "1") // the first is not disturbed
		if err := <-got; err != nil {
			t.Errorf("the first Receive: %v", err)
		}
	})
}

// A member that was woken for a message and leaves by its context at that moment
// passes the wake-up on: whoever still waits gets the message.
func TestNoWakeUpIsLost(t *testing.T) {
	t.Parallel()
	b, p := connect(t)
	src := memory.Queue("a", "g")
	leaver, stayer := subscribe(t, b, src), subscribe(t, b, src)
	for range 2000 {
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan broker.IncomingMessage, 2)
		var wg sync.WaitGroup
		wg.Go(func() {
			if m, err := leaver.Receive(ctx); err == nil {
				got <- m
			}
		})
		stay, stop := context.WithCancel(t.Context())
		wg.Go(func() {
			if m, err := stayer.Receive(stay); err == nil {
				got <- m
			}
		})
		wg.Go(func() { publish(t, p, "a", "x") })
		wg.Go(cancel)
		ack(t, <-got) // hangs if the wake-up was lost
		stop()
		wg.Wait()
		cancel()
	}
}

// The same for a member that is closed.
func TestNoWakeUpIsLostByClose(t *testing.T) {
	t.Parallel()
	b, p := connect(t)
	src := memory.Queue("a", "g")
	stayer := subscribe(t, b, src)
	for range 1000 {
		leaver := subscribe(t, b, src)
		got := make(chan broker.IncomingMessage, 2)
		var wg sync.WaitGroup
		receive := func(sub broker.Subscription, ctx context.Context) {
			if m, err := sub.Receive(ctx); err == nil {
				got <- m
			}
		}
		stay, stop := context.WithCancel(t.Context())
		wg.Go(func() { receive(leaver, t.Context()) })
		wg.Go(func() { receive(stayer, stay) })
		wg.Go(func() { publish(t, p, "a", "x") })
		wg.Go(func() { closeSub(t, leaver) })
		ack(t, <-got)
		stop()
		wg.Wait()
	}
}

// A member that is closed between its wake-up and its return passes it on as well.
func TestCloseAfterTheWakeUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, p := connect(t)
		src := memory.Queue("a", "g")
		stayer := subscribe(t, b, src)
		for range 500 {
			leaver := subscribe(t, b, src)
			got := make(chan broker.IncomingMessage, 2)
			for _, sub := range []broker.Subscription{leaver, stayer} {
				go func() {
					if m, err := sub.Receive(context.Background()); err == nil {
						got <- m
					}
				}()
				synctest.Wait() // the leaver is the first to be woken
			}
			publish(t, p, "a", "x")
			closeSub(t, leaver) // most often before it is awake
			m := <-got
			ack(t, m)
			synctest.Wait()
			publish(t, p, "a", "for the stayer, if it still waits")
			synctest.Wait()
			if lag(t, stayer) > 0 {
				ack(t, receive(t, stayer))
			} else {
				ack(t, <-got)
			}
		}
	})
}

// A context that ends while a message arrives never loses it.
func TestContextEndsWhileAMessageArrives(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	b, p := connect(t, memory.On(store))
	sub := subscribe(t, b, broker.ByName("a"))
	received := 0
	for i := range 2000 {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { publish(t, p, "a", "x") })
		wg.Go(cancel)
		if m, err := sub.Receive(ctx); err == nil {
			received++
			ack(t, m)
		}
		wg.Wait()
		cancel()
		if n := lag(t, sub); int(n)+received != i+1 {
			t.Fatalf("%d received and %d waiting of %d", received, n, i+1)
		}
	}
}

func TestMessages(t *testing.T) {
	t.Parallel()
	b, p := connect(t)
	sub := subscribe(t, b, broker.ByName("a"))
	publish(t, p, "a", "1", "2", "3")
	n := 0
	for m, err := range broker.Messages(t.Context(), sub) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		if n == 2 {
			requeue(t, m)
			closeSub(t, sub)
		}
	}
	if n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
}

func TestBuffered(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, p := connect(t)
		sub := broker.Buffered(subscribe(t, b, broker.ByName("a")), time.Second)
		publish(t, p, "a", "1")
		time.AfterFunc(500*time.Millisecond, func() { publish(t, p, "a", "2") })
		n, err := sub.ReceiveBatch(t.Context(), make([]broker.IncomingMessage, 3))
		if n != 2 || err != nil {
			t.Errorf("ReceiveBatch: %d, %v", n, err)
		}
	})
}

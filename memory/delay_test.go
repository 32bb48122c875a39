package memory_test

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

func nackAfter(tb testing.TB, m broker.IncomingMessage, d time.Duration) {
	tb.Helper()
	if err := broker.NackAfter(context.Background(), m, d); err != nil {
		tb.Fatalf("NackAfter: %v", err)
	}
}

// receiveAfter receives, and checks how long that took.
func receiveAfter(tb testing.TB, sub broker.Subscription, payload string, want time.Duration) broker.IncomingMessage {
	tb.Helper()
	start := time.Now()
	m, err := sub.Receive(context.Background())
	if err != nil {
		tb.Fatalf("Receive: %v", err)
	}
	if got := string(m.Payload()); got != payload {
		tb.Fatalf("received %q, want %q", got, payload)
	}
	if got := time.Since(start); got != want {
		tb.Fatalf("%q came after %v, want %v", payload, got, want)
	}
	return m
}

// The store is made outside of the bubble, as an app often is: what measures time
// is made inside.
func TestNackAfter(t *testing.T) {
	store := memory.NewStore()
	outside := memory.New(memory.On(store))
	bubble(t, func(t *testing.T) {
		if err := outside.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		p := outside.Publisher()
		sub := subscribe(t, outside, broker.ByName("a"))
		publish(t, p, "a", "1", "2", "3", "4")
		ms := expect(t, sub, "1", "2", "3")
		nackAfter(t, ms[0], 3*time.Second)
		nackAfter(t, ms[1], time.Second) // sets the timer to an earlier time
		nackAfter(t, ms[2], 2*time.Second)
		wantError(t, "Ack", ms[0].Ack(t.Context()), broker.ErrSettled)
		receiveAfter(t, sub, "4", 0)
		m := receiveAfter(t, sub, "2", time.Second)
		if n, _ := broker.DeliveryCount(m); n != 2 {
			t.Errorf("delivery count %d, want 2", n)
		}
		nackAfter(t, m, time.Hour)
		receiveAfter(t, sub, "3", time.Second)
		receiveAfter(t, sub, "1", time.Second)
		receiveAfter(t, sub, "2", time.Hour-2*time.Second)
		shutdown(t, outside)
	})
}

func TestNackAfterAtOnce(t *testing.T) {
	t.Parallel()
	b, p := connect(t)
	sub := subscribe(t, b, broker.ByName("a"))
	publish(t, p, "a", "1", "2")
	for _, d := range []time.Duration{0, -time.Second, math.MinInt64} {
		nackAfter(t, expect(t, sub, "1")[0], d)
	}
	expect(t, sub, "1", "2")
}

func TestNackAfterForEver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, p := connect(t)
		sub := subscribe(t, b, broker.ByName("a"))
		publish(t, p, "a", "1", "2")
		ms := expect(t, sub, "1", "2")
		nackAfter(t, ms[0], math.MaxInt64)
		nackAfter(t, ms[1], time.Second)
		receiveAfter(t, sub, "2", time.Second)
	})
}

// What is due together comes in publish order, before what was not yet received.
func TestDueTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, p := connect(t)
		sub := subscribe(t, b, broker.ByName("a"))
		publish(t, p, "a", "1", "2", "3", "4")
		ms := expect(t, sub, "1", "2", "3")
		for _, i := range []int{2, 0, 1} {
			nackAfter(t, ms[i], time.Second)
		}
		if n := lag(t, sub); n != 4 {
			t.Errorf("lag %d, want 4: what is delayed waits, too", n)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		expect(t, sub, "1", "2", "3", "4")
	})
}

// The time runs on while nobody is attached, and no timer does.
func TestDelayWhileDetached(t *testing.T) {
	for _, src := range []broker.Source{broker.ByName("a"), memory.Queue("a", "g")} {
		t.Run(src.Name(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				store := memory.NewStore()
				b, p := connect(t, memory.On(store))
				sub := subscribe(t, b, src)
				publish(t, p, "a", "1", "2", "3")
				ms := expect(t, sub, "1", "2", "3")
				nackAfter(t, ms[0], time.Second)
				closeSub(t, sub)
				nackAfter(t, ms[1], 3*time.Second)
				requeue(t, ms[2])
				shutdown(t, b)
				time.Sleep(2 * time.Second)
				wantLen(t, store, "a", 3)

				b, _ = connect(t, memory.On(store))
				sub = subscribe(t, b, src)
				expect(t, sub, "1", "3")
				receiveAfter(t, sub, "2", time.Second)
			})
		})
	}
}

// A due message wakes one member; several due ones wake as many.
func TestDueMessagesWakeTheMembers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, p := connect(t)
		src := memory.Queue("a", "g")
		first := subscribe(t, b, src)
		publish(t, p, "a", "1", "2", "3")
		for _, m := range expect(t, first, "1", "2", "3") {
			nackAfter(t, m, time.Minute)
		}
		got := make(chan string)
		for range 3 {
			sub := subscribe(t, b, src)
			go func() {
				m, err := sub.Receive(context.Background())
				if err != nil {
					t.Error(err)
				} else {
					got <- string(m.Payload())
				}
			}()
		}
		seen := map[string]bool{}
		for range 3 {
			seen[<-got] = true
		}
		if len(seen) != 3 {
			t.Errorf("received %v", seen)
		}
	})
}

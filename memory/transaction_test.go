package memory_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

func begin(tb testing.TB, p broker.Publisher) broker.Transaction {
	tb.Helper()
	tx, err := broker.Begin(context.Background(), p)
	if err != nil {
		tb.Fatalf("Begin: %v", err)
	}
	return tx
}

func txPublish(tb testing.TB, tx broker.Transaction, name string, payloads ...string) {
	tb.Helper()
	for _, s := range payloads {
		if err := tx.Publish(context.Background(), out(name, s)); err != nil {
			tb.Fatalf("Publish in a transaction: %v", err)
		}
	}
}

func txAck(tb testing.TB, tx broker.Transaction, ms ...broker.IncomingMessage) {
	tb.Helper()
	for _, m := range ms {
		if err := tx.Ack(context.Background(), m); err != nil {
			tb.Fatalf("Ack in a transaction: %v", err)
		}
	}
}

func TestCommit(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	store := memory.NewStore()
	b, p := connect(t, memory.On(store))
	in := subscribe(t, b, broker.ByName("in"))
	one, two := subscribe(t, b, broker.ByName("a")), subscribe(t, b, memory.Pattern("*"))
	publish(t, p, "in", "1", "2")
	expect(t, two, "1", "2")
	ms := expect(t, in, "1", "2")

	tx := begin(t, p)
	payload := []byte("x")
	if err := tx.Publish(ctx, broker.OutgoingMessage{Name: "a", Payload: payload}); err != nil {
		t.Fatal(err)
	}
	payload[0] = '!' // the caller's again
	txPublish(t, tx, "b", "y")
	txPublish(t, tx, "a", "z")
	txAck(t, tx, ms...)
	expectNothing(t, one)
	wantError(t, "Ack beside the transaction", ms[0].Ack(ctx), broker.ErrSettled)
	wantError(t, "Nack beside the transaction", ms[0].Nack(ctx, true), broker.ErrSettled)
	wantError(t, "a second claim", tx.Ack(ctx, ms[0]), broker.ErrSettled)
	wantError(t, "a claim of another transaction", begin(t, p).Ack(ctx, ms[0]), broker.ErrSettled)
	wantLen(t, store, "in", 4) // two copies; those of the pattern are unsettled

	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	expect(t, one, "x", "z")
	expect(t, two, "x", "y", "z")
	wantLen(t, store, "in", 2)
	wantError(t, "Ack after the commit", ms[0].Ack(ctx), broker.ErrSettled)
	wantSettled(t, tx, ms[0])
}

// wantSettled checks that a transaction that ended answers so.
func wantSettled(t *testing.T, tx broker.Transaction, m broker.IncomingMessage) {
	t.Helper()
	ctx := t.Context()
	wantError(t, "Publish", tx.Publish(ctx, out("a", "x")), broker.ErrSettled)
	wantError(t, "Ack", tx.Ack(ctx, m), broker.ErrSettled)
	wantError(t, "Commit", tx.Commit(ctx), broker.ErrSettled)
	wantError(t, "Abort", tx.Abort(ctx), broker.ErrSettled)
}

func TestAbort(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	b, p := connect(t, memory.On(store))
	sub := subscribe(t, b, broker.ByName("a"))
	publish(t, p, "a", "1", "2")
	ms := expect(t, sub, "1", "2")
	tx := begin(t, p)
	txPublish(t, tx, "a", "3")
	txAck(t, tx, ms...)
	if err := tx.Abort(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantSettled(t, tx, ms[0])
	wantLen(t, store, "a", 2)
	ack(t, ms[0])
	requeue(t, ms[1])
	expect(t, sub, "2")
	wantLen(t, store, "a", 1)
}

func TestEmptyCommit(t *testing.T) {
	t.Parallel()
	_, p := connect(t)
	if err := begin(t, p).Commit(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestForeignDeliveries(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	b, p := connect(t, memory.On(store))
	other, otherPub := connect(t)
	sub, otherSub := subscribe(t, b, broker.ByName("a")), subscribe(t, other, broker.ByName("a"))
	publish(t, p, "a", "1", "2")
	publish(t, otherPub, "a", "1")
	tx := begin(t, p)
	m := receive(t, otherSub)
	wantError(t, "Ack of another store's delivery", tx.Ack(t.Context(), m), broker.ErrInvalid)
	wantError(t, "Ack of nothing", tx.Ack(t.Context(), nil), broker.ErrInvalid)
	wantError(t, "Ack of a zero message", tx.Ack(t.Context(), new(memory.Message)), broker.ErrInvalid)
	ack(t, m)

	// Another connection to the same store is fine, until it is shut down.
	second, _ := connect(t, memory.On(store))
	txAck(t, tx, expect(t, sub, "1")...)
	if err := tx.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	wantLen(t, store, "a", 1)
	src := memory.Queue("b", "g")
	subB := subscribe(t, second, src)
	publish(t, p, "b", "3")
	m = receive(t, subB)
	tx = begin(t, p)
	txAck(t, tx, m)
	txPublish(t, tx, "c", "4")
	shutdown(t, second)
	wantError(t, "Ack after the Shutdown", begin(t, p).Ack(t.Context(), m), broker.ErrClosed)
	wantError(t, "Commit", tx.Commit(t.Context()), broker.ErrStale)
	wantLen(t, store, "c", 0)
	expect(t, subscribe(t, b, src), "3")
}

func TestShutdownAbortsTransactions(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	b, p := connect(t, memory.On(store))
	src := memory.Queue("a", "g")
	sub := subscribe(t, b, src)
	publish(t, p, "a", "1")
	m := receive(t, sub)
	tx := begin(t, p)
	txPublish(t, tx, "a", "2")
	txAck(t, tx, m)
	shutdown(t, b)
	wantError(t, "Commit", tx.Commit(t.Context()), broker.ErrClosed)
	next, _ := connect(t, memory.On(store))
	got := subscribe(t, next, src)
	m = expect(t, got, "1")[0]
	if n, _ := broker.DeliveryCount(m); n != 2 {
		t.Errorf("delivery count %d, want 2", n)
	}
	expectNothing(t, got)
}

func TestCommitWaitsForRoom(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := memory.NewStore(memory.Capacity(3))
		b, p := connect(t, memory.On(store))
		sub, in := subscribe(t, b, broker.ByName("a")), subscribe(t, b, broker.ByName("in"))
		publish(t, p, "in", "m")
		m := receive(t, in)
		publish(t, p, "a", "1", "2", "3")

		tx := begin(t, p)
		txPublish(t, tx, "a", "x", "y")
		txPublish(t, tx, "nobody", "z")
		txAck(t, tx, m)
		ctx, cancel := within(time.Second)
		defer cancel()
		wantError(t, "Commit", tx.Commit(ctx), memory.ErrFull, context.DeadlineExceeded)
		wantSettled(t, tx, m)
		wantLen(t, store, "nobody", 0)

		// It ended as an Abort does: the delivery can be claimed again.
		tx = begin(t, p)
		txPublish(t, tx, "a", "x", "y")
		txAck(t, tx, m)
		done := make(chan error)
		go func() { done <- tx.Commit(context.Background()) }()
		synctest.Wait()
		// A publisher that needs less comes behind it.
		published := make(chan error)
		go func() { published <- p.Publish(context.Background(), out("a", "behind")) }()
		synctest.Wait()
		expect(t, sub, "1")
		synctest.Wait()
		if n := lag(t, sub); n != 2 {
			t.Errorf("%d messages wait, want 2: the transaction needs room for two", n)
		}
		expect(t, sub, "2")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		expect(t, sub, "3")
		if err := <-published; err != nil {
			t.Fatal(err)
		}
		expect(t, sub, "x", "y", "behind")
		wantLen(t, store, "in", 0)
	})
}

// A transaction that waits for more room than there is leaves: all who wait behind
// it and need less are woken.
func TestALargeTransactionLeaves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, p := connect(t, memory.Capacity(3))
		sub := subscribe(t, b, broker.ByName("a"))
		publish(t, p, "a", "1", "2", "3")
		tx := begin(t, p)
		txPublish(t, tx, "a", "x", "y", "z")
		done := make(chan error)
		ctx, cancel := within(time.Second)
		defer cancel()
		go func() { done <- tx.Commit(ctx) }()
		synctest.Wait()
		published := make(chan error)
		for _, s := range []string{"4", "5"} {
			go func() { published <- p.Publish(context.Background(), out("a", s)) }()
			synctest.Wait()
		}
		expect(t, sub, "1", "2")
		wantError(t, "Commit", <-done, memory.ErrFull)
		for range 2 {
			if err := <-published; err != nil {
				t.Fatal(err)
			}
		}
		expect(t, sub, "3", "4", "5")
	})
}

// Who is woken at one queue and then waits at another passes the room on that it
// did not use.
func TestUnusedRoomIsPassedOn(t *testing.T) {
	for what, send := range map[string]func(t *testing.T, p broker.Publisher) error{
		"publish": func(_ *testing.T, p broker.Publisher) error {
			return p.Publish(context.Background(), out("x.a", "both"))
		},
		"commit": func(t *testing.T, p broker.Publisher) error {
			tx := begin(t, p)
			txPublish(t, tx, "x.a", "both")
			return tx.Commit(context.Background())
		},
	} {
		t.Run(what, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				b, p := connect(t, memory.Capacity(1))
				first, second := subscribe(t, b, memory.Pattern("*.a")), subscribe(t, b, memory.Pattern("x.*"))
				publish(t, p, "y.a", "1")
				publish(t, p, "x.b", "2")
				sent, published := make(chan error, 1), make(chan error, 1)
				go func() { sent <- send(t, p) }()
				synctest.Wait() // waits at the first queue
				go func() { published <- p.Publish(context.Background(), out("y.a", "3")) }()
				synctest.Wait()
				expect(t, first, "1")
				if err := <-published; err != nil {
					t.Fatal(err)
				}
				expect(t, second, "2")
				expect(t, first, "3")
				if err := <-sent; err != nil {
					t.Fatal(err)
				}
				expect(t, first, "both")
				expect(t, second, "both")
			})
		})
	}
}

func TestATransactionThatNeverFits(t *testing.T) {
	t.Parallel()
	store := memory.NewStore(memory.Capacity(2))
	b, p := connect(t, memory.On(store))
	for _, name := range []string{"a", "nobody"} {
		if name == "a" {
			subscribe(t, b, broker.ByName("a"))
		}
		tx := begin(t, p)
		txPublish(t, tx, name, "1", "2", "3")
		err := tx.Commit(t.Context())
		wantError(t, "Commit", err, memory.ErrFull)
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the error %v is a context error", err)
		}
		wantLen(t, store, name, 0)
	}
}

// Readers see all of a transaction or nothing of it: whoever has seen the last
// message finds the others, and the acknowledged one is gone.
func TestCommitIsAtomic(t *testing.T) {
	t.Parallel()
	store := memory.NewStore(memory.Capacity(4))
	b, p := connect(t, memory.On(store))
	const rounds = 300
	in := subscribe(t, b, memory.Queue("in", "g"))
	var subs []broker.Subscription
	for _, name := range []string{"a", "b", "c"} {
		subs = append(subs, subscribe(t, b, broker.ByName(name)))
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range rounds {
			publish(t, p, "in", fmt.Sprint(i))
			m := receiveAnything(t, in)
			tx := begin(t, p)
			txAck(t, tx, m)
			for _, name := range []string{"c", "a", "b"} {
				txPublish(t, tx, name, fmt.Sprint(i))
			}
			if i%3 == 0 {
				if err := tx.Abort(t.Context()); err != nil {
					t.Error(err)
				}
				tx = begin(t, p)
				txAck(t, tx, m)
				for _, name := range []string{"b", "c", "a"} {
					txPublish(t, tx, name, fmt.Sprint(i))
				}
			}
			if err := tx.Commit(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range rounds {
		first := i % len(subs)
		m := receiveAnything(t, subs[first])
		ack(t, m)
		for j, sub := range subs {
			if j != first {
				ack(t, expect(t, sub, string(m.Payload()))...) // at once: they are there
			}
		}
	}
	wg.Wait()
	wantLen(t, store, "in", 0)
}

func receiveAnything(tb testing.TB, sub broker.Subscription) broker.IncomingMessage {
	tb.Helper()
	m, err := sub.Receive(context.Background())
	if err != nil {
		tb.Fatalf("Receive: %v", err)
	}
	return m
}

// Transactions and fan-outs that take several queues in different orders do not
// wait for each other in a circle.
func TestTransactionsDoNotDeadlock(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	b, p := connect(t, memory.On(store))
	names := []string{"a", "b", "c", "d"}
	for _, name := range names {
		subscribe(t, b, broker.ByName(name))
	}
	subscribe(t, b, memory.Pattern("*"))
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 200 {
				tx := begin(t, p)
				for j := range names {
					txPublish(t, tx, names[(j*(2*g+1)+i)%len(names)], "x")
				}
				if err := tx.Commit(t.Context()); err != nil {
					t.Error(err)
				}
				publish(t, p, names[i%len(names)], "y")
			}
		})
	}
	wg.Go(func() { // subscriptions come, take over backlogs, and go
		for i := range 200 {
			publish(t, p, fmt.Sprintf("late.%d", i), "x")
			sub := subscribe(t, b, memory.Pattern("late.*"))
			ack(t, expect(t, sub, "x")...)
			closeSub(t, sub)
		}
	})
	wg.Wait()
	n := 0
	for _, name := range names {
		n += store.Len(name)
	}
	if want := 8 * 200 * 5 * 2; n != want {
		t.Errorf("%d copies, want %d", n, want)
	}
}

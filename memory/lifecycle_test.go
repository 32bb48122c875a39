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

// everyOperation calls every operation of the broker and its publisher, and
// checks the answer.
func everyOperation(t *testing.T, b *memory.Broker, p broker.Publisher, want error) {
	t.Helper()
	ctx := t.Context()
	wantError(t, "Publish", p.Publish(ctx, out("a", "x")), want)
	wantError(t, "PublishBatch", broker.PublishBatch(ctx, p, []broker.OutgoingMessage{out("a", "x")}), want)
	wantError(t, "PublishBatch of nothing", broker.PublishBatch(ctx, p, nil), want)
	_, err := broker.Begin(ctx, p)
	wantError(t, "Begin", err, want)
	_, err = broker.Request(ctx, p, out("a", "x"))
	wantError(t, "Request", err, want)
	wantError(t, "Health", broker.Health(ctx, b), want)
	for _, src := range []broker.Source{broker.ByName("a"), memory.Queue("a", "g"), memory.Pattern("a.>")} {
		_, err = src.Subscribe(ctx, b)
		wantError(t, "Subscribe", err, want)
	}
	// The state is told before any mistake of the call.
	wantError(t, "Publish of a bad name", p.Publish(ctx, out("a..b", "x")), want)
	_, err = b.Subscribe(ctx, "a..b")
	wantError(t, "Subscribe to a bad name", err, want)
}

func TestBeforeConnect(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	b := memory.New(memory.On(store))
	everyOperation(t, b, b.Publisher(), broker.ErrNotConnected)
	wantLen(t, store, "a", 0)
}

func TestAfterShutdown(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	store := memory.NewStore()
	b, p := connect(t, memory.On(store))
	sub := subscribe(t, b, memory.Queue("a", "g"))
	publish(t, p, "a", "1", "2", "3")
	ms := expect(t, sub, "1", "2")
	ack(t, ms[1])
	tx, err := broker.Begin(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	old, err := broker.Begin(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Abort(ctx); err != nil {
		t.Fatal(err)
	}
	shutdown(t, b)
	shutdown(t, b)

	everyOperation(t, b, p, broker.ErrClosed)
	everyOperation(t, b, b.Publisher(), broker.ErrClosed)
	wantError(t, "Connect", b.Connect(ctx), broker.ErrClosed)
	_, err = sub.Receive(ctx)
	wantError(t, "Receive", err, broker.ErrClosed)
	_, err = broker.ReceiveBatch(ctx, sub, make([]broker.IncomingMessage, 1))
	wantError(t, "ReceiveBatch", err, broker.ErrClosed)
	_, err = broker.Lag(ctx, sub)
	wantError(t, "Lag", err, broker.ErrClosed)
	closeSub(t, sub)
	for _, m := range ms { // one unsettled, one settled
		wantError(t, "Ack", m.Ack(ctx), broker.ErrClosed)
		wantError(t, "Nack", m.Nack(ctx, false), broker.ErrClosed)
		wantError(t, "Nack with requeue", m.Nack(ctx, true), broker.ErrClosed)
		wantError(t, "NackAfter", broker.NackAfter(ctx, m, time.Second), broker.ErrClosed)
		if len(m.Payload()) != 1 {
			t.Error("the payload is gone")
		}
	}
	for _, tx := range []broker.Transaction{tx, old} {
		wantError(t, "Publish in a transaction", tx.Publish(ctx, out("a", "x")), broker.ErrClosed)
		wantError(t, "Ack in a transaction", tx.Ack(ctx, ms[0]), broker.ErrClosed)
		wantError(t, "Commit", tx.Commit(ctx), broker.ErrClosed)
		wantError(t, "Abort", tx.Abort(ctx), broker.ErrClosed)
	}
	wantLen(t, store, "a", 2)
}

func TestConnect(t *testing.T) {
	t.Parallel()
	b := memory.New()
	wantError(t, "Connect with an ended context", b.Connect(ended()), context.Canceled)
	wantError(t, "Publish", b.Publisher().Publish(t.Context(), out("a", "x")), broker.ErrNotConnected)
	for range 2 {
		if err := b.Connect(t.Context()); err != nil {
			t.Fatalf("Connect: %v", err)
		}
	}
	if err := broker.Health(t.Context(), b); err != nil {
		t.Errorf("Health: %v", err)
	}
	wantError(t, "Health with an ended context", broker.Health(ended(), b), context.Canceled)
	shutdown(t, b)
}

func TestShutdownBeforeConnect(t *testing.T) {
	t.Parallel()
	b := memory.New()
	shutdown(t, b)
	shutdown(t, b)
	everyOperation(t, b, b.Publisher(), broker.ErrClosed)
	wantError(t, "Connect", b.Connect(t.Context()), broker.ErrClosed)
}

func TestShutdownWithAnEndedContextIsComplete(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	b, p := connect(t, memory.On(store))
	sub := subscribe(t, b, broker.ByName("a"))
	publish(t, p, "a", "1")
	expect(t, sub, "1")
	if err := b.Shutdown(ended()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	next, _ := connect(t, memory.On(store))
	expect(t, subscribe(t, next, broker.ByName("a")), "1")
}

func TestEndedContextDoesNothing(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	b, p := connect(t, memory.On(store))
	sub := subscribe(t, b, broker.ByName("a"))
	wantError(t, "Publish", p.Publish(ended(), out("a", "x")), context.Canceled)
	wantError(t, "PublishBatch", p.(broker.BatchPublisher).PublishBatch(ended(), []broker.OutgoingMessage{out("a", "x")}), context.Canceled)
	_, err := broker.Request(ended(), p, out("a", "x"))
	wantError(t, "Request", err, context.Canceled)
	_, err = broker.Begin(ended(), p)
	wantError(t, "Begin", err, context.Canceled)
	_, err = b.Subscribe(ended(), "a")
	wantError(t, "Subscribe", err, context.Canceled)
	_, err = broker.Lag(ended(), sub)
	wantError(t, "Lag", err, context.Canceled)
	expectNothing(t, sub)

	publish(t, p, "a", "1")
	_, err = sub.Receive(ended())
	wantError(t, "Receive", err, context.Canceled)
	_, err = broker.ReceiveBatch(ended(), sub, make([]broker.IncomingMessage, 1))
	wantError(t, "ReceiveBatch", err, context.Canceled)
	m := expect(t, sub, "1")[0]
	tx, err := broker.Begin(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, "Publish in a transaction", tx.Publish(ended(), out("a", "x")), context.Canceled)
	wantError(t, "Ack in a transaction", tx.Ack(ended(), m), context.Canceled)
	if err := m.Ack(ended()); err != nil {
		t.Errorf("Ack does not wait, and with an ended context answers %v", err)
	}
	wantLen(t, store, "a", 0)
}

// Whoever waits when the broker is shut down gets ErrClosed, and no goroutine is
// left.
func TestShutdownWakesEverybody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		b, p := connect(t, memory.Capacity(1))
		empty := subscribe(t, b, broker.ByName("empty"))
		subscribe(t, b, broker.ByName("full"))
		limited := subscribe(t, b, memory.Pattern("limited").Limit(1))
		subscribe(t, b, memory.Queue("full2", "g"))
		publish(t, p, "full", "1")
		publish(t, p, "full2", "1")
		publish(t, p, "nobody", "1")
		publish(t, p, "limited", "1")
		expect(t, limited, "1")
		tx, err := broker.Begin(ctx, p)
		if err != nil {
			t.Fatal(err)
		}
		if err := tx.Publish(ctx, out("full", "2")); err != nil {
			t.Fatal(err)
		}

		var wg sync.WaitGroup
		for what, f := range map[string]func() error{
			"Receive":              func() error { _, err := empty.Receive(ctx); return err },
			"Receive at the limit": func() error { _, err := limited.Receive(ctx); return err },
			"Publish":              func() error { return p.Publish(ctx, out("full", "2")) },
			"Publish to a group":   func() error { return p.Publish(ctx, out("full2", "2")) },
			"Publish to a backlog": func() error { return p.Publish(ctx, out("nobody", "2")) },
			"Commit":               func() error { return tx.Commit(ctx) },
			"Request":              func() error { _, err := broker.Request(ctx, p, out("empty2", "2")); return err },
		} {
			if what == "Request" {
				subscribe(t, b, broker.ByName("empty2"))
			}
			wg.Go(func() { wantError(t, what, f(), broker.ErrClosed) })
		}
		synctest.Wait()
		shutdown(t, b)
		wg.Wait()
	})
}

// A Subscribe that races the Shutdown fails, or its subscription is closed.
func TestSubscribeRacesShutdown(t *testing.T) {
	t.Parallel()
	for range 300 {
		b, p := connect(t)
		publish(t, p, "a", "x")
		var sub broker.Subscription
		var err error
		var wg sync.WaitGroup
		wg.Go(func() { sub, err = b.Subscribe(context.Background(), "a") })
		wg.Go(func() { shutdown(t, b) })
		wg.Wait()
		if err == nil {
			_, err = sub.Receive(t.Context())
		}
		wantError(t, "Subscribe or Receive", err, broker.ErrClosed)
	}
}

package memory_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

// answer replies to every request of sub until it is closed.
func answer(tb testing.TB, p broker.Publisher, sub broker.Subscription, reply func(string) []string) {
	for m, err := range broker.Messages(context.Background(), sub) {
		if err != nil {
			tb.Error(err)
			return
		}
		publish(tb, p, m.Headers().ReplyTo(), reply(string(m.Payload()))...)
		ack(tb, m)
	}
}

func TestRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx := context.Background()
		store := memory.NewStore()
		b, p := connect(t, memory.On(store))
		responder, replies := connect(t, memory.On(store))
		sub := subscribe(t, responder, memory.Queue("ask", "g"))
		go answer(t, replies, sub, func(s string) []string { return []string{s + "!", "twice"} })

		msg := out("ask", "hello")
		msg.Headers = broker.Headers{}.WithReplyTo("mine").WithCorrelationID("c")
		seen := map[string]bool{}
		for range 3 {
			m, err := broker.Request(ctx, p, msg)
			if err != nil {
				t.Fatal(err)
			}
			if string(m.Payload()) != "hello!" {
				t.Errorf("reply %q", m.Payload())
			}
			if name := m.Name(); seen[name] || !strings.HasPrefix(name, "_inbox.") {
				t.Errorf("the reply-to %q is not new", name)
			} else {
				seen[name] = true
			}
			if k, ok := broker.PartitionKey(m); !ok || k != nil || m.Headers().Len() != 0 {
				t.Error("the reply has a key or headers that nobody gave it")
			}
			wantError(t, "Nack with requeue", m.Nack(ctx, true), errors.ErrUnsupported)
			ack(t, m)
			wantError(t, "Ack", m.Ack(ctx), broker.ErrSettled)
			wantError(t, "Nack", m.Nack(ctx, false), broker.ErrSettled)
			wantError(t, "Nack with requeue", m.Nack(ctx, true), broker.ErrSettled)
			if err := broker.NackAfter(ctx, m, time.Second); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("NackAfter: %v", err)
			}
			wantError(t, "Ack in a transaction", begin(t, p).Ack(ctx, m), broker.ErrInvalid)
			// A reply that comes late is accepted and dropped.
			publish(t, p, m.Name(), "late")
			if err := b.CheckPublishName(m.Name()); err != nil {
				t.Errorf("CheckPublishName of an inbox: %v", err)
			}
			wantLen(t, store, m.Name(), 0)
		}
		m, err := broker.Request(ctx, p, msg)
		if err != nil {
			t.Fatal(err)
		}
		if msg.Headers.ReplyTo() != "mine" {
			t.Error("the caller's headers were changed")
		}
		shutdown(t, b)
		wantError(t, "Ack", m.Ack(ctx), broker.ErrClosed)
		wantError(t, "Nack", m.Nack(ctx, true), broker.ErrClosed)
	})
}

func TestRequestHeaders(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, p := connect(t)
		sub := subscribe(t, b, broker.ByName("ask"))
		go func() {
			msg := out("ask", "x")
			msg.Headers = broker.Headers{}.WithReplyTo("mine").WithCorrelationID("c")
			_, _ = broker.Request(context.Background(), p, msg)
		}()
		h := receiveAnything(t, sub).Headers()
		if got := h.Values(broker.HeaderReplyTo); len(got) != 1 || got[0] == "mine" {
			t.Errorf("reply-to %q", got)
		}
		if h.CorrelationID() != "c" {
			t.Error("the correlation id is lost")
		}
	})
}

func TestNoResponders(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	b, p := connect(t, memory.On(store))
	refused := func() {
		t.Helper()
		_, err := broker.Request(t.Context(), p, out("ask", "x"))
		wantError(t, "Request", err, memory.ErrNoResponders)
		wantLen(t, store, "ask", 1)
	}
	publish(t, p, "ask", "backlog")
	refused()
	sub := subscribe(t, b, memory.Queue("ask", "g"))
	closeSub(t, sub)
	refused() // the group's queue stays, and nobody reads it
}

func TestRequestEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, p := connect(t, memory.Capacity(1))
		sub := subscribe(t, b, broker.ByName("ask"))
		ctx, cancel := within(time.Second)
		defer cancel()
		_, err := broker.Request(ctx, p, out("ask", "x"))
		wantError(t, "Request", err, context.DeadlineExceeded)
		if errors.Is(err, memory.ErrFull) {
			t.Errorf("the queue was not full: %v", err)
		}
		// The queue is full now.
		ctx, cancel = within(time.Second)
		defer cancel()
		_, err = broker.Request(ctx, p, out("ask", "x"))
		wantError(t, "Request", err, context.DeadlineExceeded, memory.ErrFull)

		late := receive(t, sub)
		publish(t, p, late.Headers().ReplyTo(), "late")
		expectNothing(t, sub)

		done := make(chan error)
		go func() { _, err := broker.Request(context.Background(), p, out("ask", "x")); done <- err }()
		synctest.Wait()
		shutdown(t, b)
		wantError(t, "Request", <-done, broker.ErrClosed)
	})
}

// A late answer to one request does not resolve another.
func TestRepliesAreCorrelated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, p := connect(t)
		sub := subscribe(t, b, broker.ByName("ask"))
		ctx, cancel := within(time.Second)
		defer cancel()
		if _, err := broker.Request(ctx, p, out("ask", "1")); err == nil {
			t.Fatal("nobody answered, and there is a reply")
		}
		got := make(chan string)
		go func() {
			m, err := broker.Request(context.Background(), p, out("ask", "2"))
			if err != nil {
				t.Error(err)
			}
			got <- string(m.Payload())
		}()
		first, second := receive(t, sub), receiveAnything(t, sub)
		publish(t, p, first.Headers().ReplyTo(), "to 1")
		publish(t, p, second.Headers().ReplyTo(), "to 2", "to 2 again")
		if s := <-got; s != "to 2" {
			t.Errorf("the reply is %q", s)
		}
	})
}

func TestReplyInATransaction(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, p := connect(t)
		sub := subscribe(t, b, broker.ByName("ask"))
		got := make(chan error)
		go func() {
			_, err := broker.Request(context.Background(), p, out("ask", "1"))
			got <- err
		}()
		m := receiveAnything(t, sub)
		tx := begin(t, p)
		txPublish(t, tx, m.Headers().ReplyTo(), "reply")
		txAck(t, tx, m)
		synctest.Wait()
		select {
		case <-got:
			t.Error("the reply came before the commit")
		default:
		}
		if err := tx.Commit(context.Background()); err != nil {
			t.Fatal(err)
		}
		if err := <-got; err != nil {
			t.Error(err)
		}
	})
}

// An inbox belongs to its store, and cannot be guessed ahead, subscribed to or
// found by a pattern.
func TestInboxesAreReserved(t *testing.T) {
	bubble(t, func(t *testing.T) {
		b, p := connect(t)
		_, stranger := connect(t)
		sub, all := subscribe(t, b, broker.ByName("ask")), subscribe(t, b, memory.Pattern(">"))
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = broker.Request(ctx, p, out("ask", "1"))
		}()
		inbox := receiveAnything(t, sub).Headers().ReplyTo()
		expect(t, all, "1")
		wantError(t, "a reply through another store", stranger.Publish(t.Context(), out(inbox, "x")), broker.ErrInvalid)
		for _, name := range []string{inbox + "0", inbox + ".1", strings.Replace(inbox, "_inbox.", "_inbox.0", 1), "_inbox." + inbox} {
			wantError(t, "a made-up inbox", p.Publish(t.Context(), out(name, "x")), broker.ErrInvalid)
		}
		_, err := broker.Request(t.Context(), p, out(inbox, "x"))
		wantError(t, "a request to an inbox", err, broker.ErrInvalid)
		wantError(t, "CheckSubscribeName", b.CheckSubscribeName(inbox), broker.ErrInvalid)
		cancel()
		<-done
		publish(t, p, inbox, "late")
		expectNothing(t, all)
	})
}

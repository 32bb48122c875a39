package memory_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

// connect returns a connected broker, which is shut down at the end of the test,
// and its publisher.
func connect(tb testing.TB, opts ...memory.Option) (*memory.Broker, broker.Publisher) {
	tb.Helper()
	b := memory.New(opts...)
	if err := b.Connect(context.Background()); err != nil {
		tb.Fatalf("Connect: %v", err)
	}
	tb.Cleanup(func() { shutdown(tb, b) })
	return b, b.Publisher()
}

func shutdown(tb testing.TB, b *memory.Broker) {
	tb.Helper()
	if err := b.Shutdown(context.Background()); err != nil {
		tb.Errorf("Shutdown: %v", err)
	}
}

func subscribe(tb testing.TB, b broker.Broker, src broker.Source) broker.Subscription {
	tb.Helper()
	sub, err := src.Subscribe(context.Background(), b)
	if err != nil {
		tb.Fatalf("Subscribe %q: %v", src.Name(), err)
	}
	return sub
}

// publish publishes the payloads in order to name.
func publish(tb testing.TB, p broker.Publisher, name string, payloads ...string) {
	tb.Helper()
	for _, s := range payloads {
		if err := p.Publish(context.Background(), out(name, s)); err != nil {
			tb.Fatalf("Publish %q to %q: %v", s, name, err)
		}
	}
}

func out(name, payload string) broker.OutgoingMessage {
	return broker.OutgoingMessage{Name: name, Payload: []byte(payload)}
}

// ended is a context that has ended. What is there to be had is had without it.
func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// receive returns the next delivery, which must be there.
func receive(tb testing.TB, sub broker.Subscription) broker.IncomingMessage {
	tb.Helper()
	if n := lag(tb, sub); n == 0 {
		tb.Fatalf("nothing to receive")
	}
	m, err := sub.Receive(context.Background())
	if err != nil {
		tb.Fatalf("Receive: %v", err)
	}
	return m
}

// expect receives deliveries with these payloads, in this order.
func expect(tb testing.TB, sub broker.Subscription, payloads ...string) []broker.IncomingMessage {
	tb.Helper()
	var ms []broker.IncomingMessage
	for _, want := range payloads {
		m := receive(tb, sub)
		if got := string(m.Payload()); got != want {
			tb.Fatalf("received %q, want %q", got, want)
		}
		ms = append(ms, m)
	}
	return ms
}

func expectNothing(tb testing.TB, sub broker.Subscription) {
	tb.Helper()
	if n := lag(tb, sub); n != 0 {
		tb.Fatalf("%d messages wait, want none", n)
	}
}

func lag(tb testing.TB, sub broker.Subscription) int64 {
	tb.Helper()
	n, err := broker.Lag(context.Background(), sub)
	if err != nil {
		tb.Fatalf("Lag: %v", err)
	}
	return n
}

func ack(tb testing.TB, ms ...broker.IncomingMessage) {
	tb.Helper()
	for _, m := range ms {
		if err := m.Ack(context.Background()); err != nil {
			tb.Fatalf("Ack: %v", err)
		}
	}
}

func requeue(tb testing.TB, ms ...broker.IncomingMessage) {
	tb.Helper()
	for _, m := range ms {
		if err := m.Nack(context.Background(), true); err != nil {
			tb.Fatalf("Nack: %v", err)
		}
	}
}

func closeSub(tb testing.TB, sub broker.Subscription) {
	tb.Helper()
	if err := sub.Close(context.Background()); err != nil {
		tb.Fatalf("Close: %v", err)
	}
}

// wantError fails unless err is every one of targets and a *broker.Error of this
// broker.
func wantError(tb testing.TB, what string, err error, targets ...error) {
	tb.Helper()
	for _, target := range targets {
		if !errors.Is(err, target) {
			tb.Errorf("%s: error %v, want %v", what, err, target)
			return
		}
	}
	var be *broker.Error
	if !errors.As(err, &be) {
		tb.Errorf("%s: error %v is a %T, want a *broker.Error", what, err, err)
	} else if be.Broker != "memory" || be.Op == "" {
		tb.Errorf("%s: error %#v lacks the broker or the operation", what, be)
	}
}

func wantLen(tb testing.TB, store *memory.Store, name string, want int) {
	tb.Helper()
	if got := store.Len(name); got != want {
		tb.Errorf("Len(%q) is %d, want %d", name, got, want)
	}
}

func numbered(prefix string, n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return s
}

// bubble runs f with fake time. It fails when a goroutine is left at the end.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

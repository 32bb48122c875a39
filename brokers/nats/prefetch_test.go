package nats

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats/embedded"
)

// What is prefetched and not received goes back when half of its lease has passed, for
// others to have it.
func TestPrefetchedGoesBack(t *testing.T) {
	t.Parallel()
	server, err := embedded.Start(embedded.Config{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	b := New("", InProcess(server))
	if err := b.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := server.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	src := Stream("a", "A").Create(jetstream.StreamConfig{}).Durable("d").AckWait(time.Hour)
	sub, err := src.Subscribe(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	msgs := make([]broker.OutgoingMessage, 400)
	left := make(map[string]bool)
	for i := range msgs {
		msgs[i] = broker.OutgoingMessage{Name: "a", Payload: fmt.Append(nil, i)}
		left[fmt.Sprint(i)] = true
	}
	if err := broker.PublishBatch(t.Context(), b.JetStreamPublisher(), msgs); err != nil {
		t.Fatal(err)
	}
	receive := func(from broker.Subscription) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		m, err := from.Receive(ctx)
		if err != nil {
			t.Fatalf("with %d left: %v", len(left), err)
		}
		delete(left, string(m.Payload()))
		if err := m.Ack(ctx); err != nil {
			t.Fatal(err)
		}
	}
	s := sub.(*streamSubscription)
	for waits := 0; waits == 0; { // it receives fast, until something is prefetched
		receive(sub)
		s.mu.Lock()
		waits = s.pull.buffered()
		s.mu.Unlock()
	}
	// Half an hour later it has not come back. What was on its way has arrived: the
	// answer to what is asked now comes behind it.
	if _, err := sub.(broker.Lagger).Lag(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.collect(clock())
	for i := s.pull.first; i < len(s.pull.queue); i++ {
		s.pull.queue[i].at -= int64(31 * time.Minute)
	}
	s.mu.Unlock()
	s.tick()
	other, err := src.Subscribe(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	for len(left) > 0 {
		receive(other)
	}
}

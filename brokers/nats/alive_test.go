package nats

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats/embedded"
)

// A consumer without a durable name survives a pause that is longer than the server keeps
// one that nobody uses, before and after its first message: with it the position would go,
// and what is published meanwhile.
func TestPauseWithoutDurable(t *testing.T) {
	t.Parallel()
	server, err := embedded.Start(embedded.Config{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	b := New("", InProcess(server))
	t.Cleanup(func() {
		if err := b.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := server.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := b.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	src := Stream("news", "NEWS").DeliverPolicy(jetstream.DeliverNewPolicy).Create(jetstream.StreamConfig{})
	src.inactive = 500 * time.Millisecond
	sub, err := src.Subscribe(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		pause := time.NewTimer(4 * src.inactive)
		<-pause.C
		if err := b.JetStreamPublisher().Publish(ctx, broker.OutgoingMessage{Name: "news"}); err != nil {
			t.Fatal(err)
		}
		m, err := sub.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Ack(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

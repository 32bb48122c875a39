package nats_test

import (
	"fmt"
	"testing"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
	"github.com/gostream/gostream/brokers/nats/embedded"
)

// BenchmarkReceive compares receiving, and acknowledging where there is something to
// acknowledge, with the client's own loop. Compare within one run:
//
//	go test -run '^$' -bench Receive -count 5 ./brokers/nats
func BenchmarkReceive(b *testing.B) {
	server, err := embedded.Start(embedded.Config{Memory: true, Listen: "127.0.0.1:0"})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = server.Shutdown(b.Context()) }()
	nc, err := natsgo.Connect(server.URL(), natsgo.SyncQueueLen(1<<22))
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	ours := nats.FromConn(nc)
	if err := ours.Connect(b.Context()); err != nil {
		b.Fatal(err)
	}
	payload := make([]byte, 256)
	other, err := natsgo.Connect(server.URL())
	if err != nil {
		b.Fatal(err)
	}
	defer other.Close()
	// flood publishes what one run receives.
	flood := func(b *testing.B, subject string) {
		go func() {
			for range b.N {
				_ = other.Publish(subject, payload)
			}
			_ = other.Flush()
		}()
	}
	runs := 0
	fresh := func(b *testing.B) string {
		runs++
		name := fmt.Sprintf("bench%d", runs)
		if _, err := js.CreateStream(b.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name}, Storage: jetstream.MemoryStorage}); err != nil {
			b.Fatal(err)
		}
		publisher := ours.JetStreamPublisher()
		msgs := make([]broker.OutgoingMessage, 500)
		for i := range msgs {
			msgs[i] = broker.OutgoingMessage{Name: name, Payload: payload}
		}
		for n := 0; n < b.N; n += len(msgs) {
			if err := broker.PublishBatch(b.Context(), publisher, msgs); err != nil {
				b.Fatal(err)
			}
		}
		return name
	}
	b.Run("core/client", func(b *testing.B) {
		sub, err := nc.SubscribeSync("raw")
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = sub.Unsubscribe() }()
		if err := sub.SetPendingLimits(-1, -1); err != nil {
			b.Fatal(err)
		}
		_ = nc.Flush()
		ctx := b.Context()
		b.ReportAllocs()
		flood(b, "raw")
		b.ResetTimer()
		for range b.N {
			if _, err := sub.NextMsgWithContext(ctx); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("core/gostream", func(b *testing.B) {
		sub, err := ours.Subscribe(b.Context(), "ours")
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = sub.Close(b.Context()) }()
		ctx := b.Context()
		b.ReportAllocs()
		flood(b, "ours")
		b.ResetTimer()
		for range b.N {
			m, err := sub.Receive(ctx)
			if err != nil {
				b.Fatal(err)
			}
			_ = m.Ack(ctx)
		}
	})
	b.Run("stream/client", func(b *testing.B) {
		name := fresh(b)
		consumer, err := js.CreateConsumer(b.Context(), name, jetstream.ConsumerConfig{AckPolicy: jetstream.AckExplicitPolicy})
		if err != nil {
			b.Fatal(err)
		}
		it, err := consumer.Messages()
		if err != nil {
			b.Fatal(err)
		}
		defer it.Stop()
		next := jetstream.NextContext(b.Context())
		b.ReportAllocs()
		b.ResetTimer()
		for range b.N {
			m, err := it.Next(next)
			if err == nil {
				err = m.Ack()
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("stream/gostream", func(b *testing.B) {
		name := fresh(b)
		sub, err := nats.Stream(name, name).InMemory().Subscribe(b.Context(), ours)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = sub.Close(b.Context()) }()
		ctx := b.Context()
		b.ReportAllocs()
		b.ResetTimer()
		for range b.N {
			m, err := sub.Receive(ctx)
			if err == nil {
				err = m.Ack(ctx)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

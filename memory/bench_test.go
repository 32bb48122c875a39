package memory_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

func BenchmarkPublishReceiveAck(b *testing.B) {
	for _, size := range []int{0, 64, 256, 1024, 16 << 10} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			br, p := connect(b)
			sub := subscribe(b, br, broker.ByName("bench"))
			roundTrips(b, p, sub, broker.OutgoingMessage{Name: "bench", Payload: make([]byte, size)})
		})
	}
}

func BenchmarkPublishReceiveAckHeaders(b *testing.B) {
	br, p := connect(b)
	sub := subscribe(b, br, broker.ByName("bench"))
	h := broker.NewHeaders(broker.Header{Key: "content-type", Value: "application/json"}, broker.Header{Key: "message-id", Value: "1"})
	roundTrips(b, p, sub, broker.OutgoingMessage{Name: "bench", Payload: make([]byte, 64), Headers: h})
}

// BenchmarkTwoNames defeats the publisher's memory of its last route.
func BenchmarkTwoNames(b *testing.B) {
	br, p := connect(b)
	sub := subscribe(b, br, memory.Pattern("bench.*"))
	ctx := context.Background()
	names := [2]string{"bench.a", "bench.b"}
	payload := make([]byte, 64)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		roundTrip(b, ctx, p, sub, broker.OutgoingMessage{Name: names[i&1], Payload: payload})
		i++
	}
}

func BenchmarkFanOut(b *testing.B) {
	br, p := connect(b)
	ctx := context.Background()
	var subs []broker.Subscription
	for range 8 {
		subs = append(subs, subscribe(b, br, broker.ByName("bench")))
	}
	msg := broker.OutgoingMessage{Name: "bench", Payload: make([]byte, 64)}
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Publish(ctx, msg); err != nil {
			b.Fatal(err)
		}
		for _, sub := range subs {
			m, err := sub.Receive(ctx)
			if err != nil {
				b.Fatal(err)
			}
			if err := m.Ack(ctx); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkBacklogged publishes bursts, so that the queue is never short.
func BenchmarkBurst(b *testing.B) {
	br, p := connect(b)
	sub := subscribe(b, br, broker.ByName("bench"))
	ctx := context.Background()
	msg := broker.OutgoingMessage{Name: "bench", Payload: make([]byte, 64)}
	dst := make([]broker.IncomingMessage, 256)
	b.ReportAllocs()
	for range b.N / len(dst) {
		for range dst {
			if err := p.Publish(ctx, msg); err != nil {
				b.Fatal(err)
			}
		}
		n, err := broker.ReceiveBatch(ctx, sub, dst)
		if err != nil || n != len(dst) {
			b.Fatal(n, err)
		}
		for _, m := range dst {
			if err := m.Ack(ctx); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkPipeline has a goroutine on each side of a queue.
func BenchmarkPipeline(b *testing.B) {
	br, p := connect(b)
	sub := subscribe(b, br, broker.ByName("bench"))
	ctx := context.Background()
	msg := broker.OutgoingMessage{Name: "bench", Payload: make([]byte, 64)}
	b.ReportAllocs()
	done := make(chan error)
	go func() {
		for range b.N {
			if err := p.Publish(ctx, msg); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for range b.N {
		m, err := sub.Receive(ctx)
		if err != nil {
			b.Fatal(err)
		}
		if err := m.Ack(ctx); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

func BenchmarkRequest(b *testing.B) {
	br, p := connect(b)
	sub := subscribe(b, br, memory.Queue("bench", "workers"))
	ctx := context.Background()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for m, err := range broker.Messages(ctx, sub) {
			if err != nil {
				return
			}
			_ = p.Publish(ctx, broker.OutgoingMessage{Name: m.Headers().ReplyTo(), Payload: m.Payload()})
			_ = m.Ack(ctx)
		}
	}()
	msg := broker.OutgoingMessage{Name: "bench", Payload: make([]byte, 64)}
	b.ReportAllocs()
	for b.Loop() {
		m, err := broker.Request(ctx, p, msg)
		if err != nil {
			b.Fatal(err)
		}
		if err := m.Ack(ctx); err != nil {
			b.Fatal(err)
		}
	}
	if err := sub.Close(ctx); err != nil {
		b.Fatal(err)
	}
	<-done
}

func BenchmarkSubscribeTenThousandNames(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		br, _ := connect(b)
		for i := range 10_000 {
			subscribe(b, br, broker.ByName(fmt.Sprintf("names.%d", i)))
		}
		if err := br.Shutdown(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

func roundTrips(b *testing.B, p broker.Publisher, sub broker.Subscription, msg broker.OutgoingMessage) {
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		roundTrip(b, ctx, p, sub, msg)
	}
}

func roundTrip(tb testing.TB, ctx context.Context, p broker.Publisher, sub broker.Subscription, msg broker.OutgoingMessage) {
	if err := p.Publish(ctx, msg); err != nil {
		tb.Fatal(err)
	}
	m, err := sub.Receive(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	if err := m.Ack(ctx); err != nil {
		tb.Fatal(err)
	}
}

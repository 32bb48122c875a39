package nats_test

import (
	"fmt"
	"testing"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
)

// The budgets of allocations on the way of a message. What the client itself allocates
// is measured in the same way and taken off. Not parallel: AllocsPerRun counts the
// process.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	at := embeddedSite(t)
	b, js, nc := at.broker(t), at.jetStream(t), at.connect(t)
	const n = 2000
	payload := []byte("a payload")

	raw, err := nc.SubscribeSync("alloc")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	sub, err := b.Subscribe(t.Context(), "alloc")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 * n {
		if err := nc.Publish("alloc", payload); err != nil {
			t.Fatal(err)
		}
	}
	arrived := func() bool {
		lag, err := broker.Lag(t.Context(), sub)
		return err == nil && lag >= 3*n
	}
	for !arrived() {
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	client := testing.AllocsPerRun(n, func() {
		if _, err := raw.NextMsgWithContext(ctx); err != nil {
			t.Fatal(err)
		}
	})
	ours := testing.AllocsPerRun(n, func() {
		m, err := sub.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_ = m.Ack(ctx)
	})
	if ours-client > 1 {
		t.Errorf("Core: Receive and Ack: %v allocations, the client's own are %v; the budget is 1 more", ours, client)
	}
	ours = testing.AllocsPerRun(n, func() {
		if err := b.Publisher().Publish(ctx, broker.OutgoingMessage{Name: "alloc.to", Payload: payload}); err != nil {
			t.Fatal(err)
		}
	})
	if ours > 0 {
		t.Errorf("Core: Publish without headers: %v allocations, the budget is 0", ours)
	}
	client = testing.AllocsPerRun(n, func() {
		if err := nc.PublishMsg(&natsgo.Msg{Subject: "alloc.to", Data: payload, Header: natsgo.Header{"a": {"b"}}}); err != nil {
			t.Fatal(err)
		}
	})
	headers := broker.NewHeaders(broker.Header{Key: "a", Value: "b"})
	ours = testing.AllocsPerRun(n, func() {
		if err := b.Publisher().Publish(ctx, broker.OutgoingMessage{Name: "alloc.to", Payload: payload, Headers: headers}); err != nil {
			t.Fatal(err)
		}
	})
	if ours > client {
		t.Errorf("Core: Publish with a header: %v allocations, the client's own are %v", ours, client)
	}

	name := at.stream(t, js, jetstream.StreamConfig{})
	msgs := make([]broker.OutgoingMessage, n)
	for i := range msgs {
		msgs[i] = broker.OutgoingMessage{Name: name + ".a", Payload: fmt.Appendf(nil, "%d", i)}
	}
	if err := broker.PublishBatch(ctx, b.JetStreamPublisher(), msgs); err != nil {
		t.Fatal(err)
	}
	consumer, err := js.CreateConsumer(ctx, name, jetstream.ConsumerConfig{AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	it, err := consumer.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer it.Stop()
	client = testing.AllocsPerRun(n-100, func() {
		m, err := it.Next(jetstream.NextContext(ctx))
		if err == nil {
			err = m.Ack()
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	stored, err := nats.Stream(name+".a", name).Subscribe(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	ours = testing.AllocsPerRun(n-100, func() {
		m, err := stored.Receive(ctx)
		if err == nil {
			err = m.Ack(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	// The embedded server allocates in the same process, for the client as for us.
	t.Logf("JetStream: Receive and Ack: %v allocations, server included; with the client's own iterator %v", ours, client)
	if ours > client {
		t.Errorf("JetStream: Receive and Ack: %v allocations, more than with the client's own iterator, which are %v", ours, client)
	}
}

package memory_test

import (
	"context"
	"testing"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

// The budgets are exact: one allocation is the message with its bytes. AllocsPerRun
// forbids parallel tests.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	ctx := context.Background()
	headers := broker.NewHeaders(broker.Header{Key: "content-type", Value: "application/json"}, broker.Header{Key: "message-id", Value: "1"})
	for what, test := range map[string]struct {
		msg  broker.OutgoingMessage
		src  broker.Source
		subs int
		want float64
	}{
		"empty":         {broker.OutgoingMessage{}, broker.ByName("a"), 1, 1},
		"64 bytes":      {broker.OutgoingMessage{Payload: make([]byte, 64)}, broker.ByName("a"), 1, 1},
		"with a key":    {broker.OutgoingMessage{Payload: make([]byte, 64), Key: []byte("customer-1")}, memory.Queue("a", "g"), 1, 1},
		"with headers":  {broker.OutgoingMessage{Payload: make([]byte, 64), Headers: headers}, memory.Pattern("*"), 1, 1},
		"1024 bytes":    {broker.OutgoingMessage{Payload: make([]byte, 1024)}, broker.ByName("a"), 1, 1},
		"4096 bytes":    {broker.OutgoingMessage{Payload: make([]byte, 4096)}, broker.ByName("a"), 1, 3},
		"fan-out of 8":  {broker.OutgoingMessage{Payload: make([]byte, 64)}, broker.ByName("a"), 8, 8},
		"large fan-out": {broker.OutgoingMessage{Payload: make([]byte, 4096)}, broker.ByName("a"), 8, 17},
	} {
		b, p := connect(t)
		var subs []broker.Subscription
		for range test.subs {
			subs = append(subs, subscribe(t, b, test.src))
		}
		test.msg.Name = "a"
		got := testing.AllocsPerRun(500, func() {
			if err := p.Publish(ctx, test.msg); err != nil {
				t.Fatal(err)
			}
			for _, sub := range subs {
				m, err := sub.Receive(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if err := m.Ack(ctx); err != nil {
					t.Fatal(err)
				}
			}
		})
		if got != test.want {
			t.Errorf("%s: %v allocations, want %v", what, got, test.want)
		}
	}
}

func TestAllocationsOfARedelivery(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	ctx := context.Background()
	b, p := connect(t)
	sub := subscribe(t, b, broker.ByName("a"))
	publish(t, p, "a", "1")
	dst := make([]broker.IncomingMessage, 4)
	got := testing.AllocsPerRun(500, func() {
		if _, err := broker.ReceiveBatch(ctx, sub, dst); err != nil {
			t.Fatal(err)
		}
		if err := dst[0].Nack(ctx, true); err != nil {
			t.Fatal(err)
		}
	})
	if got != 1 {
		t.Errorf("%v allocations, want 1", got)
	}
}

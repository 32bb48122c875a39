package nats_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
)

// What comes after a long wait is fresh, all of it: the wait does not count against
// its lease.
func TestBurstAfterALongWait(t *testing.T) {
	t.Parallel()
	at := embeddedSite(t)
	b, js := at.broker(t), at.jetStream(t)
	name := at.stream(t, js, jetstream.StreamConfig{})
	sub, err := nats.Stream(name+".a", name).Durable("d").AckWait(time.Second).Subscribe(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	burst := func() {
		var msgs []broker.OutgoingMessage
		for i := range 50 {
			msgs = append(msgs, broker.OutgoingMessage{Name: name + ".a", Payload: fmt.Append(nil, i)})
		}
		if err := broker.PublishBatch(t.Context(), b.JetStreamPublisher(), msgs); err != nil {
			t.Error(err)
		}
	}
	receive := func(when string) {
		t.Helper()
		for i := range 50 {
			m, err := sub.Receive(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if n, _ := broker.DeliveryCount(m); n != 1 || string(m.Payload()) != fmt.Sprint(i) {
				t.Errorf("%s: message %d is %q, delivery %d", when, i, m.Payload(), n)
			}
			if err := m.Ack(t.Context()); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
	}
	burst()
	receive("at once") // the window is open now
	late := time.AfterFunc(2*time.Second, burst)
	defer late.Stop()
	receive("after a wait")

	// The same when the wait ends without a message, and the next one begins later.
	short, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	if _, err := sub.Receive(short); err == nil {
		t.Fatal("a message came that was not published")
	}
	burst()
	receive("after a wait that was given up")
}

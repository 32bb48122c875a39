package nats_test

import (
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
)

// A broker that names the domain of the JetStream works on it as on any: its reply
// subjects have two tokens more where the server puts the domain into them.
func TestJetStreamDomain(t *testing.T) {
	t.Parallel()
	server, err := natsd.NewServer(&natsd.Options{
		Host: "127.0.0.1", Port: natsd.RANDOM_PORT, NoLog: true, NoSigs: true,
		JetStream: true, JetStreamDomain: "hub", StoreDir: t.TempDir(),
	})
	if err != nil {
		t.Fatal(err)
	}
	go server.Start()
	t.Cleanup(func() { server.Shutdown(); server.WaitForShutdown() })
	if !server.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server is not ready")
	}
	b := nats.New(server.ClientURL(), quick(nats.JetStreamDomain("hub"))...)
	connectBroker(t, b)
	source := nats.Stream("orders.*", "ORDERS").Durable("desk").AckWait(time.Minute).ConfirmAcks().Create(jetstream.StreamConfig{})
	sub := subscribe(t, b, source)
	reader := subscribe(t, b, nats.Stream("orders.*", "ORDERS").Ordered())
	for _, name := range []string{"orders.a", "orders.b"} {
		if err := b.JetStreamPublisher().Publish(t.Context(), broker.OutgoingMessage{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	for i, name := range []string{"orders.a", "orders.b"} {
		m := receive(t, sub)
		if n, _ := broker.DeliveryCount(m); m.Name() != name || n != 1 {
			t.Errorf("received %s, delivery %d, want %s, 1", m.Name(), n, name)
		}
		if s := m.(*nats.Message); s.Stream() != "ORDERS" || s.Consumer() != "desk" || s.Sequence() != uint64(i+1) || time.Since(s.Time()) > time.Minute {
			t.Errorf("it is of %s, %s, number %d, stored %v", s.Stream(), s.Consumer(), s.Sequence(), s.Time())
		}
		if err := broker.ExtendLease(t.Context(), m); err != nil {
			t.Error(err)
		}
		if err := m.Ack(t.Context()); err != nil {
			t.Error(err)
		}
		if m := receive(t, reader); m.Name() != name {
			t.Errorf("read %s, want %s", m.Name(), name)
		}
	}
	js, err := jetstream.NewWithDomain(beside(t, server.ClientURL()).js.Conn(), "hub")
	if err != nil {
		t.Fatal(err)
	}
	c, err := js.Consumer(t.Context(), "ORDERS", "desk")
	if err != nil {
		t.Fatal(err)
	}
	if info := c.CachedInfo(); info.NumAckPending != 0 || info.NumPending != 0 {
		t.Errorf("%d are unsettled and %d wait", info.NumAckPending, info.NumPending)
	}
}

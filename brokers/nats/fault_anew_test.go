package nats_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
)

// What a subscription reads from is deleted and made anew before it notices. What it has
// in hand are messages of the old one: to acknowledge them there would settle others.
func TestMadeAnew(t *testing.T) {
	onServers(t, func(t *testing.T, s *faultServer) {
		for _, test := range []struct {
			name string
			del  deletion
		}{
			{"stream", func(ctx context.Context, s *faultServer, stream string) error { return s.js.DeleteStream(ctx, stream) }},
			{"consumer", func(ctx context.Context, s *faultServer, stream string) error {
				return s.js.DeleteConsumer(ctx, stream, "desk")
			}},
		} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				name := unique()
				s.dropAtEnd(t, name)
				source := nats.Stream(name+".*", name).Durable("desk").AckWait(time.Minute).Create(jetstream.StreamConfig{})
				p := s.proxy(t)
				b := nats.New(p.Addr(), quick()...)
				told := connectBroker(t, b)
				sub := subscribe(t, b, source)
				s.put(t, name+".orders", 1, 1)
				held := receive(t, sub)

				p.Cut()
				told.await(t, broker.EventDisconnected, 1)
				test.del.do(t, s, name)
				other := nats.New(s.url, quick()...)
				connectBroker(t, other)
				fresh := subscribe(t, other, source)
				if test.name == "stream" {
					s.put(t, name+".orders", 2, 2) // its sequence is 1, too
				}
				m := receive(t, fresh)
				p.Restore()

				ctx, cancel := context.WithTimeout(t.Context(), noticedTold)
				defer cancel()
				if _, err := sub.Receive(ctx); !errors.Is(err, broker.ErrNotFound) {
					t.Errorf("Receive from what is another one now: %v", err)
				}
				if err := held.Ack(ctx); !errors.Is(err, broker.ErrStale) {
					t.Errorf("acknowledging what was delivered before: %v", err)
				}
				if err := b.Health(ctx); err != nil { // the server has seen what was sent
					t.Fatal(err)
				}
				if n := s.consumer(t, name, "desk").NumAckPending; n != 1 {
					t.Errorf("%d deliveries are unsettled, want the one that is in hand", n)
				}
				if err := m.Ack(ctx); err != nil {
					t.Error(err)
				}
			})
		}
	})
}

// The stream of an ordered reader is made anew while the connection is lost. Its position
// says nothing there: it does not skip what is new.
func TestStreamOfAnOrderedReaderMadeAnew(t *testing.T) {
	onServers(t, func(t *testing.T, s *faultServer) {
		name := unique()
		s.stream(t, name)
		s.put(t, name+".log", 1, 10)
		p := s.proxy(t)
		b := nats.New(p.Addr(), quick()...)
		told := connectBroker(t, b)
		sub := subscribe(t, b, nats.Stream(name+".>", name).Ordered())
		for range 10 {
			receive(t, sub)
		}
		p.Cut()
		told.await(t, broker.EventDisconnected, 1)
		ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
		defer cancel()
		if err := s.js.DeleteStream(ctx, name); err != nil {
			t.Fatal(err)
		}
		if err := createStream(ctx, s.js, jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}}); err != nil {
			t.Fatal(err)
		}
		s.put(t, name+".log", 11, 13)
		p.Restore()
		got, cancel := context.WithTimeout(t.Context(), noticedTold)
		defer cancel()
		if m, err := sub.Receive(got); !errors.Is(err, broker.ErrNotFound) {
			t.Errorf("Receive from what is another stream now: %v, %v", m, err)
		}
	})
}

// An ordered reader that begins with the last message loses nothing of what follows it
// when its connection breaks before it has handed anything out.
func TestOrderedReaderFromTheLast(t *testing.T) {
	onServers(t, func(t *testing.T, s *faultServer) {
		name := unique()
		s.stream(t, name)
		s.put(t, name+".log", 1, 10)
		s.put(t, name+".other", 11, 12)
		p := s.proxy(t)
		b := nats.New(p.Addr(), quick()...)
		told := connectBroker(t, b)
		sub := subscribe(t, b, nats.Stream(name+".log", name).Ordered().DeliverPolicy(jetstream.DeliverLastPolicy))
		p.Cut()
		told.await(t, broker.EventDisconnected, 1)
		s.put(t, name+".log", 13, 15)
		p.Restore()
		told.await(t, broker.EventReconnected, 1)
		for _, want := range []int{10, 13, 14, 15} {
			if got := number(t, receive(t, sub).Payload()); got != want {
				t.Errorf("received %d, want %d", got, want)
			}
		}
	})
}

// startLimited starts a server without users, whose limit can be changed.
func startLimited(t *testing.T, limit int) (*natsd.Server, natsd.Options) {
	t.Helper()
	opts := natsd.Options{
		Host: "127.0.0.1", Port: natsd.RANDOM_PORT, NoLog: true, NoSigs: true,
		JetStream: true, StoreDir: t.TempDir(), MaxPayload: int32(limit),
	}
	first := opts
	server, err := natsd.NewServer(&first)
	if err != nil {
		t.Fatal(err)
	}
	go server.Start()
	t.Cleanup(func() { server.Shutdown(); server.WaitForShutdown() })
	if !server.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server is not ready")
	}
	return server, first
}

// The server's limit is lowered while the client knows the old one. It refuses the next
// message that is too large by ending the connection, which the client takes for the end.
func TestMaxPayloadLowered(t *testing.T) {
	t.Parallel()
	server, opts := startLimited(t, 100_000)
	s := beside(t, server.ClientURL())
	name := unique()
	s.stream(t, name)
	s.put(t, name+".orders", 1, 2)
	b := nats.New(s.url, quick()...)
	told := connectBroker(t, b)
	source := nats.Stream(name+".>", name).Durable("desk").AckWait(2 * time.Second)
	sub := subscribe(t, b, source)
	core := subscribe(t, b, nats.Subject("news"))
	first, second := receive(t, sub), receive(t, sub)

	lower := opts
	lower.MaxPayload = 10_000
	if err := server.ReloadOptions(&lower); err != nil {
		t.Fatal(err)
	}
	if err := first.Ack(t.Context()); err != nil {
		t.Fatal(err)
	}
	large := broker.OutgoingMessage{Name: name + ".large", Payload: bytes.Repeat([]byte("x"), 50_000)}
	ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
	defer cancel()
	began := time.Now()
	if err := b.JetStreamPublisher().Publish(ctx, large); err == nil {
		t.Error("a message above the limit was published")
	} else if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v to know that nobody confirms a message: %v", took, err)
	}
	told.await(t, broker.EventReconnected, 1)
	if err := b.JetStreamPublisher().Publish(ctx, large); !errors.Is(err, broker.ErrTooLarge) {
		t.Errorf("the same message when the limit is known: %v", err)
	}
	if err := b.Health(ctx); err != nil {
		t.Errorf("health afterwards: %v", err)
	}
	for what, sub := range map[string]broker.Subscription{"stream": sub, "core": core} {
		if _, err := sub.Receive(ctx); !errors.Is(err, broker.ErrNotConnected) {
			t.Errorf("Receive of the %s subscription of the old connection: %v", what, err)
		}
		if err := sub.Close(ctx); err != nil {
			t.Errorf("closing the %s subscription of the old connection: %v", what, err)
		}
	}
	if err := second.Ack(ctx); !errors.Is(err, broker.ErrStale) {
		t.Errorf("acknowledging what was in hand: %v", err)
	}
	again := subscribe(t, b, source)
	m := receive(t, again)
	if n := number(t, m.Payload()); n != 2 {
		t.Errorf("message %d comes again, want 2", n)
	}
	if err := m.Ack(ctx); err != nil {
		t.Error(err)
	}
	s.settled(t, name, "desk")
}

// The client has given up, and nobody is there to connect to. A broker that is told to
// does not try again; one that tries is shut down in time.
func TestShutdownWhenGivenUp(t *testing.T) {
	t.Parallel()
	for _, forever := range []bool{true, false} {
		t.Run(fmt.Sprintf("forever=%t", forever), func(t *testing.T) {
			t.Parallel()
			server, opts := startLimited(t, 100_000)
			p := beside(t, server.ClientURL()).proxy(t)
			with := []nats.Option{nats.ReconnectWait(time.Hour)}
			if !forever {
				with = append(with, nats.MaxReconnects(3))
			}
			b := nats.New(p.Addr(), with...)
			told := listen(b)
			if err := b.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			opts.MaxPayload = 10_000
			if err := server.ReloadOptions(&opts); err != nil {
				t.Fatal(err)
			}
			if err := p.SetUpstream("127.0.0.1:1"); err != nil {
				t.Fatal(err)
			}
			if err := b.Publisher().Publish(t.Context(), broker.OutgoingMessage{Name: "large", Payload: bytes.Repeat([]byte("x"), 50_000)}); err != nil {
				t.Errorf("a publish is buffered, and answers %v", err)
			}
			told.await(t, broker.EventDisconnected, 1)
			if err := b.Publisher().Publish(t.Context(), broker.OutgoingMessage{Name: "a"}); !errors.Is(err, broker.ErrNotConnected) {
				t.Errorf("a publish when the client has given up: %v", err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			began := time.Now()
			_ = b.Shutdown(ctx) // it cannot know what was lost
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("Shutdown took %v", took)
			}
		})
	}
}

// Many subscriptions are refused at once, while publishes are, too. Each is told.
func TestManyRefusedAtOnce(t *testing.T) {
	t.Parallel()
	deny := &natsd.SubjectPermission{Deny: []string{"secret.>"}}
	server, err := natsd.NewServer(&natsd.Options{
		Host: "127.0.0.1", Port: natsd.RANDOM_PORT, NoLog: true, NoSigs: true,
		Users: []*natsd.User{{Username: "desk", Password: "pass", Permissions: &natsd.Permissions{Publish: deny, Subscribe: deny}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	go server.Start()
	t.Cleanup(func() { server.Shutdown(); server.WaitForShutdown() })
	if !server.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server is not ready")
	}
	b := nats.New(server.ClientURL(), nats.UserPassword("desk", "pass"))
	connectBroker(t, b)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			_ = b.Publisher().Publish(t.Context(), broker.OutgoingMessage{Name: "secret.publish"})
			if _, err := b.Subscribe(t.Context(), fmt.Sprintf("secret.%d", i)); !errors.Is(err, natsgo.ErrPermissionViolation) {
				t.Errorf("subscription %d to what is forbidden: %v", i, err)
			}
			if _, err := b.Subscribe(t.Context(), fmt.Sprintf("open.%d", i)); err != nil {
				t.Errorf("subscription %d to what is allowed: %v", i, err)
			}
		})
	}
	all.Wait()
}

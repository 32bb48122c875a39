package nats_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
)

func TestPublishOptions(t *testing.T) {
	t.Parallel()
	for _, s := range []struct {
		name string
		open func(t *testing.T) *site
	}{{"embedded", embeddedSite}, {"server", serverSite}} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			at := s.open(t)
			b, js := at.broker(t), at.jetStream(t)
			name := at.stream(t, js, jetstream.StreamConfig{})
			pub := b.JetStreamPublisher()
			n := 0
			publish := func(subject string, o nats.PublishOptions, want error) {
				t.Helper()
				n++
				err := pub.Publish(t.Context(), broker.OutgoingMessage{Name: name + "." + subject, Payload: fmt.Appendf(nil, "%d", n), Options: o})
				if !errors.Is(err, want) || want == nil && err != nil {
					t.Errorf("publish %d: %v, want %v", n, err, want)
				}
			}
			stored := func(want uint64) {
				t.Helper()
				stream, err := js.Stream(t.Context(), name)
				if err != nil {
					t.Fatal(err)
				}
				if got := stream.CachedInfo().State.Msgs; got != want {
					t.Errorf("%d messages are stored, want %d", got, want)
				}
			}
			publish("a", nats.PublishOptions{ExpectLastSequence: new(uint64(0)), ExpectStream: name}, nil)
			publish("a", nats.PublishOptions{ExpectLastSequence: new(uint64(0))}, nats.ErrConflict)
			publish("a", nats.PublishOptions{ExpectLastSequence: new(uint64(1)), MsgID: "m"}, nil)
			publish("b", nats.PublishOptions{MsgID: "m"}, nil) // taken, and not stored again
			stored(2)
			publish("b", nats.PublishOptions{ExpectLastSubjectSequence: new(uint64(0)), ExpectLastMsgID: "m"}, nil)
			publish("b", nats.PublishOptions{ExpectLastSubjectSequence: new(uint64(0))}, nats.ErrConflict)
			publish("b", nats.PublishOptions{ExpectLastSubjectSequence: new(uint64(3))}, nil)
			publish("b", nats.PublishOptions{ExpectLastMsgID: "other"}, nats.ErrConflict)
			publish("b", nats.PublishOptions{ExpectStream: "OTHER"}, nats.ErrConflict)
			stored(4)
			// The stream does not allow it, or the server is too old to know it.
			publish("a", nats.PublishOptions{TTL: time.Minute}, broker.ErrInvalid)
			stored(4)
		})
	}
}

func TestTimeToLive(t *testing.T) {
	t.Parallel()
	at := embeddedSite(t)
	b, js := at.broker(t), at.jetStream(t)
	name := at.stream(t, js, jetstream.StreamConfig{AllowMsgTTL: true})
	if err := b.JetStreamPublisher().Publish(t.Context(), broker.OutgoingMessage{Name: name + ".a", Options: nats.PublishOptions{TTL: time.Hour}}); err != nil {
		t.Fatal(err)
	}
	sub, err := nats.Stream(name+".a", name).Subscribe(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	m, err := sub.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := m.(*nats.Message).Native("Nats-TTL"); got != "1h0m0s" {
		t.Errorf("the TTL is %q", got)
	}
}

// An old server is not asked: it would store the message for ever.
func TestTimeToLiveOnAnOldServer(t *testing.T) {
	t.Parallel()
	at := serverSite(t)
	if v := at.connect(t).ConnectedServerVersion(); !strings.HasPrefix(v, "2.9.") && !strings.HasPrefix(v, "2.10.") {
		t.Skipf("the server at NATS_URL is %s: it has TTLs", v)
	}
	b, js := at.broker(t), at.jetStream(t)
	name := at.stream(t, js, jetstream.StreamConfig{})
	err := b.JetStreamPublisher().Publish(t.Context(), broker.OutgoingMessage{Name: name + ".a", Options: nats.PublishOptions{TTL: time.Hour}})
	if !errors.Is(err, broker.ErrInvalid) || !strings.Contains(fmt.Sprint(err), "2.11") {
		t.Errorf("%v", err)
	}
}

func TestPublishRefused(t *testing.T) {
	t.Parallel()
	at := embeddedSite(t)
	b, js := at.broker(t, nats.ConfirmPublishes()), at.jetStream(t)
	name := at.stream(t, js, jetstream.StreamConfig{MaxMsgSize: 2000})
	for _, tt := range []struct {
		what string
		msg  broker.OutgoingMessage
		want error
	}{
		{"no stream", broker.OutgoingMessage{Name: "nobody.keeps.this"}, broker.ErrNotFound},
		{"above the server's limit", broker.OutgoingMessage{Name: name + ".a", Payload: make([]byte, 1<<20+1)}, broker.ErrTooLarge},
		{"above the stream's limit", broker.OutgoingMessage{Name: name + ".a", Payload: make([]byte, 3000)}, broker.ErrTooLarge},
		{"above the limit with headers", broker.OutgoingMessage{Name: name + ".a", Payload: make([]byte, 1<<20-10), Headers: broker.NewHeaders(broker.Header{Key: "a", Value: "b"})}, broker.ErrTooLarge},
		{"a name too long", broker.OutgoingMessage{Name: strings.Repeat("a", nats.MaxName+1)}, broker.ErrInvalid},
		{"the server's API", broker.OutgoingMessage{Name: "$JS.API.STREAM.DELETE." + name}, broker.ErrInvalid},
	} {
		if err := b.Publisher().Publish(t.Context(), tt.msg); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.what, err, tt.want)
		}
		err := broker.PublishBatch(t.Context(), b.Publisher(), []broker.OutgoingMessage{{Name: name + ".b"}, tt.msg, {Name: name + ".b"}})
		if errs := broker.BatchErrors(err, 3); errs[0] != nil || !errors.Is(errs[1], tt.want) || errs[2] != nil {
			t.Errorf("%s, in a batch: %v", tt.what, errs)
		}
	}
	if _, err := broker.Request(t.Context(), b.Publisher(), broker.OutgoingMessage{Name: "nobody.listens"}); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("a request to nobody: %v", err)
	}
	if _, err := broker.Request(t.Context(), b.JetStreamPublisher(), broker.OutgoingMessage{Name: name + ".a"}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a request into a stream: %v", err)
	}
}

// A batch that is larger than the window of the client is stored in its order.
func TestLargeBatch(t *testing.T) {
	t.Parallel()
	at := embeddedSite(t)
	b, js := at.broker(t), at.jetStream(t)
	name := at.stream(t, js, jetstream.StreamConfig{})
	msgs := make([]broker.OutgoingMessage, 6000)
	for i := range msgs {
		msgs[i] = broker.OutgoingMessage{Name: name + ".a", Payload: fmt.Appendf(nil, "%d", i)}
	}
	if err := broker.PublishBatch(t.Context(), b.JetStreamPublisher(), msgs); err != nil {
		t.Fatal(err)
	}
	sub, err := nats.Stream(name+".a", name).Ordered().Subscribe(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]broker.IncomingMessage, 500)
	for i := 0; i < len(msgs); {
		n, err := broker.ReceiveBatch(t.Context(), sub, dst)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range dst[:n] {
			if !bytes.Equal(m.Payload(), msgs[i].Payload) || m.(*nats.OrderedMessage).Sequence() != uint64(i+1) {
				t.Fatalf("message %d is %q", i, m.Payload())
			}
			i++
		}
	}
}

// A reply to an inbox goes through no stream.
func TestReplyFromAStream(t *testing.T) {
	t.Parallel()
	at := embeddedSite(t)
	b := at.broker(t)
	nc := at.connect(t)
	inbox := nc.NewInbox()
	replies, err := nc.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for i, publish := range []func() error{
		func() error {
			return b.JetStreamPublisher().Publish(t.Context(), broker.OutgoingMessage{Name: inbox})
		},
		func() error {
			return broker.PublishBatch(t.Context(), b.JetStreamPublisher(), []broker.OutgoingMessage{{Name: inbox}})
		},
	} {
		if err := publish(); err != nil {
			t.Errorf("publish %d: %v", i, err)
		}
		if _, err := replies.NextMsgWithContext(t.Context()); err != nil {
			t.Errorf("reply %d: %v", i, err)
		}
	}
}

func TestFromConn(t *testing.T) {
	t.Parallel()
	at := embeddedSite(t)
	nc := at.connect(t)
	b := nats.FromConn(nc)
	if err := b.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	sub, err := b.Subscribe(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Publisher().Publish(t.Context(), broker.OutgoingMessage{Name: "a", Payload: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if m, err := sub.Receive(t.Context()); err != nil || string(m.Payload()) != "x" {
		t.Errorf("received %v, %v", m, err)
	}
	waits := make(chan error, 1)
	go func() {
		_, err := sub.Receive(context.Background())
		waits <- err
	}()
	if err := b.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-waits; !errors.Is(err, broker.ErrClosed) {
		t.Errorf("a Receive that waited at Shutdown: %v", err)
	}
	if nc.IsClosed() || nc.NumSubscriptions() > 1 { // the one of requests belongs to the connection
		t.Errorf("the connection is closed: %v, it has %d subscriptions", nc.IsClosed(), nc.NumSubscriptions())
	}
	if err := nc.Flush(); err != nil {
		t.Errorf("the program's connection: %v", err)
	}
	closed, err := natsgo.Connect(at.direct, natsgo.UserInfo(at.user, at.password))
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	if err := nats.FromConn(closed).Connect(t.Context()); err == nil {
		t.Error("a closed connection connects")
	}
}

// Whatever prefix the asker's client has, its inbox is one.
func TestReplyToAnotherPrefix(t *testing.T) {
	t.Parallel()
	at := embeddedSite(t)
	b := at.broker(t, nats.ConfirmPublishes(), nats.InboxPrefix("mine"))
	for _, prefix := range []string{"_INBOX.x", "_team.x", "mine.x"} {
		if err := b.Publisher().Publish(t.Context(), broker.OutgoingMessage{Name: prefix}); err != nil {
			t.Errorf("a reply to %s: %v", prefix, err)
		}
	}
	for _, name := range []string{"team.x", "mine", "minecraft.x"} {
		if err := b.Publisher().Publish(t.Context(), broker.OutgoingMessage{Name: name}); !errors.Is(err, broker.ErrNotFound) {
			t.Errorf("%s, which no stream takes: %v", name, err)
		}
	}
}

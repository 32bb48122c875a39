package nats_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
)

// What exists with other settings is an error that says what differs, and nothing is
// changed.
func TestTopologyIsNeverAltered(t *testing.T) {
	t.Parallel()
	for _, s := range []struct {
		name string
		open func(t *testing.T) *site
	}{{"embedded", embeddedSite}, {"server", serverSite}} {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			at := s.open(t)
			b, js := at.broker(t), at.jetStream(t)
			name := at.stream(t, js, jetstream.StreamConfig{MaxMsgs: 100, Duplicates: time.Minute})
			src := nats.Stream(name+".a", name)
			tune := jetstream.ConsumerConfig{Durable: "tuned", AckPolicy: jetstream.AckExplicitPolicy, FilterSubject: name + ".a", MaxAckPending: 5, MaxDeliver: 3, BackOff: []time.Duration{time.Second}}
			push := jetstream.ConsumerConfig{Durable: "push", DeliverSubject: "push." + name, FilterSubject: name + ".a", AckPolicy: jetstream.AckExplicitPolicy}
			none := jetstream.ConsumerConfig{Durable: "none", FilterSubject: name + ".a", AckPolicy: jetstream.AckNonePolicy}
			for _, config := range []jetstream.ConsumerConfig{tune, none} {
				if _, err := js.CreateConsumer(t.Context(), name, config); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := js.CreatePushConsumer(t.Context(), name, push); err != nil {
				t.Fatal(err)
			}
			memory := at.stream(t, js, jetstream.StreamConfig{Storage: jetstream.MemoryStorage})
			noAck := at.stream(t, js, jetstream.StreamConfig{NoAck: true})
			for _, tt := range []struct {
				name string
				src  nats.StreamSource
				kind error
				says []string
			}{
				{"no stream", nats.Stream("a", name+"x"), broker.ErrNotFound, []string{"there is no stream", name + "x", "create it on the server, or have the source do it with Create"}},
				{"another subject", nats.Stream("elsewhere", name), broker.ErrInvalid, []string{"keeps nothing of \"elsewhere\"", name + ".>"}},
				{"in memory", nats.Stream(memory+".a", memory), broker.ErrInvalid, []string{"keeps its messages in memory", "InMemory"}},
				{"no acknowledgements of publishes", nats.Stream(noAck+".a", noAck), broker.ErrInvalid, []string{"NoAck"}},
				{"a stream with other settings", src.Create(jetstream.StreamConfig{Subjects: []string{name + ".>", "more"}, MaxMsgs: 7, Retention: jetstream.WorkQueuePolicy}), broker.ErrInvalid, []string{"max_msgs = 100, the source wants 7", `retention = "limits", the source wants "workqueue"`, `does not keep the subject "more"`}},
				{"a tuned consumer", src.Durable("tuned"), broker.ErrInvalid, []string{"ack_wait = 1000000000, the source wants 30000000000", "max_ack_pending = 5, the source wants 1000", "max_deliver = 3, the source wants -1", "BackOff", "nothing was changed"}},
				{"another filter", src.FilterSubjects(name + ".b").Durable("tuned"), broker.ErrInvalid, []string{"filters by", name + ".a", name + ".b"}},
				{"another start", src.Durable("tuned").DeliverPolicy(jetstream.DeliverNewPolicy), broker.ErrInvalid, []string{"the deliver policy all, the source new"}},
				{"pushed", src.Durable("push"), broker.ErrInvalid, []string{"pushes its messages"}},
				{"without acknowledgements", src.Durable("none"), broker.ErrInvalid, []string{`ack_policy = "none", the source wants "explicit"`}},
			} {
				sub, err := tt.src.Subscribe(t.Context(), b)
				if sub != nil || !errors.Is(err, tt.kind) {
					t.Errorf("%s: %v, want %v", tt.name, err, tt.kind)
				}
				for _, want := range tt.says {
					if !strings.Contains(fmt.Sprint(err), want) {
						t.Errorf("%s: %q is not in %v", tt.name, want, err)
					}
				}
			}
			stream, err := js.Stream(t.Context(), name)
			if err != nil || stream.CachedInfo().Config.MaxMsgs != 100 {
				t.Errorf("the stream is now %+v, %v", stream.CachedInfo().Config, err)
			}
			c, err := js.Consumer(t.Context(), name, "tuned")
			if err != nil || c.CachedInfo().Config.MaxAckPending != 5 {
				t.Errorf("the consumer is now %+v, %v", c.CachedInfo().Config, err)
			}
			if _, err := js.Stream(t.Context(), name+"x"); !errors.Is(err, jetstream.ErrStreamNotFound) {
				t.Errorf("a stream that was not asked for: %v", err)
			}
			if _, err := nats.Stream(memory+".a", memory).InMemory().Subscribe(t.Context(), b); err != nil {
				t.Errorf("in memory, as is said: %v", err)
			}
		})
	}
}

// Create makes the stream where there is none, several at once make one, and whoever
// comes later finds it as it is.
func TestCreate(t *testing.T) {
	t.Parallel()
	at := embeddedSite(t)
	js := at.jetStream(t)
	src := nats.Stream("made.>", "MADE").Create(jetstream.StreamConfig{Duplicates: time.Minute, Metadata: map[string]string{"of": "test"}, MaxAge: time.Hour}).Durable("d")
	const n = 4
	done := make(chan error, n)
	for range n {
		b := at.broker(t)
		go func() {
			_, err := src.Subscribe(context.Background(), b)
			done <- err
		}()
	}
	for range n {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	stream, err := js.Stream(t.Context(), "MADE")
	if err != nil {
		t.Fatal(err)
	}
	if c := stream.CachedInfo().Config; c.MaxAge != time.Hour || len(c.Subjects) != 1 || c.Subjects[0] != "made.>" {
		t.Errorf("made: %+v", c)
	}
}

// A consumer without a durable name goes with its subscription, one with a name stays.
func TestConsumersOfTheirOwn(t *testing.T) {
	t.Parallel()
	at := embeddedSite(t)
	b, js := at.broker(t), at.jetStream(t)
	name := at.stream(t, js, jetstream.StreamConfig{})
	for src, want := range map[string]int{"durable": 1, "own": 0, "reader": 0} {
		s := nats.Stream(name+".>", name)
		switch src {
		case "durable":
			s = s.Durable("d")
		case "reader":
			s = s.Ordered()
		}
		sub, err := s.Subscribe(t.Context(), b)
		if err != nil {
			t.Fatal(err)
		}
		if err := sub.Close(t.Context()); err != nil {
			t.Errorf("%s: Close: %v", src, err)
		}
		stream, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if got := stream.CachedInfo().State.Consumers; got != want {
			t.Errorf("%s: %d consumers are left, want %d", src, got, want)
		}
		if want == 1 {
			if err := js.DeleteConsumer(t.Context(), name, "d"); err != nil {
				t.Error(err)
			}
		}
	}
}

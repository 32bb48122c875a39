package kafka_test

import (
	"context"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
)

// A tool reads what a group has committed, and writes it back with another offset and the
// metadata as it was, as kadm does by itself and mirrors of clusters do. What was settled
// above the old offset says nothing of the new one: nothing is passed over.
func TestMetadataOfAnotherOffset(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	topic := s.topic(t, 1)
	src := kafka.Topic(topic).Group(topic).LeaveTimeout(0)
	const n, stuck, moved = 20, 10, 2

	first := kafka.New(s.brokers, s.options()...)
	if err := first.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := first.Publisher().Publish(t.Context(), broker.OutgoingMessage{Name: topic, Payload: []byte(strconv.Itoa(i))}); err != nil {
			t.Fatal(err)
		}
	}
	sub, err := src.Subscribe(t.Context(), first)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		m, err := sub.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if i != stuck {
			if err := m.Ack(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := first.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}

	offsets, err := s.admin.FetchOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	o := offsets[topic][0]
	if o.At != stuck || o.Metadata == "" {
		t.Fatalf("the group has committed %d with %q", o.At, o.Metadata)
	}
	o.At = moved
	offsets[topic][0] = o
	if err := s.admin.CommitAllOffsets(t.Context(), topic, offsets.Offsets()); err != nil {
		t.Fatal(err)
	}

	sub, err = src.Subscribe(t.Context(), s.broker(t))
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for i := moved; i < n; i++ {
		want = append(want, strconv.Itoa(i))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for len(got) < len(want) {
		m, err := sub.Receive(ctx)
		if err != nil {
			t.Fatalf("%v, after %v; want %v", err, got, want)
		}
		got = append(got, string(m.Payload()))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

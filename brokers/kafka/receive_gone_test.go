package kafka_test

import (
	"errors"
	"testing"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
)

// TestTopicIsDeleted: a topic that goes away is noticed, not waited for.
func TestTopicIsDeleted(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	for _, c := range []struct {
		name   string
		source func(topic string) broker.Source
	}{
		{"group", func(topic string) broker.Source { return kafka.Topic(topic).Group("g") }},
		{"auto-commit", func(topic string) broker.Source { return kafka.Topic(topic).Group("a").AutoCommit() }},
		{"reader", func(topic string) broker.Source { return kafka.Partitions(topic, 0) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := kafka.New(s.brokers, s.options()...)
			lost := make(chan broker.Event, 8)
			b.Notify(func(e broker.Event) {
				if e.Kind == broker.EventSubscriptionLost {
					lost <- e
				}
			})
			if err := b.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := b.Shutdown(t.Context()); err != nil {
					t.Error(err)
				}
			}()
			topic := s.topic(t, 1)
			sub, err := c.source(topic).Subscribe(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Publisher().Publish(t.Context(), broker.OutgoingMessage{Name: topic}); err != nil {
				t.Fatal(err)
			}
			if _, err := sub.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, err := s.admin.DeleteTopics(t.Context(), topic); err != nil {
				t.Fatal(err)
			}
			if _, err := sub.Receive(t.Context()); !errors.Is(err, broker.ErrNotFound) {
				t.Errorf("Receive answers %v, want broker.ErrNotFound", err)
			}
			if e := <-lost; e.Name != topic || !errors.Is(e.Err, broker.ErrNotFound) {
				t.Errorf("told of %+v", e)
			}
		})
	}
}

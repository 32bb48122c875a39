package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gostream/gostream/broker"
)

var (
	_ broker.Source          = PartitionsSource{}
	_ broker.SourceDescriber = PartitionsSource{}
	_ broker.Matcher         = PartitionsSource{}
)

// Partitions is the source that reads some partitions of a topic without a group: for a
// reader that builds something from it. It has no acknowledgements, and its position is
// gone with the subscription: the next one begins anew. A topic or partition that does not
// exist is broker.ErrNotFound.
func Partitions(topic string, partitions ...int32) PartitionsSource {
	return PartitionsSource{topic: topic, partitions: slices.Clone(partitions)}
}

// PartitionsSource reads partitions without a group. Make one with [Partitions]. It is a
// value: its methods return changed copies.
type PartitionsSource struct {
	topic      string
	partitions []int32
	start      start
}

// FromEarliest begins with the oldest message there is. It is the default.
func (s PartitionsSource) FromEarliest() PartitionsSource {
	s.start = start{at: earliest}
	return s
}

// FromLatest begins with what is published after Subscribe has returned.
func (s PartitionsSource) FromLatest() PartitionsSource {
	s.start = start{at: latest}
	return s
}

// FromTime begins with what has the timestamp t or a later one. A time before 1970 is a
// mistake that Check reports.
func (s PartitionsSource) FromTime(t time.Time) PartitionsSource {
	s.start = start{at: atTime, time: t}
	return s
}

// Name is the topic.
func (s PartitionsSource) Name() string { return s.topic }

// Check reports every mistake in the description, and a broker that is not a *Broker; each
// is broker.ErrInvalid.
func (s PartitionsSource) Check(b broker.Broker) error {
	var m mistakes
	m.add(checkTopic(s.topic))
	if len(s.partitions) == 0 {
		m.add(errors.New("there is no partition: name those to read, such as kafka.Partitions(topic, 0, 1)"))
	}
	for i, p := range s.partitions {
		if p < 0 {
			m.add(fmt.Errorf("the partition %d is negative", p))
		}
		if slices.Contains(s.partitions[:i], p) {
			m.add(fmt.Errorf("the partition %d is there twice", p))
		}
	}
	m.add(s.start.check())
	return m.of(s, s.topic, b)
}

// Spec describes the source.
func (s PartitionsSource) Spec() broker.SourceSpec {
	return broker.SourceSpec{
		Properties: broker.Properties{
			Persistent:   true,
			Ordered:      len(s.partitions) == 1,
			OrderedByKey: true,
			Keys:         broker.KeysNative,
			Backlog:      s.start.at == earliest,

			SerialTransactions: true,
		},
		Bindings: map[string]any{kindOfBroker: map[string]any{
			"channel": map[string]any{"bindingVersion": bindingVersion, "topic": s.topic},
		}},
	}
}

// Match reports whether name is the topic. A message of another of its partitions does not
// arrive all the same.
func (s PartitionsSource) Match(name string) bool { return name == s.topic }

// Subscribe opens a reader. A ctx without a deadline gets one of 30 s.
func (s PartitionsSource) Subscribe(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
	if err := s.Check(b); err != nil {
		return nil, err
	}
	return b.(*Broker).subscribePartitions(ctx, s)
}

// String returns the call that makes the source.
func (s PartitionsSource) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "kafka.Partitions(%s", broker.Quote(s.topic))
	for _, p := range s.partitions {
		fmt.Fprintf(&text, ", %d", p)
	}
	text.WriteByte(')')
	return text.String()
}

package kafka

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/gostream/gostream/broker"
)

// PartitionStatus is how it stands with one partition of a subscription.
type PartitionStatus struct {
	// Source and Group are those of the subscription; Group is "" for a reader.
	Source, Group string
	// Topic and Partition name the partition.
	Topic     string
	Partition int32
	// Position is the offset that is handed out next; -1 while it is not known.
	Position int64
	// Committed is the offset that the group has committed, from which on a crash repeats;
	// -1 for none.
	Committed int64
	// End is the offset behind the last message; -1 where it could not be found out.
	End int64
	// Lag is how many messages wait: from Position to End. Offsets that no message has,
	// in compacted topics and where transactions ended, count as messages. 0 where End or
	// Position is not known.
	Lag int64
	// Uncommitted is how many messages were handed out from the first that is not settled
	// on, and Unsettled how many of them are out now.
	Uncommitted, Unsettled int
	// Paused says that Uncommitted has reached the source's MaxUncommitted.
	Paused bool
}

// PartitionStatus returns how it stands with every partition of every subscription of this
// broker, by source, topic and partition. It asks the brokers for the ends of the
// partitions. A ctx without a deadline gets one of 30 s.
func (b *Broker) PartitionStatus(ctx context.Context) ([]PartitionStatus, error) {
	c, err := b.enter("status", "")
	if err != nil {
		return nil, err
	}
	defer b.life.leave()
	ctx, cancel := withDefault(ctx, broker.DefaultTimeout)
	defer cancel()
	var list []PartitionStatus
	for _, s := range b.subscriptions() {
		list = append(list, s.partitions()...)
	}
	if err := c.addEnds(ctx, list); err != nil {
		return nil, b.fail("status", "", err)
	}
	slices.SortStableFunc(list, func(x, y PartitionStatus) int {
		if c := strings.Compare(x.Source, y.Source); c != 0 {
			return c
		}
		if c := strings.Compare(x.Topic, y.Topic); c != 0 {
			return c
		}
		return int(x.Partition) - int(y.Partition)
	})
	return list, nil
}

// addEnds adds what the brokers know.
func (c *connection) addEnds(ctx context.Context, list []PartitionStatus) error {
	var topics []string
	for i := range list {
		if !slices.Contains(topics, list[i].Topic) {
			topics = append(topics, list[i].Topic)
		}
	}
	if len(topics) == 0 {
		return nil
	}
	var ends kadm.ListedOffsets
	ends, err := c.admin.ListCommittedOffsets(ctx, topics...)
	if err != nil {
		return err
	}
	for i := range list {
		st := &list[i]
		end, ok := ends.Lookup(st.Topic, st.Partition)
		if !ok || end.Err != nil {
			continue
		}
		st.End = end.Offset
		if st.Position >= 0 {
			st.Lag = max(st.End-st.Position, 0)
		}
	}
	return nil
}

// lag is the sum over partitions.
func (b *Broker) lag(ctx context.Context, name string, of func() []PartitionStatus) (int64, error) {
	c, err := b.enter("lag", name)
	if err != nil {
		return 0, err
	}
	defer b.life.leave()
	ctx, cancel := withDefault(ctx, broker.DefaultTimeout)
	defer cancel()
	list := of()
	if err := c.addEnds(ctx, list); err != nil {
		return 0, b.fail("lag", name, err)
	}
	var sum int64
	for i := range list {
		if list[i].End < 0 {
			return 0, b.fail("lag", name, fmt.Errorf("the end of partition %d of %s is not known", list[i].Partition, list[i].Topic))
		}
		sum += list[i].Lag
	}
	return sum, nil
}

// Lag is how many messages wait in the partitions that the subscription has, see
// [PartitionStatus].
func (s *trackedSubscription) Lag(ctx context.Context) (int64, error) {
	return s.b.lag(ctx, s.src.Name(), s.partitions)
}

func (s *trackedSubscription) partitions() []PartitionStatus {
	parts := s.all()
	list := make([]PartitionStatus, len(parts))
	for i, p := range parts {
		list[i] = p.status()
		list[i].Source, list[i].Group = s.src.Name(), s.group
	}
	return list
}

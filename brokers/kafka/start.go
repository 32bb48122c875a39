package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// start is where reading begins where the group has committed nothing yet.
type start struct {
	at   startAt
	time time.Time
}

type startAt int

const (
	earliest startAt = iota
	latest
	atTime
)

func (s start) check() error {
	if s.at == atTime && s.time.UnixMilli() < 0 {
		return errors.New("the start time is before 1970: use FromTime with a later one, or FromEarliest")
	}
	return nil
}

// list returns the offsets of the start in the topics.
func (s start) list(ctx context.Context, admin *kadm.Client, topics ...string) (kadm.ListedOffsets, error) {
	switch s.at {
	case latest:
		return admin.ListEndOffsets(ctx, topics...)
	case atTime:
		return admin.ListOffsetsAfterMilli(ctx, s.time.UnixMilli(), topics...)
	default:
		return admin.ListStartOffsets(ctx, topics...)
	}
}

// resolve returns the offsets of the start for some partitions of topics. What is not in
// known, by topic the number of partitions when the subscription began, is newer than the
// subscription: it is read from its beginning whatever the start.
func (s start) resolve(ctx context.Context, c *connection, wanted map[string][]int32, known map[string]int32) (map[string]map[int32]kgo.EpochOffset, error) {
	found := make(map[string]map[int32]kgo.EpochOffset, len(wanted))
	var old, young []string
	for topic, partitions := range wanted {
		found[topic] = make(map[int32]kgo.EpochOffset, len(partitions))
		hasOld, hasYoung := false, false
		for _, p := range partitions {
			hasOld, hasYoung = hasOld || p < known[topic], hasYoung || p >= known[topic]
		}
		if hasOld {
			old = append(old, topic)
		}
		if hasYoung {
			young = append(young, topic)
		}
	}
	take := func(s start, topics []string, isYoung bool) error {
		if len(topics) == 0 {
			return nil
		}
		listed, err := s.list(ctx, c.admin, topics...)
		if err != nil {
			return err
		}
		for _, topic := range topics {
			for _, p := range wanted[topic] {
				if p >= known[topic] != isYoung {
					continue
				}
				o, ok := listed.Lookup(topic, p)
				switch {
				case !ok:
					return fmt.Errorf("the broker did not say where partition %d of %s begins", p, topic)
				case o.Err != nil:
					return fmt.Errorf("partition %d of %s: %w", p, topic, o.Err)
				}
				found[topic][p] = kgo.EpochOffset{Epoch: -1, Offset: o.Offset}
			}
		}
		return nil
	}
	if len(young) > 0 {
		// The client may remember that they do not exist.
		if err := c.refresh(ctx, young); err != nil {
			return nil, err
		}
	}
	if err := take(s, old, false); err != nil {
		return nil, err
	}
	if err := take(start{}, young, true); err != nil {
		return nil, err
	}
	return found, nil
}

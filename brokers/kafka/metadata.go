package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// askFor is the question for topics, nil for all that there are.
func askFor(topics []string) *kmsg.MetadataRequest {
	req := kmsg.NewPtrMetadataRequest()
	if topics != nil {
		req.Topics = []kmsg.MetadataRequestTopic{}
	}
	for _, topic := range topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(topic)
		req.Topics = append(req.Topics, t)
	}
	return req
}

// describe asks the cluster for topics, nil for all that there are, and returns how many
// partitions each has. A topic that does not exist is not in the result; one that cannot be
// read is an error.
func (c *connection) describe(ctx context.Context, topics []string) (map[string]int32, error) {
	resp, err := askFor(topics).RequestWith(ctx, c.producer)
	if err != nil {
		return nil, err
	}
	found := make(map[string]int32, len(resp.Topics))
	for _, t := range resp.Topics {
		err := kerr.ErrorForCode(t.ErrorCode)
		switch {
		case errors.Is(err, kerr.UnknownTopicOrPartition), t.Topic == nil:
			continue
		case err != nil && !kerr.IsRetriable(err): // one that is new may have no leader yet
			return nil, fmt.Errorf("the topic %s: %w", *t.Topic, err)
		}
		found[*t.Topic] = int32(len(t.Partitions))
	}
	return found, nil
}

// goneTimeout bounds the question whether a topic is gone.
const goneTimeout = 2 * time.Second

// isGone reports that the topic no longer exists.
func (c *connection) isGone(ctx context.Context, topic string) bool {
	ctx, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	found, err := c.describe(ctx, []string{topic})
	return err == nil && len(found) == 0
}

// missing returns those of topics that are not in found.
func missing(topics []string, found map[string]int32) []string {
	return slices.DeleteFunc(slices.Clone(topics), func(topic string) bool {
		_, ok := found[topic]
		return ok
	})
}

// refresh has the client look anew at the topics.
func (c *connection) refresh(ctx context.Context, topics []string) error {
	_, err := c.producer.RequestCachedMetadata(ctx, askFor(topics), time.Nanosecond)
	return err
}

var errNoLeader = errors.New("the partition has no leader")

// locate finds the leader of a partition, from what the client knows where that is fresh.
func (c *connection) locate(ctx context.Context, topic string, partition int32) (id [16]byte, leader int32, err error) {
	resp, err := c.producer.RequestCachedMetadata(ctx, askFor([]string{topic}), 0)
	if err != nil {
		return id, -1, err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if t.Topic != nil && *t.Topic == topic && p.Partition == partition && p.Leader >= 0 {
				return t.TopicID, p.Leader, nil
			}
		}
	}
	return id, -1, errNoLeader
}

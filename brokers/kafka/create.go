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

// TopicConfig describes a topic that [TopicSource.Create] makes. The zero value is the
// brokers' own defaults.
type TopicConfig struct {
	// Partitions is the number of partitions; 0 is the brokers' default.
	Partitions int32
	// ReplicationFactor is how many brokers have each partition; 0 is the brokers' default.
	ReplicationFactor int16
	// Configs are settings of the topic, such as "retention.ms"; nil for none.
	Configs map[string]string
}

func (t *TopicConfig) check() error {
	if t == nil {
		return nil
	}
	var m mistakes
	if t.Partitions < 0 {
		m.add(fmt.Errorf("Create with %d partitions: 0 is the brokers' default", t.Partitions))
	}
	if t.ReplicationFactor < 0 {
		m.add(fmt.Errorf("Create with the replication factor %d: 0 is the brokers' default", t.ReplicationFactor))
	}
	if _, ok := t.Configs[""]; ok {
		m.add(errors.New("Create has a setting without a name"))
	}
	return errors.Join(m...)
}

// create makes those of the topics that do not exist. Those that do stay as they are.
func (c *connection) create(ctx context.Context, t *TopicConfig, topics []string) error {
	partitions, replicas := t.Partitions, t.ReplicationFactor
	if partitions == 0 {
		partitions = -1
	}
	if replicas == 0 {
		replicas = -1
	}
	configs := make(map[string]*string, len(t.Configs))
	for key, value := range t.Configs {
		configs[key] = &value
	}
	made, err := c.admin.CreateTopics(ctx, partitions, replicas, configs, topics...)
	if err != nil {
		return err
	}
	for topic, r := range made {
		if r.Err != nil && !errors.Is(r.Err, kerr.TopicAlreadyExists) {
			if r.ErrMessage != "" {
				return fmt.Errorf("creating the topic %s: %w: %s", topic, r.Err, r.ErrMessage)
			}
			return fmt.Errorf("creating the topic %s: %w", topic, r.Err)
		}
	}
	return nil
}

// describe asks the cluster for topics, nil for all that there are, and returns how many
// partitions each has. A topic that does not exist is not in the result; one that cannot be
// read is an error.
func (c *connection) describe(ctx context.Context, topics []string) (map[string]int32, error) {
	req := kmsg.NewPtrMetadataRequest()
	if topics != nil {
		req.Topics = []kmsg.MetadataRequestTopic{}
	}
	for _, topic := range topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(topic)
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, c.producer)
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
func (c *connection) isGone(topic string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), goneTimeout)
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

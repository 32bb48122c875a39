package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
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

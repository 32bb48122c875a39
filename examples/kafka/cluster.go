package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream/brokers/kafka"
)

// cluster is where the messages are: in this process, or elsewhere.
type cluster struct {
	config
	addresses string
	own       *kfake.Cluster // nil for one elsewhere
	admin     *kadm.Client
}

// The topics and their partitions. Of the orders there are as many as may be handled by
// different processes at once.
const (
	orderPartitions        = 6
	confirmationPartitions = 3
	deadPartitions         = 1
)

// open starts a cluster in this process, unless there is one elsewhere, and makes those of
// the topics that do not exist.
func open(ctx context.Context, c config) (*cluster, error) {
	k := &cluster{config: c, addresses: c.brokers}
	if k.addresses == "" {
		own, err := kfake.NewCluster(kfake.NumBrokers(1))
		if err != nil {
			return nil, err
		}
		k.own, k.addresses = own, strings.Join(own.ListenAddrs(), ",")
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(k.addresses, ",")...))
	if err == nil {
		k.admin = kadm.NewClient(client)
		err = k.create(ctx)
	}
	if err != nil {
		k.close()
		return nil, err
	}
	return k, nil
}

// broker returns the broker.
func (k *cluster) broker() *kafka.Broker {
	return kafka.New(k.addresses, kafka.ClientOptions(
		kgo.SessionTimeout(k.session), // how long the next run waits for one that was killed
		kgo.HeartbeatInterval(k.session/3),
	))
}

func (k *cluster) create(ctx context.Context) error {
	for topic, partitions := range map[string]int32{
		k.prefix + ".orders":        orderPartitions,
		k.prefix + ".confirmations": confirmationPartitions,
		k.prefix + ".dead":          deadPartitions,
	} {
		if _, err := k.admin.CreateTopic(ctx, partitions, -1, nil, topic); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("creating %s: %w", topic, err)
		}
	}
	// A cluster of several brokers takes a moment until all of them know.
	for {
		found, err := k.admin.ListTopics(ctx, k.topics()...)
		if err == nil {
			err = found.Error()
		}
		if err == nil || !kerr.IsRetriable(err) {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

func (k *cluster) topics() []string {
	return []string{k.prefix + ".orders", k.prefix + ".confirmations", k.prefix + ".dead"}
}

// remove removes the topics and the group: with the last order done there is nothing to go
// on with.
func (k *cluster) remove(ctx context.Context) error {
	groups, err := k.admin.DeleteGroups(ctx, k.prefix)
	if err == nil {
		err = groups.Error()
	}
	topics, topicsErr := k.admin.DeleteTopics(ctx, k.topics()...)
	if topicsErr == nil {
		topicsErr = topics.Error()
	}
	return errors.Join(err, topicsErr)
}

// close ends the cluster, if it is in this process.
func (k *cluster) close() {
	if k.admin != nil {
		k.admin.Close()
	}
	if k.own != nil {
		k.own.Close()
	}
}

package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream/brokers/kafka"
)

// kafkaSite is the cluster that the loops of a group share, and the client that feeds
// them.
type kafkaSite struct {
	brokers []string
	cluster *kfake.Cluster // nil where the cluster is another's
	feed    *kgo.Client
	admin   *kadm.Client
	prefix  string
	names   int
}

// openKafka starts a cluster in the process, unless it gets the addresses of one, with
// commas between them. The options are those of a cluster that is started.
func openKafka(brokers string, opts ...kfake.Opt) (*kafkaSite, error) {
	s := &kafkaSite{prefix: "bench-" + rand.Text()[:8]}
	if brokers != "" {
		s.brokers = strings.Split(brokers, ",")
	} else {
		cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
		if err != nil {
			return nil, err
		}
		s.cluster, s.brokers = cluster, cluster.ListenAddrs()
	}
	var err error
	s.feed, err = s.client(
		kgo.ProducerBatchCompression(kgo.NoCompression()), // what the feed costs shall be little
		kgo.MaxBufferedRecords(1<<16),
	)
	if err != nil {
		s.close()
		return nil, err
	}
	s.admin = kadm.NewClient(s.feed)
	return s, nil
}

func (s *kafkaSite) close() {
	if s.feed != nil {
		s.feed.Close()
	}
	if s.cluster != nil {
		s.cluster.Close()
	}
}

func (s *kafkaSite) where() string {
	if s.cluster == nil {
		return "a Kafka cluster of its own"
	}
	return "kfake in this process"
}

func (s *kafkaSite) fresh() string {
	s.names++
	return fmt.Sprintf("%s-%d", s.prefix, s.names)
}

// client makes a client. The options are the same for all loops: those that the module
// sets by itself.
func (s *kafkaSite) client(more ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(s.brokers...),
		kgo.MetadataMinAge(kafka.DefaultMetadataMinAge),
		kgo.ProducerLinger(0),
		kgo.UnknownTopicRetries(2),
		kgo.SessionTimeout(kafka.DefaultSessionTimeout),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	}, more...)...)
}

// topic makes a topic with one partition, and ways to empty and to remove it.
func (s *kafkaSite) topic() (name string, empty func(context.Context) error, drop func() error, err error) {
	name = s.fresh()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if _, err = s.admin.CreateTopic(ctx, 1, 1, nil, name); err != nil {
		return "", nil, nil, err
	}
	empty = func(ctx context.Context) error {
		end, err := s.end(ctx, name)
		if err != nil || end == 0 {
			return err
		}
		offsets := kadm.Offsets{}
		offsets.AddOffset(name, 0, end, -1)
		gone, err := s.admin.DeleteRecords(ctx, offsets)
		if err != nil {
			return err
		}
		return gone.Error()
	}
	drop = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		_, err := s.admin.DeleteTopic(ctx, name)
		return err
	}
	return name, empty, drop, nil
}

// end is the offset behind the last message of a topic: how many it has had.
func (s *kafkaSite) end(ctx context.Context, topic string) (int64, error) {
	ends, err := s.admin.ListEndOffsets(ctx, topic)
	if err != nil {
		return 0, err
	}
	end, ok := ends.Lookup(topic, 0)
	if !ok {
		return 0, fmt.Errorf("topic %s has no end", topic)
	}
	return end.Offset, end.Err
}

// committed returns when the group has committed all that the topic has.
func (s *kafkaSite) committed(group, topic string) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	end, err := s.end(ctx, topic)
	if err != nil {
		return err
	}
	for {
		at, err := s.admin.FetchOffsets(ctx, group)
		if err != nil {
			return err
		}
		o, _ := at.Lookup(topic, 0)
		if o.Err == nil && o.At == end {
			return nil
		}
		if !pause(ctx, 10*time.Millisecond) {
			return errors.Join(fmt.Errorf("topic %s ends at %d, committed is %d", topic, end, o.At), o.Err)
		}
	}
}

// publish is the feed: what publishes for the loops that consume. The client keeps a
// payload until it was sent, so each is one of its own.
func (s *kafkaSite) publish(topic string, p probe, t traffic) func(i int) error {
	ctx := context.Background()
	sent := func(_ *kgo.Record, err error) {
		if err != nil {
			p.fail(err)
		}
	}
	return func(i int) error {
		s.feed.Produce(ctx, &kgo.Record{Topic: topic, Value: bytes.Clone(t.payload(i))}, sent)
		return nil
	}
}

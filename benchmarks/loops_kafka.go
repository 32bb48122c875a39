package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
)

// The loops of Kafka: a group of its own on a topic of one partition, commits at the same
// interval, each message marked when it was handled.

// polled is how many records the raw loop takes at once: as many as the module.
const polled = 512

// kafkaLoop starts a loop on topic; it has its partition before it returns. stop has
// committed what was acknowledged.
type kafkaLoop func(s *kafkaSite, topic, group string, w work, p probe) (stop func() error, err error)

// kafkaWith is a rig whose messages that loop consumes.
func kafkaWith(s *kafkaSite, w work, run kafkaLoop) func(probe, traffic) (*rig, error) {
	return func(p probe, t traffic) (*rig, error) {
		topic, empty, drop, err := s.topic()
		if err != nil {
			return nil, err
		}
		group := s.fresh()
		stop, err := run(s, topic, group, w, p)
		if err != nil {
			return nil, errors.Join(err, drop())
		}
		return &rig{send: s.publish(topic, p, t), ready: empty, stop: func() error {
			err := stop()
			if err == nil {
				err = s.committed(group, topic)
			}
			return errors.Join(err, drop())
		}}, nil
	}
}

// rawKafka is the client's own loop: poll, handle, mark each record for the commits that
// the client makes at an interval.
func rawKafka(s *kafkaSite, topic, group string, w work, p probe) (func() error, error) {
	return rawKafkaLoop(s, topic, group, p, func(client *kgo.Client, fetches kgo.Fetches, handle func([]byte) error) {
		fetches.EachRecord(func(rec *kgo.Record) {
			if err := handle(rec.Value); err != nil {
				p.fail(err)
				return
			}
			client.MarkCommitRecords(rec)
		})
	}, handler(w, p))
}

// rawKafkaByPoll marks when all records of a poll were handled. It allocates less, and is at
// another place: a crash repeats up to as many records as a poll brings, however often was
// committed meanwhile.
func rawKafkaByPoll(s *kafkaSite, topic, group string, w work, p probe) (func() error, error) {
	return rawKafkaLoop(s, topic, group, p, func(client *kgo.Client, fetches kgo.Fetches, handle func([]byte) error) {
		fetches.EachPartition(func(f kgo.FetchTopicPartition) {
			for _, rec := range f.Records {
				if err := handle(rec.Value); err != nil {
					p.fail(err)
					return
				}
			}
			client.MarkCommitRecords(f.Records...)
		})
	}, handler(w, p))
}

type fetchedTo func(client *kgo.Client, fetches kgo.Fetches, handle func([]byte) error)

func rawKafkaLoop(s *kafkaSite, topic, group string, p probe, take fetchedTo, handle func([]byte) error) (func() error, error) {
	assigned := make(chan struct{})
	var once sync.Once
	client, err := s.client(
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.AutoCommitMarks(), kgo.AutoCommitInterval(kafka.DefaultCommitInterval),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, got map[string][]int32) {
			if len(got) > 0 {
				once.Do(func() { close(assigned) })
			}
		}),
	)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() {
		for {
			fetches := client.PollRecords(ctx, polled)
			if ctx.Err() != nil {
				return
			}
			if err := fetches.Err(); err != nil {
				p.fail(err)
				return
			}
			take(client, fetches, handle)
		}
	})
	stop := func() error {
		cancel()
		ended.Wait()
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		err := client.CommitMarkedOffsets(ctx)
		client.Close()
		return err
	}
	starting, started := context.WithTimeout(context.Background(), timeout)
	defer started()
	select {
	case <-assigned:
		return stop, nil
	case <-starting.Done():
		return nil, errors.Join(errors.New("the group has assigned nothing"), stop())
	}
}

// moduleKafka is the module alone, runtimeKafka the full runtime on it.
func moduleKafka(s *kafkaSite, topic, group string, w work, p probe) (func() error, error) {
	return moduleLoop(s.module(), kafka.Topic(topic).Group(group), w, p)
}

func runtimeKafka(s *kafkaSite, topic, group string, w work, p probe) (func() error, error) {
	return runtimeLoop(s.module(), kafka.Topic(topic).Group(group), w, p)
}

// module is a broker with its defaults, which the raw clients share.
func (s *kafkaSite) module() *kafka.Broker { return kafka.New(strings.Join(s.brokers, ",")) }

// kafkaBatcher publishes n messages and waits for all confirmations.
type kafkaBatcher func(s *kafkaSite, topic string, t traffic) (many func(n int) error, stop func() error, err error)

// kafkaPublish is a publisher into a topic, whose messages are counted there. What is
// confirmed counts as handled.
func kafkaPublish(s *kafkaSite, with kafkaBatcher) func(probe, traffic) (*rig, error) {
	return func(p probe, t traffic) (*rig, error) {
		topic, empty, drop, err := s.topic()
		if err != nil {
			return nil, err
		}
		many, stop, err := with(s, topic, t)
		if err != nil {
			return nil, errors.Join(err, drop())
		}
		sent := confirmed{p: p}
		return &rig{
			many:  func(n int) error { return sent.count(n, many(n)) },
			ready: empty,
			stop: func() error {
				ctx, cancel := context.WithTimeout(context.Background(), timeout)
				defer cancel()
				end, err := s.end(ctx, topic)
				if err == nil {
					err = sent.check(uint64(end))
				}
				return errors.Join(err, stop(), drop())
			},
		}, nil
	}
}

func rawKafkaSender(w work) kafkaBatcher {
	return func(s *kafkaSite, topic string, t traffic) (func(int) error, func() error, error) {
		client, err := s.client()
		if err != nil {
			return nil, nil, err
		}
		next := func(i int) (*kgo.Record, error) {
			return &kgo.Record{Topic: topic, Value: bytes.Clone(t.payload(i))}, nil
		}
		if w != noop {
			header := []kgo.RecordHeader{{Key: broker.HeaderContentType, Value: []byte(gostream.JSON.ContentType())}}
			next = func(i int) (*kgo.Record, error) {
				data, err := json.Marshal(t.order(i))
				return &kgo.Record{Topic: topic, Value: data, Headers: header}, err
			}
		}
		ctx := context.Background()
		return func(n int) error {
			if n == 1 {
				rec, err := next(0)
				if err != nil {
					return err
				}
				return client.ProduceSync(ctx, rec).FirstErr()
			}
			records := make([]*kgo.Record, n)
			for i := range records {
				var err error
				if records[i], err = next(i); err != nil {
					return err
				}
			}
			return client.ProduceSync(ctx, records...).FirstErr()
		}, func() error { client.Close(); return nil }, nil
	}
}

func moduleKafkaSender(w work) kafkaBatcher {
	return func(s *kafkaSite, topic string, t traffic) (func(int) error, func() error, error) {
		b := s.module()
		return moduleBatches(b, b.Publisher(), w, topic, t)
	}
}

func runtimeKafkaSender(w work) kafkaBatcher {
	return func(s *kafkaSite, topic string, t traffic) (func(int) error, func() error, error) {
		return runtimeBatches(s.module(), w, topic, t)
	}
}

// syntheticWith is a rig on a cluster that answers every fetch from one batch which it has
// ready: what is measured is the client and what is on it. The loop is held back until it
// may handle more; that costs the same on all sides.
func syntheticWith(s *kafkaSite, run kafkaLoop) func(probe, traffic) (*rig, error) {
	return func(p probe, _ traffic) (*rig, error) {
		topic, _, drop, err := s.topic()
		if err != nil {
			return nil, err
		}
		g := newBarrier()
		held := probe{fail: p.fail, raw: func(payload []byte) {
			if len(payload) != payloadSize {
				p.fail(errPayload)
			}
			if g.pass() {
				p.raw(payload)
			}
		}}
		stop, err := run(s, topic, s.fresh(), noop, held)
		if err != nil {
			return nil, errors.Join(err, drop())
		}
		return &rig{
			many: func(n int) error { g.allow(int64(n)); return nil },
			stop: func() error {
				g.open()
				return errors.Join(stop(), drop())
			},
		}, nil
	}
}

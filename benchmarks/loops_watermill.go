package main

import (
	"errors"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill"
	wmkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	wmjetstream "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/jetstream"
	wmnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Watermill's modules with its router, on the same servers. What each does by itself, and
// cannot be told not to, is said in docs/benchmarks.md.

var quietMill = watermill.NopLogger{}

// millLoop runs a router on sub until stop, which closes sub, too.
func millLoop(sub message.Subscriber, topic string, w work, p probe) (stop func() error, err error) {
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: timeout}, quietMill)
	if err != nil {
		return nil, errors.Join(err, sub.Close())
	}
	handle := handler(w, p)
	router.AddConsumerHandler("loop", topic, sub, func(m *message.Message) error { return handle(m.Payload) })
	m := &mill{router: router}
	r, err := m.run(nil, sub.Close)
	if err != nil {
		return nil, err
	}
	return r.stop, nil
}

// millCore is the NATS module without JetStream.
func millCore(s *natsSite, w work) func(probe, traffic) (*rig, error) {
	return func(p probe, t traffic) (*rig, error) {
		nc, err := s.connect()
		if err != nil {
			return nil, err
		}
		sub, err := wmnats.NewSubscriberWithNatsConn(nc, wmnats.SubscriberSubscriptionConfig{
			JetStream: wmnats.JetStreamConfig{Disabled: true},
		}, quietMill)
		if err != nil {
			nc.Close()
			return nil, err
		}
		subject := s.fresh()
		stop, err := millLoop(sub, subject, w, p)
		if err == nil {
			err = nc.Flush() // the server has the subscription
		}
		if err != nil {
			nc.Close()
			return nil, err
		}
		return &rig{send: s.publish(subject, t), stop: func() error { defer nc.Close(); return stop() }}, nil
	}
}

// millStream is the NATS module with JetStream, as its authors recommend it: a consumer
// that is pushed to.
func millStream(s *natsSite, w work) func(probe, traffic) (*rig, error) {
	return func(p probe, t traffic) (*rig, error) {
		stream, err := s.stream()
		if err != nil {
			return nil, err
		}
		name := stream.CachedInfo().Config.Name
		nc, err := s.connect()
		if err != nil {
			return nil, errors.Join(err, s.dropStream(stream))
		}
		sub, err := wmnats.NewSubscriberWithNatsConn(nc, wmnats.SubscriberSubscriptionConfig{
			AckWaitTimeout: ackWait,
			JetStream: wmnats.JetStreamConfig{
				AckAsync: true, // as all others here: nobody waits for the server's word
				SubscribeOptions: []natsgo.SubOpt{
					natsgo.DeliverAll(), natsgo.AckExplicit(), natsgo.ManualAck(),
					natsgo.AckWait(ackWait), natsgo.MaxAckPending(maxAckPending),
				},
			},
		}, quietMill)
		var stop func() error
		if err == nil {
			stop, err = millLoop(sub, name, w, p)
		}
		if err != nil {
			nc.Close()
			return nil, errors.Join(err, s.dropStream(stream))
		}
		return &rig{send: s.publish(name, t), ready: emptied(stream), stop: func() error {
			defer nc.Close()
			return errors.Join(stop(), s.dropStream(stream))
		}}, nil
	}
}

// millJetStream is the package of the NATS module for the newer client, a beta.
func millJetStream(nc *natsgo.Conn, stream string, w work, p probe) (func() error, error) {
	sub, err := wmjetstream.NewSubscriber(wmjetstream.SubscriberConfig{
		Conn: nc, Logger: quietMill, AckAsync: true, AckWaitTimeout: ackWait,
		ResourceInitializer: wmjetstream.ExistingConsumer(func(string, string) jetstream.ConsumerConfig {
			return jetstream.ConsumerConfig{Name: durable}
		}, ""),
		ConsumeOptions: []jetstream.PullConsumeOpt{jetstream.PullMaxMessages(prefetch)},
	})
	if err != nil {
		return nil, err
	}
	return millLoop(sub, stream, w, p)
}

func millCoreSender(s *natsSite) sender {
	return func(subject string, t traffic) (func(int) error, func() error, error) {
		nc, err := s.connect()
		if err != nil {
			return nil, nil, err
		}
		pub, err := wmnats.NewPublisherWithNatsConn(nc, wmnats.PublisherPublishConfig{
			Marshaler: &wmnats.NATSMarshaler{}, SubjectCalculator: wmnats.DefaultSubjectCalculator,
			JetStream: wmnats.JetStreamConfig{Disabled: true},
		}, quietMill)
		if err != nil {
			nc.Close()
			return nil, nil, err
		}
		return func(i int) error {
			return pub.Publish(subject, message.NewMessage(watermill.NewUUID(), t.payload(i)))
		}, pub.Close, nil
	}
}

func millStreamSender(nc *natsgo.Conn, subject string, t traffic) (func(int) error, func() error, error) {
	pub, err := wmjetstream.NewPublisher(wmjetstream.PublisherConfig{Conn: nc, Logger: quietMill})
	if err != nil {
		return nil, nil, err
	}
	return millBatches(pub, subject, t), func() error { return nil }, nil // nc is another's to close
}

// millBatches publishes one after the other: that is what its publishers do with several.
func millBatches(pub message.Publisher, topic string, t traffic) func(n int) error {
	return func(n int) error {
		for i := range n {
			if err := pub.Publish(topic, message.NewMessage(watermill.NewUUID(), t.payload(i))); err != nil {
				return err
			}
		}
		return nil
	}
}

// millKafka is the Kafka module, whose client is sarama.
func millKafka(s *kafkaSite, topic, group string, w work, p probe) (func() error, error) {
	config := wmkafka.DefaultSaramaSubscriberConfig()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest // it may join after the first publish
	config.Consumer.IsolationLevel = sarama.ReadCommitted
	config.Consumer.Fetch.Default = 1 << 20 // bytes, as the others
	sub, err := wmkafka.NewSubscriber(wmkafka.SubscriberConfig{
		Brokers: s.brokers, ConsumerGroup: group, Unmarshaler: wmkafka.DefaultMarshaler{}, OverwriteSaramaConfig: config,
	}, quietMill)
	if err != nil {
		return nil, err
	}
	return millLoop(sub, topic, w, p)
}

func millKafkaSender(s *kafkaSite, topic string, t traffic) (func(int) error, func() error, error) {
	config := wmkafka.DefaultSaramaSyncPublisherConfig()
	config.Producer.RequiredAcks = sarama.WaitForAll // as the others
	pub, err := wmkafka.NewPublisher(wmkafka.PublisherConfig{
		Brokers: s.brokers, Marshaler: wmkafka.DefaultMarshaler{}, OverwriteSaramaConfig: config,
	}, quietMill)
	if err != nil {
		return nil, nil, err
	}
	return millBatches(pub, topic, t), pub.Close, nil
}

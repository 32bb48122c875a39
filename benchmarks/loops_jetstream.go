package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
)

// The loops of JetStream: a durable consumer with the same settings, as many messages
// asked for ahead, each acknowledged when it was handled.

const durable = "loop"

// store is a stream that a loop consumes: on a server or a stub.
type store interface {
	connect(more ...natsgo.Option) (*natsgo.Conn, error)
	// stored makes a stream with its consumer, and a rig that fills it.
	stored(p probe, t traffic) (stream string, r *rig, err error)
}

// stored makes a stream, filled by plain publishes: what the feed costs shall be little.
func (s *natsSite) stored(_ probe, t traffic) (string, *rig, error) {
	stream, err := s.stream()
	if err != nil {
		return "", nil, err
	}
	name := stream.CachedInfo().Config.Name
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if _, err := stream.CreateConsumer(ctx, consumerConfig(durable, name)); err != nil {
		return "", nil, err
	}
	return name, &rig{
		send: s.publish(name, t), ready: emptied(stream),
		stop: func() error { return errors.Join(acknowledged(stream, durable), s.dropStream(stream)) },
	}, nil
}

// streamLoop starts a loop on stream; stop waits until it has ended.
type streamLoop func(nc *natsgo.Conn, stream string, w work, p probe) (stop func() error, err error)

// jetStreamWith is a rig whose messages that loop consumes.
func jetStreamWith(s store, w work, run streamLoop) func(probe, traffic) (*rig, error) {
	return func(p probe, t traffic) (*rig, error) {
		stream, r, err := s.stored(p, t)
		if err != nil {
			return nil, err
		}
		dropped := r.stop
		nc, err := s.connect()
		if err != nil {
			return nil, errors.Join(err, dropped())
		}
		stop, err := run(nc, stream, w, p)
		if err != nil {
			nc.Close()
			return nil, errors.Join(err, dropped())
		}
		r.stop = func() error {
			defer nc.Close()
			return errors.Join(stop(), dropped())
		}
		return r, nil
	}
}

// rawMessages is the client's iterator.
func rawMessages(nc *natsgo.Conn, stream string, w work, p probe) (func() error, error) {
	consumer, err := rawConsumer(nc, stream)
	if err != nil {
		return nil, err
	}
	it, err := consumer.Messages(jetstream.PullMaxMessages(prefetch))
	if err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		handle := handler(w, p)
		for {
			m, err := it.Next()
			if errors.Is(err, jetstream.ErrNoHeartbeat) {
				continue // it asks again
			}
			if err == nil {
				err = handle(m.Data())
			}
			if err == nil {
				err = m.Ack()
			}
			if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
				return
			}
			if err != nil {
				p.fail(err)
				return
			}
		}
	}()
	return func() error { it.Stop(); <-ended; return nil }, nil
}

// rawConsume is the client's callback.
func rawConsume(nc *natsgo.Conn, stream string, w work, p probe) (func() error, error) {
	consumer, err := rawConsumer(nc, stream)
	if err != nil {
		return nil, err
	}
	handle := handler(w, p)
	running, err := consumer.Consume(func(m jetstream.Msg) {
		err := handle(m.Data())
		if err == nil {
			err = m.Ack()
		}
		if err != nil {
			p.fail(err)
		}
	}, jetstream.PullMaxMessages(prefetch))
	if err != nil {
		return nil, err
	}
	return func() error { running.Stop(); <-running.Closed(); return nil }, nil
}

func rawConsumer(nc *natsgo.Conn, stream string) (jetstream.Consumer, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return js.Consumer(ctx, stream, durable)
}

// moduleStream is the module alone, runtimeStream the full runtime on it.
func moduleStream(nc *natsgo.Conn, stream string, w work, p probe) (func() error, error) {
	return moduleLoop(nats.FromConn(nc), streamSource(stream), w, p)
}

func runtimeStream(nc *natsgo.Conn, stream string, w work, p probe) (func() error, error) {
	return runtimeLoop(nats.FromConn(nc), streamSource(stream), w, p)
}

func streamSource(stream string) broker.Source {
	return nats.Stream(stream, stream).Durable(durable).Prefetch(prefetch).InMemory()
}

// batchSize is how many messages are published together where they are.
const batchSize = 100

// batcher publishes n messages and waits for all confirmations.
type batcher func(nc *natsgo.Conn, subject string, t traffic) (many func(n int) error, stop func() error, err error)

// streamPublish is a publisher into a stream, whose messages are counted there. What is
// confirmed counts as handled.
func streamPublish(s *natsSite, with batcher) func(probe, traffic) (*rig, error) {
	return func(p probe, t traffic) (*rig, error) {
		stream, err := s.stream()
		if err != nil {
			return nil, err
		}
		drop := func() error { return s.dropStream(stream) }
		nc, err := s.connect()
		if err != nil {
			return nil, errors.Join(err, drop())
		}
		many, stop, err := with(nc, stream.CachedInfo().Config.Name, t)
		if err != nil {
			nc.Close()
			return nil, errors.Join(err, drop())
		}
		sent := confirmed{p: p}
		return &rig{
			many:  func(n int) error { return sent.count(n, many(n)) },
			ready: emptied(stream),
			stop: func() error {
				defer nc.Close()
				ctx, cancel := context.WithTimeout(context.Background(), timeout)
				defer cancel()
				info, err := stream.Info(ctx)
				if err == nil {
					err = sent.check(info.State.LastSeq)
				}
				return errors.Join(err, stop(), drop())
			},
		}, nil
	}
}

// confirmed counts what a server has confirmed, for the flight as if it were handled.
type confirmed struct {
	p probe
	n uint64
}

func (c *confirmed) count(n int, err error) error {
	if err != nil {
		return err
	}
	c.n += uint64(n)
	for range n {
		c.p.raw(nil)
	}
	return nil
}

// check compares with what the server has.
func (c *confirmed) check(there uint64) error {
	if there != c.n {
		return fmt.Errorf("%d messages were confirmed, the server has had %d", c.n, there)
	}
	return nil
}

func rawStreamSender(w work) batcher {
	return func(nc *natsgo.Conn, subject string, t traffic) (func(int) error, func() error, error) {
		js, err := jetstream.New(nc)
		if err != nil {
			return nil, nil, err
		}
		next := func(i int) (*natsgo.Msg, error) { return &natsgo.Msg{Subject: subject, Data: t.payload(i)}, nil }
		if w != noop {
			next = func(i int) (*natsgo.Msg, error) {
				data, err := json.Marshal(t.order(i))
				return &natsgo.Msg{
					Subject: subject, Data: data,
					Header: natsgo.Header{broker.HeaderContentType: {gostream.JSON.ContentType()}},
				}, err
			}
		}
		ctx := context.Background()
		many := func(n int) error {
			if n == 1 {
				m, err := next(0)
				if err == nil {
					_, err = js.PublishMsg(ctx, m)
				}
				return err
			}
			futures := make([]jetstream.PubAckFuture, n)
			for i := range futures {
				m, err := next(i)
				if err == nil {
					futures[i], err = js.PublishMsgAsync(m)
				}
				if err != nil {
					return err
				}
			}
			for _, f := range futures {
				select {
				case <-f.Ok():
				case err := <-f.Err():
					return err
				}
			}
			return nil
		}
		return many, func() error { js.CleanupPublisher(); return nil }, nil
	}
}

func moduleStreamSender(w work) batcher {
	return func(nc *natsgo.Conn, subject string, t traffic) (func(int) error, func() error, error) {
		b := nats.FromConn(nc)
		return moduleBatches(b, b.JetStreamPublisher(), w, subject, t)
	}
}

func runtimeStreamSender(w work) batcher {
	return func(nc *natsgo.Conn, subject string, t traffic) (func(int) error, func() error, error) {
		return runtimeBatches(nats.FromConn(nc, nats.ConfirmPublishes()), w, subject, t)
	}
}

// moduleBatches publishes through the publisher of a module, several messages together
// where there are several.
func moduleBatches(b broker.Broker, pub broker.Publisher, w work, name string, t traffic) (func(int) error, func() error, error) {
	send, stop, err := moduleSender(b, pub, w, name, t)
	if err != nil {
		return nil, nil, err
	}
	ctx := context.Background()
	return func(n int) error {
		if n == 1 {
			return send(0)
		}
		msgs := make([]broker.OutgoingMessage, n)
		for i := range msgs {
			msgs[i] = broker.OutgoingMessage{Name: name}
			if w == noop {
				msgs[i].Payload = bytes.Clone(t.payload(i))
				continue
			}
			data, err := json.Marshal(t.order(i))
			if err != nil {
				return err
			}
			msgs[i].Payload, msgs[i].Headers = data, jsonHeader
		}
		return broker.PublishBatch(ctx, pub, msgs)
	}, stop, nil
}

// runtimeBatches is the same through an app; several orders go through a typed publisher.
func runtimeBatches(b broker.Broker, w work, name string, t traffic) (func(int) error, func() error, error) {
	app := newApp()
	app.Mount(b, gostream.NewRouter())
	raw, typed := app.RawPublisher(b), gostream.NewPublisher[Order](app, b, name)
	started, err := startApp(app, nil)
	if err != nil {
		return nil, nil, err
	}
	ctx := context.Background()
	return func(n int) error {
		switch {
		case w == noop && n == 1:
			return raw.Publish(ctx, broker.OutgoingMessage{Name: name, Payload: t.payload(0)})
		case n == 1:
			return typed.Publish(ctx, t.order(0))
		case w == noop:
			msgs := make([]broker.OutgoingMessage, n)
			for i := range msgs {
				msgs[i] = broker.OutgoingMessage{Name: name, Payload: bytes.Clone(t.payload(i))}
			}
			return raw.PublishBatch(ctx, msgs)
		}
		orders := make([]Order, n)
		for i := range orders {
			orders[i] = t.order(i)
		}
		return typed.PublishBatch(ctx, orders)
	}, started.stop, nil
}

package main

import (
	"context"
	"encoding/json"
	"errors"
	"sync"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
)

// The loops of Core NATS. All have a connection of their own, with the same options, and
// subscribe before start returns.

// source is where the messages of a Core loop come from: a server or a stub.
type source interface {
	connect(more ...natsgo.Option) (*natsgo.Conn, error)
	// fed completes the rig of a loop that consumes from subject.
	fed(r *rig, subject string, p probe, t traffic)
	fresh() string
}

func (s *natsSite) fed(r *rig, subject string, _ probe, t traffic) { r.send = s.publish(subject, t) }

// rawCore is the client's own loop over a channel; [callbackCore] is the other way that
// users take.
func rawCore(s source, w work) func(probe, traffic) (*rig, error) {
	return func(p probe, t traffic) (*rig, error) {
		nc, err := s.connect()
		if err != nil {
			return nil, err
		}
		subject := s.fresh()
		stop, err := listen(nc, subject, handler(w, p), p.fail)
		if err != nil {
			nc.Close()
			return nil, err
		}
		r := &rig{stop: func() error {
			defer nc.Close()
			return stop()
		}}
		s.fed(r, subject, p, t)
		return r, nil
	}
}

// callbackCore is the client's callback.
func callbackCore(s source, w work) func(probe, traffic) (*rig, error) {
	return func(p probe, t traffic) (*rig, error) {
		nc, err := s.connect()
		if err != nil {
			return nil, err
		}
		subject, handle := s.fresh(), handler(w, p)
		sub, err := nc.Subscribe(subject, func(m *natsgo.Msg) {
			if err := handle(m.Data); err != nil {
				p.fail(err)
			}
		})
		if err == nil {
			err = errors.Join(sub.SetPendingLimits(pending, -1), nc.Flush())
		}
		if err != nil {
			nc.Close()
			return nil, err
		}
		r := &rig{stop: func() error {
			defer nc.Close()
			return sub.Unsubscribe()
		}}
		s.fed(r, subject, p, t)
		return r, nil
	}
}

// listen handles what comes on subject until stop.
func listen(nc *natsgo.Conn, subject string, handle func([]byte) error, fail func(error)) (stop func() error, err error) {
	in := make(chan *natsgo.Msg, pending)
	sub, err := nc.ChanSubscribe(subject, in)
	if err == nil {
		err = nc.Flush() // the server has it
	}
	if err != nil {
		return nil, err
	}
	var loop sync.WaitGroup
	loop.Go(func() {
		for m := range in {
			if m == nil {
				return
			}
			if err := handle(m.Data); err != nil {
				fail(err)
				return
			}
		}
	})
	return func() error {
		err := errors.Join(sub.Unsubscribe(), nc.Flush())
		in <- nil
		loop.Wait()
		return err
	}, nil
}

// moduleCore is the module alone.
func moduleCore(s source, w work) func(probe, traffic) (*rig, error) {
	return coreWith(s, w, moduleLoop)
}

// runtimeCore is the full runtime on the module.
func runtimeCore(s source, w work) func(probe, traffic) (*rig, error) {
	return coreWith(s, w, runtimeLoop)
}

type loop func(b broker.Broker, src broker.Source, w work, p probe) (stop func() error, err error)

func coreWith(s source, w work, run loop) func(probe, traffic) (*rig, error) {
	return func(p probe, t traffic) (*rig, error) {
		b, closed, err := natsModule(s.connect)
		if err != nil {
			return nil, err
		}
		subject := s.fresh()
		stop, err := run(b, nats.Subject(subject), w, p)
		if err != nil {
			return nil, errors.Join(err, closed())
		}
		r := &rig{stop: func() error { return errors.Join(stop(), closed()) }}
		s.fed(r, subject, p, t)
		return r, nil
	}
}

// jsonHeader is what a typed publisher writes, and so all others.
var jsonHeader = broker.NewHeaders(broker.Header{Key: broker.HeaderContentType, Value: gostream.JSON.ContentType()})

// sender publishes message i to a subject; stop ends what it has started.
type sender func(subject string, t traffic) (send func(i int) error, stop func() error, err error)

// corePublish is a publisher whose messages a raw loop counts, the same for all.
func corePublish(s *natsSite, with sender) func(probe, traffic) (*rig, error) {
	return func(p probe, t traffic) (*rig, error) {
		subject := s.fresh()
		// The number is taken out of the bytes, whatever they are: nothing is decoded.
		unheard, err := listen(s.feed, subject, handler(noop, p), p.fail)
		if err != nil {
			return nil, err
		}
		send, stop, err := with(subject, t)
		if err != nil {
			return nil, errors.Join(err, unheard())
		}
		return &rig{send: send, stop: func() error { return errors.Join(stop(), unheard()) }}, nil
	}
}

func rawCoreSender(s source, w work) sender {
	return func(subject string, t traffic) (func(int) error, func() error, error) {
		nc, err := s.connect()
		if err != nil {
			return nil, nil, err
		}
		stop := func() error { nc.Close(); return nil }
		if w == noop {
			return func(i int) error { return nc.Publish(subject, t.payload(i)) }, stop, nil
		}
		return func(i int) error {
			data, err := json.Marshal(t.order(i))
			if err != nil {
				return err
			}
			return nc.PublishMsg(&natsgo.Msg{
				Subject: subject, Data: data,
				Header: natsgo.Header{broker.HeaderContentType: {gostream.JSON.ContentType()}},
			})
		}, stop, nil
	}
}

func moduleCoreSender(s source, w work) sender {
	return func(subject string, t traffic) (func(int) error, func() error, error) {
		b, closed, err := natsModule(s.connect)
		if err != nil {
			return nil, nil, err
		}
		send, stop, err := moduleSender(b, b.Publisher(), w, subject, t)
		if err != nil {
			return nil, nil, errors.Join(err, closed())
		}
		return send, func() error { return errors.Join(stop(), closed()) }, nil
	}
}

func runtimeCoreSender(s source, w work) sender {
	return func(subject string, t traffic) (func(int) error, func() error, error) {
		b, closed, err := natsModule(s.connect)
		if err != nil {
			return nil, nil, err
		}
		send, stop, err := runtimeSender(b, w, subject, t)
		if err != nil {
			return nil, nil, errors.Join(err, closed())
		}
		return send, func() error { return errors.Join(stop(), closed()) }, nil
	}
}

// moduleSender publishes through the publisher of a module.
func moduleSender(b broker.Broker, pub broker.Publisher, w work, name string, t traffic) (func(int) error, func() error, error) {
	ctx := context.Background()
	if err := b.Connect(ctx); err != nil {
		return nil, nil, err
	}
	send := func(i int) error {
		return pub.Publish(ctx, broker.OutgoingMessage{Name: name, Payload: t.payload(i)})
	}
	if w != noop {
		send = func(i int) error {
			data, err := json.Marshal(t.order(i))
			if err != nil {
				return err
			}
			return pub.Publish(ctx, broker.OutgoingMessage{Name: name, Payload: data, Headers: jsonHeader})
		}
	}
	return send, func() error { return b.Shutdown(context.Background()) }, nil
}

// runtimeSender publishes through an app: bytes through its raw publisher, orders through
// a typed one.
func runtimeSender(b broker.Broker, w work, name string, t traffic) (func(int) error, func() error, error) {
	app := newApp()
	app.Mount(b, gostream.NewRouter())
	raw, typed := app.RawPublisher(b), gostream.NewPublisher[Order](app, b, name)
	started, err := startApp(app, nil)
	if err != nil {
		return nil, nil, err
	}
	ctx := context.Background()
	if w == noop {
		return func(i int) error {
			return raw.Publish(ctx, broker.OutgoingMessage{Name: name, Payload: t.payload(i)})
		}, started.stop, nil
	}
	return func(i int) error { return typed.Publish(ctx, t.order(i)) }, started.stop, nil
}

package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

const (
	timeout     = 30 * time.Second // of a handler, on both sides
	correlation = "c-0001"
	retries     = 3
	retryFirst  = 100 * time.Millisecond
)

func newApp() *gostream.App {
	return gostream.New("benchmarks", "0", gostream.WithLogger(slog.New(slog.DiscardHandler)))
}

func startApp(app *gostream.App, send func(i int) error) (*rig, error) {
	s, err := app.Start(context.Background())
	if err != nil {
		return nil, err
	}
	return &rig{send: send, stop: func() error { return s.Shutdown(context.Background()) }}, nil
}

// gostreamPeer is gostream on its memory broker.
func gostreamPeer(w work, middleware bool) func(probe, traffic) (*rig, error) {
	return func(p probe, t traffic) (*rig, error) {
		mem, app, r := memory.New(), newApp(), gostream.NewRouter()
		var options []gostream.HandleOption
		var publish []gostream.PublishOption
		var headers broker.Headers
		if middleware {
			app.Use(correlate, retry, recoverer)
			options = append(options, gostream.Timeout(timeout))
			publish = append(publish, gostream.Header(broker.HeaderCorrelationID, correlation))
			headers = broker.NewHeaders(broker.Header{Key: broker.HeaderCorrelationID, Value: correlation})
		}
		ctx := context.Background()
		orders := func() func(i int) error {
			pub := gostream.NewPublisher[Order](app, mem, "in")
			return func(i int) error { return pub.Publish(ctx, t.order(i), publish...) }
		}
		var send func(i int) error
		switch w {
		case noop:
			r.Handle("in", gostream.Raw(func(_ context.Context, d *gostream.Delivery) error {
				p.raw(d.Payload())
				return nil
			}), options...)
			pub := app.RawPublisher(mem)
			send = func(i int) error {
				return pub.Publish(ctx, broker.OutgoingMessage{Name: "in", Payload: t.payload(i), Headers: headers})
			}
		case jsonIn:
			r.Handle("in", gostream.Consume(func(_ context.Context, o Order) error { p.order(o); return nil }), options...)
			send = orders()
		case jsonReply:
			r.Handle("in", gostream.Reply(func(_ context.Context, o Order) (Confirmation, error) {
				return confirm(o), nil
			}).To("out"), options...)
			r.Handle("out", gostream.Consume(func(_ context.Context, c Confirmation) error { p.reply(c); return nil }), options...)
			send = orders()
		}
		app.Mount(mem, r)
		return startApp(app, send)
	}
}

// The middlewares of Watermill, as a user of gostream would write them. The fourth,
// the timeout, is an option. gostream recovers, retries and passes the correlation id
// on by itself: these come on top of that.

// correlate hands the correlation id to the handler; the runtime puts it onto what the
// handler publishes.
func correlate(next gostream.Next) gostream.Next {
	return func(ctx context.Context, b *gostream.Batch) error {
		if b.At(0).Headers().CorrelationID() == "" {
			return next(context.WithValue(ctx, correlationKey{}, "none"), b)
		}
		return next(ctx, b)
	}
}

type correlationKey struct{}

// retry calls the handler again when it failed, with exponential backoff.
func retry(next gostream.Next) gostream.Next {
	return func(ctx context.Context, b *gostream.Batch) error {
		err := next(ctx, b)
		for wait, n := retryFirst, 0; err != nil && n < retries; wait, n = 2*wait, n+1 {
			select {
			case <-ctx.Done():
				return err
			case <-time.After(wait):
			}
			err = next(ctx, b)
		}
		return err
	}
}

// recoverer makes an error of a panic.
func recoverer(next gostream.Next) gostream.Next {
	return func(ctx context.Context, b *gostream.Batch) (err error) {
		defer func() {
			if v := recover(); v != nil {
				err = fmt.Errorf("panic: %v", v)
			}
		}()
		return next(ctx, b)
	}
}

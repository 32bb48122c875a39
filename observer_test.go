package gostream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

// A start tells its observers of the service once, before the hooks that follow it.
func TestObserverStarted(t *testing.T) {
	t.Parallel()
	app := gostream.New("shop", "", quiet())
	app.Mount(memory.New())
	var seen []*gostream.Service
	app.Observe(gostream.Observer{Started: func(s *gostream.Service) { seen = append(seen, s) }})
	app.AfterStartup(func(ctx context.Context) error {
		if len(seen) != 1 || seen[0].Health(ctx).Draining {
			t.Errorf("AfterStartup: the observer was told of %d services", len(seen))
		}
		return nil
	})
	svc, err := app.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(seen, []*gostream.Service{svc}) {
		t.Errorf("the observer was told of %v, want the service that Start returned", seen)
	}
	if err := svc.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

// slowAck is a message whose acknowledgement takes a second, and may be what its
// transport does not have.
type slowAck struct{ broker.IncomingMessage }

func (m slowAck) Ack(ctx context.Context) error {
	time.Sleep(time.Second) // of a bubble
	err := m.IncomingMessage.Ack(ctx)
	if string(m.Payload()) == "unsupported" {
		return errors.ErrUnsupported
	}
	return err
}

// An event says why, and how long the broker's call alone took.
func TestSettledEventTellsReasonAndSettling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memory.New()
		r := gostream.NewRouter()
		work := gostream.Consume(func(_ context.Context, s string) error {
			time.Sleep(time.Second)
			switch s {
			case "twice":
				return errors.New("no")
			case "never":
				return gostream.Reject(errors.New("never"))
			}
			return nil
		})
		slow := func(m broker.IncomingMessage) broker.IncomingMessage { return slowAck{m} }
		r.HandleSource(alteredSource{"work", slow}, work, gostream.DeadLetterTo("dead"),
			gostream.RetryBackoff(gostream.Exponential(time.Millisecond, time.Millisecond).Attempts(2)))
		app := gostream.New("shop", "", quiet())
		app.Mount(b, r)
		var mu sync.Mutex
		var got []string
		app.Observe(gostream.Observer{Settled: func(e gostream.SettledEvent) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, fmt.Sprintf("%v %q %v of %v", e.Outcome, e.Reason, e.Settling, e.Took))
		}})
		p := app.RawPublisher(b)
		svc, err := app.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{"fine", "twice", "never", "unsupported"} {
			if err := p.Publish(t.Context(), broker.OutgoingMessage{Name: "work", Payload: []byte(s)}); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
		}
		if err := svc.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		want := []string{
			`acked "" 1s of 2s`,
			`retried "error" 0s of 1s`, // parked
			`dead-lettered "attempts exhausted" 1s of 2s`,
			`rejected "handler decided" 0s of 1s`, // a Nack, which takes no time here
			`acked "" 0s of 2s`,                   // there is no settlement
		}
		if !slices.Equal(got, want) {
			t.Errorf("the events are\n%q, want\n%q", got, want)
		}
	})
}

func TestOutcomeOf(t *testing.T) {
	t.Parallel()
	e := errors.New("e")
	for _, test := range []struct {
		err  error
		want gostream.Outcome
		ok   bool
	}{
		{nil, 0, false},
		{e, 0, false},
		{gostream.Ignore(nil), gostream.OutcomeIgnored, true},
		{gostream.Reject(e), gostream.OutcomeRejected, true},
		{gostream.Retry(e), gostream.OutcomeRetried, true},
		{gostream.RetryAfter(time.Second, e), gostream.OutcomeRetried, true},
		{gostream.DeadLetter(e), gostream.OutcomeDeadLettered, true},
		{gostream.FailFast(e), gostream.OutcomeGivenBack, true},
		{fmt.Errorf("wrapped: %w", gostream.Ignore(gostream.Reject(e))), gostream.OutcomeIgnored, true},
	} {
		if got, ok := gostream.OutcomeOf(test.err); got != test.want || ok != test.ok {
			t.Errorf("%v: %v, %v, want %v, %v", test.err, got, ok, test.want, test.ok)
		}
	}
}

// A middleware learns which kind of broker it publishes to, what is a request, and what
// the delivery's context has when the runtime publishes for it.
func TestUsePublishOn(t *testing.T) {
	t.Parallel()
	type key struct{}
	b := memory.New()
	r := gostream.NewRouter()
	r.Handle("prices", gostream.Reply(func(_ context.Context, s string) (string, error) {
		switch s {
		case "bad":
			return "", errors.New("no")
		case "never":
			return "", gostream.Reject(errors.New("no"))
		}
		return "1", nil
	}).ToReplyTo())
	r.Handle("orders", gostream.Consume(func(context.Context, string) error { return gostream.DeadLetter(errors.New("no")) }),
		gostream.DeadLetterTo("orders.dead"))
	app := gostream.New("shop", "", quiet())
	app.Use(func(next gostream.Next) gostream.Next {
		return func(ctx context.Context, b *gostream.Batch) error {
			b.At(0).SetContext(context.WithValue(ctx, key{}, "span"))
			return next(ctx, b)
		}
	})
	var mu sync.Mutex
	var got []string
	dead := make(chan struct{})
	app.UsePublishOn(func(string) gostream.PublishMiddleware { return nil })
	app.UsePublishOn(func(kind string) gostream.PublishMiddleware {
		return func(next gostream.PublishNext) gostream.PublishNext {
			return func(ctx context.Context, msgs []broker.OutgoingMessage) error {
				mu.Lock()
				name := msgs[0].Name
				if _, ok := gostream.DeliveryFrom(ctx); ok {
					t.Errorf("the context of %s belongs to a delivery", name)
				}
				if _, failed := msgs[0].Headers.Lookup(gostream.HeaderError); failed {
					name = "error reply"
				}
				got = append(got, fmt.Sprintf("%s %s %v %v", kind, name[:min(len(name), 11)], gostream.IsRequest(ctx), ctx.Value(key{})))
				mu.Unlock()
				if name == "orders.dead" {
					defer close(dead)
				}
				return next(ctx, msgs)
			}
		}
	})
	app.Mount(b, r)
	p := app.RawPublisher(b)
	prices := gostream.NewRequester[string, string](app, b, "prices")
	svc, err := app.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"bad", "never"} {
		if _, err := prices.Request(t.Context(), what); err == nil {
			t.Errorf("the request %q did not fail", what)
		}
	}
	if err := p.Publish(t.Context(), broker.OutgoingMessage{Name: "orders", Payload: []byte("x")}); err != nil {
		t.Error(err)
	}
	<-dead
	if err := svc.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	want := []string{
		"memory prices true <nil>",
		"memory error reply false span",
		"memory prices true <nil>",
		"memory error reply false span",
		"memory orders false <nil>",
		"memory orders.dead false span",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the middleware saw\n%q, want\n%q", got, want)
	}
	bad := gostream.New("shop", "", quiet())
	bad.UsePublishOn(nil)
	if bad.Check() == nil {
		t.Error("UsePublishOn(nil) is not found")
	}
}

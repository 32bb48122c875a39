package gostream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
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

func TestObserverReceivedAndSettled(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var events []string
		s.app.Observe(gostream.Observer{
			Received: func(d *gostream.Delivery) {
				events = append(events, fmt.Sprintf("received %s of %s, attempt %d", d.Payload(), d.Subscription().Name(), d.Attempt()))
			},
			Settled: func(e gostream.SettledEvent) {
				events = append(events, fmt.Sprintf("settled %s of %s, attempt %d, as %v after %v: %v",
					e.Delivery.Payload(), e.Delivery.Subscription().Name(), e.Delivery.Attempt(), e.Outcome, e.Took, e.Err))
			},
			Parked: func(*gostream.Delivery, time.Time) { t.Error("parked, although the broker delays") },
		})
		s.router.Handle("parcels", gostream.Consume(func(_ context.Context, m gostream.Message[string]) error {
			events = append(events, "handled")
			time.Sleep(3 * time.Second)
			if m.Attempt() == 1 {
				return gostream.RetryAfter(time.Minute, errBroken)
			}
			return nil
		}), gostream.Named("sorter"))
		s.start()
		s.send("parcels", "x")
		s.pass(2 * time.Minute)
		want := []string{
			"received x of sorter, attempt 1", "handled", "settled x of sorter, attempt 1, as retried after 3s: retry: broken",
			"received x of sorter, attempt 2", "handled", "settled x of sorter, attempt 2, as acked after 3s: <nil>",
		}
		if !slices.Equal(events, want) {
			t.Errorf("the observer saw\n%q, want\n%q", events, want)
		}
	})
}

// A parked delivery is received once, and each of its attempts is settled.
func TestObserverParked(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var events []string
		s.app.Observe(gostream.Observer{
			Received: func(d *gostream.Delivery) { events = append(events, fmt.Sprintf("received, attempt %d", d.Attempt())) },
			Settled: func(e gostream.SettledEvent) {
				events = append(events, fmt.Sprintf("settled, attempt %d, as %v after %v", e.Delivery.Attempt(), e.Outcome, e.Took))
			},
			Parked: func(d *gostream.Delivery, until time.Time) {
				events = append(events, fmt.Sprintf("parked %s, attempt %d, for %v", d.Payload(), d.Attempt(), time.Until(until)))
			},
		})
		s.router.HandleSource(alteredSource{"parcels", plain}, gostream.Consume(func(_ context.Context, m gostream.Message[string]) error {
			time.Sleep(3 * time.Second)
			if m.Attempt() == 1 {
				return gostream.RetryAfter(time.Minute, errBroken)
			}
			return nil
		}))
		s.start()
		s.send("parcels", "x")
		s.pass(2 * time.Minute)
		want := []string{
			"received, attempt 1", "settled, attempt 1, as retried after 3s", "parked x, attempt 1, for 1m0s",
			"settled, attempt 2, as acked after 3s",
		}
		if !slices.Equal(events, want) {
			t.Errorf("the observer saw\n%q, want\n%q", events, want)
		}
	})
}

// A dead letter that cannot be published is parked, and settled when it is out.
func TestObserverParkedDeadLetter(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var events []string
		s.app.Observe(gostream.Observer{
			Settled: func(e gostream.SettledEvent) { events = append(events, e.Outcome.String()) },
			Parked:  func(*gostream.Delivery, time.Time) { events = append(events, "parked") },
		})
		tries := 0
		s.app.UsePublish(func(next gostream.PublishNext) gostream.PublishNext {
			return func(ctx context.Context, msgs []broker.OutgoingMessage) error {
				if tries++; tries < 3 {
					return errBroken
				}
				return next(ctx, msgs)
			}
		})
		s.router.Handle("parcels", gostream.Consume(func(context.Context, string) error { return errBroken }),
			gostream.OnError(gostream.AnyError().DeadLetterTo("dead")))
		s.start()
		s.send("parcels", "x")
		s.pass(time.Minute)
		if want := []string{"parked", "parked", "dead-lettered"}; !slices.Equal(events, want) {
			t.Errorf("the observer saw %q, want %q", events, want)
		}
	})
}

func TestObserverStates(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var states notes
		s.app.Observe(gostream.Observer{StateChanged: func(sub *gostream.Subscription, to gostream.State) {
			states.add(sub.Name() + " " + to.String())
		}})
		for _, name := range []string{"a", "b"} {
			s.router.Handle(name, gostream.Consume(func(context.Context, string) error { return nil }))
		}
		want := func(when string, want ...string) {
			t.Helper()
			got := states.take()
			slices.SortStableFunc(got, func(x, y string) int { return strings.Compare(x[:1], y[:1]) })
			if !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", when, got, want)
			}
		}
		s.app.AfterStartup(func(context.Context) error {
			want("at start", "a running", "b running")
			return nil
		})
		s.app.OnShutdown(func(context.Context) error {
			want("in OnShutdown")
			return nil
		})
		s.app.AfterShutdown(func(context.Context) error {
			want("at shutdown", "a draining", "a stopped", "b draining", "b stopped")
			return nil
		})
		s.start()
		for range 2 { // what is as asked for already is no change
			if err := s.svc.Pause(t.Context(), "a"); err != nil {
				t.Error(err)
			}
		}
		want("paused", "a paused")
		for range 2 {
			if err := s.svc.Resume(t.Context(), "a"); err != nil {
				t.Error(err)
			}
		}
		want("resumed", "a running")
		s.stop()
		want("after shutdown")
	})
}

func TestObserverDrained(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var reports []gostream.DrainReport
		s.app.Observe(gostream.Observer{Drained: func(r gostream.DrainReport) { reports = append(reports, r) }})
		s.router.Handle("parcels", gostream.Consume(func(_ context.Context, v string) error {
			time.Sleep(2 * time.Second)
			if v == "fails" {
				return errBroken
			}
			return nil
		}), gostream.Workers(3))
		s.start()
		for _, v := range []string{"1", "2", "fails"} {
			s.send("parcels", v)
		}
		s.stop()
		s.stop()
		want := []gostream.DrainReport{{Finished: 2, GivenBack: 1, Took: 2 * time.Second}}
		if !slices.Equal(reports, want) {
			t.Errorf("the observer saw %+v, want %+v", reports, want)
		}
		if r, ok := s.svc.Report(); !ok || r != want[0] {
			t.Errorf("Report is %+v, %v", r, ok)
		}
	})
}

// Several observers are called in their order; what one of them lacks, or a panic
// in it, is no matter of the others.
func TestSeveralObservers(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var got notes
		all := func(name string, then func()) gostream.Observer {
			return gostream.Observer{
				Received:     func(*gostream.Delivery) { got.add(name + " received"); then() },
				Parked:       func(*gostream.Delivery, time.Time) { got.add(name + " parked"); then() },
				Settled:      func(e gostream.SettledEvent) { got.add(name + " " + e.Outcome.String()); then() },
				StateChanged: func(_ *gostream.Subscription, to gostream.State) { got.add(name + " " + to.String()); then() },
				Drained:      func(gostream.DrainReport) { got.add(name + " drained"); then() },
			}
		}
		s.app.Observe(gostream.Observer{})
		s.app.Observe(all("1", func() { panic("observer") }))
		s.app.Observe(gostream.Observer{Settled: func(gostream.SettledEvent) { got.add("2 settled") }})
		s.app.Observe(all("3", func() {}))
		s.router.HandleSource(alteredSource{"parcels", plain}, gostream.Consume(func(_ context.Context, m gostream.Message[string]) error {
			if m.Attempt() == 1 {
				return gostream.RetryAfter(time.Second, errBroken)
			}
			return nil
		}))
		s.start()
		s.send("parcels", "x")
		s.pass(time.Second)
		s.wantLeft("parcels", 0)
		s.stop()
		want := []string{
			"1 running", "3 running", "1 received", "3 received",
			"1 retried", "2 settled", "3 retried", "1 parked", "3 parked", "1 acked", "2 settled", "3 acked",
			"1 draining", "3 draining", "1 stopped", "3 stopped", "1 drained", "3 drained",
		}
		if lines := got.take(); !slices.Equal(lines, want) {
			t.Errorf("the observers saw\n%q, want\n%q", lines, want)
		}
		told, errs := s.logs.lines("panic=observer", "observer_test.go"), s.logs.lines("level=ERROR")
		if len(told) != 8 || len(errs) != 8 {
			t.Errorf("%d of the %d errors in the log tell of a panic, with its stack, want 8 of 8", len(told), len(errs))
		}
	})
}

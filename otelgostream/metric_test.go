package otelgostream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
	"github.com/gostream/gostream/otelgostream"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// Everything that is counted on the way of messages, compared with what was handled.
func TestMetrics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMeters()
		b := memory.New()
		r := gostream.NewRouter()
		r.Handle("orders", gostream.Reply(func(_ context.Context, o struct{ Kind string }) (string, error) {
			time.Sleep(100 * time.Millisecond)
			switch o.Kind {
			case "fails":
				return "", errNo
			case "panics":
				panic("handler")
			case "ignored":
				return "", gostream.Ignore(nil)
			case "rejected":
				return "", gostream.Reject(errNo)
			}
			return "ok", nil
		}).To("replies"), gostream.DeadLetterTo("dead"), backoff())
		app := gostream.New("shop", "1", quiet())
		otelgostream.Instrument(app, m.option(), otelgostream.WithTracerProvider(nil), otelgostream.WithSentTime())
		app.Mount(b, r)
		p := app.RawPublisher(b)
		_, stop := run(t, app)
		for _, kind := range []string{"good", "good", "fails", "panics", "ignored", "rejected"} {
			publish(t, t.Context(), p, out("orders", `{"Kind":"`+kind+`"}`))
			time.Sleep(time.Minute)
		}
		publish(t, t.Context(), p, out("orders", `{`))
		publish(t, t.Context(), p, out("somewhere", "x"), out("else", "x"))
		time.Sleep(time.Minute)
		stop()

		const sub = "destination.name=orders"
		// This broker delays a nack itself: the two that are retried are delivered twice.
		m.want(t, "messaging.client.consumed.messages", sub+" operation.name=receive subscription=orders system=memory: 9")
		m.want(t, "messaging.client.sent.messages",
			"destination.name=dead operation.name=send system=memory: 3",
			"destination.name=orders operation.name=send system=memory: 7",
			"destination.name=replies operation.name=send system=memory: 2",
			"operation.name=send system=memory: 2", // no destination: nobody declared them
		)
		m.want(t, "messaging.process.duration",
			sub+" error.type=*errors.errorString operation.name=process subscription=orders system=memory: count 3 sum 0.30000000000000004",
			sub+" error.type=panic operation.name=process subscription=orders system=memory: count 2 sum 0.2",
			sub+" error.type=undecodable operation.name=process subscription=orders system=memory: count 1 sum 0",
			sub+" operation.name=process subscription=orders system=memory: count 3 sum 0.30000000000000004", // two, and the ignored one
		)
		m.want(t, "messaging.client.operation.duration",
			"destination.name=dead operation.name=send operation.type=send system=memory: count 3 sum 0",
			"destination.name=orders operation.name=send operation.type=send system=memory: count 7 sum 0",
			"destination.name=replies operation.name=send operation.type=send system=memory: count 2 sum 0",
			"operation.name=send operation.type=send system=memory: count 1 sum 0",
		)
		m.want(t, "gostream.settled.messages",
			sub+" outcome=acked subscription=orders system=memory: 2",
			sub+" outcome=dead-lettered subscription=orders system=memory: 3",
			sub+" outcome=ignored subscription=orders system=memory: 1",
			sub+" outcome=rejected subscription=orders system=memory: 1",
			sub+" outcome=retried subscription=orders system=memory: 2",
		)
		m.want(t, "gostream.message.attempts",
			sub+" outcome=acked subscription=orders system=memory: count 2 sum 2",
			sub+" outcome=dead-lettered subscription=orders system=memory: count 3 sum 5",
			sub+" outcome=ignored subscription=orders system=memory: count 1 sum 1",
			sub+" outcome=rejected subscription=orders system=memory: count 1 sum 1",
		)
		m.want(t, "gostream.dead_lettered.messages",
			sub+" reason=attempts exhausted subscription=orders system=memory: 2",
			sub+" reason=deliveries exceeded subscription=orders system=memory: 0",
			sub+" reason=error subscription=orders system=memory: 0",
			sub+" reason=handler decided subscription=orders system=memory: 0",
			sub+" reason=panic subscription=orders system=memory: 0",
			sub+" reason=undecodable subscription=orders system=memory: 1",
		)
		m.want(t, "gostream.handler.panics", sub+" subscription=orders system=memory: 2")
		m.want(t, "gostream.undecodable.messages", sub+" subscription=orders system=memory: 1")
		m.want(t, "gostream.queue.duration", sub+" subscription=orders system=memory: count 7 sum 0")
		m.want(t, "gostream.payload.size",
			"destination.name=dead operation.type=send system=memory: count 3 sum 34",
			sub+" operation.type=receive subscription=orders system=memory: count 9 sum 134",
			"destination.name=orders operation.type=send system=memory: count 7 sum 101",
			"destination.name=replies operation.type=send system=memory: count 2 sum 4",
			"operation.type=send system=memory: count 2 sum 2",
		)
		m.want(t, "gostream.batch.size")
	})
}

// The durations have the conventions' buckets.
func TestBuckets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMeters()
		b := memory.New()
		r := gostream.NewRouter()
		r.Handle("orders", gostream.Consume(func(context.Context, string) error { return nil }))
		app := gostream.New("shop", "1", quiet())
		otelgostream.Instrument(app, m.option())
		app.Mount(b, r)
		p := app.RawPublisher(b)
		_, stop := run(t, app)
		publish(t, t.Context(), p, out("orders", "x"))
		synctest.Wait()
		stop()
		want := []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
		units := map[string]string{}
		for _, one := range m.collect(t) {
			units[one.Name] = one.Unit
			if one.Name != "messaging.process.duration" && one.Name != "messaging.client.operation.duration" {
				continue
			}
			for _, point := range one.Data.(metricdata.Histogram[float64]).DataPoints {
				if !slices.Equal(point.Bounds, want) {
					t.Errorf("%s has the buckets %v, want %v", one.Name, point.Bounds, want)
				}
			}
		}
		for name, want := range map[string]string{
			"messaging.process.duration": "s", "messaging.client.operation.duration": "s", "messaging.client.sent.messages": "{message}",
			"messaging.client.consumed.messages": "{message}", "gostream.payload.size": "By", "gostream.subscription.oldest": "s",
		} {
			if units[name] != want {
				t.Errorf("%s has the unit %q, want %q", name, units[name], want)
			}
		}
	})
}

// Of a batch: its size, a call once, its messages one by one.
func TestMetricsOfABatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMeters()
		b := memory.New()
		r := gostream.NewRouter()
		calls := 0
		r.Handle("orders", gostream.ConsumeBatch(func(context.Context, []string) error {
			if calls++; calls == 1 {
				panic("the first")
			}
			return nil
		}, 10, time.Second))
		app := gostream.New("shop", "1", quiet())
		otelgostream.Instrument(app, m.option(), otelgostream.WithSentTime())
		app.Mount(b, r)
		p := app.RawPublisher(b)
		_, stop := run(t, app)
		publish(t, t.Context(), p, out("orders", "a"), out("orders", "b"), out("orders", "c"))
		time.Sleep(time.Minute)
		stop()
		const sub = "destination.name=orders"
		m.want(t, "gostream.batch.size", sub+" subscription=orders system=memory: count 2 sum 6")
		m.want(t, "gostream.handler.panics", sub+" subscription=orders system=memory: 1")
		m.want(t, "messaging.client.consumed.messages", sub+" operation.name=receive subscription=orders system=memory: 3")
		m.want(t, "gostream.settled.messages",
			sub+" outcome=acked subscription=orders system=memory: 3",
			sub+" outcome=retried subscription=orders system=memory: 3",
		)
		// The batch waited for a second to be full; a second attempt has not been queued.
		m.want(t, "gostream.queue.duration", sub+" subscription=orders system=memory: count 3 sum 3")
	})
}

// stampedSource gives its messages a time, as a transport does.
type stampedSource struct{ broker.ByName }

func (s stampedSource) Subscribe(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
	sub, err := s.ByName.Subscribe(ctx, b)
	return stampedSubscription{sub}, err
}

type stampedSubscription struct{ broker.Subscription }

func (s stampedSubscription) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	m, err := s.Subscription.Receive(ctx)
	if err != nil {
		return nil, err
	}
	return stamped{m}, nil
}

type stamped struct{ broker.IncomingMessage }

func (m stamped) Timestamp() time.Time {
	ago, err := time.ParseDuration(string(m.Payload()))
	if err != nil {
		return time.Time{}
	}
	return time.Now().Add(-ago)
}

// The transport's time goes before the header's; a clock that is ahead makes no negative
// durations; where nothing is known nothing is recorded.
func TestQueueDuration(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			payload, header string
			want            []string
		}{
			{"7s", "", []string{"count 1 sum 7"}},
			{"7s", "2000-01-01T00:00:00Z", []string{"count 1 sum 7"}},
			{"-5s", "", []string{"count 1 sum 0"}},
			{"none", "", nil},
			{"none", "yesterday", nil},
			{"none", "1999-12-31T23:59:00Z", []string{"count 1 sum 60"}},
		} {
			m := newMeters()
			b := memory.New()
			r := gostream.NewRouter()
			r.HandleSource(stampedSource{"orders"}, gostream.Consume(func(context.Context, string) error { return nil }))
			app := gostream.New("shop", "1", quiet())
			otelgostream.Instrument(app, m.option())
			app.Mount(b, r)
			p := app.RawPublisher(b)
			_, stop := run(t, app)
			msg := out("orders", test.payload)
			if test.header != "" {
				msg.Headers = msg.Headers.With(otelgostream.HeaderSent, test.header)
			}
			publish(t, t.Context(), p, msg)
			synctest.Wait()
			stop()
			var got []string
			for _, point := range m.points(t, "gostream.queue.duration") {
				_, value, _ := strings.Cut(point, ": ")
				got = append(got, value)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("a message of %s, header %q: %q, want %q", test.payload, test.header, got, test.want)
			}
		}
	})
}

// The gauges tell how a service is, while it runs and when it has ended.
func TestGauges(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMeters()
		b := memory.New()
		release := make(chan struct{})
		r := gostream.NewRouter()
		r.HandleSource(hidden{"orders"}, gostream.Consume(func(_ context.Context, s string) error {
			if s == "fails" {
				return errNo
			}
			<-release
			return nil
		}), gostream.RetryBackoff(gostream.Exponential(time.Hour, time.Hour)))
		app := gostream.New("shop", "1", quiet())
		otelgostream.Instrument(app, m.option())
		app.Mount(b, r)
		p := app.RawPublisher(b)
		svc, stop := run(t, app)
		publish(t, t.Context(), p, out("orders", "fails"), out("orders", "waits"), out("orders", "lags"), out("orders", "lags"))
		time.Sleep(10 * time.Second)

		const sub = "app=shop destination.name=orders subscription=orders system=memory"
		m.want(t, "gostream.subscription.in_flight", sub+": 2")
		m.want(t, "gostream.subscription.parked", sub+": 1")
		m.want(t, "gostream.subscription.oldest", sub+": 10")
		m.want(t, "gostream.subscription.lag", sub+": 2")
		m.want(t, "gostream.service.ready", "app=shop: 1")
		m.want(t, "gostream.settle.failures", "app=shop: 0")
		m.want(t, "gostream.send.failures", "app=shop: 0")
		m.want(t, "gostream.broker.healthy", "app=shop system=memory: 1")
		m.want(t, "gostream.subscription.state", states("running")...)
		close(release)
		synctest.Wait()
		if err := svc.Pause(t.Context(), "orders"); err != nil {
			t.Error(err)
		}
		m.want(t, "gostream.subscription.state", states("paused")...)
		stop()
		m.want(t, "gostream.subscription.state", states("stopped")...)
		m.want(t, "gostream.service.ready", "app=shop: 0")
		m.want(t, "gostream.subscription.in_flight", sub+": 0")
		m.want(t, "gostream.broker.healthy", "app=shop system=memory: 0")
	})
}

func states(is string) []string {
	var all []string
	for _, s := range []string{"down", "draining", "paused", "running", "starting", "stopped"} {
		n := 0
		if s == is {
			n = 1
		}
		all = append(all, fmt.Sprintf("app=shop destination.name=orders state=%s subscription=orders system=memory: %d", s, n))
	}
	return all
}

// hidden is a source whose messages are parked when they fail, and whose lag is known.
type hidden struct{ broker.ByName }

func (s hidden) Subscribe(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
	sub, err := s.ByName.Subscribe(ctx, b)
	return hiddenSubscription{sub}, err
}

type hiddenSubscription struct{ broker.Subscription }

func (s hiddenSubscription) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	m, err := s.Subscription.Receive(ctx)
	if err != nil {
		return nil, err
	}
	return struct{ broker.IncomingMessage }{m}, nil
}

func (s hiddenSubscription) Lag(ctx context.Context) (int64, error) {
	return broker.Lag(ctx, s.Subscription)
}

// A thousand subjects make no more time series than one.
func TestLowCardinality(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, s := newMeters(), newSpans()
		b := memory.New()
		r := gostream.NewRouter()
		r.HandleSource(memory.Pattern("orders.*"), gostream.Reply(func(context.Context, string) (string, error) { return "", errors.New("no") }).ToReplyTo())
		app := gostream.New("shop", "1", quiet())
		otelgostream.Instrument(app, m.option(), s.option())
		app.Mount(b, r)
		p := app.RawPublisher(b)
		ask := gostream.NewRequester[gostream.Outgoing[string], string](app, b, "orders.any")
		_, stop := run(t, app)
		for i := range 100 {
			name := fmt.Sprintf("orders.%d", i)
			publish(t, t.Context(), p, out(name, "x"), out(name+"b", "x"))
			if _, err := ask.Request(t.Context(), gostream.Outgoing[string]{Body: "x", To: name}); err == nil {
				t.Error("the request did not fail")
			}
			time.Sleep(time.Second)
		}
		stop()
		for _, one := range m.collect(t) {
			if n := len(m.points(t, one.Name)); n > 8 {
				t.Errorf("%s has %d series", one.Name, n)
			}
		}
		m.want(t, "messaging.client.sent.messages",
			"operation.name=request system=memory: 100",
			"operation.name=send system=memory: 300", // and the answers, to inboxes
		)
		names := map[string]bool{}
		for _, span := range s.Ended() {
			names[span.Name()] = true
		}
		if len(names) > 6 {
			t.Errorf("the spans have the names %v", names)
		}
		temporary := 0
		for _, send := range s.named("send") {
			if attr(send, "messaging.destination.temporary") == "true" {
				temporary++
			}
		}
		if temporary != 100 {
			t.Errorf("%d messages went to a temporary destination, want 100", temporary)
		}
	})
}

// Of a batch that was sent in part, each message is counted as what became of it.
func TestFailedSends(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, s := newMeters(), newSpans()
		b := memory.New()
		app := gostream.New("shop", "1", quiet())
		otelgostream.Instrument(app, m.option(), s.option(), otelgostream.WithDestinations("fine"))
		app.Mount(b)
		p := app.RawPublisher(b)
		run(t, app)
		msgs := []broker.OutgoingMessage{out("fine", "x"), out("bad name", "x"), out("fine", "x")}
		failed := 0
		for _, err := range broker.BatchErrors(p.PublishBatch(t.Context(), msgs), len(msgs)) {
			if err != nil {
				failed++
			}
		}
		if failed != 1 {
			t.Fatalf("%d messages failed, want 1", failed)
		}
		if err := p.Publish(t.Context(), out("bad name", "x")); !errors.Is(err, broker.ErrInvalid) {
			t.Error(err)
		}
		m.want(t, "messaging.client.sent.messages",
			"destination.name=fine operation.name=send system=memory: 2",
			"error.type=invalid operation.name=send system=memory: 2",
		)
		m.want(t, "messaging.client.operation.duration", "error.type=invalid operation.name=send operation.type=send system=memory: count 2 sum 0")
		for _, send := range s.named("send") {
			if send.Status().Code != codes.Error {
				t.Errorf("the span of a failed send: %v", send.Status())
			}
			wantAttrs(t, send, map[string]string{"error.type": "invalid"})
		}
	})
}

// Two apps of a process may share a provider: each has its own gauges.
func TestTwoApps(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMeters()
		for _, name := range []string{"one", "two"} {
			r := gostream.NewRouter()
			r.Handle("orders", gostream.Consume(func(context.Context, string) error { return nil }))
			app := gostream.New(name, "1", quiet())
			otelgostream.Instrument(app, m.option())
			app.Mount(memory.New(), r)
			run(t, app)
		}
		m.want(t, "gostream.service.ready", "app=one: 1", "app=two: 1")
		m.want(t, "gostream.subscription.in_flight",
			"app=one destination.name=orders subscription=orders system=memory: 0",
			"app=two destination.name=orders subscription=orders system=memory: 0")
	})
}

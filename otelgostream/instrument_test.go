package otelgostream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
	"github.com/gostream/gostream/otelgostream"
	"go.opentelemetry.io/otel/baggage"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// What is wrong is told together by the start, before any I/O.
func TestMistakes(t *testing.T) {
	t.Parallel()
	m := newMeters()
	app := gostream.New("shop", "1", quiet())
	otelgostream.Instrument(app, m.option())
	otelgostream.Instrument(app, m.option(), nil, otelgostream.WithMeterProvider(refusing{}))
	b := &bench{connected: func() { t.Error("the broker was connected") }}
	app.Mount(b)
	_, err := app.Start(t.Context())
	if err == nil {
		t.Fatal("the app has started")
	}
	for _, want := range []string{"otelgostream: ", "instrumented twice", "option 2 is nil", errNo.Error()} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error says nothing of %q: %v", want, err)
		}
	}
	other := gostream.New("shop", "1", quiet()) // of the same name, but another one
	otelgostream.Instrument(other, m.option())
	other.Mount(memory.New())
	run(t, other)
}

// A provider that is a nil pointer turns off what it would serve.
func TestNilProviders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var tracers *sdktrace.TracerProvider
		var meters *sdkmetric.MeterProvider
		b := memory.New()
		r := gostream.NewRouter()
		handled := false
		r.Handle("orders", gostream.Consume(func(ctx context.Context, _ string) error {
			handled = !trace.SpanContextFromContext(ctx).IsValid()
			return nil
		}))
		app := gostream.New("shop", "1", quiet())
		otelgostream.Instrument(app, otelgostream.WithTracerProvider(tracers), otelgostream.WithMeterProvider(meters), otelgostream.WithPropagator(nil))
		app.Mount(b, r)
		p := app.RawPublisher(b)
		_, stop := run(t, app)
		publish(t, t.Context(), p, out("orders", "x"))
		synctest.Wait()
		stop()
		if !handled {
			t.Error("the message was not handled, or with a span")
		}
	})
}

// Publishers that are made while the app runs count as declared, up to a limit.
func TestLatePublishers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMeters()
		b := memory.New()
		app := gostream.New("shop", "1", quiet())
		otelgostream.Instrument(app, m.option())
		app.Mount(b)
		p := app.RawPublisher(b)
		run(t, app)
		publish(t, t.Context(), p, out("late", "x")) // nobody has declared it yet
		late := gostream.NewPublisher[string](app, b, "late")
		if err := late.Publish(t.Context(), "x"); err != nil {
			t.Error(err)
		}
		publish(t, t.Context(), p, out("late", "x"))
		m.want(t, "messaging.client.sent.messages",
			"destination.name=late operation.name=send system=memory: 2",
			"operation.name=send system=memory: 1",
		)
		for i := range 300 {
			if err := gostream.NewPublisher[string](app, b, fmt.Sprintf("late.%d", i)).Publish(t.Context(), "x"); err != nil {
				t.Error(err)
			}
		}
		if n := len(m.points(t, "messaging.client.sent.messages")); n < 50 || n > 110 {
			t.Errorf("there are %d series of 300 late publishers, want some 100", n)
		}
		// One that is faulty takes nothing from the others.
		_ = gostream.NewPublisher[string](app, memory.New(), "faulty")
		publish(t, t.Context(), p, out("late", "x"))
		if got := m.points(t, "messaging.client.sent.messages"); !slices.Contains(got, "destination.name=late operation.name=send system=memory: 3") {
			t.Errorf("after a faulty publisher: %q", got)
		}
	})
}

// A faulty publisher that was made late does not make the others undeclared.
func TestFaultyLatePublisher(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMeters()
		b := memory.New()
		app := gostream.New("shop", "1", quiet())
		otelgostream.Instrument(app, m.option())
		app.Mount(b)
		p := gostream.NewPublisher[string](app, b, "orders")
		run(t, app)
		_ = gostream.NewPublisher[string](app, memory.New(), "faulty") // of a broker that is not mounted
		if err := p.Publish(t.Context(), "x"); err != nil {
			t.Error(err)
		}
		m.want(t, "messaging.client.sent.messages", "destination.name=orders operation.name=send system=memory: 1")
	})
}

// at is a broker with addresses.
type at struct {
	*memory.Broker
	hosts []string
}

func (b at) DescribeServer() broker.ServerSpec {
	return broker.ServerSpec{Protocol: "memory", Hosts: b.hosts}
}

// Spans and the conventions' metrics say where the server is, where there is one to name.
func TestServer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		hosts []string // of the broker
		other []string // of another one of the same kind
		want  string   // of a span of processing
		sent  string   // of a span of sending
	}{
		{"with a port", []string{"mq.example:4222"}, nil, "mq.example 4222", "mq.example 4222"},
		{"without a port", []string{"mq.example"}, nil, "mq.example ", "mq.example "},
		{"IPv6", []string{"[::1]:4222"}, nil, "::1 4222", "::1 4222"},
		{"a cluster", []string{"a:1", "b:1"}, nil, " ", " "},
		{"a credential", []string{"user:secret@mq.example:4222"}, nil, " ", " "},
		{"a path", []string{"nats://mq.example:4222"}, nil, " ", " "},
		{"two brokers", []string{"a:1"}, []string{"b:1"}, "a 1", " "},
		{"two connections to one", []string{"a:1"}, []string{"a:1"}, "a 1", "a 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, m := newSpans(), newMeters()
				b := &at{memory.New(), test.hosts}
				r := gostream.NewRouter()
				r.Handle("orders", gostream.Consume(func(context.Context, string) error { return nil }))
				app := gostream.New("shop", "1", quiet())
				otelgostream.Instrument(app, s.option(), m.option())
				app.Mount(b, r)
				if test.other != nil {
					app.Mount(&at{memory.New(), test.other})
				}
				p := app.RawPublisher(b)
				_, stop := run(t, app)
				publish(t, t.Context(), p, out("orders", "x"), out("orders", "y"))
				synctest.Wait()
				healthy := len(m.points(t, "gostream.broker.healthy"))
				stop()
				got := func(span sdktrace.ReadOnlySpan) string {
					return attr(span, "server.address") + " " + attr(span, "server.port")
				}
				if got := got(s.named("process orders")[0]); got != test.want {
					t.Errorf("the server of a process span is %q, want %q", got, test.want)
				}
				for _, name := range []string{"send orders", "create orders"} {
					if got := got(s.named(name)[0]); got != test.sent {
						t.Errorf("the server of span %s is %q, want %q", name, got, test.sent)
					}
				}
				for name, want := range map[string]string{
					"messaging.client.consumed.messages": test.want, "messaging.process.duration": test.want,
					"messaging.client.sent.messages": test.sent,
				} {
					address, port, _ := strings.Cut(want, " ")
					point := strings.Join(m.points(t, name), "\n")
					if strings.Contains(point, "server.address="+address) != (address != "") || strings.Contains(point, "server.port="+port) != (port != "") {
						t.Errorf("%s is %s, want a server of %q", name, point, want)
					}
				}
				if text := fmt.Sprint(m.collect(t)); strings.Contains(text, "secret") {
					t.Error("a metric has a credential")
				}
				if want := 1 + len(test.other); test.name == "two brokers" && healthy != want {
					t.Errorf("the health of %d brokers is told, want %d", healthy, want)
				}
			})
		})
	}
}

// Apps of one meter provider that begin together, each with its own of everything.
func TestAppsTogether(t *testing.T) {
	t.Parallel()
	prom := otelgostream.PrometheusHandler()
	const apps, messages = 8, 20
	var wg sync.WaitGroup
	for i := range apps {
		wg.Go(func() {
			b := memory.New()
			var handled sync.WaitGroup
			handled.Add(messages)
			r := gostream.NewRouter()
			r.Handle("orders", gostream.Consume(func(context.Context, string) error { return nil }))
			app := gostream.New(fmt.Sprintf("app-%d", i), "1", quiet())
			otelgostream.Instrument(app, otelgostream.WithMeterProvider(prom.MeterProvider()))
			app.Observe(gostream.Observer{Settled: func(gostream.SettledEvent) { handled.Done() }})
			app.Mount(b, r)
			p := app.RawPublisher(b)
			svc, err := app.Start(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			for range messages {
				publish(t, t.Context(), p, out("orders", "x"))
			}
			scrape(t, prom)
			handled.Wait()
			if err := svc.Shutdown(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	text := scrape(t, prom)
	if want := fmt.Sprintf(`gostream_settled_messages_total{gostream_outcome="acked",gostream_subscription="orders",messaging_destination_name="orders",messaging_system="memory"} %d`, apps*messages); !strings.Contains(text, want) {
		t.Errorf("the scrape has no %s", want)
	}
	if got := strings.Count(text, "gostream_service_ready{"); got != apps {
		t.Errorf("%d services are told of, want %d", got, apps)
	}
}

// An app that takes the place of one that has ended, under its name and with its provider,
// is the one that the gauges tell of.
func TestSuccessor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMeters()
		for range 2 {
			app := gostream.New("shop", "1", quiet())
			r := gostream.NewRouter()
			r.Handle("orders", gostream.Consume(func(context.Context, string) error { return nil }))
			otelgostream.Instrument(app, m.option())
			app.Mount(memory.New(), r)
			_, stop := run(t, app)
			m.want(t, "gostream.service.ready", "app=shop: 1")
			m.want(t, "gostream.subscription.state", states("running")...)
			stop()
		}
		m.want(t, "gostream.service.ready", "app=shop: 0")
	})
}

// What stands in the context of the start belongs to no message: neither its span, be it
// another process's, nor its baggage.
func TestContextOfTheStart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSpans()
		b := memory.New()
		r := gostream.NewRouter()
		app := gostream.New("shop", "1", quiet())
		p := app.RawPublisher(b)
		var headers broker.Headers
		r.Handle("orders", gostream.Consume(func(ctx context.Context, _ string) error {
			if bag := baggage.FromContext(ctx); bag.Len() > 0 {
				t.Errorf("the handler's baggage is %v", bag)
			}
			return errors.Join(p.Publish(ctx, out("next", "x")))
		}))
		r.Handle("next", gostream.Raw(func(_ context.Context, d *gostream.Delivery) error {
			headers = d.Headers()
			return nil
		}))
		otelgostream.Instrument(app, s.option(), otelgostream.WithParent())
		app.Mount(b, r)
		member, _ := baggage.NewMember("from", "start")
		bag, _ := baggage.New(member)
		remote := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled})
		svc, err := app.Start(trace.ContextWithRemoteSpanContext(baggage.ContextWithBaggage(t.Context(), bag), remote))
		if err != nil {
			t.Fatal(err)
		}
		feed := memoryFeed(t, b)
		feed("orders")
		synctest.Wait()
		if err := svc.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		process := s.one(t, "process orders")
		if process.Parent().IsValid() || len(process.Links()) > 0 {
			t.Errorf("the span has the parent %v and the links %v", process.Parent(), process.Links())
		}
		if headers.Has("baggage") || strings.Contains(headers.Get("traceparent"), remote.TraceID().String()) {
			t.Errorf("the next service gets %v", headers)
		}
	})
}

// memoryFeed publishes past the app, as a service that traces nothing.
func memoryFeed(t *testing.T, b *memory.Broker) func(name string) {
	p, ok := broker.DefaultPublisher(b)
	if !ok {
		t.Fatal("the broker has no publisher")
	}
	return func(name string) {
		if err := p.Publish(t.Context(), out(name, "x")); err != nil {
			t.Error(err)
		}
	}
}

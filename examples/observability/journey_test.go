package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
	"github.com/gostream/gostream/brokers/nats/embedded"
	"github.com/gostream/gostream/memory"
	"github.com/gostream/gostream/otelgostream"
	"github.com/nats-io/nats.go/jetstream"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// One trace goes through three services and two brokers, one of them a NATS server: a
// request, its reply, a retry and a dead letter. (Module otelgostream has the same with
// stores in memory alone: it needs no broker of another module.)
func TestOneTraceOverTwoBrokers(t *testing.T) {
	t.Parallel()
	server, err := embedded.Start(embedded.Config{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Shutdown(context.WithoutCancel(t.Context())) })
	store := memory.NewStore()
	stream := func(subject string) broker.Source {
		return nats.Stream(subject, "SHOP").Create(jetstream.StreamConfig{Subjects: []string{"shop.>"}, Storage: jetstream.MemoryStorage})
	}
	connect := func() (*memory.Broker, *nats.Broker) {
		return memory.New(memory.On(store)), nats.New("", nats.InProcess(server), nats.ConfirmPublishes())
	}
	recorder := tracetest.NewSpanRecorder()
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	metrics := newTelemetry()
	app := func(name string) *gostream.App {
		a := gostream.New(name, "1", gostream.WithLogger(slog.New(slog.DiscardHandler)))
		otelgostream.Instrument(a, otelgostream.WithTracerProvider(tracers), otelgostream.WithParent(),
			otelgostream.WithMeterProvider(metrics.metrics.MeterProvider()))
		return a
	}
	errNo := errors.New("no")
	done := make(chan struct{})

	// Billing reads confirmations from NATS, asks for the price in memory, and gives up.
	mem, nc := connect()
	billing := app("billing")
	ask := gostream.NewRequester[string, string](billing, mem, "prices")
	r := gostream.NewRouter()
	r.HandleSource(stream("shop.confirmed"), gostream.Consume(func(ctx context.Context, order string) error {
		d, _ := gostream.DeliveryFrom(ctx)
		if d.Attempt() == 1 {
			return errNo
		}
		if price, err := ask.Request(ctx, order); err != nil || price != "12" {
			t.Errorf("the price is %q, %v", price, err)
		}
		return gostream.DeadLetter(errNo)
	}), gostream.DeadLetterTo("shop.dead"), gostream.RetryBackoff(gostream.Exponential(time.Millisecond, time.Millisecond).Attempts(3)))
	billing.Mount(nc, r)
	billing.Mount(mem)

	// The office answers in memory, and looks at dead letters on NATS.
	mem, nc = connect()
	office := app("office")
	answers, dead := gostream.NewRouter(), gostream.NewRouter()
	answers.Handle("prices", gostream.Reply(func(context.Context, string) (string, error) { return "12", nil }).ToReplyTo())
	dead.HandleSource(stream("shop.dead"), gostream.Raw(func(context.Context, *gostream.Delivery) error {
		return nil
	}))
	office.Observe(gostream.Observer{Settled: func(e gostream.SettledEvent) {
		if e.Delivery.Subscription().Name() == "shop.dead" {
			close(done)
		}
	}})
	office.Mount(mem, answers)
	office.Mount(nc, dead)

	// The shop takes orders in memory and confirms them on NATS.
	mem, nc = connect()
	shop := app("shop")
	r = gostream.NewRouter()
	r.Handle("orders", gostream.Reply(func(_ context.Context, order string) (string, error) { return order, nil }).To("shop.confirmed").Via(shop.RawPublisher(nc)))
	shop.Mount(mem, r)
	shop.Mount(nc)
	orders := gostream.NewPublisher[string](shop, mem, "orders")

	var services []*gostream.Service
	for _, a := range []*gostream.App{billing, office, shop} {
		svc, err := a.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		services = append(services, svc)
	}
	if err := orders.Publish(t.Context(), "o-1", gostream.Header(broker.HeaderMessageID, "o-1")); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("the dead letter has not come")
	}
	for _, svc := range services {
		if err := svc.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}

	// The spans in the order of the journey; the parent of each is the span at that index.
	steps := []struct {
		name, system string
		parent       int
	}{
		{"send orders", "memory", -1},
		{"process orders", "memory", 0},
		{"send shop.confirmed", "nats", 1},
		{"process shop.confirmed", "nats", 2}, // fails
		{"process shop.confirmed", "nats", 2},
		{"request prices", "memory", 4},
		{"process prices", "memory", 5},
		{"send", "memory", 6},
		{"send shop.dead", "nats", 4},
		{"process shop.dead", "nats", 8},
	}
	found := make([]sdktrace.ReadOnlySpan, len(steps))
	rest := recorder.Ended()
	for i, step := range steps {
		for k, s := range rest {
			if s != nil && s.Name() == step.name && (found[i] == nil || s.StartTime().Before(found[i].StartTime())) {
				if found[i] != nil {
					rest = append(rest, found[i])
				}
				found[i], rest[k] = s, nil
			}
		}
		s := found[i]
		if s == nil {
			t.Fatalf("step %d: no span is called %q", i, step.name)
		}
		if s.SpanContext().TraceID() != found[0].SpanContext().TraceID() {
			t.Errorf("step %d, %q, is in another trace", i, step.name)
		}
		if step.parent >= 0 && s.Parent().SpanID() != found[step.parent].SpanContext().SpanID() {
			t.Errorf("step %d, %q, is not a child of step %d", i, step.name, step.parent)
		}
		for _, a := range s.Attributes() {
			if a.Key == "messaging.system" && a.Value.String() != step.system {
				t.Errorf("step %d, %q, is on %q, want %q", i, step.name, a.Value.String(), step.system)
			}
		}
	}
	for _, s := range rest {
		if s != nil {
			t.Errorf("a span more: %q", s.Name())
		}
	}

	// JetStream says when it stored a message; the memory broker says nothing.
	all := scrape(t, metrics)
	if got := sum(all, "gostream_queue_duration_seconds_count", "gostream_subscription=shop.confirmed"); got != 1 {
		t.Errorf("the queueing of %v messages was measured, want 1", got)
	}
	if got := sum(all, "gostream_queue_duration_seconds_sum"); got <= 0 || got > 20 {
		t.Errorf("messages were queued for %v s", got)
	}
	for _, s := range all {
		if strings.HasPrefix(s.metric, "gostream_queue_duration") && s.labels["messaging_system"] == "memory" {
			t.Errorf("%s%v came out", s.metric, s.labels)
		}
	}
}

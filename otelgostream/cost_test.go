package otelgostream_test

import (
	"context"
	"errors"
	"math"
	"testing"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/otelgostream"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// bench is a broker that hands out a message as often as it is told to, and drops what is
// published: it allocates nothing.
type bench struct {
	turn      chan struct{}
	msg       broker.IncomingMessage
	connected func() // nil: nobody is told
}

func (b *bench) Connect(context.Context) error {
	if b.connected != nil {
		b.connected()
	}
	return nil
}

func (*bench) Shutdown(context.Context) error                                   { return nil }
func (b *bench) Subscribe(context.Context, string) (broker.Subscription, error) { return b, nil }
func (b *bench) Publisher() broker.Publisher                                    { return b }
func (*bench) Publish(context.Context, broker.OutgoingMessage) error            { return nil }
func (*bench) Close(context.Context) error                                      { return nil }
func (*bench) Properties() broker.Properties                                    { return broker.Properties{Redelivers: true} }

func (b *bench) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	select {
	case <-b.turn:
		return b.msg, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type benchMessage struct{ headers broker.Headers }

func (benchMessage) Name() string                     { return "orders" }
func (benchMessage) Payload() []byte                  { return nil }
func (m benchMessage) Headers() broker.Headers        { return m.headers }
func (benchMessage) Ack(context.Context) error        { return nil }
func (benchMessage) Nack(context.Context, bool) error { return nil }

// nowhere takes spans and keeps none.
type nowhere struct{}

func (nowhere) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (nowhere) OnEnd(sdktrace.ReadOnlySpan)                     {}
func (nowhere) Shutdown(context.Context) error                  { return nil }
func (nowhere) ForceFlush(context.Context) error                { return nil }

func tracing(s sdktrace.Sampler) otelgostream.Option {
	return otelgostream.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSampler(s), sdktrace.WithSpanProcessor(nowhere{})))
}

// costs are the modes in which instrumentation is measured, with what a message may
// allocate: handled, and published. Neither more nor less: who makes it cheaper writes so.
func costs() []cost {
	noTraces, noMetrics := otelgostream.WithTracerProvider(nil), otelgostream.WithMeterProvider(nil)
	metrics := otelgostream.WithMeterProvider(otelgostream.PrometheusHandler().MeterProvider())
	return []cost{
		{"not instrumented", nil, 1, 0},
		{"off", []otelgostream.Option{noTraces, noMetrics}, 1, 0},
		{"global providers, none set", []otelgostream.Option{}, 11, 6},
		{"metrics", []otelgostream.Option{noTraces, metrics}, 1, 1},
		{"traces, unsampled", []otelgostream.Option{noMetrics, tracing(sdktrace.NeverSample())}, 14, 8},
		{"traces, sampled", []otelgostream.Option{noMetrics, tracing(sdktrace.AlwaysSample())}, 23, 11},
		{"metrics and sampled traces", []otelgostream.Option{metrics, tracing(sdktrace.AlwaysSample())}, 23, 11},
	}
}

type cost struct {
	name            string
	opts            []otelgostream.Option // nil: not instrumented
	handle, publish float64
}

// rig starts an app that is instrumented so.
func (c cost) rig(tb testing.TB) (handle, publish func(n int)) {
	b := &bench{turn: make(chan struct{}), msg: &benchMessage{broker.NewHeaders(
		broker.Header{Key: "traceparent", Value: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})}}
	done := make(chan struct{})
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Raw(func(context.Context, *gostream.Delivery) error { done <- struct{}{}; return nil }))
	app := gostream.New("bench", "0", quiet())
	if c.opts != nil {
		otelgostream.Instrument(app, c.opts...)
	}
	app.Mount(b, r)
	p := app.RawPublisher(b)
	svc, err := app.Start(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = svc.Shutdown(context.Background()) })
	handle = func(n int) {
		for range n {
			b.turn <- struct{}{}
			<-done
		}
	}
	ctx, msg := context.Background(), broker.OutgoingMessage{Name: "orders"}
	publish = func(n int) {
		for range n {
			if err := p.Publish(ctx, msg); err != nil {
				tb.Error(err)
			}
		}
	}
	return handle, publish
}

// TestCost gates what instrumentation allocates for a message.
func TestCost(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	const n, slack = 512, 0.05
	for _, c := range costs() {
		handle, publish := c.rig(t)
		for _, one := range []struct {
			what string
			do   func(int)
			want float64
		}{{"handled", handle, c.handle}, {"published", publish, c.publish}} {
			one.do(n)
			got := testing.AllocsPerRun(10, func() { one.do(n) }) / n
			t.Logf("%s: %.2f allocations a message %s", c.name, got, one.what)
			if math.Abs(got-one.want) > slack {
				t.Errorf("%s: %.2f allocations a message %s, %v are written down", c.name, got, one.what, one.want)
			}
		}
	}
}

func BenchmarkHandle(b *testing.B) {
	for _, c := range costs() {
		b.Run(c.name, func(b *testing.B) {
			handle, _ := c.rig(b)
			b.ReportAllocs()
			handle(b.N)
		})
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, c := range costs() {
		b.Run(c.name, func(b *testing.B) {
			_, publish := c.rig(b)
			b.ReportAllocs()
			publish(b.N)
		})
	}
}

// Instruments that a provider refuses end the start.
func TestRefusedInstrument(t *testing.T) {
	t.Parallel()
	app := gostream.New("shop", "1", quiet())
	otelgostream.Instrument(app, otelgostream.WithMeterProvider(refusing{}))
	app.Mount(&bench{})
	if _, err := app.Start(t.Context()); !errors.Is(err, errNo) {
		t.Errorf("the start answers %v, want %v", err, errNo)
	}
}

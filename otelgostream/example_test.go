package otelgostream_test

import (
	"context"
	"log/slog"
	"net/http"
	"os"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/memory"
	"github.com/gostream/gostream/otelgostream"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Metrics for Prometheus, with nothing else to set up.
func ExamplePrometheusHandler() {
	app := gostream.New("shop", "1.0.0")

	prom := otelgostream.PrometheusHandler()
	otelgostream.Instrument(app, otelgostream.WithMeterProvider(prom.MeterProvider()))
	http.Handle("/metrics", prom)

	app.Mount(memory.New())
	// Output:
}

// Traces, metrics and logs together.
func ExampleInstrument() {
	tracers := sdktrace.NewTracerProvider() // with an exporter: sdktrace.WithBatcher(…)
	prom := otelgostream.PrometheusHandler()
	log := slog.New(otelgostream.LogHandler(slog.NewJSONHandler(os.Stderr, nil)))

	app := gostream.New("shop", "1.0.0", gostream.WithLogger(log))
	otelgostream.Instrument(app, // before the app's own middleware
		otelgostream.WithTracerProvider(tracers),
		otelgostream.WithMeterProvider(prom.MeterProvider()),
		otelgostream.WithParent(),   // one trace through all services
		otelgostream.WithSentTime(), // where the transport tells no time
	)
	app.AfterShutdown(func(ctx context.Context) error { return tracers.Shutdown(ctx) })

	app.Mount(memory.New())
	// Output:
}

// Command observability is a service with everything on: traces, metrics, logs with the
// ids of the traces, and health endpoints. It needs no server: the broker is in the
// process, and so is what orders.
//
//	go run ./examples/observability
//
// It prints where to look, and works until Ctrl-C. Then it drains, and prints what the drain
// did, how many spans of which name there were, and one whole trace: that of an order that
// ended in the dead letter.
//
// The flags:
//
//	-listen  where /metrics and the health endpoints are; by default 127.0.0.1:9464
//	-for     end after that time by itself
//	-v       show the log of every message, not of problems alone
//
// deploy/ has a dashboard and alert rules for these metrics.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/memory"
	"github.com/gostream/gostream/ops"
	"github.com/gostream/gostream/otelgostream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// shutdownTimeout is for handlers that still run at the end.
const shutdownTimeout = 5 * time.Second

func main() {
	listen := flag.String("listen", "127.0.0.1:9464", "where the metrics and the health endpoints are")
	limit := flag.Duration("for", 0, "end after that time; 0: at Ctrl-C")
	verbose := flag.Bool("v", false, "show the log of every message")
	flag.Parse()
	level := slog.LevelWarn
	if *verbose {
		level = slog.LevelInfo
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	if *limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *limit)
		defer cancel()
	}
	l, err := net.Listen("tcp", *listen)
	if err == nil {
		err = run(ctx, l, os.Stdout, slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "observability:", err)
		os.Exit(1)
	}
}

// telemetry is where traces and metrics go.
type telemetry struct {
	spans   *spanStore
	tracers *sdktrace.TracerProvider
	metrics *otelgostream.Prometheus
}

func newTelemetry() *telemetry {
	about := resource.NewSchemaless(attribute.String("service.name", "observability"), attribute.String("service.version", "1.0.0"))
	store := newSpanStore()
	return &telemetry{
		spans: store,
		// A real service has an exporter to its collector here, and a batcher around it.
		tracers: sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithSyncer(store)),
		metrics: otelgostream.PrometheusHandler(otelgostream.WithResource(about)),
	}
}

// instrument adds traces and metrics to an app, before its own middleware.
func (t *telemetry) instrument(app *gostream.App) {
	otelgostream.Instrument(app,
		otelgostream.WithTracerProvider(t.tracers),
		otelgostream.WithMeterProvider(t.metrics.MeterProvider()),
		otelgostream.WithParent(),   // one trace from an order to its dead letter
		otelgostream.WithSentTime(), // the broker in memory tells no time
	)
}

// run runs the service until ctx ends.
func run(ctx context.Context, l net.Listener, out io.Writer, log slog.Handler) error {
	t := newTelemetry()
	logger := slog.New(otelgostream.LogHandler(log))
	s := newService(memory.New(), t.instrument, gostream.WithLogger(logger), gostream.ShutdownTimeout(shutdownTimeout))
	s.log = logger
	health, err := ops.New(s.app)
	if err != nil {
		return err
	}

	mux := http.NewServeMux()
	mux.Handle("GET /metrics", t.metrics)
	mux.Handle("/", health)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer func() { _ = server.Close() }()

	svc, err := s.app.Start(ctx)
	if err != nil {
		return err
	}
	at := "http://" + l.Addr().String()
	fmt.Fprintf(out, "metrics        %s/metrics\nready          %s/readyz\nsubscriptions  %s/subscriptions\nEnd it with Ctrl-C.\n", at, at, at)

	orderErr := s.order(ctx, t.tracers.Tracer("orders"), 20*time.Millisecond)
	// That ctx has ended must not hurry the drain.
	err = errors.Join(orderErr, svc.Shutdown(context.WithoutCancel(ctx)), t.tracers.Shutdown(context.WithoutCancel(ctx)))
	if r, ok := svc.Report(); ok {
		fmt.Fprintf(out, "\ndrained        finished %d, given back %d, abandoned %d, lost %d, in %v\n", r.Finished, r.GivenBack, r.Abandoned, r.Lost, r.Took.Round(time.Millisecond))
	}
	t.spans.summary(out)

	_ = server.Close()
	if failed := <-served; !errors.Is(failed, http.ErrServerClosed) {
		err = errors.Join(err, failed)
	}
	return err
}

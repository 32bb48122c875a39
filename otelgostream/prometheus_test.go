package otelgostream_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/memory"
	"github.com/gostream/gostream/otelgostream"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
)

func scrape(t *testing.T, h http.Handler) string {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if rec.Code != http.StatusOK {
		t.Fatalf("the scrape answers %d: %s", rec.Code, rec.Body)
	}
	return rec.Body.String()
}

func TestPrometheusHandler(t *testing.T) {
	t.Parallel()
	prom := otelgostream.PrometheusHandler(
		otelgostream.WithResource(resource.NewSchemaless(attribute.String("service.name", "shop"))),
		otelgostream.WithView(sdkmetric.NewView(sdkmetric.Instrument{Name: "gostream.payload.size"}, sdkmetric.Stream{Aggregation: sdkmetric.AggregationDrop{}})),
	)
	other := otelgostream.PrometheusHandler() // has nothing to do with the first
	prom.Registerer().MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "mine"}, func() float64 { return 7 }))

	b := memory.New()
	done := make(chan struct{})
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Consume(func(context.Context, string) error { return nil }))
	app := gostream.New("shop", "1", quiet())
	otelgostream.Instrument(app, otelgostream.WithMeterProvider(prom.MeterProvider()))
	app.Observe(gostream.Observer{Settled: func(gostream.SettledEvent) { close(done) }}) // after ours
	app.Mount(b, r)
	p := app.RawPublisher(b)
	run(t, app)
	publish(t, t.Context(), p, out("orders", "x"))
	<-done
	text := scrape(t, prom)
	const sub = `gostream_subscription="orders",messaging_destination_name="orders"`
	for _, want := range []string{
		"mine 7\n",
		`target_info{service_name="shop"} 1`,
		`messaging_client_consumed_messages_total{` + sub + `,messaging_operation_name="receive",messaging_system="memory"} 1`,
		`messaging_process_duration_seconds_bucket{` + sub + `,messaging_operation_name="process",messaging_system="memory",le="0.005"} `,
		`gostream_settled_messages_total{gostream_outcome="acked",` + sub + `,messaging_system="memory"} 1`,
		`gostream_subscription_state{gostream_app="shop",gostream_state="running",` + sub + `,messaging_system="memory"} 1`,
		`gostream_service_ready{gostream_app="shop"} 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the scrape has no %s", want)
		}
	}
	if strings.Contains(text, "payload_size") || strings.Contains(text, "otel_scope") {
		t.Error("the scrape has what a view drops, or the scope on every line")
	}
	if t.Failed() {
		t.Log(text)
	}
	if text := scrape(t, other); strings.Contains(text, "gostream_") {
		t.Errorf("the other handler serves\n%s", text)
	}
}

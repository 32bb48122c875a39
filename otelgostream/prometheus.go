package otelgostream

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
)

// Prometheus is an http.Handler that serves metrics in Prometheus's format, with a registry
// and a meter provider of its own, so that nothing global takes part. It is safe for
// concurrent use. Names follow Prometheus's customs: messaging.process.duration is
// messaging_process_duration_seconds there.
type Prometheus struct {
	handler  http.Handler
	registry *prometheus.Registry
	provider *sdkmetric.MeterProvider
}

// PrometheusOption configures [PrometheusHandler].
type PrometheusOption func(*[]sdkmetric.Option)

// WithResource says what the metrics are about, such as the service's name: it becomes the
// metric target_info. The default is that of the SDK, which reads OTEL_SERVICE_NAME and
// OTEL_RESOURCE_ATTRIBUTES.
func WithResource(r *resource.Resource) PrometheusOption {
	return func(o *[]sdkmetric.Option) { *o = append(*o, sdkmetric.WithResource(r)) }
}

// WithView adds a view, which renames, drops or aggregates metrics otherwise.
func WithView(v ...sdkmetric.View) PrometheusOption {
	return func(o *[]sdkmetric.Option) { *o = append(*o, sdkmetric.WithView(v...)) }
}

// PrometheusHandler returns a handler to mount, mostly at /metrics. Give its MeterProvider
// to [Instrument]. It may serve several apps of a process: what they count adds up where
// their subscriptions have the same name.
func PrometheusHandler(opts ...PrometheusOption) *Prometheus {
	p := &Prometheus{registry: prometheus.NewRegistry()}
	reader, err := exporter.New(exporter.WithRegisterer(p.registry), exporter.WithoutScopeInfo())
	if err != nil {
		// A registry that is new and empty refuses nothing.
		p.provider = sdkmetric.NewMeterProvider()
		p.handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		})
		return p
	}
	all := []sdkmetric.Option{sdkmetric.WithReader(reader)}
	for _, o := range opts {
		if o != nil {
			o(&all)
		}
	}
	p.provider = sdkmetric.NewMeterProvider(all...)
	p.handler = promhttp.HandlerFor(p.registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
	return p
}

// ServeHTTP serves the metrics as they are now.
func (p *Prometheus) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.handler.ServeHTTP(w, r) }

// MeterProvider is where the metrics come from.
func (p *Prometheus) MeterProvider() metric.MeterProvider { return p.provider }

// Registerer takes collectors of Prometheus's own, such as those of the Go runtime.
func (p *Prometheus) Registerer() prometheus.Registerer { return p.registry }

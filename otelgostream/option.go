package otelgostream

import (
	"fmt"
	"reflect"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// Option configures [Instrument].
type Option func(*config)

// DefaultHealthTimeout bounds the question how the service is, which a collection of the
// metrics asks once.
const DefaultHealthTimeout = 2 * time.Second

type config struct {
	tracers      trace.TracerProvider // nil: no traces
	meters       metric.MeterProvider // nil: no metrics
	propagator   propagation.TextMapPropagator
	parent       bool
	clientSpans  bool
	createSpans  bool
	sentTime     bool
	destinations []string
	health       time.Duration
	errs         []error // what is wrong; told by the app's start
}

func newConfig(opts []Option) config {
	c := config{
		tracers:     otel.GetTracerProvider(),
		meters:      otel.GetMeterProvider(),
		propagator:  propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}),
		createSpans: true,
		health:      DefaultHealthTimeout,
	}
	for i, o := range opts {
		if o == nil {
			c.errs = append(c.errs, fmt.Errorf("option %d is nil: leave it out", i+1))
			continue
		}
		o(&c)
	}
	return c
}

// isNil reports a nil interface or a nil pointer in one.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	r := reflect.ValueOf(v)
	return r.Kind() == reflect.Pointer && r.IsNil()
}

// WithTracerProvider sets where spans go. The default is the global provider, which makes
// none until one is set; nil turns traces off, and the reading and writing of their headers
// with them: what gostream itself carries over still is. A nil pointer is nil, too.
func WithTracerProvider(p trace.TracerProvider) Option {
	if isNil(p) {
		p = nil
	}
	return func(c *config) { c.tracers = p }
}

// WithMeterProvider sets where metrics go. The default is the global provider, which drops
// them until one is set; nil turns metrics off. A nil pointer is nil, too.
func WithMeterProvider(p metric.MeterProvider) Option {
	if isNil(p) {
		p = nil
	}
	return func(c *config) { c.meters = p }
}

// WithPropagator sets how the context of a trace is written to headers and read. The
// default is that of the W3C, with baggage; nil, too. The global propagator is not asked:
// without a setting of its own it writes nothing.
func WithPropagator(p propagation.TextMapPropagator) Option {
	return func(c *config) {
		if !isNil(p) {
			c.propagator = p
		}
	}
}

// WithParent makes the span of a single message's processing a child of the span that
// sent it, so that one trace goes through all services. By default it begins a trace of
// its own, which links to the sender's, as the conventions have it. It is linked either
// way. Batches always link: a span has one parent.
func WithParent() Option { return func(c *config) { c.parent = true } }

// WithClientSpans adds the spans of receiving and of settling. A receive span is the moment
// at which a message was handed to a worker: how long the subscription had waited for it is
// not in it. A settle span, "ack" or "nack", is the broker's call alone; what is parked or
// left unsettled has none.
func WithClientSpans() Option { return func(c *config) { c.clientSpans = true } }

// WithoutCreateSpans leaves out the span of each message of a published batch. All of them
// then carry the context of the one span that sends the batch.
func WithoutCreateSpans() Option { return func(c *config) { c.createSpans = false } }

// WithSentTime adds the header [HeaderSent] to everything that the app publishes, and has
// gostream.queue.duration measured from it where the transport tells no time. Publisher and
// consumer then compare their clocks.
func WithSentTime() Option { return func(c *config) { c.sentTime = true } }

// WithDestinations names destinations that raw publishers publish to. Metrics and the names
// of spans tell apart the destinations that the app declares, those of subscriptions, typed
// publishers, replies and dead letters, and these: any other one has no name there, so that
// inboxes and the like do not make time series without end.
func WithDestinations(names ...string) Option {
	return func(c *config) { c.destinations = append(c.destinations, names...) }
}

// WithHealthTimeout replaces [DefaultHealthTimeout]; d <= 0 leaves it.
func WithHealthTimeout(d time.Duration) Option {
	return func(c *config) {
		if d > 0 {
			c.health = d
		}
	}
}

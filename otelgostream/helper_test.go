package otelgostream_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/otelgostream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
)

func quiet() gostream.AppOption { return gostream.WithLogger(slog.New(slog.DiscardHandler)) }

// run starts an app and ends it with the test, or earlier by stop.
func run(t *testing.T, app *gostream.App) (svc *gostream.Service, stop func()) {
	t.Helper()
	svc, err := app.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stop = func() {
		t.Helper()
		if err := svc.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return svc, stop
}

func out(name, payload string, headers ...broker.Header) broker.OutgoingMessage {
	return broker.OutgoingMessage{Name: name, Payload: []byte(payload), Headers: broker.NewHeaders(headers...)}
}

func publish(t *testing.T, ctx context.Context, p *gostream.RawPublisher, msgs ...broker.OutgoingMessage) {
	t.Helper()
	var err error
	if len(msgs) == 1 {
		err = p.Publish(ctx, msgs[0])
	} else {
		err = p.PublishBatch(ctx, msgs)
	}
	if err != nil {
		t.Error(err)
	}
}

// spans records what was traced.
type spans struct {
	*tracetest.SpanRecorder
	provider *sdktrace.TracerProvider
}

func newSpans(opts ...sdktrace.TracerProviderOption) *spans {
	r := tracetest.NewSpanRecorder()
	return &spans{r, sdktrace.NewTracerProvider(append(opts, sdktrace.WithSpanProcessor(r))...)}
}

func (s *spans) option() otelgostream.Option {
	return otelgostream.WithTracerProvider(s.provider)
}

// named are the ended spans of that name, in the order of their start.
func (s *spans) named(name string) []sdktrace.ReadOnlySpan {
	var found []sdktrace.ReadOnlySpan
	for _, span := range s.Ended() {
		if span.Name() == name {
			found = append(found, span)
		}
	}
	slices.SortStableFunc(found, func(a, b sdktrace.ReadOnlySpan) int { return a.StartTime().Compare(b.StartTime()) })
	return found
}

// one is the only span of that name.
func (s *spans) one(t *testing.T, name string) sdktrace.ReadOnlySpan {
	t.Helper()
	found := s.named(name)
	if len(found) != 1 {
		t.Fatalf("%d spans are called %q, want 1: %s", len(found), name, s.names())
	}
	return found[0]
}

func (s *spans) names() string {
	var names []string
	for _, span := range s.Ended() {
		names = append(names, span.Name())
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// attr is the text of a span's attribute, "" where there is none.
func attr(s sdktrace.ReadOnlySpan, key string) string {
	for _, a := range s.Attributes() {
		if string(a.Key) == key {
			return a.Value.String()
		}
	}
	return ""
}

func wantAttrs(t *testing.T, s sdktrace.ReadOnlySpan, want map[string]string) {
	t.Helper()
	for key, value := range want {
		if got := attr(s, key); got != value {
			t.Errorf("span %q: %s is %q, want %q", s.Name(), key, got, value)
		}
	}
}

func wantKind(t *testing.T, s sdktrace.ReadOnlySpan, want trace.SpanKind) {
	t.Helper()
	if s.SpanKind() != want {
		t.Errorf("span %q is of kind %v, want %v", s.Name(), s.SpanKind(), want)
	}
}

func wantChild(t *testing.T, child, parent sdktrace.ReadOnlySpan) {
	t.Helper()
	if child.Parent().SpanID() != parent.SpanContext().SpanID() || child.SpanContext().TraceID() != parent.SpanContext().TraceID() {
		t.Errorf("span %q is not a child of %q", child.Name(), parent.Name())
	}
}

func linksTo(s, to sdktrace.ReadOnlySpan) bool {
	return slices.ContainsFunc(s.Links(), func(l sdktrace.Link) bool {
		return l.SpanContext.SpanID() == to.SpanContext().SpanID() && l.SpanContext.TraceID() == to.SpanContext().TraceID()
	})
}

func wantLink(t *testing.T, s, to sdktrace.ReadOnlySpan) {
	t.Helper()
	if !linksTo(s, to) {
		t.Errorf("span %q does not link to %q", s.Name(), to.Name())
	}
}

// meters records what was measured.
type meters struct {
	reader   *metric.ManualReader
	provider *metric.MeterProvider
}

func newMeters() *meters {
	r := metric.NewManualReader()
	return &meters{r, metric.NewMeterProvider(metric.WithReader(r))}
}

func (m *meters) option() otelgostream.Option { return otelgostream.WithMeterProvider(m.provider) }

// points are all data points of a metric as "key=value key=value: value", sorted; of a
// histogram the value is "count n sum s".
func (m *meters) points(t *testing.T, name string) []string {
	t.Helper()
	var got []string
	for _, one := range m.collect(t) {
		if one.Name != name {
			continue
		}
		switch data := one.Data.(type) {
		case metricdata.Sum[int64]:
			for _, p := range data.DataPoints {
				got = append(got, fmt.Sprintf("%s: %d", text(p.Attributes), p.Value))
			}
		case metricdata.Gauge[int64]:
			for _, p := range data.DataPoints {
				got = append(got, fmt.Sprintf("%s: %d", text(p.Attributes), p.Value))
			}
		case metricdata.Gauge[float64]:
			for _, p := range data.DataPoints {
				got = append(got, fmt.Sprintf("%s: %v", text(p.Attributes), p.Value))
			}
		case metricdata.Histogram[int64]:
			for _, p := range data.DataPoints {
				got = append(got, fmt.Sprintf("%s: count %d sum %d", text(p.Attributes), p.Count, p.Sum))
			}
		case metricdata.Histogram[float64]:
			for _, p := range data.DataPoints {
				got = append(got, fmt.Sprintf("%s: count %d sum %v", text(p.Attributes), p.Count, p.Sum))
			}
		default:
			t.Errorf("%s is a %T", name, data)
		}
	}
	slices.Sort(got)
	return got
}

func (m *meters) collect(t *testing.T) []metricdata.Metrics {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := m.reader.Collect(context.WithoutCancel(t.Context()), &rm); err != nil {
		t.Fatal(err)
	}
	var all []metricdata.Metrics
	for _, s := range rm.ScopeMetrics {
		if s.Scope.Name != otelgostream.ScopeName {
			t.Errorf("the scope is %q", s.Scope.Name)
		}
		all = append(all, s.Metrics...)
	}
	return all
}

func (m *meters) want(t *testing.T, name string, want ...string) {
	t.Helper()
	if got := m.points(t, name); !slices.Equal(got, want) {
		t.Errorf("%s is\n\t%s\nwant\n\t%s", name, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func text(set attribute.Set) string {
	var all []string
	for _, a := range set.ToSlice() {
		all = append(all, strings.TrimPrefix(strings.TrimPrefix(string(a.Key), "messaging."), "gostream.")+"="+a.Value.String())
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

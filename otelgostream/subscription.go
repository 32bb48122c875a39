package otelgostream

import (
	"sync/atomic"

	"github.com/gostream/gostream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

func labelsOf(attrs ...attribute.KeyValue) labels {
	o := metric.WithAttributeSet(attribute.NewSet(attrs...))
	return labels{add: []metric.AddOption{o}, record: []metric.RecordOption{o}}
}

// subscription is what is prepared for one subscription of the app.
type subscription struct {
	source string
	base   []attribute.KeyValue // of all its metrics

	plain, consumed, processed, received labels
	acked, nacked, unsettled             labels
	outcomes                             [gostream.OutcomeUnsettled + 1]labels

	observed metric.MeasurementOption // of the gauges
	states   [len(states)]metric.MeasurementOption

	batch atomic.Bool // its handler takes batches; known from the first one on

	spanName string
	start    []trace.SpanStartOption // of the span of a processing
}

func (t *telemetry) newSubscription(s *gostream.Subscription) *subscription {
	base := []attribute.KeyValue{
		keySystem.String(systemOf(s.Broker())),
		keyDestination.String(s.Source()),
		keySubscription.String(s.Name()),
	}
	if g := s.Group(); g != "" {
		base = append(base, keyGroup.String(g))
	}
	sub := &subscription{source: s.Source(), base: base, spanName: opProcess + " " + s.Source()}
	attrs := append(base[:len(base):len(base)], keyOperation.String(opProcess), keyOperationType.String(opProcess))
	sub.start = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attrs...)}
	sub.plain = sub.labels()
	sub.consumed = sub.labels(keyOperation.String(opReceive))
	sub.processed = sub.labels(keyOperation.String(opProcess))
	sub.received = sub.labels(keyOperationType.String(opReceive))
	sub.acked = sub.labels(keyOperation.String(opAck), keyOperationType.String(opSettle))
	sub.nacked = sub.labels(keyOperation.String(opNack), keyOperationType.String(opSettle))
	sub.unsettled = sub.labels(keyOperation.String(opSettle), keyOperationType.String(opSettle))
	for o := range sub.outcomes {
		sub.outcomes[o] = sub.labels(keyOutcome.String(gostream.Outcome(o).String()))
	}
	sub.observe(t.app.Name())
	return sub
}

// labels are the subscription's own and more.
func (s *subscription) labels(more ...attribute.KeyValue) labels {
	return labelsOf(append(s.base[:len(s.base):len(s.base)], more...)...)
}

// settling is the operation that ended an attempt, for metrics and spans.
func (s *subscription) settling(e gostream.SettledEvent) (operation string, l *labels) {
	switch e.Outcome {
	case gostream.OutcomeRejected, gostream.OutcomeGivenBack, gostream.OutcomeRetried:
		return opNack, &s.nacked
	case gostream.OutcomeUnsettled:
		if e.Reason != "" { // it had failed before: which of the two was refused is not known
			return opSettle, &s.unsettled
		}
	}
	return opAck, &s.acked
}

// client are the attributes of the span of receiving or settling a message.
func (s *subscription) client(d *gostream.Delivery, operation, kind string) []attribute.KeyValue {
	attrs := make([]attribute.KeyValue, 0, len(s.base)+10)
	attrs = append(attrs, s.base...)
	attrs = append(attrs, keyOperation.String(operation), keyOperationType.String(kind))
	return s.appendMessage(attrs, d)
}

// systemOf is the conventions' name of a kind of broker, which is mostly the same.
func systemOf(kind string) string {
	if kind == "kafka-secure" {
		return "kafka"
	}
	return kind
}

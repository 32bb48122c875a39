package otelgostream

import (
	"context"
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

// subscription is what is prepared for one subscription of the app, at its start.
type subscription struct {
	source string
	base   []attribute.KeyValue // of all its metrics
	whole  []attribute.KeyValue // base and the server: of the conventions' metrics, and of spans

	plain, consumed, processed, received labels
	acked, nacked, unsettled             labels
	outcomes                             [gostream.OutcomeUnsettled + 1]labels
	deadLetters                          map[string]labels // by reason; of a subscription that has any

	processFailed, settleFailed labelCache // by the error's type; of the latter also by operation

	observed metric.MeasurementOption // of the gauges
	states   [len(states)]metric.MeasurementOption

	batch atomic.Bool // its handler takes batches; known from the first one on

	spanName string
	start    []trace.SpanStartOption // of the span of a processing
}

func (t *telemetry) newSubscription(d gostream.SubscriptionDescription) *subscription {
	s := &d.Subscription
	base := []attribute.KeyValue{
		keySystem.String(systemOf(s.Broker())),
		keyDestination.String(s.Source()),
		keySubscription.String(s.Name()),
	}
	if g := s.Group(); g != "" {
		base = append(base, keyGroup.String(g))
	}
	sub := &subscription{source: s.Source(), base: base, spanName: opProcess + " " + s.Source()}
	sub.whole = append(base[:len(base):len(base)], t.brokers[d.Broker].server...)
	attrs := append(sub.whole[:len(sub.whole):len(sub.whole)], keyOperation.String(opProcess), keyOperationType.String(opProcess))
	sub.start = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attrs...)}
	sub.plain = labelsOf(base...)
	sub.consumed = sub.labels(keyOperation.String(opReceive))
	sub.processed = sub.labels(keyOperation.String(opProcess))
	sub.received = sub.own(keyOperationType.String(opReceive))
	sub.acked = sub.labels(keyOperation.String(opAck), keyOperationType.String(opSettle))
	sub.nacked = sub.labels(keyOperation.String(opNack), keyOperationType.String(opSettle))
	sub.unsettled = sub.labels(keyOperation.String(opSettle), keyOperationType.String(opSettle))
	for o := range sub.outcomes {
		sub.outcomes[o] = sub.own(keyOutcome.String(gostream.Outcome(o).String()))
	}
	if len(d.DeadLetters) > 0 {
		sub.deadLetters = make(map[string]labels, len(deadReasons))
		for _, reason := range deadReasons {
			sub.deadLetters[reason] = sub.own(keyReason.String(reason))
		}
	}
	sub.observe(t.app.Name())
	if t.metrics != nil {
		t.metrics.begin(sub)
	}
	return sub
}

// deadReasons are why a message can come into the dead letter.
var deadReasons = [...]string{
	gostream.ReasonError, gostream.ReasonPanic, gostream.ReasonUndecodable,
	gostream.ReasonExhausted, gostream.ReasonDeliveries, gostream.ReasonVerdict,
}

// begin makes the counters that alerts look at begin with 0: of one that is first seen
// with a 1 Prometheus takes no increase.
func (m *instruments) begin(sub *subscription) {
	ctx := context.Background()
	m.panics.Add(ctx, 0, sub.plain.add...)
	m.undecodable.Add(ctx, 0, sub.plain.add...)
	for _, l := range sub.deadLetters {
		m.deadLettered.Add(ctx, 0, l.add...)
	}
}

// labels are those of one of the conventions' metrics, and more.
func (s *subscription) labels(more ...attribute.KeyValue) labels {
	return labelsOf(append(s.whole[:len(s.whole):len(s.whole)], more...)...)
}

// own are those of one of our own metrics, and more.
func (s *subscription) own(more ...attribute.KeyValue) labels {
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
	attrs := make([]attribute.KeyValue, 0, len(s.whole)+10)
	attrs = append(attrs, s.whole...)
	attrs = append(attrs, keyOperation.String(operation), keyOperationType.String(kind))
	return s.appendMessage(attrs, d)
}

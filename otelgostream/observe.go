package otelgostream

import (
	"context"
	"errors"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// observer is what middleware does not see.
func (t *telemetry) observer() gostream.Observer {
	o := gostream.Observer{Settled: t.settled}
	if t.metrics != nil {
		o.Started = t.watch
	}
	if t.metrics != nil || t.clientSpans {
		o.Received = t.received
	}
	if t.tracer != nil {
		o.Parked = func(d *gostream.Delivery, _ time.Time) {
			if a := attemptIn(d.Context()); a != nil {
				a.settled(d, pending) // unless it is parked because it is retried
			}
		}
	}
	return o
}

// received counts a delivery, and begins its receive span.
func (t *telemetry) received(d *gostream.Delivery) {
	sub := t.of(d.Subscription())
	if sub == nil {
		return
	}
	if m := t.metrics; m != nil {
		m.consumed.Add(context.Background(), 1, sub.consumed.add...)
		m.payloadSize.Record(context.Background(), int64(len(d.Payload())), sub.received.record...)
	}
	if t.tracer == nil || !t.clientSpans {
		return
	}
	from := t.propagator.Extract(context.Background(), &carrier{d.Headers()})
	creation := remoteIn(from)
	opts := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(sub.client(d, opReceive, opReceive)...),
	}
	if creation.IsValid() {
		opts = append(opts, trace.WithLinks(trace.Link{SpanContext: creation}))
	}
	if !t.parent || !creation.IsValid() {
		opts = append(opts, trace.WithNewRoot())
	}
	ctx, span := t.tracer.Start(from, opReceive+" "+sub.source, opts...)
	if !span.IsRecording() {
		span.End()
	}
	d.SetContext(ctx)
}

// settled counts how an attempt ended, and ends its span.
func (t *telemetry) settled(e gostream.SettledEvent) {
	d := e.Delivery
	sub := t.of(d.Subscription())
	if sub == nil {
		return
	}
	ctx := d.Context()
	operation, labels := sub.settling(e)
	settleErr := settlementError(e)
	if m := t.metrics; m != nil {
		m.countSettled(ctx, sub, e)
		if e.Settling > 0 {
			if settleErr != nil {
				failed := sub.labels(keyOperation.String(operation), keyOperationType.String(opSettle), errorType(settleErr))
				labels = &failed
			}
			m.operationDuration.Record(ctx, e.Settling.Seconds(), labels.record...)
		}
	}
	if t.tracer == nil {
		return
	}
	if t.clientSpans && e.Settling > 0 {
		now := time.Now()
		attrs := append(sub.client(d, operation, opSettle), keyOutcome.String(e.Outcome.String()))
		_, span := t.tracer.Start(ctx, operation+" "+sub.source,
			trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attrs...), trace.WithTimestamp(now.Add(-e.Settling)))
		if settleErr != nil {
			span.SetAttributes(errorType(settleErr))
			span.SetStatus(codes.Error, settleErr.Error())
		}
		span.End(trace.WithTimestamp(now))
	}
	if a := attemptIn(ctx); a != nil {
		if e.Reason != "" {
			a.span.SetAttributes(keyReason.String(e.Reason))
		}
		a.settled(d, e.Outcome)
	} else if r := trace.SpanFromContext(ctx); t.clientSpans && r.IsRecording() {
		r.End() // received, and settled without an attempt
	}
}

// settlementError is what the broker answered to a settlement that it did not accept. Where
// the handler had failed before, its error is all that is known.
func settlementError(e gostream.SettledEvent) error {
	if e.Outcome != gostream.OutcomeUnsettled {
		return nil
	}
	var b *broker.Error
	if errors.As(e.Err, &b) {
		return b
	}
	return e.Err
}

func (m *instruments) countSettled(ctx context.Context, sub *subscription, e gostream.SettledEvent) {
	m.settled.Add(ctx, 1, sub.outcomes[e.Outcome].add...)
	switch e.Outcome {
	case gostream.OutcomeRetried, gostream.OutcomeGivenBack, gostream.OutcomeUnsettled:
	case gostream.OutcomeDeadLettered:
		m.deadLettered.Add(ctx, 1, sub.labels(keyReason.String(e.Reason)).add...)
		fallthrough
	default:
		m.attempts.Record(ctx, int64(e.Delivery.Attempt()), sub.outcomes[e.Outcome].record...)
	}
	if e.Err == nil {
		return
	}
	if errors.Is(e.Err, gostream.ErrUndecodable) {
		m.undecodable.Add(ctx, 1, sub.plain.add...)
	}
	var panicked *gostream.PanicError
	if errors.As(e.Err, &panicked) {
		if !sub.batch.Load() { // one of a batch concerns them all, and is counted once
			m.panics.Add(ctx, 1, sub.plain.add...)
		}
	}
}

package otelgostream

import (
	"context"
	"errors"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
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
				a.settled(d, pending, failure{}) // unless it is parked because it is retried
			}
		}
	}
	return o
}

// received counts a delivery, once, whatever becomes of it, and makes its receive span.
func (t *telemetry) received(d *gostream.Delivery) {
	sub := t.of(d.Subscription())
	if sub == nil {
		return
	}
	if m := t.metrics; m != nil {
		m.consumed.Add(context.Background(), 1, sub.consumed.add...)
		m.payloadSize.Record(context.Background(), int64(len(d.Payload())), sub.received.record...)
		if d.Attempt() == 1 {
			if sent := sentTime(d); !sent.IsZero() {
				m.queueDuration.Record(context.Background(), max(0, time.Since(sent).Seconds()), sub.plain.record...)
			}
		}
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
	// That the message was handed over is the end of receiving, and all that is known of it.
	ctx, span := t.tracer.Start(from, opReceive+" "+sub.source, opts...)
	span.End()
	d.SetContext(received{ctx, span.SpanContext()})
}

// received is the context of a delivery that was received and is not handled yet.
type received struct {
	context.Context
	span trace.SpanContext
}

type receivedKey struct{}

// Value finds it in the contexts that descend from it.
func (r received) Value(key any) any {
	if _, ok := key.(receivedKey); ok {
		return r.span
	}
	return r.Context.Value(key)
}

// receivedIn is the receive span that ctx belongs to; invalid for none.
func receivedIn(ctx context.Context) trace.SpanContext {
	sc, _ := ctx.Value(receivedKey{}).(trace.SpanContext)
	return sc
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
	handling, settling := failureOf(e.Err), failureOf(settlementError(e))
	if m := t.metrics; m != nil {
		m.countSettled(ctx, sub, e, handling)
		if e.Settling > 0 {
			if settling.kind != "" {
				failed := sub.settleFailed.get(operation, t.errorTypes.within(settling.kind), sub.labels,
					keyOperation.String(operation), keyOperationType.String(opSettle))
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
		settling.record(span)
		span.End(trace.WithTimestamp(now))
	}
	if a := attemptIn(ctx); a != nil {
		if e.Reason != "" {
			a.span.SetAttributes(keyReason.String(e.Reason))
		}
		if e.Outcome == gostream.OutcomeUnsettled {
			handling = failure{} // the settlement failed
		}
		a.settled(d, e.Outcome, handling)
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

func (m *instruments) countSettled(ctx context.Context, sub *subscription, e gostream.SettledEvent, f failure) {
	m.settled.Add(ctx, 1, sub.outcomes[e.Outcome].add...)
	switch e.Outcome {
	case gostream.OutcomeRetried, gostream.OutcomeGivenBack, gostream.OutcomeUnsettled:
	case gostream.OutcomeDeadLettered:
		l, prepared := sub.deadLetters[e.Reason]
		if !prepared {
			l = sub.own(keyReason.String(e.Reason))
		}
		m.deadLettered.Add(ctx, 1, l.add...)
		fallthrough
	default:
		m.attempts.Record(ctx, int64(e.Delivery.Attempt()), sub.outcomes[e.Outcome].record...)
	}
	switch {
	case f.kind == typeUndecodable:
		m.undecodable.Add(ctx, 1, sub.plain.add...)
	case f.kind == typePanic && !sub.batch.Load(): // one of a batch concerns them all, and is counted once
		m.panics.Add(ctx, 1, sub.plain.add...)
	}
}

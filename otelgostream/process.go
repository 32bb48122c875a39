package otelgostream

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"
)

// middleware measures and traces the processing of every batch.
func (t *telemetry) middleware(next gostream.Next) gostream.Next {
	return func(ctx context.Context, b *gostream.Batch) error {
		sub := t.of(b.Subscription())
		if sub == nil {
			return next(ctx, b)
		}
		ctx = t.withoutStart(ctx)
		single, isSingle := gostream.DeliveryFrom(ctx)
		if !isSingle && !sub.batch.Load() {
			sub.batch.Store(true)
		}
		p := processing{t: t, sub: sub, batch: !isSingle, began: time.Now()}
		if t.metrics != nil && p.batch {
			t.metrics.batchSize.Record(ctx, int64(b.Len()), sub.plain.record...)
		}
		if t.tracer != nil {
			if isSingle {
				p.attempt = t.traceOne(ctx, sub, single)
			} else {
				p.attempt = t.traceBatch(ctx, sub, b)
			}
			ctx = p.attempt
		}
		// A panic of a middleware within, and the end of the goroutine, pass through here:
		// the runtime deals with them.
		defer p.unwound(ctx)
		err := next(ctx, b)
		p.returned = true
		p.done(ctx, err)
		return err
	}
}

// processing is one call of the handler.
type processing struct {
	t        *telemetry
	sub      *subscription
	attempt  *attempt // nil without traces
	batch    bool
	returned bool
	began    time.Time
}

// sentTime is when the transport says that a message was sent or stored, else what its
// publisher wrote into its header; zero where neither is known.
func sentTime(d *gostream.Delivery) time.Time {
	var sent time.Time
	switch m := d.Message().(type) {
	case interface{ Timestamp() time.Time }: // as Kafka's
		sent = m.Timestamp()
	case interface{ Time() time.Time }: // as JetStream's
		sent = m.Time()
	}
	if isTime(sent) {
		return sent
	}
	if text, ok := d.Headers().Lookup(HeaderSent); ok {
		if sent, err := time.Parse(time.RFC3339Nano, text); err == nil && isTime(sent) {
			return sent
		}
	}
	return time.Time{}
}

// isTime reports a time at which a message may have been sent. What is before 1970 is how
// a transport, or somebody's mistake, says that there is none.
func isTime(t time.Time) bool { return t.Unix() > 0 }

// unwound ends what a panic or the end of the goroutine left.
func (p *processing) unwound(ctx context.Context) {
	if !p.returned {
		p.done(ctx, errUnwound)
	}
}

// errUnwound is a call that did not return: which it was, the runtime finds out.
var errUnwound = errors.New("the handler's goroutine was unwound")

func (p *processing) done(ctx context.Context, err error) {
	now := time.Now()
	f := failureOf(err)
	if m := p.t.metrics; m != nil {
		took := now.Sub(p.began).Seconds()
		if f.kind != "" {
			failed := p.sub.processFailed.get(opProcess, p.t.errorTypes.within(f.kind), p.sub.labels, keyOperation.String(opProcess))
			m.processDuration.Record(ctx, took, failed.record...)
			if p.batch && f.kind == typePanic {
				m.panics.Add(ctx, 1, p.sub.plain.add...) // those of single messages are counted when they are settled
			}
		} else {
			m.processDuration.Record(ctx, took, p.sub.processed.record...)
		}
	}
	if p.attempt != nil {
		p.attempt.handled(f, now)
	}
}

// traceOne begins the span of processing one message.
func (t *telemetry) traceOne(ctx context.Context, sub *subscription, d *gostream.Delivery) *attempt {
	a := &attempt{open: 1, delivery: d}
	ambient := trace.SpanContextFromContext(ctx)
	if earlier := attemptIn(d.Context()); earlier != nil {
		earlier.abandon() // a middleware around this one calls next again
	}
	a.headers = d.Headers()
	from := t.propagator.Extract(ctx, &a.carrier)
	a.headers = broker.Headers{}
	creation := remoteIn(from)
	a.creation = creation

	opts := append(make([]trace.SpanStartOption, 0, 5), sub.start...)
	parent := ambient
	if !parent.IsValid() {
		parent = receivedIn(d.Context())
	}
	if creation.IsValid() {
		opts = append(opts, trace.WithLinks(trace.Link{SpanContext: creation}))
		if t.parent {
			if ambient.IsValid() {
				opts = append(opts, trace.WithLinks(trace.Link{SpanContext: ambient}))
			}
			parent = creation
		}
	}
	a.start(t, from, parent, creation, sub.spanName, opts)
	if a.span.IsRecording() {
		a.span.SetAttributes(sub.attributesOf(d)...)
	}
	d.SetContext(a)
	return a
}

// start begins the span below parent, at the root of a trace where that is invalid. from
// has what was extracted, creation among it.
func (a *attempt) start(t *telemetry, from context.Context, parent, creation trace.SpanContext, name string, opts []trace.SpanStartOption) {
	switch {
	case !parent.IsValid():
		opts = append(opts, trace.WithNewRoot())
	case !parent.Equal(creation):
		from = trace.ContextWithSpanContext(from, parent)
	}
	a.Context, a.span = t.tracer.Start(from, name, opts...)
}

// traceBatch begins the span of a batch. It links to what sent each message.
func (t *telemetry) traceBatch(ctx context.Context, sub *subscription, b *gostream.Batch) *attempt {
	a := &attempt{open: b.Len(), batch: b.Len()}
	ambient := trace.SpanContextFromContext(ctx)
	a.links = make([]trace.Link, 0, b.Len())
	for i := range b.Len() {
		d := b.At(i)
		if earlier := attemptIn(d.Context()); earlier != nil {
			earlier.abandon()
		}
		a.headers = d.Headers()
		if creation := remoteIn(t.propagator.Extract(context.Background(), &a.carrier)); creation.IsValid() {
			a.links = append(a.links, trace.Link{SpanContext: creation, Attributes: sub.linkAttributes(d)})
		}
	}
	a.headers = broker.Headers{}
	opts := append(make([]trace.SpanStartOption, 0, 5), sub.start...)
	opts = append(opts, trace.WithAttributes(keyBatchCount.Int(b.Len())), trace.WithLinks(a.links...))
	a.start(t, ctx, ambient, ambient, sub.spanName, opts)
	for i := range b.Len() {
		b.At(i).SetContext(a)
	}
	return a
}

// withoutStart is ctx without the span and the baggage that were in the context in which
// the app was started: no message came with them. What a middleware around this one has put
// there stays.
func (t *telemetry) withoutStart(ctx context.Context) context.Context {
	if t.startup.IsValid() && trace.SpanContextFromContext(ctx).Equal(t.startup) {
		ctx = trace.ContextWithSpanContext(ctx, trace.SpanContext{})
	}
	if t.startBaggage != "" && baggage.FromContext(ctx).String() == t.startBaggage {
		ctx = baggage.ContextWithoutBaggage(ctx)
	}
	return ctx
}

// remoteIn is the span that was read from headers; invalid where there was none.
func remoteIn(ctx context.Context) trace.SpanContext {
	if sc := trace.SpanContextFromContext(ctx); sc.IsRemote() {
		return sc
	}
	return trace.SpanContext{}
}

// attributesOf are those of the span of one message, beyond those that it starts with.
func (s *subscription) attributesOf(d *gostream.Delivery) []attribute.KeyValue {
	attrs := make([]attribute.KeyValue, 0, 8)
	attrs = append(attrs, keyAttempt.Int(d.Attempt()), keyRedelivered.Bool(d.Attempt() > 1))
	return s.appendMessage(attrs, d)
}

// linkAttributes say which message of a batch a link belongs to.
func (s *subscription) linkAttributes(d *gostream.Delivery) []attribute.KeyValue {
	return s.appendMessage([]attribute.KeyValue{keyAttempt.Int(d.Attempt())}, d)
}

// appendMessage adds what identifies a message. Under a pattern it replaces the destination.
func (s *subscription) appendMessage(attrs []attribute.KeyValue, d *gostream.Delivery) []attribute.KeyValue {
	if name := d.Name(); name != s.source {
		attrs = append(attrs, keyDestination.String(bounded(name)), keyTemplate.String(s.source))
	}
	h := d.Headers()
	if id := h.MessageID(); id != "" {
		attrs = append(attrs, keyMessageID.String(bounded(id)))
	}
	if id := h.CorrelationID(); id != "" {
		attrs = append(attrs, keyConversation.String(bounded(id)))
	}
	if r, ok := d.Message().(interface { // as Kafka's
		Partition() int32
		Offset() int64
	}); ok {
		attrs = append(attrs, keyPartition.String(strconv.Itoa(int(r.Partition()))), keyOffset.Int64(r.Offset()))
	}
	return attrs
}

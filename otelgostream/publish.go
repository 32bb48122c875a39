package otelgostream

import (
	"context"
	"sync"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// publisher is what is prepared for the publishers of one kind of broker.
type publisher struct {
	*telemetry
	kind string
	next gostream.PublishNext

	known sync.Map // of destination, by sentKey
}

// sentKey tells apart what is prepared.
type sentKey struct {
	name    string // "" for one that is not declared
	request bool
}

// destination is what is prepared for one destination.
type destination struct {
	spanName              string
	sent, duration, sizes labels
	sentFailed, failed    labelCache            // by the error's type
	start                 trace.SpanStartOption // the attributes
	name                  string                // "" for one that is not declared
	named                 []attribute.KeyValue
	operation             string
}

// publishMiddleware measures and traces what is published to one kind of broker. It is
// called for each publisher, and for those that are made later when they are made.
func (t *telemetry) publishMiddleware(kind string) gostream.PublishMiddleware {
	t.stale.Store(true)
	return func(next gostream.PublishNext) gostream.PublishNext {
		return (&publisher{telemetry: t, kind: kind, next: next}).publish
	}
}

func (p *publisher) publish(ctx context.Context, msgs []broker.OutgoingMessage) error {
	if len(msgs) == 0 {
		return p.next(ctx, msgs)
	}
	request := gostream.IsRequest(ctx)
	began := time.Now()
	if p.sentTime {
		p.stamp(msgs, began)
	}
	to := p.destination(commonName(msgs), request)
	var span trace.Span
	if p.tracer != nil {
		if len(msgs) == 1 {
			ctx, span = p.traceOne(ctx, &msgs[0], to)
		} else {
			ctx, span = p.traceBatch(ctx, msgs, to)
		}
	}
	err := errUnwound // where next does not return
	defer func() {
		if p.metrics != nil {
			p.measure(ctx, msgs, to, request, time.Since(began), err)
		}
		if span != nil {
			failureOf(err).record(span)
			span.End()
		}
	}()
	err = p.next(ctx, msgs)
	return err
}

// stamp says in the headers when the messages were sent.
func (p *publisher) stamp(msgs []broker.OutgoingMessage, now time.Time) {
	text := now.UTC().Format(time.RFC3339Nano)
	for i := range msgs {
		msgs[i].Headers = msgs[i].Headers.With(HeaderSent, text)
	}
}

// commonName is the destination of all messages, "" where they have several.
func commonName(msgs []broker.OutgoingMessage) string {
	for i := 1; i < len(msgs); i++ {
		if msgs[i].Name != msgs[0].Name {
			return ""
		}
	}
	return msgs[0].Name
}

// destination is what is prepared for the one called name. One that the app does not
// declare has no name in metrics, so that there is an end to them.
func (p *publisher) destination(name string, request bool) *destination {
	if !p.isDeclared(name) {
		name = ""
	}
	key := sentKey{name, request}
	if d, ok := p.known.Load(key); ok {
		return d.(*destination)
	}
	d, _ := p.known.LoadOrStore(key, p.newDestination(key))
	return d.(*destination)
}

func (p *publisher) newDestination(key sentKey) *destination {
	operation := opSend
	if key.request {
		operation = opRequest
	}
	own := []attribute.KeyValue{keySystem.String(systemOf(p.kind))}
	d := &destination{spanName: operation, name: key.name, operation: operation}
	if key.name != "" {
		own = append(own, keyDestination.String(key.name))
		d.spanName += " " + key.name
	}
	d.named = append(own[:len(own):len(own)], p.servers[p.kind]...)
	d.sent = d.labels(keyOperation.String(operation))
	d.duration = d.labels(keyOperation.String(operation), keyOperationType.String(opSend))
	d.sizes = labelsOf(append(own, keyOperationType.String(opSend))...)
	d.start = trace.WithAttributes(append(d.named[:len(d.named):len(d.named)], keyOperation.String(operation), keyOperationType.String(opSend))...)
	return d
}

// labels are those of one of the conventions' metrics, and more.
func (d *destination) labels(more ...attribute.KeyValue) labels {
	return labelsOf(append(d.named[:len(d.named):len(d.named)], more...)...)
}

// measure counts what was sent, and each message that was not.
func (p *publisher) measure(ctx context.Context, msgs []broker.OutgoingMessage, to *destination, request bool, took time.Duration, err error) {
	m := p.metrics
	duration := to.duration
	var each []error
	if err != nil {
		duration = to.failed.get(to.operation, p.typeOf(err), to.labels, keyOperation.String(to.operation), keyOperationType.String(opSend))
		each = batchErrors(err, len(msgs))
	}
	m.operationDuration.Record(ctx, took.Seconds(), duration.record...)
	for i := range msgs {
		one := to
		if len(msgs) > 1 {
			one = p.destination(msgs[i].Name, request)
		}
		if each != nil && each[i] != nil {
			failed := one.sentFailed.get(one.operation, p.typeOf(each[i]), one.labels, keyOperation.String(one.operation))
			m.sent.Add(ctx, 1, failed.add...)
			continue
		}
		m.sent.Add(ctx, 1, one.sent.add...)
		m.payloadSize.Record(ctx, int64(len(msgs[i].Payload)), one.sizes.record...)
	}
}

// typeOf is error.type in a metric. That a message is ignored is no failure of a handler;
// a send that answers so has not sent.
func (p *publisher) typeOf(err error) string {
	kind := failureOf(err).kind
	if kind == "" {
		return otherType
	}
	return p.errorTypes.within(kind)
}

// traceOne begins the span of sending one message, and puts its context into the headers.
func (p *publisher) traceOne(ctx context.Context, msg *broker.OutgoingMessage, to *destination) (context.Context, trace.Span) {
	opts := append(make([]trace.SpanStartOption, 0, 3), to.start)
	creation := p.creationOf(ctx, msg)
	unhandled := creation.IsValid() && givenUpUnhandled(ctx, msg)
	switch {
	case unhandled:
		// There is no span of its processing: that of the sending takes its place.
		opts = append(opts, asProducer, trace.WithLinks(trace.Link{SpanContext: creation}))
		ctx = p.withoutStart(ctx)
		if p.parent {
			ctx = trace.ContextWithRemoteSpanContext(ctx, creation)
		}
	case creation.IsValid():
		// The user has given the message a context of its own: it stays.
		opts = append(opts, asClient, trace.WithLinks(trace.Link{SpanContext: creation}))
	default:
		opts = append(opts, asProducer)
	}
	ctx, span := p.tracer.Start(ctx, to.spanName, opts...)
	if unhandled || !creation.IsValid() {
		p.inject(ctx, msg)
	}
	p.noteReason(ctx, msg)
	if span.IsRecording() {
		span.SetAttributes(p.attributesOf(ctx, msg, to.name)...)
	}
	return ctx, span
}

var asClient, asProducer = trace.WithSpanKind(trace.SpanKindClient), trace.WithSpanKind(trace.SpanKindProducer)

// traceBatch begins the span of sending several messages. Each has a span of its own, that
// of its creation, which consumers link to.
func (p *publisher) traceBatch(ctx context.Context, msgs []broker.OutgoingMessage, to *destination) (context.Context, trace.Span) {
	attrs := []attribute.KeyValue{keyBatchCount.Int(len(msgs))}
	if name := commonName(msgs); name != to.name {
		attrs = append(attrs, keyDestination.String(bounded(name)))
	}
	opts := []trace.SpanStartOption{to.start, trace.WithAttributes(attrs...)}
	if !p.createSpans {
		ctx, span := p.tracer.Start(ctx, to.spanName, append(opts, asProducer)...)
		for i := range msgs {
			if !p.creationOf(ctx, &msgs[i]).IsValid() {
				p.inject(ctx, &msgs[i])
			}
		}
		return ctx, span
	}
	links := make([]trace.Link, 0, len(msgs))
	for i := range msgs {
		creation := p.creationOf(ctx, &msgs[i])
		if !creation.IsValid() {
			creation = p.create(ctx, &msgs[i])
		}
		if creation.IsValid() {
			links = append(links, trace.Link{SpanContext: creation})
		}
	}
	opts = append(opts, asClient, trace.WithLinks(links...))
	return p.tracer.Start(ctx, to.spanName, opts...)
}

// create makes the span of one message's creation, in a batch.
func (p *publisher) create(ctx context.Context, msg *broker.OutgoingMessage) trace.SpanContext {
	name := opCreate
	if p.isDeclared(msg.Name) {
		name += " " + msg.Name
	}
	attrs := append([]attribute.KeyValue{keyOperation.String(opCreate), keyOperationType.String(opCreate)}, p.attributesOf(ctx, msg, "")...)
	attrs = append(append(attrs, keySystem.String(systemOf(p.kind))), p.servers[p.kind]...)
	opts := []trace.SpanStartOption{asProducer, trace.WithAttributes(attrs...)}
	if from := p.carriedBy(msg); from.IsValid() {
		// The reply to one message of a batch: it leads back to that one.
		opts = append(opts, trace.WithLinks(trace.Link{SpanContext: from}))
	}
	ctx, span := p.tracer.Start(ctx, name, opts...)
	p.inject(ctx, msg)
	span.End()
	return span.SpanContext()
}

// givenUpUnhandled reports the dead letter of a message that was delivered too often for a
// handler to be called.
func givenUpUnhandled(ctx context.Context, msg *broker.OutgoingMessage) bool {
	return attemptIn(ctx) == nil && msg.Headers.Get(gostream.HeaderDeadReason) == gostream.ReasonDeliveries && byRuntime(ctx)
}

// byRuntime reports that no handler publishes with ctx, but, where it belongs to an attempt,
// the runtime.
func byRuntime(ctx context.Context) bool {
	_, handled := gostream.DeliveryFrom(ctx)
	return !handled
}

// noteReason puts the reason of a dead letter or an error reply on the span of the attempt
// that failed: where it cannot be sent, that span ends before its message is settled.
func (p *publisher) noteReason(ctx context.Context, msg *broker.OutgoingMessage) {
	a := attemptIn(ctx)
	if a == nil || !a.span.IsRecording() {
		return
	}
	reason, dead := msg.Headers.Lookup(gostream.HeaderDeadReason)
	if !dead && !msg.Headers.Has(gostream.HeaderError) || !byRuntime(ctx) {
		return
	}
	if !dead {
		reason = a.reason()
	}
	a.span.SetAttributes(keyReason.String(reason))
}

// inject writes the context of ctx's span, and the baggage, into the headers. Baggage that
// came in and is larger than anybody need pass on ends here.
func (p *publisher) inject(ctx context.Context, msg *broker.OutgoingMessage) {
	c := carrier{msg.Headers}
	p.propagator.Inject(ctx, &c)
	size := 0
	for _, v := range c.headers.Values(headerBaggage) {
		size += len(v)
	}
	if size > maxBaggage {
		c.headers = c.headers.Without(headerBaggage)
	}
	msg.Headers = c.headers
}

// carriedBy is the context that stands in the headers; invalid where none does.
func (p *publisher) carriedBy(msg *broker.OutgoingMessage) trace.SpanContext {
	return remoteIn(p.propagator.Extract(context.Background(), &carrier{msg.Headers}))
}

// creationOf is the context that the user has put into the headers; invalid where there is
// none. What gostream has carried over from the message in hand is not the user's: the
// span of the sending, which descends from it, takes its place.
func (p *publisher) creationOf(ctx context.Context, msg *broker.OutgoingMessage) trace.SpanContext {
	if msg.Headers.Len() == 0 {
		return trace.SpanContext{}
	}
	own := p.carriedBy(msg)
	if !own.IsValid() {
		return own
	}
	if a := attemptIn(ctx); a != nil && a.cameFrom(own) {
		return trace.SpanContext{}
	}
	return own
}

// attributesOf are those of one message. known is the destination that its span has already.
func (p *publisher) attributesOf(ctx context.Context, msg *broker.OutgoingMessage, known string) []attribute.KeyValue {
	attrs := make([]attribute.KeyValue, 0, 5)
	if msg.Name != known {
		attrs = append(attrs, keyDestination.String(bounded(msg.Name)))
	}
	if a := attemptIn(ctx); a != nil && a.delivery != nil && msg.Name == a.delivery.Headers().ReplyTo() {
		attrs = append(attrs, keyTemporary.Bool(true))
	}
	if id := msg.Headers.MessageID(); id != "" {
		attrs = append(attrs, keyMessageID.String(bounded(id)))
	}
	if id := msg.Headers.CorrelationID(); id != "" {
		attrs = append(attrs, keyConversation.String(bounded(id)))
	}
	if reason, ok := msg.Headers.Lookup(gostream.HeaderDeadReason); ok {
		attrs = append(attrs, keyReason.String(bounded(reason)))
	}
	return attrs
}

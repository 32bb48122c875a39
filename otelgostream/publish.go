package otelgostream

import (
	"context"
	"sync"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// publisher is what is prepared for the publishers of one kind of broker.
type publisher struct {
	*telemetry
	system attribute.KeyValue
	next   gostream.PublishNext

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
	start                 trace.SpanStartOption // the attributes
	name                  string                // "" for one that is not declared
}

// publishMiddleware measures and traces what is published to one kind of broker.
func (t *telemetry) publishMiddleware(kind string) gostream.PublishMiddleware {
	return func(next gostream.PublishNext) gostream.PublishNext {
		p := &publisher{telemetry: t, system: keySystem.String(systemOf(kind)), next: next}
		return p.publish
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
			if err != nil {
				span.SetAttributes(errorType(err))
				span.SetStatus(codes.Error, err.Error())
			}
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
	named := []attribute.KeyValue{p.system}
	d := &destination{spanName: operation, name: key.name}
	if key.name != "" {
		named = append(named, keyDestination.String(key.name))
		d.spanName += " " + key.name
	}
	with := func(more ...attribute.KeyValue) labels {
		return labelsOf(append(named[:len(named):len(named)], more...)...)
	}
	d.sent = with(keyOperation.String(operation))
	d.duration = with(keyOperation.String(operation), keyOperationType.String(opSend))
	d.sizes = with(keyOperationType.String(opSend))
	d.start = trace.WithAttributes(append(named[:len(named):len(named)], keyOperation.String(operation), keyOperationType.String(opSend))...)
	return d
}

// measure counts what was sent, and each message that was not.
func (p *publisher) measure(ctx context.Context, msgs []broker.OutgoingMessage, to *destination, request bool, took time.Duration, err error) {
	m := p.metrics
	if err == nil {
		m.operationDuration.Record(ctx, took.Seconds(), to.duration.record...)
	} else {
		m.operationDuration.Record(ctx, took.Seconds(), p.failed(commonName(msgs), request, errorType(err), keyOperationType.String(opSend)))
	}
	var each []error
	if err != nil {
		each = broker.BatchErrors(err, len(msgs))
	}
	for i := range msgs {
		one := to
		if len(msgs) > 1 {
			one = p.destination(msgs[i].Name, request)
		}
		if each != nil && each[i] != nil {
			m.sent.Add(ctx, 1, p.failed(msgs[i].Name, request, errorType(each[i])))
			continue
		}
		m.sent.Add(ctx, 1, one.sent.add...)
		m.payloadSize.Record(ctx, int64(len(msgs[i].Payload)), one.sizes.record...)
	}
}

// failed are the labels of a failure: these are not prepared.
func (p *publisher) failed(name string, request bool, more ...attribute.KeyValue) metric.MeasurementOption {
	operation := opSend
	if request {
		operation = opRequest
	}
	attrs := append(more, p.system, keyOperation.String(operation))
	if p.isDeclared(name) {
		attrs = append(attrs, keyDestination.String(name))
	}
	return metric.WithAttributeSet(attribute.NewSet(attrs...))
}

// traceOne begins the span of sending one message, and puts its context into the headers.
func (p *publisher) traceOne(ctx context.Context, msg *broker.OutgoingMessage, to *destination) (context.Context, trace.Span) {
	opts := append(make([]trace.SpanStartOption, 0, 3), to.start)
	creation := p.creationOf(ctx, msg)
	if creation.IsValid() {
		// The user has given the message a context of its own: it stays.
		opts = append(opts, asClient, trace.WithLinks(trace.Link{SpanContext: creation}))
	} else {
		opts = append(opts, asProducer)
	}
	ctx, span := p.tracer.Start(ctx, to.spanName, opts...)
	if !creation.IsValid() {
		p.inject(ctx, msg)
	}
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
		attrs = append(attrs, keyDestination.String(name))
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
	attrs := append([]attribute.KeyValue{p.system, keyOperation.String(opCreate), keyOperationType.String(opCreate)}, p.attributesOf(ctx, msg, "")...)
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

// inject writes the context of ctx's span, and the baggage, into the headers.
func (p *publisher) inject(ctx context.Context, msg *broker.OutgoingMessage) {
	c := carrier{msg.Headers}
	p.propagator.Inject(ctx, &c)
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
		attrs = append(attrs, keyDestination.String(msg.Name))
	}
	if a := attemptIn(ctx); a != nil && a.delivery != nil && msg.Name == a.delivery.Headers().ReplyTo() {
		attrs = append(attrs, keyTemporary.Bool(true))
	}
	if id := msg.Headers.MessageID(); id != "" {
		attrs = append(attrs, keyMessageID.String(id))
	}
	if id := msg.Headers.CorrelationID(); id != "" {
		attrs = append(attrs, keyConversation.String(id))
	}
	if reason, ok := msg.Headers.Lookup(gostream.HeaderDeadReason); ok {
		attrs = append(attrs, keyReason.String(reason))
	}
	return attrs
}

package gostream

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/gostream/gostream/broker"
)

// Publisher publishes values of T to one name. Make it with [NewPublisher], at any
// time: it is bound when the app starts, and before that, and before the brokers
// are connected, it answers [broker.ErrNotConnected]. It is safe for concurrent use.
type Publisher[T any] struct{ port *port }

// NewPublisher returns a publisher of T to name on b, which must be mounted on
// app. T may be an [Outgoing] of the payload's type; a T of []byte or string is
// the raw payload. Mistakes are found by [App.Check].
func NewPublisher[T any](app *App, b broker.Broker, name string, opts ...PublisherOption) *Publisher[T] {
	return &Publisher[T]{app.newPort("NewPublisher", b, name, bodyOf[T](), opts)}
}

// Publish sends one value. A nil result means what it means at
// [broker.Publisher.Publish]; so do the errors. Inside a handler, ctx being the
// handler's, the correlation id and the trace context of the message in hand go
// along unless an option says otherwise.
func (p *Publisher[T]) Publish(ctx context.Context, v T, opts ...PublishOption) error {
	out, err := p.port.outlet()
	if err != nil {
		return err
	}
	msg, err := p.message(ctx, v, opts)
	if err != nil {
		return err
	}
	return out.publish(ctx, msg)
}

// PublishBatch sends several values in order; the options hold for each. Where
// some failed the error is a [*broker.BatchError], which says which; where one
// cannot be encoded nothing is sent.
func (p *Publisher[T]) PublishBatch(ctx context.Context, vs []T, opts ...PublishOption) error {
	out, err := p.port.outlet()
	if err != nil {
		return err
	}
	msgs := make([]broker.OutgoingMessage, len(vs))
	for i, v := range vs {
		if msgs[i], err = p.message(ctx, v, opts); err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
	}
	return out.publishBatch(ctx, msgs)
}

func (p *Publisher[T]) message(ctx context.Context, v T, opts []PublishOption) (broker.OutgoingMessage, error) {
	switch {
	case p.port.in.envelope:
		return p.port.message(ctx, any(&v).(outgoingSource).outbound(), opts)
	case p.port.in.mode == bodyBytes:
		return p.port.finish(ctx, any(v).([]byte), outbound{}, opts), nil
	case p.port.in.mode == bodyText:
		return p.port.finish(ctx, []byte(any(v).(string)), outbound{}, opts), nil
	}
	return p.port.message(ctx, outbound{body: any(v)}, opts)
}

// RawPublisher publishes messages as they are, without a codec. Make it with
// [App.RawPublisher]. It is safe for concurrent use.
type RawPublisher struct{ port *port }

// RawPublisher returns the untyped publisher of b, which must be mounted. The
// rules are those of [NewPublisher].
func (a *App) RawPublisher(b broker.Broker) *RawPublisher {
	return &RawPublisher{a.newPort("RawPublisher", b, "", body{}, nil)}
}

// Publish sends one message. What ctx carries over is as with [Publisher.Publish].
func (p *RawPublisher) Publish(ctx context.Context, msg broker.OutgoingMessage) error {
	out, err := p.port.outlet()
	if err != nil {
		return err
	}
	msg.Headers = carryFrom(ctx, msg.Headers)
	return out.publish(ctx, msg)
}

// PublishBatch sends several messages in order; see [broker.PublishBatch].
func (p *RawPublisher) PublishBatch(ctx context.Context, msgs []broker.OutgoingMessage) error {
	out, err := p.port.outlet()
	if err != nil {
		return err
	}
	if _, ok := DeliveryFrom(ctx); ok {
		msgs = append([]broker.OutgoingMessage(nil), msgs...)
		for i := range msgs {
			msgs[i].Headers = carryFrom(ctx, msgs[i].Headers)
		}
	}
	return out.publishBatch(ctx, msgs)
}

// DefaultRequestTimeout bounds a request whose context has no deadline.
const DefaultRequestTimeout = 30 * time.Second

// Requester asks and waits for the answer. Make it with [NewRequester]. It is safe
// for concurrent use.
type Requester[Req, Res any] struct {
	port   *port
	answer body
}

// NewRequester returns a requester on b, which must be mounted and have
// request-reply. The rules are those of [NewPublisher]; Res is as the T of
// [Consume].
func NewRequester[Req, Res any](app *App, b broker.Broker, name string, opts ...PublisherOption) *Requester[Req, Res] {
	p := app.newPort("NewRequester", b, name, bodyOf[Req](), opts)
	p.requests = true
	r := &Requester[Req, Res]{port: p, answer: bodyOf[Res]()}
	p.out = r.answer
	if err := r.answer.checkIncoming(); err != nil {
		p.errs = append(p.errs, err)
	}
	return r
}

// Request sends v and returns the answer. ctx carries the time limit; without a
// deadline it is [DefaultRequestTimeout]. An error of the responder's handler comes
// back as a [*RemoteError], an answer that cannot be decoded as an
// [*UndecodableError].
func (r *Requester[Req, Res]) Request(ctx context.Context, v Req, opts ...PublishOption) (Res, error) {
	var res Res
	out, err := r.port.outlet()
	if err != nil {
		return res, err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultRequestTimeout)
		defer cancel()
	}
	o := outbound{body: &v}
	if r.port.in.envelope {
		o = any(&v).(outgoingSource).outbound()
	}
	msg, err := r.port.message(ctx, o, opts)
	if err != nil {
		return res, err
	}
	reply, err := out.request(ctx, msg)
	if err != nil {
		return res, err
	}
	if text, failed := reply.Headers().Lookup(HeaderError); failed {
		return res, &RemoteError{Name: msg.Name, Message: text}
	}
	err = r.decode(reply, &res)
	return res, err
}

// decode decodes an answer; a panic of the codec becomes an error.
func (r *Requester[Req, Res]) decode(reply broker.IncomingMessage, res *Res) (err error) {
	returned := false
	defer catchPanic(&returned, &err)
	err = decodeTo(r.answer.mode, &r.port.codecs, reply, r.answer.target(res, &Delivery{msg: reply, attempt: 1}))
	returned = true
	return err
}

// PublisherOption configures a [Publisher] or a [Requester]: [WithCodec],
// [Codecs].
type PublisherOption interface{ applyPublisher(*port) }

// PublishOption configures one Publish. Make it with [Key], [Header] or
// [BrokerOptions].
type PublishOption struct {
	kind    publishOptionKind
	name    string
	value   string
	options any
}

type publishOptionKind uint8

const (
	publishKey publishOptionKind = iota + 1
	publishHeader
	publishOptions
)

// Key sets the partition key.
func Key[K ~string | ~[]byte](key K) PublishOption {
	return PublishOption{kind: publishKey, value: string(key)}
}

// Header adds a header. The well-known ones, such as [broker.HeaderMessageID],
// replace the value that would stand there by itself.
func Header(key, value string) PublishOption {
	return PublishOption{kind: publishHeader, name: key, value: value}
}

// BrokerOptions sets the broker's own typed options for the message.
func BrokerOptions(options any) PublishOption {
	return PublishOption{kind: publishOptions, options: options}
}

// port is a publisher that the user holds, without its types: where it publishes
// to, and, once the app has started, the outlet that it goes through.
type port struct {
	maker    string // NewPublisher, RawPublisher, NewRequester
	broker   broker.Broker
	name     string // "" for a raw one
	in       body   // what is sent
	out      body   // what a request is answered with
	requests bool
	codec    Codec // nil: the app's default
	extra    []Codec
	errs     []error
	unbound  error // why it never can be used; nil otherwise

	headers broker.Headers // with the content type alone
	codecs  codecTable
	bound   atomic.Pointer[outlet]
}

func (a *App) newPort(maker string, b broker.Broker, name string, in body, opts []PublisherOption) *port {
	p := &port{maker: maker, broker: b, name: name, in: in}
	if err := in.checkOutgoing(); err != nil {
		p.errs = append(p.errs, err)
	}
	for _, o := range opts {
		if o == nil {
			p.errs = append(p.errs, errNilOption)
			continue
		}
		o.applyPublisher(p)
	}
	if a == nil {
		p.unbound = fmt.Errorf("gostream: %s %s was made with a nil app", maker, broker.Quote(name))
		return p
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ports = append(a.ports, p)
	if a.running != nil {
		a.running.bindLate(p)
	}
	return p
}

// mainCodec encodes what is published, and decodes answers without a content type.
func (p *port) mainCodec(defaults settings) Codec {
	if p.codec != nil {
		return p.codec
	}
	return defaults.mainCodec()
}

// bind makes the port usable.
func (p *port) bind(o *outlet, defaults settings) {
	p.codecs = p.table(defaults)
	if p.in.mode == bodyCodec {
		p.headers = broker.NewHeaders(broker.Header{Key: broker.HeaderContentType, Value: p.codecs.contentType})
	}
	p.bound.Store(o)
}

// table is the port's codecs, with those of the app.
func (p *port) table(defaults settings) codecTable {
	return newCodecTable(p.mainCodec(defaults), append(p.extra[:len(p.extra):len(p.extra)], defaults.codecs...))
}

func (p *port) outlet() (*outlet, error) {
	if o := p.bound.Load(); o != nil {
		return o, nil
	}
	if p.unbound != nil {
		return nil, p.unbound
	}
	return nil, fmt.Errorf("gostream: publish to %s: the app has not started: %w", broker.Quote(p.name), broker.ErrNotConnected)
}

// message encodes out.
func (p *port) message(ctx context.Context, out outbound, opts []PublishOption) (broker.OutgoingMessage, error) {
	payload, _, err := encodeBody(p.in.mode, p.codecs.main, out.body)
	if err != nil {
		return broker.OutgoingMessage{}, fmt.Errorf("gostream: publish to %s: %w", broker.Quote(p.name), err)
	}
	return p.finish(ctx, payload, out, opts), nil
}

// finish adds the name, the headers and the options to a payload.
func (p *port) finish(ctx context.Context, payload []byte, out outbound, opts []PublishOption) broker.OutgoingMessage {
	msg := broker.OutgoingMessage{Name: p.name, Key: out.key, Payload: payload, Headers: p.headers, Options: out.options}
	if out.to != "" {
		msg.Name = out.to
	}
	for k, v := range out.headers.All() {
		msg.Headers = withHeader(msg.Headers, k, v)
	}
	msg = ApplyPublishOptions(msg, opts...)
	msg.Headers = carryFrom(ctx, msg.Headers)
	return msg
}

// ApplyPublishOptions returns msg with the options applied, as a [Publisher] applies
// them: for code that publishes on a broker by itself, test kits for one.
func ApplyPublishOptions(msg broker.OutgoingMessage, opts ...PublishOption) broker.OutgoingMessage {
	for _, o := range opts {
		switch o.kind {
		case publishKey:
			msg.Key = []byte(o.value)
		case publishHeader:
			msg.Headers = withHeader(msg.Headers, o.name, o.value)
		case publishOptions:
			msg.Options = o.options
		}
	}
	return msg
}

// withHeader adds a field; of the well-known ones there is only one.
func withHeader(h broker.Headers, key, value string) broker.Headers {
	for _, single := range [...]string{broker.HeaderContentType, broker.HeaderCorrelationID, broker.HeaderMessageID, broker.HeaderReplyTo} {
		if broker.EqualKey(single, key) {
			return h.With(key, value)
		}
	}
	return h.WithAdded(key, value)
}

// carryFrom adds what goes on from the message that ctx belongs to, if any.
func carryFrom(ctx context.Context, h broker.Headers) broker.Headers {
	d, ok := DeliveryFrom(ctx)
	if !ok {
		return h
	}
	var add fieldList
	add.carry(d.Headers(), h)
	return add.onto(h)
}

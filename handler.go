package gostream

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/gostream/gostream/broker"
)

// Handler is what a [Router] routes messages to. Make it with [Consume], [Reply],
// [Raw], [ConsumeBatch] or [ReplyBatch].
type Handler interface{ handlerSpec() *handlerSpec }

// Consume makes a handler of a function that takes the decoded payload. A nil
// error acknowledges the message.
//
// T may be a [Message] of the payload's type. A T of []byte or string is the raw
// payload, without a codec; the bytes must not be changed. Mistakes, a nil f for
// one, are found by [App.Check].
func Consume[T any](f func(ctx context.Context, v T) error) Handler {
	body := bodyOf[T]()
	spec := &handlerSpec{kind: "consume", in: body}
	spec.checkFunc(f == nil, "Consume")
	spec.newFrame = func() *frame {
		tf := new(consumeFrame[T])
		tf.self = tf
		return &tf.frame
	}
	spec.target = func(f *frame) any {
		return body.target(&f.self.(*consumeFrame[T]).body, &f.delivery)
	}
	spec.clear = func(f *frame) {
		var zero T
		f.self.(*consumeFrame[T]).body = zero
	}
	spec.call = func(ctx context.Context, fr *frame) error {
		return f(ctx, fr.self.(*consumeFrame[T]).body)
	}
	return spec
}

// Raw makes a handler of a function that takes the delivery as it arrived. A nil
// error acknowledges the message.
func Raw(f func(ctx context.Context, d *Delivery) error) Handler {
	spec := &handlerSpec{kind: "raw", in: body{mode: bodyNone}}
	spec.checkFunc(f == nil, "Raw")
	spec.newFrame = func() *frame { return new(frame) }
	spec.call = func(ctx context.Context, fr *frame) error { return f(ctx, &fr.delivery) }
	return spec
}

// handlerSpec is a handler with its types erased.
type handlerSpec struct {
	kind string // as Describe names it
	in   body
	out  body       // of a reply
	send *replySpec // nil where there is no reply
	// batch is what a batch handler has; the functions below are nil then.
	batch *batchSpec

	newFrame func() *frame
	target   func(f *frame) any // where the payload is decoded to
	clear    func(f *frame)     // empties that, for a middleware that calls next again
	call     func(ctx context.Context, f *frame) error
	result   func(f *frame) outbound // of a reply, after call

	bad []error
}

func (s *handlerSpec) handlerSpec() *handlerSpec { return s }

func (s *handlerSpec) checkFunc(isNil bool, constructor string) {
	if isNil {
		s.bad = append(s.bad, fmt.Errorf("%s(nil): a function is needed", constructor))
	}
	if err := s.in.checkIncoming(); err != nil {
		s.bad = append(s.bad, fmt.Errorf("%s: %w", constructor, err))
	}
}

// consumeFrame is a frame with the body beside it: one allocation for both.
type consumeFrame[T any] struct {
	frame
	body T
}

// bodyMode says how a payload becomes a value.
type bodyMode uint8

const (
	bodyNone  bodyMode = iota // no value: Raw
	bodyCodec                 // by the codec
	bodyBytes                 // the payload itself
	bodyText                  // the payload as a string
)

// body describes the type that a handler takes or returns.
type body struct {
	mode     bodyMode
	typ      reflect.Type // of the payload; nil for bodyNone
	envelope bool         // wrapped in a Message or an Outgoing
	message  bool         // in a Message
}

// bodyOf describes T. A Message or an Outgoing is looked through.
func bodyOf[T any]() body {
	t := reflect.TypeFor[T]()
	b := body{mode: bodyCodec, typ: t}
	switch any((*T)(nil)).(type) {
	case messageTarget:
		f, _ := t.FieldByName("body")
		b.typ, b.envelope, b.message = f.Type, true, true
	case outgoingSource:
		f, _ := t.FieldByName("Body")
		b.typ, b.envelope = f.Type, true
	}
	switch b.typ {
	case reflect.TypeFor[[]byte]():
		b.mode = bodyBytes
	case reflect.TypeFor[string]():
		b.mode = bodyText
	}
	return b
}

// target is where a payload for v, a *T, is decoded to.
func (b body) target(v any, d *Delivery) any {
	if b.envelope {
		return v.(messageTarget).bind(d)
	}
	return v
}

// checkIncoming reports a type that cannot be decoded to.
func (b body) checkIncoming() error {
	if b.envelope && !b.message {
		return fmt.Errorf("an Outgoing[%v] is for what is published: take a Message[%v]", b.typ, b.typ)
	}
	return b.check()
}

// checkOutgoing reports a type that cannot be published.
func (b body) checkOutgoing() error {
	if b.message {
		return fmt.Errorf("a Message[%v] is for what arrives: use an Outgoing[%v]", b.typ, b.typ)
	}
	return b.check()
}

// check reports a type that no codec can hold.
func (b body) check() error {
	if b.typ == nil {
		return nil
	}
	switch b.typ.Kind() {
	case reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return fmt.Errorf("a value of type %v cannot be a payload", b.typ)
	}
	return nil
}

// run decodes the payload and calls the function, with its own timeout where
// there is one. A panic in either becomes an error here, so that middleware sees
// it. A Goexit goes through; the consumer deals with it.
func (s *handlerSpec) run(ctx context.Context, f *frame, p *subscriptionPlan) (err error) {
	returned := false
	defer catchPanic(&returned, &err)
	err = s.decode(f, &p.codecs)
	if err == nil {
		if p.timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, p.timeout, ErrHandlerTimeout)
			defer cancel()
		}
		err = s.call(ctx, f)
	}
	returned = true
	return err
}

// decode puts the payload into the frame's body.
func (s *handlerSpec) decode(f *frame, codecs *codecTable) error {
	if s.in.mode == bodyNone {
		return nil
	}
	if f.called {
		s.clear(f)
	}
	f.called = true
	err := decodeTo(s.in.mode, codecs, f.delivery.msg, s.target(f))
	f.undecodable = err != nil
	return err
}

// decodeTo puts the payload of m into target, a pointer.
func decodeTo(mode bodyMode, codecs *codecTable, m broker.IncomingMessage, target any) error {
	switch mode {
	case bodyBytes:
		*target.(*[]byte) = m.Payload()
		return nil
	case bodyText:
		*target.(*string) = string(m.Payload())
		return nil
	}
	contentType := m.Headers().ContentType()
	codec, err := codecs.forContentType(contentType)
	if err == nil {
		err = codec.Unmarshal(m.Payload(), target)
	}
	if err != nil {
		return &UndecodableError{ContentType: contentType, Err: err}
	}
	return nil
}

var errNilHandler = errors.New("the handler is nil: make it with Consume, Reply or Raw")

package gostream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/gostream/gostream/broker"
)

// Reply makes a handler of a function that returns a reply. Say where it goes
// with To or ToReplyTo; neither is a start error.
//
// The reply is published before the incoming message is acknowledged; where that
// fails, the message is not acknowledged and the failure is the handler's. The
// reply's message id is made of the incoming message id and the subscription's
// name, so that a repeated reply can be recognised; without an incoming id it has
// none. Return [Ignore] for no reply this time.
//
// T is as with [Consume]. R may be an [Outgoing] of the reply's type. An R of
// []byte or string is the raw payload, without a codec and a content type.
func Reply[T, R any](f func(ctx context.Context, v T) (R, error)) *ReplyHandler {
	in, out := bodyOf[T](), bodyOf[R]()
	spec := &handlerSpec{kind: "reply", in: in, out: out, send: new(replySpec)}
	spec.checkFunc(f == nil, "Reply")
	if err := out.checkOutgoing(); err != nil {
		spec.bad = append(spec.bad, fmt.Errorf("Reply: %w", err))
	}
	spec.newFrame = func() *frame {
		tf := new(replyFrame[T, R])
		tf.self = tf
		return &tf.frame
	}
	spec.target = func(f *frame) any {
		return in.target(&f.self.(*replyFrame[T, R]).body, &f.delivery)
	}
	spec.clear = func(f *frame) {
		var zero T
		f.self.(*replyFrame[T, R]).body = zero
	}
	spec.call = func(ctx context.Context, fr *frame) (err error) {
		tf := fr.self.(*replyFrame[T, R])
		tf.reply, err = f(ctx, tf.body)
		return err
	}
	spec.result = func(fr *frame) outbound {
		r := &fr.self.(*replyFrame[T, R]).reply
		if out.envelope {
			return any(r).(outgoingSource).outbound()
		}
		return outbound{body: r}
	}
	return &ReplyHandler{spec}
}

// ReplyHandler is a handler whose function returns a reply. Its methods return
// changed copies.
type ReplyHandler struct{ spec *handlerSpec }

func (h *ReplyHandler) handlerSpec() *handlerSpec {
	if h == nil {
		return nil
	}
	return h.spec
}

// To publishes every reply to name.
func (h *ReplyHandler) To(name string) *ReplyHandler {
	return &ReplyHandler{h.spec.withSend(func(r *replySpec) { r.to, r.hasTo = name, true })}
}

// ToReplyTo publishes every reply to the incoming message's reply-to. A failed
// request is answered with its error (header [HeaderError]) and acknowledged; a
// rule of [OnError] may retry it before that. A message without a reply-to is an
// ordinary failure, [ErrNoReplyTo], and the function is not called.
func (h *ReplyHandler) ToReplyTo() *ReplyHandler {
	return &ReplyHandler{h.spec.withSend(func(r *replySpec) { r.toReplyTo = true })}
}

// Via publishes the replies through p instead of the publisher that matches the
// subscription's source; p may belong to another broker.
func (h *ReplyHandler) Via(p *RawPublisher) *ReplyHandler {
	return &ReplyHandler{h.spec.withSend(func(r *replySpec) { r.via, r.hasVia = p, true })}
}

// withSend returns a copy of s with a changed destination of its replies.
func (s *handlerSpec) withSend(change func(*replySpec)) *handlerSpec {
	spec, send := *s, *s.send
	change(&send)
	spec.send = &send
	return &spec
}

// replySpec is where a handler's replies go.
type replySpec struct {
	to        string
	hasTo     bool
	toReplyTo bool
	via       *RawPublisher
	hasVia    bool

	transactional bool // of a batch
}

func (r *replySpec) check() error {
	switch {
	case r.hasTo && r.toReplyTo:
		return errors.New("Reply has both To and ToReplyTo: choose one")
	case !r.hasTo && !r.toReplyTo:
		return errors.New("Reply has no destination: add .To(name) or .ToReplyTo()")
	case r.hasTo && r.to == "":
		return errors.New("Reply(…).To: the name is empty")
	case r.hasVia && r.via == nil:
		return errors.New("Reply(…).Via(nil): a publisher is needed")
	}
	return nil
}

// replyFrame is a frame with the body and the reply beside it.
type replyFrame[T, R any] struct {
	frame
	body  T
	reply R
}

// publishReply publishes what the function returned.
func (c *consumer) publishReply(ctx context.Context, f *frame) error {
	msg, err := c.replyTo(f, c.plan.handler.result(f))
	if err != nil {
		return err
	}
	if err := c.plan.replyVia.publish(ctx, msg); err != nil {
		return &ReplyError{Name: msg.Name, Err: err}
	}
	return nil
}

// replyTo encodes out, the reply to the message of f.
func (c *consumer) replyTo(f *frame, out outbound) (msg broker.OutgoingMessage, err error) {
	p := c.plan
	in := f.delivery.msg.Headers()
	msg = broker.OutgoingMessage{Name: out.to, Key: out.key, Options: out.options}
	if msg.Name == "" {
		msg.Name = p.handler.send.to
	}
	if msg.Name == "" {
		msg.Name = in.ReplyTo()
	}
	if msg.Name == "" {
		return msg, ErrNoReplyTo
	}
	var contentType string
	msg.Payload, contentType, err = encodeBody(p.handler.out.mode, p.codecs.main, out.body)
	if err != nil {
		return msg, &ReplyError{Name: msg.Name, Err: err}
	}
	var add fieldList
	if contentType != "" && !out.headers.Has(broker.HeaderContentType) {
		add.add(broker.HeaderContentType, contentType)
	}
	if id := in.MessageID(); id != "" && !out.headers.Has(broker.HeaderMessageID) {
		add.add(broker.HeaderMessageID, replyID(id, p.info.name))
	}
	add.carry(in, out.headers)
	msg.Headers = p.replyHeaders
	if add.n > 1 || out.headers.Len() > 0 || contentType == "" {
		msg.Headers = add.onto(out.headers)
	}
	return msg, nil
}

// encodeBody turns v, a value or a pointer to it, into a payload and its content
// type; the latter is empty for raw payloads.
func encodeBody(mode bodyMode, codec Codec, v any) (payload []byte, contentType string, err error) {
	switch mode {
	case bodyBytes:
		return *v.(*[]byte), "", nil
	case bodyText:
		return []byte(*v.(*string)), "", nil
	}
	payload, err = encode(codec, v)
	return payload, codec.ContentType(), err
}

// maxReplyID bounds the ids that are made from others, so that a chain of services
// does not grow them without end.
const maxReplyID = 256

// replyID is the message id of the reply that subscription makes to the message
// id: the same for the same message, so that a repeated reply can be recognised.
func replyID(id, subscription string) string {
	s := id + "/" + subscription
	if len(s) <= maxReplyID {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

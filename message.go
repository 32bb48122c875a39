package gostream

import (
	"github.com/gostream/gostream/broker"
)

// Message is a body with what came along. A handler that takes a Message[T]
// instead of a T sees both.
type Message[T any] struct {
	body     T
	delivery *Delivery
}

// Body is the decoded payload.
func (m Message[T]) Body() T { return m.body }

// Name is the concrete name that the message came from.
func (m Message[T]) Name() string { return m.delivery.Name() }

// Key is the partition key, nil for none. It must not be changed.
func (m Message[T]) Key() []byte { return m.delivery.Key() }

// Header is the first value of that header, "" where there is none.
func (m Message[T]) Header(key string) string { return m.delivery.Headers().Get(key) }

// Headers are all headers.
func (m Message[T]) Headers() broker.Headers { return m.delivery.Headers() }

// Attempt is the number of this attempt; the first is 1.
func (m Message[T]) Attempt() int { return m.delivery.Attempt() }

// Delivery is the delivery itself.
func (m Message[T]) Delivery() *Delivery { return m.delivery }

// NewMessage makes a message of a body, as a handler gets it: for calling a handler
// by itself. m is where its other values come from; attempt is the number of the
// attempt, at least 1. In tests gostreamtest.NewMessage is shorter.
func NewMessage[T any](body T, m broker.IncomingMessage, attempt int) Message[T] {
	return Message[T]{body: body, delivery: &Delivery{msg: m, attempt: max(attempt, 1)}}
}

// bind makes the message that of d and returns where its body is decoded to.
func (m *Message[T]) bind(d *Delivery) any {
	m.delivery = d
	return &m.body
}

// messageTarget is a *Message[T] of any T.
type messageTarget interface{ bind(d *Delivery) any }

// Outgoing is a reply with more than a body. A handler that returns an
// Outgoing[R] instead of an R decides on the rest too.
type Outgoing[R any] struct {
	// Body is encoded by the subscription's codec.
	Body R
	// To is where this one goes; "" for the handler's declared destination.
	To string
	// Key is the partition key; nil for none.
	Key []byte
	// Headers go along. Content type, correlation id and message id are added
	// unless they stand here.
	Headers broker.Headers
	// Options are the broker's own typed options; nil for none.
	Options any
}

// outbound is an Outgoing without its type.
type outbound struct {
	body    any // the value, or a pointer to it
	to      string
	key     []byte
	headers broker.Headers
	options any
}

func (o *Outgoing[R]) outbound() outbound {
	return outbound{body: &o.Body, to: o.To, key: o.Key, headers: o.Headers, options: o.Options}
}

// outgoingSource is an *Outgoing[R] of any R.
type outgoingSource interface{ outbound() outbound }

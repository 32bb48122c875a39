package gostream

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/gostream/gostream/broker"
)

// Delivery is one message on its way through the app: what middleware and [Raw]
// handlers see. It is valid for ever, and its methods are safe for concurrent use.
type Delivery struct {
	msg      broker.IncomingMessage
	consumer *consumer // nil for one that no subscription delivered
	attempt  int
	hooks    atomic.Pointer[hookList] // nil: none so far
}

// Name is the concrete name that the message came from; under a wildcard not the
// pattern.
func (d *Delivery) Name() string { return d.msg.Name() }

// Payload is the body as it arrived. It may be kept but must not be changed: a
// later attempt and the dead letter use the same bytes.
func (d *Delivery) Payload() []byte { return d.msg.Payload() }

// Headers are the message's headers.
func (d *Delivery) Headers() broker.Headers { return d.msg.Headers() }

// Key is the partition key, nil for none. As the payload it must not be changed.
func (d *Delivery) Key() []byte {
	key, _ := broker.PartitionKey(d.msg)
	return key
}

// Attempt is the number of this attempt; the first is 1. Where the broker counts
// deliveries its count is part of it, with deliveries that a crash took back.
func (d *Delivery) Attempt() int { return d.attempt }

// Subscription describes the subscription that delivered the message.
func (d *Delivery) Subscription() *Subscription {
	if d.consumer == nil {
		return &Subscription{}
	}
	return &d.consumer.plan.info
}

// Message is the broker's own message, for its typed values. It must not be
// settled: the runtime does that.
func (d *Delivery) Message() broker.IncomingMessage { return d.msg }

// Batch is the deliveries that travel through the middleware together, usually
// one.
type Batch struct {
	frame *frame
}

// Subscription describes the subscription that delivered the messages.
func (b *Batch) Subscription() *Subscription { return b.frame.delivery.Subscription() }

// Len is the number of deliveries, at least 1.
func (b *Batch) Len() int { return 1 }

// At is the i-th delivery, 0 <= i < Len.
func (b *Batch) At(i int) *Delivery {
	if i != 0 {
		panic(fmt.Sprintf("gostream: Batch.At(%d) of a batch of 1", i))
	}
	return &b.frame.delivery
}

// Next handles a batch. The error that it returns decides what happens to every
// message of it.
type Next func(ctx context.Context, b *Batch) error

// Middleware wraps the handling of every batch. It is called once for each
// subscription, at start; what it returns is called for each batch, from several
// goroutines at once where the subscription has several workers. The reply of a
// Reply handler is published inside next; settling comes after the outermost
// middleware returned.
type Middleware func(next Next) Next

// DeliveryFrom returns the delivery that a handler's ctx belongs to; ok is false
// for a context that comes from elsewhere.
func DeliveryFrom(ctx context.Context) (d *Delivery, ok bool) {
	d, ok = ctx.Value(deliveryKey{}).(*Delivery)
	return d, ok
}

type deliveryKey struct{}

// frame is all that one attempt at one message needs, in one allocation: the
// delivery, the batch of one, and the handler's context. The typed body and reply
// lie in the same allocation (see consumeFrame, replyFrame). It is never pooled:
// users may keep its context.
type frame struct {
	parent      context.Context
	delivery    Delivery
	batch       Batch
	self        any           // the typed frame that this one is part of; nil for Raw
	received    time.Duration // when the message came, since the service began
	began       time.Duration // when the attempt began
	called      bool          // the payload was decoded before: a middleware calls next again
	undecodable bool          // the payload could not be decoded
}

// init fills in f for one delivery.
func (f *frame) init(parent context.Context, c *consumer, m broker.IncomingMessage, attempt int) {
	f.parent = parent
	f.delivery.msg, f.delivery.consumer, f.delivery.attempt = m, c, attempt
	f.batch.frame = f
}

// Deadline, Done, Err and Value make the frame the handler's context. Done and
// Value are forwarded, so that a context derived from it starts no goroutine.

func (f *frame) Deadline() (time.Time, bool) { return f.parent.Deadline() }
func (f *frame) Done() <-chan struct{}       { return f.parent.Done() }
func (f *frame) Err() error                  { return f.parent.Err() }

func (f *frame) Value(key any) any {
	if _, ok := key.(deliveryKey); ok {
		return &f.delivery
	}
	return f.parent.Value(key)
}

package gostream

import (
	"context"
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

// DeliveryFrom returns the delivery that a handler's ctx belongs to; ok is false
// for a context that comes from elsewhere, and for that of a batch handler, which
// belongs to many.
func DeliveryFrom(ctx context.Context) (d *Delivery, ok bool) {
	f, ok := frameFrom(ctx)
	if !ok || f.run != nil {
		return nil, false
	}
	return &f.delivery, true
}

// frameFrom returns the frame that ctx is, or is derived from.
func frameFrom(ctx context.Context) (f *frame, ok bool) {
	f, ok = ctx.Value(frameKey{}).(*frame)
	return f, ok
}

type frameKey struct{}

// frame is all that one attempt at one message needs, in one allocation: the
// delivery, the batch of one, and the handler's context. The typed body and reply
// lie in the same allocation (see consumeFrame, replyFrame). It is never pooled:
// users may keep its context.
//
// The frame of a batch has no delivery of its own: it is the context of all of
// them, and run is what belongs to the batch.
type frame struct {
	parent      context.Context
	delivery    Delivery
	batch       Batch
	self        any           // the typed frame that this one is part of; nil for Raw
	run         *batchRun     // of a batch; nil for a single message
	lane        *lane         // under ByKey; nil otherwise
	received    time.Duration // when the message came, since the service began
	began       time.Duration // when the attempt began
	called      bool          // the payload was decoded before: a middleware calls next again
	undecodable bool          // the payload could not be decoded
	reached     bool          // of a batch: it was decoded, or that failed
	acked       bool          // acknowledged already, inside a transaction
	ended       bool          // the observers and the hooks were told
	element     bool          // it is one of a batch
	reason      reasonCode    // why it failed, where the policy was asked
	outcome     atomic.Uint32 // of an element: how the attempt ended, an Outcome; 0 while it has not
}

// logContext is the context of log lines about the attempt.
func (f *frame) logContext() context.Context { return f.delivery.Context() }

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
	if _, ok := key.(frameKey); ok {
		return f
	}
	return f.parent.Value(key)
}

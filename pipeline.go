package gostream

import (
	"context"
	"errors"
	"fmt"

	"github.com/gostream/gostream/broker"
)

// PublishNext publishes messages. One Publish comes with one message, a batch
// with all of them. A [*broker.BatchError] says which failed.
type PublishNext func(ctx context.Context, msgs []broker.OutgoingMessage) error

// PublishMiddleware wraps everything that an app publishes; see [App.UsePublish].
// It is called once for each publisher, at start; what it returns is called
// concurrently. It may change the messages of its slice.
type PublishMiddleware func(next PublishNext) PublishNext

// outlet is the publish pipeline with one broker's publisher at its end. Replies,
// typed and raw publishers, batches, requests and dead letters all go through one.
type outlet struct {
	broker    broker.Broker
	publisher broker.Publisher
	chain     PublishNext // nil where there is no middleware: then nothing is wrapped
}

// wrap builds the pipeline, once, at start.
func (o *outlet) wrap(middleware []func(kind string) PublishMiddleware) {
	for i := len(middleware) - 1; i >= 0; i-- {
		m := middleware[i](kindOf(o.broker))
		if m == nil {
			continue
		}
		if o.chain == nil {
			o.chain = o.send
		}
		o.chain = m(o.chain)
	}
}

func (o *outlet) publish(ctx context.Context, msg broker.OutgoingMessage) error {
	if o.chain == nil {
		return o.publisher.Publish(ctx, msg)
	}
	return o.through(ctx, []broker.OutgoingMessage{msg})
}

func (o *outlet) publishBatch(ctx context.Context, msgs []broker.OutgoingMessage) error {
	if len(msgs) == 0 {
		return nil
	}
	if o.chain == nil {
		return broker.PublishBatch(ctx, o.publisher, msgs)
	}
	err := o.through(ctx, append([]broker.OutgoingMessage(nil), msgs...))
	var failed *broker.BatchError
	if err != nil && len(msgs) == 1 && !errors.As(err, &failed) {
		err = &broker.BatchError{Errs: []error{err}} // the end of the chain sees one message, not a batch
	}
	return err
}

func (o *outlet) request(ctx context.Context, msg broker.OutgoingMessage) (broker.IncomingMessage, error) {
	if o.chain == nil {
		return broker.Request(ctx, o.publisher, msg)
	}
	slot := &requestSlot{outlet: o}
	err := o.through(context.WithValue(ctx, requestKey{}, slot), []broker.OutgoingMessage{msg})
	if err == nil && slot.reply == nil {
		err = fmt.Errorf("request to %s: a publish middleware answered without sending it", broker.Quote(msg.Name))
	}
	return slot.reply, err
}

// publishIn publishes msgs within tx.
func (o *outlet) publishIn(ctx context.Context, tx broker.Transaction, msgs []broker.OutgoingMessage) error {
	slot := &transactionSlot{outlet: o, tx: tx}
	if o.chain == nil {
		return slot.publish(ctx, msgs)
	}
	return o.through(context.WithValue(ctx, transactionKey{}, slot), msgs)
}

// transactionSlot leads messages from the end of the pipeline into a transaction.
// As with requestSlot, only the outlet that made it uses it.
type transactionSlot struct {
	outlet *outlet
	tx     broker.Transaction
}

type transactionKey struct{}

func (s *transactionSlot) publish(ctx context.Context, msgs []broker.OutgoingMessage) error {
	for i := range msgs {
		if err := s.tx.Publish(ctx, msgs[i]); err != nil {
			return &ReplyError{Name: msgs[i].Name, Err: err}
		}
	}
	return nil
}

// requestSlot carries the reply of a request from the end of the pipeline back to
// its beginning. Only the outlet that made it uses it, so that what a middleware
// publishes with the same context is no request.
type requestSlot struct {
	outlet *outlet
	reply  broker.IncomingMessage
}

type requestKey struct{}

// IsRequest reports, to a publish middleware, whether ctx is that of a [Requester]'s
// message: next then returns when the answer has come.
func IsRequest(ctx context.Context) bool {
	_, ok := ctx.Value(requestKey{}).(*requestSlot)
	return ok
}

// through runs the middleware; a panic in it becomes an error.
func (o *outlet) through(ctx context.Context, msgs []broker.OutgoingMessage) (err error) {
	returned := false
	defer catchPanic(&returned, &err)
	err = o.chain(ctx, msgs)
	returned = true
	return err
}

// send is the end of the pipeline.
func (o *outlet) send(ctx context.Context, msgs []broker.OutgoingMessage) error {
	if slot, ok := ctx.Value(requestKey{}).(*requestSlot); ok && slot.outlet == o && len(msgs) == 1 {
		var err error
		slot.reply, err = broker.Request(ctx, o.publisher, msgs[0])
		return err
	}
	if slot, ok := ctx.Value(transactionKey{}).(*transactionSlot); ok && slot.outlet == o {
		return slot.publish(ctx, msgs)
	}
	switch len(msgs) {
	case 0:
		return nil
	case 1:
		return o.publisher.Publish(ctx, msgs[0])
	default:
		return broker.PublishBatch(ctx, o.publisher, msgs)
	}
}

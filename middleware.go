package gostream

import (
	"context"
	"fmt"
)

// Batch is the deliveries that travel through the middleware together: one, except
// for a batch handler.
type Batch struct {
	frame *frame
}

// Subscription describes the subscription that delivered the messages.
func (b *Batch) Subscription() *Subscription { return b.frame.delivery.Subscription() }

// Len is the number of deliveries, at least 1.
func (b *Batch) Len() int {
	if b.frame.run != nil {
		return len(b.frame.run.elements)
	}
	return 1
}

// At is the i-th delivery, 0 <= i < Len. Payloads that cannot be decoded are among
// them, although the handler does not see these.
func (b *Batch) At(i int) *Delivery {
	if run := b.frame.run; run != nil {
		return &run.elements[i].delivery
	}
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
//
// Of a batch handler, next returns nil where single elements failed, by [Each]: an
// error that the middleware returns then overrides every element, so that a
// transaction which failed to commit acknowledges nothing.
type Middleware func(next Next) Next

package gostream

import (
	"context"
	"fmt"
	"time"
)

// ConsumeBatch makes a handler of a function that takes several decoded payloads
// at once: at most max, and fewer where wait has passed since the first of them
// came. max must be at least 1; a wait of 0 takes what is there.
//
// A nil error acknowledges all of them, [Each] settles them one by one, any other
// error fails all. The slice is the function's own and may be kept. A payload that
// cannot be decoded is settled by the policy and is not in the slice.
//
// Attempts are counted for each message, and only those that failed are handled
// again, together where their time is the same. Before an error of the whole batch
// gives anything up (rejects, ignores or dead-letters it), each message is handed
// over once alone, so that the one that fails is found and the others are not lost.
//
// T is as with [Consume]; it may be a [Message]. Workers(n) handles n batches at
// once; ByKey does not apply.
func ConsumeBatch[T any](f func(ctx context.Context, vs []T) error, max int, wait time.Duration) Handler {
	in := bodyOf[T]()
	spec := &handlerSpec{kind: "consume batch", in: in}
	spec.checkFunc(f == nil, "ConsumeBatch")
	spec.batch = newBatchSpec(spec, "ConsumeBatch", max, wait)
	spec.batch.newBodies = func(n int) any { return &batchBodies[T, struct{}]{in: make([]T, n)} }
	spec.batch.target = batchTarget[T, struct{}](in)
	spec.batch.call = func(ctx context.Context, bodies any, n int) error {
		return f(ctx, bodies.(*batchBodies[T, struct{}]).in[:n:n])
	}
	return spec
}

// ReplyBatch makes a handler of a function that takes several decoded payloads at
// once and returns a reply for each, in the same order. Say where they go with To.
//
// The reply of a message that did not fail is published before it is acknowledged.
// A slice of another length than the input's fails all. Else it is as with
// [ConsumeBatch] and [Reply].
func ReplyBatch[T, R any](f func(ctx context.Context, vs []T) ([]R, error), max int, wait time.Duration) *ReplyBatchHandler {
	in, out := bodyOf[T](), bodyOf[R]()
	spec := &handlerSpec{kind: "reply batch", in: in, out: out, send: new(replySpec)}
	spec.checkFunc(f == nil, "ReplyBatch")
	if err := out.checkOutgoing(); err != nil {
		spec.bad = append(spec.bad, fmt.Errorf("ReplyBatch: %w", err))
	}
	spec.batch = newBatchSpec(spec, "ReplyBatch", max, wait)
	spec.batch.newBodies = func(n int) any { return &batchBodies[T, R]{in: make([]T, n)} }
	spec.batch.target = batchTarget[T, R](in)
	spec.batch.call = func(ctx context.Context, bodies any, n int) (err error) {
		b := bodies.(*batchBodies[T, R])
		b.out, err = f(ctx, b.in[:n:n])
		if err != nil {
			if _, ok := asEach(err); !ok {
				return err
			}
		}
		if len(b.out) != n {
			return fmt.Errorf("ReplyBatch: the handler returned %d replies to %d messages", len(b.out), n)
		}
		return err
	}
	spec.batch.result = func(bodies any, i int) outbound {
		r := &bodies.(*batchBodies[T, R]).out[i]
		if out.envelope {
			return any(r).(outgoingSource).outbound()
		}
		return outbound{body: r}
	}
	return &ReplyBatchHandler{spec}
}

// ReplyBatchHandler is a batch handler whose function returns replies. Its methods
// return changed copies.
type ReplyBatchHandler struct{ spec *handlerSpec }

func (h *ReplyBatchHandler) handlerSpec() *handlerSpec {
	if h == nil {
		return nil
	}
	return h.spec
}

// To publishes every reply to name.
func (h *ReplyBatchHandler) To(name string) *ReplyBatchHandler {
	return &ReplyBatchHandler{h.spec.withSend(func(r *replySpec) { r.to, r.hasTo = name, true })}
}

// Via publishes the replies through p instead of the publisher that matches the
// subscription's source; p may belong to another broker.
func (h *ReplyBatchHandler) Via(p *RawPublisher) *ReplyBatchHandler {
	return &ReplyBatchHandler{h.spec.withSend(func(r *replySpec) { r.via, r.hasVia = p, true })}
}

// Transactional publishes all replies of a batch in one transaction of the broker,
// with the acknowledgements of their messages inside it where the broker can; they
// become visible together or not at all. A broker without transactions is a start
// error.
func (h *ReplyBatchHandler) Transactional() *ReplyBatchHandler {
	return &ReplyBatchHandler{h.spec.withSend(func(r *replySpec) { r.transactional = true })}
}

// batchSpec is what a batch handler has beyond a handler.
type batchSpec struct {
	max  int
	wait time.Duration

	newBodies func(n int) any // a *batchBodies
	target    func(bodies any, i int, d *Delivery) any
	call      func(ctx context.Context, bodies any, n int) error
	result    func(bodies any, i int) outbound // of a reply, after call
}

// batchBodies are the typed values of one call.
type batchBodies[T, R any] struct {
	in  []T
	out []R
}

func newBatchSpec(s *handlerSpec, constructor string, max int, wait time.Duration) *batchSpec {
	if max < 1 {
		s.bad = append(s.bad, fmt.Errorf("%s: a batch of at most %d messages: at least 1 is needed", constructor, max))
	}
	if wait < 0 {
		s.bad = append(s.bad, fmt.Errorf("%s: the wait %v must not be negative", constructor, wait))
	}
	return &batchSpec{max: max, wait: wait}
}

func batchTarget[T, R any](in body) func(bodies any, i int, d *Delivery) any {
	return func(bodies any, i int, d *Delivery) any {
		return in.target(&bodies.(*batchBodies[T, R]).in[i], d)
	}
}

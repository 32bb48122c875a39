package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// BatchReceiver is the capability of a subscription that receives several
// deliveries at once. Without it [Buffered] collects them one by one.
type BatchReceiver interface {
	// ReceiveBatch behaves as an io.Reader does: it blocks for the first
	// delivery, then returns what is there, at most len(dst), without waiting for
	// more. n > 0 comes with a nil error. The rules of [Subscription.Receive]
	// hold; the two must not be called concurrently. An empty dst returns 0, nil.
	ReceiveBatch(ctx context.Context, dst []IncomingMessage) (n int, err error)
}

// ReceiveBatch receives up to len(dst) deliveries from sub. It answers
// [errors.ErrUnsupported] where sub receives one by one; see [Buffered].
func ReceiveBatch(ctx context.Context, sub Subscription, dst []IncomingMessage) (int, error) {
	if r, ok := sub.(BatchReceiver); ok {
		return r.ReceiveBatch(ctx, dst)
	}
	return 0, unsupported(sub, "receive a batch")
}

// Buffered returns a subscription that collects batches from sub: each is full,
// or as large as it was when wait had passed since its first delivery. It uses
// the native [BatchReceiver] where sub has one, else Receive. wait <= 0 means not
// to wait for more once the first delivery is there.
//
// Nothing is lost when ctx ends: what was collected is returned without an error,
// and an error that came after the first delivery is returned by the next call.
// Close goes to sub, and so do [Lag] and [BeginReceived]. It has one receiver at a
// time, as every subscription.
func Buffered(sub Subscription, wait time.Duration) *BufferedSubscription {
	return &BufferedSubscription{Subscription: sub, wait: wait}
}

// BufferedSubscription is a subscription that collects batches. Make it with
// [Buffered].
type BufferedSubscription struct {
	Subscription
	wait time.Duration

	mu      sync.Mutex // guards pending alone; there is one receiver at a time
	pending error
}

// Receive returns the next delivery.
func (b *BufferedSubscription) Receive(ctx context.Context) (IncomingMessage, error) {
	if err := b.takePending(); err != nil {
		return nil, err
	}
	return b.Subscription.Receive(ctx)
}

// ReceiveBatch fills dst as [Buffered] says.
func (b *BufferedSubscription) ReceiveBatch(ctx context.Context, dst []IncomingMessage) (int, error) {
	if len(dst) == 0 {
		return 0, nil
	}
	if err := b.takePending(); err != nil {
		return 0, err
	}
	n, err := b.some(ctx, dst)
	if err != nil || n == len(dst) {
		return n, err
	}
	wait := max(b.wait, 0)
	more, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for n < len(dst) && more.Err() == nil {
		got, err := b.some(more, dst[n:])
		n += got
		if err == nil {
			continue
		}
		if more.Err() == nil || !isContextError(err) {
			b.mu.Lock()
			b.pending = err
			b.mu.Unlock()
		}
		break
	}
	return n, nil
}

// some receives at least one delivery into dst, natively where it can.
func (b *BufferedSubscription) some(ctx context.Context, dst []IncomingMessage) (int, error) {
	if r, ok := b.Subscription.(BatchReceiver); ok {
		return r.ReceiveBatch(ctx, dst)
	}
	m, err := b.Subscription.Receive(ctx)
	if err != nil {
		return 0, err
	}
	dst[0] = m
	return 1, nil
}

// Lag is that of sub. It answers [errors.ErrUnsupported] where sub has none.
func (b *BufferedSubscription) Lag(ctx context.Context) (int64, error) {
	return Lag(ctx, b.Subscription)
}

// Begin opens a transaction on sub. It answers [errors.ErrUnsupported] where sub
// has none.
func (b *BufferedSubscription) Begin(ctx context.Context) (Transaction, error) {
	return BeginReceived(ctx, b.Subscription)
}

func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func (b *BufferedSubscription) takePending() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.pending
	b.pending = nil
	return err
}

// BatchPublisher is the capability of a publisher that sends several messages at
// once. Without it they are sent one by one.
type BatchPublisher interface {
	// PublishBatch sends msgs in order. Nil means that every one was accepted. A
	// [*BatchError] says which failed; the others were accepted. After any other
	// error, a context error for one, the outcome of each is unknown. Ownership
	// of the bytes is as with [Publisher.Publish].
	PublishBatch(ctx context.Context, msgs []OutgoingMessage) error
}

// PublishBatch sends msgs through p, one by one where p has no [BatchPublisher].
// One by one, all are tried; when ctx ends, the rest fails with its error.
func PublishBatch(ctx context.Context, p Publisher, msgs []OutgoingMessage) error {
	if b, ok := p.(BatchPublisher); ok {
		return b.PublishBatch(ctx, msgs)
	}
	var failed *BatchError
	for i := range msgs {
		err := ctx.Err()
		if err == nil {
			err = p.Publish(ctx, msgs[i])
		}
		if err != nil {
			if failed == nil {
				failed = &BatchError{Errs: make([]error, len(msgs))}
			}
			failed.Errs[i] = err
		}
	}
	if failed != nil {
		return failed
	}
	return nil
}

// BatchError says which messages of a batch failed.
type BatchError struct {
	// Errs has one entry for each message of the batch, nil for those that were
	// accepted.
	Errs []error
}

// Error names the first failure and how many there are.
func (e *BatchError) Error() string {
	n := 0
	first := -1
	for i, err := range e.Errs {
		if err != nil {
			if first < 0 {
				first = i
			}
			n++
		}
	}
	if first < 0 {
		return "publish a batch: no message failed"
	}
	return fmt.Sprintf("publish a batch: %d of %d messages failed, the first at index %d: %v", n, len(e.Errs), first, e.Errs[first])
}

// Unwrap returns the errors of the messages that failed.
func (e *BatchError) Unwrap() []error {
	var errs []error
	for _, err := range e.Errs {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// BatchErrors returns one error for each of n messages of a batch whose
// PublishBatch returned err: all nil for a nil err, those of a [*BatchError] of
// that length, else err for each.
func BatchErrors(err error, n int) []error {
	errs := make([]error, n)
	if err == nil {
		return errs
	}
	var be *BatchError
	if errors.As(err, &be) && len(be.Errs) == n {
		copy(errs, be.Errs)
		return errs
	}
	for i := range errs {
		errs[i] = err
	}
	return errs
}

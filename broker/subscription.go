package broker

import (
	"context"
	"errors"
	"iter"
)

// Subscription is a stream of deliveries. Back-pressure is not calling Receive;
// so is pausing.
//
// How many deliveries may be unsettled at once is the source's own limit
// ([SourceSpec].Limit) and never unbounded: at the limit Receive waits.
type Subscription interface {
	// Receive returns the next delivery and blocks until there is one. It must
	// not be called concurrently: there is one receiver per subscription.
	//
	// When ctx ends while a message is arriving, the message is returned or stays
	// with the broker; it is never lost, and a later Receive goes on. After Close
	// Receive answers [ErrClosed].
	//
	// Receive blocks while the connection is lost. Any other error is permanent
	// for this subscription.
	Receive(ctx context.Context) (IncomingMessage, error)

	// Close stops the intake. From then on Receive answers [ErrClosed], even
	// with a backlog, and prefetched messages are given back to the transport.
	// Only where the transport does not redeliver, Receive first hands out what
	// had already arrived. A Receive that waits returns.
	//
	// Deliveries that are out can still be settled until the broker's Shutdown.
	// Group membership is given up when the last of them is settled, by the
	// broker's own bound, or at Shutdown. Close is idempotent.
	Close(ctx context.Context) error
}

// Messages is the stream form of [Subscription.Receive].
//
// The sequence ends without an error when the subscription is closed. Any other
// error, the context's included, is yielded once with a nil message and ends the
// sequence. Leaving the loop early loses nothing: the next Receive goes on.
func Messages(ctx context.Context, sub Subscription) iter.Seq2[IncomingMessage, error] {
	return func(yield func(IncomingMessage, error) bool) {
		for {
			m, err := sub.Receive(ctx)
			if errors.Is(err, ErrClosed) {
				return
			}
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

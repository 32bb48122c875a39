package broker

import (
	"context"
	"time"
)

// DelayedNacker is the capability of a message that can be given back for a
// later time. Without it the runtime parks the delivery and calls the handler
// again when the time has come.
type DelayedNacker interface {
	// NackAfter settles the delivery as Nack with requeue does, but the message
	// does not come again before d has passed. d <= 0 is at once.
	NackAfter(ctx context.Context, d time.Duration) error
}

// NackAfter gives m back so that it comes again after d. It answers
// [errors.ErrUnsupported] where m cannot do that; m is then still unsettled.
func NackAfter(ctx context.Context, m IncomingMessage, d time.Duration) error {
	if n, ok := m.(DelayedNacker); ok {
		return n.NackAfter(ctx, d)
	}
	return unsupported(m, "nack after a delay")
}

// DeliveryCounter is the capability of a message that knows how often it was
// delivered. Without it the runtime counts its own attempts.
type DeliveryCounter interface {
	// DeliveryCount is 1 on the first delivery. It may include deliveries that a
	// crash or a drain took back.
	DeliveryCount() int
}

// DeliveryCount returns how often m was delivered; ok is false where that is not
// known.
func DeliveryCount(m IncomingMessage) (n int, ok bool) {
	if c, is := m.(DeliveryCounter); is {
		return c.DeliveryCount(), true
	}
	return 0, false
}

// Partitioned is the capability of a message that has a partition key. Without
// it nothing can be handled in order by key.
type Partitioned interface {
	// PartitionKey is the key, nil where the message has none. The bytes belong
	// to the receiver, as the payload's do.
	PartitionKey() []byte
}

// PartitionKey returns the key of m; ok is false where m's transport has no
// keys. A message that has keys may still have none: nil, true.
func PartitionKey(m IncomingMessage) (key []byte, ok bool) {
	if p, is := m.(Partitioned); is {
		return p.PartitionKey(), true
	}
	return nil, false
}

// Leased is the capability of a message that is ours for a limited time, after
// which it is given to somebody else. Without it no lease is needed.
type Leased interface {
	// LeaseUntil is when the lease ends.
	LeaseUntil() time.Time
	// ExtendLease asks for the full time again. Once the lease is lost it
	// answers [ErrStale].
	ExtendLease(ctx context.Context) error
}

// LeaseUntil returns when the lease on m ends; ok is false where m needs none.
func LeaseUntil(m IncomingMessage) (t time.Time, ok bool) {
	if l, is := m.(Leased); is {
		return l.LeaseUntil(), true
	}
	return time.Time{}, false
}

// ExtendLease extends the lease on m. It answers [errors.ErrUnsupported] where m
// has none.
func ExtendLease(ctx context.Context, m IncomingMessage) error {
	if l, ok := m.(Leased); ok {
		return l.ExtendLease(ctx)
	}
	return unsupported(m, "extend the lease")
}

// Staler is the capability of a message that can stop being ours: by a
// rebalance, or because its lease ran out. Without it a message is never stale.
type Staler interface {
	// Stale reports whether the message is no longer ours. It does no I/O.
	Stale() bool
}

// Stale reports whether m is no longer ours.
func Stale(m IncomingMessage) bool {
	s, ok := m.(Staler)
	return ok && s.Stale()
}

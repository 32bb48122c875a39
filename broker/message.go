package broker

import "context"

// IncomingMessage is one delivery of one message.
//
// A delivery is settled once, by Ack or by Nack (or by a capability such as
// [NackAfter]), from any goroutine, in any order relative to other deliveries,
// at any time until the broker's Shutdown returns; also after its subscription
// was closed. Which settlement wins is decided by one atomic step:
//
//   - A second settlement answers [ErrSettled] and changes nothing.
//   - After Shutdown every settlement answers [ErrClosed], also of a delivery
//     that was settled before.
//   - A delivery that is no longer ours (its partition was revoked, its lease ran
//     out) answers [ErrStale].
//   - On a transport that has no acknowledgement every settlement answers
//     [errors.ErrUnsupported] until Shutdown, then [ErrClosed]. The runtime
//     accepts that answer. Faking success is a defect.
//   - A settlement that failed otherwise may be tried again.
//
// A delivery that is dropped unsettled, by Shutdown or by a crash, comes back
// where the transport redelivers at all.
type IncomingMessage interface {
	// Name is the concrete subject, topic or queue. Under a wildcard
	// subscription it is not the pattern.
	Name() string

	// Payload is the body. The bytes belong to the receiver, also after the
	// delivery was settled: the broker neither reuses nor changes them, and never
	// shares them between subscriptions or with a redelivery.
	Payload() []byte

	// Headers are the message's headers. Reading them from several goroutines
	// is safe.
	Headers() Headers

	// Ack says that the message was processed. A nil result means that the
	// broker accepted the acknowledgement; it is durable by the broker's written
	// rule, at the latest when Close and Shutdown have returned nil.
	Ack(ctx context.Context) error

	// Nack says that the message was not processed.
	//
	// With requeue, a nil result means that it will come again, before anything
	// that was not yet received where [Properties].Ordered says so. At the
	// transport's delivery limit, where it would not come again, the answer is
	// an error instead.
	//
	// Without requeue it does not come again on this subscription. The
	// transport's native dead-lettering may take it.
	Nack(ctx context.Context, requeue bool) error
}

// OutgoingMessage is a message to publish. The zero value has no name and is
// refused with [ErrInvalid].
type OutgoingMessage struct {
	// Name is the subject, topic, queue or channel. Required.
	Name string
	// Key is the partition key; nil for none. It travels natively where the
	// transport has keys ([KeysNative]), else in the header [HeaderKey]
	// ([KeysHeader]).
	Key []byte
	// Payload is the body. Nil and empty are the same message.
	Payload []byte
	// Headers travel with the message. The zero value is empty and costs nothing.
	Headers Headers
	// Options are the broker's own typed options for this message; nil for none.
	// A type or a value that the broker cannot honour is [ErrInvalid].
	Options any
}

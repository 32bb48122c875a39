package broker

import (
	"context"
	"time"
)

// DefaultTimeout bounds a control call whose context has no deadline:
// subscribing. It is 30 seconds.
const DefaultTimeout = 30 * time.Second

// DefaultShutdownTimeout bounds [Broker.Shutdown] when its context has no
// deadline. It is 10 seconds, also with the server gone.
const DefaultShutdownTimeout = 10 * time.Second

// Broker is a connection to one messaging system.
//
// A constructor takes the broker's own typed configuration, does no I/O, keeps
// the mistakes that it finds and returns the broker; [Checker] reports them all,
// joined. A setting without a sane default has none: the user must give it.
//
// All methods are safe for concurrent use.
type Broker interface {
	// Connect dials. ctx bounds dialing only; the connection outlives it. A
	// cancelled Connect leaves nothing behind and may be called again. Connect is
	// idempotent: on a connected broker it returns nil. After Shutdown it
	// returns [ErrClosed].
	Connect(ctx context.Context) error

	// Shutdown flushes what Publish accepted, then closes the connection and
	// every subscription. Deliveries that are still unsettled go back to the
	// transport, where it redelivers at all. Shutdown is idempotent and never
	// panics, also before Connect. ctx bounds it; without a deadline
	// [DefaultShutdownTimeout] does, also with the server gone.
	Shutdown(ctx context.Context) error
}

// Subscriber is a broker that subscribes by name alone. [ByName] is the source
// that uses it.
type Subscriber interface {
	// Subscribe opens a subscription to name with the broker's defaults. The
	// rules are those of [Source.Subscribe].
	Subscribe(ctx context.Context, name string) (Subscription, error)
}

// PublisherProvider is a broker with a default publisher.
type PublisherProvider interface {
	// Publisher returns the default publisher. It does no I/O, may be called
	// before Connect, and the result stays usable until Shutdown: publishing
	// before Connect answers [ErrNotConnected], after Shutdown [ErrClosed].
	Publisher() Publisher
}

// Publisher sends messages. It is safe for concurrent use.
type Publisher interface {
	// Publish sends one message.
	//
	// A nil result means that the broker has accepted responsibility for the
	// message as far as its documentation says; a broker that has only buffered
	// it says so in [Properties].BuffersPublishes.
	//
	// ctx bounds the call. An error that is a context error means that the outcome
	// is unknown: the message may still arrive. The caller owns msg's bytes again
	// as soon as Publish returns, also when ctx ended it.
	//
	// A name that the transport would take and misroute (a wildcard, an empty
	// token), a header that it cannot hold, and an Options value that it cannot
	// honour are [ErrInvalid] and nothing is sent; a payload over the limit is
	// [ErrTooLarge] and nothing is sent.
	Publish(ctx context.Context, msg OutgoingMessage) error
}

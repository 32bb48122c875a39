package broker

import "context"

// Checker is the capability of a broker whose constructor kept mistakes. Without
// it there is nothing to say before I/O.
type Checker interface {
	// Check reports, without I/O, every mistake of the configuration, joined.
	Check() error
}

// Check reports the mistakes in the configuration of b, nil where it has nothing
// to say.
func Check(b Broker) error {
	if c, ok := b.(Checker); ok {
		return c.Check()
	}
	return nil
}

// HealthChecker is the capability of a broker that knows how it is. Without it
// its health is unknown.
type HealthChecker interface {
	// Health asks the connections that exist; it never opens one. Nil is healthy.
	Health(ctx context.Context) error
}

// Health returns the health of b. It answers [errors.ErrUnsupported] where that
// is not known.
func Health(ctx context.Context, b Broker) error {
	if h, ok := b.(HealthChecker); ok {
		return h.Health(ctx)
	}
	return unsupported(b, "health")
}

// Lagger is the capability of a subscription that knows how much waits for it.
// Without it the lag is unknown.
type Lagger interface {
	// Lag is how many messages wait to be delivered. Unsettled deliveries do
	// not count.
	Lag(ctx context.Context) (int64, error)
}

// Lag returns how many messages wait for sub. It answers
// [errors.ErrUnsupported] where that is not known.
func Lag(ctx context.Context, sub Subscription) (int64, error) {
	if l, ok := sub.(Lagger); ok {
		return l.Lag(ctx)
	}
	return 0, unsupported(sub, "lag")
}

// EventKind says what happened to a connection or a subscription.
type EventKind int

const (
	// EventDisconnected: the connection was cut; the broker is trying again.
	EventDisconnected EventKind = iota + 1
	// EventReconnected: the connection is back and everything is subscribed again.
	EventReconnected
	// EventSlowConsumer: the transport dropped or may drop messages because they
	// are not received fast enough.
	EventSlowConsumer
	// EventSubscriptionLost: a subscription ended on the server's side.
	EventSubscriptionLost
	// EventFailed: the server refused what a call had already accepted, such as a
	// buffered publish without permission. Err says what.
	EventFailed
)

// String returns the event's name in lower case.
func (k EventKind) String() string {
	switch k {
	case EventDisconnected:
		return "disconnected"
	case EventReconnected:
		return "reconnected"
	case EventSlowConsumer:
		return "slow consumer"
	case EventSubscriptionLost:
		return "subscription lost"
	case EventFailed:
		return "failed"
	default:
		return "unknown event"
	}
}

// Event is something that happened outside of any call.
type Event struct {
	// Kind says what happened.
	Kind EventKind
	// Name is the subscription's subject, topic or queue; "" for the connection.
	Name string
	// Err is the cause; nil where there is none. Its text holds no credential.
	Err error
}

// Notifier is the capability of a broker that tells of events. Without it there
// is silence.
type Notifier interface {
	// Notify adds a function that is called for every event. It must be called
	// before Connect. f is called from the broker's goroutines and must not block.
	Notify(f func(Event))
}

// Notify adds f to the listeners of b and reports whether b tells of events.
func Notify(b Broker, f func(Event)) bool {
	n, ok := b.(Notifier)
	if ok {
		n.Notify(f)
	}
	return ok
}

// ServerSpec describes the server for documents and logs. It never holds a
// credential.
type ServerSpec struct {
	// Protocol is the protocol's AsyncAPI name: "nats", "kafka", "memory" …
	Protocol string
	// ProtocolVersion is the protocol's version; "" where none is declared.
	ProtocolVersion string
	// Hosts are the addresses, each "host" or "host:port".
	Hosts []string
	// Description is a sentence for people; "" for none.
	Description string
}

// ServerDescriber is the capability of a broker that describes its server.
// Without it servers are declared by hand.
type ServerDescriber interface {
	// DescribeServer is pure and known before Connect. It never holds a credential.
	DescribeServer() ServerSpec
}

// DescribeServer returns the description of the server of b; ok is false where
// it has none.
func DescribeServer(b Broker) (spec ServerSpec, ok bool) {
	if d, is := b.(ServerDescriber); is {
		return d.DescribeServer(), true
	}
	return ServerSpec{}, false
}

package broker

// KeySupport says how partition keys travel.
type KeySupport int

const (
	// KeysNone means that keys are refused with [ErrInvalid]. It is the zero value.
	KeysNone KeySupport = iota
	// KeysHeader means that keys travel in the header [HeaderKey].
	KeysHeader
	// KeysNative means that the transport has keys of its own.
	KeysNative
)

// String returns "none", "header" or "native".
func (k KeySupport) String() string {
	switch k {
	case KeysHeader:
		return "header"
	case KeysNative:
		return "native"
	default:
		return "none"
	}
}

// Properties are what a broker or a source promises and no operation can
// express. The zero value promises nothing. The conformance kit checks that what
// is declared is what is seen.
type Properties struct {
	// Persistent: accepted messages survive a restart of the broker's server.
	Persistent bool
	// Redelivers: a delivery that was nacked with requeue, or dropped unsettled,
	// comes again.
	Redelivers bool
	// BuffersPublishes: a nil from Publish may mean that the message was only
	// buffered.
	BuffersPublishes bool
	// CountsDeliveries: messages carry a [DeliveryCounter] whose count survives
	// a crash of the consumer.
	CountsDeliveries bool
	// Ordered: deliveries come in publish order, and a requeued one comes before
	// anything not yet received.
	Ordered bool
	// OrderedByKey: deliveries of one key come in publish order.
	OrderedByKey bool
	// Keys says how partition keys travel.
	Keys KeySupport
	// CompetingConsumers: several subscriptions can share one stream of messages.
	CompetingConsumers bool
	// Backlog: what was published before the first subscription is kept for it.
	Backlog bool
	// SerialTransactions: only one transaction may be open at a time; a second
	// Begin waits for the first to end.
	SerialTransactions bool
	// MaxPayload is the largest payload in bytes; 0 means that no limit is known.
	MaxPayload int
}

// PropertiesDescriber is the capability of a broker that declares its
// properties. Without it nothing is promised.
type PropertiesDescriber interface {
	// Properties returns what by-name subscriptions and the default publisher
	// promise. It is pure and known before I/O.
	Properties() Properties
}

// PropertiesOf returns the broker's properties, the zero value where it declares
// none.
func PropertiesOf(b Broker) Properties {
	if d, ok := b.(PropertiesDescriber); ok {
		return d.Properties()
	}
	return Properties{}
}

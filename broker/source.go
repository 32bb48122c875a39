package broker

import (
	"context"
	"fmt"
)

// Source describes what to subscribe to, with the broker's own options: a
// stream with a durable consumer, a topic with a group. It is a plain
// description that may be made long before a connection exists.
type Source interface {
	// Name is the declared name or pattern. It identifies the source to people.
	Name() string

	// Check reports, without I/O, the mistakes in the description itself and a
	// broker of another kind, with an error that names both.
	Check(b Broker) error

	// Subscribe opens the subscription on b. It is live when Subscribe returns:
	// what is published from then on arrives. A ctx without a deadline gets
	// [DefaultTimeout].
	Subscribe(ctx context.Context, b Broker) (Subscription, error)
}

// ByName is the source that subscribes by name alone. It works on every broker
// that is a [Subscriber].
type ByName string

// Name returns the name.
func (n ByName) Name() string { return string(n) }

// Check reports an empty name, a broker that does not subscribe by name, and a
// name that the broker's [NameChecker] refuses.
func (n ByName) Check(b Broker) error {
	if n == "" {
		return fmt.Errorf("%w: a subscription by name has an empty name", ErrInvalid)
	}
	if _, ok := b.(Subscriber); !ok {
		return fmt.Errorf("%w: %s is a subscription by name, and %T does not subscribe by name: use a source of that broker", ErrInvalid, Quote(string(n)), b)
	}
	return CheckSubscribeName(b, string(n))
}

// Subscribe opens a subscription with the broker's defaults. A broker that is
// not a [Subscriber] answers [errors.ErrUnsupported].
func (n ByName) Subscribe(ctx context.Context, b Broker) (Subscription, error) {
	s, ok := b.(Subscriber)
	if !ok {
		return nil, unsupported(b, "subscribing by name")
	}
	return s.Subscribe(ctx, string(n))
}

// SourceSpec is what a source says of itself before any I/O.
type SourceSpec struct {
	// Group is the consumer group, queue group or durable name; "" for none.
	Group string
	// Limit is the most deliveries that may be unsettled at once; 0 means that
	// the source does not say.
	Limit int
	// Properties hold for subscriptions of this source; they replace the
	// broker's own.
	Properties Properties
	// Bindings are AsyncAPI bindings by protocol, and there under "channel" and
	// "operation"; nil for none. Values must encode as JSON.
	Bindings map[string]any
}

// SourceDescriber is the capability of a source that describes itself. Without
// it the broker's [Properties] hold and nothing else is known.
type SourceDescriber interface {
	// Spec describes the source. It is pure and known before I/O.
	Spec() SourceSpec
}

// DescribeSource returns the description of src on b. Where src does not
// describe itself, it holds the broker's properties and ok is false.
func DescribeSource(src Source, b Broker) (spec SourceSpec, ok bool) {
	if d, is := src.(SourceDescriber); is {
		return d.Spec(), true
	}
	return SourceSpec{Properties: PropertiesOf(b)}, false
}

// Matcher is the capability of a source that knows which names it receives, by
// the transport's own wildcard rule. Without it names match when they are equal.
type Matcher interface {
	// Match reports whether a message of that concrete name arrives here. It is pure.
	Match(name string) bool
}

// NameMatcher is the capability of a broker whose by-name subscriptions follow a
// wildcard rule. Without it names match when they are equal.
type NameMatcher interface {
	// MatchName reports whether a subscription by the name pattern receives a
	// message of the concrete name. It is pure.
	MatchName(pattern, name string) bool
}

// Matches reports whether src on b receives messages of the concrete name: by
// the source's [Matcher], for a [ByName] by the broker's [NameMatcher], else by
// equality.
func Matches(src Source, b Broker, name string) bool {
	if m, ok := src.(Matcher); ok {
		return m.Match(name)
	}
	if n, ok := src.(ByName); ok {
		if m, ok := b.(NameMatcher); ok {
			return m.MatchName(string(n), name)
		}
	}
	return src.Name() == name
}

// NameChecker is the capability of a broker that knows, without I/O, which names
// its transport takes. Without it names are checked when they are used.
type NameChecker interface {
	// CheckSubscribeName reports why name cannot be subscribed to by name; the
	// error is [ErrInvalid].
	CheckSubscribeName(name string) error
	// CheckPublishName reports why nothing can be published to name; the error
	// is [ErrInvalid].
	CheckPublishName(name string) error
}

// CheckSubscribeName asks the broker's [NameChecker]; nil where it has none.
func CheckSubscribeName(b Broker, name string) error {
	if c, ok := b.(NameChecker); ok {
		return c.CheckSubscribeName(name)
	}
	return nil
}

// CheckPublishName asks the broker's [NameChecker]; nil where it has none.
func CheckPublishName(b Broker, name string) error {
	if c, ok := b.(NameChecker); ok {
		return c.CheckPublishName(name)
	}
	return nil
}

// PublisherMatcher is the capability of a source that knows the publisher which
// keeps what its subscriptions promise, for replies and dead letters. Without it
// the broker's default publisher is used.
type PublisherMatcher interface {
	// Publisher returns the matching publisher. The rules are those of
	// [PublisherProvider].
	Publisher(b Broker) Publisher
}

// PublisherFor returns the publisher for replies and dead letters of src: the
// matching one, else the broker's default. ok is false where neither exists.
func PublisherFor(src Source, b Broker) (p Publisher, ok bool) {
	if m, is := src.(PublisherMatcher); is {
		if p := m.Publisher(b); p != nil {
			return p, true
		}
	}
	return DefaultPublisher(b)
}

// DefaultPublisher returns the broker's default publisher; ok is false where the
// broker has none.
func DefaultPublisher(b Broker) (p Publisher, ok bool) {
	if d, is := b.(PublisherProvider); is {
		if p := d.Publisher(); p != nil {
			return p, true
		}
	}
	return nil, false
}

package brokertest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gostream/gostream/broker"
)

// The defaults of the times and sizes of a [Harness].
const (
	DefaultTimeout = 10 * time.Second
	DefaultQuiet   = 100 * time.Millisecond
	DefaultLoad    = 1000
	DefaultBulk    = 100_000
)

// Harness tells the kit how to reach one messaging system through one broker. New
// and Source are required; whatever else is absent makes the checks that need it
// not applicable.
//
// The functions are called from several goroutines, but for Interrupt and Restart.
// Every error that one of them returns fails the check that called it.
//
// The kit reaches everything through the interfaces and helpers of package broker:
// sources, subscriptions, messages and publishers may be wrapped.
type Harness struct {
	// New returns a new broker that is not connected. Every call is another
	// connection to the same system, with the same configuration. A check makes
	// several. The kit calls Connect and Shutdown.
	New func() broker.Broker

	// Source returns a fresh source and the name that reaches it. It is called
	// several times per check; no message of one target may reach another. id is
	// unique, begins with a lower-case letter, has lower-case letters and digits
	// only and at most 24 of them: it is a safe part of subjects, topics, tables and
	// files. Source may do I/O, such as to create a stream or a table, with a
	// connection of its own.
	//
	// The same target is subscribed to again after a Close or a Shutdown, also from
	// another broker of New. Where the source redelivers it must then find what the
	// first left unsettled: give it a durable name made from id.
	Source func(ctx context.Context, id string) (Target, error)

	// Group returns a fresh name with groups of competing members on it. Without it
	// the checks of competing consumers are not applicable.
	Group func(ctx context.Context, id string) (Group, error)

	// Pattern returns a fresh source with a wildcard and names for it. Without it
	// the checks of matching by wildcard are not applicable.
	Pattern func(ctx context.Context, id string) (Pattern, error)

	// Lease returns a target as Source does, whose deliveries have a lease that is
	// short, but not below ten times Quiet. Without it Source is used, and the checks
	// that wait for the end of a lease are not applicable where it is longer than
	// Timeout.
	Lease func(ctx context.Context, id string) (Target, error)

	// Publisher returns the publisher for what src receives; it does no I/O and may
	// be called before Connect. Without it, it is [broker.PublisherFor]. Set it to
	// wrap publishers.
	Publisher func(src broker.Source, b broker.Broker) broker.Publisher

	// Interrupt cuts the connections of all brokers made by New, and does not let
	// them come back until restore is called. It returns when they are cut; restore
	// returns when the server can be reached again. A proxy in front of the server
	// does. Without it the checks of lost connections are not applicable. Suites
	// that run at once must not cut each other's connections.
	Interrupt func(ctx context.Context) (restore func(ctx context.Context) error, err error)

	// Restart stops the server and starts it again, with what it stored. It returns
	// when the server can be reached. Without it the checks of restarts are not
	// applicable.
	Restart func(ctx context.Context) error

	// Unreachable returns a broker with the same configuration but for the address,
	// where no server answers. It is used to see errors of connecting. Optional.
	Unreachable func() broker.Broker

	// Misconfigured returns a broker whose constructor was given mistakes, which
	// [broker.Check] must report without I/O. Optional.
	Misconfigured func() broker.Broker

	// ValidOptions are values for [broker.OutgoingMessage].Options that the broker
	// honours on any message to a name of Source; each is used once. InvalidOptions
	// are values of the right type that it must refuse with [broker.ErrInvalid]. A
	// type of the kit's own is always tried. Optional.
	ValidOptions, InvalidOptions []any

	// InvalidNames are names that the transport would take and misroute, such as
	// "a.*" or "a..b": publishing to them must answer [broker.ErrInvalid]. The empty
	// name is always tried. Optional.
	InvalidNames []string

	// Secrets are strings that must appear nowhere: passwords and tokens of the
	// configuration, each in the form in which it was given. The kit looks for their
	// URL-escaped forms, too. Optional.
	Secrets []string

	// Timeout bounds one step: connecting, subscribing, receiving a message that must
	// come, also one that comes again after a Shutdown. 0 means [DefaultTimeout].
	Timeout time.Duration

	// Quiet is how long to wait to be sure that nothing comes. A value below what the
	// system needs to deliver makes the kit blind. 0 means [DefaultQuiet].
	Quiet time.Duration

	// Delay is the delay that a delayed nack is given. 0 means three times Quiet. Set
	// it where the transport counts in whole seconds.
	Delay time.Duration

	// Watchdog bounds one check, five times it those that publish Bulk messages. 0
	// means six times Timeout.
	Watchdog time.Duration

	// Load is how many messages the checks under load publish, in all. 0 means
	// [DefaultLoad]. Bulk is how many the check of memory publishes; 0 means
	// [DefaultBulk].
	Load, Bulk int

	// Skip names checks ("settlement/ack") or groups ("settlement") that are not run,
	// with the reason, which is printed. A name that does not exist is an error.
	Skip map[string]string
}

// Target is a source and the name that reaches it.
type Target struct {
	// Source is what to subscribe to. It is used by several brokers and may be
	// subscribed to several times.
	Source broker.Source
	// Name is the concrete name to publish to.
	Name string
	// Close removes what was made for the target, nil where there is nothing to
	// remove. It is called when every broker of the check was shut down.
	Close func(ctx context.Context) error
}

// Group is a name with groups of competing members.
type Group struct {
	// Name is the concrete name to publish to.
	Name string
	// Member returns the source of one more member of the named group. Members of
	// one group share the messages, each group gets all of them. group is a short
	// lower-case word; the group is fresh for each id. Up to four members of a group
	// are subscribed at once.
	Member func(group string) broker.Source
	// Single says that the transport has no groups, as a plain work queue: all
	// subscribers of a name share its messages. Member then ignores the group's name,
	// and the checks that need two groups are not applicable.
	Single bool
	// Close is as in [Target].
	Close func(ctx context.Context) error
}

// Pattern is a source with a wildcard, and names for it.
type Pattern struct {
	// Source subscribes with the wildcard.
	Source broker.Source
	// Matching are at least two concrete names that the source receives.
	Matching []string
	// Other are concrete names that can be published to and that the source does not
	// receive, such as one that would match under a more generous rule.
	Other []string
	// Close is as in [Target].
	Close func(ctx context.Context) error
}

// checked returns the harness with its defaults, and every mistake in it.
func (h Harness) checked() (Harness, error) {
	var mistakes []error
	if h.New == nil {
		mistakes = append(mistakes, errors.New("brokertest: Harness.New is nil: it must return a new broker"))
	}
	if h.Source == nil {
		mistakes = append(mistakes, errors.New("brokertest: Harness.Source is nil: it must return a fresh source and its name"))
	}
	if h.Publisher == nil {
		h.Publisher = func(src broker.Source, b broker.Broker) broker.Publisher {
			p, ok := broker.PublisherFor(src, b)
			if !ok {
				return nil
			}
			return p
		}
	}
	h.Timeout = orDefault(h.Timeout, DefaultTimeout)
	h.Quiet = orDefault(h.Quiet, DefaultQuiet)
	h.Delay = orDefault(h.Delay, 3*h.Quiet)
	h.Watchdog = orDefault(h.Watchdog, 6*h.Timeout)
	h.Load = orDefault(h.Load, DefaultLoad)
	h.Bulk = orDefault(h.Bulk, DefaultBulk)
	if h.Timeout < 0 || h.Quiet < 0 || h.Delay < 0 || h.Watchdog < 0 || h.Load < 0 || h.Bulk < 0 {
		mistakes = append(mistakes, errors.New("brokertest: a time or a size of the harness is negative"))
	}
	for name, reason := range h.Skip {
		if !isKnown(name) {
			mistakes = append(mistakes, fmt.Errorf("brokertest: Harness.Skip names %q, which is neither a check nor a group", name))
		}
		if reason == "" {
			mistakes = append(mistakes, fmt.Errorf("brokertest: Harness.Skip gives no reason for %q", name))
		}
	}
	return h, errors.Join(mistakes...)
}

func orDefault[T int | time.Duration](v, d T) T {
	if v == 0 {
		return d
	}
	return v
}

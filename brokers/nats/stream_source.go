package nats

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/broker"
)

var (
	_ broker.Source           = StreamSource{}
	_ broker.SourceDescriber  = StreamSource{}
	_ broker.Matcher          = StreamSource{}
	_ broker.PublisherMatcher = StreamSource{}
)

// The defaults of a consumer. The first two are those of the server, too.
const (
	DefaultAckWait       = 30 * time.Second
	DefaultMaxAckPending = 1000
	DefaultPrefetch      = 64
)

// Stream is the source of JetStream: what the stream named stream holds of subject,
// which may have wildcards. It redelivers what is not acknowledged.
//
// With [StreamSource.Durable] the consumer of that name is shared by all subscriptions
// that name it, and stays when they are gone; it is made where there is none. Without,
// each subscription has a consumer of its own, which the server removes five minutes
// after the subscription has gone, and begins anew by its [StreamSource.DeliverPolicy].
// A consumer that exists with other settings, and a stream that does not exist or keeps
// nothing of the subject, is an error of Subscribe that says what differs; neither is
// ever changed. [StreamSource.Create] makes the stream where there is none.
func Stream(subject, stream string) StreamSource {
	return StreamSource{
		subject: subject, stream: stream,
		ackWait: DefaultAckWait, maxAckPending: DefaultMaxAckPending, prefetch: DefaultPrefetch,
		inactive: inactiveThreshold,
	}
}

// StreamSource is the source of JetStream. Make one with [Stream]. It is a value: its
// methods return changed copies.
type StreamSource struct {
	subject, stream string
	durable         string
	filters         []string // in place of subject
	policy          jetstream.DeliverPolicy
	startSequence   uint64
	startTime       time.Time
	ackWait         time.Duration
	maxAckPending   int
	prefetch        int
	inactive        time.Duration // how long the server keeps a consumer of its own
	ordered         bool
	confirmAcks     bool
	inMemory        bool
	create          *jetstream.StreamConfig
	given           given
}

// given says which settings were given, whatever their value.
type given struct{ durable, filters, ackWait, maxAckPending bool }

// Durable names the consumer. Subscriptions with the same name share its messages, in
// this process or another. "" is a mistake that Check reports.
func (s StreamSource) Durable(name string) StreamSource {
	s.durable, s.given.durable = name, true
	return s
}

// FilterSubjects are the subjects that the consumer receives, in place of the one of
// [Stream], which remains the source's name. They must not overlap. More than one needs
// a server of version 2.10 or later. None is a mistake that Check reports.
func (s StreamSource) FilterSubjects(subjects ...string) StreamSource {
	s.filters, s.given.filters = slices.Clone(subjects), true
	return s
}

// DeliverPolicy says where a new consumer begins. The default is
// [jetstream.DeliverAllPolicy]. For a sequence or a time use
// [StreamSource.StartSequence] and [StreamSource.StartTime].
func (s StreamSource) DeliverPolicy(p jetstream.DeliverPolicy) StreamSource {
	s.policy = p
	return s
}

// StartSequence has a new consumer begin with that sequence of the stream; 0 is a
// mistake that Check reports.
func (s StreamSource) StartSequence(sequence uint64) StreamSource {
	s.policy, s.startSequence = jetstream.DeliverByStartSequencePolicy, sequence
	return s
}

// StartTime has a new consumer begin with what was stored at t or later; the zero time
// is a mistake that Check reports.
func (s StreamSource) StartTime(t time.Time) StreamSource {
	s.policy, s.startTime = jetstream.DeliverByStartTimePolicy, t
	return s
}

// AckWait is the lease of a delivery: how long the server waits before it delivers the
// message again. The runtime extends it while a handler runs. The default is
// [DefaultAckWait]; less than [MinAckWait] is a mistake that Check reports.
func (s StreamSource) AckWait(d time.Duration) StreamSource {
	s.ackWait, s.given.ackWait = d, true
	return s
}

// MinAckWait is the shortest AckWait.
const MinAckWait = 50 * time.Millisecond

// MaxAckPending is how many deliveries of the consumer may be unsettled at once, in
// all its subscriptions together. The default is [DefaultMaxAckPending]; n < 1 is a
// mistake that Check reports. With 1 the stream's order is kept whatever happens: the
// server sends nothing else before a message is settled.
func (s StreamSource) MaxAckPending(n int) StreamSource {
	s.maxAckPending, s.given.maxAckPending = n, true
	return s
}

// Prefetch is how many messages a subscription may ask for ahead of Receive. It asks
// for one at a time where they are received slowly, and for up to this many where they
// are received fast. The default is [DefaultPrefetch]; n < 1 is a mistake that Check
// reports.
func (s StreamSource) Prefetch(n int) StreamSource {
	s.prefetch = n
	return s
}

// ConfirmAcks has each acknowledgement wait until the server has confirmed it. Without
// it Ack returns when the acknowledgement is in the client's buffer, and is durable when
// Close or Shutdown has returned.
func (s StreamSource) ConfirmAcks() StreamSource {
	s.confirmAcks = true
	return s
}

// Ordered reads the stream in its order, without acknowledgements: for a reader that
// builds something from it. Each subscription has its own position, which is gone with
// the subscription: the next one begins anew. What gets lost on the way is read again.
// Durable, AckWait, MaxAckPending and ConfirmAcks do not go with it.
func (s StreamSource) Ordered() StreamSource {
	s.ordered = true
	return s
}

// InMemory says that the stream keeps its messages in memory, and so loses them with
// its server. Without it Subscribe refuses such a stream. It is not needed where
// [StreamSource.Create] says the same.
func (s StreamSource) InMemory() StreamSource {
	s.inMemory = true
	return s
}

// Create makes the stream where there is none: its name is the source's, which config
// may leave out; without Subjects it has those of the source. Where there is one, what
// config sets must be what it has: a difference is an error, and nothing is changed.
// What config leaves at zero may be anything.
func (s StreamSource) Create(config jetstream.StreamConfig) StreamSource {
	config.Subjects = slices.Clone(config.Subjects)
	s.create = &config
	return s
}

// Name is the subject.
func (s StreamSource) Name() string { return s.subject }

// Check reports every mistake in the description, and a broker that is not a *Broker;
// each is broker.ErrInvalid.
func (s StreamSource) Check(b broker.Broker) error {
	var m mistakes
	if _, err := checkSubject(s.subject); err != nil {
		m.add(err)
	}
	m.add(checkToken("stream", s.stream))
	if s.given.durable {
		m.add(checkToken("durable name", s.durable))
	}
	if s.given.filters && len(s.filters) == 0 {
		m.add(errors.New("FilterSubjects has no subject"))
	}
	for i, f := range s.filters {
		if _, err := checkSubject(f); err != nil {
			m.add(fmt.Errorf("FilterSubjects %s: %w", broker.Quote(f), err))
		}
		for _, other := range s.filters[:i] {
			if overlap(f, other) {
				m.add(fmt.Errorf("FilterSubjects %s and %s overlap", broker.Quote(other), broker.Quote(f)))
			}
		}
	}
	switch {
	case s.policy == jetstream.DeliverByStartSequencePolicy && s.startSequence == 0:
		m.add(errors.New("the start sequence is 0: use StartSequence with 1 or more"))
	case s.policy == jetstream.DeliverByStartTimePolicy && s.startTime.IsZero():
		m.add(errors.New("the start time is zero: use StartTime"))
	case s.policy < jetstream.DeliverAllPolicy || s.policy > jetstream.DeliverLastPerSubjectPolicy:
		m.add(fmt.Errorf("there is no deliver policy %d", int(s.policy)))
	}
	if s.prefetch < 1 {
		m.add(fmt.Errorf("the prefetch is %d: at least one message must be asked for", s.prefetch))
	}
	if s.ordered {
		m.add(s.checkOrdered())
	} else {
		if s.ackWait < MinAckWait {
			m.add(fmt.Errorf("AckWait is %v: it must be at least %v", s.ackWait, MinAckWait))
		}
		if s.maxAckPending < 1 {
			m.add(fmt.Errorf("MaxAckPending is %d: at least one delivery must be allowed to be unsettled", s.maxAckPending))
		}
	}
	m.add(s.checkCreate())
	return m.of(s, s.subject, b)
}

func (s StreamSource) checkOrdered() error {
	var wrong []string
	for _, o := range []struct {
		name  string
		given bool
	}{{"Durable", s.given.durable}, {"AckWait", s.given.ackWait}, {"MaxAckPending", s.given.maxAckPending}, {"ConfirmAcks", s.confirmAcks}} {
		if o.given {
			wrong = append(wrong, o.name)
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("an ordered reader has no acknowledgements and no durable position: take out %s, or Ordered", strings.Join(wrong, ", "))
}

func (s StreamSource) checkCreate() error {
	if s.create == nil {
		return nil
	}
	var m mistakes
	if s.create.Name != "" && s.create.Name != s.stream {
		m.add(fmt.Errorf("Create is for the stream %s, the source for %s", broker.Quote(s.create.Name), broker.Quote(s.stream)))
	}
	if s.create.NoAck {
		m.add(errors.New("Create has NoAck: no publish to the stream could be confirmed"))
	}
	for _, subject := range s.create.Subjects {
		if _, err := checkSubject(subject); err != nil {
			m.add(fmt.Errorf("Create with the subject %s: %w", broker.Quote(subject), err))
		}
	}
	if len(m) == 0 {
		config := s.streamConfig()
		m.add(s.checkSubjects(&config))
	}
	return errors.Join(m...)
}

// streamConfig is what Create makes.
func (s StreamSource) streamConfig() jetstream.StreamConfig {
	config := *s.create
	config.Name = s.stream
	if len(config.Subjects) == 0 && config.Mirror == nil && len(config.Sources) == 0 {
		config.Subjects = s.subjects()
	}
	return config
}

// subjects are those that the consumer filters by.
func (s StreamSource) subjects() []string {
	if len(s.filters) > 0 {
		return slices.Clone(s.filters)
	}
	return []string{s.subject}
}

// isInMemory reports whether the stream may lose its messages with its server.
func (s StreamSource) isInMemory() bool {
	return s.inMemory || s.create != nil && s.create.Storage == jetstream.MemoryStorage
}

// Spec describes the source.
func (s StreamSource) Spec() broker.SourceSpec {
	spec := broker.SourceSpec{
		Group: s.durable,
		Properties: broker.Properties{
			Persistent: !s.isInMemory(),
			Keys:       broker.KeysHeader,
			Backlog:    s.policy == jetstream.DeliverAllPolicy,
		},
		Bindings: map[string]any{kindOfBroker: map[string]any{"operation": map[string]any{"bindingVersion": bindingVersion}}},
	}
	p := &spec.Properties
	if s.ordered {
		p.Ordered, p.OrderedByKey = true, true
		return spec
	}
	spec.Limit = s.maxAckPending
	p.Redelivers = true
	p.CountsDeliveries = s.durable != "" // another consumer counts from 1
	p.CompetingConsumers = s.durable != ""
	// What was lost on the way comes again after AckWait. Only where nothing else is
	// sent meanwhile it still comes before what follows.
	p.Ordered = s.maxAckPending == 1
	p.OrderedByKey = p.Ordered
	return spec
}

// Match reports whether the source receives what is published to name.
func (s StreamSource) Match(name string) bool {
	return slices.ContainsFunc(s.subjects(), func(pattern string) bool { return matches(pattern, name) })
}

// Publisher is [Broker.JetStreamPublisher]: replies and dead letters of what a stream
// keeps must be as safe as it is.
func (s StreamSource) Publisher(b broker.Broker) broker.Publisher {
	if n, ok := b.(*Broker); ok && n != nil {
		return n.JetStreamPublisher()
	}
	return nil
}

// Subscribe opens the subscription. A missing stream is broker.ErrNotFound. A ctx
// without a deadline gets one of 30 s.
func (s StreamSource) Subscribe(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
	if err := s.Check(b); err != nil {
		return nil, err
	}
	return b.(*Broker).subscribeStream(ctx, s)
}

// String returns the call that makes the source, without its settings.
func (s StreamSource) String() string {
	text := fmt.Sprintf("nats.Stream(%s, %s)", broker.Quote(s.subject), broker.Quote(s.stream))
	if s.given.durable {
		text += fmt.Sprintf(".Durable(%s)", broker.Quote(s.durable))
	}
	if s.ordered {
		text += ".Ordered()"
	}
	return text
}

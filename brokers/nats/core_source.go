package nats

import (
	"context"
	"fmt"

	"github.com/gostream/gostream/broker"
)

var (
	_ broker.Source          = SubjectSource{}
	_ broker.SourceDescriber = SubjectSource{}
	_ broker.Matcher         = SubjectSource{}
)

// Subject is the source of Core NATS: what is published to subject while the
// subscription is open, at most once. subject may have wildcards: '*' stands for one
// token, '>' as the last for one or more.
func Subject(subject string) SubjectSource { return SubjectSource{subject: subject} }

// SubjectSource is the source of Core NATS. Make one with [Subject]. It is a value: its
// methods return changed copies.
type SubjectSource struct {
	subject string
	queue   string
	grouped bool
}

// QueueGroup returns the source as a member of a queue group: each message goes to one
// member. Without it every subscription gets a copy. "" is a mistake that Check reports.
func (s SubjectSource) QueueGroup(name string) SubjectSource {
	s.queue, s.grouped = name, true
	return s
}

// Name is the subject.
func (s SubjectSource) Name() string { return s.subject }

// Check reports a subject or a queue group that is none, and a broker that is not a
// *Broker; each is broker.ErrInvalid.
func (s SubjectSource) Check(b broker.Broker) error {
	var m mistakes
	if _, err := checkSubject(s.subject); err != nil {
		m.add(err)
	}
	if s.grouped {
		m.add(checkToken("queue group", s.queue))
	}
	return m.of(s, s.subject, b)
}

// coreProperties are those of Core NATS.
var coreProperties = broker.Properties{
	Redelivers:       false, // nobody keeps what was sent
	BuffersPublishes: true,
	Ordered:          true, // of one publisher
	OrderedByKey:     true,
	Keys:             broker.KeysHeader,
}

// Spec describes the source.
func (s SubjectSource) Spec() broker.SourceSpec {
	spec := broker.SourceSpec{Group: s.queue, Properties: coreProperties}
	binding := map[string]any{"bindingVersion": bindingVersion}
	if s.queue != "" {
		spec.Properties.CompetingConsumers = true
		binding["queue"] = s.queue
	}
	spec.Bindings = map[string]any{kindOfBroker: map[string]any{"operation": binding}}
	return spec
}

// bindingVersion is that of the NATS bindings of AsyncAPI.
const bindingVersion = "0.1.0"

// Match reports whether the source receives what is published to name.
func (s SubjectSource) Match(name string) bool { return matches(s.subject, name) }

// Subscribe opens the subscription. It returns when the server knows of it. A subject
// that the server's permissions forbid is an error that is the client's
// ErrPermissionViolation. A ctx without a deadline gets one of 30 s.
func (s SubjectSource) Subscribe(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
	if err := s.Check(b); err != nil {
		return nil, err
	}
	return b.(*Broker).subscribeCore(ctx, s)
}

// String returns the call that makes the source.
func (s SubjectSource) String() string {
	text := fmt.Sprintf("nats.Subject(%s)", broker.Quote(s.subject))
	if s.grouped {
		text += fmt.Sprintf(".QueueGroup(%s)", broker.Quote(s.queue))
	}
	return text
}

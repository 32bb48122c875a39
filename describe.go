package gostream

import (
	"reflect"
	"time"

	"github.com/gostream/gostream/broker"
)

// Description is an app as data: what documents, commands and dashboards are made
// of. Nothing in it is a credential.
type Description struct {
	// Name and Version are the app's.
	Name, Version string
	// Brokers, in the order in which they were mounted.
	Brokers []BrokerDescription
	// Subscriptions, in the order of the mounts; those of a router come before those of
	// the routers that it includes.
	Subscriptions []SubscriptionDescription
	// Publishers are the typed publishers and the requesters.
	Publishers []PublisherDescription
}

// BrokerDescription is one broker.
type BrokerDescription struct {
	// Broker is the broker itself, as it was mounted.
	Broker broker.Broker
	// Kind is the kind of broker, such as "memory".
	Kind string
	// Server describes the server; the zero value where the broker does not.
	Server broker.ServerSpec
	// Properties are the broker's.
	Properties broker.Properties
}

// SubscriptionDescription is one subscription with its settings resolved.
type SubscriptionDescription struct {
	Subscription Subscription
	// Source is what is subscribed to, as the app was given it.
	Source broker.Source
	// Broker is the index in Description.Brokers.
	Broker int
	// Handler is "consume", "reply", "raw", "consume batch" or "reply batch".
	Handler string
	// Payload is the type that is decoded; nil for a Raw handler.
	Payload reflect.Type
	// Reply is the type that is published; nil where there is no reply.
	Reply reflect.Type
	// ReplyTo is the name that replies go to; "" for the message's reply-to, and
	// where there is no reply.
	ReplyTo string
	// ReplyBroker is the index in Description.Brokers of where replies are published;
	// that of Broker unless Via says otherwise, and where there is no reply.
	ReplyBroker int
	// ReplyContentType is what replies are encoded as; "" for raw payloads, and where
	// there is no reply.
	ReplyContentType string
	// ContentTypes are those that can be decoded, the default first; empty for
	// raw payloads.
	ContentTypes []string
	// Workers, MaxInFlight and Timeout are as resolved; a Timeout of 0 is none.
	Workers, MaxInFlight int
	Timeout              time.Duration
	// ByKey: messages of one key are handled in order.
	ByKey bool
	// Batch is the most messages that the handler takes at once; 0 for one by one.
	// BatchWait is how long a batch waits to be full.
	Batch     int
	BatchWait time.Duration
	// Transactional: the replies of a batch are published in one transaction.
	Transactional bool
	// Policy is the failure policy in words, a line each, in the order of
	// application.
	Policy []string
	// DeadLetters are all names that the policy can send to.
	DeadLetters []string
	// Properties are those of the source.
	Properties broker.Properties
	// Bindings are the source's AsyncAPI bindings; nil for none.
	Bindings map[string]any
}

// PublisherDescription is one publisher that the app's code holds.
type PublisherDescription struct {
	// Name is where it publishes to.
	Name string
	// Broker is the index in Description.Brokers.
	Broker int
	// Payload is the type that is published.
	Payload reflect.Type
	// Answer is the type that a request is answered with; nil for a publisher.
	Answer reflect.Type
	// ContentType is what the payload is encoded as; "" for raw payloads.
	ContentType string
	// AnswerContentTypes are those of answers that can be decoded, the default first;
	// empty for a publisher, and where answers are raw.
	AnswerContentTypes []string
}

// Describe returns the app as data. It needs no connection and may be called
// before, while and after the app runs. A faulty app answers Check's error.
func (a *App) Describe() (Description, error) {
	p, err := a.plan()
	if err != nil {
		return Description{}, err
	}
	d := Description{Name: a.name, Version: a.version}
	for _, m := range a.mounts {
		server, _ := broker.DescribeServer(m.broker)
		d.Brokers = append(d.Brokers, BrokerDescription{Broker: m.broker, Kind: kindOf(m.broker), Server: server, Properties: broker.PropertiesOf(m.broker)})
	}
	for _, s := range p.subscriptions {
		d.Subscriptions = append(d.Subscriptions, a.describe(s))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, port := range a.ports {
		if _, ok := p.ports[port]; !ok || port.name == "" {
			continue
		}
		one := PublisherDescription{Name: port.name, Broker: a.brokerIndex(port.broker), Payload: port.in.typ, Answer: port.out.typ}
		if port.in.mode == bodyCodec {
			one.ContentType = port.mainCodec(a.settings.defaults).ContentType()
		}
		if port.out.typ != nil && port.out.mode == bodyCodec {
			table := port.table(a.settings.defaults)
			one.AnswerContentTypes = table.contentTypes()
		}
		d.Publishers = append(d.Publishers, one)
	}
	return d, nil
}

func (a *App) describe(s *subscriptionPlan) SubscriptionDescription {
	spec, _ := broker.DescribeSource(s.source, s.broker)
	d := SubscriptionDescription{
		Subscription: s.info,
		Source:       s.source,
		Broker:       a.brokerIndex(s.broker),
		Handler:      s.handler.kind,
		Payload:      s.handler.in.typ,
		Workers:      s.workers,
		MaxInFlight:  s.maxInFlight,
		Timeout:      s.timeout,
		ByKey:        s.byKey,
		DeadLetters:  s.policy.targets(),
		Properties:   s.properties,
		Bindings:     spec.Bindings,
	}
	d.ReplyBroker = d.Broker
	if send := s.handler.send; send != nil {
		d.Transactional = send.transactional
		d.Reply, d.ReplyTo = s.handler.out.typ, send.to
		if send.via != nil {
			d.ReplyBroker = a.brokerIndex(send.via.port.broker)
		}
		if s.handler.out.mode == bodyCodec {
			d.ReplyContentType = s.codecs.contentType
		}
		d.Policy = s.policy.words(send.toReplyTo)
	} else {
		d.Policy = s.policy.words(false)
	}
	if b := s.handler.batch; b != nil {
		d.Batch, d.BatchWait = b.max, b.wait
	}
	if s.handler.in.mode == bodyCodec {
		d.ContentTypes = s.codecs.contentTypes()
	}
	return d
}

func (a *App) brokerIndex(b broker.Broker) int {
	for i, m := range a.mounts {
		if sameBroker(m.broker, b) {
			return i
		}
	}
	return -1
}

package cli

import (
	"reflect"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

// document is the shape of describe --json. Its fields stay; others may be added. Lists are
// never null, and what does not apply is "", 0 or false.
type document struct {
	Name          string                 `json:"name"`
	Version       string                 `json:"version"`
	Brokers       []brokerDocument       `json:"brokers"`
	Subscriptions []subscriptionDocument `json:"subscriptions"`
	Publishers    []publisherDocument    `json:"publishers"`
}

type brokerDocument struct {
	Number     int                `json:"number"` // from 1, as --broker takes it
	Kind       string             `json:"kind"`
	Server     serverDocument     `json:"server"`
	Properties propertiesDocument `json:"properties"`
}

type serverDocument struct {
	Protocol        string   `json:"protocol"`
	ProtocolVersion string   `json:"protocolVersion"`
	Hosts           []string `json:"hosts"`
	Description     string   `json:"description"`
}

type propertiesDocument struct {
	Persistent         bool   `json:"persistent"`
	Redelivers         bool   `json:"redelivers"`
	BuffersPublishes   bool   `json:"buffersPublishes"`
	CountsDeliveries   bool   `json:"countsDeliveries"`
	Ordered            bool   `json:"ordered"`
	OrderedByKey       bool   `json:"orderedByKey"`
	Keys               string `json:"keys"`
	CompetingConsumers bool   `json:"competingConsumers"`
	Backlog            bool   `json:"backlog"`
	SerialTransactions bool   `json:"serialTransactions"`
	MaxPayload         int    `json:"maxPayload"`
}

type subscriptionDocument struct {
	Name          string             `json:"name"`
	Source        string             `json:"source"`
	Group         string             `json:"group"`
	Broker        int                `json:"broker"` // the broker's number
	Handler       string             `json:"handler"`
	Payload       string             `json:"payload"` // pkg.Type
	Reply         string             `json:"reply"`
	ReplyTo       string             `json:"replyTo"`
	ReplyBroker   int                `json:"replyBroker"` // 0 where there is no reply
	ReplyType     string             `json:"replyContentType"`
	ContentTypes  []string           `json:"contentTypes"`
	Workers       int                `json:"workers"`
	ByKey         bool               `json:"byKey"`
	MaxInFlight   int                `json:"maxInFlight"`
	Timeout       string             `json:"timeout"` // "" for none
	Batch         int                `json:"batch"`
	BatchWait     string             `json:"batchWait"`
	Transactional bool               `json:"transactional"`
	Policy        []string           `json:"policy"`
	DeadLetters   []string           `json:"deadLetters"`
	Properties    propertiesDocument `json:"properties"`
	Bindings      map[string]any     `json:"bindings,omitempty"`
}

type publisherDocument struct {
	Name        string   `json:"name"`
	Broker      int      `json:"broker"`
	Payload     string   `json:"payload"`
	Answer      string   `json:"answer"`
	ContentType string   `json:"contentType"`
	AnswerTypes []string `json:"answerContentTypes"`
}

func documentOf(d gostream.Description) document {
	doc := document{
		Name: d.Name, Version: d.Version,
		Brokers: []brokerDocument{}, Subscriptions: []subscriptionDocument{}, Publishers: []publisherDocument{},
	}
	for i, b := range d.Brokers {
		doc.Brokers = append(doc.Brokers, brokerDocument{
			Number: i + 1, Kind: b.Kind,
			Server: serverDocument{
				Protocol: b.Server.Protocol, ProtocolVersion: b.Server.ProtocolVersion,
				Hosts: list(b.Server.Hosts), Description: b.Server.Description,
			},
			Properties: propertiesOf(b.Properties),
		})
	}
	for _, s := range d.Subscriptions {
		one := subscriptionDocument{
			Name: s.Subscription.Name(), Source: s.Subscription.Source(), Group: s.Subscription.Group(),
			Broker: s.Broker + 1, Handler: s.Handler,
			Payload: typeName(s.Payload), Reply: typeName(s.Reply), ReplyTo: s.ReplyTo,
			ContentTypes: list(s.ContentTypes),
			Workers:      s.Workers, ByKey: s.ByKey, MaxInFlight: s.MaxInFlight, Timeout: timeText(s.Timeout),
			Batch: s.Batch, Transactional: s.Transactional,
			Policy: list(s.Policy), DeadLetters: list(s.DeadLetters),
			Properties: propertiesOf(s.Properties), Bindings: s.Bindings,
		}
		if s.Reply != nil {
			one.ReplyBroker, one.ReplyType = s.ReplyBroker+1, s.ReplyContentType
		}
		if s.Batch > 0 {
			one.BatchWait = s.BatchWait.String()
		}
		doc.Subscriptions = append(doc.Subscriptions, one)
	}
	for _, pub := range d.Publishers {
		doc.Publishers = append(doc.Publishers, publisherDocument{
			Name: pub.Name, Broker: pub.Broker + 1,
			Payload: typeName(pub.Payload), Answer: typeName(pub.Answer), ContentType: pub.ContentType,
			AnswerTypes: list(pub.AnswerContentTypes),
		})
	}
	return doc
}

func propertiesOf(p broker.Properties) propertiesDocument {
	return propertiesDocument{
		Persistent: p.Persistent, Redelivers: p.Redelivers, BuffersPublishes: p.BuffersPublishes,
		CountsDeliveries: p.CountsDeliveries, Ordered: p.Ordered, OrderedByKey: p.OrderedByKey, Keys: p.Keys.String(),
		CompetingConsumers: p.CompetingConsumers, Backlog: p.Backlog, SerialTransactions: p.SerialTransactions,
		MaxPayload: p.MaxPayload,
	}
}

func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func timeText(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

// typeName is a Go type as "pkg.Type"; "" for nil.
func typeName(t reflect.Type) string {
	switch {
	case t == nil:
		return ""
	case t == reflect.TypeFor[[]byte]():
		return "[]byte"
	}
	return t.String()
}

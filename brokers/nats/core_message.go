package nats

import (
	"context"
	"errors"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gostream/gostream/broker"
)

var (
	_ broker.IncomingMessage = (*CoreMessage)(nil)
	_ broker.Partitioned     = (*CoreMessage)(nil)
)

// CoreMessage is a message of Core NATS. It has no acknowledgement: every settlement
// answers [errors.ErrUnsupported], after Shutdown broker.ErrClosed.
type CoreMessage struct {
	msg *natsgo.Msg
	b   *Broker
}

// Name is the subject.
func (m *CoreMessage) Name() string { return m.msg.Subject }

// Payload is the body; it belongs to the receiver.
func (m *CoreMessage) Payload() []byte { return m.msg.Data }

// Headers are the message's headers. The native reply subject is the reply-to.
func (m *CoreMessage) Headers() broker.Headers {
	if m.msg.Header == nil && m.msg.Reply == "" {
		return broker.Headers{}
	}
	return broker.ViewHeaders((*coreView)(m.msg))
}

// PartitionKey is the key in the header gostream-key, nil for none.
func (m *CoreMessage) PartitionKey() []byte { return partitionKey(headerView(m.msg.Header)) }

// Native is the value of a header that NATS reserves, such as "Nats-Stream" on what a
// stream republished; "" where there is none.
func (m *CoreMessage) Native(key string) string { return native(m.msg.Header, key) }

// Ack answers [errors.ErrUnsupported].
func (m *CoreMessage) Ack(context.Context) error { return m.settle("ack") }

// Nack answers [errors.ErrUnsupported].
func (m *CoreMessage) Nack(context.Context, bool) error { return m.settle("nack") }

func (m *CoreMessage) settle(op string) error {
	if err := m.b.life.refuse(op, m.msg.Subject); err != nil {
		return err
	}
	return errUnsupported
}

// errUnsupported is made once: the runtime asks for it at every message.
var errUnsupported = fail("settle", "", errors.ErrUnsupported, errors.New("there are no acknowledgements in Core NATS"))

// coreView shows the headers of a message of Core NATS, with its reply subject.
type coreView natsgo.Msg

// Lookup returns the first value of key.
func (v *coreView) Lookup(key string) (string, bool) {
	if v.Reply != "" && broker.EqualKey(key, broker.HeaderReplyTo) {
		return v.Reply, true
	}
	return headerView(v.Header).Lookup(key)
}

// Range calls yield for each field.
func (v *coreView) Range(yield func(key, value string) bool) {
	if v.Reply != "" && !yield(broker.HeaderReplyTo, v.Reply) {
		return
	}
	for key, value := range headerView(v.Header).Range {
		if v.Reply != "" && broker.EqualKey(key, broker.HeaderReplyTo) {
			continue
		}
		if !yield(key, value) {
			return
		}
	}
}

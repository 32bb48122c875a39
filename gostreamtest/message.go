package gostreamtest

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"

	"github.com/gostream/gostream/broker"
)

// message is one delivery of one copy.
type message struct {
	bus     *bus
	sub     *subscription // nil for a reply to a request
	name    string
	payload []byte // the receiver's
	origin  *origin
	settled atomic.Bool
}

// origin is what all copies and redeliveries of one publish share.
type origin struct {
	name    string
	key     []byte
	payload []byte // never handed out
	headers broker.Headers
	parent  *origin // of the message in whose handler it was published; nil for the test's
	depth   int
}

func (o *origin) message(b *bus, s *subscription) *message {
	return &message{bus: b, sub: s, name: o.name, payload: bytes.Clone(o.payload), origin: o}
}

func (m *message) Name() string            { return m.name }
func (m *message) Payload() []byte         { return m.payload }
func (m *message) Headers() broker.Headers { return m.origin.headers }
func (m *message) PartitionKey() []byte    { return bytes.Clone(m.origin.key) }

func (m *message) Ack(context.Context) error { return m.settle() }

// Nack with requeue has the message come again, at the front. The new copy is counted
// before the runtime lets the old one go.
func (m *message) Nack(_ context.Context, requeue bool) error {
	if m.sub == nil && requeue {
		return errors.ErrUnsupported
	}
	if err := m.settle(); err != nil || !requeue {
		return err
	}
	m.bus.requeue(m)
	return nil
}

func (m *message) settle() error {
	if m.sub != nil && m.bus.isShut(m.sub.broker) {
		return broker.ErrClosed
	}
	if m.settled.Swap(true) {
		return broker.ErrSettled
	}
	return nil
}

package memory

import (
	"fmt"

	"github.com/gostream/gostream/broker"
)

// Message is one delivery of one message. It implements [broker.IncomingMessage],
// [broker.DelayedNacker], [broker.DeliveryCounter] and [broker.Partitioned]. All
// methods are safe for concurrent use; the payload and the key belong to the
// receiver. A delivery that comes again is another Message.
//
// Settling never waits, so the contexts of its methods are not asked.
type Message struct {
	// Set before the message can be received, never changed afterwards.
	name    string
	headers broker.Headers
	data    []byte // payload, then key; never handed out, so that it is intact for a redelivery
	body    int    // the length of the payload
	count   int32  // the number of this delivery, the first is 1
	hasKey  bool
	state   state  // guarded by q.mu; here because of the size of the struct
	seq     uint64 // the store-wide number of the publish

	// The receiver's copy of data. For small messages its memory is there from the
	// beginning; it is filled by the receiver.
	out []byte

	// Guarded by q.mu.
	q          *queue
	sub        *subscription // whose delivery it is; nil while it waits
	prev, next *Message      // in the list of what sub has not settled
}

// state says who may settle a delivery.
type state uint8

const (
	unsettled state = iota
	claimed         // a transaction holds it
	settled
	takenBack // its broker was shut down
)

// The buffers that are allocated together with a message. Each holds the data and
// the receiver's copy of it, so that a small message is one allocation.
type (
	message128 struct {
		Message
		buf [128]byte
	}
	message256 struct {
		Message
		buf [256]byte
	}
	message512 struct {
		Message
		buf [512]byte
	}
	message1024 struct {
		Message
		buf [1024]byte
	}
	message2048 struct {
		Message
		buf [2048]byte
	}
)

// maxInline is the most data that lives inside a message.
const maxInline = 2048 / 2

// allocate returns a message with room for n bytes of data.
func allocate(n int) *Message {
	var m *Message
	var buf []byte
	switch {
	case n == 0:
		return new(Message)
	case n <= 128/2:
		x := new(message128)
		m, buf = &x.Message, x.buf[:]
	case n <= 256/2:
		x := new(message256)
		m, buf = &x.Message, x.buf[:]
	case n <= 512/2:
		x := new(message512)
		m, buf = &x.Message, x.buf[:]
	case n <= 1024/2:
		x := new(message1024)
		m, buf = &x.Message, x.buf[:]
	case n <= maxInline:
		x := new(message2048)
		m, buf = &x.Message, x.buf[:]
	default:
		return &Message{data: make([]byte, n)}
	}
	m.data = buf[:n:n]
	m.out = buf[n : 2*n : 2*n]
	return m
}

// newMessage copies what the caller of Publish owns. msg was checked before.
func newMessage(name string, msg *broker.OutgoingMessage) *Message {
	m := allocate(len(msg.Payload) + len(msg.Key))
	copy(m.data, msg.Payload)
	copy(m.data[len(msg.Payload):], msg.Key)
	m.name = name
	m.headers = msg.Headers
	m.body = len(msg.Payload)
	m.hasKey = msg.Key != nil
	m.count = 1
	return m
}

// another returns the same message as an object of its own, as it was published.
// Large data is shared: nobody writes to it.
func (m *Message) another() *Message {
	var c *Message
	if len(m.data) > maxInline {
		c = &Message{data: m.data}
	} else {
		c = allocate(len(m.data))
		copy(c.data, m.data)
	}
	c.name, c.headers, c.body, c.hasKey, c.count, c.seq = m.name, m.headers, m.body, m.hasKey, m.count, m.seq
	return c
}

// again returns the message for its next delivery.
func (m *Message) again() *Message {
	c := m.another()
	c.count++
	return c
}

// fill makes the receiver's copy of the bytes. It is called once, by the receiver,
// outside of the queue's lock.
func (m *Message) fill() {
	if m.out == nil && len(m.data) > 0 {
		m.out = make([]byte, len(m.data))
	}
	copy(m.out, m.data)
}

// Name is the name that the message was published to, never a pattern.
func (m *Message) Name() string { return m.name }

// Payload is the body. The bytes belong to the receiver.
func (m *Message) Payload() []byte { return m.out[:m.body:m.body] }

// Headers are the message's headers, the values byte for byte as published.
func (m *Message) Headers() broker.Headers { return m.headers }

// PartitionKey is the key that the message was published with, nil for none. The
// bytes belong to the receiver.
func (m *Message) PartitionKey() []byte {
	switch {
	case !m.hasKey:
		return nil
	case len(m.out) == m.body:
		return []byte{}
	}
	return m.out[m.body:]
}

// DeliveryCount is 1 on the first delivery. Deliveries that a Shutdown took back
// count.
func (m *Message) DeliveryCount() int { return int(m.count) }

// String names the message and shows nothing of its content.
func (m *Message) String() string {
	return fmt.Sprintf("memory message %s (delivery %d, %d bytes)", broker.Quote(m.name), m.count, m.body)
}

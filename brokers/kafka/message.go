package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream/broker"
)

var (
	_ broker.IncomingMessage = (*Message)(nil)
	_ broker.Partitioned     = (*Message)(nil)
	_ broker.Staler          = (*Message)(nil)
	_ broker.IncomingMessage = (*ReaderMessage)(nil)
	_ broker.Partitioned     = (*ReaderMessage)(nil)
)

// record is what all messages have in common.
type record struct{ rec *kgo.Record }

// Name is the topic.
func (r *record) Name() string { return r.rec.Topic }

// Payload is the body; it belongs to the receiver.
func (r *record) Payload() []byte { return r.rec.Value }

// Headers are the message's headers, in the order in which they were published.
func (r *record) Headers() broker.Headers {
	if len(r.rec.Headers) == 0 {
		return broker.Headers{}
	}
	return broker.ViewHeaders(headerView(r.rec.Headers))
}

// PartitionKey is the record's key, nil for none.
func (r *record) PartitionKey() []byte { return r.rec.Key }

// Partition is the partition that the message is in.
func (r *record) Partition() int32 { return r.rec.Partition }

// Offset is the message's place in its partition.
func (r *record) Offset() int64 { return r.rec.Offset }

// Timestamp is the message's time, to the millisecond: of its publisher, or of the broker
// where the topic's message.timestamp.type is LogAppendTime.
func (r *record) Timestamp() time.Time { return r.rec.Timestamp }

// Tombstone reports that the message has no payload at all, which is more than an empty
// one: in a compacted topic it removes its key.
func (r *record) Tombstone() bool { return r.rec.Value == nil }

// Message is a message of a topic that a group reads. It is settled once. All methods are
// safe for concurrent use.
type Message struct {
	record
	part *partition

	// slot is the first delivery of the message, which holds its place in the partition;
	// nil in that one itself. The fields below are guarded by part's mutex.
	slot    *Message
	settled bool
	done    bool        // of a slot: it was acknowledged or rejected
	again   *kgo.Record // of a slot that was given back: the record read anew
}

// place is the slot of the message.
func (m *Message) place() *Message {
	if m.slot != nil {
		return m.slot
	}
	return m
}

// Ack acknowledges the message. It is committed with all those before it in its partition,
// by the next commit after these are settled, and then not repeated after a crash. What
// was acknowledged is committed when Close and Shutdown have returned nil. Ack does no I/O
// and needs no ctx.
func (m *Message) Ack(context.Context) error { return m.settle("ack", false) }

// Nack gives the message back, or without requeue is done with it as Ack is: Kafka has no
// dead letters of its own. What is given back comes again to this subscription, read from
// the partition anew, and holds back its partition's commits until it is settled. Where
// the partition has been given up, or the subscription closed, it comes to whoever reads
// the partition next.
func (m *Message) Nack(_ context.Context, requeue bool) error { return m.settle("nack", requeue) }

func (m *Message) settle(op string, requeue bool) error {
	p := m.part
	p.mu.Lock()
	if m.settled || p.state == gone {
		settled := m.settled
		p.mu.Unlock()
		return m.refuse(op, settled)
	}
	m.settled = true
	then := p.settle(m.place(), requeue)
	p.mu.Unlock()
	if then != nothingMore {
		p.sub.after(p, then)
	}
	return nil
}

// refuse is the answer to a settlement that comes too late.
func (m *Message) refuse(op string, settled bool) error {
	if err := m.part.sub.b.life.refuse(op, m.rec.Topic); err != nil {
		return err
	}
	if settled {
		return fail(op, m.rec.Topic, broker.ErrSettled, nil)
	}
	return fail(op, m.rec.Topic, broker.ErrStale, errStale)
}

var errStale = errors.New("its partition belongs to another member of the group, or to nobody")

// Stale reports that the message's partition was given up: another member of the group
// gets the message.
func (m *Message) Stale() bool {
	m.part.mu.Lock()
	defer m.part.mu.Unlock()
	return m.part.state == gone
}

// ReaderMessage is a message of a reader, or of a source with AutoCommit. It has no
// acknowledgement: every settlement answers [errors.ErrUnsupported], after Shutdown
// broker.ErrClosed.
type ReaderMessage struct {
	record
	b  *Broker
	at *readerPosition
}

// Ack answers [errors.ErrUnsupported].
func (m *ReaderMessage) Ack(context.Context) error { return m.settle("ack") }

// Nack answers [errors.ErrUnsupported].
func (m *ReaderMessage) Nack(context.Context, bool) error { return m.settle("nack") }

func (m *ReaderMessage) settle(op string) error {
	if err := m.b.life.refuse(op, m.rec.Topic); err != nil {
		return err
	}
	return errNoAcknowledgement
}

var errNoAcknowledgement = fail("settle", "", errors.ErrUnsupported, errors.New("a reader, and a source with AutoCommit, have no acknowledgements"))

package nats

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gostream/gostream/broker"
)

var (
	_ broker.IncomingMessage = (*Message)(nil)
	_ broker.Partitioned     = (*Message)(nil)
	_ broker.DelayedNacker   = (*Message)(nil)
	_ broker.DeliveryCounter = (*Message)(nil)
	_ broker.Leased          = (*Message)(nil)
	_ broker.Staler          = (*Message)(nil)
	_ broker.IncomingMessage = (*OrderedMessage)(nil)
	_ broker.Partitioned     = (*OrderedMessage)(nil)
)

// stored is what the messages of streams have in common.
type stored struct {
	msg *natsgo.Msg
	sub *streamSubscription
}

// Name is the subject that the message was published to.
func (m *stored) Name() string { return m.msg.Subject }

// Payload is the body; it belongs to the receiver.
func (m *stored) Payload() []byte { return m.msg.Data }

// Headers are the message's headers, but for those that NATS reserves.
func (m *stored) Headers() broker.Headers {
	if m.msg.Header == nil {
		return broker.Headers{}
	}
	return broker.ViewHeaders(headerView(m.msg.Header))
}

// PartitionKey is the key in the header gostream-key, nil for none.
func (m *stored) PartitionKey() []byte { return partitionKey(headerView(m.msg.Header)) }

// Stream is the name of the stream.
func (m *stored) Stream() string { return ackToken(m.msg.Reply, ackStream) }

// Consumer is the name of the consumer.
func (m *stored) Consumer() string { return ackToken(m.msg.Reply, ackConsumer) }

// Sequence is the message's sequence in its stream; the first is 1.
func (m *stored) Sequence() uint64 { return ackNumber(m.msg.Reply, ackStreamSequence) }

// Time is when the stream stored the message.
func (m *stored) Time() time.Time {
	return time.Unix(0, int64(ackNumber(m.msg.Reply, ackTime)))
}

// MsgID is the id by which the stream de-duplicated, see [PublishOptions]; "" for none.
func (m *stored) MsgID() string { return m.Native("Nats-Msg-Id") }

// Native is the first value of a header that NATS reserves: "Status", "Description"
// and all that begin with "Nats-"; "" where there is none. It does not travel on when
// the message is published again.
func (m *stored) Native(key string) string { return native(m.msg.Header, key) }

// Message is a message of a stream. It is settled once; its lease is the consumer's
// AckWait. All methods are safe for concurrent use.
type Message struct {
	stored
	state atomic.Uint32
	lease atomic.Int64 // when it ends, by clock

	prev, next *Message // in the list of unsettled messages; guarded by sub.mu
}

const (
	unsettled = iota
	settling
	settled
)

// The bodies of settlements.
var (
	bodyAck      = []byte("+ACK")
	bodyNak      = []byte("-NAK")
	bodyTerm     = []byte("+TERM")
	bodyProgress = []byte("+WPI")
)

// Ack acknowledges the message. Without [StreamSource.ConfirmAcks] nil means that the
// acknowledgement is in the client's buffer.
func (m *Message) Ack(ctx context.Context) error { return m.settle(ctx, "ack", bodyAck) }

// Nack gives the message back, or without requeue has the stream's consumer never
// deliver it again.
func (m *Message) Nack(ctx context.Context, requeue bool) error {
	if requeue {
		return m.settle(ctx, "nack", bodyNak)
	}
	return m.settle(ctx, "reject", bodyTerm)
}

// NackAfter gives the message back for a later time.
func (m *Message) NackAfter(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return m.settle(ctx, "nack", bodyNak)
	}
	body := append(make([]byte, 0, 48), `-NAK {"delay": `...)
	body = append(strconv.AppendInt(body, int64(d), 10), '}')
	return m.settle(ctx, "nack", body)
}

func (m *Message) settle(ctx context.Context, op string, body []byte) error {
	b := m.sub.b
	c, err := b.enter(op, m.msg.Subject)
	if err != nil {
		return err
	}
	defer b.life.leave()
	if err := ctx.Err(); err != nil {
		return b.fail(op, m.msg.Subject, err)
	}
	if !m.state.CompareAndSwap(unsettled, settling) {
		return fail(op, m.msg.Subject, broker.ErrSettled, nil)
	}
	if m.Stale() {
		m.state.Store(unsettled)
		m.sub.done(m)
		return fail(op, m.msg.Subject, broker.ErrStale, nil)
	}
	switch {
	case m.sub.src.confirmAcks:
		err = confirm(ctx, c, m.msg.Reply, body)
	case &body[0] == &bodyAck[0], &body[0] == &bodyTerm[0]:
		err = c.settled.send(m.msg.Reply, body)
	default: // one that gets lost comes back after AckWait
		err = c.nc.Publish(m.msg.Reply, body)
	}
	if err != nil {
		m.state.Store(unsettled)
		return b.fail(op, m.msg.Subject, err)
	}
	m.state.Store(settled)
	m.sub.done(m)
	return nil
}

// confirm settles and waits until the server has confirmed it. It asks again while no
// answer comes, which the loss of the connection may have taken along.
func confirm(ctx context.Context, c *connection, reply string, body []byte) error {
	ctx, cancel := withDefault(ctx, requestTimeout)
	defer cancel()
	for {
		asking, cancel := context.WithTimeout(ctx, confirmInterval)
		_, err := c.nc.RequestWithContext(asking, reply, body)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
	}
}

const confirmInterval = time.Second

// DeliveryCount is how often the consumer has delivered the message, this time
// included. It counts what was prefetched and given back, too.
func (m *Message) DeliveryCount() int { return int(ackNumber(m.msg.Reply, ackDelivered)) }

// LeaseUntil is when the server will deliver the message again.
func (m *Message) LeaseUntil() time.Time { return epoch.Add(time.Duration(m.lease.Load())) }

// ExtendLease asks for the full AckWait again. While the connection is lost it fails.
func (m *Message) ExtendLease(ctx context.Context) error {
	const op = "extend the lease"
	b := m.sub.b
	c, err := b.enter(op, m.msg.Subject)
	if err != nil {
		return err
	}
	defer b.life.leave()
	switch {
	case ctx.Err() != nil:
		return b.fail(op, m.msg.Subject, ctx.Err())
	case m.state.Load() != unsettled:
		return fail(op, m.msg.Subject, broker.ErrSettled, nil)
	case m.Stale():
		return fail(op, m.msg.Subject, broker.ErrStale, nil)
	case !c.nc.IsConnected():
		return b.fail(op, m.msg.Subject, natsgo.ErrDisconnected)
	}
	asked := clock()
	if err := c.nc.Publish(m.msg.Reply, bodyProgress); err != nil {
		return b.fail(op, m.msg.Subject, err)
	}
	m.lease.Store(asked + int64(m.sub.consumer().ackWait))
	return nil
}

// Stale reports whether the lease ran out, or the consumer is gone.
func (m *Message) Stale() bool { return clock() >= m.lease.Load() || m.sub.gone.Load() }

// OrderedMessage is a message of an ordered reader. It has no acknowledgement: every
// settlement answers [errors.ErrUnsupported], after Shutdown broker.ErrClosed.
type OrderedMessage struct{ stored }

// Ack answers [errors.ErrUnsupported].
func (m *OrderedMessage) Ack(context.Context) error { return m.settle("ack") }

// Nack answers [errors.ErrUnsupported].
func (m *OrderedMessage) Nack(context.Context, bool) error { return m.settle("nack") }

func (m *OrderedMessage) settle(op string) error {
	if err := m.sub.b.life.refuse(op, m.msg.Subject); err != nil {
		return err
	}
	return errUnsupportedOrdered
}

var errUnsupportedOrdered = fail("settle", "", errors.ErrUnsupported, errors.New("an ordered reader has no acknowledgements"))

// epoch is where the clock begins.
var epoch = time.Now()

// clock is the time since epoch in nanoseconds, by the monotonic clock.
func clock() int64 { return int64(time.Since(epoch)) }

// The tokens of a reply subject: $JS.ACK.<stream>.<consumer>.<delivered>.<stream
// sequence>.<consumer sequence>.<time>.<pending>, counted from the stream. A server of a
// domain puts the domain and the account before the stream.
const (
	ackStream = iota
	ackConsumer
	ackDelivered
	ackStreamSequence
	ackConsumerSequence
	ackTime
)

const (
	ackPrefix      = "$JS.ACK."
	ackShortTokens = 7 // from the stream on, without domain and account
)

// ackToken returns one token of the reply subject of a message, "" where it has none.
func ackToken(reply string, which int) string {
	rest, ok := strings.CutPrefix(reply, ackPrefix)
	if !ok {
		return ""
	}
	if strings.Count(rest, ".") >= ackShortTokens {
		which += 2
	}
	for ; which > 0; which-- {
		if _, rest, ok = strings.Cut(rest, "."); !ok {
			return ""
		}
	}
	token, _, _ := strings.Cut(rest, ".")
	return token
}

// ackNumber is ackToken as a number, 0 where it is none.
func ackNumber(reply string, which int) uint64 {
	var n uint64
	for _, c := range []byte(ackToken(reply, which)) {
		if c < '0' || c > '9' {
			return 0
		}
		n = 10*n + uint64(c-'0')
	}
	return n
}

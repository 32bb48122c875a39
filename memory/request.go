package memory

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/gostream/gostream/broker"
)

// storeIDs numbers the stores of the process, so that a reply that is published to
// the wrong store is refused instead of reaching a stranger.
var storeIDs atomic.Uint64

// inboxes holds where the replies go that are waited for. An inbox is the name
// "_inbox.<store>.<number>". It is in the table only while its request waits; what
// is published to it later is accepted and dropped, for nobody waits any more.
type inboxes struct {
	store uint64 // never changed

	mu      sync.Mutex
	last    uint64
	waiting map[string]chan *Message // by name; each of capacity 1
}

var errInbox = errors.New("no request of this store has that reply-to name")

// open returns the name of a new inbox and where its reply arrives.
func (i *inboxes) open() (string, chan *Message) {
	reply := make(chan *Message, 1)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.last++
	name := inboxToken + "." + strconv.FormatUint(i.store, 10) + "." + strconv.FormatUint(i.last, 10)
	if i.waiting == nil {
		i.waiting = make(map[string]chan *Message)
	}
	i.waiting[name] = reply
	return name, reply
}

func (i *inboxes) close(name string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.waiting, name)
}

// issued reports whether name is an inbox that this store once opened.
func (i *inboxes) issued(name string) bool {
	store, number, ok := strings.Cut(strings.TrimPrefix(name, inboxToken+"."), ".")
	if !ok || !isReserved(name) || store != strconv.FormatUint(i.store, 10) {
		return false
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil || number != strconv.FormatUint(n, 10) {
		return false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return n >= 1 && n <= i.last
}

// publish hands a reply to the request that waits for it.
func (i *inboxes) publish(op string, msg *broker.OutgoingMessage) error {
	if !i.issued(msg.Name) {
		return fail(op, msg.Name, broker.ErrInvalid, errInbox)
	}
	i.deliver(newMessage(strings.Clone(msg.Name), msg))
	return nil
}

// deliver hands m to the request that waits for it, the first time; else drops it.
func (i *inboxes) deliver(m *Message) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if reply := i.waiting[m.name]; reply != nil {
		delete(i.waiting, m.name)
		reply <- m // capacity 1, and nothing else is sent: the entry is gone
	}
}

// Request publishes msg with a reply-to of its own, which replaces the caller's,
// and waits for the first reply until ctx ends. Where no subscription is attached
// that takes the name it answers [ErrNoResponders] at once. A full queue is waited
// for as Publish does.
//
// The reply is gone from the store: its Ack is nil once and does nothing, and it
// cannot be requeued (errors.ErrUnsupported).
func (p *publisher) Request(ctx context.Context, msg broker.OutgoingMessage) (broker.IncomingMessage, error) {
	const op = "request"
	b := p.b
	if err := b.usable(op, msg.Name); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fail(op, msg.Name, nil, err)
	}
	if err := b.store.checkMessage(op, &msg); err != nil {
		return nil, err
	}
	r := p.route(msg.Name)
	if r == nil {
		if err := checkName(msg.Name); err != nil {
			return nil, fail(op, msg.Name, broker.ErrInvalid, err)
		}
		if r = b.store.resolve(msg.Name, false); r == nil {
			return nil, fail(op, msg.Name, ErrNoResponders, nil)
		}
	}

	inbox, reply := b.store.inboxes.open()
	defer b.store.inboxes.close(inbox)
	msg.Headers = msg.Headers.WithReplyTo(inbox)
	if err := b.place(ctx, op, r, newMessage(r.name, &msg), true); err != nil {
		return nil, err
	}
	select {
	case m := <-reply:
		return received(b, m), nil
	case <-ctx.Done():
	case <-b.done:
	}
	b.store.inboxes.close(inbox)
	select {
	case m := <-reply: // it was in time
		return received(b, m), nil
	default:
	}
	if b.isClosed() {
		return nil, fail(op, r.name, broker.ErrClosed, nil)
	}
	return nil, fail(op, r.name, nil, ctx.Err())
}

// reply is the answer to a request. It implements broker.IncomingMessage and
// broker.Partitioned.
type reply struct {
	m       *Message
	b       *Broker
	settled atomic.Bool
}

func received(b *Broker, m *Message) *reply {
	m.fill()
	return &reply{m: m, b: b}
}

// Name is the reply-to name of the request.
func (r *reply) Name() string { return r.m.Name() }

// Payload is the body. The bytes belong to the receiver.
func (r *reply) Payload() []byte { return r.m.Payload() }

// Headers are the reply's headers.
func (r *reply) Headers() broker.Headers { return r.m.Headers() }

// PartitionKey is the key that the reply was published with, nil for none.
func (r *reply) PartitionKey() []byte { return r.m.PartitionKey() }

// Ack is nil the first time.
func (r *reply) Ack(context.Context) error { return r.settle("ack") }

// Nack without requeue is nil the first time. With requeue it is
// errors.ErrUnsupported, and the reply stays unsettled.
func (r *reply) Nack(_ context.Context, requeue bool) error {
	if !requeue {
		return r.settle("nack")
	}
	switch {
	case r.b.isClosed():
		return fail("nack", r.m.name, broker.ErrClosed, nil)
	case r.settled.Load():
		return fail("nack", r.m.name, broker.ErrSettled, nil)
	default:
		return fail("nack", r.m.name, errors.ErrUnsupported, errors.New("a reply is received once"))
	}
}

func (r *reply) settle(op string) error {
	if r.b.isClosed() {
		return fail(op, r.m.name, broker.ErrClosed, nil)
	}
	if !r.settled.CompareAndSwap(false, true) {
		return fail(op, r.m.name, broker.ErrSettled, nil)
	}
	return nil
}

package gostreamtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

// ErrFailPublish is the error of a publish that [TS.FailPublish] made fail.
var ErrFailPublish = errors.New("gostreamtest: this publish was made to fail")

// ErrNoResponders is the error of a request that no subscription takes.
var ErrNoResponders = errors.New("gostreamtest: no subscription takes the request")

// defaultMaxHops is how long a chain of messages, each published while the one before
// it was handled, may get before it is taken for an endless loop.
const defaultMaxHops = 1000

// Publisher returns the double of a publisher of b. It can do what real can.
func (b *bus) Publisher(of broker.Broker, real broker.Publisher) broker.Publisher {
	p := &publisher{bus: b, broker: of}
	_, asks := real.(broker.Requester)
	_, transacts := real.(broker.Transactor)
	switch {
	case asks && transacts:
		return struct {
			*publisher
			requester
			transactor
		}{p, requester{p}, transactor{p}}
	case asks:
		return struct {
			*publisher
			requester
		}{p, requester{p}}
	case transacts:
		return struct {
			*publisher
			transactor
		}{p, transactor{p}}
	default:
		return p
	}
}

type publisher struct {
	bus    *bus
	broker broker.Broker
}

func (p *publisher) Publish(ctx context.Context, msg broker.OutgoingMessage) error {
	o, err := p.accept(ctx, msg)
	if err != nil {
		return err
	}
	p.deliver(ctx, o)
	return nil
}

// accept checks a message and makes its origin.
func (p *publisher) accept(ctx context.Context, msg broker.OutgoingMessage) (*origin, error) {
	b := p.bus
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if b.isShut(p.broker) {
		return nil, p.err(msg.Name, broker.ErrClosed, nil)
	}
	if msg.Name == "" {
		return nil, p.err(msg.Name, broker.ErrInvalid, errors.New("the name is empty"))
	}
	if !strings.HasPrefix(msg.Name, inboxPrefix) {
		if err := broker.CheckPublishName(p.broker, msg.Name); err != nil {
			return nil, err
		}
	}
	if b.takeFailure(msg.Name) {
		b.timeline.add(b, "failed", "publish to %s: %v", msg.Name, ErrFailPublish)
		return nil, p.err(msg.Name, nil, ErrFailPublish)
	}
	o := &origin{
		name: msg.Name, key: bytes.Clone(msg.Key), payload: bytes.Clone(msg.Payload),
		headers: msg.Headers.Owned(), depth: 1,
	}
	if d, ok := gostream.DeliveryFrom(ctx); ok {
		if m, ok := d.Message().(*message); ok {
			o.parent, o.depth = m.origin, m.origin.depth+1
		}
	}
	if !b.countPublish() {
		b.rest.fail(fmt.Sprintf("an endless loop? more than %d messages were published, the last to %q", b.maxMessages, o.name))
		return nil, p.err(msg.Name, nil, errors.New("too many messages"))
	}
	if o.depth > b.maxHops {
		b.rest.fail(fmt.Sprintf("an endless loop: %s (%d messages, each published while the one before it was handled)", loopOf(o), o.depth-1))
		return nil, p.err(msg.Name, nil, errors.New("an endless loop"))
	}
	return o, nil
}

// deliver routes an accepted message and records it.
func (p *publisher) deliver(ctx context.Context, o *origin) {
	b := p.bus
	b.timeline.publish(b, ctx, p.broker, o)
	b.rest.changed()
	b.mu.Lock()
	inbox := b.inboxes[o.name]
	b.mu.Unlock()
	if inbox != nil {
		select {
		case inbox <- o.message(b, nil):
		default: // it has its answer
		}
		return
	}
	b.route(p.broker, o)
}

func (p *publisher) err(name string, kind, cause error) error {
	return &broker.Error{Op: "publish", Broker: "gostreamtest", Name: name, Kind: kind, Err: cause}
}

// countPublish reports false where too many messages were set off: a loop whose
// messages do not know where they came from.
func (b *bus) countPublish() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.published++
	return b.published <= b.maxMessages
}

// loopOf names the round that the ancestors of o repeat.
func loopOf(o *origin) string {
	var names []string
	for a := o; a != nil && len(names) < 20; a = a.parent {
		if len(names) > 0 && a.name == o.name {
			names = append(names, a.name)
			break
		}
		names = append(names, a.name)
	}
	for i, j := 0, len(names)-1; i < j; i, j = i+1, j-1 {
		names[i], names[j] = names[j], names[i]
	}
	return strings.Join(names, " → ")
}

// takeFailure reports whether a publish to name shall fail, and counts it.
func (b *bus) takeFailure(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fails[name] == 0 {
		return false
	}
	b.fails[name]--
	return true
}

const inboxPrefix = "_gostreamtest.inbox."

// requester is request-reply, where the real publisher has it.
type requester struct{ p *publisher }

// Request implements broker.Requester.
func (r requester) Request(ctx context.Context, msg broker.OutgoingMessage) (broker.IncomingMessage, error) {
	b := r.p.bus
	answer := make(chan *message, 1)
	b.mu.Lock()
	b.requests++
	inbox := fmt.Sprintf("%s%d", inboxPrefix, b.requests)
	b.inboxes[inbox] = answer
	takers := len(b.matching(r.p.broker, msg.Name))
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.inboxes, inbox)
		b.mu.Unlock()
	}()
	if takers == 0 {
		return nil, r.p.err(msg.Name, nil, ErrNoResponders)
	}
	msg.Headers = msg.Headers.WithReplyTo(inbox)
	if err := r.p.Publish(ctx, msg); err != nil {
		return nil, err
	}
	select {
	case m := <-answer:
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// transactor is transactions, where the real publisher has them.
type transactor struct{ p *publisher }

// Begin implements broker.Transactor.
func (t transactor) Begin(context.Context) (broker.Transaction, error) {
	return &transaction{p: t.p}, nil
}

type transaction struct {
	p     *publisher
	ctx   []context.Context
	msgs  []*origin
	acks  []*message
	ended bool
}

func (t *transaction) Publish(ctx context.Context, msg broker.OutgoingMessage) error {
	if t.ended {
		return broker.ErrSettled
	}
	o, err := t.p.accept(ctx, msg)
	if err == nil {
		t.msgs, t.ctx = append(t.msgs, o), append(t.ctx, ctx)
	}
	return err
}

func (t *transaction) Ack(_ context.Context, m broker.IncomingMessage) error {
	d, ok := m.(*message)
	if !ok {
		return fmt.Errorf("%w: %T is not a delivery of this broker", broker.ErrInvalid, m)
	}
	if t.ended {
		return broker.ErrSettled
	}
	if err := d.settle(); err != nil {
		return err
	}
	t.acks = append(t.acks, d)
	return nil
}

func (t *transaction) Commit(ctx context.Context) error {
	if t.ended {
		return broker.ErrSettled
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	t.ended = true
	for i, o := range t.msgs {
		t.p.deliver(t.ctx[i], o)
	}
	return nil
}

func (t *transaction) Abort(context.Context) error {
	if t.ended {
		return broker.ErrSettled
	}
	t.ended = true
	for _, m := range t.acks {
		m.settled.Store(false)
	}
	return nil
}

// now is the time since the bus began.
func (b *bus) now() time.Duration { return time.Since(b.began) }

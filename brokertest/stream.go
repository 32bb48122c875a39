package brokertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gostream/gostream/broker"
)

// link is a broker and a target: what a check publishes and subscribes with.
type link struct {
	e     *env
	b     broker.Broker
	t     Target
	pub   broker.Publisher
	props broker.Properties // of the target's source
}

// link returns the link of b to t. b need not be connected.
func (e *env) link(t Target, b broker.Broker) (*link, error) {
	pub := e.h.Publisher(t.Source, b)
	if pub == nil {
		return nil, fmt.Errorf("there is no publisher: the source %s has none of its own and %T has no default", broker.Quote(t.Source.Name()), b)
	}
	return &link{e: e, b: b, t: t, pub: pub, props: e.specOf(t, b).Properties}, nil
}

// dial connects a new broker and returns its link to t.
func (e *env) dial(t Target) (*link, error) {
	b, err := e.connect()
	if err != nil {
		return nil, err
	}
	return e.link(t, b)
}

// open returns a link to a fresh target on a new connected broker, and a
// subscription to it.
func (e *env) open() (*link, *stream, error) {
	t, err := e.target()
	if err != nil {
		return nil, nil, err
	}
	return e.openOn(t)
}

// openOn is open for a target that exists.
func (e *env) openOn(t Target) (*link, *stream, error) {
	l, err := e.dial(t)
	if err != nil {
		return nil, nil, err
	}
	s, err := l.subscribe()
	return l, s, err
}

// publish publishes the payloads in order.
func (l *link) publish(payloads ...string) error {
	for _, p := range payloads {
		if err := l.send(broker.OutgoingMessage{Payload: []byte(p)}); err != nil {
			return err
		}
	}
	return nil
}

// send publishes one message, to the target's name where it has none.
func (l *link) send(msg broker.OutgoingMessage) error {
	if err := l.try(msg); err != nil {
		return fmt.Errorf("publish of %s: %w", quote(msg.Payload), err)
	}
	return nil
}

// try is send for a message that may be refused: the error is that of Publish.
func (l *link) try(msg broker.OutgoingMessage) error {
	if msg.Name == "" {
		msg.Name = l.t.Name
	}
	return l.e.call("Publish", func(ctx context.Context) error { return l.pub.Publish(ctx, msg) })
}

// subscribe opens a subscription, which is closed at the end of the check.
func (l *link) subscribe() (*stream, error) {
	return l.subscribeWith(&ledger{redelivers: l.props.Redelivers})
}

// subscribeWith is subscribe with the ledger of an earlier subscription to the same
// messages.
func (l *link) subscribeWith(book *ledger) (*stream, error) {
	var sub broker.Subscription
	err := l.e.call("Subscribe", func(ctx context.Context) (err error) {
		sub, err = l.t.Source.Subscribe(ctx, l.b)
		return err
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("subscribe: %w", err)
	case sub == nil:
		return nil, errors.New("subscribe returned neither a subscription nor an error")
	}
	l.e.atEnd("Close", sub.Close)
	return &stream{e: l.e, sub: sub, book: book}, nil
}

// stream is a subscription. It has one receiver, as every subscription; settling
// its deliveries may be done by any goroutine.
type stream struct {
	e    *env
	sub  broker.Subscription
	book *ledger
}

// close closes the subscription now.
func (s *stream) close() error {
	if err := s.e.call("Close", s.sub.Close); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

// raw returns the next delivery, whatever it is.
func (s *stream) raw(ctx context.Context) (*delivery, error) {
	m, err := s.sub.Receive(ctx)
	if err == nil && m == nil {
		err = errors.New("receive returned neither a message nor an error")
	}
	if err != nil {
		return nil, err
	}
	return &delivery{s: s, IncomingMessage: m, text: string(m.Payload())}, nil
}

// next returns the next delivery that the ledger expects. Another delivery of a
// message that is in hand is put beside it: it is settled together with it.
func (s *stream) next(ctx context.Context) (*delivery, error) {
	for {
		d, err := s.raw(ctx)
		if err != nil {
			return nil, err
		}
		repeated, err := s.book.received(d)
		if err != nil || !repeated {
			return d, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// receive returns the next delivery, which must come within the Timeout.
func (s *stream) receive() (*delivery, error) { return s.within("Receive", s.next) }

// receiveRaw is receive without the ledger, for checks whose payloads are not
// unique.
func (s *stream) receiveRaw() (*delivery, error) { return s.within("Receive", s.raw) }

func (s *stream) within(what string, f func(ctx context.Context) (*delivery, error)) (*delivery, error) {
	var d *delivery
	err := s.e.call(what, func(ctx context.Context) (err error) {
		d, err = f(ctx)
		if err != nil && ctx.Err() != nil && errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("nothing came within %v: %w", s.e.h.Timeout, err)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// expect receives one delivery of each payload, in whatever order they come, and
// returns them in the order of payloads. Anything else that comes is an error.
func (s *stream) expect(payloads ...string) ([]*delivery, error) {
	at := make(map[string]int, len(payloads))
	for i, p := range payloads {
		at[p] = i
	}
	ds := make([]*delivery, len(payloads))
	for n := range payloads {
		d, err := s.receive()
		if err != nil {
			return nil, fmt.Errorf("waiting for message %d of %d: %w", n+1, len(payloads), err)
		}
		i, ok := at[d.text]
		if !ok {
			return nil, fmt.Errorf("%v came, expected one of %.200q", d, payloads)
		}
		ds[i] = d
		delete(at, d.text)
	}
	return ds, nil
}

// inOrder receives one delivery of each payload, in that order.
func (s *stream) inOrder(payloads ...string) ([]*delivery, error) {
	ds := make([]*delivery, len(payloads))
	for i, want := range payloads {
		d, err := s.receive()
		if err != nil {
			return nil, fmt.Errorf("waiting for %q, number %d of %d: %w", want, i+1, len(payloads), err)
		}
		if d.text != want {
			return nil, fmt.Errorf("%v came as number %d, expected %q", d, i+1, want)
		}
		ds[i] = d
	}
	return ds, nil
}

// one receives one delivery of that payload.
func (s *stream) one(payload string) (*delivery, error) {
	ds, err := s.expect(payload)
	if err != nil {
		return nil, err
	}
	return ds[0], nil
}

// quiet fails if anything comes within the harness's Quiet, but for another
// delivery of what is in hand.
func (s *stream) quiet() error { return s.quietFor(s.e.h.Quiet) }

// quietFor is quiet for a time of one's own.
func (s *stream) quietFor(d time.Duration) error {
	switch d, err := s.untilQuietFor(d); {
	case err != nil:
		return err
	case d != nil:
		return fmt.Errorf("%v came, expected nothing", d)
	default:
		return nil
	}
}

// untilQuiet returns the next delivery, nil if nothing comes within the harness's
// Quiet.
func (s *stream) untilQuiet() (*delivery, error) { return s.untilQuietFor(s.e.h.Quiet) }

func (s *stream) untilQuietFor(quiet time.Duration) (*delivery, error) {
	ctx, cancel := context.WithTimeout(s.e.ctx, quiet)
	defer cancel()
	var d *delivery
	err := s.e.bounded(ctx, "Receive", func(ctx context.Context) (err error) {
		d, err = s.next(ctx)
		return err
	})
	switch {
	case err == nil:
		return d, nil
	case errors.Is(err, context.DeadlineExceeded):
		return nil, nil
	default:
		return nil, fmt.Errorf("receive: %w", err)
	}
}

// ledger knows what became of each message of a subscription, by its payload, so
// that a delivery that must not come is recognised. Payloads must be unique.
type ledger struct {
	redelivers bool

	mu      sync.Mutex
	entries map[string]*entry
}

// entry is one message.
type entry struct {
	state state
	also  []broker.IncomingMessage // other deliveries of it that came while it was in hand
}

type state int

const (
	inHand    state = iota // received and not settled
	requeued               // it must or may come again
	acked                  // it must not come again
	rejected               // it must not come again
	forgotten              // nothing is expected
)

// received enters a delivery and reports whether it repeats one that is in hand.
func (b *ledger) received(d *delivery) (repeated bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[d.text]
	if e == nil {
		if b.entries == nil {
			b.entries = make(map[string]*entry)
		}
		b.entries[d.text] = &entry{}
		return false, nil
	}
	switch e.state {
	case acked:
		return false, fmt.Errorf("%v came again after Ack returned nil", d)
	case rejected:
		return false, fmt.Errorf("%v came again after Nack without requeue returned nil", d)
	case inHand:
		if !b.redelivers {
			return false, fmt.Errorf("%v came twice, and the source does not declare Redelivers", d)
		}
		e.also = append(e.also, d.IncomingMessage)
		return true, nil
	default:
		e.state = inHand
		e.also = nil
		return false, nil
	}
}

// settled enters a settlement that was accepted and returns the other deliveries.
func (b *ledger) settled(text string, to state) (also []broker.IncomingMessage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[text]
	if e == nil {
		return nil // it was received raw
	}
	e.state = to
	also, e.also = e.also, nil
	return also
}

// released says that what was in hand may come again: its broker was shut down.
func (b *ledger) released() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entries {
		if e.state == inHand {
			e.state, e.also = requeued, nil
		}
	}
}

// delivery is a message that was received.
type delivery struct {
	broker.IncomingMessage
	s    *stream
	text string // the payload as it was when it was received
}

// String names the delivery in an error.
func (d *delivery) String() string {
	s := "the message " + quote([]byte(d.text))
	if n, ok := broker.DeliveryCount(d.IncomingMessage); ok && n != 1 {
		s += fmt.Sprintf(" (delivery %d)", n)
	}
	return s
}

// ack acknowledges the delivery. On a transport that does not redeliver the answer
// must be errors.ErrUnsupported, which is no error here.
func (d *delivery) ack() error {
	return d.settle("Ack", acked, func(ctx context.Context, m broker.IncomingMessage) error { return m.Ack(ctx) })
}

// requeue nacks the delivery so that it comes again.
func (d *delivery) requeue() error {
	return d.settle("Nack with requeue", requeued, func(ctx context.Context, m broker.IncomingMessage) error { return m.Nack(ctx, true) })
}

// reject nacks the delivery so that it does not come again.
func (d *delivery) reject() error {
	return d.settle("Nack without requeue", rejected, func(ctx context.Context, m broker.IncomingMessage) error { return m.Nack(ctx, false) })
}

// settle settles the delivery by f, and whatever else was delivered of the same
// message.
func (d *delivery) settle(what string, to state, f func(ctx context.Context, m broker.IncomingMessage) error) error {
	err := d.s.e.call(what, func(ctx context.Context) error { return f(ctx, d.IncomingMessage) })
	switch unsupported := errors.Is(err, errors.ErrUnsupported); {
	case d.s.book.redelivers && err != nil:
		return fmt.Errorf("%s of %v: %w", what, d, err)
	case !d.s.book.redelivers && !unsupported:
		return fmt.Errorf("%s of %v answers %v, and the source does not declare Redelivers: it must answer errors.ErrUnsupported", what, d, err)
	}
	return d.was(to, what, f)
}

// was enters a settlement that the check made itself, and settles by f whatever else
// was delivered of the same message.
func (d *delivery) was(to state, what string, f func(ctx context.Context, m broker.IncomingMessage) error) error {
	for _, m := range d.s.book.settled(d.text, to) {
		err := d.s.e.call(what, func(ctx context.Context) error { return f(ctx, m) })
		if err != nil && !errors.Is(err, broker.ErrSettled) && !errors.Is(err, broker.ErrStale) {
			return fmt.Errorf("%s of another delivery of %v: %w", what, d, err)
		}
	}
	return nil
}

// ackAll acknowledges the deliveries.
func ackAll(ds ...*delivery) error {
	for _, d := range ds {
		if err := d.ack(); err != nil {
			return err
		}
	}
	return nil
}

// quote returns bytes for an error text, shortened.
func quote(p []byte) string {
	const most = 60
	if len(p) > most {
		return fmt.Sprintf("%q… (%d bytes)", p[:most], len(p))
	}
	return fmt.Sprintf("%q", p)
}

// numbered returns prefix0, prefix1, … n of them.
func numbered(prefix string, n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = fmt.Sprintf("%s%d", prefix, i)
	}
	return s
}

// mustBe returns an error unless err is target.
func mustBe(what string, err, target error) error {
	switch {
	case errors.Is(err, target):
		return nil
	case err == nil:
		return fmt.Errorf("%s answers nil, want an error that is %q", what, target)
	default:
		return fmt.Errorf("%s answers %q, want an error that is %q", what, err, target)
	}
}

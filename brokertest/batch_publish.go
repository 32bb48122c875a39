package brokertest

import (
	"context"
	"errors"
	"fmt"

	"github.com/gostream/gostream/broker"
)

// batchPublishChecks: several publishes at once. They run on every publisher: without
// the capability the helper sends one by one.
var batchPublishChecks = []check{
	{
		name:  "all",
		rule:  "PublishBatch sends the messages in order, and nil means that every one was accepted",
		where: "broker.BatchPublisher, PublishBatch",
		run:   checkPublishBatch,
	},
	{
		name:  "one-bad",
		rule:  "a BatchError says which messages of a batch failed, and the others were accepted",
		where: "broker.BatchPublisher, PublishBatch; broker.BatchError",
		run:   checkPublishBatchBad,
	},
	{
		name:  "buffer-reuse",
		rule:  "the caller owns the bytes of the messages again as soon as PublishBatch returns",
		where: "broker.BatchPublisher, PublishBatch",
		run:   checkPublishBatchBuffers,
	},
	{
		name:  "cancel",
		rule:  "PublishBatch with a context that has ended answers its error",
		where: "broker.BatchPublisher, PublishBatch",
		run:   checkPublishBatchCancel,
	},
	{
		name:  "lifecycle",
		rule:  "PublishBatch answers ErrNotConnected before Connect and ErrClosed after Shutdown, and nothing is sent",
		where: "package broker, Rules that hold for every handle",
		run:   checkPublishBatchLifecycle,
	},
}

// batchOf returns messages to the target's name.
func (l *link) batchOf(payloads ...string) []broker.OutgoingMessage {
	msgs := make([]broker.OutgoingMessage, len(payloads))
	for i, p := range payloads {
		msgs[i] = broker.OutgoingMessage{Name: l.t.Name, Payload: []byte(p)}
	}
	return msgs
}

// tryBatch returns the error of PublishBatch.
func (l *link) tryBatch(msgs []broker.OutgoingMessage) error {
	return l.e.call("PublishBatch", func(ctx context.Context) error { return broker.PublishBatch(ctx, l.pub, msgs) })
}

// arrive receives the payloads, in order where the source says so, and acknowledges
// each before it receives the next: the source may limit what is unsettled.
func (s *stream) arrive(p broker.Properties, payloads ...string) error {
	return s.arriveIn(p.Ordered, payloads...)
}

func (s *stream) arriveIn(order bool, payloads ...string) error {
	missing := make(map[string]bool, len(payloads))
	for _, p := range payloads {
		missing[p] = true
	}
	for i, next := range payloads {
		d, err := s.receive()
		switch {
		case err != nil:
			return fmt.Errorf("%d of %d messages had come: %w", i, len(payloads), err)
		case order && d.text != next:
			return fmt.Errorf("%v came as number %d, expected %q", d, i+1, next)
		case !missing[d.text]:
			return fmt.Errorf("%v came, expected one of %.200q", d, payloads)
		}
		delete(missing, d.text)
		if err := d.ack(); err != nil {
			return err
		}
	}
	return nil
}

func checkPublishBatch(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	for _, n := range []int{0, 1, 40} {
		want := numbered(fmt.Sprintf("of%d-", n), n)
		if err := l.tryBatch(l.batchOf(want...)); err != nil {
			return fmt.Errorf("PublishBatch of %d: %w", n, err)
		}
		if err := s.arrive(l.props, want...); err != nil {
			return fmt.Errorf("after PublishBatch of %d: %w", n, err)
		}
	}
	return s.quiet()
}

// kitOptions are options of a type that no broker knows.
type kitOptions struct{}

// badMessage is a message that every broker must refuse.
type badMessage struct {
	what  string
	want  error
	spoil func(*broker.OutgoingMessage)
}

// badMessages returns what a publisher of l must refuse.
func (l *link) badMessages() []badMessage {
	bad := []badMessage{
		{"options of a foreign type", broker.ErrInvalid, func(m *broker.OutgoingMessage) { m.Options = kitOptions{} }},
		{"an empty name", broker.ErrInvalid, func(m *broker.OutgoingMessage) { m.Name = "" }},
	}
	if names := l.e.h.InvalidNames; len(names) > 0 {
		bad = append(bad, badMessage{"the name " + broker.Quote(names[0]), broker.ErrInvalid, func(m *broker.OutgoingMessage) { m.Name = names[0] }})
	}
	if size := l.props.MaxPayload; size > 0 && size < 64<<20 {
		bad = append(bad, badMessage{"a payload over the limit", broker.ErrTooLarge, func(m *broker.OutgoingMessage) { m.Payload = make([]byte, size+1) }})
	}
	return bad
}

func checkPublishBatchBad(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	const n = 5
	for i, bad := range l.badMessages() {
		at := []int{2, 0, n - 1, 1}[i%4]
		want := numbered(fmt.Sprintf("case%d-", i), n)
		msgs := l.batchOf(want...)
		bad.spoil(&msgs[at])
		err := l.tryBatch(msgs)
		if err == nil {
			return fmt.Errorf("PublishBatch with %s at index %d answers nil", bad.what, at)
		}
		var be *broker.BatchError
		if !errors.As(err, &be) {
			return fmt.Errorf("PublishBatch with %s at index %d answers %T (%q), want a *broker.BatchError", bad.what, at, err, err)
		}
		if len(be.Errs) != n {
			return fmt.Errorf("the BatchError has %d errors for %d messages", len(be.Errs), n)
		}
		var rest []string
		for j, err := range be.Errs {
			switch {
			case j == at:
				if err := mustBe(fmt.Sprintf("the error at index %d, of %s,", j, bad.what), err, bad.want); err != nil {
					return err
				}
			case err != nil:
				return fmt.Errorf("%s was at index %d, and the BatchError says that index %d failed: %w", bad.what, at, j, err)
			default:
				rest = append(rest, want[j])
			}
		}
		if err := s.arrive(l.props, rest...); err != nil {
			return fmt.Errorf("of a batch with %s at index %d the others must arrive: %w", bad.what, at, err)
		}
	}
	if err := s.quiet(); err != nil {
		return fmt.Errorf("of a batch with a bad message: %w", err)
	}
	return nil
}

func checkPublishBatchBuffers(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	want := numbered("m", 10)
	msgs := l.batchOf(want...)
	// The buffers are written to the moment that PublishBatch returns.
	err = e.call("PublishBatch", func(ctx context.Context) error {
		err := broker.PublishBatch(ctx, l.pub, msgs)
		for i := range msgs {
			for j := range msgs[i].Payload {
				msgs[i].Payload[j] = '#'
			}
			msgs[i] = broker.OutgoingMessage{}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("PublishBatch: %w", err)
	}
	return s.arrive(l.props, want...)
}

func checkPublishBatchCancel(e *env) error {
	l, _, err := e.open()
	if err != nil {
		return err
	}
	dead, cancel := context.WithCancel(e.ctx)
	cancel()
	err = e.bounded(dead, "PublishBatch", func(ctx context.Context) error {
		return broker.PublishBatch(ctx, l.pub, l.batchOf("a", "b"))
	})
	return mustBe("PublishBatch with a cancelled context", err, context.Canceled)
}

func checkPublishBatchLifecycle(e *env) error {
	t, err := e.target()
	if err != nil {
		return err
	}
	_, s, err := e.openOn(t)
	if err != nil {
		return err
	}
	b, err := e.newBroker()
	if err != nil {
		return err
	}
	l, err := e.link(t, b)
	if err != nil {
		return err
	}
	if err := mustBe("PublishBatch before Connect", l.tryBatch(l.batchOf("early", "earlier")), broker.ErrNotConnected); err != nil {
		return err
	}
	if err := e.call("Connect", b.Connect); err != nil {
		return fmt.Errorf("Connect: %w", err)
	}
	if err := e.shutdown(b); err != nil {
		return err
	}
	if err := mustBe("PublishBatch after Shutdown", l.tryBatch(l.batchOf("late", "later")), broker.ErrClosed); err != nil {
		return err
	}
	return s.quiet()
}

package brokertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/gostream/gostream/broker"
)

// byteChecks belong to the group shape: who owns the bytes.
var byteChecks = []check{
	{
		name:  "buffer-reuse",
		rule:  "the caller owns the message's bytes again as soon as Publish returns",
		where: "broker.Publisher, Publish",
		run:   checkBufferReuse,
	},
	{
		name:  "buffer-reuse-cancelled",
		rule:  "the caller owns the message's bytes again as soon as Publish returns, also when the context ended it",
		where: "broker.Publisher, Publish",
		run:   checkBufferReuseCancelled,
	},
	{
		name:  "bytes-kept",
		rule:  "the delivered bytes belong to the receiver, also after the delivery was settled: the broker neither reuses nor changes them",
		where: "broker.IncomingMessage, Payload",
		run:   checkBytesKept,
	},
	{
		name:  "bytes-shared",
		rule:  "delivered bytes are never shared between subscriptions",
		where: "broker.IncomingMessage, Payload",
		run:   checkBytesShared,
	},
	{
		name:  "bytes-redelivered",
		rule:  "delivered bytes are never shared with a redelivery: it has the bytes that were published",
		where: "broker.IncomingMessage, Payload",
		needs: []need{needRedelivers},
		run:   checkBytesRedelivered,
	},
}

func checkBufferReuse(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	const n = 20
	var want []string
	keyed := l.props.Keys != broker.KeysNone
	for i := range n {
		text := fmt.Sprintf("m%02d", i)
		want = append(want, text)
		msg := broker.OutgoingMessage{Name: l.t.Name, Payload: []byte(text)}
		if keyed {
			msg.Key = []byte("k" + text)
		}
		err := e.call("Publish", func(ctx context.Context) error { return l.publishAndScribble(ctx, msg) })
		if err != nil {
			return fmt.Errorf("publish: %w", err)
		}
	}
	left := newTally(want)
	for range want {
		d, err := s.receive()
		if err != nil {
			return fmt.Errorf("%s: %w", left.missing(), err)
		}
		if !left.settled(d.text) {
			return fmt.Errorf("%v came, which is none of the payloads as they were published", d)
		}
		got, ok := broker.PartitionKey(d.IncomingMessage)
		if want := "k" + d.text; keyed && ok && string(got) != want {
			return fmt.Errorf("the key of %v is %q, published was %q", d, got, want)
		}
		if err := d.ack(); err != nil {
			return err
		}
	}
	return nil
}

// publishAndScribble publishes msg and writes to its bytes the moment that Publish
// returns.
func (l *link) publishAndScribble(ctx context.Context, msg broker.OutgoingMessage) error {
	err := l.pub.Publish(ctx, msg)
	scribble(msg.Payload)
	scribble(msg.Key)
	return err
}

func scribble(p []byte) {
	for i := range p {
		p[i] = '#'
	}
}

func checkBufferReuseCancelled(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	// The contexts end before, during and after the call. What arrives must be whole.
	const n, size = 60, 8 << 10
	published := make(map[string]bool, n)
	for i := range n {
		payload := append([]byte(fmt.Sprintf("m%02d-", i)), bytes.Repeat([]byte{'a' + byte(i%26)}, size)...)
		if limit := l.props.MaxPayload; limit > 0 && len(payload) > limit {
			payload = payload[:limit]
		}
		published[string(payload)] = true
		ctx, cancel := context.WithCancel(e.ctx)
		switch i % 3 {
		case 0:
			cancel()
		case 1:
			go cancel()
		}
		err := e.bounded(ctx, "Publish with a context that ends", func(ctx context.Context) error {
			return l.publishAndScribble(ctx, broker.OutgoingMessage{Name: l.t.Name, Payload: payload})
		})
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			return fmt.Errorf("publish with a context that ends: %w", err)
		}
	}
	if err := l.publish("last"); err != nil {
		return err
	}
	published["last"] = true
	// The last may overtake what a context error left on its way.
	for {
		d, err := s.untilQuiet()
		if err != nil || d == nil {
			return err
		}
		if !published[d.text] {
			return fmt.Errorf("%v came, which is none of the payloads as they were published: the buffer was read after Publish returned", d)
		}
		if err := d.ack(); err != nil {
			return err
		}
	}
}

func checkBytesKept(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	type kept struct {
		text    string
		payload []byte
	}
	var all []kept
	for i := range 50 {
		want := fmt.Sprintf("kept%d-%s", i, bytes.Repeat([]byte{'x'}, i*7))
		if err := l.publish(want); err != nil {
			return err
		}
		d, err := s.one(want)
		if err != nil {
			return err
		}
		all = append(all, kept{want, d.Payload()})
		if err := d.ack(); err != nil {
			return err
		}
		if got := d.Payload(); string(got) != want {
			return fmt.Errorf("after it was settled the payload of %v is %s", d, quote(got))
		}
	}
	if err := s.close(); err != nil {
		return err
	}
	if err := e.shutdown(l.b); err != nil {
		return err
	}
	for _, k := range all {
		if string(k.payload) != k.text {
			return fmt.Errorf("the bytes of %q became %s while later messages came", k.text, quote(k.payload))
		}
	}
	return nil
}

func checkBytesShared(e *env) error {
	streams, l, err := e.copies()
	if err != nil {
		return err
	}
	for _, size := range []int{8, 100, 10_000} {
		if limit := l.props.MaxPayload; limit > 0 && size > limit {
			continue
		}
		want := string(pattern(size))
		if err := l.publish(want); err != nil {
			return err
		}
		var ds []*delivery
		for _, s := range streams {
			d, err := s.one(want)
			if err != nil {
				return err
			}
			ds = append(ds, d)
		}
		for _, d := range ds {
			if got := d.Payload(); string(got) != want {
				return errors.New("the payload of one subscription changed when that of another was written to")
			}
			scribble(d.Payload())
		}
		if err := ackAll(ds...); err != nil {
			return err
		}
	}
	return nil
}

// copies returns subscriptions that each get a copy of every message: members of
// different groups, or two subscriptions to one source where these do not share.
func (e *env) copies() ([]*stream, *link, error) {
	var g Group
	if e.h.Group != nil {
		var err error
		if g, err = e.newGroup(); err != nil {
			return nil, nil, err
		}
	}
	if g.Member != nil && !g.Single {
		a, as, err := e.openOn(g.member("a"))
		if err != nil {
			return nil, nil, err
		}
		b, err := e.link(g.member("b"), a.b) // the same connection shares most
		if err != nil {
			return nil, nil, err
		}
		bs, err := b.subscribe()
		return []*stream{as, bs}, a, err
	}
	l, first, err := e.open()
	if err != nil {
		return nil, nil, err
	}
	second, err := l.subscribe()
	if err != nil {
		return nil, nil, e.notApplicable("the harness has no groups that each get all, and the source refuses a second subscription: %v", err)
	}
	if err := l.publish("to whom"); err != nil {
		return nil, nil, err
	}
	var got []*delivery
	for _, s := range []*stream{first, second} {
		d, err := s.untilQuiet()
		if err != nil {
			return nil, nil, err
		}
		if d != nil {
			got = append(got, d)
		}
	}
	if err := ackAll(got...); err != nil {
		return nil, nil, err
	}
	if len(got) < 2 {
		return nil, nil, e.notApplicable("the harness has no groups that each get all, and the subscriptions to one source share its messages")
	}
	return []*stream{first, second}, l, nil
}

func checkBytesRedelivered(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	want := broker.OutgoingMessage{Payload: []byte("come again")}
	if l.props.Keys != broker.KeysNone {
		want.Key = []byte("key")
	}
	if err := l.send(want); err != nil {
		return err
	}
	for range 3 {
		d, err := s.receive()
		if err != nil {
			return err
		}
		if d.text != string(want.Payload) {
			return fmt.Errorf("published %q, received %v: a redelivery shares the bytes of the delivery before", want.Payload, d)
		}
		if got, ok := broker.PartitionKey(d.IncomingMessage); ok && !bytes.Equal(got, want.Key) {
			return fmt.Errorf("published with the key %q, received with %q: a redelivery shares the bytes of the delivery before", want.Key, got)
		} else {
			scribble(got)
		}
		scribble(d.Payload())
		if err := d.requeue(); err != nil {
			return err
		}
	}
	d, err := s.one(string(want.Payload))
	if err != nil {
		return err
	}
	return d.ack()
}

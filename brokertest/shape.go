package brokertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/gostream/gostream/broker"
)

// shapeChecks: a message arrives as it was published. The checks of headers are in
// shape_headers.go.
var shapeChecks = slices.Concat([]check{
	{
		name:  "payload",
		rule:  "the payload arrives byte for byte, whatever its bytes are",
		where: "broker.IncomingMessage, Payload; broker.OutgoingMessage, Payload",
		run:   checkPayload,
	},
	{
		name:  "payload-1mib",
		rule:  "a payload of 1 MiB arrives byte for byte, or is refused with ErrTooLarge and nothing is sent; within the declared MaxPayload it is not refused",
		where: "broker.Publisher, Publish; broker.Properties, MaxPayload",
		run:   checkLargePayload,
	},
	{
		name:  "max-payload",
		rule:  "a payload of the declared maximum arrives; one byte more is ErrTooLarge and nothing is sent",
		where: "broker.Publisher, Publish; broker.Properties, MaxPayload",
		needs: []need{needMaxPayload},
		run:   checkMaxPayload,
	},
	{
		name:  "key",
		rule:  "the key arrives byte for byte where keys are declared, nil where the message has none; where Keys is none a key is refused with ErrInvalid and nothing is sent",
		where: "broker.OutgoingMessage, Key; broker.Properties, Keys; broker.Partitioned",
		run:   checkKey,
	},
	{
		name:  "name",
		rule:  "Name is the concrete name that was published to",
		where: "broker.IncomingMessage, Name",
		run:   checkConcreteName,
	},
	{
		name:  "invalid-name",
		rule:  "an empty name, and a name that the transport would take and misroute, is ErrInvalid and nothing is sent",
		where: "broker.Publisher, Publish; broker.OutgoingMessage",
		run:   checkInvalidName,
	},
	{
		name:  "refused-options",
		rule:  "an Options value of a type or with a content that the broker cannot honour is ErrInvalid and nothing is sent",
		where: "broker.OutgoingMessage, Options",
		run:   checkRefusedOptions,
	},
	{
		name:  "valid-options",
		rule:  "a message with options that the broker honours arrives",
		where: "broker.OutgoingMessage, Options",
		needs: []need{needHarness("ValidOptions", func(h *Harness) bool { return len(h.ValidOptions) > 0 })},
		run:   checkValidOptions,
	},
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
}, headerChecks)

// needMaxPayload is a need of a declared maximum that can be tried.
var needMaxPayload = need{"Properties.MaxPayload", func(e *env) (string, error) {
	const most = 64 << 20
	p, err := e.properties()
	switch {
	case err != nil:
		return "", err
	case p.MaxPayload == 0:
		return "no limit is declared", nil
	case p.MaxPayload > most:
		return fmt.Sprintf("the declared limit of %d bytes is too large to try", p.MaxPayload), nil
	}
	return "", nil
}}

func checkPayload(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, c := range []struct {
		what    string
		payload []byte
	}{
		{"text", []byte("hello")},
		{"nil", nil},
		{"empty", []byte{}},
		{"every byte", all},
		{"not UTF-8", []byte{0xff, 0xfe, 0xc3, 0x28}},
		{"one zero byte", []byte{0}},
		{"line ends", []byte("\r\n\r\n")},
		{"spaces around", []byte("  a  ")},
	} {
		if err := l.roundTrip(s, c.payload); err != nil {
			return fmt.Errorf("%s: %w", c.what, err)
		}
	}
	return nil
}

// roundTrip publishes a payload, receives it and compares.
func (l *link) roundTrip(s *stream, payload []byte) error {
	if err := l.send(broker.OutgoingMessage{Payload: payload}); err != nil {
		return err
	}
	d, err := s.receiveRaw()
	if err != nil {
		return err
	}
	if !bytes.Equal(d.Payload(), payload) {
		return fmt.Errorf("published %s, received %s", quote(payload), quote(d.Payload()))
	}
	return d.ack()
}

// pattern returns n bytes that do not repeat soon.
func pattern(n int) []byte {
	p := make([]byte, n)
	x := uint32(n) + 1
	for i := range p {
		x = x*1664525 + 1013904223
		p[i] = byte(x >> 24)
	}
	return p
}

func checkLargePayload(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	size := 1 << 20
	limit := l.props.MaxPayload
	if limit > 0 {
		size = min(size, limit)
	}
	payload := pattern(size)
	if err := l.try(broker.OutgoingMessage{Payload: payload}); err != nil {
		if limit > 0 {
			return fmt.Errorf("publish of %d bytes, the declared limit is %d: %w", size, limit, err)
		}
		if err := mustBe("Publish of 1 MiB", err, broker.ErrTooLarge); err != nil {
			return err
		}
		return s.quiet()
	}
	d, err := s.receiveRaw()
	if err != nil {
		return err
	}
	if !bytes.Equal(d.Payload(), payload) {
		return fmt.Errorf("published %d bytes, received %d that are not the same", size, len(d.Payload()))
	}
	return d.ack()
}

func checkMaxPayload(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	limit := l.props.MaxPayload
	err = l.try(broker.OutgoingMessage{Payload: pattern(limit + 1)})
	if err := mustBe(fmt.Sprintf("Publish of %d bytes, one more than the limit,", limit+1), err, broker.ErrTooLarge); err != nil {
		return err
	}
	if err := s.quiet(); err != nil {
		return err
	}
	if err := l.roundTrip(s, pattern(limit)); err != nil {
		return fmt.Errorf("%d bytes, the declared limit: %w", limit, err)
	}
	e.saw("MaxPayload", fmt.Sprintf("%d bytes", limit))
	return nil
}

func checkKey(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	keys := []string{"customer-7", "\xff\xfe\x00", "a b:c\r\n"}
	if l.props.Keys == broker.KeysNone {
		for _, k := range keys {
			err := l.try(broker.OutgoingMessage{Payload: []byte("keyed"), Key: []byte(k)})
			if err := mustBe("Publish with a key where Keys is none", err, broker.ErrInvalid); err != nil {
				return err
			}
		}
		e.saw("Keys", "none")
		return s.quiet()
	}
	refused := 0
	for i, k := range keys {
		payload := fmt.Sprintf("keyed%d", i)
		err := l.try(broker.OutgoingMessage{Payload: []byte(payload), Key: []byte(k)})
		if err != nil && i > 0 && errors.Is(err, broker.ErrInvalid) {
			refused++ // a transport that cannot hold these bytes
			continue
		}
		if err != nil {
			return fmt.Errorf("publish with the key %q: %w", k, err)
		}
		d, err := s.one(payload)
		if err != nil {
			return err
		}
		got, ok := broker.PartitionKey(d.IncomingMessage)
		switch {
		case !ok:
			return fmt.Errorf("the source declares keys (%v), and the message has no partition key", l.props.Keys)
		case string(got) != k:
			return fmt.Errorf("published with the key %q, received with %q", k, got)
		}
		if err := d.ack(); err != nil {
			return err
		}
	}
	if err := l.publish("keyless"); err != nil {
		return err
	}
	d, err := s.one("keyless")
	if err != nil {
		return err
	}
	if key, ok := broker.PartitionKey(d.IncomingMessage); key != nil || !ok {
		return fmt.Errorf("published without a key, PartitionKey is %#v, %v, want nil, true", key, ok)
	}
	if err := d.ack(); err != nil {
		return err
	}
	e.saw("Keys", l.props.Keys.String())
	e.saw(capKey, "yes")
	if refused == 0 {
		return nil
	}
	return s.quiet()
}

func checkConcreteName(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	if err := l.publish("named"); err != nil {
		return err
	}
	d, err := s.one("named")
	if err != nil {
		return err
	}
	if d.Name() != l.t.Name {
		return fmt.Errorf("published to %q, Name is %q", l.t.Name, d.Name())
	}
	if err := d.ack(); err != nil || e.h.Pattern == nil {
		return err
	}

	p, err := e.newPattern()
	if err != nil {
		return err
	}
	wild, ws, err := e.openOn(Target{Source: p.Source, Name: p.Matching[0]})
	if err != nil {
		return err
	}
	for _, name := range p.Matching {
		if err := wild.send(broker.OutgoingMessage{Name: name, Payload: []byte(name)}); err != nil {
			return err
		}
		d, err := ws.one(name)
		if err != nil {
			return err
		}
		if d.Name() != name {
			return fmt.Errorf("under the wildcard %q, published to %q, Name is %q", p.Source.Name(), name, d.Name())
		}
		if err := d.ack(); err != nil {
			return err
		}
	}
	return nil
}

func checkInvalidName(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	for _, name := range append([]string{""}, e.h.InvalidNames...) {
		err := e.call("Publish", func(ctx context.Context) error {
			return l.pub.Publish(ctx, broker.OutgoingMessage{Name: name, Payload: []byte("misrouted")})
		})
		if err := mustBe(fmt.Sprintf("Publish to %q", name), err, broker.ErrInvalid); err != nil {
			return err
		}
		if err := broker.CheckPublishName(l.b, name); err != nil && !errors.Is(err, broker.ErrInvalid) {
			return mustBe(fmt.Sprintf("CheckPublishName(%q)", name), err, broker.ErrInvalid)
		}
	}
	if err := broker.CheckPublishName(l.b, l.t.Name); err != nil {
		return fmt.Errorf("CheckPublishName(%q), a name that can be published to: %w", l.t.Name, err)
	}
	return s.quiet()
}

// foreignOptions are options of a type that no broker knows.
type foreignOptions struct{ Urgent bool }

func checkRefusedOptions(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	for _, o := range append([]any{foreignOptions{true}, &foreignOptions{}, "urgent", 0}, e.h.InvalidOptions...) {
		err := l.try(broker.OutgoingMessage{Payload: []byte("refused"), Options: o})
		if err := mustBe(fmt.Sprintf("Publish with Options of type %T", o), err, broker.ErrInvalid); err != nil {
			return err
		}
	}
	return s.quiet()
}

func checkValidOptions(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	for i, o := range e.h.ValidOptions {
		payload := fmt.Sprintf("option%d", i)
		if err := l.send(broker.OutgoingMessage{Payload: []byte(payload), Options: o}); err != nil {
			return fmt.Errorf("valid option %d, a %T: %w", i, o, err)
		}
		d, err := s.one(payload)
		if err != nil {
			return fmt.Errorf("valid option %d, a %T: %w", i, o, err)
		}
		if err := d.ack(); err != nil {
			return err
		}
	}
	return nil
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
	ds, err := s.expect(want...)
	if err != nil {
		return err
	}
	for _, d := range ds {
		got, ok := broker.PartitionKey(d.IncomingMessage)
		if want := "k" + d.text; keyed && ok && string(got) != want {
			return fmt.Errorf("the key of %v is %q, published was %q", d, got, want)
		}
	}
	return ackAll(ds...)
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
	if e.h.Group != nil {
		g, err := e.newGroup()
		if err != nil {
			return nil, nil, err
		}
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
		return nil, nil, e.notApplicable("the harness has no Group, and the source refuses a second subscription: %v", err)
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
		return nil, nil, e.notApplicable("the harness has no Group, and the subscriptions to one source share its messages")
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

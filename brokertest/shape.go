package brokertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/gostream/gostream/broker"
)

// shapeChecks: a message arrives as it was published. Who owns the bytes is in
// shape_bytes.go, headers are in shape_headers.go.
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
}, byteChecks, headerChecks)

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
	keys := []string{"customer-7", "\xff\xfe\x00", "a b:c\r\n", ""} // whether "" is one is the transport's affair
	if l.props.Keys == broker.KeysNone {
		for _, k := range keys[:3] {
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

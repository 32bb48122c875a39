package brokertest

import (
	"bytes"
	"context"
	"fmt"

	"github.com/gostream/gostream/broker"
)

// shapeChecks: a message arrives as it was published.
var shapeChecks = []check{
	{
		name:  "payload",
		rule:  "the payload arrives byte for byte, whatever its bytes are",
		where: "broker.IncomingMessage, Payload; broker.OutgoingMessage, Payload",
		run:   checkPayload,
	},
	{
		name:  "buffer-reuse",
		rule:  "the caller owns the message's bytes again as soon as Publish returns",
		where: "broker.Publisher, Publish",
		run:   checkBufferReuse,
	},
}

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
	} {
		if err := l.send(broker.OutgoingMessage{Payload: c.payload}); err != nil {
			return fmt.Errorf("%s: %w", c.what, err)
		}
		d, err := s.receiveRaw()
		if err != nil {
			return fmt.Errorf("%s: %w", c.what, err)
		}
		if !bytes.Equal(d.Payload(), c.payload) {
			return fmt.Errorf("%s: published %s, received %s", c.what, quote(c.payload), quote(d.Payload()))
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
	payload, key := []byte("m00"), []byte(nil)
	if l.props.Keys != broker.KeysNone {
		key = []byte("k00")
	}
	for i := range n {
		payload[1], payload[2] = '0'+byte(i/10), '0'+byte(i%10)
		if key != nil {
			copy(key[1:], payload[1:])
		}
		msg := broker.OutgoingMessage{Name: l.t.Name, Payload: payload, Key: key}
		// The buffer is written to the moment that Publish returns.
		err := e.call("Publish", func(ctx context.Context) error {
			defer clearWith(payload, '#')
			defer clearWith(key, '#')
			return l.pub.Publish(ctx, msg)
		})
		if err != nil {
			return fmt.Errorf("Publish: %w", err)
		}
		payload[0] = 'm'
		if key != nil {
			key[0] = 'k'
		}
	}
	want := make([]string, n)
	for i := range n {
		want[i] = fmt.Sprintf("m%02d", i)
	}
	ds, err := s.expect(want...)
	if err != nil {
		return err
	}
	for i, d := range ds {
		got, ok := broker.PartitionKey(d.IncomingMessage)
		if want := fmt.Sprintf("k%02d", i); key != nil && ok && string(got) != want {
			return fmt.Errorf("the key of %v is %q, published was %q", d, got, want)
		}
	}
	return ackAll(ds...)
}

func clearWith(p []byte, c byte) {
	for i := range p {
		p[i] = c
	}
}

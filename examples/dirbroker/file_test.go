package dirbroker

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"slices"
	"testing"

	"github.com/gostream/gostream/broker"
)

func TestFile(t *testing.T) {
	t.Parallel()
	for _, msg := range []broker.OutgoingMessage{
		{},
		{Payload: []byte("hello")},
		{Key: []byte{}, Payload: []byte{0, 0xff}},
		{Key: []byte("k"), Headers: broker.NewHeaders(
			broker.Header{Key: "A", Value: "1"}, broker.Header{Key: "a", Value: ""}, broker.Header{Key: "\x00", Value: "\xff\r\n"})},
	} {
		data := encode(&msg)
		c, err := decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(c.payload, msg.Payload) || !bytes.Equal(c.key, msg.Key) || (c.key == nil) != (msg.Key == nil) ||
			!slices.Equal(fields(c.headers), fields(msg.Headers)) {
			t.Errorf("%+v came back as %+v", msg, c)
		}
		// Whatever is cut off or changed is noticed.
		for i := range data {
			if _, err := decode(data[:i]); !errors.Is(err, errCorrupt) {
				t.Errorf("cut off at %d of %d: %v", i, len(data), err)
			}
			data[i] ^= 1
			if _, err := decode(data); !errors.Is(err, errCorrupt) {
				t.Errorf("changed at %d of %d: %v", i, len(data), err)
			}
			data[i] ^= 1
		}
	}
}

func fields(h broker.Headers) []broker.Header {
	var list []broker.Header
	for k, v := range h.All() {
		list = append(list, broker.Header{Key: k, Value: v})
	}
	return list
}

// The key must not grow into the payload behind it.
func TestKeyIsItsOwn(t *testing.T) {
	t.Parallel()
	c, err := decode(encode(&broker.OutgoingMessage{Key: []byte("k"), Payload: []byte("payload")}))
	if err != nil {
		t.Fatal(err)
	}
	_ = append(c.key, "xxxxxxxx"...)
	if string(c.payload) != "payload" {
		t.Errorf("the payload is %q", c.payload)
	}
}

// FuzzDecode looks behind the checksum: a file of somebody else may have a good one.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(encode(&broker.OutgoingMessage{Key: []byte("k"), Payload: []byte("p"), Headers: broker.NewHeaders(broker.Header{Key: "a", Value: "b"})})[prefixLen:])
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, body []byte) {
		data := append([]byte(magic), 0, 0, 0, 0)
		data = append(data, body...)
		binary.BigEndian.PutUint32(data[len(magic):], crc32.ChecksumIEEE(body))
		c, err := decode(data)
		if err != nil {
			return
		}
		again, err := decode(encode(&broker.OutgoingMessage{Key: c.key, Headers: c.headers, Payload: c.payload}))
		if err != nil || !bytes.Equal(again.payload, c.payload) || !bytes.Equal(again.key, c.key) || !slices.Equal(fields(again.headers), fields(c.headers)) {
			t.Errorf("%+v came back as %+v, %v", c, again, err)
		}
	})
}

package dirbroker

import (
	"encoding/binary"
	"errors"
	"hash/crc32"

	"github.com/gostream/gostream/broker"
)

// The content of a message's file, which is written once:
//
//	"gsd1"       4 bytes
//	checksum     4 bytes, CRC-32 (IEEE) of all that follows
//	key          uvarint: 0 for none, else its length + 1; then its bytes
//	headers      uvarint: how many; then for each the key and the value, each
//	             as uvarint length and bytes
//	payload      what is left
//
// Lengths stand before bytes, so that keys and headers hold any bytes, too.

const (
	magic     = "gsd1"
	prefixLen = len(magic) + crc32.Size
)

var errCorrupt = errors.New("the file is no message, or is damaged")

// content is a message as its file holds it.
type content struct {
	key     []byte // nil for none
	headers broker.Headers
	payload []byte
}

// encode returns the file of msg. It shares no memory with msg.
func encode(msg *broker.OutgoingMessage) []byte {
	size := prefixLen + 2*binary.MaxVarintLen64 + len(msg.Key) + len(msg.Payload)
	for k, v := range msg.Headers.All() {
		size += 2*binary.MaxVarintLen64 + len(k) + len(v)
	}
	p := append(make([]byte, 0, size), magic...)
	p = append(p, 0, 0, 0, 0)
	if msg.Key == nil {
		p = binary.AppendUvarint(p, 0)
	} else {
		p = binary.AppendUvarint(p, uint64(len(msg.Key))+1)
		p = append(p, msg.Key...)
	}
	p = binary.AppendUvarint(p, uint64(msg.Headers.Len()))
	for k, v := range msg.Headers.All() {
		for _, s := range [...]string{k, v} {
			p = binary.AppendUvarint(p, uint64(len(s)))
			p = append(p, s...)
		}
	}
	p = append(p, msg.Payload...)
	binary.BigEndian.PutUint32(p[len(magic):], crc32.ChecksumIEEE(p[prefixLen:]))
	return p
}

// decode reads a file. The content shares the memory of p.
func decode(p []byte) (content, error) {
	if len(p) < prefixLen || string(p[:len(magic)]) != magic ||
		binary.BigEndian.Uint32(p[len(magic):]) != crc32.ChecksumIEEE(p[prefixLen:]) {
		return content{}, errCorrupt
	}
	r := reader{rest: p[prefixLen:]}
	var c content
	if n := r.uvarint(); n > 0 {
		c.key = r.bytes(n - 1)
	}
	n := r.uvarint()
	if n > uint64(len(r.rest)) { // each takes at least two bytes
		return content{}, errCorrupt
	}
	fields := make([]broker.Header, n)
	for i := range fields {
		fields[i].Key = string(r.bytes(r.uvarint()))
		fields[i].Value = string(r.bytes(r.uvarint()))
	}
	if r.failed {
		return content{}, errCorrupt
	}
	c.headers = broker.NewHeaders(fields...)
	c.payload = r.rest
	return c, nil
}

// reader takes bytes from the front of rest. After a failure it returns nothing.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.rest)
	if n <= 0 {
		r.failed, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[n:]
	return v
}

// bytes returns the next n bytes, in a slice that cannot grow into what follows.
func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.failed, r.rest = true, nil
		return nil
	}
	p := r.rest[:n:n]
	r.rest = r.rest[n:]
	return p
}

package kafka

import (
	"errors"
	"fmt"
	"unicode/utf8"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream/broker"
)

var errHeaderKey = errors.New("a header key is not valid UTF-8")

// encodeHeaders returns the headers as the client takes them, nil for none. Kafka takes
// any value, and any key that is text.
func encodeHeaders(headers broker.Headers) ([]kgo.RecordHeader, error) {
	var list []kgo.RecordHeader
	for key, value := range headers.All() {
		if !utf8.ValidString(key) {
			return nil, fmt.Errorf("%w: %s", errHeaderKey, broker.Quote(key))
		}
		list = append(list, kgo.RecordHeader{Key: key, Value: []byte(value)})
	}
	return list, nil
}

// headerView shows the headers of a record that arrived. Its methods only read.
type headerView []kgo.RecordHeader

// Lookup returns the first value of key.
func (v headerView) Lookup(key string) (string, bool) {
	for i := range v {
		if broker.EqualKey(v[i].Key, key) {
			return text(v[i].Value), true
		}
	}
	return "", false
}

// Range calls yield for each field, in the order in which they were published.
func (v headerView) Range(yield func(key, value string) bool) {
	for i := range v {
		if !yield(v[i].Key, text(v[i].Value)) {
			return
		}
	}
}

// text returns the bytes of a header's value without a copy. Nobody writes to them: they
// lie in what was fetched, apart from the payload and the key, which alone are handed out
// as bytes, and the client reuses it only for a program that asks it to.
func text(value []byte) string { return unsafe.String(unsafe.SliceData(value), len(value)) }

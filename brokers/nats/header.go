package nats

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gostream/gostream/broker"
)

var (
	errHeaderKey      = errors.New("a header key is empty, or has a character that NATS does not take")
	errHeaderReserved = errors.New("a header key is reserved by NATS: Status, Description and all that begin with Nats-")
	errHeaderLine     = errors.New("a header value has a line end")
	errHeaderSpace    = errors.New("a header value begins or ends with white space")
)

// encodeHeader returns the headers and the key of msg as the client takes them, nil
// for none. What a message that arrived has passes. empty is where they go; with nil
// they get a map of their own.
func encodeHeader(msg *broker.OutgoingMessage, skip string, empty natsgo.Header) (natsgo.Header, error) {
	var h natsgo.Header
	add := func(key, value string) {
		if h == nil {
			if h = empty; h == nil {
				h = make(natsgo.Header)
			}
		}
		h[key] = append(h[key], value)
	}
	for key, value := range msg.Headers.All() {
		switch {
		case skip != "" && broker.EqualKey(key, skip), msg.Key != nil && broker.EqualKey(key, broker.HeaderKey):
			continue
		case !isHeaderKey(key):
			return nil, fmt.Errorf("%w: %s", errHeaderKey, broker.Quote(key))
		case isReserved(key):
			return nil, fmt.Errorf("%w: %s", errHeaderReserved, broker.Quote(key))
		}
		if err := checkHeaderValue(value); err != nil {
			return nil, fmt.Errorf("%w: the one of %s", err, broker.Quote(key))
		}
		if _, there := h[key]; !there {
			// One key in two spellings is one key: else the order of its values is lost.
			for spelt := range h {
				if broker.EqualKey(spelt, key) {
					key = spelt
					break
				}
			}
		}
		add(key, value)
	}
	if msg.Key != nil {
		add(broker.HeaderKey, escapeKey(msg.Key))
	}
	return h, nil
}

// headerMaps are empty ones. The client has written the headers of a Core publish when
// that returns: their map, by far the most that such a publish takes, can be used again.
var headerMaps = sync.Pool{New: func() any { return make(natsgo.Header) }}

// mostKept is how many headers a map may have had that is kept: it never shrinks.
const mostKept = 32

func freeHeader(h natsgo.Header) {
	if len(h) <= mostKept {
		clear(h)
		headerMaps.Put(h)
	}
}

func checkHeaderValue(v string) error {
	switch {
	case v == "":
		return nil
	case strings.ContainsAny(v, "\r\n"):
		return errHeaderLine
	case isBlank(v[0]) || isBlank(v[len(v)-1]):
		return errHeaderSpace
	}
	return nil
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// isHeaderKey follows ADR-4 of NATS, but for the separators of RFC 2616, which the
// client refuses.
func isHeaderKey(key string) bool {
	for i := range len(key) {
		if c := key[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"()/,:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return key != ""
}

const reservedPrefix = "Nats-"

// isReserved reports a key that means something to the server or to the client.
func isReserved(key string) bool {
	switch {
	case len(key) >= len(reservedPrefix) && broker.EqualKey(key[:len(reservedPrefix)], reservedPrefix):
		return true
	case len(key) == len("Status"):
		return broker.EqualKey(key, "Status")
	case len(key) == len("Description"):
		return broker.EqualKey(key, "Description")
	}
	return false
}

// headerView shows the headers of a message that arrived: those that encodeHeader
// would take. Its methods only read.
type headerView natsgo.Header

// Lookup returns the first value of key.
func (v headerView) Lookup(key string) (string, bool) {
	if len(v) == 0 || isReserved(key) {
		return "", false
	}
	if values := v[key]; len(values) > 0 {
		return visible(key, values)
	}
	for k, values := range v {
		if len(k) == len(key) && broker.EqualKey(k, key) {
			return visible(k, values)
		}
	}
	return "", false
}

// visible returns the first of values that can be shown.
func visible(key string, values []string) (string, bool) {
	if !isHeaderKey(key) {
		return "", false
	}
	for _, value := range values {
		if value, ok := shown(value); ok {
			return value, true
		}
	}
	return "", false
}

// shown returns value without the white space around it, which is not part of it.
func shown(value string) (string, bool) {
	value = strings.Trim(value, " \t")
	return value, strings.IndexByte(value, '\r') < 0
}

// Range calls yield for each field, the values of one key in their order.
func (v headerView) Range(yield func(key, value string) bool) {
	for key, values := range v {
		if isReserved(key) || !isHeaderKey(key) {
			continue
		}
		for _, value := range values {
			if value, ok := shown(value); ok && !yield(key, value) {
				return
			}
		}
	}
}

// native returns the first value of a header whoever it belongs to.
func native(h natsgo.Header, key string) string {
	if values := h[key]; len(values) > 0 {
		return values[0]
	}
	for k, values := range h {
		if broker.EqualKey(k, key) && len(values) > 0 {
			return values[0]
		}
	}
	return ""
}

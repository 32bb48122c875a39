package gostreamtest

import (
	"github.com/gostream/gostream"
)

// NewMessage makes a [gostream.Message] of a body, to call a handler by itself.
// Options set its key and headers; its name is "test" and its attempt the first. For
// other values see [gostream.NewMessage].
func NewMessage[T any](body T, opts ...gostream.PublishOption) gostream.Message[T] {
	msg, _ := outgoing("test", "", opts)
	o := &origin{name: msg.Name, key: msg.Key, headers: msg.Headers}
	return gostream.NewMessage(body, o.message(nil, nil), 1)
}

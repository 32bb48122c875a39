package memory

import (
	"errors"

	"github.com/gostream/gostream/broker"
)

var (
	// ErrFull: a queue had no room until the context of a Publish, a Request or a
	// Commit ended. The error also unwraps to the context's own error. Nothing was
	// published. A Commit of more messages for one queue than it can ever hold gets
	// it at once, without a context error.
	ErrFull = errors.New("queue is full")

	// ErrNoResponders: a Request went to a name to which no subscription is
	// attached. Nothing was published.
	ErrNoResponders = errors.New("no responders")
)

// kindOfBroker is how errors and descriptions name this broker.
const kindOfBroker = "memory"

// fail makes every error of this package that an operation returns. name is the
// subject of the operation, "" for none. kind is the category and cause what lies
// behind it; either may be nil.
func fail(op, name string, kind, cause error) error {
	return &broker.Error{Op: op, Broker: kindOfBroker, Name: name, Kind: kind, Err: cause}
}

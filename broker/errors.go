package broker

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The categories of errors. Ask with errors.Is. New ones may appear in later
// versions; a transport's own categories live in its module.
var (
	// ErrNotConnected: the operation came before Connect.
	ErrNotConnected = errors.New("not connected")
	// ErrClosed: the broker was shut down, or the subscription was closed.
	ErrClosed = errors.New("closed")
	// ErrSettled: the delivery was settled before.
	ErrSettled = errors.New("already settled")
	// ErrStale: the delivery is no longer ours.
	ErrStale = errors.New("delivery is stale")
	// ErrNotFound: the stream, topic or queue does not exist.
	ErrNotFound = errors.New("not found")
	// ErrTooLarge: the message is larger than the transport takes.
	ErrTooLarge = errors.New("message too large")
	// ErrInvalid: a name, header, option or setting that cannot be honoured.
	ErrInvalid = errors.New("invalid")
)

// Error is an operation of a broker that failed. It unwraps to its category and
// to the client's own error, so that errors.Is and errors.As find both.
type Error struct {
	// Op is the operation: "connect", "publish", "subscribe", "receive", "ack" …
	Op string
	// Broker is the kind of broker: "memory", "nats" …
	Broker string
	// Name is the subject, topic or queue; "" where there is none.
	Name string
	// Kind is the category, one of the sentinels; nil where none fits.
	Kind error
	// Err is the cause, usually the client's own error; nil where Kind says all.
	// Its text must not hold a credential.
	Err error
}

// Error returns "broker: op "name": category: cause". A name that is very long
// is shortened.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Broker)
	if e.Op != "" {
		b.WriteString(": ")
		b.WriteString(e.Op)
	}
	if e.Name != "" {
		b.WriteByte(' ')
		b.WriteString(Quote(e.Name))
	}
	if e.Kind != nil {
		b.WriteString(": ")
		b.WriteString(e.Kind.Error())
	}
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Is reports whether target is the category. errors.Is asks it before it unwraps, which
// allocates: the runtime asks for every message of a transport without acknowledgements.
func (e *Error) Is(target error) bool { return e.Kind != nil && e.Kind == target }

// Unwrap returns the category and the cause, those that are set.
func (e *Error) Unwrap() []error {
	switch {
	case e.Kind == nil && e.Err == nil:
		return nil
	case e.Kind == nil:
		return []error{e.Err}
	case e.Err == nil:
		return []error{e.Kind}
	default:
		return []error{e.Kind, e.Err}
	}
}

// maxQuoted is how much of a name an error text shows, in bytes.
const maxQuoted = 120

// Quote returns name in Go quotes for an error text, shortened when it is long:
// control characters and 64 KiB names do not spoil a log line.
func Quote(name string) string {
	if len(name) <= maxQuoted {
		return strconv.Quote(name)
	}
	return strconv.Quote(name[:maxQuoted]) + "… (" + strconv.Itoa(len(name)) + " bytes)"
}

// unsupported is the answer of a helper where v lacks the capability.
func unsupported(v any, what string) error {
	return fmt.Errorf("%T: %s: %w", v, what, errors.ErrUnsupported)
}

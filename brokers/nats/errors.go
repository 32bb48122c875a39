package nats

import (
	"context"
	"errors"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/broker"
)

var (
	// ErrNoResponders: nobody listens on the subject of a Request. The server says so
	// at once. It is the client's own error.
	ErrNoResponders = natsgo.ErrNoResponders

	// ErrConflict: the stream was not where [PublishOptions] expected it, and nothing
	// was stored.
	ErrConflict = errors.New("the stream is not where it was expected")

	// ErrSlowConsumer: messages arrived faster than they were received, and the client
	// dropped some. It comes with broker.EventSlowConsumer only: the subscription goes
	// on. It is the client's own error.
	ErrSlowConsumer = natsgo.ErrSlowConsumer
)

// kindOfBroker is how errors and descriptions name this broker.
const kindOfBroker = "nats"

// fail makes every error of this package that an operation returns. name is the
// subject of the operation, "" for none. kind is the category and cause what lies
// behind it; either may be nil.
func fail(op, name string, kind, cause error) error {
	return &broker.Error{Op: op, Broker: kindOfBroker, Name: name, Kind: kind, Err: cause}
}

// The server's error codes that the client has no names for.
const (
	codeWrongLastMsgID jetstream.ErrorCode = 10070
	codeWrongStream    jetstream.ErrorCode = 10060
	codeStoreFailed    jetstream.ErrorCode = 10049
	codeHeaderTooLarge jetstream.ErrorCode = 10097
	codeTTLInvalid     jetstream.ErrorCode = 10165
	codeTTLDisabled    jetstream.ErrorCode = 10166
)

// categories says which category a client's error belongs to; the first that
// errors.Is finds decides. Errors that are not here have none.
var categories = []struct{ client, kind error }{
	{natsgo.ErrMaxPayload, broker.ErrTooLarge},
	{jetstream.ErrStreamMessageExceedsMaximum, broker.ErrTooLarge},
	{natsgo.ErrBadSubject, broker.ErrInvalid},
	{natsgo.ErrBadHeaderMsg, broker.ErrInvalid},
	{jetstream.ErrNoStreamResponse, broker.ErrNotFound},
	{errMadeAnew, broker.ErrNotFound},
	{jetstream.ErrStreamNotFound, broker.ErrNotFound},
	{jetstream.ErrConsumerNotFound, broker.ErrNotFound},
	{jetstream.ErrConsumerDoesNotExist, broker.ErrNotFound},
}

// fail translates an error of the client: the one place where that is done.
func (b *Broker) fail(op, name string, err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fail(op, name, nil, err)
	}
	for _, c := range categories {
		if errors.Is(err, c.client) {
			return fail(op, name, c.kind, err)
		}
	}
	if errors.Is(err, natsgo.ErrConnectionClosed) || errors.Is(err, natsgo.ErrConnectionDraining) || errors.Is(err, natsgo.ErrBadSubscription) {
		if b.life.isClosed() {
			return fail(op, name, broker.ErrClosed, err)
		}
		// The client has given up, which it does only where it was told to.
		return fail(op, name, broker.ErrNotConnected, err)
	}
	if api := apiError(err); api != nil {
		switch api.ErrorCode {
		case jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant, codeWrongLastMsgID, codeWrongStream:
			return fail(op, name, ErrConflict, err)
		case codeHeaderTooLarge:
			return fail(op, name, broker.ErrTooLarge, err)
		case codeTTLInvalid, codeTTLDisabled:
			return fail(op, name, broker.ErrInvalid, err)
		}
	}
	return fail(op, name, nil, err)
}

// apiError returns the server's own error in err, nil where there is none.
func apiError(err error) *jetstream.APIError {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api
	}
	var js jetstream.JetStreamError
	if errors.As(err, &js) {
		return js.APIError()
	}
	return nil
}

package otelgostream

import (
	"context"
	"errors"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// known are the categories of errors that gostream tells apart. The first that matches
// is the error's.
var known = []struct {
	is   error
	name string
}{
	{gostream.ErrUndecodable, "undecodable"},
	{gostream.ErrGoexit, "goexit"},
	{gostream.ErrHandlerTimeout, "timeout"},
	{gostream.ErrShutdownTimeout, "shutdown"},
	{gostream.ErrNoReplyTo, "no_reply_to"},
	{gostream.ErrDeliveriesExceeded, "deliveries_exceeded"},
	{broker.ErrNotConnected, "not_connected"},
	{broker.ErrClosed, "closed"},
	{broker.ErrSettled, "settled"},
	{broker.ErrStale, "stale"},
	{broker.ErrNotFound, "not_found"},
	{broker.ErrTooLarge, "too_large"},
	{broker.ErrInvalid, "invalid"},
	{errors.ErrUnsupported, "unsupported"},
	{context.DeadlineExceeded, "timeout"},
	{context.Canceled, "canceled"},
}

// isFailure reports an error that says something went wrong: that a message is ignored,
// which the handler decides by an error, is none.
func isFailure(err error) bool {
	if err == nil {
		return false
	}
	o, decided := gostream.OutcomeOf(err)
	return !decided || o != gostream.OutcomeIgnored
}

// errorType is the attribute error.type of a failure: one of known, "panic", "remote",
// what the error's own ErrorType method says, else the name of its Go type, without what
// wraps it. There are as many as a program has types of errors.
func errorType(err error) attribute.KeyValue {
	var panicked *gostream.PanicError
	if errors.As(err, &panicked) {
		return keyErrorType.String("panic")
	}
	for _, k := range known {
		if errors.Is(err, k.is) {
			return keyErrorType.String(k.name)
		}
	}
	var remote *gostream.RemoteError
	if errors.As(err, &remote) {
		return keyErrorType.String("remote")
	}
	// What gostream wraps around a handler's error says nothing about it.
	for _, decided := gostream.OutcomeOf(err); decided; _, decided = gostream.OutcomeOf(err) {
		inner := errors.Unwrap(err)
		if inner == nil {
			break
		}
		err = inner
	}
	return semconv.ErrorType(err)
}

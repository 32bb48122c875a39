package otelgostream

import (
	"context"
	"errors"
	"fmt"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// known are the categories of errors that gostream tells apart. The first that matches
// is the error's.
var known = []struct {
	is   error
	name string
}{
	{gostream.ErrUndecodable, typeUndecodable},
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

const (
	// typePanic is the type of a panic, and of an error whose methods panic, as gostream
	// sees it.
	typePanic       = "panic"
	typeUndecodable = "undecodable"
)

// failure is what there is to say about an error.
type failure struct {
	kind string // the attribute error.type; "" where nothing failed
	text string
}

// failureOf looks at an error that a handler or a middleware returned: it may be a typed
// nil, or else panic when it is asked. That a message is ignored, which the handler decides
// by an error, is no failure.
func failureOf(err error) (f failure) {
	if err == nil {
		return failure{}
	}
	defer func() {
		if r := recover(); r != nil {
			f = failure{typePanic, fmt.Sprintf("%T: a method of the error panicked: %v", err, r)}
		}
	}()
	if o, decided := gostream.OutcomeOf(err); decided && o == gostream.OutcomeIgnored {
		return failure{}
	}
	return failure{errorType(err), err.Error()}
}

// record puts the failure on a span.
func (f failure) record(span trace.Span) {
	if f.kind == "" || !span.IsRecording() {
		return
	}
	span.SetAttributes(keyErrorType.String(f.kind))
	span.SetStatus(codes.Error, bounded(f.text))
}

// errorType is the attribute error.type of a failure: one of known, "panic", "remote",
// what the error's own ErrorType method says, else the name of its Go type, without what
// wraps it. There are as many as a program has types of errors.
func errorType(err error) string {
	var panicked *gostream.PanicError
	if errors.As(err, &panicked) {
		return typePanic
	}
	for _, k := range known {
		if errors.Is(err, k.is) {
			return k.name
		}
	}
	var remote *gostream.RemoteError
	if errors.As(err, &remote) {
		return "remote"
	}
	// What gostream wraps around a handler's error says nothing about it.
	for _, decided := gostream.OutcomeOf(err); decided; _, decided = gostream.OutcomeOf(err) {
		inner := errors.Unwrap(err)
		if inner == nil {
			break
		}
		err = inner
	}
	return bounded(semconv.ErrorType(err).Value.AsString())
}

// batchErrors is broker.BatchErrors, also of an error that panics when it is asked.
func batchErrors(err error, n int) (each []error) {
	defer func() {
		if recover() != nil {
			each = make([]error, n)
			for i := range each {
				each[i] = err
			}
		}
	}()
	return broker.BatchErrors(err, n)
}

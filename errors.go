package gostream

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Errors that handlers' messages and the app's calls can meet. Ask with
// errors.Is; new ones may appear in later versions.
var (
	// ErrUndecodable: the payload could not be decoded into the handler's type, or
	// its content type has no codec. The error is an [*UndecodableError].
	ErrUndecodable = errors.New("gostream: undecodable payload")
	// ErrNoReplyTo: a message without a reply-to came to a ToReplyTo handler. The
	// handler was not called.
	ErrNoReplyTo = errors.New("gostream: the message has no reply-to")
	// ErrGoexit: a handler or middleware ended its goroutine with runtime.Goexit.
	ErrGoexit = errors.New("gostream: the handler called runtime.Goexit")
	// ErrDeliveriesExceeded: the message was delivered far more often than its
	// attempts explain; it probably ends the process each time.
	ErrDeliveriesExceeded = errors.New("gostream: delivered too often, the process seems to end on it")
	// ErrShutdownTimeout is the cause of a handler's context that was cancelled
	// because the drain took longer than [ShutdownTimeout].
	ErrShutdownTimeout = errors.New("gostream: the shutdown timeout has passed")
	// ErrHandlerTimeout is the cause of a handler's context that was cancelled by
	// [Timeout].
	ErrHandlerTimeout = errors.New("gostream: the handler's timeout has passed")
	// ErrStarted: the app was started before. An App runs once.
	ErrStarted = errors.New("gostream: the app was started before")
	// ErrUnknownSubscription: no subscription of the app has that name.
	ErrUnknownSubscription = errors.New("gostream: no such subscription")
)

// UndecodableError is a payload that could not be decoded. It is [ErrUndecodable].
type UndecodableError struct {
	// ContentType is what the message declared; "" for nothing.
	ContentType string
	// Err is the codec's error, or says that no codec is known.
	Err error
}

// Error describes the failure. The codec's error may quote a value of the payload.
func (e *UndecodableError) Error() string {
	if e.ContentType == "" {
		return "undecodable payload: " + e.Err.Error()
	}
	return fmt.Sprintf("undecodable payload (content-type %q): %v", e.ContentType, e.Err)
}

// Unwrap returns the codec's error.
func (e *UndecodableError) Unwrap() error { return e.Err }

// Is reports whether target is [ErrUndecodable].
func (e *UndecodableError) Is(target error) bool { return target == ErrUndecodable }

// PanicError is a panic that was recovered in a handler, a middleware, a codec or
// a hook.
type PanicError struct {
	// Value is what panic was called with.
	Value any
	// Stack is the stack of the panicking goroutine.
	Stack []byte
}

// errorf is fmt.Errorf with the package's name before it.
func errorf(format string, args ...any) error {
	return fmt.Errorf("gostream: "+format, args...)
}

// Error says what was panicked with, without the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns the value where it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// ReplyError is a reply that could not be encoded or published. The incoming
// message is not acknowledged.
type ReplyError struct {
	// Name is where the reply was to go.
	Name string
	// Err is the cause.
	Err error
}

// Error names the destination and the cause.
func (e *ReplyError) Error() string { return fmt.Sprintf("reply to %q: %v", e.Name, e.Err) }

// Unwrap returns the cause.
func (e *ReplyError) Unwrap() error { return e.Err }

// RemoteError is a responder's error that came back as the reply to a request.
type RemoteError struct {
	// Name is where the request went.
	Name string
	// Message is the error's text, as the responder sent it.
	Message string
}

// Error names the request's destination and the responder's error.
func (e *RemoteError) Error() string {
	return fmt.Sprintf("request to %q: the responder failed: %s", e.Name, e.Message)
}

// DrainReport says what a drain did with the messages that were in hand when it
// began.
type DrainReport struct {
	// Finished were handled to their end: acknowledged, dead-lettered, rejected,
	// ignored.
	Finished int
	// GivenBack were returned to the broker, or left unsettled for it to redeliver.
	GivenBack int
	// Abandoned are handlers that ignored their cancelled context and still ran
	// at the end. The broker redelivers their messages where it can.
	Abandoned int
	// Lost were received from a transport that does not redeliver and not handled.
	Lost int
	// Took is how long the drain took, the brokers' shutdown included.
	Took time.Duration
}

// DrainError is a shutdown that was not clean: handlers were abandoned, messages
// lost, or hooks or brokers failed.
type DrainError struct {
	DrainReport
	// Errs are the errors of shutdown hooks and brokers; may be empty.
	Errs []error
}

// Error gives the counts and the errors.
func (e *DrainError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "gostream: drain was not clean: %d finished, %d given back, %d abandoned, %d lost", e.Finished, e.GivenBack, e.Abandoned, e.Lost)
	for _, err := range e.Errs {
		b.WriteString("; ")
		b.WriteString(err.Error())
	}
	return b.String()
}

// Unwrap returns Errs.
func (e *DrainError) Unwrap() []error { return e.Errs }

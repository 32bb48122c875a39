package gostream

import (
	"errors"
	"runtime/debug"
)

// User code (handlers, middleware, codecs, hooks) may panic, and may end its
// goroutine with runtime.Goexit, as t.FailNow does. A function that calls it sets
// returned when the code has returned, and defers one of these. A Goexit is what
// neither returned nor panicked.

// catchPanic, deferred, turns a panic into *err. A Goexit goes on; an outer function
// deals with it.
func catchPanic(returned *bool, err *error) {
	if *returned {
		return
	}
	if v := recover(); v != nil {
		*err = newPanicError(v)
	}
}

// abruptEnd is the error of code that did not return; v is what recover answered.
func abruptEnd(v any) error {
	if v == nil {
		return ErrGoexit
	}
	return newPanicError(v)
}

// newPanicError is called by the deferred function that recovered v, or by one that
// it calls: the stack is then that of the panic.
func newPanicError(v any) *PanicError { return &PanicError{Value: v, Stack: debug.Stack()} }

// tame returns err, or, where a method of it panics when it is asked what it is, that
// panic: so that an error of the user's, a typed nil for one, cannot end the process.
func tame(err error) (tamed error) {
	defer func() {
		if v := recover(); v != nil {
			tamed = newPanicError(v)
		}
	}()
	var p *PanicError
	errors.As(err, &p)
	errors.Is(err, ErrUndecodable)
	_ = err.Error()
	return err
}

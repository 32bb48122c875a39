package gostream

import (
	"errors"
	"fmt"
)

// Each is the error of a batch handler that settles its messages one by one:
// errs[i] decides about the i-th message of the slice, as an error returned by a
// handler of single messages would; nil acknowledges it. It must have as many
// entries as the slice; else all fail. Where every entry is nil, Each is nil.
//
// Outside of a batch handler it is an ordinary error that joins errs.
func Each(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return &eachError{errs}
		}
	}
	return nil
}

// eachError is what Each returns. errs has at least one that is not nil.
type eachError struct{ errs []error }

func (e *eachError) Error() string {
	n := 0
	var first error
	for _, err := range e.errs {
		if err != nil {
			n++
			if first == nil {
				first = err
			}
		}
	}
	return fmt.Sprintf("%d of %d messages failed: %v", n, len(e.errs), first)
}

func (e *eachError) Unwrap() []error {
	var errs []error
	for _, err := range e.errs {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// asEach finds an Each in err.
func asEach(err error) (e *eachError, ok bool) {
	ok = errors.As(err, &e)
	return e, ok
}

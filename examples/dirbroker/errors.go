package dirbroker

import (
	"errors"
	"io/fs"

	"github.com/gostream/gostream/broker"
)

// fail makes every error of this package that an operation returns. kind is the
// category and may be nil; cause is what lies behind it and may be nil, too.
func fail(op, name string, kind, cause error) error {
	if kind == nil && errors.Is(cause, fs.ErrNotExist) {
		kind = broker.ErrNotFound // a folder was removed
	}
	return &broker.Error{Op: op, Broker: "dir", Name: name, Kind: kind, Err: cause}
}

package kafka

import (
	"errors"
	"fmt"

	"github.com/gostream/gostream/broker"
)

// mistakes are those that the Check of a source finds.
type mistakes []error

// add adds a mistake; nil is none.
func (m *mistakes) add(err error) {
	if err != nil {
		*m = append(*m, err)
	}
}

// of returns all of them, and a broker of another kind, in one error.
func (m mistakes) of(source fmt.Stringer, name string, b broker.Broker) error {
	err := errors.Join(m...)
	if err != nil {
		err = fmt.Errorf("%s: %w", source, err)
	}
	if n, ok := b.(*Broker); !ok || n == nil {
		err = errors.Join(err, fmt.Errorf("%s cannot subscribe on %T: it needs a *kafka.Broker", source, b))
	}
	if err != nil {
		return fail("check", name, broker.ErrInvalid, err)
	}
	return nil
}

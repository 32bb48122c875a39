package memory

import (
	"errors"
	"fmt"
)

// DefaultCapacity is how many messages that were not yet received a queue holds
// unless [Capacity] says otherwise.
const DefaultCapacity = 65_536

// Option configures a broker made by [New].
type Option interface {
	applyBroker(*brokerSettings)
}

// StoreOption configures a store made by [NewStore]. It may be given to [New] as
// well, where it configures the broker's own store.
type StoreOption interface {
	Option
	applyStore(*storeSettings)
}

// storeSettings is what the options of a store set.
type storeSettings struct {
	capacity   int
	maxPayload int
	mistakes   []error
}

// brokerSettings is what the options of a broker set.
type brokerSettings struct {
	store    *Store
	on       bool          // On was given
	own      []StoreOption // for the broker's own store
	mistakes []error
}

// Capacity bounds how many messages that were not yet received each queue and
// each backlog of the store holds. The default is [DefaultCapacity]; n < 1 is a
// mistake that Check reports. A publisher waits while a queue is full; see
// [ErrFull]. What was received and came back does not count.
func Capacity(n int) StoreOption {
	return storeOption(func(s *storeSettings) {
		if n < 1 {
			s.mistakes = append(s.mistakes, fmt.Errorf("memory.Capacity(%d): a queue must hold at least one message", n))
			return
		}
		s.capacity = n
	})
}

// MaxPayload bounds the payload of a message, in bytes; publishing a larger one
// answers broker.ErrTooLarge. The default, 0, is no limit; n < 0 is a mistake that
// Check reports. Keys and headers do not count.
func MaxPayload(n int) StoreOption {
	return storeOption(func(s *storeSettings) {
		if n < 0 {
			s.mistakes = append(s.mistakes, fmt.Errorf("memory.MaxPayload(%d): the limit must not be negative; 0 is no limit", n))
			return
		}
		s.maxPayload = n
	})
}

// On makes the broker a connection to store, which other brokers may share.
// Without it the broker has a store of its own. A nil store, and On together with
// a [StoreOption], are mistakes that Check reports: the options of a shared store
// belong to [NewStore].
func On(store *Store) Option {
	return brokerOption(func(s *brokerSettings) {
		if s.on {
			s.mistakes = append(s.mistakes, errors.New("memory.On was given twice: a broker is a connection to one store"))
		}
		s.on = true
		if store == nil {
			s.mistakes = append(s.mistakes, errors.New("memory.On(nil): make the store with memory.NewStore"))
			return
		}
		s.store = store
	})
}

type storeOption func(*storeSettings)

func (o storeOption) applyStore(s *storeSettings) { o(s) }

func (o storeOption) applyBroker(s *brokerSettings) { s.own = append(s.own, o) }

type brokerOption func(*brokerSettings)

func (o brokerOption) applyBroker(s *brokerSettings) { o(s) }

package nats

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	natsgo "github.com/nats-io/nats.go"
)

// settlements sends acknowledgements and remembers them until the server has answered
// something that was sent behind them. What was on its way when the connection broke is
// sent again on the next one: an acknowledgement that comes twice is one.
type settlements struct {
	nc *natsgo.Conn

	flushing chan struct{} // held by whoever flushes

	mu         sync.Mutex
	sent       []settlement
	generation uint64 // of the connection that sent has gone through, all of it

	due  chan struct{} // holds a token when something was sent
	done chan struct{} // closed when the loop has ended
}

// settlement is what was published to settle a message.
type settlement struct {
	reply string
	body  []byte
}

// settleInterval is how long acknowledgements are collected before the server is asked.
const settleInterval = 200 * time.Millisecond

func newSettlements(nc *natsgo.Conn) *settlements {
	return &settlements{nc: nc, generation: generation(nc), flushing: make(chan struct{}, 1), due: make(chan struct{}, 1), done: make(chan struct{})}
}

// generation numbers the connections that nc has had.
func generation(nc *natsgo.Conn) uint64 { return nc.Stats().Reconnects }

// send publishes a settlement.
func (s *settlements) send(reply string, body []byte) error {
	s.mu.Lock()
	err := s.nc.Publish(reply, body)
	first := false
	if err == nil {
		first = len(s.sent) == 0
		s.sent = append(s.sent, settlement{reply, body})
	}
	s.mu.Unlock()
	if first {
		s.nudge()
	}
	return err
}

func (s *settlements) nudge() {
	select {
	case s.due <- struct{}{}:
	default:
	}
}

// again sends everything again that went through an earlier connection, and returns how
// many wait for the server's answer on which one.
func (s *settlements) again() (n int, on uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	on = generation(s.nc)
	if on != s.generation {
		for _, a := range s.sent {
			if err := s.nc.Publish(a.reply, a.body); err != nil {
				return 0, on, err
			}
		}
		s.generation = on
	}
	return len(s.sent), on, nil
}

// flush returns when the server has seen everything that was sent, settlements and what
// was published before. When the connection is lost meanwhile it goes on with the next one
// for the sake of settlements; where there are none it answers natsgo.ErrDisconnected.
func (s *settlements) flush(ctx context.Context) error {
	select {
	case s.flushing <- struct{}{}:
		defer func() { <-s.flushing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		n, on, err := s.again()
		if err != nil {
			return err
		}
		err = roundTrip(ctx, s.nc)
		if err != nil && (n == 0 || !errors.Is(err, natsgo.ErrDisconnected)) {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err != nil || generation(s.nc) != on {
			continue // nobody knows which connection has answered
		}
		s.forget(n)
		return nil
	}
}

// adopt takes over what the server may not have seen on another connection.
func (s *settlements) adopt(from *settlements) {
	from.mu.Lock()
	sent := from.sent
	from.sent = nil
	from.mu.Unlock()
	s.mu.Lock()
	s.sent = append(s.sent, sent...)
	s.generation = noGeneration
	s.mu.Unlock()
	s.nudge()
}

// noGeneration is that of what was sent on another connection.
const noGeneration = math.MaxUint64

// forget drops the first n.
func (s *settlements) forget(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n = min(n, len(s.sent)) // another connection may have adopted them
	rest := copy(s.sent, s.sent[n:])
	clear(s.sent[rest:])
	s.sent = s.sent[:rest]
}

// waiting is how many settlements the server may not have seen.
func (s *settlements) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sent)
}

// run asks the server from time to time, until ctx ends.
func (s *settlements) run(ctx context.Context) {
	defer close(s.done)
	for {
		select {
		case <-s.due:
		case <-ctx.Done():
			return
		}
		if !wait(ctx, settleInterval) {
			return
		}
		asking, cancel := context.WithTimeout(ctx, requestTimeout)
		_ = s.flush(asking) // what failed is tried again
		cancel()
		if s.waiting() > 0 {
			s.nudge()
		}
	}
}

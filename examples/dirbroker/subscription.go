package dirbroker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/gostream/gostream/broker"
)

// subscription reads one queue. Nothing is fetched ahead: a message is claimed by
// the Receive that returns it, so that Close has nothing to give back and a Receive
// that is cancelled has nothing to lose.
type subscription struct {
	b     *Broker
	q     *queue
	limit int
	wake  chan struct{} // capacity 1: a signal is remembered and never blocks

	mu        sync.Mutex
	closed    bool
	unsettled int

	// The last listing of the queue: what was not tried yet, and until when it holds.
	listed    []entry
	until     time.Time
	comebacks uint64
}

// Receive returns the next message. A ctx that has ended takes nothing. An error of
// the file system is returned as it is; the message that it concerns is not lost, and
// Receive may be called again.
func (s *subscription) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	for {
		d, err := s.next(ctx)
		switch {
		case errors.Is(err, errCorrupt):
			s.b.config.Logger.LogAttrs(ctx, slog.LevelError, "dirbroker: a file is no message and was set aside",
				slog.String("queue", s.q.name), slog.String("folder", s.q.in(corruptDir)), slog.Any("error", err))
			continue
		case err != nil:
			return nil, err
		case d != nil:
			return d, nil
		}
		poll := time.NewTimer(s.b.config.Poll)
		select {
		case <-s.wake:
		case <-poll.C:
		case <-ctx.Done():
		}
		poll.Stop()
	}
}

// next claims the next message; nil where Receive must wait.
func (s *subscription) next(ctx context.Context) (*delivery, error) {
	if err := s.b.enter("receive", s.q.name); err != nil {
		return nil, err
	}
	defer s.b.leave()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fail("receive", s.q.name, broker.ErrClosed, nil)
	}
	if err := ctx.Err(); err != nil {
		return nil, fail("receive", s.q.name, nil, err)
	}
	if s.unsettled >= s.limit {
		return nil, nil
	}
	d, err := s.claim()
	if d == nil && err == nil {
		err = s.q.reclaim(ctx)
	}
	if err != nil {
		return nil, fail("receive", s.q.name, nil, err)
	}
	return d, nil
}

// claim claims the first message that can be had.
func (s *subscription) claim() (*delivery, error) {
	for {
		e, ok, err := s.first()
		if err != nil || !ok {
			return nil, err
		}
		mine, c, err := s.q.claim(e)
		if errors.Is(err, errTaken) {
			continue
		}
		if err != nil {
			return nil, err
		}
		s.unsettled++
		return &delivery{s: s, entry: mine, content: c}, nil
	}
}

// first returns the first message of the listing, which it renews where it is used
// up or out of date. Listing for every message would cost the square of the backlog.
func (s *subscription) first() (e entry, ok bool, err error) {
	comebacks := s.q.comebacks()
	if len(s.listed) == 0 || comebacks != s.comebacks || time.Now().After(s.until) {
		entries, err := s.q.list(readyDir)
		if err != nil {
			return entry{}, false, err
		}
		now := time.Now()
		s.listed, s.until, s.comebacks = entries[:0], now.Add(reclaimEvery), comebacks
		for _, e := range entries {
			if due := time.Unix(0, e.due); e.due == 0 || !due.After(now) {
				s.listed = append(s.listed, e)
			} else if due.Before(s.until) {
				s.until = due
			}
		}
		if len(s.listed) == 0 {
			return entry{}, false, nil
		}
	}
	e, s.listed = s.listed[0], s.listed[1:]
	return e, true, nil
}

// signal makes a Receive that waits look again, or the next one that would wait.
func (s *subscription) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// settled makes room below the limit.
func (s *subscription) settled() {
	s.mu.Lock()
	s.unsettled--
	s.mu.Unlock()
	s.signal()
}

// Close stops the intake. It waits for nothing but a claim that has begun, so that
// ctx is not asked.
func (s *subscription) Close(context.Context) error {
	s.mu.Lock()
	s.closed, s.listed = true, nil
	s.mu.Unlock()
	s.q.detach(s)
	s.signal()
	return nil
}

// Lag is how many messages of the queue wait, those included whose delay has not
// passed. The subscriptions of a queue share its lag.
func (s *subscription) Lag(ctx context.Context) (int64, error) {
	if err := s.b.enter("lag", s.q.name); err != nil {
		return 0, err
	}
	defer s.b.leave()
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return 0, fail("lag", s.q.name, broker.ErrClosed, nil)
	}
	err := ctx.Err()
	if err == nil {
		var waiting []entry
		if waiting, err = s.q.list(readyDir); err == nil {
			return int64(len(waiting)), nil
		}
	}
	return 0, fail("lag", s.q.name, nil, err)
}

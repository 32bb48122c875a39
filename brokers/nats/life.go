package nats

import (
	"context"
	"sync/atomic"

	"github.com/gostream/gostream/broker"
)

// life says in which of its three states the broker is, and counts the operations
// that are under way, so that Shutdown can wait for them.
type life struct {
	state   atomic.Int32 // notConnected, connected or closed
	running atomic.Int64
	idle    chan struct{} // holds one token when the last one ended after closing
}

const (
	notConnected = iota
	connected
	closed
)

// enter begins an operation, or says why it cannot begin. After a nil the caller
// calls leave.
func (l *life) enter(op, name string) error {
	l.running.Add(1)
	if l.state.Load() == connected {
		return nil
	}
	l.leave()
	return l.refuse(op, name)
}

// stay begins an operation inside of another one, which has not left yet.
func (l *life) stay() { l.running.Add(1) }

func (l *life) leave() {
	if l.running.Add(-1) == 0 && l.state.Load() == closed {
		select {
		case l.idle <- struct{}{}:
		default:
		}
	}
}

// refuse is the error of an operation in the present state, nil while connected.
func (l *life) refuse(op, name string) error {
	switch l.state.Load() {
	case connected:
		return nil
	case closed:
		return fail(op, name, broker.ErrClosed, nil)
	default:
		return fail(op, name, broker.ErrNotConnected, nil)
	}
}

func (l *life) isClosed() bool { return l.state.Load() == closed }

// end closes the door and waits until all who are inside have left, or ctx ends.
func (l *life) end(ctx context.Context) {
	l.state.Store(closed)
	for l.running.Load() > 0 {
		select {
		case <-l.idle:
		case <-ctx.Done():
			return
		}
	}
}

package gostreamtest

import (
	"sync"
	"time"

	"github.com/gostream/gostream/broker"
)

// rest counts what is not at rest: every copy of a message from its publish until the
// runtime has finished with it, and every hook that has not run.
type rest struct {
	mu      sync.Mutex
	tokens  int
	parked  map[broker.IncomingMessage]time.Time // held for a retry: the runtime waits, nothing runs
	failure string                               // the first thing that must end the test
	change  chan struct{}                        // closed at the next change; nil where nobody waits
}

func (r *rest) hold(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokens += n
}

func (r *rest) release(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tokens -= n
	r.tell()
}

func (r *rest) park(m broker.IncomingMessage, until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parked[m] = until
	r.tell()
}

func (r *rest) unpark(m broker.IncomingMessage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.parked, m)
}

// fail ends the test at the next look. The first failure counts.
func (r *rest) fail(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure == "" {
		r.failure = why
	}
	r.tell()
}

func (r *rest) changed() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tell()
}

// tell wakes those who wait; mu is held.
func (r *rest) tell() {
	if r.change != nil {
		close(r.change)
		r.change = nil
	}
}

// look returns how many tokens and parked messages there are, the failure, and a
// channel that is closed when any of it has changed.
func (r *rest) look() (tokens, parked int, failure string, change <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.change == nil {
		r.change = make(chan struct{})
	}
	return r.tokens, len(r.parked), r.failure, r.change
}

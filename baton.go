package gostream

import "sync"

// baton is the right to receive: of the workers of a subscription one has it at a
// time. A mutex and a condition cost a seventh of a channel of capacity 1, and a
// worker that comes back soon takes it again without waking another one.
type baton struct {
	mu      sync.Mutex
	free    sync.Cond
	held    bool
	waiting int // workers that wait for it
}

func newBaton() *baton {
	b := new(baton)
	b.free.L = &b.mu
	return b
}

// take waits for the baton.
func (b *baton) take() {
	b.mu.Lock()
	for b.held {
		b.waiting++
		b.free.Wait()
		b.waiting--
	}
	b.held = true
	b.mu.Unlock()
}

// give lets the baton go, and reports whether somebody waits for it.
func (b *baton) give() (awaited bool) {
	b.mu.Lock()
	b.held = false
	awaited = b.waiting > 0
	b.mu.Unlock()
	if awaited {
		b.free.Signal()
	}
	return awaited
}

// isHeld reports whether a worker has it.
func (b *baton) isHeld() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held
}

package main

import (
	"sync"
	"sync/atomic"
)

// barrier lets so many messages pass as were allowed. One goroutine passes.
type barrier struct {
	passed  int64
	allowed atomic.Int64

	mu     sync.Mutex
	more   sync.Cond
	opened bool
}

func newBarrier() *barrier {
	b := &barrier{}
	b.more.L = &b.mu
	return b
}

// allow lets n more pass.
func (b *barrier) allow(n int64) {
	b.mu.Lock()
	b.allowed.Add(n)
	b.mu.Unlock()
	b.more.Signal()
}

// open lets all pass, which count no more.
func (b *barrier) open() {
	b.mu.Lock()
	b.opened = true
	b.mu.Unlock()
	b.more.Signal()
}

// pass waits until one more may pass; false means that the barrier is open.
func (b *barrier) pass() bool {
	if b.passed < b.allowed.Load() {
		b.passed++
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.passed >= b.allowed.Load() {
		if b.opened {
			return false
		}
		b.more.Wait()
	}
	b.passed++
	return true
}

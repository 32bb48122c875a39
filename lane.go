package gostream

import (
	"bytes"
	"cmp"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/internal/ring"
)

// lane is one of the n lanes of a subscription with ByKey. Messages of one key
// always take the same lane, and a lane handles one message at a time.
//
// A worker that receives a message for a free lane takes the lane and stays in it
// until it is empty; for a busy lane it leaves the message there and receives on.
// So a message hops to another goroutine only where its lane is busy.
//
// A failing key waits, not its lane: while a retry of it is parked, its later
// messages are put aside as they come up, and the lane goes on with other keys.
type lane struct {
	mu    sync.Mutex
	busy  bool            // a worker is in it
	front ring.Ring[task] // before queue: retries that are due, and what had waited for one
	queue ring.Ring[task] // in the order of arrival
	// waiting has the keys of which a retry is parked; nil until there is one.
	waiting map[string]*waitingKey
	blocked atomic.Int32 // len(waiting), to be asked without mu
}

// waitingKey is a key whose first message is parked.
type waitingKey struct {
	since  time.Duration // since the service began
	parked *frame
	behind ring.Ring[task] // its later messages, in order
}

// lanes are the lanes of a subscription.
type lanes struct {
	all  []lane
	seed maphash.Seed
	next int // for messages without a key: they take turns; the receiver's
}

func newLanes(n int) *lanes {
	return &lanes{all: make([]lane, n), seed: maphash.MakeSeed()}
}

// of returns the lane of a message that was just received.
func (l *lanes) of(m broker.IncomingMessage) *lane {
	key, _ := broker.PartitionKey(m)
	if key == nil {
		l.next = (l.next + 1) % len(l.all)
		return &l.all[l.next]
	}
	return &l.all[maphash.Bytes(l.seed, key)%uint64(len(l.all))]
}

// enter gives t to its lane. It reports true where the caller shall handle t now,
// and is in the lane; else the lane has kept t for the worker that is in it, or
// put it aside behind its key.
func (l *lane) enter(t task) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy {
		l.queue.Push(t)
		return false
	}
	if l.putAside(t) {
		return false
	}
	l.busy = true
	return true
}

// wake puts a due retry at the front. It reports true where no worker is in the
// lane, so that one must be sent.
func (l *lane) wake(t task) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.front.Push(t)
	return !l.busy
}

// take has the caller enter the lane for what waits in it; false where a worker is
// in it already, or nothing waits.
func (l *lane) take() (t task, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy {
		return task{}, false
	}
	return l.pop()
}

// another returns the next task of a lane that the caller is in; false means that
// there is none and that the caller has left the lane.
func (l *lane) another() (task, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pop()
}

// pop takes the next task that may run, and with it the lane; mu is held.
func (l *lane) pop() (task, bool) {
	for l.front.Len() > 0 {
		t := l.front.Pop()
		if t.parked != nil || !l.putAside(t) {
			l.busy = true
			return t, true
		}
	}
	for l.queue.Len() > 0 {
		t := l.queue.Pop()
		if !l.putAside(t) {
			l.busy = true
			return t, true
		}
	}
	l.busy = false
	return task{}, false
}

// putAside puts t behind its key where a retry of the key is parked; mu is held.
func (l *lane) putAside(t task) bool {
	if len(l.waiting) == 0 {
		return false
	}
	key, _ := broker.PartitionKey(t.msg)
	if key == nil {
		return false
	}
	w, ok := l.waiting[string(key)]
	if ok {
		w.behind.Push(t)
	}
	return ok
}

// block makes the key of f wait until unblock. A message without a key blocks
// nothing.
func (l *lane) block(f *frame, now time.Duration) {
	key := f.delivery.Key()
	if key == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	w, ok := l.waiting[string(key)]
	if !ok {
		if l.waiting == nil {
			l.waiting = make(map[string]*waitingKey)
		}
		w = &waitingKey{since: now}
		l.waiting[string(key)] = w
		l.blocked.Add(1)
	}
	w.parked = f
}

// unblock lets the messages go on that waited behind the key of f, before anything
// that arrived later. It is called by the worker that is in the lane.
func (l *lane) unblock(f *frame) {
	if l.blocked.Load() == 0 {
		return
	}
	key := f.delivery.Key()
	if key == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	w, ok := l.waiting[string(key)]
	if !ok {
		return
	}
	delete(l.waiting, string(key))
	l.blocked.Add(-1)
	if len(l.waiting) == 0 {
		l.waiting = nil // a map keeps the size that it once had
	}
	// Those of the key in front now, if any, came up before and stand in behind:
	// a key that waits has nothing that may run.
	for w.behind.Len() > 0 {
		l.front.Push(w.behind.Pop())
	}
}

// clear empties what waits behind parked retries and returns how many messages
// that were. It is called by the drain; a worker that is in the lane goes on.
func (l *lane) clear() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.waiting {
		n += w.behind.Len()
	}
	l.waiting = nil
	l.blocked.Store(0)
	if !l.busy {
		n += l.front.Len()
		l.front = ring.Ring[task]{}
	}
	return n
}

// StalledKey is a key whose messages wait for the retry of its first one.
type StalledKey struct {
	// Key is the partition key.
	Key []byte
	// For is for how long the key has waited.
	For time.Duration
	// Attempts is how often its first message was attempted.
	Attempts int
	// Waiting is how many messages wait behind that one.
	Waiting int
}

// maxStalledKeys bounds how many keys Health names.
const maxStalledKeys = 100

// stalled lists the keys that wait, the one that has waited longest first.
func (l *lanes) stalled(now time.Duration) (keys []StalledKey) {
	for i := range l.all {
		ln := &l.all[i]
		ln.mu.Lock()
		for key, w := range ln.waiting {
			keys = append(keys, StalledKey{
				Key: []byte(key), For: now - w.since,
				Attempts: w.parked.delivery.attempt, Waiting: w.behind.Len(),
			})
		}
		ln.mu.Unlock()
	}
	slices.SortFunc(keys, func(a, b StalledKey) int {
		return cmp.Or(cmp.Compare(b.For, a.For), bytes.Compare(a.Key, b.Key))
	})
	return keys[:min(len(keys), maxStalledKeys)]
}

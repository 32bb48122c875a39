package memory

import (
	"sync"
	"time"

	"github.com/gostream/gostream/internal/ring"
)

// queue holds the messages of one plain subscription, of one group, or of one name
// that nobody takes (a backlog). Subscriptions hold their unsettled deliveries
// themselves.
type queue struct {
	// Never changed.
	id    uint64 // locks of several queues are taken in the order of the ids
	store *Store
	key   queueKey
	kind  queueKind

	mu        sync.Mutex
	accepting bool                // false: out of the routes; a publisher must look up the name again
	fresh     ring.Ring[*Message] // never received
	returned  heap[returned]
	delayed   heap[delayed]
	attached  int             // open subscriptions
	subs      []*subscription // the open ones, and closed ones with unsettled deliveries
	readers   waiters         // open subscriptions that wait for a message and may take one
	writers   waiters         // publishers that wait for room
	timer     *time.Timer     // for the first of delayed; nil while nothing is attached
	armed     time.Time       // when the timer fires; zero where it is not armed
}

// queueKey says what a queue is for.
type queueKey struct {
	name  string // a concrete name or a pattern
	group string // "" for a plain subscription and for a backlog
}

type queueKind uint8

const (
	plainQueue queueKind = iota
	groupQueue
	backlogQueue
)

// room is how many messages a publisher may put in; below 0 where a backlog was
// larger than it.
func (q *queue) room() int { return q.store.capacity - q.fresh.Len() }

// available is how many messages could be received now.
func (q *queue) available() int { return q.fresh.Len() + q.returned.len() }

// waiting is how many messages the queue holds.
func (q *queue) waiting() int { return q.available() + q.delayed.len() }

// push puts a published message in. There must be room.
func (q *queue) push(m *Message, seq uint64) {
	m.q, m.seq = q, seq
	q.fresh.Push(m)
	q.readers.wakeOne()
}

// pop takes the message that is next. There must be one.
func (q *queue) pop() *Message {
	if q.returned.len() > 0 {
		return q.returned.pop().m
	}
	m := q.fresh.Pop()
	q.passRoom()
	return m
}

// giveBack puts a message in that was received before. The bound does not hold it
// up: a consumer that gives back to a full queue must not wait for itself.
func (q *queue) giveBack(m *Message) {
	m.q = q
	q.returned.push(returned{m})
	q.readers.wakeOne()
}

// passReader wakes a reader if there is something for it.
func (q *queue) passReader() {
	if q.readers.head != nil && q.available() > 0 {
		q.readers.wakeOne()
	}
}

// passRoom wakes the first publisher that waits, if there is room for what it has.
func (q *queue) passRoom() {
	if w := q.writers.head; w != nil && q.room() >= w.need {
		q.writers.wakeOne()
	}
}

// idle reports that nothing can come out of the queue or back into it.
func (q *queue) idle() bool { return len(q.subs) == 0 && q.waiting() == 0 }

// count returns how many messages of the name are here and not settled.
func (q *queue) count(name string) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for i := range q.fresh.Len() {
		if q.fresh.At(i).name == name {
			n++
		}
	}
	for _, r := range q.returned.items {
		if r.m.name == name {
			n++
		}
	}
	for _, d := range q.delayed.items {
		if d.m.name == name {
			n++
		}
	}
	for _, s := range q.subs {
		for m := s.first; m != nil; m = m.next {
			if m.name == name {
				n++
			}
		}
	}
	return n
}

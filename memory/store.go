package memory

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
)

// Store holds queues and their messages for the brokers that are connected to it.
// Make one with [NewStore]. It lives as long as somebody refers to it, needs no
// closing and starts no goroutine. All methods are safe for concurrent use.
type Store struct {
	capacity   int
	maxPayload int
	mistakes   []error

	seq     atomic.Uint64 // the number of the last publish
	inboxes inboxes

	// mu guards who takes which name. The order of the locks is: a broker's, this
	// one, those of queues by their ids, that of inboxes.
	mu       sync.RWMutex
	queueIDs uint64
	routes   map[string]*route   // a cache; see routes.go
	named    map[string][]*queue // attached plain queues and all group queues, by concrete name
	patterns []*queue            // the same for patterns
	groups   map[queueKey]*queue // all group queues
	detached map[string][]*queue // plain queues without a reader that are not idle, by name or pattern
	backlogs map[string]*queue   // by concrete name
}

// NewStore returns an empty store. It keeps the mistakes in its options for the
// Check of the brokers that are connected to it.
func NewStore(opts ...StoreOption) *Store {
	s := storeSettings{capacity: DefaultCapacity}
	for _, o := range opts {
		if o == nil {
			s.mistakes = append(s.mistakes, errors.New("memory: an option is nil"))
			continue
		}
		o.applyStore(&s)
	}
	st := &Store{
		capacity:   s.capacity,
		maxPayload: s.maxPayload,
		mistakes:   s.mistakes,
		named:      make(map[string][]*queue),
		groups:     make(map[queueKey]*queue),
		detached:   make(map[string][]*queue),
		backlogs:   make(map[string]*queue),
	}
	st.inboxes.store = storeIDs.Add(1)
	return st
}

// Len returns how many messages that were published to name the store holds:
// those that wait, those whose delay has not passed, and those that were delivered
// and are not settled. Each copy of a fan-out counts. It looks at every message of
// every queue that may hold the name, and is meant for tests and for operators.
func (st *Store) Len(name string) int {
	if checkName(name) != nil {
		return 0
	}
	st.mu.RLock()
	defer st.mu.RUnlock()
	n := 0
	for _, q := range st.takers(name) {
		n += q.count(name)
	}
	for key, queues := range st.detached {
		if match(key, name) {
			for _, q := range queues {
				n += q.count(name)
			}
		}
	}
	if q := st.backlogs[name]; q != nil {
		n += q.count(name)
	}
	return n
}

// newQueue returns a queue with the next id.
func (st *Store) newQueue(key queueKey, kind queueKind) *queue {
	st.queueIDs++
	return &queue{id: st.queueIDs, store: st, key: key, kind: kind}
}

// attach makes s a reader of the queue of its key: of the group's, of the oldest
// detached one, or of a new one.
func (st *Store) attach(s *subscription, key queueKey) {
	st.mu.Lock()
	defer st.mu.Unlock()
	var q *queue
	if key.group != "" {
		if q = st.groups[key]; q == nil {
			q = st.newQueue(key, groupQueue)
			st.groups[key] = q
		}
	} else if q = st.takeDetached(key.name); q == nil {
		q = st.newQueue(key, plainQueue)
	}

	// accepting changes under both locks: to read it one of them is enough.
	var inherited []*Message
	if !q.accepting {
		st.addTaker(q)
		inherited = st.takeBacklogs(key.name)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.accepting = true
	for _, m := range inherited {
		m.q = q
		q.fresh.Push(m) // without asking for room: these messages were accepted
	}
	s.q = q
	q.attached++
	q.subs = append(q.subs, s)
	q.release()
	q.arm()
}

// takeDetached removes and returns the oldest detached queue of name, nil where
// there is none.
func (st *Store) takeDetached(name string) *queue {
	queues := st.detached[name]
	if len(queues) == 0 {
		return nil
	}
	oldest := 0
	for i, q := range queues {
		if q.id < queues[oldest].id {
			oldest = i
		}
	}
	q := queues[oldest]
	st.setDetached(name, slices.Delete(queues, oldest, oldest+1))
	return q
}

func (st *Store) setDetached(name string, queues []*queue) {
	if len(queues) == 0 {
		delete(st.detached, name)
		return
	}
	st.detached[name] = queues
}

// takeBacklogs returns what waits in the backlogs of the names that match pattern,
// in publish order, and removes these backlogs. No other queue may be locked.
func (st *Store) takeBacklogs(pattern string) []*Message {
	var moved []*Message
	take := func(b *queue) {
		delete(st.backlogs, b.key.name)
		st.forgetRoute(b.key.name)
		b.mu.Lock()
		defer b.mu.Unlock()
		b.accepting = false
		b.writers.wakeAll()
		for b.fresh.Len() > 0 {
			moved = append(moved, b.fresh.Pop())
		}
	}
	if !hasWildcard(pattern) {
		if b := st.backlogs[pattern]; b != nil {
			take(b)
		}
		return moved
	}
	for name, b := range st.backlogs {
		if match(pattern, name) {
			take(b)
		}
	}
	slices.SortFunc(moved, func(a, b *Message) int { return cmp.Compare(a.seq, b.seq) })
	return moved
}

// removeEmptyBacklog removes a backlog that a transaction made and did not fill.
func (st *Store) removeEmptyBacklog(b *queue) {
	st.mu.Lock()
	defer st.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.accepting || b.fresh.Len() > 0 {
		return
	}
	b.accepting = false
	b.writers.wakeAll()
	delete(st.backlogs, b.key.name)
	st.forgetRoute(b.key.name)
}

// detach ends the intake of s. With takeBack its unsettled deliveries go back to
// the queue as well. It may be called again.
func (st *Store) detach(s *subscription, takeBack bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	q := s.q
	q.mu.Lock()
	defer q.mu.Unlock()
	left := false
	if !s.closed {
		s.closed = true
		q.readers.remove(&s.waiter)
		s.signal()
		q.attached--
		left = q.attached == 0
	}
	if takeBack {
		s.takeBack()
	}
	if s.unsettled == 0 {
		q.forget(s)
	}
	q.passReader() // s may have been woken for a message
	if !left {
		st.removeIdle(q)
		return
	}
	q.arm()
	if q.kind == groupQueue {
		return
	}
	q.accepting = false
	q.writers.wakeAll()
	st.removeTaker(q)
	st.detached[q.key.name] = append(st.detached[q.key.name], q)
	st.removeIdle(q)
}

// removeIdle removes q if it is detached and idle. Both locks are held.
func (st *Store) removeIdle(q *queue) {
	if q.kind != plainQueue || q.accepting || !q.idle() {
		return
	}
	name := q.key.name
	if i := slices.Index(st.detached[name], q); i >= 0 {
		st.setDetached(name, slices.Delete(st.detached[name], i, i+1))
	}
}

// lastSettled is called when a closed subscription of q has nothing unsettled any
// more.
func (st *Store) lastSettled(q *queue) {
	if q.kind != plainQueue {
		return
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	st.removeIdle(q)
}

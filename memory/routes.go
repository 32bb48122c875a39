package memory

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"
)

// route says which queues take a concrete name. It is never changed: when the
// answer may be another, it is marked stale, and the next publish asks again. That
// a route exists shows that its name is valid.
type route struct {
	name   string
	queues []*queue // in the order of their ids
	stale  atomic.Bool
}

// routesKept is how many routes the cache holds beyond twice the number of names
// with a subscription of their own. It bounds what publishing to ever new names
// under a pattern costs in memory.
const routesKept = 4096

// route returns the cached route of name, nil where there is none.
func (st *Store) route(name string) *route {
	st.mu.RLock()
	r := st.routes[name]
	st.mu.RUnlock()
	return r
}

// resolve returns the route of a valid name. Where nobody takes the name, it leads
// to the name's backlog, or, without backlog, is nil.
func (st *Store) resolve(name string, backlog bool) *route {
	st.mu.Lock()
	defer st.mu.Unlock()
	if r := st.routes[name]; r != nil {
		return r
	}
	name = strings.Clone(name) // it may be a piece of something large
	queues := st.takers(name)
	if len(queues) == 0 {
		b := st.backlogs[name]
		if b == nil {
			if !backlog {
				return nil
			}
			b = st.newQueue(queueKey{name: name}, backlogQueue)
			b.accepting = true
			st.backlogs[name] = b
		}
		queues = append(queues, b)
	}
	slices.SortFunc(queues, func(a, b *queue) int { return cmp.Compare(a.id, b.id) })
	r := &route{name: name, queues: queues}
	if len(st.routes) >= routesKept+2*len(st.named) {
		st.forgetRoutes()
	}
	if st.routes == nil {
		st.routes = make(map[string]*route)
	}
	st.routes[name] = r
	return r
}

// takers returns a new list of the queues that take the valid name.
func (st *Store) takers(name string) []*queue {
	queues := slices.Clone(st.named[name])
	for _, q := range st.patterns {
		if match(q.key.name, name) {
			queues = append(queues, q)
		}
	}
	return queues
}

// addTaker makes q take what its name or pattern matches.
func (st *Store) addTaker(q *queue) {
	name := q.key.name
	if hasWildcard(name) {
		st.patterns = append(st.patterns, q)
		st.forgetRoutes()
		return
	}
	st.named[name] = append(st.named[name], q)
	st.forgetRoute(name)
}

// removeTaker is the opposite of addTaker.
func (st *Store) removeTaker(q *queue) {
	name := q.key.name
	if hasWildcard(name) {
		if i := slices.Index(st.patterns, q); i >= 0 {
			st.patterns = slices.Delete(st.patterns, i, i+1)
		}
		st.forgetRoutes()
		return
	}
	queues := st.named[name]
	if i := slices.Index(queues, q); i >= 0 {
		queues = slices.Delete(queues, i, i+1)
	}
	if len(queues) == 0 {
		delete(st.named, name)
	} else {
		st.named[name] = queues
	}
	st.forgetRoute(name)
}

// forgetRoute takes the route of name out of the cache.
func (st *Store) forgetRoute(name string) {
	if r := st.routes[name]; r != nil {
		r.stale.Store(true)
		delete(st.routes, name)
	}
}

// forgetRoutes empties the cache. It gives the memory up as well: emptying a large
// map again and again would cost more than filling a new one.
func (st *Store) forgetRoutes() {
	for _, r := range st.routes {
		r.stale.Store(true)
	}
	st.routes = nil
}

// outcome is how an attempt to put messages into their queues ended.
type outcome uint8

const (
	placed   outcome = iota
	outdated         // a queue left the routes: look the name up again
	full             // a queue has no room
	nobody           // an attached subscription was asked for, and there is none
)

// put puts copies[i] into queues[i] of the route: all of them at one moment, or
// none. Where a queue is full it returns that queue, and w, unless nil, waits there
// for room. With ask there must be an attached subscription.
func (r *route) put(copies []*Message, ask bool, w *waiter) (outcome, *queue) {
	lockAll(r.queues)
	defer unlockAll(r.queues)
	attached := 0
	for _, q := range r.queues {
		if !q.accepting {
			return outdated, nil
		}
		attached += q.attached
	}
	if ask && attached == 0 {
		return nobody, nil
	}
	for _, q := range r.queues {
		if q.room() <= 0 {
			if w != nil {
				w.need = 1
				q.writers.add(w)
			}
			return full, q
		}
	}
	seq := r.queues[0].store.seq.Add(1)
	for i, q := range r.queues {
		q.push(copies[i], seq)
	}
	return placed, nil
}

// lockAll locks queues, which are in the order of their ids.
func lockAll(queues []*queue) {
	for _, q := range queues {
		q.mu.Lock()
	}
}

func unlockAll(queues []*queue) {
	for _, q := range queues {
		q.mu.Unlock()
	}
}

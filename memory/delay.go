package memory

import "time"

// A message that is nacked with a delay waits in the heap delayed of its queue
// until it is due, then it is returned. One timer per queue stands for all of
// them. It runs only while a subscription is attached, because nobody else could
// receive; and it is made by the call that needs it, so that the time of a
// testing/synctest bubble is the time of the subscription.

// giveBackAt puts a received message in that comes again at due.
func (q *queue) giveBackAt(m *Message, due time.Time) {
	m.q = q
	q.delayed.push(delayed{due, m})
	q.arm()
}

// arm sets the timer for the message that is due first, or stops it.
func (q *queue) arm() {
	if q.attached == 0 {
		// A later subscription may live in another synctest bubble: it makes its own.
		if q.timer != nil {
			q.timer.Stop()
		}
		q.timer, q.armed = nil, time.Time{}
		return
	}
	if q.delayed.len() == 0 {
		return
	}
	due := q.delayed.first().due
	if due.Equal(q.armed) {
		return
	}
	q.armed = due
	if q.timer == nil {
		q.timer = time.AfterFunc(time.Until(due), q.tick)
	} else {
		q.timer.Reset(time.Until(due))
	}
}

// tick is what the timer does. It may come after the timer was stopped or set
// anew, and then does what is due all the same.
func (q *queue) tick() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.armed = time.Time{}
	q.release()
	q.arm()
}

// release returns what is due.
func (q *queue) release() {
	if q.attached == 0 || q.delayed.len() == 0 {
		return
	}
	now := time.Now()
	for q.delayed.len() > 0 && !q.delayed.first().due.After(now) {
		q.giveBack(q.delayed.pop().m)
	}
}

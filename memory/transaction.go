package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/gostream/gostream/broker"
)

// Begin opens a transaction. Any number may be open at the same time.
func (p *publisher) Begin(ctx context.Context) (broker.Transaction, error) {
	if err := p.b.usable("begin", ""); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fail("begin", "", nil, err)
	}
	return &transaction{b: p.b}, nil
}

// transaction implements broker.Transaction. It is used from one goroutine at a
// time.
type transaction struct {
	b     *Broker
	ended bool
	msgs  []*Message // not in any queue yet
	acks  []*Message // claimed deliveries
}

// usable says why no method can begin now.
func (t *transaction) usable(op, name string) error {
	if err := t.b.usable(op, name); err != nil {
		return err
	}
	if t.ended {
		return fail(op, name, broker.ErrSettled, nil)
	}
	return nil
}

// Publish checks the message and copies its bytes. It does not wait for room:
// Commit does.
func (t *transaction) Publish(ctx context.Context, msg broker.OutgoingMessage) error {
	const op = "publish"
	if err := t.usable(op, msg.Name); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fail(op, msg.Name, nil, err)
	}
	st := t.b.store
	if err := st.checkMessage(op, &msg); err != nil {
		return err
	}
	if !st.inboxes.issued(msg.Name) {
		if err := checkName(msg.Name); err != nil {
			return fail(op, msg.Name, broker.ErrInvalid, err)
		}
	}
	t.msgs = append(t.msgs, newMessage(msg.Name, &msg))
	return nil
}

var (
	errForeignMessage = errors.New("the delivery does not come from this store")
	errTakenBack      = errors.New("the broker of a delivery was shut down, which took the delivery back")
)

// Ack claims the delivery: nobody else can settle it until the transaction ends.
// The delivery may come from another broker over the same store; one of another
// store is broker.ErrInvalid.
func (t *transaction) Ack(ctx context.Context, msg broker.IncomingMessage) error {
	const op = "ack"
	if err := t.usable(op, ""); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fail(op, "", nil, err)
	}
	m, ok := msg.(*Message)
	if !ok || m == nil || m.sub == nil || m.sub.b.store != t.b.store {
		return fail(op, "", broker.ErrInvalid, errForeignMessage)
	}
	if m.sub.b.isClosed() {
		return fail(op, m.name, broker.ErrClosed, nil)
	}
	m.q.mu.Lock()
	defer m.q.mu.Unlock()
	if m.state != unsettled {
		return m.refuse(op)
	}
	m.state = claimed
	t.acks = append(t.acks, m)
	return nil
}

// Commit makes the messages visible and settles the deliveries, all at one moment.
// It waits for room as Publish does. It ends the transaction also when it fails:
// then nothing is visible and the deliveries are unsettled again, as after Abort.
// ErrStale says that a delivery of another broker was taken back by its Shutdown.
func (t *transaction) Commit(ctx context.Context) error {
	const op = "commit"
	if err := t.usable(op, ""); err != nil {
		return err
	}
	if err := t.commit(ctx, op); err != nil {
		t.end()
		return err
	}
	t.ended = true
	t.msgs, t.acks = nil, nil
	return nil
}

func (t *transaction) commit(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return fail(op, "", nil, err)
	}
	var w *waiter
	var woken *queue
	for {
		p := t.plan()
		how, q, err := p.run(w)
		woken.pass()
		woken = nil
		switch {
		case err != nil:
			p.forgetEmptyBacklogs()
			return err
		case how == placed:
			for _, s := range p.finished {
				s.done()
			}
			return nil
		case how == full && w == nil:
			w = newWaiter()
		case how == full:
			if err := t.b.awaitRoom(ctx, op, q.key.name, q, w); err != nil {
				p.forgetEmptyBacklogs()
				return err
			}
			woken = q
		}
	}
}

// Abort drops the messages; the deliveries are unsettled again.
func (t *transaction) Abort(context.Context) error {
	if err := t.usable("abort", ""); err != nil {
		return err
	}
	t.end()
	return nil
}

// end drops the messages and gives up the claims.
func (t *transaction) end() {
	t.ended = true
	for _, m := range t.acks {
		m.q.mu.Lock()
		if m.state == claimed {
			m.state = unsettled
		}
		m.q.mu.Unlock()
	}
	t.msgs, t.acks = nil, nil
}

// commitPlan is one attempt to commit.
type commitPlan struct {
	t        *transaction
	routes   []*route       // of each message; nil for a reply
	need     map[*queue]int // how many messages go to each queue
	queues   []*queue       // those and the queues of the acks, in the order of their ids
	finished []*subscription
}

// plan looks up where everything goes.
func (t *transaction) plan() *commitPlan {
	st := t.b.store
	p := &commitPlan{t: t, routes: make([]*route, len(t.msgs)), need: make(map[*queue]int)}
	for i, m := range t.msgs {
		if isReserved(m.name) {
			continue
		}
		r := st.route(m.name)
		if r == nil {
			r = st.resolve(m.name, true)
		}
		p.routes[i] = r
		m.name = r.name
		for _, q := range r.queues {
			p.need[q]++
		}
	}
	for q := range p.need {
		p.queues = append(p.queues, q)
	}
	for _, m := range t.acks {
		if _, ok := p.need[m.q]; !ok {
			p.need[m.q] = 0
			p.queues = append(p.queues, m.q)
		}
	}
	slices.SortFunc(p.queues, func(a, b *queue) int { return cmp.Compare(a.id, b.id) })
	return p
}

// run makes the attempt. Where a queue is full it returns that queue, and w, unless
// nil, waits there for room.
func (p *commitPlan) run(w *waiter) (outcome, *queue, error) {
	const op = "commit"
	t, st := p.t, p.t.b.store
	// The copies of a fan-out are made before the locks are taken.
	copies := make([][]*Message, len(t.msgs))
	for i, r := range p.routes {
		if r == nil {
			continue
		}
		copies[i] = append(copies[i], t.msgs[i])
		for len(copies[i]) < len(r.queues) {
			copies[i] = append(copies[i], t.msgs[i].another())
		}
	}

	lockAll(p.queues)
	defer unlockAll(p.queues)
	for _, m := range t.acks {
		if m.state != claimed {
			if t.b.isClosed() {
				return 0, nil, fail(op, "", broker.ErrClosed, nil)
			}
			return 0, nil, fail(op, m.name, broker.ErrStale, errTakenBack)
		}
	}
	for _, q := range p.queues {
		switch n := p.need[q]; {
		case n == 0:
		case !q.accepting:
			return outdated, nil, nil
		case n > st.capacity:
			cause := fmt.Errorf("the transaction has %d messages for it, and its capacity is %d", n, st.capacity)
			return 0, nil, fail(op, q.key.name, ErrFull, cause)
		case n > q.room():
			if w != nil {
				w.need = n
				q.writers.add(w)
			}
			return full, q, nil
		}
	}

	for i, m := range t.msgs {
		if p.routes[i] == nil {
			st.inboxes.deliver(m)
			continue
		}
		seq := st.seq.Add(1)
		for j, q := range p.routes[i].queues {
			q.push(copies[i][j], seq)
		}
	}
	for _, m := range t.acks {
		m.state = settled
		if s := m.sub; s.drop(m) {
			p.finished = append(p.finished, s)
		}
	}
	return placed, nil, nil
}

// forgetEmptyBacklogs removes the backlogs that the plan made and that got nothing.
func (p *commitPlan) forgetEmptyBacklogs() {
	for _, q := range p.queues {
		if q.kind == backlogQueue {
			p.t.b.store.removeEmptyBacklog(q)
		}
	}
}

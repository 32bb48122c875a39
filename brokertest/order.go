package brokertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/gostream/gostream/broker"
)

// orderChecks: in which order messages come, and who shares them.
var orderChecks = []check{
	{
		name:  "publish-order",
		rule:  "deliveries come in publish order",
		where: "broker.Properties, Ordered",
		needs: []need{needOrdered},
		run:   checkPublishOrder,
	},
	{
		name:  "key-order",
		rule:  "deliveries of one key come in publish order",
		where: "broker.Properties, OrderedByKey",
		needs: []need{needOrderedByKey, needKeys},
		run:   checkKeyOrder,
	},
	{
		name:  "competing",
		rule:  "members of one group share the messages: each goes to one of them",
		where: "broker.Properties, CompetingConsumers",
		needs: []need{needGroup},
		run:   checkCompeting,
	},
	{
		name:  "each-group",
		rule:  "each group gets all messages",
		where: "broker.Properties, CompetingConsumers; broker.SourceSpec, Group",
		needs: []need{needGroup},
		run:   checkEachGroup,
	},
	{
		name:  "join-and-leave",
		rule:  "members that join and leave under load lose nothing, whether they leave by Close or by Shutdown",
		where: "broker.Subscription, Close; broker.Broker, Shutdown",
		needs: []need{needGroup},
		run:   checkJoinAndLeave,
	},
}

func checkPublishOrder(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	want := numbered("m", 200)
	if err := l.publish(want...); err != nil {
		return err
	}
	for _, p := range want {
		ds, err := s.inOrder(p)
		if err != nil {
			return err
		}
		if err := ackAll(ds...); err != nil {
			return err
		}
	}
	e.saw("Ordered", "yes")
	return nil
}

func checkKeyOrder(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	const keys, each = 8, 25
	for i := range each {
		for k := range keys {
			key := fmt.Sprintf("key%d", k)
			payload := fmt.Sprintf("%s:%d", key, i)
			if err := l.send(broker.OutgoingMessage{Payload: []byte(payload), Key: []byte(key)}); err != nil {
				return err
			}
		}
	}
	next := make(map[string]int)
	for range keys * each {
		d, err := s.receive()
		if err != nil {
			return err
		}
		got, ok := broker.PartitionKey(d.IncomingMessage)
		key, _, _ := strings.Cut(d.text, ":")
		if !ok || string(got) != key {
			return fmt.Errorf("%v has the key %q, %v, published was %q", d, got, ok, key)
		}
		if want := fmt.Sprintf("%s:%d", key, next[key]); d.text != want {
			return fmt.Errorf("%v came, expected %q as the next of its key", d, want)
		}
		next[key]++
		if err := d.ack(); err != nil {
			return err
		}
	}
	e.saw("OrderedByKey", "yes")
	return nil
}

// members opens subscriptions of one group that share a ledger, the first two on one
// connection and the others on connections of their own.
func (e *env) members(g *Group, group string, n int) ([]*stream, error) {
	var streams []*stream
	var first *link
	var book *ledger
	for i := range n {
		t := g.member(group)
		var l *link
		var err error
		if i == 1 {
			l, err = e.link(t, first.b)
		} else {
			l, err = e.dial(t)
		}
		if err != nil {
			return nil, err
		}
		if i == 0 {
			first, book = l, &ledger{redelivers: l.props.Redelivers}
		}
		s, err := l.subscribeWith(book)
		if err != nil {
			return nil, fmt.Errorf("member %d of group %s: %w", i+1, group, err)
		}
		streams = append(streams, s)
	}
	return streams, nil
}

// share receives and acknowledges what the members get, one member after the other,
// and compares with what was published. What one member was given and another gets
// as well is found by their ledger.
func share(members []*stream, published []string) error {
	left := make(map[string]bool, len(published))
	for _, p := range published {
		left[p] = true
	}
	for i, s := range members {
		for len(left) > 0 {
			var d *delivery
			var err error
			if i < len(members)-1 {
				d, err = s.untilQuiet()
			} else {
				d, err = s.receive() // what is left must come here
			}
			switch {
			case err != nil:
				return fmt.Errorf("member %d of %d, with %d of %d messages left: %w", i+1, len(members), len(left), len(published), err)
			case d != nil && !left[d.text]:
				return fmt.Errorf("member %d: %v came, which was not published", i+1, d)
			}
			if d == nil {
				break
			}
			delete(left, d.text)
			if err := d.ack(); err != nil {
				return err
			}
		}
	}
	quiets := make([]func() error, len(members))
	for i, s := range members {
		quiets[i] = s.quiet
	}
	return members[0].e.together(quiets...)
}

func checkCompeting(e *env) error {
	g, err := e.newGroup()
	if err != nil {
		return err
	}
	members, err := e.members(&g, "a", 3)
	if err != nil {
		return err
	}
	publisher, err := e.dial(g.member("a"))
	if err != nil {
		return err
	}
	all := numbered("m", 60)
	if err := publisher.publish(all...); err != nil {
		return err
	}
	if err := share(members, all); err != nil {
		return err
	}
	e.saw("CompetingConsumers", "yes")
	return nil
}

func checkEachGroup(e *env) error {
	g, err := e.newGroup()
	if err != nil {
		return err
	}
	if g.Single {
		return e.singleGroup()
	}
	a, err := e.members(&g, "a", 2)
	if err != nil {
		return err
	}
	b, err := e.members(&g, "b", 1)
	if err != nil {
		return err
	}
	publisher, err := e.dial(g.member("a"))
	if err != nil {
		return err
	}
	all := numbered("m", 40)
	if err := publisher.publish(all...); err != nil {
		return err
	}
	return e.together(
		func() error { return inGroup("a", share(a, all)) },
		func() error { return inGroup("b", share(b, all)) },
	)
}

func inGroup(name string, err error) error {
	if err != nil {
		return fmt.Errorf("group %s: %w", name, err)
	}
	return nil
}

// tally counts what of a known set of messages was settled.
type tally struct {
	done chan struct{} // closed when nothing is left
	once sync.Once

	mu   sync.Mutex
	left map[string]bool
	all  int
}

func newTally(payloads []string) *tally {
	t := &tally{done: make(chan struct{}), left: make(map[string]bool, len(payloads)), all: len(payloads)}
	for _, p := range payloads {
		t.left[p] = true
	}
	return t
}

// settled takes a message off the list and reports whether it was on it.
func (t *tally) settled(payload string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.left[payload] {
		return false
	}
	delete(t.left, payload)
	if len(t.left) == 0 {
		t.end()
	}
	return true
}

// end ends the waiting, also where something is left.
func (t *tally) end() { t.once.Do(func() { close(t.done) }) }

func (t *tally) isLeft(payload string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.left[payload]
}

// missing describes what is left.
func (t *tally) missing() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for p := range t.left {
		return fmt.Sprintf("%d of %d messages did not arrive, one of them %q", len(t.left), t.all, p)
	}
	return "all messages arrived"
}

// isDone reports whether nothing is left.
func (t *tally) isDone() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

// while returns a context that ends when nothing is left.
func (t *tally) while(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	go func() {
		select {
		case <-t.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

func checkJoinAndLeave(e *env) error {
	g, err := e.newGroup()
	if err != nil {
		return err
	}
	publisher, err := e.dial(g.member("a"))
	if err != nil {
		return err
	}
	_, stayer, err := e.openOn(g.member("a")) // one is always there
	if err != nil {
		return err
	}
	const visitors, rounds = 3, 3
	chunk := max(e.h.Load/(visitors*rounds), 10)
	all := numbered("m", visitors*rounds*chunk)
	t := newTally(all)
	// The first visits find a backlog, and for a while nobody else takes it.
	const early = visitors * (rounds - 1)
	if err := publisher.publish(all[:early*chunk]...); err != nil {
		return err
	}
	var firstVisits sync.WaitGroup
	firstVisits.Add(visitors)
	joined := make(chan struct{}, visitors*rounds) // later ones bring more load
	work := []func() error{
		func() error {
			firstVisits.Wait()
			return stay(t, stayer)
		},
		func() error {
			for rest := all[early*chunk:]; len(rest) > 0; rest = rest[chunk:] {
				select {
				case <-joined:
				case <-t.done:
					return nil // somebody failed
				}
				if err := publisher.publish(rest[:chunk]...); err != nil {
					return err
				}
			}
			return nil
		},
	}
	for i := range visitors {
		work = append(work, func() error {
			err := visit(e, &g, t, joined, i%2 == 0)
			firstVisits.Done()
			for round := 1; err == nil && round < rounds && !t.isDone(); round++ {
				err = visit(e, &g, t, joined, (i+round)%2 == 0)
			}
			return err
		})
	}
	for i, f := range work {
		work[i] = func() error {
			err := protect(f)
			if err != nil {
				t.end() // nobody waits for what will not come
			}
			return err
		}
	}
	return e.together(work...)
}

// stay receives and acknowledges until nothing is left.
func stay(t *tally, s *stream) error {
	ctx, cancel := t.while(s.e.ctx)
	defer cancel()
	for !t.isDone() {
		step, end := context.WithTimeout(ctx, s.e.h.Timeout)
		d, err := s.raw(step)
		end()
		switch {
		case err == nil:
			if err := t.handle(d); err != nil {
				return err
			}
		case t.isDone():
		case errors.Is(err, context.DeadlineExceeded):
			return fmt.Errorf("nothing came within %v: %s", s.e.h.Timeout, t.missing())
		default:
			return fmt.Errorf("receive: %w", err)
		}
	}
	return nil
}

// handle acknowledges a delivery. One that became stale comes again, and of several
// deliveries of one message another may have settled it.
func (t *tally) handle(d *delivery) error {
	err := d.ack()
	switch {
	case errors.Is(err, broker.ErrStale), errors.Is(err, broker.ErrSettled) && !t.isLeft(d.text):
		return nil
	case err != nil:
		return err
	}
	if !t.settled(d.text) && !d.s.book.redelivers {
		return fmt.Errorf("%v came twice, and the source does not declare Redelivers", d)
	}
	return nil
}

// visit joins the group, handles some messages and leaves with some in hand: by
// Close, after which they are settled, or by Shutdown, which gives them back.
func visit(e *env, g *Group, t *tally, joined chan<- struct{}, byShutdown bool) error {
	l, s, err := e.openOn(g.member("a"))
	if err != nil {
		return err
	}
	joined <- struct{}{}
	const some = 5
	hold, limit := 2, l.limit()
	if limit > 0 {
		hold = min(hold, limit)
	}
	var held []*delivery
	for i := range hold + some {
		if len(held) == limit && limit > 0 {
			break
		}
		ctx, cancel := context.WithTimeout(e.ctx, e.h.Quiet)
		d, err := s.raw(ctx)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			break // the others are faster
		}
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if i < hold {
			held = append(held, d)
		} else if err := t.handle(d); err != nil {
			return err
		}
	}
	if byShutdown && l.props.Redelivers {
		return e.shutdown(l.b)
	}
	if err := s.close(); err != nil {
		return err
	}
	for {
		ctx, cancel := context.WithTimeout(e.ctx, e.h.Timeout)
		d, err := s.raw(ctx)
		cancel()
		if errors.Is(err, broker.ErrClosed) {
			break
		}
		if err != nil {
			return fmt.Errorf("receive after Close: %w", err)
		}
		if l.props.Redelivers {
			return fmt.Errorf("%v was received after Close", d)
		}
		held = append(held, d)
	}
	for _, d := range held {
		if err := t.handle(d); err != nil {
			return err
		}
	}
	return e.shutdown(l.b)
}

// limit is how many deliveries of the link's source may be unsettled at once, 0 where
// it does not say.
func (l *link) limit() int { return l.e.specOf(l.t, l.b).Limit }

package kafka

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream/broker"
)

// apart is a partition of a subscription that has nobody to talk to. Settling answers as
// on a broker that is connected.
func apart(t *testing.T, most int, at beginning) *partition {
	t.Helper()
	b := New("localhost", Dialer(func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }))
	client, err := b.config.client(&b.link)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	b.life.state.Store(connected)
	s := &trackedSubscription{member: member{b: b, src: Topic("t").Group("g").MaxUncommitted(most), client: client}}
	s.poller.init()
	p := newPartition(s, "t", 0)
	p.begin(at)
	return p
}

// at are records of those offsets.
func at(epoch int32, offsets ...int64) []*kgo.Record {
	list := make([]*kgo.Record, len(offsets))
	for i, offset := range offsets {
		list[i] = &kgo.Record{Topic: "t", Offset: offset, LeaderEpoch: epoch, Value: fmt.Append(nil, offset)}
	}
	return list
}

// naive is a partition without slabs, heads and counts: everything is found out by looking
// at every message.
type naive struct {
	most    int
	begin   int64
	waiting []*item // fetched and not handed out
	taken   []*item // in the order in which they were handed out first
	full    bool
	dirty   bool
	state   partitionState
}

type item struct {
	offset     int64
	done, back bool
	read       bool     // of one that is back: it was read anew
	out        *Message // the delivery that is out, nil for none
}

// head is how many were taken and are settled without a gap before them.
func (n *naive) head() int {
	for i, it := range n.taken {
		if !it.done {
			return i
		}
	}
	return len(n.taken)
}

func (n *naive) gap() int { return len(n.taken) - n.head() }

func (n *naive) mark() int64 {
	if h := n.head(); h > 0 {
		return n.taken[h-1].offset + 1
	}
	return n.begin
}

func (n *naive) position() int64 {
	if len(n.taken) > 0 {
		return n.taken[len(n.taken)-1].offset + 1
	}
	return n.begin
}

func (n *naive) with(is func(*item) bool) (list []*item) {
	for _, it := range n.taken {
		if is(it) {
			list = append(list, it)
		}
	}
	return list
}

func (n *naive) out() []*item  { return n.with(func(it *item) bool { return it.out != nil }) }
func (n *naive) back() []*item { return n.with(func(it *item) bool { return it.back }) }

// take returns what is to be handed out next, nil for nothing.
func (n *naive) take() *item {
	for len(n.waiting) > 0 && n.gap() < n.most && n.state == held {
		it := n.waiting[0]
		n.waiting = n.waiting[1:]
		n.taken = append(n.taken, it)
		if !it.done {
			return it
		}
	}
	return nil
}

// pair is the partition and what it should be.
type pair struct {
	t    *testing.T
	rnd  *rand.Rand
	p    *partition
	n    *naive
	next int64 // of the log
	last int64 // the mark before
}

func (x *pair) add() {
	var offsets []int64
	for range x.rnd.Intn(150) {
		if x.rnd.Intn(8) == 0 {
			x.next += int64(x.rnd.Intn(1000)) // compacted, or the end of a transaction
		}
		offsets = append(offsets, x.next)
		x.next++
	}
	if wanted := x.p.add(at(1, offsets...)); wanted != (x.n.state == held) {
		x.t.Errorf("add: %v", wanted)
	}
	if x.n.state != held {
		return
	}
	for _, offset := range offsets {
		done := slices.ContainsFunc(preset(x.n.begin), func(run span) bool { return run.first <= offset && offset <= run.last })
		x.n.waiting = append(x.n.waiting, &item{offset: offset, done: done})
	}
}

// preset is what an earlier member has settled above its mark.
func preset(begin int64) []span {
	return []span{{begin + 3, begin + 5}, {begin + 60, begin + 200}, {begin + 500, begin + 500}}
}

func (x *pair) take() {
	if x.rnd.Intn(2) == 0 {
		x.handed(x.p.receive(), x.n.take())
		return
	}
	dst := make([]broker.IncomingMessage, 1+x.rnd.Intn(20))
	got, full := x.p.receiveInto(dst)
	for i := range got {
		x.handed(dst[i].(*Message), x.n.take())
	}
	if got < len(dst) {
		if it := x.n.take(); it != nil {
			x.t.Errorf("offset %d was not handed out", it.offset)
		}
	}
	if got == 0 && x.n.state == held && x.n.gap() >= x.n.most {
		x.n.full = true
	}
	if full != x.n.full {
		x.t.Errorf("full: %v, want %v", full, x.n.full)
	}
}

func (x *pair) handed(m *Message, it *item) {
	x.t.Helper()
	switch {
	case m == nil && it == nil:
	case m == nil || it == nil || m.Offset() != it.offset:
		x.t.Fatalf("handed out %v, want %+v", m, it)
	default:
		it.out = m
	}
}

// settle settles a message that is out, by one of the three ways.
func (x *pair) settle() {
	out := x.n.out()
	if len(out) == 0 {
		return
	}
	it := out[x.rnd.Intn(len(out))]
	if x.rnd.Intn(3) == 0 {
		it = out[0] // else a long gap hardly ever closes
	}
	m := it.out
	requeue := false
	var err error
	switch x.rnd.Intn(4) {
	case 0:
		err = m.Nack(x.t.Context(), false)
	case 1:
		requeue = true
		err = m.Nack(x.t.Context(), true)
	default:
		err = m.Ack(x.t.Context())
	}
	if x.n.state == gone {
		if !errors.Is(err, broker.ErrStale) || !m.Stale() {
			x.t.Errorf("offset %d of a partition that is gone: %v", it.offset, err)
		}
		return
	}
	if err != nil {
		x.t.Errorf("offset %d: %v", it.offset, err)
	}
	if err := m.Ack(x.t.Context()); !errors.Is(err, broker.ErrSettled) {
		x.t.Errorf("offset %d settled twice: %v", it.offset, err)
	}
	wasHead := it == x.n.taken[x.n.head()]
	it.out = nil
	if requeue {
		it.back = x.n.state == held
		return
	}
	it.done, x.n.dirty = true, true
	if wasHead && x.n.gap() <= x.n.most/2 {
		x.n.full = false
	}
}

// reread answers the fetch of what was given back. Some of it is gone from the log.
func (x *pair) reread() {
	offset, wanted := x.p.firstBack()
	back := x.n.back()
	if want := x.n.state == held && len(back) > 0 && !back[0].read; wanted != want || wanted && offset != back[0].offset {
		x.t.Fatalf("to be read anew: %d, %v; want %+v", offset, wanted, back)
	}
	if !wanted {
		return
	}
	past := offset + int64(x.rnd.Intn(400)) // it may be that nothing was there yet
	var offsets []int64
	for o := offset; o < past; o++ {
		if x.rnd.Intn(10) > 0 {
			offsets = append(offsets, o)
		}
	}
	x.p.reread(at(2, offsets...), past)
	for _, it := range back {
		it.read = it.read || it.offset < past
	}
	if _, still := x.p.firstBack(); still == back[0].read {
		x.t.Errorf("reread below %d: the first is wanted again: %v, want %v", past, still, !back[0].read)
	}
}

func (x *pair) receiveBack() {
	dst := make([]broker.IncomingMessage, 1+x.rnd.Intn(20))
	got, more := x.p.receiveBack(dst)
	back := x.n.back()
	if x.n.state != held {
		if got != 0 || more {
			x.t.Errorf("%d are handed out again of a partition that is given up", got)
		}
		return
	}
	want := 0
	for want < len(back) && want < len(dst) && back[want].read {
		it := back[want]
		want++
		if want > got {
			x.t.Fatalf("offset %d is not handed out again", it.offset)
		}
		m := dst[want-1].(*Message)
		if m.Offset() != it.offset || string(m.Payload()) != fmt.Sprint(it.offset) {
			x.t.Fatalf("offset %d is handed out again, want %d", m.Offset(), it.offset)
		}
		it.out, it.back, it.read = m, false, false
	}
	if got != want || more != (want < len(back)) {
		x.t.Errorf("%d are handed out again, more: %v; want %d of %d", got, more, want, len(back))
	}
}

func (x *pair) commit() {
	c, version, ok := x.p.due()
	if x.n.dirty && !ok {
		x.t.Errorf("nothing is to be committed, though something was settled")
	}
	if !ok {
		return
	}
	if c.at.Offset != x.n.mark() {
		x.t.Errorf("offset %d is to be committed, want %d", c.at.Offset, x.n.mark())
	}
	set := parseSettled(c.metadata, c.at.Offset)
	for _, it := range x.n.taken[x.n.head():] {
		if got := set.has(&kgo.Record{Offset: it.offset, LeaderEpoch: 1}); got != it.done {
			x.t.Errorf("offset %d is settled: %v, committed as such: %v", it.offset, it.done, got)
		}
	}
	if x.rnd.Intn(4) > 0 { // else the server did not take it
		x.p.hasCommitted(c.at.Offset, version)
		x.n.dirty = false
	}
}

// check compares all that can be seen.
func (x *pair) check() {
	x.t.Helper()
	got := x.p.status()
	want := PartitionStatus{
		Topic: "t", Position: x.n.position(), Committed: got.Committed, End: -1,
		Uncommitted: x.n.gap(), Unsettled: len(x.n.out()), Paused: x.n.full,
	}
	if got != want {
		x.t.Fatalf("status %+v, want %+v", got, want)
	}
	mark := x.p.mark.Offset
	if mark != x.n.mark() || mark < x.last {
		x.t.Fatalf("the mark is %d, was %d, want %d", mark, x.last, x.n.mark())
	}
	x.last = mark
	for _, it := range x.n.taken {
		if !it.done && it.offset < mark {
			x.t.Fatalf("the mark %d is past offset %d, which is not settled", mark, it.offset)
		}
	}
	if x.p.gap > x.p.most {
		x.t.Fatalf("%d messages are out from the head on, at most %d may be", x.p.gap, x.p.most)
	}
	if got.Committed > mark {
		x.t.Fatalf("offset %d is committed, the mark is %d", got.Committed, mark)
	}
}

// settleAll hands out and settles until nothing is left: nothing may be stuck.
func (x *pair) settleAll() {
	for range 100_000 {
		x.take()
		for _, it := range x.n.out() {
			if err := it.out.Ack(x.t.Context()); err != nil {
				x.t.Fatal(err)
			}
			it.out, it.done, x.n.dirty = nil, true, true
		}
		if x.n.gap() <= x.n.most/2 {
			x.n.full = false
		}
		x.reread()
		x.receiveBack()
		if len(x.n.waiting) == 0 && x.n.gap() == 0 {
			return
		}
	}
	x.t.Fatalf("%d wait and %d are out at the end", len(x.n.waiting), x.n.gap())
}

// TestPartitionAgainstModel does what may happen to a partition in any order, and compares
// it with one that is too simple to be wrong.
func TestPartitionAgainstModel(t *testing.T) {
	t.Parallel()
	seeds := []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, time.Now().UnixNano()}
	for i, seed := range seeds {
		most := []int{1, 2, 7, 64, 100, 1000}[i%6]
		t.Run(fmt.Sprintf("seed %d, at most %d", seed, most), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewSource(seed))
			begin := int64(rnd.Intn(1000))
			from := beginning{at: kgo.EpochOffset{Epoch: 1, Offset: begin}, committed: true, metadata: settledSet{preset(begin), 1}.text(begin)}
			x := &pair{t: t, rnd: rnd, p: apart(t, most, from), n: &naive{most: most, begin: begin}, next: begin, last: begin}
			for range 3000 {
				switch n := rnd.Intn(100); {
				case n < 4 && len(x.n.waiting) < 500:
					x.add()
				case n < 40:
					x.take()
				case n < 85:
					x.settle()
				case n < 90:
					x.reread()
				case n < 95:
					x.receiveBack()
				default:
					x.commit()
				}
				x.check()
				if t.Failed() {
					return
				}
			}
			if rnd.Intn(2) == 0 {
				x.settleAll()
				x.commit()
				x.check()
				return
			}
			x.giveUp()
		})
	}
}

// giveUp drains the partition, settles some of what is out, and lets it go.
func (x *pair) giveUp() {
	idle := x.p.drain()
	x.n.state = draining
	for _, it := range x.n.back() {
		it.back, it.read = false, false
	}
	isIdle := func() bool {
		select {
		case <-idle:
			return true
		default:
			return false
		}
	}
	for range 3000 {
		if got, want := isIdle(), len(x.n.out()) == 0; got != want {
			x.t.Fatalf("idle: %v, with %d out", got, len(x.n.out()))
		}
		if len(x.n.out()) < 3 {
			break
		}
		switch x.rnd.Intn(10) {
		case 0:
			x.add()
		case 1:
			x.take()
		case 2:
			x.reread()
		case 3:
			x.receiveBack()
		case 4:
			x.commit()
		default:
			x.settle()
		}
		x.n.full = x.p.full // nobody asks any more
		x.check()
	}
	x.p.letGo()
	x.n.state = gone
	mark := x.p.mark
	for range 10 {
		x.add()
		x.take()
		x.settle()
		x.receiveBack()
	}
	if x.p.mark != mark {
		x.t.Errorf("the mark went from %v to %v after the partition was let go", mark, x.p.mark)
	}
	x.commit()
}

// What was settled before this member came, and lies above its mark, stays committed as
// such: another crash must not bring it again.
func TestSettledBeforeIsKept(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		fetched []int64
	}{
		{"fetched", []int64{0, 1, 2, 3, 4}},
		{"not fetched yet", []int64{0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := apart(t, 10, beginning{at: kgo.EpochOffset{Epoch: 1}, committed: true, metadata: settledSet{[]span{{1, 3}}, 1}.text(0)})
			p.add(at(1, tt.fetched...))
			m := p.receive()
			if err := m.Ack(t.Context()); err != nil {
				t.Fatal(err)
			}
			c, version, ok := p.due()
			if !ok {
				t.Fatal("nothing is to be committed")
			}
			p.hasCommitted(c.at.Offset, version)
			set := parseSettled(c.metadata, c.at.Offset)
			for offset := int64(1); offset <= 3; offset++ {
				if offset >= c.at.Offset && !set.has(&kgo.Record{Offset: offset, LeaderEpoch: 1}) {
					t.Errorf("offset %d was settled; committed is %d with %v", offset, c.at.Offset, parseSettled(c.metadata, c.at.Offset))
				}
			}
		})
	}
}

// The mark that has moved over what an earlier member had settled is committed, though
// nothing is acknowledged any more.
func TestMarkThatMovedOverSettledIsCommitted(t *testing.T) {
	t.Parallel()
	p := apart(t, 10, beginning{at: kgo.EpochOffset{Epoch: 1}, committed: true, metadata: settledSet{[]span{{1, 3}}, 1}.text(0)})
	p.add(at(1, 0, 1, 2, 3))
	if err := p.receive().Ack(t.Context()); err != nil {
		t.Fatal(err)
	}
	c, version, _ := p.due()
	p.hasCommitted(c.at.Offset, version)
	if m := p.receive(); m != nil {
		t.Fatalf("offset %d is handed out", m.Offset())
	}
	if p.mark.Offset != 4 {
		t.Fatalf("the mark is %d", p.mark.Offset)
	}
	if c, _, ok := p.due(); p.status().Committed != 4 && (!ok || c.at.Offset != 4) {
		t.Errorf("%d is committed, and due is %v, %v", p.status().Committed, c, ok)
	}
}

// A start that nobody has committed is committed at once, a committed one is not again.
func TestStartIsDue(t *testing.T) {
	t.Parallel()
	p := apart(t, 10, beginning{at: kgo.EpochOffset{Epoch: -1, Offset: 7}})
	if c, version, ok := p.due(); !ok || c.at.Offset != 7 || c.metadata != "" {
		t.Errorf("due is %v, %v", c, ok)
	} else {
		p.hasCommitted(c.at.Offset, version)
	}
	if c, _, ok := p.due(); ok {
		t.Errorf("due again: %v", c)
	}
	p = apart(t, 10, beginning{at: kgo.EpochOffset{Epoch: 1, Offset: 7}, committed: true})
	if c, _, ok := p.due(); ok {
		t.Errorf("due: %v", c)
	}
	if got := p.status(); got.Committed != 7 || got.Position != 7 {
		t.Errorf("%+v", got)
	}
	// Before it has begun there is nothing to commit.
	p = newPartition(p.sub, "t", 1)
	p.version++
	if c, _, ok := p.due(); ok {
		t.Errorf("due of nothing: %v", c)
	}
}

// Where a log was cut off and written anew, offsets come twice. What is behind that is not
// committed as settled.
func TestSettledAboveStopsWhereTheLogWasCut(t *testing.T) {
	t.Parallel()
	p := apart(t, 100, beginning{at: kgo.EpochOffset{Epoch: 1, Offset: 10}, committed: true})
	p.add(at(1, 10, 11, 12))
	p.add(at(2, 11, 12, 13))
	var all []*Message
	for m := p.receive(); m != nil; m = p.receive() {
		all = append(all, m)
	}
	for _, m := range all[1:] {
		if err := m.Ack(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c, _, _ := p.due()
	set := parseSettled(c.metadata, c.at.Offset)
	if want := (settledSet{[]span{{11, 12}}, 1}); c.at.Offset != 10 || !slices.Equal(set.spans, want.spans) || set.epoch != want.epoch {
		t.Errorf("committed is %d with %v, want %v", c.at.Offset, set, want)
	}
}

package kafka

import (
	"fmt"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream/broker"
)

// partition follows one partition while it is assigned to a subscription: what waits to be
// handed out, what is out, and up to where everything is settled.
//
// Messages lie in slabs, in the order of their offsets. Two places move through them: next
// is what is handed out next, head the first that is not settled, up to which offsets can
// be committed. Offsets may have gaps, where a log was compacted or a transaction ended, so
// the watermark walks over messages and never counts.
type partition struct {
	sub   *trackedSubscription
	topic string
	id    int32
	most  int // how many may be between head and next

	mu       sync.Mutex
	state    partitionState
	slabs    [][]Message
	head     int // in slabs[0]
	nextSlab int // len(slabs): nothing waits
	next     int
	gap      int        // messages between head and next
	out      int        // those that are out and not settled
	back     []*Message // slots that were given back, by offset
	full     bool       // nothing is fetched until the gap has shrunk
	idle     chan struct{}

	position int64           // the offset to be handed out next; -1 until it is known
	mark     kgo.EpochOffset // up to where everything is settled; Offset -1 for nothing
	before   settledSet      // what an earlier member had settled above its mark

	// lost says that the group has given it up, and lostIn in which session; both guarded by
	// the subscription's mutex.
	lost   bool
	lostIn int

	version   uint64 // counts what changes a commit
	committed int64  // the offset that is committed; -1 for none
	saved     uint64 // the version of it
}

type partitionState uint8

const (
	held     partitionState = iota
	draining                // nothing is handed out any more; what is out can be settled
	gone                    // it is not ours: what is out is stale
)

// slabSize is how many messages are allocated together. One that is kept keeps its
// neighbours.
const slabSize = 64

func newPartition(s *trackedSubscription, topic string, id int32) *partition {
	return &partition{
		sub: s, topic: topic, id: id, most: s.src.tracking.maxUncommitted,
		position: -1, mark: kgo.EpochOffset{Epoch: -1, Offset: -1}, committed: -1,
	}
}

// begin sets where reading begins.
func (p *partition) begin(b beginning) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.position, p.mark = b.at.Offset, b.at
	if b.committed {
		p.committed = b.at.Offset
		p.before = parseSettled(b.metadata, b.at.Offset)
	} else {
		p.version++ // it is committed at once: a start that moves must not be found anew
	}
}

// add takes in what was fetched. It reports whether it was wanted.
func (p *partition) add(records []*kgo.Record) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != held {
		return false
	}
	for chunk := range slices.Chunk(records, slabSize) {
		slab := make([]Message, len(chunk))
		for i, rec := range chunk {
			slab[i].rec, slab[i].part = rec, p
			slab[i].done = p.before.has(rec)
		}
		p.slabs = append(p.slabs, slab)
	}
	return true
}

// receive returns the next message, nil where none may be handed out.
func (p *partition) receive() *Message {
	p.mu.Lock()
	m := p.take()
	p.mu.Unlock()
	return m
}

// receiveInto fills dst as far as it goes. Where the gap does not allow another message, it
// reports that the partition is full from now on.
func (p *partition) receiveInto(dst []broker.IncomingMessage) (n int, full bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n < len(dst) {
		m := p.take()
		if m == nil {
			break
		}
		dst[n] = m
		n++
	}
	if n == 0 && p.state == held && p.gap >= p.most {
		p.full = true
	}
	return n, p.full
}

// take hands out the next message; mu is held.
func (p *partition) take() *Message {
	for p.nextSlab < len(p.slabs) && p.gap < p.most && p.state == held {
		slab := p.slabs[p.nextSlab]
		m := &slab[p.next]
		if p.next++; p.next == len(slab) {
			p.nextSlab, p.next = p.nextSlab+1, 0
		}
		p.gap++
		p.position = m.rec.Offset + 1
		if m.done { // by an earlier member
			if p.advance() {
				p.version++
			}
			continue
		}
		p.out++
		return m
	}
	return nil
}

// then is what a settlement leads to.
type then uint8

const (
	nothingMore then = iota
	comesAgain       // the message is to be handed out again
	goesOn           // a partition that was full may be fetched from
)

// settle settles the message in the slot; mu is held.
func (p *partition) settle(slot *Message, requeue bool) then {
	p.out--
	if p.out == 0 && p.idle != nil {
		close(p.idle)
		p.idle = nil
	}
	if requeue {
		if p.state != held {
			return nothingMore // it stays uncommitted, and so comes to whoever is next
		}
		i, _ := slices.BinarySearchFunc(p.back, slot, byOffset)
		p.back = slices.Insert(p.back, i, slot)
		return comesAgain
	}
	slot.done = true
	p.version++
	if slot != &p.slabs[0][p.head] {
		return nothingMore
	}
	p.advance()
	if p.full && p.gap <= p.most/2 {
		p.full = false
		return goesOn
	}
	return nothingMore
}

func byOffset(a, b *Message) int {
	switch {
	case a.rec.Offset < b.rec.Offset:
		return -1
	case a.rec.Offset > b.rec.Offset:
		return 1
	}
	return 0
}

// advance moves head over what is settled, and reports whether there was any; mu is held.
func (p *partition) advance() (moved bool) {
	for p.gap > 0 {
		slab := p.slabs[0]
		m := &slab[p.head]
		if !m.done {
			return moved
		}
		moved = true
		if at := m.rec.Offset + 1; at > p.mark.Offset || m.rec.LeaderEpoch > p.mark.Epoch {
			p.mark = kgo.EpochOffset{Epoch: m.rec.LeaderEpoch, Offset: at} // else it was taken over
		}
		p.gap--
		if p.head++; p.head == len(slab) {
			p.head = 0
			p.slabs[0] = nil
			p.slabs = p.slabs[1:]
			p.nextSlab--
		}
	}
	return moved
}

// drain stops handing out; what waits is dropped. It returns a channel that is closed when
// nothing is out.
func (p *partition) drain() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == held {
		p.state = draining
		p.back = nil
	}
	if p.out == 0 {
		return nothingOut
	}
	if p.idle == nil {
		p.idle = make(chan struct{})
	}
	return p.idle
}

var nothingOut = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// letGo makes what is out stale.
func (p *partition) letGo() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = gone
	p.back = nil
}

// hasBegun reports that it is known where reading begins.
func (p *partition) hasBegun() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.position >= 0
}

// due returns what is to be committed and its version, false for nothing.
func (p *partition) due() (c commit, version uint64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.version == p.saved || p.mark.Offset < 0 {
		return commit{}, 0, false
	}
	return commit{p.mark, p.settledAbove()}, p.version, true
}

// hasCommitted notes what the server has committed.
func (p *partition) hasCommitted(offset int64, version uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.committed, p.saved = offset, version
}

// forget takes what is not committed for committed: the topic is gone.
func (p *partition) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.saved = p.version
}

// trouble names the message that holds the partition up, nil for none.
func (p *partition) trouble() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != held || !p.full {
		return nil
	}
	return fmt.Errorf("partition %d of %s is paused: offset %d is not settled, and %d messages from it on are out; MaxUncommitted is %d",
		p.id, broker.Quote(p.topic), p.slabs[0][p.head].rec.Offset, p.gap, p.most)
}

// status is what there is to say of it.
func (p *partition) status() PartitionStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return PartitionStatus{
		Topic: p.topic, Partition: p.id,
		Position: p.position, Committed: p.committed, End: -1,
		Uncommitted: p.gap, Unsettled: p.out, Paused: p.full,
	}
}

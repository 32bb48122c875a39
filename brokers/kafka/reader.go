package kafka

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream/broker"
)

var (
	_ broker.Subscription  = (*reader)(nil)
	_ broker.BatchReceiver = (*reader)(nil)
	_ broker.Lagger        = (*reader)(nil)
)

// readerPoll is how many records a reader takes at once: with AutoCommit as many are lost
// by a crash.
const readerPoll = 100

// reader hands out what was fetched and asks for no acknowledgement. With a member it
// commits what it fetched before it hands it out.
type reader struct {
	b      *Broker
	c      *connection
	name   string
	group  string
	client *kgo.Client
	member *member // nil without a group
	poller poller

	// ready may be handed out: that of the receiver, which alone takes from it.
	ready []ReaderMessage

	mu        sync.Mutex
	fetched   []*kgo.Record   // with a group: not committed yet
	starts    commits         // with a group: where partitions begin, not committed yet
	incoming  []ReaderMessage // ready, and not with the receiver yet
	positions map[string]map[int32]*readerPosition
	failed    error
	closed    atomic.Bool

	gone    goneTopics
	closing sync.Once
}

// answerTimeout is how long a reader waits for the answer to a commit.
const answerTimeout = time.Second

// readerPosition is where a partition is read.
type readerPosition struct {
	next      atomic.Int64 // the offset to be handed out next
	committed int64        // guarded by the reader's mu
}

// subscribePartitions opens a reader without a group.
func (b *Broker) subscribePartitions(ctx context.Context, src PartitionsSource) (broker.Subscription, error) {
	const op = "subscribe"
	c, err := b.enter(op, src.topic)
	if err != nil {
		return nil, err
	}
	defer b.life.leave()
	if err := ctx.Err(); err != nil {
		return nil, b.fail(op, src.topic, err)
	}
	ctx, cancel := withDefault(ctx, broker.DefaultTimeout)
	defer cancel()
	found, err := c.describe(ctx, []string{src.topic})
	if err != nil {
		return nil, b.fail(op, src.topic, err)
	}
	n, ok := found[src.topic]
	if !ok {
		return nil, fail(op, src.topic, broker.ErrNotFound, nil)
	}
	for _, p := range src.partitions {
		if p >= n {
			return nil, fail(op, src.topic, broker.ErrNotFound, fmt.Errorf("it has no partition %d, but %d partitions", p, n))
		}
	}
	begin, err := src.start.resolve(ctx, c, map[string][]int32{src.topic: src.partitions}, found)
	if err != nil {
		return nil, b.fail(op, src.topic, err)
	}
	offsets := make(map[int32]kgo.Offset)
	r := b.newReader(c, src.topic)
	for p, at := range begin[src.topic] {
		offsets[p] = kgo.NewOffset().At(at.Offset)
		r.begun(src.topic, p, beginning{at: at})
	}
	r.client, err = b.config.client(&b.link, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{src.topic: offsets}))
	if err != nil {
		return nil, b.fail(op, src.topic, err)
	}
	if !b.add(r) {
		r.client.Close()
		return nil, fail(op, src.topic, broker.ErrClosed, nil)
	}
	return r, nil
}

// subscribeAutoCommit opens a reader that belongs to a group.
func (b *Broker) subscribeAutoCommit(ctx context.Context, src TopicSource) (broker.Subscription, error) {
	const op = "subscribe"
	c, err := b.enter(op, src.Name())
	if err != nil {
		return nil, err
	}
	defer b.life.leave()
	if err := ctx.Err(); err != nil {
		return nil, b.fail(op, src.Name(), err)
	}
	ctx, cancel := withDefault(ctx, broker.DefaultTimeout)
	defer cancel()
	r := b.newReader(c, src.Name())
	r.member = &member{b: b, c: c, src: src}
	r.gone.pattern = src.isPattern
	r.member.assigned = func(map[string][]int32) { r.poller.barrier() } // as in trackedSubscription
	r.member.begun = r.begun
	r.member.revoked, r.member.lost = r.takeAway, r.takeAway
	if err := r.member.prepare(ctx); err != nil {
		return nil, b.failSubscribe(src.Name(), err)
	}
	r.group = r.member.group
	if !b.add(r) {
		return nil, fail(op, src.Name(), broker.ErrClosed, nil)
	}
	err = r.member.join(ctx)
	r.client = r.member.client
	if err != nil {
		ctx, cancel := context.WithTimeout(b.done, abandonTimeout)
		defer cancel()
		_ = r.end(ctx)
		return nil, b.failSubscribe(src.Name(), err)
	}
	// Where it begins, if it is new. What fails is tried again by Receive.
	ctx, cancel = context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	r.poller.run(ctx, r.commitFetched)
	return r, nil
}

func (b *Broker) newReader(c *connection, name string) *reader {
	r := &reader{b: b, c: c, name: name, positions: make(map[string]map[int32]*readerPosition), starts: make(commits)}
	r.gone = goneTopics{b: b, c: c}
	r.poller.init()
	return r
}

func (r *reader) begun(topic string, id int32, b beginning) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.positions[topic] == nil {
		r.positions[topic] = make(map[int32]*readerPosition)
	}
	p := &readerPosition{committed: -1}
	p.next.Store(b.at.Offset)
	if b.committed {
		p.committed = b.at.Offset
	} else if r.member != nil {
		r.starts.set(topic, id, commit{at: b.at})
	}
	r.positions[topic][id] = p
}

// takeAway forgets partitions that are given up. What was committed of them is still
// handed out: nobody else gets it.
func (r *reader) takeAway(ids map[string][]int32) {
	r.poller.barrier()
	r.mu.Lock()
	defer r.mu.Unlock()
	for topic, list := range ids {
		for _, id := range list {
			delete(r.positions[topic], id)
			r.starts.remove(topic, id)
		}
	}
	kept := r.fetched[:0]
	for _, rec := range r.fetched {
		if r.positions[rec.Topic][rec.Partition] != nil {
			kept = append(kept, rec)
		}
	}
	clear(r.fetched[len(kept):])
	r.fetched = kept
}

// Receive returns the next message.
func (r *reader) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	if len(r.ready) == 0 || ctx.Err() != nil {
		if err := r.wait(ctx); err != nil {
			return nil, err
		}
	}
	m := &r.ready[0]
	r.ready = r.ready[1:]
	m.at.next.Store(m.rec.Offset + 1)
	return m, nil
}

// ReceiveBatch returns what is there, at least one message.
func (r *reader) ReceiveBatch(ctx context.Context, dst []broker.IncomingMessage) (int, error) {
	if len(dst) == 0 {
		return 0, nil
	}
	if len(r.ready) == 0 || ctx.Err() != nil {
		if err := r.wait(ctx); err != nil {
			return 0, err
		}
	}
	n := min(len(dst), len(r.ready))
	for i := range n {
		m := &r.ready[i]
		m.at.next.Store(m.rec.Offset + 1)
		dst[i] = m
	}
	r.ready = r.ready[n:]
	return n, nil
}

// wait returns nil when something is ready.
func (r *reader) wait(ctx context.Context) error {
	const op = "receive"
	if err := r.b.life.refuse(op, r.name); err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return r.b.fail(op, r.name, err)
		}
		if len(r.ready) > 0 {
			return nil
		}
		r.mu.Lock()
		r.ready, r.incoming = r.incoming, nil
		err := r.failed
		owed := len(r.fetched) > 0 || len(r.starts) > 0
		r.mu.Unlock()
		switch {
		case len(r.ready) > 0:
			continue
		case r.closed.Load():
			return fail(op, r.name, broker.ErrClosed, nil)
		case err != nil:
			return err
		case owed:
			r.poller.run(ctx, r.commitFetched)
		default:
			r.poller.poll(ctx, r.client, readerPoll, r.hasWork, r.take)
		}
	}
}

func (r *reader) hasWork() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed.Load() || r.failed != nil || len(r.fetched) > 0 || len(r.starts) > 0
}

func (r *reader) take(ctx context.Context, fetches kgo.Fetches) {
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		if f.Err != nil {
			if err := r.gone.judge(ctx, f.Topic, f.Err); err != nil {
				r.mu.Lock()
				r.failed = err
				r.mu.Unlock()
				r.b.tell(broker.Event{Kind: broker.EventSubscriptionLost, Name: r.name, Err: err})
			}
		}
		if len(f.Records) == 0 {
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		switch at := r.positions[f.Topic][f.Partition]; {
		case at == nil: // it was revoked meanwhile
		case r.member != nil:
			r.fetched = append(r.fetched, f.Records...)
		default:
			r.handOut(f.Records)
		}
	})
}

// handOut makes records ready; mu is held.
func (r *reader) handOut(records []*kgo.Record) {
	list := make([]ReaderMessage, len(records))
	for i, rec := range records {
		list[i].rec, list[i].b, list[i].at = rec, r.b, r.positions[rec.Topic][rec.Partition]
	}
	r.incoming = append(r.incoming, list...)
}

// commitFetched commits what was fetched, and then makes it ready; and where partitions
// begin. It tries until that succeeds, the partition is given up, or ctx ends.
func (r *reader) commitFetched(ctx context.Context) {
	for ctx.Err() == nil {
		due, committed := make(commits), make(commits)
		r.mu.Lock()
		for topic, partitions := range r.starts {
			for id, at := range partitions {
				due.set(topic, id, at)
			}
		}
		for _, rec := range r.fetched {
			due.set(rec.Topic, rec.Partition, commit{at: kgo.EpochOffset{Epoch: rec.LeaderEpoch, Offset: rec.Offset + 1}})
		}
		r.mu.Unlock()
		if len(due) == 0 {
			return
		}
		// Who breaks it off waits for the answer: what was committed must be handed out.
		answer, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
		_ = r.member.commit(answer, due, func(topic string, id int32) {
			committed.set(topic, id, due[topic][id])
		})
		cancel()
		if r.release(committed) {
			return
		}
		select {
		case <-time.After(rereadWait):
		case <-ctx.Done():
		}
	}
}

// release hands out what was committed. It reports whether that is anything.
func (r *reader) release(committed commits) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*kgo.Record
	kept := r.fetched[:0]
	for _, rec := range r.fetched {
		c, ok := committed[rec.Topic][rec.Partition]
		if !ok {
			kept = append(kept, rec)
			continue
		}
		out = append(out, rec)
		r.positions[rec.Topic][rec.Partition].committed = c.at.Offset
	}
	clear(r.fetched[len(kept):])
	r.fetched = kept
	for topic, partitions := range committed {
		for id := range partitions {
			r.starts.remove(topic, id)
		}
	}
	r.handOut(out)
	return len(committed) > 0
}

// Close stops the intake and leaves the group. Receive hands out what is ready first.
func (r *reader) Close(ctx context.Context) error {
	if err := r.b.life.refuse("close", r.name); err != nil {
		return err
	}
	ctx, cancel := withDefault(ctx, broker.DefaultShutdownTimeout)
	defer cancel()
	return r.end(ctx)
}

// end is called by Close and by Shutdown.
func (r *reader) end(ctx context.Context) error {
	r.closing.Do(func() {
		r.closed.Store(true)
		r.poller.barrier()
		if r.member != nil {
			r.member.leave(ctx)
		} else {
			r.client.Close()
		}
		r.b.remove(r)
	})
	return nil
}

// trouble is why the group cannot be joined, nil for nothing.
func (r *reader) trouble() error {
	if r.member == nil {
		return nil
	}
	return r.member.trouble()
}

// Lag is how many messages wait in the partitions that are read, see [PartitionStatus].
func (r *reader) Lag(ctx context.Context) (int64, error) {
	return r.b.lag(ctx, r.name, r.partitions)
}

func (r *reader) partitions() []PartitionStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []PartitionStatus
	for topic, partitions := range r.positions {
		for id, at := range partitions {
			list = append(list, PartitionStatus{
				Source: r.name, Group: r.group, Topic: topic, Partition: id,
				Position: at.next.Load(), Committed: at.committed, End: -1,
			})
		}
	}
	return list
}

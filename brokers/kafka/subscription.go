package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream/broker"
)

var (
	_ broker.Subscription  = (*trackedSubscription)(nil)
	_ broker.BatchReceiver = (*trackedSubscription)(nil)
	_ broker.Lagger        = (*trackedSubscription)(nil)
)

// pollSize is how many records one poll takes from the client, which has fetched more.
const pollSize = 512

// trackedSubscription reads as a member of a group and commits what was settled.
type trackedSubscription struct {
	member
	poller poller

	// current is the partition that Receive takes from: its own, as is all that it does
	// without a lock.
	current *partition
	// attention has Receive look for something else than the next message.
	attention atomic.Bool

	mu       sync.Mutex
	parts    map[string]map[int32]*partition
	lostOnes map[string]map[int32]*partition // that may come back with what was settled of them
	sessions int                             // how often the group has assigned partitions
	ready    []*partition                    // something waits in them
	back     []*partition                    // something was given back to them
	closed   bool
	failed   error // what Receive answers from now on
	// uncommitted is why the last commit failed, nil where it did not; notGivenUp the same
	// for the last one of partitions that were revoked.
	uncommitted, notGivenUp error

	gone       goneTopics
	pausing    sync.Mutex    // held while the client is told what to fetch
	committing chan struct{} // held by whoever commits

	closing sync.Once
	leaving sync.Once
	stop    context.Context // ends when it leaves
	endStop context.CancelFunc
	soon    chan struct{} // asks for a commit before its time
	commits chan struct{} // closed when the committer has ended
	left    chan struct{} // closed when it has left
	leftErr error         // of the last commit; set before left is closed
}

func (b *Broker) subscribeTracked(ctx context.Context, src TopicSource) (broker.Subscription, error) {
	c, err := b.enter("subscribe", src.Name())
	if err != nil {
		return nil, err
	}
	defer b.life.leave()
	if err := ctx.Err(); err != nil {
		return nil, b.fail("subscribe", src.Name(), err)
	}
	ctx, cancel := withDefault(ctx, broker.DefaultTimeout)
	defer cancel()
	s := &trackedSubscription{
		member:     member{b: b, c: c, src: src},
		parts:      make(map[string]map[int32]*partition),
		lostOnes:   make(map[string]map[int32]*partition),
		committing: make(chan struct{}, 1),
		soon:       make(chan struct{}, 1),
		commits:    make(chan struct{}),
		left:       make(chan struct{}),
	}
	s.stop, s.endStop = context.WithCancel(context.Background())
	s.poller.init()
	s.gone = goneTopics{b: b, c: c, pattern: src.isPattern}
	s.assigned, s.begun, s.revoked, s.lost = s.onAssigned, s.onBegun, s.onRevoked, s.onLost
	if err := s.prepare(ctx); err != nil {
		s.endStop()
		return nil, b.failSubscribe(src.Name(), err)
	}
	if !b.add(s) {
		s.endStop()
		return nil, fail("subscribe", src.Name(), broker.ErrClosed, nil)
	}
	go s.commitAtIntervals()
	if err := s.join(ctx); err != nil {
		s.abandon()
		return nil, b.failSubscribe(src.Name(), err)
	}
	// Where it begins, if it is new. What fails is tried again at the next interval.
	_ = s.commit(ctx, s.all())
	return s, nil
}

// failSubscribe translates an error that may be of this package already.
func (b *Broker) failSubscribe(name string, err error) error {
	if errors.Is(err, broker.ErrNotFound) {
		return fail("subscribe", name, nil, err)
	}
	return b.fail("subscribe", name, err)
}

// Receive returns the next message.
func (s *trackedSubscription) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	if ctx.Err() == nil && !s.attention.Load() && s.current != nil {
		if m := s.current.receive(); m != nil {
			return m, nil
		}
	}
	var one [1]broker.IncomingMessage
	_, err := s.receive(ctx, one[:])
	return one[0], err
}

// ReceiveBatch returns what is there of one partition, at least one message.
func (s *trackedSubscription) ReceiveBatch(ctx context.Context, dst []broker.IncomingMessage) (int, error) {
	if len(dst) == 0 {
		return 0, nil
	}
	if ctx.Err() == nil && !s.attention.Load() && s.current != nil {
		if n, _ := s.current.receiveInto(dst); n > 0 {
			return n, nil
		}
	}
	return s.receive(ctx, dst)
}

// receive looks for messages wherever they may come from, and waits for the first. What
// was given back comes before what was not handed out yet.
func (s *trackedSubscription) receive(ctx context.Context, dst []broker.IncomingMessage) (int, error) {
	const op = "receive"
	if err := s.b.life.refuse(op, s.src.Name()); err != nil {
		return 0, err
	}
	for {
		s.mu.Lock()
		if err := s.over(); err != nil {
			s.mu.Unlock()
			return 0, err
		}
		if err := ctx.Err(); err != nil {
			s.mu.Unlock()
			return 0, s.b.fail(op, s.src.Name(), err)
		}
		s.attention.Store(false)
		back := pop(&s.back)
		if len(s.back) > 0 {
			s.attention.Store(true)
		}
		s.mu.Unlock()
		if back != nil {
			if n := s.receiveBack(ctx, back, dst); n > 0 {
				return n, nil
			}
			continue
		}
		if n := s.receiveNext(dst); n > 0 {
			return n, nil
		}
		s.poller.poll(ctx, s.client, pollSize, s.hasWork, s.take)
	}
}

// pop takes the first of a list, nil where it is empty.
func pop(list *[]*partition) *partition {
	l := *list
	if len(l) == 0 {
		return nil
	}
	p := l[0]
	l[0] = nil
	*list = l[1:]
	return p
}

// over is what Receive answers when it has ended, nil until then; mu is held.
func (s *trackedSubscription) over() error {
	if s.closed {
		return fail("receive", s.src.Name(), broker.ErrClosed, nil)
	}
	return s.failed
}

// hasWork reports that there is something to do other than to wait for records.
func (s *trackedSubscription) hasWork() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed || s.failed != nil || len(s.back) > 0 || len(s.ready) > 0
}

// receiveNext takes from the partitions that have something, without waiting.
func (s *trackedSubscription) receiveNext(dst []broker.IncomingMessage) int {
	for {
		if p := s.current; p != nil {
			n, full := p.receiveInto(dst)
			if n > 0 {
				return n
			}
			if full {
				s.follow(p)
			}
		}
		s.mu.Lock()
		s.current = pop(&s.ready)
		s.mu.Unlock()
		if s.current == nil {
			return 0
		}
	}
}

// take sorts what was fetched into its partitions.
func (s *trackedSubscription) take(ctx context.Context, fetches kgo.Fetches) {
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		if f.Err != nil {
			s.judge(ctx, f.Topic, f.Err)
		}
		if len(f.Records) == 0 {
			return
		}
		s.mu.Lock()
		p := s.parts[f.Topic][f.Partition]
		s.mu.Unlock()
		if p == nil || !p.add(f.Records) {
			return // it was revoked meanwhile
		}
		s.mu.Lock()
		s.ready = append(s.ready, p)
		s.mu.Unlock()
	})
}

// judge sees to an error that came with a fetch, or instead of one.
func (s *trackedSubscription) judge(ctx context.Context, topic string, err error) {
	if err := s.gone.judge(ctx, topic, err); err != nil {
		s.mu.Lock()
		if s.failed == nil {
			s.failed = err
		}
		s.mu.Unlock()
		s.attention.Store(true)
		s.b.tell(broker.Event{Kind: broker.EventSubscriptionLost, Name: s.src.Name(), Err: err})
	}
}

// receiveBack hands out what was given back to p.
func (s *trackedSubscription) receiveBack(ctx context.Context, p *partition, dst []broker.IncomingMessage) int {
	n, more := p.receiveBack(dst)
	var took time.Duration
	if n == 0 && more {
		began := time.Now()
		s.readAgain(ctx, p)
		took = time.Since(began)
		n, more = p.receiveBack(dst)
	}
	switch {
	case !more:
	case n > 0 || ctx.Err() != nil:
		s.comesAgain(p)
	default:
		// It cannot be read at present. Meanwhile the others have most of the time.
		time.AfterFunc(max(rereadWait, 4*took), func() {
			s.comesAgain(p)
			s.poller.wake()
		})
	}
	return n
}

// after does what a settlement leads to, outside of all locks.
func (s *trackedSubscription) after(p *partition, then then) {
	switch then {
	case comesAgain:
		s.comesAgain(p)
	case goesOn:
		s.follow(p)
		s.mu.Lock()
		s.ready = append(s.ready, p)
		s.mu.Unlock()
	}
	s.poller.wake()
}

func (s *trackedSubscription) comesAgain(p *partition) {
	s.mu.Lock()
	s.back = append(s.back, p)
	s.mu.Unlock()
	s.attention.Store(true)
}

// follow tells the client whether to fetch the partition, as it is now.
func (s *trackedSubscription) follow(p *partition) {
	s.pausing.Lock()
	defer s.pausing.Unlock()
	p.mu.Lock()
	full := p.full && p.state == held
	p.mu.Unlock()
	which := map[string][]int32{p.topic: {p.id}}
	if full {
		s.client.PauseFetchPartitions(which)
	} else {
		s.client.ResumeFetchPartitions(which)
	}
}

// Close stops the intake and commits. While messages are out the subscription stays in
// its group, until the last is settled, [TopicSource.LeaveTimeout] has passed, or the
// broker is shut down.
func (s *trackedSubscription) Close(ctx context.Context) error {
	if err := s.b.life.refuse("close", s.src.Name()); err != nil {
		return err
	}
	var err error
	s.closing.Do(func() {
		ctx, cancel := withDefault(ctx, broker.DefaultShutdownTimeout)
		defer cancel()
		idle := s.stopIntake()
		if waitFor(idle, 0, nil) {
			err = s.leaveFor(ctx, false)
			return
		}
		if err = s.commit(ctx, s.all()); isOfRebalance(err) {
			err = nil // it is tried again, at the latest by Shutdown, which tells
		}
		go func() {
			if waitFor(idle, s.src.tracking.leaveTimeout, s.b.done.Done()) || !s.b.life.isClosed() {
				ctx, cancel := context.WithTimeout(context.Background(), broker.DefaultShutdownTimeout)
				defer cancel()
				_ = s.leaveFor(ctx, true)
			}
		}()
	})
	if err != nil {
		return s.b.fail("close", s.src.Name(), err)
	}
	return nil
}

// stopIntake hands out nothing more. The channels close when a partition has nothing out.
func (s *trackedSubscription) stopIntake() []<-chan struct{} {
	s.mu.Lock()
	s.closed = true
	s.ready, s.back = nil, nil
	s.mu.Unlock()
	s.attention.Store(true)
	s.poller.barrier()
	var idle []<-chan struct{}
	for _, p := range s.all() {
		idle = append(idle, p.drain())
	}
	return idle
}

// waitFor waits until all channels are closed, but no longer than d, nor than until stop
// closes. It reports whether they are.
func waitFor(all []<-chan struct{}, d time.Duration, stop <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for _, c := range all {
		select {
		case <-c:
			continue
		default:
		}
		if d <= 0 {
			return false
		}
		select {
		case <-c:
		case <-timer.C:
			return false
		case <-stop:
			return false
		}
	}
	return true
}

// leaveFor commits what is settled and leaves the group for good. What is out is stale
// from then on. It is done once; who comes second waits. alone says that nobody is there for
// the error.
func (s *trackedSubscription) leaveFor(ctx context.Context, alone bool) error {
	s.leaving.Do(func() {
		defer close(s.left)
		s.endStop()
		<-s.commits
		for _, p := range s.all() {
			p.letGo()
		}
		s.mu.Lock()
		s.notGivenUp = nil // it was told of, if there was any
		s.mu.Unlock()
		err := s.commitFirmly(ctx, s.all)
		s.leave(ctx) // a revocation that runs ends before
		s.mu.Lock()
		err = errors.Join(err, s.notGivenUp)
		s.mu.Unlock()
		if err != nil {
			s.leftErr = fmt.Errorf("%s: what was acknowledged last is not committed, and comes again: %w", s.src, err)
			if alone {
				s.b.owe(s.leftErr)
			}
		}
		s.b.remove(s)
	})
	select {
	case <-s.left:
		return s.leftErr
	default: // somebody else is at it
	}
	select {
	case <-s.left:
		return s.leftErr
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end is called by Shutdown.
func (s *trackedSubscription) end(ctx context.Context) error {
	s.stopIntake()
	return s.leaveFor(ctx, false)
}

// abandon ends a subscription that nobody has seen.
func (s *trackedSubscription) abandon() {
	ctx, cancel := context.WithTimeout(s.b.done, abandonTimeout)
	defer cancel()
	s.stopIntake()
	_ = s.leaveFor(ctx, false)
}

// abandonTimeout bounds the good-bye of a subscription that did not come about.
const abandonTimeout = time.Second

// all are the partitions that are assigned.
func (s *trackedSubscription) all() []*partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*partition
	for _, partitions := range s.parts {
		for _, p := range partitions {
			list = append(list, p)
		}
	}
	return list
}

// trouble names partitions that are paused, and a group that cannot be joined.
func (s *trackedSubscription) trouble() error {
	err := s.member.trouble()
	s.mu.Lock()
	if s.uncommitted != nil {
		err = errors.Join(err, fmt.Errorf("%s: what is acknowledged cannot be committed: %w", s.src, s.uncommitted))
	}
	s.mu.Unlock()
	for _, p := range s.all() {
		err = errors.Join(err, p.trouble())
	}
	return err
}

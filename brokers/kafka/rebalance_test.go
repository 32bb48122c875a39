package kafka_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
)

// never is a CommitInterval within which nothing is committed by itself.
const never = time.Hour

// commitStart has the group begin at offset 0 of each partition: a group without a commit
// makes one soon after Subscribe, which may have more in it than where it began.
func (s *site) commitStart(t *testing.T, group, topic string, partitions int32) {
	t.Helper()
	var start kadm.Offsets
	for p := range partitions {
		start.AddOffset(topic, p, 0, -1)
	}
	if err := s.admin.CommitAllOffsets(bounded(t), group, start); err != nil {
		t.Fatal(err)
	}
}

// joins subscribes beside: the channel has the subscription when it has joined.
func joins(t *testing.T, b *kafka.Broker, src broker.Source) <-chan broker.Subscription {
	joined := make(chan broker.Subscription, 1)
	ctx := bounded(t)
	go func() {
		defer close(joined)
		sub, err := src.Subscribe(ctx, b)
		if err != nil {
			t.Error(err)
			return
		}
		joined <- sub
	}()
	return joined
}

// holdOfEach receives each messages of each of the partitions.
func holdOfEach(t *testing.T, sub broker.Subscription, partitions, each int) [][]*kafka.Message {
	t.Helper()
	got := make([][]*kafka.Message, partitions)
	for range partitions * each {
		m := receive(t, sub)
		got[m.Partition()] = append(got[m.Partition()], m)
	}
	for p := range got {
		if len(got[p]) != each {
			t.Fatalf("%d messages of partition %d came, want %d", len(got[p]), p, each)
		}
	}
	return got
}

// givenUp is a partition that member a has given up for a second one.
func givenUp(t *testing.T, a *kafka.Broker, all int) int32 {
	t.Helper()
	until(t, "a partition is given up", func() bool { return len(ownedBy(t, a)) < all })
	kept := ownedBy(t, a)
	for p := range int32(all) {
		if !slices.Contains(kept, p) {
			return p
		}
	}
	t.Fatalf("of %d partitions %v are kept", all, kept)
	return -1
}

// A partition that is revoked waits for what is in flight, which can be settled; that is
// committed, and the next member begins after it. The other partition goes on.
func TestRevokedPartitionFinishes(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	topic := s.topic(t, 2)
	for p := range int32(2) {
		s.put(t, topic, p, 0, 2)
	}
	s.commitStart(t, "g", topic, 2)
	src := kafka.Topic(topic).Group("g").CommitInterval(never).MaxUncommitted(3).RevokeTimeout(faultLimit)
	a, b := s.broker(t), s.broker(t)
	sub := subscribe(t, a, src)
	held := holdOfEach(t, sub, 2, 3)
	next := <-joins(t, b, src)

	p := givenUp(t, a, 2)
	if got := ownedBy(t, b); len(got) != 0 {
		t.Errorf("while messages are in flight the next member has the partitions %v", got)
	}
	for _, i := range []int{1, 2, 0} { // in any order
		if held[p][i].Stale() {
			t.Fatalf("offset %d is stale while the partition waits for it", i)
		}
		ack(t, held[p][i])
	}
	s.untilStable(t, "g", 2, 2)
	s.put(t, topic, p, 3, 3)
	if m := receive(t, next); m.Partition() != p || m.Offset() != 3 {
		t.Errorf("the next member is given offset %d of partition %d, want offset 3 of partition %d", m.Offset(), m.Partition(), p)
	}
	if c := s.commit("g", topic, p); c.Offset != 3 {
		t.Errorf("offset %d is committed, want 3", c.Offset)
	}
	// What was kept goes on as if nothing had been.
	ack(t, held[1-p]...)
	s.put(t, topic, 1-p, 3, 3)
	if m := receive(t, sub); m.Partition() != 1-p || m.Offset() != 3 {
		t.Errorf("the first member goes on with offset %d of partition %d", m.Offset(), m.Partition())
	}
}

// A partition that is revoked while its member is about to leave is committed as well:
// the last commit, which a rebalance may refuse at first, and the revocation do not leave
// it to each other.
func TestRevokedWhileLeaving(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	topic := s.topic(t, 2)
	for p := range int32(2) {
		s.put(t, topic, p, 0, 2)
	}
	s.commitStart(t, "g", topic, 2)
	src := kafka.Topic(topic).Group("g").CommitInterval(never)
	a, b := s.broker(t), s.broker(t)
	sub := subscribe(t, a, src)
	for _, msgs := range holdOfEach(t, sub, 2, 3) {
		ack(t, msgs...)
	}
	refused := s.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Group: "g", Count: -1, Err: kerr.RebalanceInProgress})
	defer refused.Remove()
	left, ctx := make(chan error, 1), bounded(t)
	go func() { left <- sub.Close(ctx) }()
	if err := refused.Wait(ctx, 1); err != nil {
		t.Fatal("a member that leaves does not commit:", err)
	}
	next := <-joins(t, b, src)
	givenUp(t, a, 2)
	refused.Remove()
	if err := <-left; err != nil {
		t.Fatal(err)
	}
	s.untilStable(t, "g", 1, 2)
	for p := range int32(2) {
		s.put(t, topic, p, 3, 3)
	}
	for range 2 {
		if m := receive(t, next); m.Offset() != 3 {
			t.Errorf("offset %d of partition %d was acknowledged, and comes to the next member; the group had committed %d", m.Offset(), m.Partition(), s.commit("g", topic, m.Partition()).Offset)
		}
	}
}

// What is not settled within RevokeTimeout is stale from then on and comes to the next
// member. What was settled does not, neither before it nor after it.
func TestRevokedPartitionIsLetGo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		wait time.Duration
	}{{"at once", 0}, {"after a while", 50 * time.Millisecond}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := ownCluster(t, 1)
			topic := s.topic(t, 2)
			for p := range int32(2) {
				s.put(t, topic, p, 0, 3)
			}
			s.commitStart(t, "g", topic, 2)
			src := kafka.Topic(topic).Group("g").CommitInterval(never).RevokeTimeout(c.wait)
			a, b := s.broker(t), s.broker(t)
			held := holdOfEach(t, subscribe(t, a, src), 2, 4)
			for p := range held {
				ack(t, held[p][0], held[p][2])
			}
			next := <-joins(t, b, src)
			s.untilStable(t, "g", 2, 2)
			p := givenUp(t, a, 2)
			for _, want := range []int64{1, 3} {
				if m := receive(t, next); m.Partition() != p || m.Offset() != want {
					t.Fatalf("the next member is given offset %d of partition %d, want offset %d of partition %d", m.Offset(), m.Partition(), want, p)
				}
			}
			wantStale(t, held[p][1])
			wantStale(t, held[p][3])
			if err := held[p][0].Ack(t.Context()); err == nil || held[1-p][1].Stale() {
				t.Errorf("a second Ack answers %v; a message of the partition that was kept is stale: %v", err, held[1-p][1].Stale())
			}
			if c := s.commit("g", topic, p); c.Offset != 1 || !slices.Equal(settledIn(t, c), []int64{2}) {
				t.Errorf("committed is %+v, want offset 1 and beside it 2", c)
			}
		})
	}
}

// Partitions that are lost may belong to somebody else already: nothing of them is
// committed, what is out is stale and comes again. Where they come back to the same
// subscription, what it had acknowledged does not.
func TestLostPartitions(t *testing.T) {
	t.Parallel()
	for _, lost := range []*kerr.Error{kerr.UnknownMemberID, kerr.IllegalGeneration} {
		t.Run(lost.Message, func(t *testing.T) {
			t.Parallel()
			s := ownCluster(t, 1)
			topic := s.topic(t, 2)
			for p := range int32(2) {
				s.put(t, topic, p, 0, 2)
			}
			b := s.broker(t, kafka.ClientOptions(kgo.SessionTimeout(time.Second)))
			s.commitStart(t, "g", topic, 2)
			sub := subscribe(t, b, kafka.Topic(topic).Group("g").CommitInterval(never))
			held := holdOfEach(t, sub, 2, 3)
			for p := range int32(2) {
				ack(t, held[p][0])
			}
			commits := s.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Group: "g", Observe: true, Count: -1})
			defer commits.Remove()
			s.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Group: "g", Err: lost})

			until(t, "what is out is stale", func() bool { return held[0][1].Stale() && held[1][1].Stale() })
			for p := range held {
				wantStale(t, held[p][1])
				wantStale(t, held[p][2])
			}
			again := holdOfEach(t, sub, 2, 2)
			if n := commits.Hits(); n != 0 {
				t.Errorf("%d times something was committed", n)
			}
			for p := range again {
				for i, m := range again[p] {
					if m.Offset() != int64(i+1) {
						t.Errorf("partition %d comes again with offset %d, want %d", p, m.Offset(), i+1)
					}
				}
				ack(t, again[p]...)
			}
			closeSub(t, sub)
			for p := range int32(2) {
				if c := s.commit("g", topic, p); c.Offset != 3 {
					t.Errorf("at the end offset %d of partition %d is committed, want 3", c.Offset, p)
				}
			}
		})
	}
}

// A member that was struck off while another has its partition commits nothing more: what
// the other has committed stays.
func TestStruckOffMemberCommitsNothing(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	topic := s.topic(t, 1)
	s.put(t, topic, 0, 0, 9)
	src := quickly(topic, "g").CommitInterval(5 * time.Millisecond)
	a, b := s.broker(t), s.broker(t)
	sub := subscribe(t, a, src)
	held := holdOfEach(t, sub, 1, 10)[0]
	ack(t, held[0])
	s.untilCommitted(t, "g", topic, 0, 1)
	next := <-joins(t, b, src) // has no partition

	first := memberOf(t, s.untilStable(t, "g", 2, 1), topic, 0)
	// It does not learn of it as long as its heartbeats are not answered that way.
	blind := s.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Group: "g", Count: -1, Err: kerr.CoordinatorLoadInProgress, When: func(r kmsg.Request) bool {
		return r.(*kmsg.HeartbeatRequest).MemberID == first
	}})
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = "g"
	req.MemberID = first
	one := kmsg.NewLeaveGroupRequestMember()
	one.MemberID = first
	req.Members = append(req.Members, one)
	if _, err := req.RequestWith(bounded(t), s.plain); err != nil {
		t.Fatal(err)
	}
	for want := int64(1); want < 10; want++ {
		m := receive(t, next)
		if m.Offset() != want {
			t.Fatalf("the next member is given offset %d, want %d", m.Offset(), want)
		}
		ack(t, m)
	}
	s.untilCommitted(t, "g", topic, 0, 10)
	var lower atomic.Int64 // commits that would set it back
	setBack := s.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Group: "g", Observe: true, Count: -1, When: func(r kmsg.Request) bool {
		req := r.(*kmsg.OffsetCommitRequest)
		if req.MemberID != first && req.Topics[0].Partitions[0].Offset < 10 {
			lower.Add(1)
		}
		return false
	}})
	defer setBack.Remove()
	for _, m := range held[1:4] { // Ack cannot know yet
		if err := m.Ack(t.Context()); err != nil && !errors.Is(err, broker.ErrStale) {
			t.Error(err)
		}
	}
	blind.Remove()
	until(t, "the first member has learnt of it", held[9].Stale)
	wantStale(t, held[9])
	if c := s.commit("g", topic, 0); c.Offset != 10 {
		t.Errorf("offset %d is committed: what the next member had committed was set back", c.Offset)
	}
	// When it gets the partition again it goes by what the other has committed.
	closeSub(t, next)
	until(t, "it has the partition again", func() bool {
		list, err := a.PartitionStatus(bounded(t))
		return err == nil && len(list) == 1 && list[0].Position >= 0
	})
	s.put(t, topic, 0, 10, 10)
	m := receive(t, sub)
	if m.Offset() != 10 {
		t.Fatalf("the first member is given offset %d again, want 10", m.Offset())
	}
	ack(t, m)
	s.untilCommitted(t, "g", topic, 0, 11)
	if n := lower.Load(); n != 0 {
		t.Errorf("%d times an offset below what the next member had committed was committed", n)
	}
}

// memberOf is the id of the member that has the partition.
func memberOf(t *testing.T, g *kfake.GroupInfo, topic string, partition int32) string {
	t.Helper()
	for _, m := range g.Members {
		if slices.Contains(m.Assignment[topic], partition) {
			return m.MemberID
		}
	}
	t.Fatalf("nobody has partition %d: %+v", partition, g)
	return ""
}

// A subscription that nobody receives from stays in its group beyond the session timeout,
// and gives up partitions to others all the same.
func TestSlowReceiverStaysInTheGroup(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	topic := s.topic(t, 2)
	for p := range int32(2) {
		s.put(t, topic, p, 0, 0)
	}
	src := quickly(topic, "g").RevokeTimeout(0)
	const session, heartbeat = 500 * time.Millisecond, 50 * time.Millisecond
	quick := kafka.ClientOptions(kgo.SessionTimeout(session), kgo.HeartbeatInterval(heartbeat))
	a, b := s.broker(t, quick), s.broker(t, quick)
	held := holdOfEach(t, subscribe(t, a, src), 2, 1)
	before := s.untilStable(t, "g", 1, 2)

	beats := s.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Group: "g", Observe: true, Count: -1})
	defer beats.Remove()
	if err := beats.Wait(bounded(t), 3*int(session/heartbeat)); err != nil {
		t.Fatal(err)
	}
	after := s.group(t, "g")
	if len(after.Members) != 1 || after.Epoch != before.Epoch || after.Members[0].MemberID != before.Members[0].MemberID {
		t.Errorf("the group was %+v, and is %+v", before, after)
	}
	next := <-joins(t, b, src)
	s.untilStable(t, "g", 2, 2)
	p := givenUp(t, a, 2)
	if m := receive(t, next); m.Partition() != p || m.Offset() != 0 {
		t.Errorf("the next member is given offset %d of partition %d", m.Offset(), m.Partition())
	}
	wantStale(t, held[p][0])
	ack(t, held[1-p][0])
	s.untilCommitted(t, "g", topic, 1-p, 1)
}

// A subscription that is closed while messages are out stays in its group until they are
// settled; then another member gets its partitions, and what was not handed out.
func TestCloseStaysUntilSettled(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	topic := s.topic(t, 1)
	s.put(t, topic, 0, 0, 4)
	s.commitStart(t, "g", topic, 1)
	src := kafka.Topic(topic).Group("g").CommitInterval(never).LeaveTimeout(faultLimit)
	a, b := s.broker(t), s.broker(t)
	sub := subscribe(t, a, src)
	held := holdOfEach(t, sub, 1, 3)[0]
	ack(t, held[1])
	closeSub(t, sub)
	if c := s.commit("g", topic, 0); c.Offset != 0 || !slices.Equal(settledIn(t, c), []int64{1}) {
		t.Errorf("when Close has returned committed is %+v, want offset 0 and beside it 1", c)
	}
	if _, err := sub.Receive(bounded(t)); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("Receive answers %v, want broker.ErrClosed", err)
	}
	first := memberOf(t, s.group(t, "g"), topic, 0)
	next := <-joins(t, b, src)
	if g := s.untilStable(t, "g", 2, 1); memberOf(t, g, topic, 0) != first {
		t.Errorf("the partition has gone to another member: %+v", g)
	}
	ack(t, held[0])
	if held[2].Stale() {
		t.Error("a message is stale though not all are settled")
	}
	if err := held[2].Nack(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	s.untilStable(t, "g", 1, 1)
	for _, want := range []int64{2, 3, 4} { // what was given back, and what was not handed out
		m := receive(t, next)
		if m.Offset() != want {
			t.Fatalf("the next member is given offset %d, want %d", m.Offset(), want)
		}
		ack(t, m)
	}
	closeSub(t, next)
	if c := s.commit("g", topic, 0); c.Offset != 5 {
		t.Errorf("at the end offset %d is committed, want 5", c.Offset)
	}
}

// LeaveTimeout bounds how long it stays; then what is out is stale, and comes to another
// member.
func TestLeaveTimeout(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		wait time.Duration
	}{{"at once", 0}, {"after a while", 50 * time.Millisecond}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := ownCluster(t, 1)
			topic := s.topic(t, 1)
			s.put(t, topic, 0, 0, 2)
			s.commitStart(t, "g", topic, 1)
			src := kafka.Topic(topic).Group("g").CommitInterval(never).LeaveTimeout(c.wait)
			a := s.broker(t)
			sub := subscribe(t, a, src)
			held := holdOfEach(t, sub, 1, 3)[0]
			ack(t, held[0], held[2])
			closeSub(t, sub)
			until(t, "the message that is out is stale", held[1].Stale)
			wantStale(t, held[1])
			s.untilStable(t, "g", 0, 0)

			// The same broker may have the next subscription.
			next := subscribe(t, a, src)
			s.put(t, topic, 0, 3, 3)
			for _, want := range []int64{1, 3} {
				if m := receive(t, next); m.Offset() != want {
					t.Fatalf("the next member is given offset %d, want %d", m.Offset(), want)
				}
			}
		})
	}
}

// A subscription that is closed with messages out gives a partition up in good order when
// a rebalance asks for it: it waits for that partition's own messages only.
func TestRebalanceWhileClosed(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	topic := s.topic(t, 2)
	for p := range int32(2) {
		s.put(t, topic, p, 0, 1)
	}
	s.commitStart(t, "g", topic, 2)
	src := kafka.Topic(topic).Group("g").CommitInterval(never).RevokeTimeout(faultLimit).LeaveTimeout(faultLimit)
	a, b := s.broker(t), s.broker(t)
	sub := subscribe(t, a, src)
	held := holdOfEach(t, sub, 2, 2)
	closeSub(t, sub)
	next := <-joins(t, b, src)
	p := givenUp(t, a, 2)
	ack(t, held[p]...)
	s.untilStable(t, "g", 2, 2)
	s.put(t, topic, p, 2, 2)
	if m := receive(t, next); m.Partition() != p || m.Offset() != 2 {
		t.Errorf("the next member is given offset %d of partition %d, want offset 2 of partition %d", m.Offset(), m.Partition(), p)
	}
	ack(t, held[1-p]...)
	s.untilStable(t, "g", 1, 2)
	s.put(t, topic, 1-p, 2, 2)
	if m := receive(t, next); m.Partition() != 1-p || m.Offset() != 2 {
		t.Errorf("the next member is given offset %d of partition %d, want offset 2 of partition %d", m.Offset(), m.Partition(), 1-p)
	}
}

// watchful has a client look for new topics and partitions all the time.
func watchful() kafka.Option { return kafka.ClientOptions(kgo.MetadataMaxAge(50 * time.Millisecond)) }

// meanwhile runs f after the members have noticed that they must join anew, and before
// they can.
func (s *site) meanwhile(t *testing.T, group string, change, f func()) {
	t.Helper()
	joining := s.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Group: group, Count: -1, Err: kerr.CoordinatorLoadInProgress})
	defer joining.Remove()
	change()
	if err := joining.Wait(bounded(t), 1); err != nil {
		t.Fatal("nobody has noticed:", err)
	}
	f()
}

// A partition that is added is read from its beginning also where the group begins with
// what is new: nobody can have waited for it.
func TestAddedPartitionIsReadFromItsBeginning(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	topic := s.topic(t, 1)
	s.put(t, topic, 0, 0, 4)
	b := s.broker(t, watchful())
	sub := subscribe(t, b, quickly(topic, "g").FromLatest())
	s.meanwhile(t, "g", func() {
		if _, err := s.admin.CreatePartitions(bounded(t), 1, topic); err != nil {
			t.Fatal(err)
		}
	}, func() { s.put(t, topic, 1, 10, 12) })
	for i, want := range numbers(10, 12) {
		m := receive(t, sub)
		if got := number(t, m.Payload()); got != want || m.Partition() != 1 || m.Offset() != int64(i) {
			t.Fatalf("received %d at offset %d of partition %d, want %d", got, m.Offset(), m.Partition(), want)
		}
		ack(t, m)
	}
	s.untilCommitted(t, "g", topic, 1, 3)
	s.put(t, topic, 0, 5, 5)
	if m := receive(t, sub); number(t, m.Payload()) != 5 {
		t.Errorf("of the partition that was there %s came, want what was published after Subscribe", m.Payload())
	}
}

// A pattern finds topics that are created later, and reads them from their beginning;
// those that it found at first are read as the source says.
func TestPatternFindsNewTopics(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		there bool // a topic matches at first
	}{{"one is there", true}, {"none is there", false}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := ownCluster(t, 1)
			id := newID()
			create := func(name string) {
				t.Helper()
				if _, err := s.createTopic(bounded(t), name, 2); err != nil {
					t.Fatal(err)
				}
			}
			if c.there {
				create(id + ".old")
				s.put(t, id+".old", 0, 0, 4)
			}
			src := kafka.TopicPattern(id + `\.[a-z]+`).Group("g").FromLatest().CommitInterval(20 * time.Millisecond)
			sub := subscribe(t, s.broker(t, watchful()), src)
			s.meanwhile(t, "g", func() { create(id + ".new") }, func() {
				create(id + ".new.not") // does not match as a whole
				s.put(t, id+".new.not", 0, 20, 20)
				s.put(t, id+".new", 0, 10, 11)
				s.put(t, id+".new", 1, 12, 13)
			})
			for n, m := range receiveNumbers(t, sub, 10, 11, 12, 13) {
				if m.Name() != id+".new" {
					t.Errorf("%d came from %s", n, m.Name())
				}
				ack(t, m)
			}
			s.untilCommitted(t, "g", id+".new", 0, 2)
			s.untilCommitted(t, "g", id+".new", 1, 2)
			if c.there {
				s.put(t, id+".old", 0, 5, 5)
				receiveNumbers(t, sub, 5)
			}
		})
	}
}

package kafka_test

import (
	"context"
	"errors"
	"math"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
)

// While messages are published and handled, brokers leave the cluster and come back,
// partitions change their leaders, and the group its coordinator. What Publish accepted is
// not lost, each key's messages arrive in their order, and in the end everything is
// committed.
func TestClusterChangesUnderLoad(t *testing.T) {
	t.Parallel()
	const partitions, rounds, between = 6, 3, 200
	s := ownCluster(t, 3)
	s.knowsEpochs()
	topic, group := s.topic(t, partitions), newID()
	load := newClusterLoad(topic, 24)
	load.ahead = 4 * between
	// A member of the group each, with the connections of a broker of its own.
	for range 2 {
		load.consume(t, clusterSubscribe(t, s.broker(t), clusterSource(topic, group)))
	}
	published := load.publish(t, s.broker(t).Publisher())

	for round := range rounds {
		for _, change := range []struct {
			what string
			f    func(t *testing.T) (undo func())
		}{
			{"a broker leaves", func(t *testing.T) func() { return s.removeNode(t, int32(round)) }},
			{"all leaders change", func(*testing.T) func() { s.cluster.ShufflePartitionLeaders(); return nil }},
			{"the coordinators change", func(*testing.T) func() { s.cluster.RehashCoordinators(); return nil }},
			{"one leader changes", func(t *testing.T) func() {
				for p := range int32(partitions) {
					next := (s.cluster.LeaderFor(topic, p) + 1) % 3
					if err := s.cluster.MoveTopicPartition(topic, p, next); err != nil {
						t.Fatal(err)
					}
				}
				return nil
			}},
		} {
			load.progress(t, between)
			undo := change.f(t)
			load.progress(t, between) // with the change, and after it was taken back
			if undo != nil {
				undo()
			}
			if t.Failed() {
				t.Fatalf("in round %d, when %s", round, change.what)
			}
		}
	}
	load.end()
	clusterClosed(t, "the end of publishing", published)
	load.allHandled(t)
	s.allCommitted(t, group, topic, partitions)
	load.report(t)
}

// A consumer whose partition moves from leader to leader with each message goes on, and so
// does what it gave back, which is read from the leader of that moment.
func TestLeaderMovesWithEachMessage(t *testing.T) {
	t.Parallel()
	const n = 30
	s := ownCluster(t, 3)
	s.knowsEpochs()
	topic, group := s.topic(t, 1), newID()
	b := s.broker(t)
	sub := clusterSubscribe(t, b, clusterSource(topic, group))
	for i := range n {
		if err := s.cluster.MoveTopicPartition(topic, 0, int32(i%3)); err != nil {
			t.Fatal(err)
		}
		clusterPublish(t, b.Publisher(), topic, strconv.Itoa(i))
		m := clusterReceive(t, sub)
		if got := string(m.Payload()); got != strconv.Itoa(i) {
			t.Fatalf("received %s, want %d", got, i)
		}
		if err := m.Nack(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if err := s.cluster.MoveTopicPartition(topic, 0, int32((i+1)%3)); err != nil {
			t.Fatal(err)
		}
		m = clusterReceive(t, sub)
		if got := string(m.Payload()); got != strconv.Itoa(i) {
			t.Fatalf("received %s again, want %d", got, i)
		}
		clusterAck(t, m)
	}
	s.allCommitted(t, group, topic, 1)
}

// knowsEpochs has the cluster answer where the log of an earlier leader ended as one does
// that has lost nothing. The fake knows epochs by their messages alone: asked for the last
// one while its successor has none yet it answers that there is no such epoch, and clients
// begin the partition anew.
func (s *site) knowsEpochs() {
	s.cluster.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		s.cluster.KeepControl()
		req := r.(*kmsg.OffsetForLeaderEpochRequest)
		resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		for _, topic := range req.Topics {
			t := kmsg.NewOffsetForLeaderEpochResponseTopic()
			t.Topic = topic.Topic
			for _, partition := range topic.Partitions {
				p := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
				p.Partition, p.LeaderEpoch, p.EndOffset = partition.Partition, partition.LeaderEpoch, math.MaxInt64
				t.Partitions = append(t.Partitions, p)
			}
			resp.Topics = append(resp.Topics, t)
		}
		return resp, nil, true
	})
}

// removeNode takes a broker out of the cluster, with its connections. It comes back at the
// same address.
func (s *site) removeNode(t *testing.T, node int32) (addAgain func()) {
	t.Helper()
	address := strings.Split(s.brokers, ",")[node]
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cluster.RemoveNode(node); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	proxy := s.proxies[address]
	s.mu.Unlock()
	if proxy != nil {
		proxy.Cut()
	}
	return func() {
		if _, _, err := s.cluster.AddNode(node, n); err != nil {
			t.Fatal(err)
		}
		if proxy != nil {
			proxy.Restore()
		}
	}
}

// allCommitted waits until the group has committed the end of each partition.
func (s *site) allCommitted(t *testing.T, group, topic string, partitions int32) {
	t.Helper()
	ends, err := s.admin.ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	for p := range partitions {
		end, ok := ends.Lookup(topic, p)
		if !ok || end.Err != nil {
			t.Fatalf("partition %d has no end: %v", p, end.Err)
		}
		var at int64
		clusterUntil(t, "that partition "+strconv.Itoa(int(p))+" is committed up to its end", func() bool {
			at, err = s.committed(t.Context(), group, topic, p)
			return err == nil && at >= end.Offset || err != nil && end.Offset == 0
		})
		if at > end.Offset {
			t.Errorf("partition %d is committed up to %d, but ends at %d", p, at, end.Offset)
		}
	}
}

// clusterLimit bounds whatever these tests wait for. Nothing comes near it, but where
// something is lost.
const clusterLimit = 30 * time.Second

// clusterUntil waits for what can only be asked for.
func clusterUntil(t *testing.T, what string, is func() bool) {
	t.Helper()
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	limit := time.NewTimer(clusterLimit)
	defer limit.Stop()
	for !is() {
		select {
		case <-look.C:
		case <-limit.C:
			t.Fatalf("waited %v in vain: %s", clusterLimit, what)
		}
	}
}

// clusterClosed waits for a channel to be closed.
func clusterClosed(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	limit := time.NewTimer(clusterLimit)
	defer limit.Stop()
	select {
	case <-c:
	case <-limit.C:
		t.Fatalf("waited %v in vain: %s", clusterLimit, what)
	}
}

// clusterContext bounds one call.
func clusterContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), clusterLimit)
	t.Cleanup(cancel)
	return ctx
}

// clusterSource commits soon, and gives partitions up soon.
func clusterSource(topic, group string) kafka.TopicSource {
	return kafka.Topic(topic).Group(group).CommitInterval(20 * time.Millisecond).RevokeTimeout(time.Second)
}

func clusterSubscribe(t *testing.T, b *kafka.Broker, src broker.Source) broker.Subscription {
	t.Helper()
	sub, err := src.Subscribe(clusterContext(t), b)
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

func clusterReceive(t *testing.T, sub broker.Subscription) broker.IncomingMessage {
	t.Helper()
	m, err := sub.Receive(clusterContext(t))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func clusterAck(t *testing.T, m broker.IncomingMessage) {
	t.Helper()
	if err := m.Ack(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func clusterPublish(t *testing.T, p broker.Publisher, topic string, payloads ...string) {
	t.Helper()
	for _, payload := range payloads {
		if err := p.Publish(clusterContext(t), broker.OutgoingMessage{Name: topic, Payload: []byte(payload)}); err != nil {
			t.Fatal(err)
		}
	}
}

// clusterEvents are what a broker has told.
type clusterEvents struct {
	mu  sync.Mutex
	all []broker.Event
}

// clusterListen records the events of a broker that is not connected yet.
func clusterListen(b *kafka.Broker) *clusterEvents {
	e := new(clusterEvents)
	b.Notify(func(event broker.Event) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.all = append(e.all, event)
	})
	return e
}

func (e *clusterEvents) of(kind broker.EventKind) (found []broker.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, event := range e.all {
		if event.Kind == kind {
			found = append(found, event)
		}
	}
	return found
}

// clusterLoad is what is published with some keys, 0, 1, 2 … for each, and handled. The
// numbers of a key must be seen for the first time in their order and without a gap;
// repetitions may come.
type clusterLoad struct {
	topic string
	keys  []string
	ahead int // how many messages may be published and not handled

	mu      sync.Mutex
	changed *sync.Cond
	ended   bool
	next    map[string]int // by key, what comes next for the first time
	wrong   int

	published, handled, repeated, retries int
}

func newClusterLoad(topic string, keys int) *clusterLoad {
	l := &clusterLoad{topic: topic, ahead: 1000, next: make(map[string]int, keys)}
	l.changed = sync.NewCond(&l.mu)
	for i := range keys {
		key := "key" + strconv.Itoa(i)
		l.keys = append(l.keys, key)
		l.next[key] = 0
	}
	return l
}

// publish publishes until end is called, in batches of one message for each key. What
// was not accepted is published again before the next batch. The channel closes at the
// end.
func (l *clusterLoad) publish(t *testing.T, p broker.Publisher) <-chan struct{} {
	ended := make(chan struct{})
	ctx, cancel := context.WithTimeout(context.Background(), 3*clusterLimit)
	go func() {
		defer close(ended)
		defer cancel()
		for n := 0; l.mayPublish(); n++ {
			var batch []broker.OutgoingMessage
			for _, key := range l.keys {
				batch = append(batch, broker.OutgoingMessage{Name: l.topic, Key: []byte(key), Payload: []byte(key + " " + strconv.Itoa(n))})
			}
			for len(batch) > 0 {
				err := broker.PublishBatch(ctx, p, batch)
				if err != nil && ctx.Err() != nil {
					if !errors.Is(ctx.Err(), context.Canceled) { // else the test has failed already
						t.Errorf("publishing number %d: %v", n, err)
					}
					return
				}
				batch = l.accepted(batch, err)
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		l.end()
		<-ended
	})
	return ended
}

func (l *clusterLoad) mayPublish() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.published-l.handled > l.ahead && !l.ended {
		l.changed.Wait()
	}
	return !l.ended
}

// accepted counts what was accepted, and returns the rest.
func (l *clusterLoad) accepted(batch []broker.OutgoingMessage, err error) (again []broker.OutgoingMessage) {
	for i, err := range broker.BatchErrors(err, len(batch)) {
		if err != nil {
			again = append(again, batch[i])
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.published += len(batch) - len(again)
	if err != nil {
		l.retries++
	}
	return again
}

// end ends publishing.
func (l *clusterLoad) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.changed.Broadcast()
}

// consume handles what the subscription receives, until the test ends.
func (l *clusterLoad) consume(t *testing.T, sub broker.Subscription) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			m, err := sub.Receive(ctx)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				t.Errorf("receive: %v", err)
				return
			}
			l.handle(t, m)
			// Another member may have it by now: then it is counted when it comes there.
			if err := m.Ack(ctx); err != nil && !errors.Is(err, broker.ErrStale) {
				t.Errorf("ack: %v", err)
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
}

// handle takes a message down.
func (l *clusterLoad) handle(t *testing.T, m broker.IncomingMessage) {
	key, number, _ := strings.Cut(string(m.Payload()), " ")
	n, err := strconv.Atoi(number)
	l.mu.Lock()
	defer l.mu.Unlock()
	next, known := l.next[key]
	if native, _ := broker.PartitionKey(m); !known || err != nil || string(native) != key {
		l.complain(t, "a message that nobody published: %q", m.Payload())
		return
	}
	switch {
	case n > next:
		l.complain(t, "%s: %d came before %d", key, n, next)
	case n < next:
		l.repeated++
		return
	}
	l.next[key] = n + 1
	l.handled++
	l.changed.Broadcast()
}

// complain reports the first of many mistakes.
func (l *clusterLoad) complain(t *testing.T, format string, args ...any) {
	if l.wrong++; l.wrong <= 5 {
		t.Errorf(format, args...)
	}
}

func (l *clusterLoad) counts() (published, handled int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.published, l.handled
}

// progress waits until so many more messages are handled.
func (l *clusterLoad) progress(t *testing.T, more int) {
	t.Helper()
	_, before := l.counts()
	clusterUntil(t, "that messages are handled", func() bool {
		_, handled := l.counts()
		return handled >= before+more
	})
}

// allHandled waits until whatever was accepted is handled; nothing is published any more.
func (l *clusterLoad) allHandled(t *testing.T) {
	t.Helper()
	clusterUntil(t, "that everything is handled", func() bool {
		published, handled := l.counts()
		return handled == published
	})
}

func (l *clusterLoad) report(t *testing.T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t.Logf("%d messages, %d repetitions, %d batches were published again", l.published, l.repeated, l.retries)
}

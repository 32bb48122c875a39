package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
)

// What a message knows of its place is the same in each kind of it.
func TestTypedMessages(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 1).trial(t)
	topic := x.site.topic(t, 3)
	when := time.UnixMilli(1_600_000_000_123)
	opts := kafka.PublishOptions{Partition: new(int32(2)), Timestamp: when}
	gone := opts
	gone.Tombstone = true
	x.send(topic, 2, "before")
	x.publish(
		broker.OutgoingMessage{Name: topic, Key: []byte("k"), Payload: []byte("p"), Options: opts},
		broker.OutgoingMessage{Name: topic, Key: []byte("k"), Options: gone},
		broker.OutgoingMessage{Name: topic, Options: opts},
	)
	type typed interface {
		broker.IncomingMessage
		Partition() int32
		Offset() int64
		Timestamp() time.Time
		Tombstone() bool
		PartitionKey() []byte
	}
	for _, src := range []broker.Source{kafka.Topic(topic).Group("g"), kafka.Topic(topic).Group("a").AutoCommit(), kafka.Partitions(topic, 0, 2)} {
		sub := x.subscribe(src)
		x.expect(sub, "before")
		for i := range int64(3) {
			m, ok := x.receive(sub).(typed)
			if !ok {
				t.Fatalf("%s: a message without a place", src)
			}
			if m.Name() != topic || m.Partition() != 2 || m.Offset() != i+1 || !m.Timestamp().Equal(when) {
				t.Errorf("%s: %s, partition %d, offset %d, time %v", src, m.Name(), m.Partition(), m.Offset(), m.Timestamp())
			}
			if m.Tombstone() != (i == 1) || (string(m.Payload()) == "p") != (i == 0) {
				t.Errorf("%s: offset %d has the payload %q, tombstone: %v", src, i+1, m.Payload(), m.Tombstone())
			}
			if hasKey := m.PartitionKey() != nil; hasKey != (i < 2) {
				t.Errorf("%s: offset %d has the key %q", src, i+1, m.PartitionKey())
			}
			_, tracked := m.(*kafka.Message)
			_, untracked := m.(*kafka.ReaderMessage)
			if tracked == untracked || tracked != (src.Name() == topic && strings.Contains(fmt.Sprint(src), `Group("g")`)) {
				t.Errorf("%s: a %T", src, m)
			}
			err := m.Ack(t.Context())
			if tracked && err != nil || untracked && !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("%s: Ack: %v", src, err)
			}
			if err := m.Nack(t.Context(), true); tracked && !errors.Is(err, broker.ErrSettled) || untracked && !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("%s: Nack: %v", src, err)
			}
		}
	}
}

// overwrite does to a message what a handler may do: the bytes are its own.
func overwrite(m broker.IncomingMessage) {
	for _, b := range [][]byte{m.Payload(), m.(*kafka.Message).PartitionKey()} {
		b = b[:cap(b)]
		for i := range b {
			b[i] = '!'
		}
	}
}

// What is given back comes again as it was published, each time, though its receiver has
// written into it; and before what was not handed out yet.
func TestRequeuedComesPristine(t *testing.T) {
	t.Parallel()
	for name, codec := range map[string]kgo.CompressionCodec{"plain": kgo.NoCompression(), "zstd": kgo.ZstdCompression()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := ownCluster(t, 1)
			x := s.trial(t, kafka.ClientOptions(kgo.ProducerBatchCompression(codec)))
			topic := s.topic(t, 1)
			batch := make([]broker.OutgoingMessage, 5)
			for i := range batch {
				batch[i] = broker.OutgoingMessage{
					Name: topic, Key: fmt.Appendf(nil, "key-%d", i), Payload: fmt.Appendf(nil, "payload-%d", i),
					Headers: broker.NewHeaders(broker.Header{Key: "h", Value: fmt.Sprint(i)}),
				}
			}
			if err := broker.PublishBatch(x.bound(), x.b.Publisher(), batch); err != nil {
				t.Fatal(err)
			}
			sub := x.subscribe(kafka.Topic(topic).Group("g"))
			x.ack(x.expect(sub, "payload-0")...)
			for round := range 4 {
				m := x.receive(sub).(*kafka.Message)
				if got := fmt.Sprintf("%s %s %s %d", m.Payload(), m.PartitionKey(), m.Headers().Get("h"), m.Offset()); got != "payload-1 key-1 1 1" {
					t.Fatalf("round %d: %s", round, got)
				}
				overwrite(m)
				if err := m.Nack(t.Context(), true); err != nil {
					t.Fatal(err)
				}
			}
			x.ack(x.expect(sub, "payload-1", "payload-2", "payload-3", "payload-4")...)
			if err := sub.Close(x.bound()); err != nil {
				t.Fatal(err)
			}
			if got, err := s.committed(x.bound(), "g", topic, 0); got != 5 || err != nil {
				t.Errorf("committed is %d, %v", got, err)
			}
		})
	}
}

// Many that are given back in any order come again once each, in the order of each
// partition.
func TestRequeueOfManyInRandomOrder(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 2).trial(t)
	const partitions, each = 3, 60
	topic := x.site.topic(t, partitions)
	publish := func(word string) {
		var batch []broker.OutgoingMessage
		for p := range int32(partitions) {
			for i := range each {
				batch = append(batch, broker.OutgoingMessage{Name: topic, Payload: fmt.Appendf(nil, "%s %d %d", word, p, i), Options: kafka.PublishOptions{Partition: new(p)}})
			}
		}
		if err := broker.PublishBatch(x.bound(), x.b.Publisher(), batch); err != nil {
			t.Fatal(err)
		}
	}
	publish("old")
	seed := time.Now().UnixNano()
	rnd := rand.New(rand.NewSource(seed))
	sub := x.subscribe(kafka.Topic(topic).Group("g"))
	take := func(n int) (all []broker.IncomingMessage) {
		t.Helper()
		dst := make([]broker.IncomingMessage, 1+rnd.Intn(20))
		for len(all) < n {
			got, err := broker.ReceiveBatch(x.bound(), sub, dst[:min(len(dst), n-len(all))])
			if err != nil {
				t.Fatalf("seed %d, %d received: %v", seed, len(all), err)
			}
			all = append(all, dst[:got]...)
		}
		return all
	}
	all := take(partitions * each)
	publish("new")
	for round := range 3 {
		rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for _, m := range all {
			overwrite(m)
			if err := m.Nack(t.Context(), true); err != nil {
				t.Fatal(err)
			}
		}
		all = take(partitions * each)
		next := make([]int64, partitions)
		for _, m := range all {
			k := m.(*kafka.Message)
			if want := fmt.Sprintf("old %d %d", k.Partition(), k.Offset()); string(k.Payload()) != want || k.Offset() != next[k.Partition()] {
				t.Fatalf("seed %d, round %d: %s at %d, want %s at %d", seed, round, k.Payload(), k.Offset(), want, next[k.Partition()])
			}
			next[k.Partition()]++
		}
	}
	rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	x.ack(all...)
	all = take(partitions * each)
	for _, m := range all {
		if !strings.HasPrefix(string(m.Payload()), "new ") {
			t.Fatalf("seed %d: %s", seed, m.Payload())
		}
	}
	x.ack(all...)
}

// A message that retention has deleted while it was out comes again all the same, and so
// do those around it.
func TestRequeuedThatRetentionDeleted(t *testing.T) {
	t.Parallel()
	for name, upTo := range map[string]int64{"the first": 1, "some": 3, "all": 5} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := ownCluster(t, 1).trial(t)
			topic := x.site.topic(t, 1)
			x.send(topic, 0, "0", "1", "2", "3", "4")
			sub := x.subscribe(kafka.Topic(topic).Group("g"))
			all := x.expect(sub, "0", "1", "2", "3", "4")
			if err := x.site.cluster.DeleteRecords(topic, 0, upTo); err != nil {
				t.Fatal(err)
			}
			for _, i := range []int{3, 0, 4, 2} {
				if err := all[i].Nack(t.Context(), true); err != nil {
					t.Fatal(err)
				}
			}
			again := x.expect(sub, "0", "2", "3", "4")
			if got := again[0].(*kafka.Message).Offset(); got != 0 {
				t.Errorf("offset %d", got)
			}
			x.ack(all[1])
			x.ack(again...)
			x.send(topic, 0, "5")
			x.ack(x.expect(sub, "5")...)
			if err := sub.Close(x.bound()); err != nil {
				t.Fatal(err)
			}
			if got, err := x.site.committed(x.bound(), "g", topic, 0); got != 6 || err != nil {
				t.Errorf("committed is %d, %v", got, err)
			}
		})
	}
}

// compacted makes a topic that compaction takes offsets 1 and 3 from.
func (x *trial) compacted() string {
	x.Helper()
	topic := "c" + newID()
	if err := x.site.cluster.CreateTopic(topic, 1, map[string]string{"cleanup.policy": "compact"}); err != nil {
		x.Fatal(err)
	}
	for i, key := range []string{"x", "a", "a", "b", "b", "c"} {
		x.publish(broker.OutgoingMessage{Name: topic, Key: []byte(key), Payload: fmt.Append(nil, i)})
	}
	return topic
}

// In a compacted topic offsets have gaps: what is committed is right nevertheless, and a
// message that was compacted away while it was out comes again.
func TestCompactedTopic(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 1).trial(t)
	topic := x.compacted()
	early := x.subscribe(kafka.Topic(topic).Group("early"))
	first := x.expect(early, "0", "1", "2", "3", "4", "5")
	x.site.cluster.Compact()
	if n := len(x.records(topic, 4)); n != 4 {
		t.Fatalf("%d messages are left", n)
	}
	// 1 and 3 are gone from the log.
	for _, i := range []int{3, 0, 1} {
		if err := first[i].Nack(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	x.ack(x.expect(early, "0", "1", "3")...)
	x.ack(first[2], first[4], first[5])

	late := x.subscribe(kafka.Topic(topic).Group("late").CommitInterval(10 * time.Millisecond))
	all := x.expect(late, "0", "2", "4", "5")
	x.ack(all[1], all[0])
	committed := func(want int64) {
		t.Helper()
		x.eventually(fmt.Sprintf("%d is committed", want), func() bool {
			got, err := x.site.committed(x.bound(), "late", topic, 0)
			return err == nil && got == want
		})
	}
	committed(3)
	x.ack(all[3], all[2])
	committed(6)
	if err := early.Close(x.bound()); err != nil {
		t.Fatal(err)
	}
	if got, err := x.site.committed(x.bound(), "early", topic, 0); got != 6 || err != nil {
		t.Errorf("committed is %d, %v", got, err)
	}
}

// One membership reads several topics, each with a position of its own.
func TestSeveralTopics(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 2).trial(t)
	topics := []string{x.site.topic(t, 2), x.site.topic(t, 1), x.site.topic(t, 3)}
	sub := x.subscribe(kafka.Topics(topics...).Group("g"))
	want := make(map[string]bool)
	for _, topic := range topics {
		for i := range 20 {
			payload := fmt.Sprintf("%s %d", topic, i)
			want[payload] = true
			x.publish(broker.OutgoingMessage{Name: topic, Key: fmt.Append(nil, i), Payload: []byte(payload)})
		}
	}
	again := 0
	for len(want) > 0 {
		m := x.receive(sub)
		if !want[string(m.Payload())] || !strings.HasPrefix(string(m.Payload()), m.Name()+" ") {
			t.Fatalf("received %s of %s", m.Payload(), m.Name())
		}
		if again < 10 {
			again++
			if err := m.Nack(t.Context(), true); err != nil {
				t.Fatal(err)
			}
			continue
		}
		delete(want, string(m.Payload()))
		x.ack(m)
	}
	x.restartBroker()
	for i, topic := range topics {
		var sum int64
		for p := range int32([]int{2, 1, 3}[i]) {
			if at, err := x.site.committed(x.bound(), "g", topic, p); err == nil {
				sum += at
			}
		}
		if sum != 20 {
			t.Errorf("%d messages of topic %d are committed", sum, i)
		}
	}
	next := x.subscribe(kafka.Topics(topics...).Group("g"))
	x.send(topics[1], 0, "new")
	x.expect(next, "new")
}

// With AutoCommit a message is committed before it is handed out: a member that ends with
// it leaves it to nobody.
func TestAutoCommitIsAtMostOnce(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 1).trial(t)
	topic := x.site.topic(t, 1)
	src := kafka.Topic(topic).Group("g").AutoCommit()
	payloads := make([]string, 250)
	for i := range payloads {
		payloads[i] = fmt.Sprint(i)
	}
	x.send(topic, 0, payloads...)
	next := int64(0)
	for next < 250 {
		sub := x.subscribe(src)
		m := x.receive(sub).(*kafka.ReaderMessage)
		if m.Offset() != next {
			t.Fatalf("received offset %d, committed were %d", m.Offset(), next)
		}
		at, err := x.site.committed(x.bound(), "g", topic, 0)
		if err != nil || at <= m.Offset() {
			t.Fatalf("offset %d was handed out with %d committed: %v", m.Offset(), at, err)
		}
		x.restartBroker() // without a settlement
		if next, err = x.site.committed(x.bound(), "g", topic, 0); err != nil || next < at {
			t.Fatalf("committed went from %d to %d: %v", at, next, err)
		}
	}
	sub := x.subscribe(src)
	x.send(topic, 0, "last")
	x.expect(sub, "last")
}

// While the brokers do not take the commit, nothing is handed out.
func TestAutoCommitWaitsForTheCommit(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 1).trial(t)
	topic := x.site.topic(t, 1)
	sub := x.subscribe(kafka.Topic(topic).Group("g").AutoCommit())
	h := x.hold(int16(kmsg.OffsetCommit), false)
	x.send(topic, 0, "0", "1")
	type received struct {
		m   broker.IncomingMessage
		err error
	}
	got := make(chan received, 1)
	ctx, cancel := context.WithCancel(x.bound())
	receive := func() {
		m, err := sub.Receive(ctx)
		got <- received{m, err}
	}
	go receive()
	<-h.asked
	select {
	case r := <-got:
		t.Fatalf("handed out before the commit: %v, %v", r.m, r.err)
	default:
	}
	// A context that ends meanwhile loses nothing.
	cancel()
	if r := <-got; !errors.Is(r.err, context.Canceled) {
		t.Fatalf("%v, %v", r.m, r.err)
	}
	close(h.release)
	x.expect(sub, "0", "1")
	if at, err := x.site.committed(x.bound(), "g", topic, 0); at != 2 || err != nil {
		t.Errorf("committed is %d, %v", at, err)
	}
}

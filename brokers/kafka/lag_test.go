package kafka_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
)

func (x *trial) lag(sub broker.Subscription) int64 {
	x.Helper()
	n, err := broker.Lag(x.bound(), sub)
	if err != nil {
		x.Fatal(err)
	}
	return n
}

func (x *trial) statuses() []kafka.PartitionStatus {
	x.Helper()
	list, err := x.b.PartitionStatus(x.bound())
	if err != nil {
		x.Fatal(err)
	}
	return list
}

// same compares what is said of the partitions with what should be.
func (x *trial) same(when string, want ...kafka.PartitionStatus) {
	x.Helper()
	if got := x.statuses(); !slices.Equal(got, want) {
		x.Errorf("%s:\n%+v, want\n%+v", when, got, want)
	}
}

// What is said of a tracked partition follows what happens to it.
func TestStatusOfATrackedPartition(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 2).trial(t)
	topic := x.site.topic(t, 2)
	x.same("without a subscription")
	x.send(topic, 0, "0", "1", "2", "3", "4")
	sub := x.subscribe(kafka.Topic(topic).Group("g").CommitInterval(time.Hour))
	if n := x.lag(sub); n != 5 {
		t.Errorf("the lag is %d at first", n)
	}
	zero := kafka.PartitionStatus{Source: topic, Group: "g", Topic: topic, Partition: 0, End: 5, Lag: 5}
	one := kafka.PartitionStatus{Source: topic, Group: "g", Topic: topic, Partition: 1}
	x.same("at first", zero, one)

	all := x.expect(sub, "0", "1", "2")
	zero.Position, zero.Lag, zero.Uncommitted, zero.Unsettled = 3, 2, 3, 3
	x.same("with three out", zero, one)
	x.ack(all[1])
	zero.Unsettled = 2
	x.same("with the second acknowledged", zero, one)
	x.ack(all[0])
	zero.Uncommitted, zero.Unsettled = 1, 1
	x.same("with two acknowledged", zero, one)
	if err := all[2].Nack(x.bound(), true); err != nil {
		t.Fatal(err)
	}
	zero.Unsettled = 0
	x.same("with one given back", zero, one)
	again := x.expect(sub, "2")
	zero.Unsettled = 1
	x.same("with one out again", zero, one)
	if n := x.lag(sub); n != 2 {
		t.Errorf("the lag is %d", n)
	}
	x.send(topic, 0, "5")
	zero.End, zero.Lag = 6, 3
	x.same("with one more", zero, one)
	x.ack(again...)
	x.ack(x.expect(sub, "3", "4", "5")...)
	zero.Position, zero.Lag, zero.Uncommitted, zero.Unsettled = 6, 0, 0, 0
	x.same("with all acknowledged and none committed", zero, one)
	if n := x.lag(sub); n != 0 {
		t.Errorf("the lag is %d at the end", n)
	}
	if err := sub.Close(x.bound()); err != nil {
		t.Fatal(err)
	}
	x.same("without a subscription again")

	// The next one knows what was committed.
	sub = x.subscribe(kafka.Topic(topic).Group("g").CommitInterval(10 * time.Millisecond))
	zero.Committed, one.Committed = 6, 0
	x.same("after a new beginning", zero, one)
	x.send(topic, 1, "x")
	x.ack(x.expect(sub, "x")...)
	x.eventually("it is committed", func() bool { return x.statuses()[1].Committed == 1 })
}

// A partition that is paused is named, by PartitionStatus and by Health, until it goes on.
func TestStatusOfAPausedPartition(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 1).trial(t)
	topic := x.site.topic(t, 1)
	x.send(topic, 0, "0", "1", "2", "3", "4", "5", "6", "7")
	sub := x.subscribe(kafka.Topic(topic).Group("g").MaxUncommitted(4))
	all := x.expect(sub, "0", "1", "2", "3")
	x.ack(all[1], all[2], all[3])
	if err := x.b.Health(x.bound()); err != nil {
		t.Errorf("Health: %v", err)
	}
	next := make(chan error, 1)
	go func() {
		m, err := sub.Receive(x.bound())
		if err == nil && string(m.Payload()) != "4" {
			err = fmt.Errorf("received %s", m.Payload())
		}
		next <- err
	}()
	x.eventually("the partition is paused", func() bool { return x.statuses()[0].Paused })
	if got := x.statuses()[0]; got.Uncommitted != 4 || got.Unsettled != 1 || got.Position != 4 || got.Lag != 4 {
		t.Errorf("%+v", got)
	}
	err := x.b.Health(x.bound())
	for _, want := range []string{"partition 0 of", topic, "offset 0 is not settled", "4 messages", "MaxUncommitted"} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("Health says %v, want %q", err, want)
		}
	}
	select {
	case err := <-next:
		t.Errorf("more is handed out than MaxUncommitted allows: %v", err)
	default:
	}
	x.ack(all[0])
	if err := <-next; err != nil {
		t.Error(err)
	}
	if got := x.statuses()[0]; got.Paused {
		t.Errorf("%+v", got)
	}
	if err := x.b.Health(x.bound()); err != nil {
		t.Errorf("Health: %v", err)
	}
	x.expect(sub, "5", "6", "7")
}

// All subscriptions of a broker are listed by source, topic and partition.
func TestStatusOfAllKinds(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 1).trial(t)
	id := newID()
	a, b := "a"+id, "b"+id
	for _, topic := range []string{a, b} {
		if _, err := x.site.createTopic(x.bound(), topic, 2); err != nil {
			t.Fatal(err)
		}
		x.send(topic, 0, "0", "1", "2")
	}
	both := x.subscribe(kafka.Topics(b, a).Group("both"))
	reader := x.subscribe(kafka.Partitions(a, 1, 0))
	auto := x.subscribe(kafka.Topic(b).Group("auto").AutoCommit())
	name := b + "," + a
	// A reader has handed out one, and taken more; a committed offset is that of what was
	// taken.
	x.expect(reader, "0")
	x.expect(auto, "0")
	x.same("with one of each handed out",
		kafka.PartitionStatus{Source: a, Topic: a, Partition: 0, Position: 1, Committed: -1, End: 3, Lag: 2},
		kafka.PartitionStatus{Source: a, Topic: a, Partition: 1, Position: 0, Committed: -1, End: 0, Lag: 0},
		kafka.PartitionStatus{Source: b, Group: "auto", Topic: b, Partition: 0, Position: 1, Committed: 3, End: 3, Lag: 2},
		kafka.PartitionStatus{Source: b, Group: "auto", Topic: b, Partition: 1, Position: 0, Committed: x.statuses()[3].Committed, End: 0, Lag: 0},
		kafka.PartitionStatus{Source: name, Group: "both", Topic: a, Partition: 0, Position: 0, Committed: 0, End: 3, Lag: 3},
		kafka.PartitionStatus{Source: name, Group: "both", Topic: a, Partition: 1, Position: 0, Committed: 0, End: 0, Lag: 0},
		kafka.PartitionStatus{Source: name, Group: "both", Topic: b, Partition: 0, Position: 0, Committed: 0, End: 3, Lag: 3},
		kafka.PartitionStatus{Source: name, Group: "both", Topic: b, Partition: 1, Position: 0, Committed: 0, End: 0, Lag: 0},
	)
	for sub, want := range map[broker.Subscription]int64{both: 6, reader: 2, auto: 2} {
		if got := x.lag(sub); got != want {
			t.Errorf("%T: the lag is %d, want %d", sub, got, want)
		}
	}
	x.expect(reader, "1", "2")
	x.expect(auto, "1", "2")
	if x.lag(reader) != 0 || x.lag(auto) != 0 {
		t.Errorf("the lag is %d and %d at the end", x.lag(reader), x.lag(auto))
	}
}

// The end of a partition is where readers of what is committed get: an open transaction is
// no lag yet.
func TestLagLeavesOutOpenTransactions(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 1).trial(t, kafka.TransactionalID(newID()))
	topic := x.site.topic(t, 1)
	sub := x.subscribe(kafka.Topic(topic).Group("g"))
	tx, err := x.b.Publisher().(broker.Transactor).Begin(x.bound())
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Publish(x.bound(), broker.OutgoingMessage{Name: topic, Payload: []byte("tx")}); err != nil {
		t.Fatal(err)
	}
	x.eventually("the message is in the log", func() bool { return x.site.cluster.PartitionInfo(topic, 0).HighWatermark == 1 })
	if n := x.lag(sub); n != 0 {
		t.Errorf("the lag is %d before the commit", n)
	}
	if err := tx.Commit(x.bound()); err != nil {
		t.Fatal(err)
	}
	if n := x.lag(sub); n == 0 {
		t.Error("there is no lag after the commit")
	}
	x.expect(sub, "tx")
}

func TestStatusWithoutConnection(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	b := kafka.New(s.brokers, s.options()...)
	if _, err := b.PartitionStatus(t.Context()); !errors.Is(err, broker.ErrNotConnected) {
		t.Errorf("before Connect: %v", err)
	}
	x := s.trial(t)
	sub := x.subscribe(kafka.Topic(s.topic(t, 1)).Group("g"))
	x.restartBroker()
	if _, err := broker.Lag(t.Context(), sub); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("after Shutdown: %v", err)
	}
}

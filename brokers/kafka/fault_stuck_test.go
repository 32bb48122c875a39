package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
)

const (
	stuckPartitions = 12
	stuckEach       = 200
	stuckMost       = 50 // MaxUncommitted
	stuckPartition  = 5
	stuckOffset     = 7
)

// One message is never settled. Its partition pauses at the bound and is named, the others
// go on to their ends. When it is settled at last, in whatever way, the partition goes on.
func TestStuckMessage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		settle func(*kafka.Message) error
		again  int // how often the message comes after that
	}{
		{"acknowledged", func(m *kafka.Message) error { return m.Ack(context.Background()) }, 0},
		{"rejected", func(m *kafka.Message) error { return m.Nack(context.Background(), false) }, 0},
		{"given back", func(m *kafka.Message) error { return m.Nack(context.Background(), true) }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := ownCluster(t, 1)
			topic := s.topic(t, stuckPartitions)
			for p := range int32(stuckPartitions) {
				s.put(t, topic, p, 0, stuckEach-1)
			}
			b := s.broker(t)
			x := consumeAllButOne(t, subscribe(t, b, quickly(topic, "g").MaxUncommitted(stuckMost)))
			whileStuck(t, s, b, topic, x)

			if err := c.settle(x.stuck()); err != nil {
				t.Fatal(err)
			}
			for p := range int32(stuckPartitions) {
				s.untilCommitted(t, "g", topic, p, stuckEach)
			}
			until(t, "the broker is well again", func() bool { return b.Health(bounded(t)) == nil })
			if st := statusOf(t, b, stuckPartition); st.Paused || st.Uncommitted != 0 || st.Position != stuckEach {
				t.Errorf("after the message was settled: %+v", st)
			}
			x.end()
			for p := range int32(stuckPartitions) {
				for n, count := range x.counts[p] {
					want := 1
					if p == stuckPartition && n == stuckOffset {
						want += c.again
					}
					if count != want {
						t.Errorf("offset %d of partition %d came %d times, want %d", n, p, count, want)
					}
				}
			}
		})
	}
}

// whileStuck checks how it stands when nothing more can be handed out.
func whileStuck(t *testing.T, s *site, b *kafka.Broker, topic string, x *stuckConsumer) {
	t.Helper()
	for p := range int32(stuckPartitions) {
		if p != stuckPartition {
			s.untilCommitted(t, "g", topic, p, stuckEach)
		}
	}
	until(t, "the partition is paused", func() bool { return statusOf(t, b, stuckPartition).Paused })
	s.untilCommitted(t, "g", topic, stuckPartition, stuckOffset)
	st := statusOf(t, b, stuckPartition)
	if st.Uncommitted != stuckMost || st.Unsettled != 1 || st.Position != stuckOffset+stuckMost || st.End != stuckEach {
		t.Errorf("of the partition that is held up: %+v", st)
	}
	if got := x.count(stuckPartition); got != stuckOffset+stuckMost {
		t.Errorf("%d messages of the partition were handed out, want %d", got, stuckOffset+stuckMost)
	}
	for p := range int32(stuckPartitions) {
		if p != stuckPartition && statusOf(t, b, p).Paused {
			t.Errorf("partition %d is paused", p)
		}
	}
	err := b.Health(bounded(t))
	if err == nil {
		t.Fatal("Health has nothing to say")
	}
	for _, want := range []string{topic, fmt.Sprintf("partition %d ", stuckPartition), fmt.Sprintf("offset %d ", stuckOffset)} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Health does not name %q: %v", want, err)
		}
	}
}

func statusOf(t *testing.T, b *kafka.Broker, partition int32) kafka.PartitionStatus {
	t.Helper()
	list, err := b.PartitionStatus(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range list {
		if st.Partition == partition {
			return st
		}
	}
	t.Fatalf("there is no partition %d among %+v", partition, list)
	return kafka.PartitionStatus{}
}

// stuckConsumer acknowledges whatever comes but the first delivery of one message.
type stuckConsumer struct {
	end func() // waits until it has ended

	mu     sync.Mutex
	counts [stuckPartitions][stuckEach]int
	kept   *kafka.Message
}

func consumeAllButOne(t *testing.T, sub broker.Subscription) *stuckConsumer {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	x, done := &stuckConsumer{}, make(chan struct{})
	x.end = func() { cancel(); closed(t, "the receiver ends", done) }
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		for {
			m, err := sub.Receive(ctx)
			if err != nil {
				if !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				return
			}
			if x.keep(m.(*kafka.Message)) {
				continue
			}
			if err := m.Ack(ctx); err != nil {
				t.Error(err)
			}
		}
	}()
	return x
}

// keep notes a message, and reports that it is the one that is not settled.
func (x *stuckConsumer) keep(m *kafka.Message) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.counts[m.Partition()][m.Offset()]++
	if m.Partition() != stuckPartition || m.Offset() != stuckOffset || x.kept != nil {
		return false
	}
	x.kept = m
	return true
}

func (x *stuckConsumer) stuck() *kafka.Message {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.kept
}

// count is how many messages of a partition have come.
func (x *stuckConsumer) count(partition int) (sum int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, n := range x.counts[partition] {
		sum += n
	}
	return sum
}

package kafka_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
)

// faultLimit bounds whatever a fault test waits for. Nothing comes near it, but where
// something is lost.
const faultLimit = 30 * time.Second

// until waits for what can only be asked for.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	limit := time.NewTimer(faultLimit)
	defer limit.Stop()
	for !is() {
		select {
		case <-look.C:
		case <-limit.C:
			t.Fatalf("waited %v in vain: %s", faultLimit, what)
		}
	}
}

// closed waits for a channel to be closed.
func closed(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	limit := time.NewTimer(faultLimit)
	defer limit.Stop()
	select {
	case <-c:
	case <-limit.C:
		t.Fatalf("waited %v in vain: %s", faultLimit, what)
	}
}

// bounded is the ctx of a call that must come to an end.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
	t.Cleanup(cancel)
	return ctx
}

// quickly is a source whose commits are seen soon.
func quickly(topic, group string) kafka.TopicSource {
	return kafka.Topic(topic).Group(group).CommitInterval(20 * time.Millisecond)
}

func subscribe(t *testing.T, b *kafka.Broker, src broker.Source) broker.Subscription {
	t.Helper()
	sub, err := src.Subscribe(bounded(t), b)
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

func closeSub(t *testing.T, sub broker.Subscription) {
	t.Helper()
	if err := sub.Close(bounded(t)); err != nil {
		t.Fatal(err)
	}
}

func receive(t *testing.T, sub broker.Subscription) *kafka.Message {
	t.Helper()
	m, err := sub.Receive(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	return m.(*kafka.Message)
}

// receiveNumbers receives as many messages as there are numbers, from any partition, and
// fails unless they have these numbers. It returns them by number.
func receiveNumbers(t *testing.T, sub broker.Subscription, want ...int) map[int]*kafka.Message {
	t.Helper()
	got := make(map[int]*kafka.Message)
	for range want {
		m := receive(t, sub)
		n := number(t, m.Payload())
		if got[n] != nil || !slices.Contains(want, n) {
			t.Fatalf("received %d at offset %d of partition %d; wanted are %v, of which %d have come", n, m.Offset(), m.Partition(), want, len(got))
		}
		got[n] = m
	}
	return got
}

func ack(t *testing.T, msgs ...*kafka.Message) {
	t.Helper()
	for _, m := range msgs {
		if err := m.Ack(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// wantStale fails unless the message belongs to somebody else.
func wantStale(t *testing.T, m *kafka.Message) {
	t.Helper()
	if !m.Stale() {
		t.Errorf("offset %d of partition %d is not stale", m.Offset(), m.Partition())
	}
	if err := m.Ack(t.Context()); !errors.Is(err, broker.ErrStale) {
		t.Errorf("Ack of offset %d of partition %d answers %v, want broker.ErrStale", m.Offset(), m.Partition(), err)
	}
}

// put publishes the numbers from first to last to one partition, in this order and with
// ten keys, past all faults.
func (s *site) put(t *testing.T, topic string, partition int32, first, last int) {
	t.Helper()
	c := s.client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer c.Close()
	var list []*kgo.Record
	for n := first; n <= last; n++ {
		list = append(list, &kgo.Record{Topic: topic, Partition: partition, Key: []byte(strconv.Itoa(n % 10)), Value: []byte(strconv.Itoa(n))})
	}
	if err := c.ProduceSync(bounded(t), list...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// number is what put has published.
func number(t *testing.T, payload []byte) int {
	t.Helper()
	n, err := strconv.Atoi(string(payload))
	if err != nil {
		t.Errorf("a payload that nobody published: %q", payload)
	}
	return n
}

// numbers are those from first to last.
func numbers(first, last int) (list []int) {
	for n := first; n <= last; n++ {
		list = append(list, n)
	}
	return list
}

// group is the group as the cluster sees it.
func (s *site) group(t *testing.T, group string) *kfake.GroupInfo {
	t.Helper()
	info := s.cluster.GroupInfo(group)
	if info == nil {
		t.Fatalf("there is no group %s", group)
	}
	return info
}

// commit is what the group has committed of a partition; the offset is -1 for nothing.
func (s *site) commit(group, topic string, partition int32) kfake.GroupCommit {
	if info := s.cluster.GroupInfo(group); info != nil {
		if c, ok := info.Commits[topic][partition]; ok {
			return c
		}
	}
	return kfake.GroupCommit{Offset: -1}
}

// untilCommitted waits until the group has committed that offset.
func (s *site) untilCommitted(t *testing.T, group, topic string, partition int32, offset int64) {
	t.Helper()
	until(t, "the group commits offset "+strconv.FormatInt(offset, 10), func() bool {
		return s.commit(group, topic, partition).Offset == offset
	})
}

// untilStable waits until the group has that many members, and all partitions are given out.
func (s *site) untilStable(t *testing.T, group string, members, partitions int) *kfake.GroupInfo {
	t.Helper()
	info, err := s.cluster.WaitGroupInfo(bounded(t), group, func(g *kfake.GroupInfo) bool {
		return (g.State == "Stable" || members == 0 && g.State == "Empty") && len(g.Members) == members && g.NumAssigned() == partitions
	})
	if err != nil {
		t.Fatalf("the group does not come to rest with %d members: %v; it is %+v", members, err, s.cluster.GroupInfo(group))
	}
	return info
}

// ownedBy are the partitions that a broker's subscriptions have now.
func ownedBy(t *testing.T, b *kafka.Broker) (list []int32) {
	t.Helper()
	statuses, err := b.PartitionStatus(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range statuses {
		list = append(list, st.Partition)
	}
	return list
}

// startApp starts an app with one subscription.
func startApp(t *testing.T, b *kafka.Broker, src broker.Source, h gostream.Handler, opts ...gostream.HandleOption) *gostream.Service {
	t.Helper()
	r := gostream.NewRouter()
	r.HandleSource(src, h, opts...)
	app := gostream.New("fault", "0", gostream.WithLogger(slog.New(slog.DiscardHandler)))
	app.Mount(b, r)
	s, err := app.Start(bounded(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shutdownApp(t, s) })
	return s
}

func shutdownApp(t *testing.T, s *gostream.Service) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), faultLimit)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

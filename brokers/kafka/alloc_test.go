package kafka

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream/broker"
)

// offline is a subscription that has a partition and no client.
func offline(most int) (*trackedSubscription, *partition) {
	s := &trackedSubscription{member: member{b: New("localhost"), src: Topic("t").Group("g").MaxUncommitted(most)}}
	p := newPartition(s, "t", 0)
	p.begin(beginning{at: kgo.EpochOffset{Epoch: 1}, committed: true})
	s.current = p
	return s, p
}

// some are n records from an offset on.
func some(n int, from int64) []*kgo.Record {
	list := make([]*kgo.Record, n)
	for i := range list {
		list[i] = &kgo.Record{Topic: "t", Offset: from + int64(i), LeaderEpoch: 1, Value: []byte("payload")}
	}
	return list
}

// TestReceiveAndAckAllocateNothing is the budget of a message that was fetched. The slabs
// that messages lie in are made when records are taken in: one for 64 messages.
func TestReceiveAndAckAllocateNothing(t *testing.T) {
	const n = 4096
	ctx := t.Context()
	s, p := offline(n)
	p.add(some(2*n, 0))
	each := func(batch []broker.IncomingMessage) func() {
		return func() {
			if len(batch) == 0 {
				m, err := s.Receive(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if err := m.Ack(ctx); err != nil {
					t.Fatal(err)
				}
				return
			}
			got, err := s.ReceiveBatch(ctx, batch)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range batch[:got] {
				if err := m.Ack(ctx); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if got := testing.AllocsPerRun(n-1, each(nil)); got != 0 {
		t.Errorf("Receive and Ack allocate %v times, want 0", got)
	}
	if got := testing.AllocsPerRun(n/16-1, each(make([]broker.IncomingMessage, 16))); got != 0 {
		t.Errorf("ReceiveBatch of 16 and their Acks allocate %v times, want 0", got)
	}
	if at, _, _ := p.due(); at.at.Offset != 2*n {
		t.Errorf("the watermark is %d, want %d", at.at.Offset, 2*n)
	}

	records, one := some(slabSize, 2*n), each(nil)
	if got := testing.AllocsPerRun(100, func() {
		p.add(records)
		for range records {
			one()
		}
	}); got > 2 { // the slab, and now and then the list of slabs
		t.Errorf("%d records taken in, received and acknowledged allocate %v times, want at most 2", slabSize, got)
	}
}

// TestPublishAllocates compares Publish with the client's own way to publish and wait.
func TestPublishAllocates(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"), kfake.BlackholeProduce())
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	b := New(strings.Join(cluster.ListenAddrs(), ","))
	if err := b.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	ctx := t.Context()
	client, publisher := b.conn.Load().producer, b.Publisher()
	key, payload := []byte("key"), []byte("payload")
	const n = 500
	raw := testing.AllocsPerRun(n, func() {
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: "t", Key: key, Value: payload}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	})
	ours := testing.AllocsPerRun(n, func() {
		if err := publisher.Publish(ctx, broker.OutgoingMessage{Name: "t", Key: key, Payload: payload}); err != nil {
			t.Fatal(err)
		}
	})
	t.Logf("ProduceSync allocates %v times, Publish %v times, the server included", raw, ours)
	// The copy of key and payload, against the results of ProduceSync.
	if ours > raw+1 {
		t.Errorf("Publish allocates %v times, ProduceSync %v times: want at most one more", ours, raw)
	}
}

// TestOwnCost prints what Receive and Ack cost without I/O. It asserts nothing: time is
// compared in benchmarks.
func TestOwnCost(t *testing.T) {
	ctx := context.Background()
	r := testing.Benchmark(func(b *testing.B) {
		s, p := offline(1000)
		records := some(pollSize, 0)
		b.ReportAllocs()
		left := 0
		for b.Loop() {
			if left == 0 {
				p.add(records)
				left = len(records)
			}
			m, _ := s.Receive(ctx)
			_ = m.Ack(ctx)
			left--
		}
	})
	t.Logf("taking in, Receive and Ack: %v a message, %d B, %d allocations", time.Duration(r.NsPerOp()), r.AllocedBytesPerOp(), r.AllocsPerOp())
}

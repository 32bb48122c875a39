package kafka_test

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
)

// BenchmarkReceive compares receiving and acknowledging with the client's own loop, which
// marks each record to be committed. The cluster answers every fetch from one batch that it
// has ready, so that the two are most of what is measured. Compare within one run:
//
//	go test -run '^$' -bench Receive -count 5 ./brokers/kafka
func BenchmarkReceive(b *testing.B) {
	const size = 256
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"),
		kfake.SyntheticFetch(kfake.SyntheticBatch{RecordBytes: size}))
	if err != nil {
		b.Fatal(err)
	}
	defer cluster.Close()
	brokers := cluster.ListenAddrs()

	b.Run("client", func(b *testing.B) {
		client, err := kgo.NewClient(
			kgo.SeedBrokers(brokers...), kgo.ConsumerGroup("client"), kgo.ConsumeTopics("t"),
			kgo.AutoCommitMarks(), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		)
		if err != nil {
			b.Fatal(err)
		}
		defer client.Close()
		for first := client.PollRecords(b.Context(), 1); first.NumRecords() == 0; {
			first = client.PollRecords(b.Context(), 1)
		}
		b.ReportAllocs()
		b.ResetTimer()
		var bytes int
		for n := 0; n < b.N; {
			fetches := client.PollRecords(b.Context(), 512)
			fetches.EachRecord(func(rec *kgo.Record) {
				bytes += len(rec.Value)
				client.MarkCommitRecords(rec)
				n++
			})
		}
	})
	b.Run("subscription", func(b *testing.B) {
		ours := kafka.New(strings.Join(brokers, ","))
		if err := ours.Connect(b.Context()); err != nil {
			b.Fatal(err)
		}
		defer func() { _ = ours.Shutdown(b.Context()) }()
		sub, err := kafka.Topic("t").Group("ours").Subscribe(b.Context(), ours)
		if err != nil {
			b.Fatal(err)
		}
		var bytes int
		receive := func() {
			m, err := sub.Receive(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			bytes += len(m.Payload())
			if err := m.Ack(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		receive()
		b.ReportAllocs()
		b.ResetTimer()
		for range b.N {
			receive()
		}
	})
	b.Run("subscription-batch", func(b *testing.B) {
		ours := kafka.New(strings.Join(brokers, ","))
		if err := ours.Connect(b.Context()); err != nil {
			b.Fatal(err)
		}
		defer func() { _ = ours.Shutdown(b.Context()) }()
		sub, err := kafka.Topic("t").Group("batch").Subscribe(b.Context(), ours)
		if err != nil {
			b.Fatal(err)
		}
		batch := make([]broker.IncomingMessage, 64)
		b.ReportAllocs()
		b.ResetTimer()
		var bytes int
		for n := 0; n < b.N; {
			got, err := broker.ReceiveBatch(b.Context(), sub, batch)
			if err != nil {
				b.Fatal(err)
			}
			for _, m := range batch[:got] {
				bytes += len(m.Payload())
				if err := m.Ack(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			n += got
		}
	})
}

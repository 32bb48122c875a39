package kafka_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
)

type Order struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
}

type Confirmation struct {
	OrderID string `json:"order_id"`
}

func Confirm(_ context.Context, o Order) (Confirmation, error) {
	if o.ID == "" {
		return Confirmation{}, errors.New("nobody knows this order")
	}
	return Confirmation{OrderID: o.ID}, nil
}

// quiet keeps the log of an app out of an example's output.
var quiet = gostream.WithLogger(slog.New(slog.DiscardHandler))

// startCluster starts a cluster in this process and returns its addresses. It stands for
// the one that a program connects to.
func startCluster(topics ...string) (brokers string, stop func()) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, topics...))
	if err != nil {
		log.Fatal(err)
	}
	return strings.Join(cluster.ListenAddrs(), ","), cluster.Close
}

// A service on three topics: orders come in, confirmations go out, what fails for good is
// put aside.
func ExampleTopic() {
	ctx := context.Background()
	brokers, stop := startCluster("orders", "orders.dead", "confirmations")
	defer stop()

	b := kafka.New(brokers, kafka.DefaultGroup("shop"))

	confirmed := make(chan Confirmation)
	r := gostream.NewRouter()
	r.HandleSource(kafka.Topic("orders"), gostream.Reply(Confirm).To("confirmations"),
		gostream.Workers(8), gostream.ByKey(), gostream.DeadLetterTo("orders.dead"))
	r.HandleSource(kafka.Topic("confirmations").Group("post"), gostream.Consume(func(_ context.Context, c Confirmation) error {
		confirmed <- c
		return nil
	}))
	app := gostream.New("shop", "1.0.0", quiet)
	app.Mount(b, r)
	incoming := gostream.NewPublisher[Order](app, b, "orders")

	service, err := app.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := incoming.Publish(ctx, Order{ID: "o-1", Customer: "c-7"}, gostream.Key([]byte("c-7"))); err != nil {
		log.Fatal(err)
	}
	fmt.Println((<-confirmed).OrderID, "is confirmed")
	if err := service.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
	// Output: o-1 is confirmed
}

// The sources: members of a group, all topics of a kind, a reader without a group.
func ExampleTopicPattern() {
	// The members of the group share the topic's partitions.
	orders := kafka.Topic("orders").Group("billing").FromLatest()
	// One membership for several topics, and for all whose whole name matches.
	both := kafka.Topics("orders", "returns").Group("audit")
	all := kafka.TopicPattern(`shop\..*`).Group("archive")
	// Two partitions from an hour ago on, without a group and without acknowledgements.
	reader := kafka.Partitions("prices", 0, 1).FromTime(time.Now().Add(-time.Hour))

	for _, src := range []interface {
		broker.Source
		broker.Matcher
	}{orders, both, all, reader} {
		fmt.Println(src, src.Match("returns"), src.Match("shop.orders"), src.Match("my.shop.orders"))
	}
	// Output:
	// kafka.Topic("orders").Group("billing") false false false
	// kafka.Topics("orders", "returns").Group("audit") true false false
	// kafka.TopicPattern(`shop\..*`).Group("archive") false true false
	// kafka.Partitions("prices", 0, 1) false false false
}

// Options of a message, and what a batch says of each.
func ExamplePublishOptions() {
	ctx := context.Background()
	brokers, stop := startCluster("accounts")
	defer stop()
	b := kafka.New(brokers)
	if err := b.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	defer b.Shutdown(ctx)

	p := b.Publisher()
	err := p.Publish(ctx, broker.OutgoingMessage{
		Name: "accounts", Key: []byte("7"), Payload: []byte("opened"),
		Options: kafka.PublishOptions{Partition: new(int32(1)), Timestamp: time.UnixMilli(1_700_000_000_000)},
	})
	fmt.Println(err)
	// A tombstone: in a compacted topic it removes its key.
	fmt.Println(p.Publish(ctx, broker.OutgoingMessage{
		Name: "accounts", Key: []byte("7"), Options: kafka.PublishOptions{Tombstone: true},
	}))

	// A batch is sent together, and says which failed.
	err = broker.PublishBatch(ctx, p, []broker.OutgoingMessage{
		{Name: "accounts", Key: []byte("8"), Payload: []byte("opened")},
		{Name: "nobody.made.this"},
		{Name: "accounts", Options: kafka.PublishOptions{Partition: new(int32(99))}},
	})
	errs := broker.BatchErrors(err, 3)
	fmt.Println(errs[0], errors.Is(errs[1], broker.ErrNotFound), errors.Is(errs[2], broker.ErrInvalid))
	// Output:
	// <nil>
	// <nil>
	// <nil> true true
}

// What is published in a transaction becomes visible together, or not at all.
func ExampleTransactionalID() {
	ctx := context.Background()
	brokers, stop := startCluster("entries")
	defer stop()
	b := kafka.New(brokers, kafka.TransactionalID("ledger-1"))
	if err := b.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	defer b.Shutdown(ctx)

	tx, err := broker.Begin(ctx, b.Publisher())
	if err != nil {
		log.Fatal(err)
	}
	for _, entry := range []string{"-100", "+100"} {
		if err := tx.Publish(ctx, broker.OutgoingMessage{Name: "entries", Key: []byte("7"), Payload: []byte(entry)}); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(tx.Commit(ctx))

	// Another broker with the same id takes over: this one can publish no more in
	// transactions.
	other := kafka.New(brokers, kafka.TransactionalID("ledger-1"))
	if err := other.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	defer other.Shutdown(ctx)
	tx, err = broker.Begin(ctx, b.Publisher())
	if err == nil {
		err = errors.Join(tx.Publish(ctx, broker.OutgoingMessage{Name: "entries"}), tx.Commit(ctx))
	}
	fmt.Println(errors.Is(err, kafka.ErrFenced))
	// Output:
	// <nil>
	// true
}

// A connection with credentials, and an option of the client itself.
func ExampleNew() {
	b := kafka.New("kafka-1.example.com:9093,kafka-2.example.com:9093",
		kafka.ClientID("shop"),
		kafka.DefaultGroup("shop"),
		kafka.SASLScramSHA512("shop", "the password"),
		kafka.TLS(&tls.Config{MinVersion: tls.VersionTLS13}),
		kafka.ClientOptions(
			kgo.ProducerBatchCompression(kgo.ZstdCompression()),
			kgo.SessionTimeout(20*time.Second),
		),
	)
	b.Notify(func(e broker.Event) { log.Printf("kafka: %v %s %v", e.Kind, e.Name, e.Err) })
	fmt.Println(b.Check(), b)

	// What would take away a promise is refused, with the reason.
	fmt.Println(kafka.New("localhost", kafka.ClientOptions(kgo.RequiredAcks(kgo.LeaderAck()))).Check())
	// Output:
	// <nil> kafka broker kafka-1.example.com:9093,kafka-2.example.com:9093
	// kafka: check: invalid: kafka.ClientOptions: kgo.RequiredAcks is refused: Publish returns nil when all in-sync replicas have the message, and not before
}

// The place of a message in its topic, and how it stands with each partition.
func ExampleBroker_PartitionStatus() {
	ctx := context.Background()
	brokers, stop := startCluster("orders")
	defer stop()
	b := kafka.New(brokers)
	if err := b.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	defer b.Shutdown(ctx)
	for range 3 {
		if err := b.Publisher().Publish(ctx, broker.OutgoingMessage{Name: "orders", Options: kafka.PublishOptions{Partition: new(int32(1))}}); err != nil {
			log.Fatal(err)
		}
	}
	sub, err := kafka.Topic("orders").Group("billing").Subscribe(ctx, b)
	if err != nil {
		log.Fatal(err)
	}
	m, err := sub.Receive(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if m, ok := m.(*kafka.Message); ok {
		fmt.Println(m.Name(), m.Partition(), m.Offset())
	}

	list, err := b.PartitionStatus(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range list {
		fmt.Printf("%s/%d: next %d of %d, %d wait, %d unsettled\n", p.Topic, p.Partition, p.Position, p.End, p.Lag, p.Unsettled)
	}
	// Output:
	// orders 1 0
	// orders/0: next 0 of 0, 0 wait, 0 unsettled
	// orders/1: next 1 of 3, 2 wait, 1 unsettled
}

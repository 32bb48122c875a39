package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
	"github.com/gostream/gostream/gostreamtest"
)

type order struct {
	ID  string `json:"id"`
	Key string `json:"key"`
	N   int    `json:"n"`
}

type confirmation struct {
	Order string `json:"order"`
}

var errTill = errors.New("the till is closed")

// shop is an app on one broker: orders are confirmed, by key and with some failures.
type shop struct {
	app       *gostream.App
	incoming  *gostream.Publisher[order]
	confirmed chan string

	mu     sync.Mutex
	failed map[string]bool
	seen   map[string][]int // by key
}

func newShop(b *kafka.Broker, orders, confirmations, dead string, opts ...gostream.HandleOption) *shop {
	s := &shop{confirmed: make(chan string, 10_000), failed: make(map[string]bool), seen: make(map[string][]int)}
	r := gostream.NewRouter()
	opts = append(opts, gostream.DeadLetterTo(dead), gostream.RetryBackoff(gostream.Constant(10*time.Millisecond)))
	r.HandleSource(kafka.Topic(orders).Group("shop").CommitInterval(20*time.Millisecond), gostream.Reply(s.confirm).To(confirmations), opts...)
	r.HandleSource(kafka.Topic(confirmations).Group("post"), gostream.Consume(func(_ context.Context, c confirmation) error {
		s.confirmed <- c.Order
		return nil
	}))
	s.app = gostream.New("shop", "1.0.0", gostreamtest.Quiet())
	s.app.Mount(b, r)
	s.incoming = gostream.NewPublisher[order](s.app, b, orders)
	return s
}

// confirm fails the first time for every fifth order.
func (s *shop) confirm(_ context.Context, o order) (confirmation, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.N%5 == 0 && !s.failed[o.ID] {
		s.failed[o.ID] = true
		return confirmation{}, errTill
	}
	s.seen[o.Key] = append(s.seen[o.Key], o.N)
	return confirmation{Order: o.ID}, nil
}

// TestAppByKey: the runtime on Kafka keeps the order of each key, also over failures, and
// what it has handled is committed.
func TestAppByKey(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	orders, confirmations, dead := s.topic(t, 6), s.topic(t, 3), s.topic(t, 1)
	x := newShop(s.broker(t), orders, confirmations, dead, gostream.Workers(8), gostream.ByKey())
	service, err := x.app.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const keys, each = 20, 25
	for n := range each {
		for k := range keys {
			key := fmt.Sprintf("k%d", k)
			o := order{ID: key + "-" + strconv.Itoa(n), Key: key, N: n}
			if err := x.incoming.Publish(t.Context(), o, gostream.Key([]byte(key))); err != nil {
				t.Fatal(err)
			}
		}
	}
	got := make(map[string]bool)
	for len(got) < keys*each {
		got[<-x.confirmed] = true
	}
	if err := service.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := make([]int, each)
	for i := range want {
		want[i] = i
	}
	for key, seen := range x.seen {
		if !slices.Equal(seen, want) {
			t.Errorf("%s was handled in the order %v", key, seen)
		}
	}
	s.wantAllCommitted(t, "shop", orders)
	s.wantAllCommitted(t, "post", confirmations)
}

// wantAllCommitted fails unless the group has committed the end of every partition.
func (s *site) wantAllCommitted(t *testing.T, group, topic string) {
	t.Helper()
	ends, err := s.admin.ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	for _, partitions := range ends {
		for id, end := range partitions {
			at, err := s.committed(t.Context(), group, topic, id)
			if errors.Is(err, errNoCommit) && end.Offset == 0 {
				continue
			}
			if err != nil || at != end.Offset {
				t.Errorf("the group %s has committed %d of partition %d of %s, which ends at %d (%v)", group, at, id, topic, end.Offset, err)
			}
		}
	}
}

// TestAppTransactional: the replies of a batch become visible together. A batch whose
// transaction is aborted leaves nothing.
func TestAppTransactional(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	orders, confirmations, dead := s.topic(t, 1), s.topic(t, 1), s.topic(t, 1)
	b := s.broker(t, kafka.TransactionalID(newID()))
	failing := true
	r := gostream.NewRouter()
	r.HandleSource(kafka.Topic(orders).Group("shop"),
		gostream.ReplyBatch(func(_ context.Context, batch []order) ([]confirmation, error) {
			list := make([]confirmation, len(batch))
			for i, o := range batch {
				list[i] = confirmation{Order: o.ID}
			}
			return list, nil
		}, 4, time.Second).To(confirmations).Transactional(),
		gostream.DeadLetterTo(dead), gostream.RetryBackoff(gostream.Constant(10*time.Millisecond)))
	app := gostream.New("shop", "1.0.0", gostreamtest.Quiet())
	app.Mount(b, r)
	// The first transaction fails after its messages were published.
	app.UsePublish(func(next gostream.PublishNext) gostream.PublishNext {
		return func(ctx context.Context, msgs []broker.OutgoingMessage) error {
			err := next(ctx, msgs)
			if failing && len(msgs) > 0 && msgs[0].Name == confirmations {
				failing = false
				return errTill
			}
			return err
		}
	})
	incoming := gostream.NewPublisher[order](app, b, orders)
	service, err := app.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 {
		if err := incoming.Publish(t.Context(), order{ID: strconv.Itoa(i)}); err != nil {
			t.Fatal(err)
		}
	}
	sub, err := kafka.Partitions(confirmations, 0).Subscribe(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]int)
	for len(seen) < 8 {
		m, err := sub.Receive(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		seen[string(m.Payload())]++
	}
	if err := service.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	for payload, n := range seen {
		if n != 1 {
			t.Errorf("%s is there %d times: an aborted transaction was seen", payload, n)
		}
	}
	if failing {
		t.Error("no transaction has failed")
	}
	s.wantAllCommitted(t, "shop", orders)
}

// TestAppInGostreamtest: an app on Kafka runs in the test kit, without a server. The kit
// needs nothing of this module but what its sources and its broker say of themselves.
func TestAppInGostreamtest(t *testing.T) {
	t.Parallel()
	b := kafka.New("127.0.0.1:1", kafka.DefaultGroup("shop"))
	x := newShop(b, "orders", "confirmations", "dead")
	ts := gostreamtest.Start(t, x.app)
	ts.Publish("orders", order{ID: "o-1", N: 1})
	ts.ExpectPublished("confirmations", 1)
	ts.Publish("orders", `{"id": 7}`) // an id is a string
	ts.ExpectPublished("dead", 1)
	if got := <-x.confirmed; got != "o-1" {
		t.Errorf("confirmed %q", got)
	}
}

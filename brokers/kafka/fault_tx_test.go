package kafka_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
)

// A second broker with the same transactional id takes over: nothing of what the first one
// has open is visible, and it says so from then on, whatever it tries.
func TestFencedProducer(t *testing.T) {
	t.Parallel()
	for _, k := range []struct {
		name string
		open bool // there is a transaction when the other one comes
	}{{"in a transaction", true}, {"between two transactions", false}} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			s := ownCluster(t, 1)
			topic, id := s.topic(t, 1), newID()
			first := s.broker(t, kafka.TransactionalID(id))
			sub := clusterSubscribe(t, s.broker(t), clusterSource(topic, newID()))
			clusterTransact(t, first, topic, "first")
			var x broker.Transaction
			if k.open {
				x = clusterBegin(t, first, topic, "never")
			}
			second := s.broker(t, kafka.TransactionalID(id))
			if !k.open {
				x = clusterBegin(t, first, topic, "never")
			}
			if err := x.Commit(clusterContext(t)); !errors.Is(err, kafka.ErrFenced) {
				t.Errorf("Commit answered %v, want ErrFenced", err)
			}
			if err := x.Commit(clusterContext(t)); !errors.Is(err, broker.ErrSettled) {
				t.Errorf("the second Commit answered %v, want ErrSettled", err)
			}
			for range 3 {
				if _, err := clusterTransactor(first).Begin(clusterContext(t)); !errors.Is(err, kafka.ErrFenced) {
					t.Errorf("Begin answered %v, want ErrFenced", err)
				}
			}
			if err := first.Health(clusterContext(t)); !errors.Is(err, kafka.ErrFenced) || !strings.Contains(err.Error(), id) {
				t.Errorf("Health answered %v, want ErrFenced and the id", err)
			}
			// What is published outside of transactions is not concerned.
			clusterPublish(t, first.Publisher(), topic, "plain")
			clusterTransact(t, second, topic, "second")
			if err := second.Health(clusterContext(t)); err != nil {
				t.Errorf("the health of the other broker: %v", err)
			}
			if got, want := clusterPayloads(t, sub, 3), []string{"first", "plain", "second"}; !slices.Equal(got, want) {
				t.Errorf("received %v, want %v", got, want)
			}
			if err := first.Shutdown(clusterContext(t)); err != nil {
				t.Errorf("Shutdown of the fenced broker: %v", err)
			}
		})
	}
}

// A transaction that takes longer than its timeout is ended by the cluster: what is behind
// it is seen, nothing of it is, and its producer is told.
func TestTransactionOutlivesItsTimeout(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	topic, id := s.topic(t, 1), newID()
	b := s.broker(t, kafka.TransactionalID(id), kafka.ClientOptions(kgo.TransactionTimeout(200*time.Millisecond)))
	sub := clusterSubscribe(t, s.broker(t), clusterSource(topic, newID()))
	x := clusterBegin(t, b, topic, "never")
	clusterUntil(t, "that the message of the transaction is stored", func() bool { return s.stored(t, topic) == 1 })
	clusterPublish(t, b.Publisher(), topic, "behind")
	if got := clusterPayloads(t, sub, 1); got[0] != "behind" {
		t.Errorf("received %v, want what is behind the transaction", got)
	}
	if err := x.Commit(clusterContext(t)); !errors.Is(err, kafka.ErrFenced) {
		t.Errorf("Commit answered %v, want ErrFenced", err)
	}
	if _, err := clusterTransactor(b).Begin(clusterContext(t)); !errors.Is(err, kafka.ErrFenced) {
		t.Errorf("Begin answered %v, want ErrFenced", err)
	}
	if err := b.Health(clusterContext(t)); !errors.Is(err, kafka.ErrFenced) || !strings.Contains(err.Error(), id) {
		t.Errorf("Health answered %v, want ErrFenced and the id", err)
	}
}

// Messages of a transaction that was aborted are not seen; those around it are.
func TestAbortedTransactionIsNotSeen(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	topic, group := s.topic(t, 1), newID()
	b := s.broker(t, kafka.TransactionalID(newID()))
	sub := clusterSubscribe(t, b, clusterSource(topic, group))
	clusterPublish(t, b.Publisher(), topic, "plain before")
	clusterTransact(t, b, topic, "before 1", "before 2")
	x := clusterBegin(t, b, topic, "never 1", "never 2")
	// Another client sees that they are there.
	clusterUntil(t, "that the messages of the transaction are stored", func() bool { return s.stored(t, topic) == 6 })
	if err := x.Abort(clusterContext(t)); err != nil {
		t.Fatal(err)
	}
	clusterTransact(t, b, topic, "after 1", "after 2")
	clusterPublish(t, b.Publisher(), topic, "plain after")
	want := []string{"plain before", "before 1", "before 2", "after 1", "after 2", "plain after"}
	if got := clusterPayloads(t, sub, len(want)); !slices.Equal(got, want) {
		t.Errorf("received %v, want %v", got, want)
	}
	// A plain message is last, so that the watermark reaches the end over all gaps.
	s.allCommitted(t, group, topic, 1)
}

// An open transaction holds back what comes after it in its partition, and only until it
// ends; other partitions are not concerned.
func TestOpenTransactionHoldsBack(t *testing.T) {
	t.Parallel()
	for _, k := range []struct {
		name string
		end  func(broker.Transaction, context.Context) error
		want []string
	}{
		{"commit", broker.Transaction.Commit, []string{"inside", "behind"}},
		{"abort", broker.Transaction.Abort, []string{"behind"}},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			s := ownCluster(t, 1)
			topic, other := s.topic(t, 1), s.topic(t, 1)
			b := s.broker(t, kafka.TransactionalID(newID()))
			sub := clusterSubscribe(t, b, kafka.Topics(topic, other).Group(newID()))
			x := clusterBegin(t, b, topic, "inside")
			clusterUntil(t, "that the message of the transaction is stored", func() bool { return s.stored(t, topic) == 1 })
			clusterPublish(t, b.Publisher(), topic, "behind")
			for _, payload := range []string{"a", "b"} { // they come past it
				clusterPublish(t, b.Publisher(), other, payload)
				if m := clusterReceive(t, sub); string(m.Payload()) != payload || m.Name() != other {
					t.Errorf("received %q of %s, want %q of %s", m.Payload(), m.Name(), payload, other)
				}
			}
			// What is held back is no lag: nobody may read it yet.
			if lag, err := broker.Lag(clusterContext(t), sub); lag != 0 || err != nil {
				t.Errorf("the lag is %d (%v), want 0", lag, err)
			}
			if err := k.end(x, clusterContext(t)); err != nil {
				t.Fatal(err)
			}
			if got := clusterPayloads(t, sub, len(k.want)); !slices.Equal(got, k.want) {
				t.Errorf("received %v, want %v", got, k.want)
			}
		})
	}
}

// A message that the cluster does not take fails its whole transaction, at Commit; the
// next one is not concerned.
func TestTransactionWithMessageThatIsNotTaken(t *testing.T) {
	t.Parallel()
	for _, k := range []struct {
		name string
		msg  broker.OutgoingMessage // no name: the topic
		want error
	}{
		{"too large", broker.OutgoingMessage{Payload: clusterNoise(2 << 20)}, broker.ErrTooLarge},
		{"to an unknown topic", broker.OutgoingMessage{Name: "nobody-made-it"}, broker.ErrNotFound},
		{"to an unknown partition", broker.OutgoingMessage{Options: kafka.PublishOptions{Partition: new(int32(7))}}, broker.ErrInvalid},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			s := ownCluster(t, 1)
			topic := s.topic(t, 1)
			b := s.broker(t, kafka.TransactionalID(newID()))
			sub := clusterSubscribe(t, b, clusterSource(topic, newID()))
			for _, first := range []bool{true, false} { // the message comes first, or last
				x := clusterBegin(t, b, topic)
				var errs []error
				publish := func(msg broker.OutgoingMessage) {
					if msg.Name == "" {
						msg.Name = topic
					}
					errs = append(errs, x.Publish(clusterContext(t), msg))
				}
				if first {
					publish(k.msg)
				}
				publish(broker.OutgoingMessage{Payload: []byte("never")})
				if !first {
					publish(k.msg)
				}
				for _, err := range errs { // one that fails at once says the same
					if err != nil && !errors.Is(err, k.want) {
						t.Errorf("Publish answered %v", err)
					}
				}
				if err := x.Commit(clusterContext(t)); !errors.Is(err, k.want) {
					t.Errorf("Commit answered %v, want %v", err, k.want)
				}
			}
			clusterTransact(t, b, topic, "after")
			if got := clusterPayloads(t, sub, 1); got[0] != "after" {
				t.Errorf("received %v, want what was committed alone", got)
			}
			if err := b.Health(clusterContext(t)); err != nil {
				t.Errorf("health: %v", err)
			}
		})
	}
}

// Shutdown aborts the transaction that is open, and does not leave it to its timeout: what
// is behind it can be read at once.
func TestShutdownWithOpenTransaction(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	topic := s.topic(t, 1)
	b := s.broker(t, kafka.TransactionalID(newID()))
	sub := clusterSubscribe(t, s.broker(t), clusterSource(topic, newID()))
	x := clusterBegin(t, b, topic, "never")
	clusterUntil(t, "that the message of the transaction is stored", func() bool { return s.stored(t, topic) == 1 })
	clusterPublish(t, b.Publisher(), topic, "behind")
	if err := b.Shutdown(clusterContext(t)); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"Publish": x.Publish(clusterContext(t), broker.OutgoingMessage{Name: topic}),
		"Commit":  x.Commit(clusterContext(t)),
		"Abort":   x.Abort(clusterContext(t)),
	} {
		if !errors.Is(err, broker.ErrClosed) {
			t.Errorf("%s after Shutdown answered %v, want ErrClosed", what, err)
		}
	}
	if got := clusterPayloads(t, sub, 1); got[0] != "behind" {
		t.Errorf("received %v, want what is behind the transaction", got)
	}
}

// A Commit whose context has ended before it began has done nothing: the transaction is
// open, and can be committed.
func TestCommitWithEndedContext(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	topic := s.topic(t, 1)
	b := s.broker(t, kafka.TransactionalID(newID()))
	sub := clusterSubscribe(t, b, clusterSource(topic, newID()))
	x := clusterBegin(t, b, topic, "1")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := x.Commit(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Commit answered %v, want context.Canceled", err)
	}
	if err := x.Publish(clusterContext(t), broker.OutgoingMessage{Name: topic, Payload: []byte("2")}); err != nil {
		t.Fatal(err)
	}
	if err := x.Commit(clusterContext(t)); err != nil {
		t.Fatal(err)
	}
	if got := clusterPayloads(t, sub, 2); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("received %v", got)
	}
}

// A Commit that cannot reach the cluster leaves all or nothing and says that its outcome
// is unknown, whether its context ends or the client gives up before. The next transaction
// begins when the cluster is back.
func TestCommitWhileTheClusterIsUnreachable(t *testing.T) {
	t.Parallel()
	for _, limit := range []time.Duration{100 * time.Millisecond, 2 * time.Second} {
		t.Run(limit.String(), func(t *testing.T) {
			t.Parallel()
			s := ownCluster(t, 1)
			topic := s.topic(t, 1)
			b := s.broker(t, kafka.TransactionalID(newID()))
			x := clusterBegin(t, b, topic, "1", "2")
			clusterUntil(t, "that the messages of the transaction are stored", func() bool { return s.stored(t, topic) == 2 })
			restore := s.interrupt()
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			if err := x.Commit(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Commit answered %v, want context.DeadlineExceeded", err)
			}
			restore()
			x = clusterBegin(t, b, topic)
			// The first one has ended by now: it holds nothing back.
			clusterPublish(t, b.Publisher(), topic, "behind")
			sub := clusterSubscribe(t, s.broker(t), clusterSource(topic, newID()))
			got := clusterPayloads(t, sub, 1)
			if got[0] == "1" {
				got = append(got, clusterPayloads(t, sub, 2)...)
			}
			if !slices.Equal(got, []string{"behind"}) && !slices.Equal(got, []string{"1", "2", "behind"}) {
				t.Errorf("received %v, want all or nothing of the transaction, and what is behind it", got)
			}
			if err := x.Publish(clusterContext(t), broker.OutgoingMessage{Name: topic, Payload: []byte("after")}); err != nil {
				t.Fatal(err)
			}
			if err := x.Commit(clusterContext(t)); err != nil {
				t.Fatal(err)
			}
			if got := clusterPayloads(t, sub, 1); got[0] != "after" {
				t.Errorf("received %v, want the next transaction", got)
			}
		})
	}
}

// The ends of transactions take up offsets that no message has. The watermark moves over
// those between messages. Those behind the last one it does not know of: they stay behind
// the committed offset, and count in the lag.
func TestWatermarkAndLagOverTransactions(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	topic, group := s.topic(t, 1), newID()
	b := s.broker(t, kafka.TransactionalID(newID()))
	sub := clusterSubscribe(t, b, clusterSource(topic, group))
	const transactions = 10
	for i := range int64(transactions) {
		clusterTransact(t, b, topic, "x", "y") // and the end of the transaction: three offsets
		msgs := []broker.IncomingMessage{clusterReceive(t, sub), clusterReceive(t, sub)}
		slices.Reverse(msgs)
		for _, m := range msgs {
			clusterAck(t, m)
		}
		clusterUntil(t, "that the watermark is committed", func() bool {
			at, err := s.committed(t.Context(), group, topic, 0)
			return err == nil && at == 3*i+2
		})
		if lag, err := broker.Lag(clusterContext(t), sub); lag != 1 || err != nil {
			t.Errorf("the lag after transaction %d is %d (%v), want 1: its end", i, lag, err)
		}
	}
	x := clusterBegin(t, b, topic, "never")
	clusterUntil(t, "that the message is stored", func() bool { return s.stored(t, topic) == 3*transactions+1 })
	if err := x.Abort(clusterContext(t)); err != nil {
		t.Fatal(err)
	}
	// The end of the last one that was committed, and both offsets of the aborted one.
	clusterUntil(t, "that the end of the transaction is written", func() bool { return s.stored(t, topic) == 3*transactions+2 })
	if lag, err := broker.Lag(clusterContext(t), sub); lag != 3 || err != nil {
		t.Errorf("the lag behind an aborted transaction is %d (%v), want 3", lag, err)
	}
	// The next message is past all of them.
	clusterPublish(t, b.Publisher(), topic, "plain")
	clusterAck(t, clusterReceive(t, sub))
	s.allCommitted(t, group, topic, 1)
	if lag, err := broker.Lag(clusterContext(t), sub); lag != 0 || err != nil {
		t.Errorf("the lag at the end is %d (%v), want 0", lag, err)
	}

	// Who comes next gets nothing again.
	if err := sub.Close(clusterContext(t)); err != nil {
		t.Fatal(err)
	}
	next := clusterSubscribe(t, b, clusterSource(topic, group))
	clusterTransact(t, b, topic, "next")
	if got := clusterPayloads(t, next, 1); got[0] != "next" {
		t.Errorf("received %v again", got)
	}
}

func clusterTransactor(b *kafka.Broker) broker.Transactor { return b.Publisher().(broker.Transactor) }

// clusterBegin begins a transaction with these messages.
func clusterBegin(t *testing.T, b *kafka.Broker, topic string, payloads ...string) broker.Transaction {
	t.Helper()
	x, err := clusterTransactor(b).Begin(clusterContext(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, payload := range payloads {
		if err := x.Publish(clusterContext(t), broker.OutgoingMessage{Name: topic, Payload: []byte(payload)}); err != nil {
			t.Fatal(err)
		}
	}
	return x
}

// clusterTransact publishes the messages in one transaction.
func clusterTransact(t *testing.T, b *kafka.Broker, topic string, payloads ...string) {
	t.Helper()
	if err := clusterBegin(t, b, topic, payloads...).Commit(clusterContext(t)); err != nil {
		t.Fatal(err)
	}
}

// clusterPayloads receives and acknowledges so many messages.
func clusterPayloads(t *testing.T, sub broker.Subscription, n int) (list []string) {
	t.Helper()
	for range n {
		m := clusterReceive(t, sub)
		list = append(list, string(m.Payload()))
		clusterAck(t, m)
	}
	return list
}

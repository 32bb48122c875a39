package kafka_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
)

// Errors that pass: whatever request the cluster refuses for a while, nothing that was
// accepted is lost, nothing is stored twice, and what was acknowledged is committed.
func TestErrorsThatPass(t *testing.T) {
	t.Parallel()
	for _, k := range []struct {
		name  string
		fault kfake.Fault
	}{
		{"produce, the leader has moved", kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.NotLeaderForPartition}},
		{"produce, stored but timed out", kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut}},
		{"fetch, the leader has moved", kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.NotLeaderForPartition}},
		{"fetch, timed out", kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.RequestTimedOut}},
		{"commit, the coordinator is loading", kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.CoordinatorNotAvailable}},
		{"commit, the coordinator has moved", kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.NotCoordinator}},
		{"join, the coordinator is loading", kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Err: kerr.CoordinatorNotAvailable}},
		{"join, the coordinator has moved", kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Err: kerr.NotCoordinator}},
		{"heartbeat, the coordinator is loading", kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.CoordinatorNotAvailable}},
		{"heartbeat, the coordinator has moved", kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.NotCoordinator}},
		{"heartbeat, the member is unknown", kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.UnknownMemberID}},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			const partitions, times, before = 2, 3, 100
			s := ownCluster(t, 1)
			topic, group := s.topic(t, partitions), newID()
			fault := k.fault
			fault.Count = times
			early := slices.Contains(fault.Keys, kmsg.JoinGroup)
			var hit *kfake.FaultHandle
			if early {
				hit = s.cluster.Fault(fault)
			}
			load := newClusterLoad(topic, 10)
			load.ahead = before
			load.consume(t, clusterSubscribe(t, s.broker(t), clusterSource(topic, group)))
			published := load.publish(t, s.broker(t).Publisher())
			load.progress(t, before)
			if !early {
				hit = s.cluster.Fault(fault)
			}
			if err := hit.Wait(clusterContext(t), times); err != nil {
				t.Fatalf("the cluster has refused %d requests, not %d: %v", hit.Hits(), times, err)
			}
			load.progress(t, before)
			load.end()
			clusterClosed(t, "the end of publishing", published)
			load.allHandled(t)
			s.allCommitted(t, group, topic, partitions)
			load.report(t)
			if stored := s.stored(t, topic); load.retries == 0 && stored != int64(load.published) {
				t.Errorf("%d messages are stored, %d were published", stored, load.published)
			}
		})
	}
}

// stored is how many messages a topic has, of which none is a control record.
func (s *site) stored(t *testing.T, topic string) (n int64) {
	t.Helper()
	ends, err := s.admin.ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n
}

// A broker that takes less metadata than the default says so of a commit: from then on
// commits go without. The order of what is acknowledged is such that there is metadata.
func TestCommitWithoutMetadataWhereItIsTooLarge(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	topic, group := s.topic(t, 1), newID()
	hit := s.cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.OffsetMetadataTooLarge, Count: -1,
		When: func(r kmsg.Request) bool {
			for _, topic := range r.(*kmsg.OffsetCommitRequest).Topics {
				for _, p := range topic.Partitions {
					// The client's own is the id of its member.
					if p.Metadata != nil && strings.HasPrefix(*p.Metadata, "gostream/") {
						return true
					}
				}
			}
			return false
		},
	})
	b := s.broker(t)
	sub := clusterSubscribe(t, b, clusterSource(topic, group))
	clusterPublish(t, b.Publisher(), topic, "0", "1", "2", "3", "4", "5")
	var msgs []broker.IncomingMessage
	for range 6 {
		msgs = append(msgs, clusterReceive(t, sub))
	}
	for _, i := range []int{0, 2, 4} { // with holes: 2 and 4 are told by metadata alone
		clusterAck(t, msgs[i])
	}
	if err := hit.Wait(clusterContext(t), 1); err != nil {
		t.Fatal("no commit had metadata:", err)
	}
	clusterUntil(t, "that the watermark is committed", func() bool {
		at, err := s.committed(t.Context(), group, topic, 0)
		return err == nil && at == 1
	})
	clusterAck(t, msgs[1])
	clusterUntil(t, "that the next watermark is committed", func() bool {
		at, err := s.committed(t.Context(), group, topic, 0)
		return err == nil && at == 3
	})
	if n := hit.Hits(); n != 1 {
		t.Errorf("%d commits had metadata, want one", n)
	}
	for _, i := range []int{3, 5} {
		clusterAck(t, msgs[i])
	}
	s.allCommitted(t, group, topic, 1)
}

// Who may not read is told, and need not wait for ever.
func TestDenied(t *testing.T) {
	t.Parallel()
	for _, k := range []struct {
		name  string
		early bool // the fault is there before the subscription
		fault kfake.Fault
	}{
		{"the topic, at Subscribe", true, kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Err: kerr.TopicAuthorizationFailed}},
		{"the group's coordinator, at Subscribe", true, kfake.Fault{Keys: []kmsg.Key{kmsg.FindCoordinator}, Err: kerr.GroupAuthorizationFailed}},
		{"the group, at Subscribe", true, kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Err: kerr.GroupAuthorizationFailed}},
		{"the group's offsets, at Subscribe", true, kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Err: kerr.GroupAuthorizationFailed}},
		{"the topic, at a fetch", false, kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.TopicAuthorizationFailed}},
		{"the group, at a heartbeat", false, kfake.Fault{Keys: []kmsg.Key{kmsg.Heartbeat}, Err: kerr.GroupAuthorizationFailed}},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			s := ownCluster(t, 1)
			topic, group := s.topic(t, 1), newID()
			fault := k.fault
			fault.Count = -1
			if slices.Contains(fault.Keys, kmsg.Metadata) || slices.Contains(fault.Keys, kmsg.Fetch) {
				fault.Topic = topic
			} else {
				fault.Group = group
			}
			b := kafka.New(s.brokers, s.options()...)
			told := clusterListen(b)
			s.connect(t, b)
			if k.early {
				s.cluster.Fault(fault)
				// Long enough to be told, and much shorter than the time that the test has.
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				sub, err := clusterSource(topic, group).Subscribe(ctx, b)
				if err == nil {
					t.Fatalf("Subscribe has returned %v", sub)
				}
				if !errors.Is(err, kafka.ErrDenied) {
					t.Errorf("Subscribe answered %v, want ErrDenied", err)
				}
				return
			}
			sub := clusterSubscribe(t, b, clusterSource(topic, group))
			clusterPublish(t, b.Publisher(), topic, "before")
			clusterAck(t, clusterReceive(t, sub))
			s.cluster.Fault(fault)
			_, err := sub.Receive(clusterContext(t))
			if !errors.Is(err, kafka.ErrDenied) {
				t.Errorf("Receive answered %v, want ErrDenied", err)
			}
			clusterUntil(t, "that the loss is told", func() bool {
				lost := told.of(broker.EventSubscriptionLost)
				return len(lost) > 0 && errors.Is(lost[0].Err, kafka.ErrDenied)
			})
		})
	}
}

// connect connects a broker, which is shut down at the end.
func (s *site) connect(t *testing.T, b *kafka.Broker) {
	t.Helper()
	if err := b.Connect(clusterContext(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), clusterLimit)
		defer cancel()
		if err := b.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
}

// Publishing to a topic that does not exist is an error; where both sides allow it the
// topic is created, and the message is in it.
func TestPublishToUnknownTopic(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1, kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(1))
	name := newID()
	one := broker.OutgoingMessage{Name: name, Payload: []byte("x")}
	p := s.broker(t).Publisher()
	if err := p.Publish(clusterContext(t), one); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("Publish answered %v, want ErrNotFound", err)
	}
	known := s.topic(t, 1)
	err := broker.PublishBatch(clusterContext(t), p, []broker.OutgoingMessage{{Name: known}, one, {Name: known}})
	errs := broker.BatchErrors(err, 3)
	if errs[0] != nil || !errors.Is(errs[1], broker.ErrNotFound) || errs[2] != nil {
		t.Errorf("PublishBatch answered %v, want ErrNotFound for the second alone", errs)
	}
	if n := s.stored(t, known); n != 2 {
		t.Errorf("%d messages are stored, want 2", n)
	}
	if s.cluster.TopicInfo(name) != nil {
		t.Fatal("the topic was created without AllowTopicCreation")
	}

	b := s.broker(t, kafka.AllowTopicCreation())
	if err := b.Publisher().Publish(clusterContext(t), one); err != nil {
		t.Fatal(err)
	}
	if m := clusterReceive(t, clusterSubscribe(t, b, clusterSource(name, newID()))); string(m.Payload()) != "x" {
		t.Errorf("received %q", m.Payload())
	}

	// Both sides must allow it.
	s = ownCluster(t, 1)
	if err := s.broker(t, kafka.AllowTopicCreation()).Publisher().Publish(clusterContext(t), one); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("Publish answered %v where the cluster creates no topics, want ErrNotFound", err)
	}
}

// A message that is too large, for the client or for the cluster, is told.
func TestMessageTooLarge(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1, clusterTakesLess)
	topic := s.topic(t, 1)
	p := s.broker(t).Publisher()
	for who, size := range map[string]int{"the client": 2 << 20, "the cluster": 200 << 10} {
		large := broker.OutgoingMessage{Name: topic, Payload: clusterNoise(size)}
		if err := p.Publish(clusterContext(t), large); !errors.Is(err, broker.ErrTooLarge) {
			t.Errorf("too large for %s: Publish answered %v, want ErrTooLarge", who, err)
		}
	}
	clusterPublish(t, p, topic, "small")
	if n := s.stored(t, topic); n != 1 {
		t.Errorf("%d messages are stored, want the small one", n)
	}
}

// One message of a batch that is too large does not keep the others from arriving, whoever
// finds it too large: the cluster refuses all that came with it in one request.
func TestBatchWithMessageThatIsTooLarge(t *testing.T) {
	t.Parallel()
	for who, size := range map[string]int{"the client": 2 << 20, "the cluster": 200 << 10} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			s := ownCluster(t, 1, clusterTakesLess)
			topic := s.topic(t, 1)
			var batch []broker.OutgoingMessage
			for i := range 5 {
				batch = append(batch, broker.OutgoingMessage{Name: topic, Payload: []byte(strconv.Itoa(i))})
			}
			batch = slices.Insert(batch, 2, broker.OutgoingMessage{Name: topic, Payload: clusterNoise(size)})
			errs := broker.BatchErrors(broker.PublishBatch(clusterContext(t), s.broker(t).Publisher(), batch), len(batch))
			for i, err := range errs {
				if tooLarge := errors.Is(err, broker.ErrTooLarge); tooLarge != (i == 2) || i != 2 && err != nil {
					t.Errorf("message %d: %v", i, err)
				}
			}
			if n := s.stored(t, topic); n != 5 {
				t.Errorf("%d messages are stored, want the 5 others", n)
			}
		})
	}
}

// clusterTakesLess has a cluster take less than the client's own limit of a megabyte.
var clusterTakesLess = kfake.BrokerConfigs(map[string]string{"message.max.bytes": "100000"})

// A topic that is deleted while it is read ends its subscription, whose receiver would
// wait for ever.
func TestTopicDeletedWhileSubscribed(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	for _, k := range []struct {
		name   string
		source func(topic string) broker.Source
	}{
		{"group", func(topic string) broker.Source { return clusterSource(topic, "group") }},
		{"auto-commit", func(topic string) broker.Source { return kafka.Topic(topic).Group(newID()).AutoCommit() }},
		{"reader", func(topic string) broker.Source { return kafka.Partitions(topic, 0) }},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			topic := s.topic(t, 1)
			b := kafka.New(s.brokers, s.options()...)
			told := clusterListen(b)
			s.connect(t, b)
			sub := clusterSubscribe(t, b, k.source(topic))
			clusterPublish(t, b.Publisher(), topic, "before")
			m := clusterReceive(t, sub)
			if k.name == "group" {
				clusterAck(t, m)
				clusterUntil(t, "that it is committed", func() bool {
					at, err := s.committed(t.Context(), k.name, topic, 0)
					return err == nil && at == 1
				})
			}
			if err := s.cluster.DeleteTopic(topic); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), clusterLimit/2)
			defer cancel()
			_, err := sub.Receive(ctx)
			if !errors.Is(err, broker.ErrNotFound) {
				t.Errorf("Receive answered %v, want ErrNotFound", err)
			}
			lost := told.of(broker.EventSubscriptionLost)
			if len(lost) == 0 || !errors.Is(lost[0].Err, broker.ErrNotFound) {
				t.Errorf("told of lost subscriptions: %v, want one that is not found", lost)
			}
		})
	}
}

// What was acknowledged and could not be committed is told by whoever ends the
// subscription, although the request as a whole was answered.
func TestRefusedCommitIsTold(t *testing.T) {
	t.Parallel()
	for _, k := range []struct {
		name string
		late bool // the last message is acknowledged after Close has returned
		end  func(ctx context.Context, b *kafka.Broker, sub broker.Subscription) error
	}{
		{"by Close", false, func(ctx context.Context, _ *kafka.Broker, sub broker.Subscription) error { return sub.Close(ctx) }},
		{"by Shutdown", false, func(ctx context.Context, b *kafka.Broker, _ broker.Subscription) error { return b.Shutdown(ctx) }},
		{"by Shutdown, of what was acknowledged after Close", true, func(ctx context.Context, b *kafka.Broker, _ broker.Subscription) error { return b.Shutdown(ctx) }},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			s := ownCluster(t, 1)
			topic, group := s.topic(t, 2), newID()
			left := &memberClosed{closed: make(chan struct{})}
			b := kafka.New(s.brokers, s.options(kafka.ClientOptions(kgo.WithHooks(left)))...)
			if err := b.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = b.Shutdown(context.Background()) })
			sub := clusterSubscribe(t, b, clusterSource(topic, group).CommitInterval(time.Hour))
			for p := range int32(2) {
				msg := broker.OutgoingMessage{Name: topic, Options: kafka.PublishOptions{Partition: &p}}
				if err := b.Publisher().Publish(clusterContext(t), msg); err != nil {
					t.Fatal(err)
				}
			}
			msgs := []broker.IncomingMessage{clusterReceive(t, sub), clusterReceive(t, sub)}
			if k.late {
				if err := sub.Close(clusterContext(t)); err != nil {
					t.Fatal(err)
				}
			}
			hit := s.cluster.Fault(kfake.Fault{
				Keys: []kmsg.Key{kmsg.OffsetCommit}, Group: group, Partitions: []int32{1}, Err: kerr.IllegalGeneration, Count: -1,
			})
			for _, m := range msgs {
				clusterAck(t, m)
			}
			if k.late { // the last acknowledgement has the subscription leave
				if err := hit.Wait(clusterContext(t), 1); err != nil {
					t.Fatal(err)
				}
				clusterClosed(t, "that the subscription has left", left.closed)
			}
			err := k.end(clusterContext(t), b, sub)
			// The cause is the refusal, or that time has passed while it was tried again.
			if err == nil || !strings.Contains(err.Error(), topic) {
				t.Errorf("%s: %v, want what of which topic is not committed", k.name, err)
			}
			if at, err := s.committed(t.Context(), group, topic, 0); at != 1 || err != nil {
				t.Errorf("the other partition is committed up to %d (%v), want 1", at, err)
			}
		})
	}
}

// memberClosed closes its channel when a client that belongs to a group is closed.
type memberClosed struct {
	closed chan struct{}
	once   sync.Once
}

// OnClientClosed is called by each client.
func (m *memberClosed) OnClientClosed(c *kgo.Client) {
	if group, _ := c.OptValue(kgo.ConsumerGroup).(string); group != "" {
		m.once.Do(func() { close(m.closed) })
	}
}

// clusterNoise is so many bytes that cannot be compressed.
func clusterNoise(size int) []byte {
	var b bytes.Buffer
	for b.Len() < size {
		b.WriteString(newID())
	}
	return b.Bytes()[:size]
}

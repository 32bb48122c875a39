package kafka_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
)

// trial is a broker on a cluster, and what tests do with it over and over again. What
// fails ends the test.
type trial struct {
	*testing.T
	site *site
	b    *kafka.Broker
}

func (s *site) trial(t *testing.T, opts ...kafka.Option) *trial {
	t.Helper()
	return &trial{t, s, s.broker(t, opts...)}
}

// bound is for what does not take long, and must not take for ever.
func (x *trial) bound() context.Context {
	ctx, cancel := context.WithTimeout(x.T.Context(), 20*time.Second)
	x.Cleanup(cancel)
	return ctx
}

func (x *trial) publish(msgs ...broker.OutgoingMessage) {
	x.Helper()
	for _, msg := range msgs {
		if err := x.b.Publisher().Publish(x.bound(), msg); err != nil {
			x.Fatal(err)
		}
	}
}

// send publishes payloads to one partition.
func (x *trial) send(topic string, partition int32, payloads ...string) {
	x.Helper()
	for _, payload := range payloads {
		x.publish(broker.OutgoingMessage{Name: topic, Payload: []byte(payload), Options: kafka.PublishOptions{Partition: &partition}})
	}
}

func (x *trial) subscribe(src broker.Source) broker.Subscription {
	x.Helper()
	sub, err := src.Subscribe(x.bound(), x.b)
	if err != nil {
		x.Fatal(err)
	}
	return sub
}

func (x *trial) receive(sub broker.Subscription) broker.IncomingMessage {
	x.Helper()
	m, err := sub.Receive(x.bound())
	if err != nil {
		x.Fatal(err)
	}
	return m
}

// expect receives messages with those payloads, in that order.
func (x *trial) expect(sub broker.Subscription, payloads ...string) (got []broker.IncomingMessage) {
	x.Helper()
	for _, want := range payloads {
		m := x.receive(sub)
		if string(m.Payload()) != want {
			x.Fatalf("received %.40q, want %q", m.Payload(), want)
		}
		got = append(got, m)
	}
	return got
}

func (x *trial) ack(msgs ...broker.IncomingMessage) {
	x.Helper()
	for _, m := range msgs {
		if err := m.Ack(x.bound()); err != nil {
			x.Fatal(err)
		}
	}
}

// restartBroker shuts the broker down and connects another in its place.
func (x *trial) restartBroker(opts ...kafka.Option) {
	x.Helper()
	if err := x.b.Shutdown(x.bound()); err != nil {
		x.Fatal(err)
	}
	x.b = x.site.broker(x.T, opts...)
}

// eventually polls.
func (x *trial) eventually(what string, is func() bool) {
	x.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			x.Fatalf("not within 20 s: %s", what)
		}
	}
}

// records are the first n of a topic, as another client sees them.
func (x *trial) records(topic string, n int) []*kgo.Record {
	x.Helper()
	c := x.site.client(x, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	var list []*kgo.Record
	for len(list) < n {
		fetches := c.PollFetches(x.bound())
		if err := fetches.Err(); err != nil {
			x.Fatal(err)
		}
		list = append(list, fetches.Records()...)
	}
	return list
}

// held is a request that was answered by nobody yet.
type held struct {
	asked   chan struct{}
	release chan struct{}
}

// hold has the next request of that key wait until release is closed; then the connection
// breaks if cut says so, else it goes on.
func (x *trial) hold(key int16, cut bool) *held {
	h := &held{make(chan struct{}), make(chan struct{})}
	x.Cleanup(func() {
		select {
		case <-h.release:
		default:
			close(h.release)
		}
	})
	x.site.cluster.ControlKey(key, func(kmsg.Request) (kmsg.Response, error, bool) {
		x.site.cluster.DropControl()
		close(h.asked)
		x.site.cluster.SleepControl(func() { <-h.release })
		if cut {
			return nil, errors.New("cut"), true
		}
		return nil, nil, false
	})
	return h
}

// Publish returns when the message is there, and asks for all in-sync replicas.
func TestPublishWaitsForAcks(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 3).trial(t)
	topic := x.site.topic(t, 1)
	var acks, asked atomic.Int32
	x.site.cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		x.site.cluster.KeepControl()
		acks.Store(int32(req.(*kmsg.ProduceRequest).Acks))
		asked.Add(1)
		return nil, nil, false
	})
	for i := range int64(10) {
		x.publish(broker.OutgoingMessage{Name: topic})
		if end := x.site.cluster.PartitionInfo(topic, 0).HighWatermark; end != i+1 {
			t.Fatalf("Publish %d returned, and the partition ends at %d", i+1, end)
		}
	}
	if acks.Load() != -1 || asked.Load() == 0 {
		t.Errorf("%d requests ask for %d acks", asked.Load(), acks.Load())
	}
	// While the brokers have not answered Publish does not return; what one of them refuses
	// for the time being is tried again.
	h := x.hold(int16(kmsg.Produce), false)
	x.site.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.NotEnoughReplicas, Count: 2})
	done := make(chan error, 1)
	go func() {
		done <- x.b.Publisher().Publish(x.bound(), broker.OutgoingMessage{Name: topic, Payload: []byte("held")})
	}()
	<-h.asked
	select {
	case err := <-done:
		t.Fatalf("Publish returned before the brokers answered: %v", err)
	default:
	}
	close(h.release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if end := x.site.cluster.PartitionInfo(topic, 0).HighWatermark; end != 11 {
		t.Errorf("the partition ends at %d", end)
	}
}

// javaHashes are values of org.apache.kafka.common.utils.Utils.murmur2, from its own test.
var javaHashes = map[string]int32{
	"21":                         -973932308,
	"foobar":                     -790332482,
	"a-little-bit-long-string":   -985981536,
	"a-little-bit-longer-string": -1486304829,
	"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
	"abc": 479470107,
	"":    275646681,
}

// Messages go to the partition that other clients choose for their key. An empty key is
// one, no key is none.
func TestKeysChooseThePartitionOfOtherClients(t *testing.T) {
	t.Parallel()
	const partitions = 7
	x := ownCluster(t, 1).trial(t)
	topic := x.site.topic(t, partitions)
	other := kgo.StickyKeyPartitioner(nil).ForTopic(topic)
	n := 0
	want := make(map[string]int32)
	for key, hash := range javaHashes {
		want[key] = (hash & 0x7fffffff) % partitions
		if got := other.Partition(&kgo.Record{Key: []byte(key)}, partitions); int32(got) != want[key] {
			t.Fatalf("the table says %d for %q, the client %d", want[key], key, got)
		}
	}
	for i := range 50 {
		key := fmt.Sprintf("key-%d", i)
		want[key] = int32(other.Partition(&kgo.Record{Key: []byte(key)}, partitions))
	}
	var msgs []broker.OutgoingMessage
	for key := range want {
		msgs = append(msgs, broker.OutgoingMessage{Name: topic, Key: []byte(key), Payload: []byte("keyed")})
		n++
	}
	x.publish(msgs...)
	// Without ClientOptions the partitioner is this package's own.
	own := kafka.New(x.site.brokers, kafka.SASLScramSHA256(x.site.user, x.site.password))
	if err := own.Connect(x.bound()); err != nil {
		t.Fatal(err)
	}
	if err := broker.PublishBatch(x.bound(), own.Publisher(), msgs); err != nil {
		t.Fatal(err)
	}
	if err := own.Shutdown(x.bound()); err != nil {
		t.Error(err)
	}
	x.publish(broker.OutgoingMessage{Name: topic, Payload: []byte("no key")})
	seen := 0
	for _, rec := range x.records(topic, 2*n+1) {
		switch {
		case string(rec.Value) == "no key":
			if rec.Key != nil {
				t.Errorf("no key arrives as %q", rec.Key)
			}
		case rec.Key == nil:
			t.Error("a key arrives as none")
		case rec.Partition != want[string(rec.Key)]:
			t.Errorf("the key %q is in partition %d, want %d", rec.Key, rec.Partition, want[string(rec.Key)])
		default:
			seen++
		}
	}
	if seen != 2*n {
		t.Errorf("%d of %d keys arrived", seen, 2*n)
	}
	sub := x.subscribe(kafka.Topic(topic).Group("g"))
	for range 2*n + 1 {
		m := x.receive(sub)
		if key, _ := broker.PartitionKey(m); (key == nil) != (string(m.Payload()) == "no key") {
			t.Errorf("%s has the key %v", m.Payload(), key)
		}
	}
}

func TestPublishOptions(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 1).trial(t)
	topic := x.site.topic(t, 3)
	when := time.UnixMilli(1_234_567_890_123)
	x.publish(
		broker.OutgoingMessage{Name: topic, Key: []byte("k"), Payload: []byte("0"), Options: kafka.PublishOptions{Partition: new(int32(2)), Timestamp: when}},
		broker.OutgoingMessage{Name: topic, Key: []byte("k"), Payload: []byte("1"), Options: &kafka.PublishOptions{Partition: new(int32(2)), Timestamp: time.UnixMilli(0)}},
		broker.OutgoingMessage{Name: topic, Key: []byte("k"), Options: kafka.PublishOptions{Partition: new(int32(2)), Tombstone: true}},
		broker.OutgoingMessage{Name: topic, Key: []byte{}, Payload: []byte{}, Options: kafka.PublishOptions{Partition: new(int32(2)), Tombstone: true}},
		broker.OutgoingMessage{Name: topic, Key: []byte("k"), Payload: nil, Options: kafka.PublishOptions{Partition: new(int32(2))}},
		broker.OutgoingMessage{Name: topic, Key: []byte("k"), Payload: []byte{}, Options: kafka.PublishOptions{Partition: new(int32(2))}},
	)
	// Without a context that ends, nothing is copied: nil is no tombstone all the same.
	if err := x.b.Publisher().Publish(context.Background(), broker.OutgoingMessage{Name: topic, Key: []byte("k"), Options: kafka.PublishOptions{Partition: new(int32(2))}}); err != nil {
		t.Fatal(err)
	}
	before := time.Now().Add(-time.Minute)
	got := x.records(topic, 7)
	for i, rec := range got {
		if rec.Partition != 2 || rec.Offset != int64(i) {
			t.Errorf("message %d is in partition %d at %d", i, rec.Partition, rec.Offset)
		}
		if tombstone := i == 2 || i == 3; (rec.Value == nil) != tombstone {
			t.Errorf("message %d has the payload %v", i, rec.Value)
		}
		switch {
		case i == 0 && !rec.Timestamp.Equal(when), i == 1 && rec.Timestamp.UnixMilli() != 0:
			t.Errorf("message %d has the time %v", i, rec.Timestamp)
		case i > 1 && rec.Timestamp.Before(before):
			t.Errorf("message %d without a time has %v", i, rec.Timestamp)
		}
	}
	for _, tt := range []struct {
		name    string
		msg     broker.OutgoingMessage
		options any
		says    string
	}{
		{"a partition that is not there", broker.OutgoingMessage{}, kafka.PublishOptions{Partition: new(int32(3))}, "the topic has no such partition"},
		{"the largest partition", broker.OutgoingMessage{}, kafka.PublishOptions{Partition: new(int32(1<<31 - 1))}, "the topic has no such partition"},
		{"-1", broker.OutgoingMessage{}, kafka.PublishOptions{Partition: new(int32(-1))}, "the partition is negative"},
		{"-2", broker.OutgoingMessage{}, kafka.PublishOptions{Partition: new(int32(-2))}, "the partition is negative"},
		{"before 1970", broker.OutgoingMessage{}, kafka.PublishOptions{Timestamp: time.UnixMilli(-1)}, "the timestamp is before 1970"},
		{"a tombstone with a payload", broker.OutgoingMessage{Key: []byte("k"), Payload: []byte("x")}, kafka.PublishOptions{Tombstone: true}, "a tombstone has no payload"},
		{"a tombstone without a key", broker.OutgoingMessage{}, kafka.PublishOptions{Tombstone: true}, "a tombstone without a key"},
		{"a nil pointer", broker.OutgoingMessage{}, (*kafka.PublishOptions)(nil), "nil *kafka.PublishOptions"},
		{"another type", broker.OutgoingMessage{}, "options", "the options are string: a message for Kafka takes kafka.PublishOptions"},
	} {
		tt.msg.Name, tt.msg.Options = topic, tt.options
		err := x.b.Publisher().Publish(x.bound(), tt.msg)
		if !errors.Is(err, broker.ErrInvalid) || !strings.Contains(fmt.Sprint(err), tt.says) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.says)
		}
		err = broker.PublishBatch(x.bound(), x.b.Publisher(), []broker.OutgoingMessage{tt.msg})
		if !errors.Is(err, broker.ErrInvalid) || !strings.Contains(fmt.Sprint(err), tt.says) {
			t.Errorf("%s in a batch: %v, want %q", tt.name, err, tt.says)
		}
	}
	for p := range int32(3) {
		if got, want := x.site.cluster.PartitionInfo(topic, p).HighWatermark, map[int32]int64{2: 7}[p]; got != want {
			t.Errorf("partition %d ends at %d, want %d", p, got, want)
		}
	}
}

// A batch says which of its messages failed, and the others arrive.
func TestPublishBatchSaysWhichFailed(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 1).trial(t)
	topic := x.site.topic(t, 1)
	msgs := make([]broker.OutgoingMessage, 12)
	for i := range msgs {
		msgs[i] = broker.OutgoingMessage{Name: topic, Payload: fmt.Append(nil, i)}
	}
	want := make([]error, len(msgs))
	msgs[1].Name, want[1] = "no name", broker.ErrInvalid
	msgs[4].Name, want[4] = "unknown-"+newID(), broker.ErrNotFound
	msgs[6].Payload, want[6] = make([]byte, 4<<20), broker.ErrTooLarge
	msgs[7].Options, want[7] = kafka.PublishOptions{Partition: new(int32(1))}, broker.ErrInvalid
	msgs[9].Headers, want[9] = broker.NewHeaders(broker.Header{Key: "\xff", Value: "x"}), broker.ErrInvalid
	for name, ctx := range map[string]context.Context{"with a deadline": x.bound(), "without": context.Background()} {
		err := broker.PublishBatch(ctx, x.b.Publisher(), msgs)
		var failed *broker.BatchError
		if !errors.As(err, &failed) || len(failed.Errs) != len(msgs) {
			t.Fatalf("%s: %v", name, err)
		}
		for i, err := range failed.Errs {
			if !errors.Is(err, want[i]) || want[i] == nil && err != nil {
				t.Errorf("%s: message %d: %v, want %v", name, i, err, want[i])
			}
			var typed *broker.Error
			if err != nil && (!errors.As(err, &typed) || typed.Name != msgs[i].Name || typed.Op != "publish") {
				t.Errorf("%s: message %d: %#v", name, i, err)
			}
		}
	}
	var got []string
	for _, rec := range x.records(topic, 14) {
		got = append(got, string(rec.Value))
	}
	if text := strings.Join(got, " "); text != "0 2 3 5 8 10 11 0 2 3 5 8 10 11" {
		t.Errorf("there are %s", text)
	}
	if err := broker.PublishBatch(x.bound(), x.b.Publisher(), nil); err != nil {
		t.Errorf("an empty batch: %v", err)
	}
	// One by one they fail in the same way.
	for i, msg := range msgs {
		if err := x.b.Publisher().Publish(x.bound(), msg); !errors.Is(err, want[i]) || want[i] == nil && err != nil {
			t.Errorf("message %d: %v, want %v", i, err, want[i])
		}
	}
}

func TestPublishWithAnEndedContext(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 1).trial(t)
	topic := x.site.topic(t, 1)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Unix(0, 0))
	defer cancel()
	p := x.b.Publisher()
	for ctx, want := range map[context.Context]error{ended: context.Canceled, late: context.DeadlineExceeded} {
		if err := p.Publish(ctx, broker.OutgoingMessage{Name: topic}); !errors.Is(err, want) {
			t.Errorf("Publish: %v, want %v", err, want)
		}
		if err := broker.PublishBatch(ctx, p, []broker.OutgoingMessage{{Name: topic}}); !errors.Is(err, want) {
			t.Errorf("PublishBatch: %v, want %v", err, want)
		}
	}
	x.publish(broker.OutgoingMessage{Name: topic})
	if end := x.site.cluster.PartitionInfo(topic, 0).HighWatermark; end != 1 {
		t.Errorf("%d messages were published", end)
	}
}

// A context that ends while the message is on its way ends the call. The caller has its
// bytes again, though the client may still send them: what arrives is what was given.
func TestBytesAreTheCallersAgain(t *testing.T) {
	t.Parallel()
	for name, publish := range map[string]func(broker.Publisher, context.Context, broker.OutgoingMessage) error{
		"one": func(p broker.Publisher, ctx context.Context, msg broker.OutgoingMessage) error {
			return p.Publish(ctx, msg)
		},
		"batch": func(p broker.Publisher, ctx context.Context, msg broker.OutgoingMessage) error {
			return broker.PublishBatch(ctx, p, []broker.OutgoingMessage{msg})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := ownCluster(t, 1).trial(t)
			topic := x.site.topic(t, 1)
			x.publish(broker.OutgoingMessage{Name: topic, Payload: []byte("first")})
			h := x.hold(int16(kmsg.Produce), true)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			key, payload := bytes.Repeat([]byte("k"), 1000), bytes.Repeat([]byte("p"), 1000)
			done := make(chan error, 1)
			go func() {
				done <- publish(x.b.Publisher(), ctx, broker.OutgoingMessage{
					Name: topic, Key: key, Payload: payload, Headers: broker.NewHeaders(broker.Header{Key: "h", Value: "v"}),
				})
			}()
			<-h.asked
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Fatalf("Publish: %v", err)
			}
			clear(key)
			clear(payload)
			close(h.release) // the connection breaks, and the client sends once more
			got := x.records(topic, 2)[1]
			if strings.Trim(string(got.Key), "k") != "" || strings.Trim(string(got.Value), "p") != "" || len(got.Key) != 1000 || len(got.Value) != 1000 {
				t.Errorf("arrived as %q: %q", got.Key, got.Value)
			}
		})
	}
}

// While the cluster is away Publish ends with its context. What it left behind arrives once
// at most, as it was, and does not hold up what comes later.
func TestPublishWhileTheClusterIsAway(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 1).trial(t)
	topic := x.site.topic(t, 1)
	x.publish(broker.OutgoingMessage{Name: topic, Payload: []byte("first")})
	restore := x.site.interrupt()
	for i := range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		payload := []byte("away")
		done := make(chan error, 1)
		go func() {
			if i == 2 {
				done <- broker.PublishBatch(ctx, x.b.Publisher(), []broker.OutgoingMessage{{Name: topic, Payload: payload}})
			} else {
				done <- x.b.Publisher().Publish(ctx, broker.OutgoingMessage{Name: topic, Payload: payload})
			}
		}()
		select {
		case err := <-done:
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Publish: %v", err)
			}
		case <-time.After(15 * time.Second):
			t.Error("Publish outlives its context by far")
		}
		cancel()
		clear(payload)
	}
	restore()
	x.publish(broker.OutgoingMessage{Name: topic, Payload: []byte("last")})
	end := x.site.cluster.PartitionInfo(topic, 0).HighWatermark
	if end > 5 {
		t.Errorf("%d messages arrived", end)
	}
	for i, rec := range x.records(topic, int(end)) {
		want := "away"
		switch i {
		case 0:
			want = "first"
		case int(end) - 1:
			want = "last"
		}
		if string(rec.Value) != want {
			t.Errorf("message %d is %q, want %q", i, rec.Value, want)
		}
	}
}

// Every way to publish knows whether there is a connection.
func TestPublishBeforeConnectAndAfterShutdown(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	topic := s.topic(t, 1)
	for name, opts := range map[string][]kafka.Option{"plain": nil, "transactional": {kafka.TransactionalID(newID())}} {
		b := kafka.New(s.brokers, s.options(opts...)...)
		p := b.Publisher()
		all := func(want error) {
			t.Helper()
			for _, msg := range []broker.OutgoingMessage{{Name: topic}, {Name: ""}, {Name: topic, Options: "none"}} {
				if err := p.Publish(t.Context(), msg); !errors.Is(err, want) {
					t.Errorf("%s: Publish: %v, want %v", name, err, want)
				}
			}
			for _, msgs := range [][]broker.OutgoingMessage{nil, {{Name: topic}}} {
				if err := broker.PublishBatch(t.Context(), p, msgs); !errors.Is(err, want) {
					t.Errorf("%s: PublishBatch of %d: %v, want %v", name, len(msgs), err, want)
				}
			}
		}
		all(broker.ErrNotConnected)
		if err := b.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := p.Publish(t.Context(), broker.OutgoingMessage{Name: topic}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := b.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		all(broker.ErrClosed)
	}
}

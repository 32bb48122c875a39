package kafka

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand"
	"net"
	"runtime/pprof"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/gostream/gostream/broker"
)

func noAssignment(context.Context, *kgo.Client, map[string][]int32) {}

type somePool struct{}

func (somePool) GetDecompressBytes([]byte, kgo.CompressionCodecType) []byte { return nil }
func (somePool) PutDecompressBytes([]byte)                                  {}

// refusals has for each refused option the options that somebody would give for it: it
// alone, and with what the client wants beside it.
var refusals = map[string][][]kgo.Opt{
	"ConsumerGroup":      {{kgo.ConsumerGroup("g")}},
	"ConsumeTopics":      {{kgo.ConsumeTopics("t")}},
	"ConsumePartitions":  {{kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"t": {0: kgo.NewOffset()}})}},
	"ConsumeRegex":       {{kgo.ConsumeRegex()}},
	"ConsumeStartOffset": {{kgo.ConsumeStartOffset(kgo.NewOffset().AtEnd())}, {kgo.ConsumeStartOffset(kgo.NewOffset().AtCommitted())}},
	"ShareGroup":         {{kgo.ShareGroup("g")}},

	"AutoCommitInterval":   {{kgo.AutoCommitInterval(time.Second)}},
	"AutoCommitMarks":      {{kgo.AutoCommitMarks()}, {kgo.ConsumerGroup("g"), kgo.AutoCommitMarks()}},
	"GreedyAutoCommit":     {{kgo.GreedyAutoCommit()}, {kgo.ConsumerGroup("g"), kgo.GreedyAutoCommit()}},
	"AutoCommitCallback":   {{kgo.AutoCommitCallback(noCommit)}, {kgo.ConsumerGroup("g"), kgo.AutoCommitCallback(noCommit)}},
	"OnPartitionsAssigned": {{kgo.OnPartitionsAssigned(noAssignment)}, {kgo.ConsumerGroup("g"), kgo.OnPartitionsAssigned(noAssignment)}},
	"OnPartitionsRevoked":  {{kgo.OnPartitionsRevoked(noAssignment)}, {kgo.ConsumerGroup("g"), kgo.OnPartitionsRevoked(noAssignment)}},
	"OnPartitionsLost":     {{kgo.OnPartitionsLost(noAssignment)}, {kgo.ConsumerGroup("g"), kgo.OnPartitionsLost(noAssignment)}},
	"AdjustFetchOffsetsFn": {{kgo.AdjustFetchOffsetsFn(func(_ context.Context, o map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
		return o, nil
	})}},
	"OnOffsetsFetched":     {{kgo.OnOffsetsFetched(func(context.Context, *kgo.Client, *kmsg.OffsetFetchResponse) error { return nil })}},
	"BlockRebalanceOnPoll": {{kgo.BlockRebalanceOnPoll()}},
	"InstanceID":           {{kgo.InstanceID("i")}},
	"ServerSideBalancer":   {{kgo.ServerSideBalancer()}},
	"KeepControlRecords":   {{kgo.KeepControlRecords()}},
	"FetchIsolationLevel":  {{kgo.FetchIsolationLevel(kgo.ReadUncommitted())}},
	"WithPools":            {{kgo.WithPools(somePool{})}},

	"RequiredAcks":                       {{kgo.RequiredAcks(kgo.LeaderAck())}, {kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.NoAck())}},
	"DisableIdempotentWrite":             {{kgo.DisableIdempotentWrite()}},
	"AllowIdempotentProduceCancellation": {{kgo.AllowIdempotentProduceCancellation()}},
	"ManualFlushing":                     {{kgo.ManualFlushing()}},
	"DefaultProduceTopicAlways":          {{kgo.DefaultProduceTopicAlways()}, {kgo.DefaultProduceTopic("t"), kgo.DefaultProduceTopicAlways()}},
	"TransactionalID":                    {{kgo.TransactionalID("tx")}},

	"SeedBrokers":            {{kgo.SeedBrokers("localhost:1")}},
	"ClientID":               {{kgo.ClientID("c")}},
	"SASL":                   {{kgo.SASL(plain.Auth{User: "us3r", Pass: "s3cret"}.AsMechanism())}},
	"DialTLSConfig":          {{kgo.DialTLSConfig(&tls.Config{})}, {kgo.DialTLS()}},
	"Dialer":                 {{kgo.Dialer((&net.Dialer{}).DialContext)}, {kgo.Dialer(func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed })}},
	"DialTimeout":            {{kgo.DialTimeout(time.Second)}},
	"AllowAutoTopicCreation": {{kgo.AllowAutoTopicCreation()}},
}

func noCommit(*kgo.Client, *kmsg.OffsetCommitRequest, *kmsg.OffsetCommitResponse, error) {}

// Each refused option is named with the reason, alone as well, where the client itself
// has another complaint.
func TestRefusedClientOptions(t *testing.T) {
	t.Parallel()
	for _, r := range refusedOptions {
		variants := refusals[r.name]
		if len(variants) == 0 {
			t.Errorf("%s has no test", r.name)
		}
		for i, opts := range variants {
			t.Run(fmt.Sprintf("%s/%d", r.name, i), func(t *testing.T) {
				t.Parallel()
				err := New("localhost", ClientOptions(opts...)).Check()
				text := fmt.Sprint(err)
				if !errors.Is(err, broker.ErrInvalid) || !strings.Contains(text, "kgo."+r.name) || !strings.Contains(text, "is refused: "+r.reason) {
					t.Errorf("%v, want the reason for kgo.%s: %s", err, r.name, r.reason)
				}
				if n := strings.Count(text, "is refused"); n > len(opts) {
					t.Errorf("%d options are refused where %d were given: %v", n, len(opts), err)
				}
				for _, secret := range []string{"us3r", "s3cret"} {
					if strings.Contains(fmt.Sprintf("%+v", err), secret) {
						t.Errorf("the error shows a credential: %v", err)
					}
				}
			})
		}
	}
	if len(refusals) != len(refusedOptions) {
		t.Errorf("%d options are tested and %d refused", len(refusals), len(refusedOptions))
	}
}

// A context of the user would end clients behind the broker's back, whether it has ended
// already or not.
func TestAContextIsRefused(t *testing.T) {
	t.Parallel()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, ctx := range map[string]context.Context{"live": t.Context(), "background": context.Background(), "ended": ended} {
		err := New("localhost", ClientOptions(kgo.WithContext(ctx))).Check()
		if !errors.Is(err, broker.ErrInvalid) || !strings.Contains(fmt.Sprint(err), "kgo.WithContext is refused") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the client itself refuses is said too.
func TestInvalidClientOptions(t *testing.T) {
	t.Parallel()
	err := New("localhost", ClientOptions(kgo.SessionTimeout(time.Millisecond))).Check()
	if !errors.Is(err, broker.ErrInvalid) || !strings.Contains(fmt.Sprint(err), "kafka.ClientOptions: session timeout 1ms") {
		t.Errorf("%v", err)
	}
}

type someHook struct{ brokers atomic.Int64 }

func (h *someHook) OnBrokerConnect(kgo.BrokerMetadata, time.Duration, net.Conn, error) {
	h.brokers.Add(1)
}

func TestAllowedClientOptions(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]kgo.Opt{
		"SessionTimeout":           kgo.SessionTimeout(time.Minute),
		"HeartbeatInterval":        kgo.HeartbeatInterval(time.Second),
		"RebalanceTimeout":         kgo.RebalanceTimeout(2 * time.Minute),
		"Balancers":                kgo.Balancers(kgo.RangeBalancer()),
		"ProducerBatchCompression": kgo.ProducerBatchCompression(kgo.ZstdCompression()),
		"ProducerBatchMaxBytes":    kgo.ProducerBatchMaxBytes(2 << 20),
		"ProducerLinger":           kgo.ProducerLinger(time.Millisecond),
		"WithHooks":                kgo.WithHooks(new(someHook)),
		"WithLogger":               kgo.WithLogger(kgo.BasicLogger(new(bytes.Buffer), kgo.LogLevelNone, nil)),
		"MetadataMaxAge":           kgo.MetadataMaxAge(time.Minute),
		"MetadataMinAge":           kgo.MetadataMinAge(time.Second / 2),
		"FetchMaxWait":             kgo.FetchMaxWait(time.Second),
		"FetchMinBytes":            kgo.FetchMinBytes(100),
		"Rack":                     kgo.Rack("r"),
		"RecordPartitioner":        kgo.RecordPartitioner(kgo.RoundRobinPartitioner()),
		"ConsumeResetOffset/start": kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		"ConsumeResetOffset/end":   kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()),
		"ConsumeResetOffset/none":  kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		"RetryTimeout":             kgo.RetryTimeout(time.Minute),
		"MaxBufferedRecords":       kgo.MaxBufferedRecords(10),
		"FetchIsolationLevel/same": kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		"RequiredAcks/same":        kgo.RequiredAcks(kgo.AllISRAcks()),
		"TransactionTimeout":       kgo.TransactionTimeout(time.Minute),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := New("localhost", ClientOptions(o))
			if err := b.Check(); err != nil {
				t.Fatal(err)
			}
			c, err := b.config.client(&b.link, kgo.WithContext(t.Context()))
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		})
	}
	// It reaches the clients, after the package's own default.
	b := New("localhost", ClientOptions(kgo.MetadataMinAge(123*time.Millisecond)))
	c, err := b.config.client(&b.link)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.OptValue(kgo.MetadataMinAge); got != 123*time.Millisecond {
		t.Errorf("MetadataMinAge is %v", got)
	}
}

// Check does no I/O whatever the options, and nothing of its clients stays behind.
func TestCheckOfClientOptionsIsOffline(t *testing.T) {
	t.Parallel()
	var dialed atomic.Int64
	dial := func(context.Context, string, string) (net.Conn, error) {
		dialed.Add(1)
		return nil, errors.New("nobody is to be dialled")
	}
	label := fmt.Sprintf("check-%d", rand.Int63())
	for name, opts := range map[string][]kgo.Opt{
		"allowed": {kgo.SessionTimeout(time.Minute)},
		"topics":  {kgo.ConsumeTopics("t"), kgo.ConsumerGroup("g")},
		"context": {kgo.WithContext(context.Background()), kgo.ConsumeTopics("t"), kgo.ConsumerGroup("g")},
		"pattern": {kgo.ConsumeTopics(".*"), kgo.ConsumeRegex()},
		"tx":      {kgo.TransactionalID("tx")},
		"invalid": {kgo.SessionTimeout(1)},
	} {
		b := New("localhost", Dialer(dial), ClientOptions(append(opts, kgo.Dialer(dial))...))
		pprof.Do(t.Context(), pprof.Labels("who", label), func(context.Context) {
			if err := b.Check(); !errors.Is(err, broker.ErrInvalid) { // the dialer at least
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	deadline := time.Now().Add(10 * time.Second)
	var text bytes.Buffer
	for {
		text.Reset()
		if err := pprof.Lookup("goroutine").WriteTo(&text, 1); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(text.String(), label) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("goroutines of Check are left:\n%s", text.String())
		}
		time.Sleep(5 * time.Millisecond)
	}
	if n := dialed.Load(); n != 0 {
		t.Errorf("%d connections were dialled", n)
	}
}

// always sends every record of a topic to one partition; its parts are the optional
// interfaces of a partitioner.
type always int

func (p always) ForTopic(string) kgo.TopicPartitioner       { return p }
func (p always) RequiresConsistency(*kgo.Record) bool       { return false }
func (p always) Partition(*kgo.Record, int) int             { return int(p) }
func (p alwaysSticky) ForTopic(string) kgo.TopicPartitioner { return p }
func (p alwaysSticky) OnNewBatch()                          { p.batches.Add(1) }
func (p alwaysBackup) ForTopic(string) kgo.TopicPartitioner { return p }
func (p alwaysBackup) PartitionByBackup(_ *kgo.Record, n int, backup kgo.TopicBackupIter) int {
	for range n {
		backup.Next()
	}
	return int(p.always)
}

type alwaysSticky struct {
	always
	batches *atomic.Int64
}

type alwaysBackup struct{ always }

type alwaysBoth struct {
	alwaysBackup
	batches *atomic.Int64
}

func (p alwaysBoth) ForTopic(string) kgo.TopicPartitioner { return p }
func (p alwaysBoth) OnNewBatch()                          { p.batches.Add(1) }

// A partitioner that is given decides for messages that name no partition, and for these
// alone.
func TestRecordPartitionerIsHonoured(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	seen := make(chan int32, 64)
	hook := seePartitions(seen)
	var sticky, both atomic.Int64
	for name, p := range map[string]kgo.Partitioner{
		"plain":             always(2),
		"sticky":            alwaysSticky{2, &sticky},
		"backup":            alwaysBackup{2},
		"backup and sticky": alwaysBoth{alwaysBackup{2}, &both},
	} {
		b := New(strings.Join(cluster.ListenAddrs(), ","), ClientOptions(kgo.RecordPartitioner(p), kgo.WithHooks(hook)))
		if err := b.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		publish := func(key string, options any) int32 {
			t.Helper()
			if err := b.Publisher().Publish(t.Context(), broker.OutgoingMessage{Name: "t", Key: []byte(key), Options: options}); err != nil {
				t.Fatal(err)
			}
			return <-seen
		}
		for i := range 8 {
			key := fmt.Sprint(i)
			if got := publish(key, nil); got != 2 {
				t.Errorf("%s: the partitioner says 2, the message with key %s is in %d", name, key, got)
			}
			want := int32(i % 4)
			if got := publish(key, PublishOptions{Partition: &want}); got != want {
				t.Errorf("%s: the options say %d, the message is in %d", name, want, got)
			}
		}
		five := int32(5)
		err := b.Publisher().Publish(t.Context(), broker.OutgoingMessage{Name: "t", Options: PublishOptions{Partition: &five}})
		if !errors.Is(err, broker.ErrInvalid) {
			t.Errorf("%s: partition 5 of 4: %v", name, err)
		}
		<-seen // the record that failed
		if err := b.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if sticky.Load() == 0 || both.Load() == 0 {
		t.Errorf("OnNewBatch was called %d and %d times", sticky.Load(), both.Load())
	}
}

// seePartitions is a hook that tells where records went.
type seePartitions chan int32

func (h seePartitions) OnProduceRecordUnbuffered(rec *kgo.Record, _ error) { h <- rec.Partition }

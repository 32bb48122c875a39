package kafka

import (
	"context"
	"fmt"
	"maps"
	"net"
	"reflect"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// refusedOptions are those that ClientOptions does not take, with the reason. One that is
// set to what it is anyway does no harm and passes.
var refusedOptions = []struct {
	option any
	name   string
	reason string
}{
	{kgo.ConsumerGroup, "ConsumerGroup", "name the group with Group or DefaultGroup"},
	{kgo.ConsumeTopics, "ConsumeTopics", "subscribe with Topic"},
	{kgo.ConsumePartitions, "ConsumePartitions", "subscribe with Partitions"},
	{kgo.ConsumeRegex, "ConsumeRegex", "subscribe with TopicPattern"},
	{kgo.ConsumeStartOffset, "ConsumeStartOffset", "the start is the source's: FromEarliest, FromLatest, FromTime"},
	{kgo.ShareGroup, "ShareGroup", "share groups are another way to settle than the one of this package"},

	{kgo.AutoCommitInterval, "AutoCommitInterval", "commits follow the acknowledgements; their interval is the source's CommitInterval"},
	{kgo.AutoCommitMarks, "AutoCommitMarks", "commits follow the acknowledgements"},
	{kgo.GreedyAutoCommit, "GreedyAutoCommit", "commits follow the acknowledgements: this one would commit what no handler has finished, and lose it in a crash; the source's AutoCommit is at most once"},
	{kgo.AutoCommitCallback, "AutoCommitCallback", "commits follow the acknowledgements"},
	{kgo.OnPartitionsAssigned, "OnPartitionsAssigned", "the tracking of what is committed needs it"},
	{kgo.OnPartitionsRevoked, "OnPartitionsRevoked", "the tracking of what is committed needs it"},
	{kgo.OnPartitionsLost, "OnPartitionsLost", "the tracking of what is committed needs it"},
	{kgo.AdjustFetchOffsetsFn, "AdjustFetchOffsetsFn", "the tracking of what is committed needs it"},
	{kgo.OnOffsetsFetched, "OnOffsetsFetched", "an error of it would end the session in which commits are tracked"},
	{kgo.BlockRebalanceOnPoll, "BlockRebalanceOnPoll", "a rebalance waits here for what is in flight, and a poll would hold it up for longer"},
	{kgo.InstanceID, "InstanceID", "with static membership a subscription that is closed does not leave its group: not supported yet"},
	{kgo.ServerSideBalancer, "ServerSideBalancer", "not supported yet: the commits of this package are tested with the client-side protocol"},
	{kgo.KeepControlRecords, "KeepControlRecords", "control records are no messages"},
	{kgo.FetchIsolationLevel, "FetchIsolationLevel", "messages of aborted transactions would be handled"},
	{kgo.WithPools, "WithPools", "payloads belong to their receiver and are never taken back"},

	{kgo.RequiredAcks, "RequiredAcks", "Publish returns nil when all in-sync replicas have the message, and not before"},
	{kgo.DisableIdempotentWrite, "DisableIdempotentWrite", "a retry could write a message twice, and out of order"},
	{kgo.AllowIdempotentProduceCancellation, "AllowIdempotentProduceCancellation", "a cancelled Publish could let others be written twice"},
	{kgo.ManualFlushing, "ManualFlushing", "Publish would never return"},
	{kgo.DefaultProduceTopicAlways, "DefaultProduceTopicAlways", "every message would go to one topic whatever its name"},
	{kgo.TransactionalID, "TransactionalID", "use TransactionalID of this package"},

	{kgo.SeedBrokers, "SeedBrokers", "the brokers are those of New"},
	{kgo.ClientID, "ClientID", "use ClientID of this package"},
	{kgo.SASL, "SASL", "use SASLPlain, SASLScramSHA256 or SASLScramSHA512"},
	{kgo.DialTLSConfig, "DialTLSConfig", "use TLS of this package"},
	{kgo.Dialer, "Dialer", "use Dialer of this package"},
	{kgo.DialTimeout, "DialTimeout", "use DialTimeout of this package"},
	{kgo.AllowAutoTopicCreation, "AllowAutoTopicCreation", "use AllowTopicCreation of this package"},
}

// probes are options under which those of a user are looked at: some are taken by the
// client only beside others, which are then the same on both sides of the comparison.
var probes = []struct {
	beside []kgo.Opt
	dialer bool // only here a dialer shows: elsewhere the client has one of its own making
}{
	{beside: []kgo.Opt{kgo.ConsumerGroup("probe")}},
	{beside: []kgo.Opt{kgo.Dialer(nobody)}, dialer: true},
	{beside: []kgo.Opt{kgo.DisableIdempotentWrite()}},
	{},
}

// nobody is a dialer that differs from every other.
func nobody(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }

// probeClientOptions finds the mistakes in the options that are passed through, by what
// they change in a client that does not come to life.
func (c *config) probeClientOptions() {
	if len(c.clientOptions) == 0 {
		return
	}
	refused := make(map[string]string)
	var failed error
	var probe *kgo.Client
	for _, p := range probes {
		base := append([]kgo.Opt{
			kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), // else the one for resets becomes it
			kgo.FetchIsolationLevel(kgo.ReadCommitted()),
			kgo.DefaultProduceTopic("probe"),
		}, p.beside...)
		plain, err := inspect(base)
		if err != nil {
			c.mistake(fmt.Errorf("kafka.ClientOptions: %w", err))
			return
		}
		with, err := inspect(append(base, c.clientOptions...))
		if err != nil {
			failed = err
			continue
		}
		probe = with
		if with.Context().Value(probeKey{}) == nil {
			refused["WithContext"] = "Shutdown ends the clients, in an order that loses nothing"
		}
		for _, r := range refusedOptions {
			if (p.dialer || r.name != "Dialer") && !sameValues(with.OptValues(r.option), plain.OptValues(r.option)) {
				refused[r.name] = r.reason
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(refused)) {
		c.mistake(fmt.Errorf("kafka.ClientOptions: kgo.%s is refused: %s", name, refused[name]))
	}
	if len(refused) == 0 && failed != nil {
		c.mistake(fmt.Errorf("kafka.ClientOptions: %w", failed))
	}
	if len(refused) > 0 || probe == nil {
		return
	}
	if d, ok := probe.OptValue(kgo.RebalanceTimeout).(time.Duration); ok {
		c.rebalanceTimeout = d
	}
	if p, ok := probe.OptValue(kgo.RecordPartitioner).(kgo.Partitioner); ok {
		c.partitioner = p
	}
}

type probeKey struct{}

// inspect returns a client with those options that has not started anything: its first hook
// is called before it does, and leaves the constructor.
func inspect(opts []kgo.Opt) (client *kgo.Client, err error) {
	look := &looker{}
	defer func() {
		if r := recover(); r != nil && r != any(look) {
			panic(r)
		}
		client = look.client
	}()
	_, err = kgo.NewClient(append([]kgo.Opt{
		kgo.WithHooks(look),
		kgo.WithContext(context.WithValue(context.Background(), probeKey{}, true)),
	}, opts...)...)
	return nil, err
}

type looker struct{ client *kgo.Client }

var _ kgo.HookNewClient = (*looker)(nil)

// OnNewClient keeps the client and does not return.
func (l *looker) OnNewClient(c *kgo.Client) {
	l.client = c
	panic(l)
}

// sameValues compares the values of one option in two clients. Functions are the same
// when their code is.
func sameValues(a, b []any) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		x, y := reflect.ValueOf(a[i]), reflect.ValueOf(b[i])
		if x.Kind() == reflect.Func && y.Kind() == reflect.Func {
			if x.Pointer() != y.Pointer() {
				return false
			}
			continue
		}
		if !reflect.DeepEqual(a[i], b[i]) {
			return false
		}
	}
	return true
}

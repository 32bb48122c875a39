package kafka

import (
	"context"
	"errors"
	"fmt"
	"reflect"
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

// probeClientOptions finds the mistakes in the options that are passed through: with a
// client that has them and whose context has ended, so that it dials nobody, beside one
// without.
func (c *config) probeClientOptions() {
	if len(c.clientOptions) == 0 {
		return
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	offline := kgo.WithContext(ended)
	probe, err := kgo.NewClient(append([]kgo.Opt{offline}, c.clientOptions...)...)
	if err != nil {
		c.mistake(fmt.Errorf("kafka.ClientOptions: %w", err))
		return
	}
	defer probe.Close()
	if probe.Context().Err() == nil {
		c.mistake(errors.New("kafka.ClientOptions: kgo.WithContext is refused: Shutdown ends the clients, in an order that loses nothing"))
		return
	}
	plain, err := kgo.NewClient(offline)
	if err != nil {
		c.mistake(fmt.Errorf("kafka.ClientOptions: %w", err))
		return
	}
	defer plain.Close()
	for _, r := range refusedOptions {
		if !sameValues(probe.OptValues(r.option), plain.OptValues(r.option)) {
			c.mistake(fmt.Errorf("kafka.ClientOptions: kgo.%s is refused: %s", r.name, r.reason))
		}
	}
	if d, ok := probe.OptValue(kgo.RebalanceTimeout).(time.Duration); ok {
		c.rebalanceTimeout = d
	}
	if p, ok := probe.OptValue(kgo.RecordPartitioner).(kgo.Partitioner); ok {
		c.partitioner = p
	}
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

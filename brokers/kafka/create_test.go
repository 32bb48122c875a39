package kafka_test

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
)

// partitions is how many a topic has, 0 where there is no such topic.
func (x *trial) partitions(topic string) int { return len(x.site.cluster.PartitionInfos(topic)) }

func (x *trial) setting(topic, name string) string {
	if v := x.site.cluster.TopicInfo(topic).Configs[name]; v != nil {
		return *v
	}
	return ""
}

// Create makes what is missing, as it says, and leaves what exists as it is.
func TestCreate(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 2, kfake.DefaultNumPartitions(5)).trial(t)
	exists := x.site.topic(t, 2)
	x.send(exists, 1, "old")
	missing, plain := "m"+newID(), "p"+newID()
	config := kafka.TopicConfig{Partitions: 3, ReplicationFactor: 2, Configs: map[string]string{"retention.ms": "123456", "cleanup.policy": "compact"}}
	src := kafka.Topics(exists, missing).Group("g").Create(config)
	clear(config.Configs) // the source has been made; what Create was given is the caller's
	config.Configs["retention.ms"] = "654321"
	sub := x.subscribe(src)
	if got := x.partitions(missing); got != 3 {
		t.Errorf("the new topic has %d partitions", got)
	}
	if got := x.setting(missing, "retention.ms"); got != "123456" {
		t.Errorf("retention.ms of the new topic is %q", got)
	}
	if got := x.partitions(exists); got != 2 {
		t.Errorf("the old topic has %d partitions", got)
	}
	if got := x.setting(exists, "cleanup.policy"); got == "compact" {
		t.Error("the settings of the old topic were changed")
	}
	x.expect(sub, "old")
	x.send(missing, 2, "new")
	x.expect(sub, "new")

	// The zero value is the brokers' defaults.
	x.subscribe(kafka.Topic(plain).Group("g2").Create(kafka.TopicConfig{}))
	if got := x.partitions(plain); got != 5 {
		t.Errorf("by default there are %d partitions", got)
	}
	// Whoever comes second, and with AutoCommit, finds it made.
	x.subscribe(kafka.Topic(plain).Group("g3").Create(kafka.TopicConfig{Partitions: 1}))
	auto := "a" + newID()
	x.subscribe(kafka.Topic(auto).Group("g4").AutoCommit().Create(kafka.TopicConfig{Partitions: 4}))
	if x.partitions(plain) != 5 || x.partitions(auto) != 4 {
		t.Errorf("there are %d and %d partitions", x.partitions(plain), x.partitions(auto))
	}
}

// groupErrors counts what keeps members from their group.
type groupErrors struct{ atomic.Int32 }

func (n *groupErrors) OnGroupManageError(error) { n.Add(1) }

// A topic that was just made is read at once, with the client's usual memory of what
// there is: the first attempt to join the group succeeds.
func TestCreateWithTheDefaultsOfTheClient(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	var errs groupErrors
	x := &trial{t, s, kafka.New(s.brokers, kafka.SASLScramSHA256(s.user, s.password), kafka.ClientOptions(kgo.WithHooks(&errs)))}
	if err := x.b.Connect(x.bound()); err != nil {
		t.Fatal(err)
	}
	topic := "d" + newID()
	sub := x.subscribe(kafka.Topic(topic).Group("g").Create(kafka.TopicConfig{Partitions: 1}))
	x.send(topic, 0, "first")
	x.ack(x.expect(sub, "first")...)
	if err := x.b.Health(x.bound()); err != nil {
		t.Errorf("Health: %v", err)
	}
	if err := x.b.Shutdown(x.bound()); err != nil {
		t.Error(err)
	}
	if n := errs.Load(); n != 0 {
		t.Errorf("%d attempts to join the group failed", n)
	}
}

// What kept a member from its partitions is forgotten when it has them.
func TestHealthAfterAGroupWasJoinedInTheEnd(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 1).trial(t)
	topic := x.site.topic(t, 1)
	fault := x.site.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: topic, Err: kerr.InvalidRequest})
	sub := x.subscribe(kafka.Topic(topic).Group("g"))
	if fault.Hits() == 0 {
		t.Fatal("nothing went wrong")
	}
	x.send(topic, 0, "first")
	x.ack(x.expect(sub, "first")...)
	if err := x.b.Health(x.bound()); err != nil {
		t.Errorf("Health: %v", err)
	}
}

// Several that start together make a topic once, and all begin.
func TestCreateAtTheSameTime(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 3).trial(t)
	topic := "s" + newID()
	const n = 6
	errs := make(chan error, n)
	for i := range n {
		go func() {
			_, err := kafka.Topic(topic).Group(fmt.Sprint("g", i)).Create(kafka.TopicConfig{Partitions: 2}).Subscribe(x.bound(), x.b)
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if got := x.partitions(topic); got != 2 {
		t.Errorf("there are %d partitions", got)
	}
}

// A topic that is new has nothing that a late start could leave out.
func TestFromLatestOfACreatedTopic(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 1).trial(t)
	topic := "n" + newID()
	sub := x.subscribe(kafka.Topic(topic).Group("g").FromLatest().Create(kafka.TopicConfig{Partitions: 1}))
	x.send(topic, 0, "first")
	x.expect(sub, "first")
}

func TestMissingTopics(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 1).trial(t)
	exists := x.site.topic(t, 2)
	missing := "missing-" + newID()
	for _, tt := range []struct {
		src  broker.Source
		kind error
		says []string
	}{
		{kafka.Topic(missing).Group("g"), broker.ErrNotFound, []string{missing, "Create"}},
		{kafka.Topics(exists, missing).Group("g"), broker.ErrNotFound, []string{missing, "Create"}},
		{kafka.Topic(missing).Group("g").AutoCommit(), broker.ErrNotFound, []string{missing, "Create"}},
		{kafka.Partitions(missing, 0), broker.ErrNotFound, []string{missing}},
		{kafka.Partitions(exists, 1, 2), broker.ErrNotFound, []string{"it has no partition 2, but 2 partitions"}},
		{kafka.Topic(missing).Group("g").Create(kafka.TopicConfig{ReplicationFactor: 100}), broker.ErrInvalid, []string{missing, "REPLICATION_FACTOR"}},
	} {
		sub, err := tt.src.Subscribe(x.bound(), x.b)
		if !errors.Is(err, tt.kind) || sub != nil {
			t.Errorf("%s: %v, want %v", tt.src, err, tt.kind)
		}
		var typed *broker.Error
		if !errors.As(err, &typed) || typed.Op != "subscribe" || typed.Name != tt.src.Name() {
			t.Errorf("%s: %#v", tt.src, err)
		}
		for _, want := range tt.says {
			if !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("%s: %v, want %q", tt.src, err, want)
			}
		}
		if x.partitions(missing) != 0 {
			t.Fatalf("%s: there is the topic now", tt.src)
		}
	}
	for err, kind := range map[*kerr.Error]error{kerr.PolicyViolation: broker.ErrInvalid, kerr.InvalidConfig: broker.ErrInvalid, kerr.TopicAuthorizationFailed: kafka.ErrDenied} {
		x.site.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Topic: missing, Err: err})
		_, got := kafka.Topic(missing).Group("g").Create(kafka.TopicConfig{}).Subscribe(x.bound(), x.b)
		if !errors.Is(got, kind) || !errors.Is(got, err) || !strings.Contains(fmt.Sprint(got), "creating the topic "+missing) {
			t.Errorf("%v, want %v", got, kind)
		}
	}
	if list := x.statuses(); len(list) > 0 {
		t.Errorf("subscriptions that did not come about are listed: %+v", list)
	}
}

// Publishing makes a topic only where that was asked for, and a subscription never.
func TestAllowTopicCreation(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1, kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(2))
	topic := "a" + newID()
	x := s.trial(t)
	if err := x.b.Publisher().Publish(x.bound(), broker.OutgoingMessage{Name: topic}); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("without the option: %v", err)
	}
	if x.partitions(topic) != 0 {
		t.Fatal("there is the topic now")
	}
	x = s.trial(t, kafka.AllowTopicCreation())
	for _, src := range []broker.Source{kafka.Topic(topic).Group("g"), kafka.Partitions(topic, 0)} {
		if _, err := src.Subscribe(x.bound(), x.b); !errors.Is(err, broker.ErrNotFound) || x.partitions(topic) != 0 {
			t.Errorf("%s: %v, and there are %d partitions", src, err, x.partitions(topic))
		}
	}
	x.publish(broker.OutgoingMessage{Name: topic, Payload: []byte("first")})
	x.expect(x.subscribe(kafka.Topic(topic).Group("g")), "first")
	if x.partitions(topic) != 2 {
		t.Errorf("there are %d partitions", x.partitions(topic))
	}
}

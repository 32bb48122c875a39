package kafka_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
)

// grouped is a broker that is not connected, with a default group.
func grouped() *kafka.Broker { return kafka.New("localhost", kafka.DefaultGroup("all")) }

// All mistakes of a source are in one error that names the source.
func TestMistakesOfSources(t *testing.T) {
	t.Parallel()
	before1970 := time.Unix(-1, 0)
	for _, tt := range []struct {
		name string
		src  broker.Source
		says []string
	}{
		{
			"Topic", kafka.Topic("a b").Group("g\x00").FromTime(before1970).CommitInterval(0).MaxUncommitted(0).RevokeTimeout(-1).LeaveTimeout(-2).
				Create(kafka.TopicConfig{Partitions: -1, ReplicationFactor: -2, Configs: map[string]string{"": "x"}}),
			[]string{
				`kafka.Topic("a b").Group("g\x00")`, `the topic "a b" has a character other than a letter`, "has a zero byte", "the start time is before 1970",
				"CommitInterval is 0s: it must be positive", "MaxUncommitted is 0: at least one", "RevokeTimeout is -1ns: 0 does not wait", "LeaveTimeout is -2ns: 0 does not wait",
				"Create with -1 partitions", "Create with the replication factor -2", "Create has a setting without a name",
			},
		},
		{"Topics", kafka.Topics("a", "", "a", ".", "..", strings.Repeat("x", 250)), []string{
			"the topic is empty", `the topic "a" is there twice`, `the topic "." is no name`, `the topic ".." is no name`, "is too long: at most 249 bytes",
		}},
		{"no topics", kafka.Topics(), []string{"kafka.Topics(): there is no topic"}},
		{"TopicPattern", kafka.TopicPattern("a(").Create(kafka.TopicConfig{}).Group(strings.Repeat("g", 32_001)), []string{
			"kafka.TopicPattern(`a(`)", "the pattern is no regular expression: error parsing regexp: missing closing ): `a(`", "Create does not go with a pattern", "is too long: at most 32000 bytes",
		}},
		{"a pattern that would close the group around it", kafka.TopicPattern("a)|(b"), []string{"the pattern is no regular expression", "`a)|(b`"}},
		{"AutoCommit", kafka.Topic("a").AutoCommit().CommitInterval(time.Minute), []string{"AutoCommit tracks nothing: take out CommitInterval"}},
		{"AutoCommit", kafka.Topic("a").MaxUncommitted(-1).AutoCommit(), []string{"AutoCommit tracks nothing: take out"}},
		{"AutoCommit", kafka.Topic("a").AutoCommit().RevokeTimeout(0), []string{"AutoCommit tracks nothing"}},
		{"AutoCommit", kafka.Topic("a").AutoCommit().LeaveTimeout(0), []string{"AutoCommit tracks nothing"}},
		{"Partitions", kafka.Partitions("a*", 1, -1, 1).FromTime(before1970), []string{
			`kafka.Partitions("a*", 1, -1, 1)`, `the topic "a*" has a character`, "the partition -1 is negative", "the partition 1 is there twice", "the start time is before 1970",
		}},
	} {
		err := tt.src.Check(grouped())
		if !errors.Is(err, broker.ErrInvalid) {
			t.Errorf("%s: %v is not broker.ErrInvalid", tt.name, err)
		}
		for _, want := range tt.says {
			if !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("%s: %q is not in %v", tt.name, want, err)
			}
		}
		// Subscribe says so too, and before it says that there is no connection.
		if _, got := tt.src.Subscribe(t.Context(), grouped()); fmt.Sprint(got) != fmt.Sprint(err) {
			t.Errorf("%s: Subscribe answers %v, Check %v", tt.name, got, err)
		}
	}
}

// all are a source of each kind, without a mistake.
func all() []broker.Source {
	return []broker.Source{
		kafka.Topic("a").Group("g"),
		kafka.Topic("a").Group("g").AutoCommit(),
		kafka.Topics("a", "b", "c").Group("g").FromLatest(),
		kafka.TopicPattern(`a\..*`).Group("g").FromTime(time.Unix(0, 0)),
		kafka.Topic("a").Group("g").CommitInterval(1).MaxUncommitted(1).RevokeTimeout(0).LeaveTimeout(0).
			Create(kafka.TopicConfig{Partitions: 3, ReplicationFactor: 1, Configs: map[string]string{"retention.ms": "1"}}),
		kafka.Partitions("a", 0),
		kafka.Partitions("a", 2, 0, 1).FromLatest(),
		kafka.Partitions("a", 0).FromTime(time.Unix(1, 0)).FromEarliest(),
	}
}

func TestSourcesWithoutMistakes(t *testing.T) {
	t.Parallel()
	for _, src := range all() {
		if err := src.Check(grouped()); err != nil {
			t.Errorf("%s: %v", src, err)
		}
		if err := src.Check(kafka.New("localhost")); err != nil {
			t.Errorf("%s without a default group: %v", src, err)
		}
		if _, err := src.Subscribe(t.Context(), grouped()); !errors.Is(err, broker.ErrNotConnected) {
			t.Errorf("%s: Subscribe before Connect: %v", src, err)
		}
	}
}

// foreign is a broker of another kind.
type foreign struct{}

func (foreign) Connect(context.Context) error  { return nil }
func (foreign) Shutdown(context.Context) error { return nil }

// A broker of another kind is named, and so is the one that is needed.
func TestBrokersOfAnotherKind(t *testing.T) {
	t.Parallel()
	for _, src := range all() {
		for name, b := range map[string]broker.Broker{"kafka_test.foreign": foreign{}, "<nil>": nil, "*kafka.Broker: it needs": (*kafka.Broker)(nil)} {
			err := src.Check(b)
			if !errors.Is(err, broker.ErrInvalid) || !strings.Contains(fmt.Sprint(err), fmt.Sprintf("%s cannot subscribe on %s", src, name)) || !strings.Contains(fmt.Sprint(err), "it needs a *kafka.Broker") {
				t.Errorf("%s on %T: %v", src, b, err)
			}
			if _, err := src.Subscribe(t.Context(), b); !errors.Is(err, broker.ErrInvalid) {
				t.Errorf("%s: Subscribe on %T: %v", src, b, err)
			}
		}
	}
	// The other mistakes are there all the same.
	if err := kafka.Topic("").Check(foreign{}); !strings.Contains(fmt.Sprint(err), "the topic is empty") {
		t.Errorf("%v", err)
	}
}

// A group is required, of the source or of the broker; the error names both ways.
func TestAGroupIsRequired(t *testing.T) {
	t.Parallel()
	without := kafka.New("localhost")
	for _, src := range []broker.Source{kafka.Topic("a"), kafka.Topics("a", "b"), kafka.TopicPattern("a"), kafka.Topic("a").AutoCommit(), broker.ByName("a")} {
		err := src.Check(without)
		for _, want := range []string{"no consumer group", "Group", "kafka.DefaultGroup", "kafka.Partitions"} {
			if !errors.Is(err, broker.ErrInvalid) || !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("%v: %v, want %q", src, err, want)
			}
		}
		if err := src.Check(grouped()); err != nil {
			t.Errorf("%v with a default group: %v", src, err)
		}
	}
	if err := kafka.Partitions("a", 0).Check(without); err != nil {
		t.Errorf("a reader needs no group: %v", err)
	}
	if _, err := without.Subscribe(t.Context(), "a"); !errors.Is(err, broker.ErrInvalid) {
		t.Errorf("Subscribe by name: %v", err)
	}
}

func TestMatch(t *testing.T) {
	t.Parallel()
	type matcher interface {
		broker.Source
		broker.Matcher
	}
	for _, tt := range []struct {
		src     matcher
		yes, no []string
	}{
		{kafka.Topic("orders.new"), []string{"orders.new"}, []string{"", "orders", "orders.new ", "ordersxnew", "Orders.new"}},
		{kafka.Topics("a", "b"), []string{"a", "b"}, []string{"a,b", "", "c"}},
		{kafka.Partitions("a", 1), []string{"a"}, []string{"b", "", "a-1"}},
		{kafka.TopicPattern(`orders\..*`), []string{"orders.", "orders.a", "orders.a.b"}, []string{"xorders.a", "orders", "ordersxa", "", "__orders.a"}},
		{kafka.TopicPattern(`a|b`), []string{"a", "b"}, []string{"ab", "ax", "xb"}},
		{kafka.TopicPattern(`.*`), []string{"a", "_a", "a__b"}, []string{"__consumer_offsets", "__transaction_state", "__"}},
		{kafka.TopicPattern(`__.*`), nil, []string{"__consumer_offsets", "__x"}},
		{kafka.TopicPattern(`^a$`), []string{"a"}, []string{"aa"}},
		{kafka.TopicPattern(`(?i)a`), []string{"a", "A"}, []string{"b"}},
		{kafka.TopicPattern(`a(`), nil, []string{"a", "a("}},
		{kafka.TopicPattern(``), nil, []string{"", "a"}},
	} {
		for _, name := range tt.yes {
			if !tt.src.Match(name) {
				t.Errorf("%s does not match %q", tt.src, name)
			}
		}
		for _, name := range tt.no {
			if tt.src.Match(name) {
				t.Errorf("%s matches %q", tt.src, name)
			}
		}
	}
}

func TestSpecs(t *testing.T) {
	t.Parallel()
	tracked := broker.Properties{Persistent: true, Redelivers: true, OrderedByKey: true, Keys: broker.KeysNative, CompetingConsumers: true, Backlog: true, SerialTransactions: true}
	of := func(change func(*broker.Properties)) broker.Properties {
		p := tracked
		change(&p)
		return p
	}
	reader := broker.Properties{Persistent: true, OrderedByKey: true, Keys: broker.KeysNative, Backlog: true, SerialTransactions: true}
	one := reader
	one.Ordered = true
	for _, tt := range []struct {
		src      broker.SourceDescriber
		group    string
		want     broker.Properties
		bindings string
	}{
		{
			kafka.Topic("a"), "", tracked,
			`{"kafka":{"channel":{"bindingVersion":"0.5.0","topic":"a"},"operation":{"bindingVersion":"0.5.0"}}}`,
		},
		{
			kafka.Topic("a").Group("g").Create(kafka.TopicConfig{Partitions: 3, ReplicationFactor: 2}), "g", tracked,
			`{"kafka":{"channel":{"bindingVersion":"0.5.0","partitions":3,"replicas":2,"topic":"a"},"operation":{"bindingVersion":"0.5.0","groupId":{"enum":["g"],"type":"string"}}}}`,
		},
		{
			kafka.Topics("a", "b").Create(kafka.TopicConfig{}).FromLatest(), "", of(func(p *broker.Properties) { p.Backlog = false }),
			`{"kafka":{"channel":{"bindingVersion":"0.5.0"},"operation":{"bindingVersion":"0.5.0"}}}`,
		},
		{
			kafka.TopicPattern(".*").Group("g").FromTime(time.Now()), "g", of(func(p *broker.Properties) { p.Backlog = false }),
			`{"kafka":{"channel":{"bindingVersion":"0.5.0"},"operation":{"bindingVersion":"0.5.0","groupId":{"enum":["g"],"type":"string"}}}}`,
		},
		{
			kafka.Topic("a").AutoCommit(), "", of(func(p *broker.Properties) { p.Redelivers = false }),
			`{"kafka":{"channel":{"bindingVersion":"0.5.0","topic":"a"},"operation":{"bindingVersion":"0.5.0"}}}`,
		},
		{kafka.Partitions("a", 0, 1), "", reader, `{"kafka":{"channel":{"bindingVersion":"0.5.0","topic":"a"}}}`},
		{kafka.Partitions("a", 7), "", one, `{"kafka":{"channel":{"bindingVersion":"0.5.0","topic":"a"}}}`},
	} {
		got := tt.src.Spec()
		if got.Group != tt.group || got.Properties != tt.want {
			t.Errorf("%s: %+v, want %+v in the group %q", tt.src, got, tt.want, tt.group)
		}
		text, err := json.Marshal(got.Bindings)
		if err != nil || string(text) != tt.bindings {
			t.Errorf("%s: bindings\n%s\nwant\n%s: %v", tt.src, text, tt.bindings, err)
		}
	}
	if got := kafka.New("a").Properties(); got != tracked {
		t.Errorf("by name: %+v", got)
	}
	// One spec must not change the next.
	p := kafka.Topic("a").FromLatest().AutoCommit().Spec().Properties
	if again := kafka.Topic("a").Spec().Properties; again != tracked || p == tracked {
		t.Errorf("%+v and then %+v", p, again)
	}
}

func TestNamesAndStringsOfSources(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		src        broker.Source
		name, text string
	}{
		{kafka.Topic("a"), "a", `kafka.Topic("a")`},
		{kafka.Topic("a\n").Group("g"), "a\n", `kafka.Topic("a\n").Group("g")`},
		{kafka.Topics("a", "b").AutoCommit(), "a,b", `kafka.Topics("a", "b").AutoCommit()`},
		{kafka.Topics("a"), "a", `kafka.Topic("a")`},
		{kafka.Topic("a").FromLatest().MaxUncommitted(7), "a", `kafka.Topic("a")`},
		{kafka.TopicPattern(`a\..*`).Group("g").AutoCommit(), `a\..*`, "kafka.TopicPattern(`a\\..*`).Group(\"g\").AutoCommit()"},
		{kafka.TopicPattern("a`b"), "a`b", "kafka.TopicPattern(\"a`b\")"},
		{kafka.TopicPattern("a\nb"), "a\nb", `kafka.TopicPattern("a\nb")`},
		{kafka.Partitions("a", 0, 12), "a", `kafka.Partitions("a", 0, 12)`},
		{kafka.Partitions("a").FromLatest(), "a", `kafka.Partitions("a")`},
	} {
		if got := tt.src.Name(); got != tt.name {
			t.Errorf("%s has the name %q, want %q", tt.src, got, tt.name)
		}
		if got := fmt.Sprint(tt.src); got != tt.text {
			t.Errorf("printed as %s, want %s", got, tt.text)
		}
	}
	if got := fmt.Sprint(kafka.TopicPattern(strings.Repeat("x", 10_000))); len(got) > 400 {
		t.Errorf("a long pattern is printed with %d bytes", len(got))
	}
}

// A source is a value: what it was made of, and those made of it, do not change it.
func TestSourcesAreValues(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b"}
	src := kafka.Topics(names...)
	names[0] = "changed"
	_ = src.Group("g").AutoCommit().FromLatest().CommitInterval(-1).Create(kafka.TopicConfig{Partitions: -1})
	if got := fmt.Sprint(src); got != `kafka.Topics("a", "b")` || src.Check(grouped()) != nil {
		t.Errorf("changed to %s: %v", got, src.Check(grouped()))
	}
	partitions := []int32{1, 2}
	reader := kafka.Partitions("a", partitions...)
	partitions[0] = -1
	_ = reader.FromTime(time.Unix(-1, 0))
	if err := reader.Check(grouped()); err != nil {
		t.Error(err)
	}
}

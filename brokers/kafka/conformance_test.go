package kafka_test

import (
	"context"
	"flag"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
	"github.com/gostream/gostream/brokertest"
	"github.com/gostream/gostream/internal/docpage"
)

//go:generate go test -run "TestConformance" -update .

var update = flag.Bool("update", false, "write the tables of docs/brokers/kafka.md instead of comparing them")

// TestConformance proves that the broker keeps the contract, on clusters in this process
// of one broker and of three, and on the one at KAFKA_BROKERS.
func TestConformance(t *testing.T) {
	for _, k := range []struct {
		name    string
		brokers int // 0: a real cluster
		table   string
		harness func(s *site) brokertest.Harness
	}{
		{"group/one", 1, "group", groupHarness},
		{"group/three", 3, "", groupHarness},
		{"auto-commit/one", 1, "auto-commit", autoCommitHarness},
		{"reader/one", 1, "reader", readerHarness},
		{"group/cluster", 0, "", groupHarness},
		{"auto-commit/cluster", 0, "", autoCommitHarness},
		{"reader/cluster", 0, "", readerHarness},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			var s *site
			if k.brokers > 0 {
				s = ownCluster(t, k.brokers)
			} else {
				s = realCluster(t)
			}
			report := brokertest.Run(t, k.harness(s))
			all := len(report.Results()) == len(brokertest.Checks()) // -run may choose some
			if k.table != "" && all && !t.Failed() {
				tables, _, _ := strings.Cut(report.Markdown(), "### Checks")
				docpage.Same(t, guide, k.table, strings.ReplaceAll(tables, "### ", "#### "), *update, "go generate ./brokers/kafka")
			}
		})
	}
}

var guide = filepath.Join("..", "..", "docs", "brokers", "kafka.md")

// harness is what all kinds of sources have in common.
func (s *site) harness(source func(topic string) broker.Source, partitions int32) brokertest.Harness {
	h := brokertest.Harness{
		New: func() broker.Broker { return kafka.New(s.brokers, s.options(kafka.TransactionalID(newID()))...) },
		Source: func(ctx context.Context, id string) (brokertest.Target, error) {
			remove, err := s.createTopic(ctx, id, partitions)
			return brokertest.Target{Source: source(id), Name: id, Close: remove}, err
		},
		Interrupt: func(context.Context) (func(context.Context) error, error) {
			restore := s.interrupt()
			return func(context.Context) error { restore(); return nil }, nil
		},
		Unreachable: func() broker.Broker {
			return kafka.New("127.0.0.1:1", kafka.DialTimeout(time.Second), kafka.SASLScramSHA256("kit", password))
		},
		Misconfigured: func() broker.Broker {
			return kafka.New("kafka://127.0.0.1", kafka.ClientID(""), kafka.DefaultGroup(""))
		},
		ValidOptions: []any{
			kafka.PublishOptions{Timestamp: time.UnixMilli(1_700_000_000_000)},
			&kafka.PublishOptions{Partition: new(int32(0))},
		},
		InvalidOptions: []any{
			kafka.PublishOptions{Partition: new(int32(-1))},
			kafka.PublishOptions{Partition: new(int32(1 << 20))},
			kafka.PublishOptions{Timestamp: time.UnixMilli(-1)},
			(*kafka.PublishOptions)(nil),
		},
		InvalidNames: []string{".", "..", "a b", "a/b", "a*", "a\r\nb", "ä", strings.Repeat("a", 250)},
		Secrets:      []string{s.password},
		Bulk:         20_000,
	}
	if s.cluster != nil {
		h.Restart = s.restart
	}
	return h
}

func groupHarness(s *site) brokertest.Harness {
	source := func(topic string) kafka.TopicSource {
		return kafka.Topic(topic).CommitInterval(50 * time.Millisecond).RevokeTimeout(time.Second)
	}
	h := s.harness(func(topic string) broker.Source { return source(topic).Group("kit-" + topic) }, 3)
	h.Group = func(ctx context.Context, id string) (brokertest.Group, error) {
		remove, err := s.createTopic(ctx, id, 4)
		return brokertest.Group{Name: id, Member: func(g string) broker.Source { return source(id).Group(id + "-" + g) }, Close: remove}, err
	}
	h.Pattern = func(ctx context.Context, id string) (brokertest.Pattern, error) {
		matching := []string{id + ".a.new", id + ".b.new"}
		other := []string{id, id + ".a", id + ".a.old", "x" + id + ".a.new", id + ".a.newer"}
		for _, name := range append(append([]string{}, matching...), other...) {
			if _, err := s.createTopic(ctx, name, 1); err != nil {
				return brokertest.Pattern{}, err
			}
		}
		pattern := kafka.TopicPattern(id + `\.[a-z]+\.new`).Group("kit-" + id)
		return brokertest.Pattern{Source: pattern, Matching: matching, Other: other, Close: func(ctx context.Context) error {
			_, err := s.admin.DeleteTopics(ctx, append(matching, other...)...)
			return err
		}}, nil
	}
	return h
}

func autoCommitHarness(s *site) brokertest.Harness {
	h := s.harness(func(topic string) broker.Source { return kafka.Topic(topic).Group("kit-" + topic).AutoCommit() }, 3)
	h.Group = func(ctx context.Context, id string) (brokertest.Group, error) {
		remove, err := s.createTopic(ctx, id, 4)
		return brokertest.Group{Name: id, Member: func(g string) broker.Source { return kafka.Topic(id).Group(id + "-" + g).AutoCommit() }, Close: remove}, err
	}
	h.Skip = map[string]string{"lifecycle/close-hands-out": "what waits in the topic has not arrived: what is not committed comes to the next member of the group"}
	return h
}

func readerHarness(s *site) brokertest.Harness {
	h := s.harness(func(topic string) broker.Source { return kafka.Partitions(topic, 0).FromLatest() }, 1)
	h.Skip = map[string]string{"lifecycle/close-hands-out": "what waits in the topic has not arrived: a reader takes a few messages at a time"}
	return h
}

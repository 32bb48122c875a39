package e2e

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/brokers/kafka"
	"github.com/gostream/gostream/cli"
)

// cluster is a Kafka cluster in the process.
type cluster struct {
	addresses string
	admin     *kadm.Client
}

func startKafka(t *testing.T) *cluster {
	t.Helper()
	k, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "orders", "orders.dead"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	c, err := kgo.NewClient(kgo.SeedBrokers(k.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return &cluster{strings.Join(k.ListenAddrs(), ","), kadm.NewClient(c)}
}

func (k *cluster) app(s *shop) *gostream.App {
	r := gostream.NewRouter()
	r.HandleSource(kafka.Topic("orders").Group("shop"), gostream.Consume(s.handle), gostream.DeadLetterTo("orders.dead"))
	app := gostream.New("shop", "1.0.0")
	app.Mount(kafka.New(k.addresses), r)
	return app
}

// messages is how many a topic was given.
func (k *cluster) messages(t *testing.T, topic string) int {
	t.Helper()
	ends, err := k.admin.ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	end, _ := ends.Lookup(topic, 0)
	return int(end.Offset)
}

// committed is up to where a group has finished with a topic.
func (k *cluster) committed(t *testing.T, group, topic string) int {
	t.Helper()
	offsets, err := k.admin.FetchOffsets(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	at, _ := offsets.Lookup(topic, 0)
	return int(at.At)
}

// From publish over dead letters to their replay, on Kafka.
func TestKafka(t *testing.T) {
	t.Parallel()
	k := startKafka(t)
	opts := []cli.Option{cli.DeadLetters(kafka.Topic("orders.dead").Group("replay"))}
	s := &shop{closed: true}
	for _, payload := range []string{`{"id":101}`, `{"id":1}`, "{", `{"id":102}`} {
		call(t, k.app(s), opts, "publish", "orders", "--data", payload, "--key", "k", "--no-check").want(t, 0, "published 1 message to \"orders\" on kafka\n", "")
	}
	runUntil(t, k.app(s), opts, func() bool { return k.messages(t, "orders.dead") == 3 && s.count() == 1 })

	// By name a topic needs a group.
	call(t, k.app(s), nil, "dead", "replay", "orders.dead", "--to-source").want(t, 2, "", "there is no consumer group")

	filtered := call(t, k.app(s), opts, "dead", "replay", "orders.dead", "--to-source", "--filter", "reason=undecodable")
	filtered.want(t, 0, "replayed 1 message from \"orders.dead\" to their sources; 2 did not match and stay (handler decided 2)\n", "")
	if n := k.messages(t, "orders"); n != 5 {
		t.Errorf("the topic has %d orders, want 5", n)
	}

	// The one that was acknowledged behind one that was not does not come again.
	s.closed = false
	call(t, k.app(s), opts, "dead", "replay", "orders.dead", "--to", "orders").want(t, 0, "replayed 2 messages from \"orders.dead\" to \"orders\"\n", "")
	if n := k.committed(t, "replay", "orders.dead"); n != 3 {
		t.Errorf("the group has committed %d, want 3", n)
	}
	runUntil(t, k.app(s), opts, func() bool { return s.count() == 3 && k.messages(t, "orders.dead") == 4 })
}

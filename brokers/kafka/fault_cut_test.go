package kafka_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
)

// The connections of an app that handles and of one that publishes are cut ten times while
// both are at work. Nothing is lost, each cut is told, and health follows.
func TestConnectionsCutTenTimesUnderLoad(t *testing.T) {
	t.Parallel()
	const partitions, cuts, between = 3, 10, 200
	s := ownCluster(t, 1)
	topic, group := s.topic(t, partitions), newID()
	load := newClusterLoad(topic, 12)
	load.ahead = 2 * between
	b := kafka.New(s.brokers, s.options()...)
	told := clusterListen(b)
	clusterApp(t, b, clusterSource(topic, group), load)
	other := kafka.New(s.brokers, s.options()...)
	toldOther := clusterListen(other)
	s.connect(t, other)
	published := load.publish(t, other.Publisher())

	for cut := range cuts {
		load.progress(t, between)
		restore := s.interrupt()
		t.Cleanup(restore)
		for who, e := range map[string]*clusterEvents{"the app": told, "the publisher": toldOther} {
			clusterUntil(t, "that "+who+" is told of the cut", func() bool { return len(e.of(broker.EventDisconnected)) > cut })
		}
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		if b.Health(ctx) == nil {
			t.Errorf("cut %d: the broker says that it is healthy while the network is down", cut+1)
		}
		cancel()
		restore()
		for who, e := range map[string]*clusterEvents{"the app": told, "the publisher": toldOther} {
			clusterUntil(t, "that "+who+" is told of the end of the cut", func() bool { return len(e.of(broker.EventReconnected)) > cut })
		}
		// It may dial a broker that nobody has asked yet, on a connection of before the cut.
		var err error
		for range 5 {
			if err = b.Health(clusterContext(t)); err == nil {
				break
			}
		}
		if err != nil {
			t.Errorf("health after cut %d: %v", cut+1, err)
		}
	}
	load.progress(t, between)
	load.end()
	clusterClosed(t, "the end of publishing", published)
	load.allHandled(t)
	s.allCommitted(t, group, topic, partitions)
	load.report(t)
	for _, e := range []*clusterEvents{told, toldOther} {
		if down, up := len(e.of(broker.EventDisconnected)), len(e.of(broker.EventReconnected)); down != cuts || up != cuts {
			t.Errorf("told %d times of a lost connection and %d times that it is back, want %d", down, up, cuts)
		}
	}
}

// The whole cluster is stopped and started again, twice, while an app and a publisher are
// at work. Nothing is lost.
func TestClusterRestartsUnderLoad(t *testing.T) {
	t.Parallel()
	const partitions, restarts, between = 3, 2, 300
	s := ownCluster(t, 3)
	topic, group := s.topic(t, partitions), newID()
	load := newClusterLoad(topic, 12)
	load.ahead = 2 * between
	clusterApp(t, kafka.New(s.brokers, s.options()...), clusterSource(topic, group), load)
	published := load.publish(t, s.broker(t).Publisher())
	for range restarts {
		load.progress(t, between)
		if err := s.restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		load.progress(t, between)
	}
	load.end()
	clusterClosed(t, "the end of publishing", published)
	load.allHandled(t)
	s.allCommitted(t, group, topic, partitions)
	load.report(t)
}

// Shutdown while the cluster cannot be reached ends, at the latest soon after its context
// has, and says of which topic what was acknowledged is not committed. It comes again.
func TestShutdownWhileTheClusterIsUnreachable(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	topic, group := s.topic(t, 1), newID()
	b := kafka.New(s.brokers, s.options()...)
	if err := b.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Shutdown(context.Background()) })
	sub := clusterSubscribe(t, b, clusterSource(topic, group).CommitInterval(time.Hour))
	clusterPublish(t, b.Publisher(), topic, "0", "1", "2")
	clusterPayloads(t, sub, 2)
	clusterReceive(t, sub) // and does not acknowledge it

	restore := s.interrupt()
	defer restore()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- b.Shutdown(ctx) }()
	select {
	case err := <-ended:
		// That nobody answered does not say what was not done.
		if err == nil || !strings.Contains(err.Error(), topic) || !strings.Contains(err.Error(), "commit") {
			t.Errorf("Shutdown answered %v, want what of which topic was not committed", err)
		}
	case <-time.After(clusterLimit):
		t.Fatalf("Shutdown has not returned %v after its context ended", clusterLimit)
	}
	if err := b.Shutdown(t.Context()); err != nil {
		t.Errorf("the second Shutdown: %v", err)
	}
	restore()

	again := clusterSubscribe(t, s.broker(t), clusterSource(topic, group))
	for _, want := range []string{"0", "1", "2"} {
		if got := clusterPayloads(t, again, 1); got[0] != want {
			t.Errorf("received %v, want %s: what is not committed comes again", got, want)
		}
	}
}

// While Shutdown has time it waits for the cluster to come back, and then commits: also
// when that takes longer than the client tries by itself.
func TestShutdownWaitsForTheCluster(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	topic, group := s.topic(t, 1), newID()
	var tries atomic.Int32
	b := kafka.New(s.brokers, s.options(kafka.Dialer(func(ctx context.Context, network, address string) (net.Conn, error) {
		tries.Add(1)
		return s.dial(ctx, network, address)
	}))...)
	if err := b.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	sub := clusterSubscribe(t, b, clusterSource(topic, group).CommitInterval(time.Hour))
	clusterPublish(t, b.Publisher(), topic, "0", "1")
	clusterPayloads(t, sub, 2)
	restore := s.interrupt()
	defer restore()
	before := tries.Load()
	ended := make(chan error, 1)
	ctx := clusterContext(t)
	go func() { ended <- b.Shutdown(ctx) }()
	const most = 500 // more than the client makes of its own
	clusterUntil(t, "that it has tried for a while", func() bool { return len(ended) > 0 || tries.Load() > before+most })
	if len(ended) > 0 {
		t.Fatalf("Shutdown has not waited: %v", <-ended)
	}
	restore()
	if err := <-ended; err != nil {
		t.Fatalf("Shutdown: %v", err)
	}
	s.allCommitted(t, group, topic, 1)
}

// clusterApp starts an app that handles the load.
func clusterApp(t *testing.T, b *kafka.Broker, src broker.Source, load *clusterLoad) *gostream.Service {
	t.Helper()
	r := gostream.NewRouter()
	r.HandleSource(src, gostream.Raw(func(_ context.Context, d *gostream.Delivery) error {
		load.handle(t, d.Message())
		return nil
	}))
	app := gostream.New("cut", "0", gostream.WithLogger(slog.New(slog.DiscardHandler)))
	app.Mount(b, r)
	service, err := app.Start(clusterContext(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), clusterLimit)
		defer cancel()
		if err := service.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return service
}

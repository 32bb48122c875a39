package nats_test

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
	"github.com/gostream/gostream/brokers/nats/embedded"
)

// The server is restarted, on the same folder and port, while one app publishes to it
// and another handles. Nothing that was accepted is lost, and each subject keeps its
// order.
func TestServerRestartedInMidStream(t *testing.T) {
	t.Parallel()
	// The consumer delivers nothing before what is out is settled: no repetition can
	// fall behind, so that the order of the first handling is that of the stream.
	t.Run("MaxAckPending 1", func(t *testing.T) {
		t.Parallel()
		most := 10_000
		if raceEnabled {
			most = 3_000 // one after the other
		}
		restartInMidStream(t, most, func(s nats.StreamSource) nats.StreamSource { return s.MaxAckPending(1) }, true)
	})
	// What was on its way when the connection broke comes again, later: what comes for
	// the first time is in order.
	t.Run("default window", func(t *testing.T) {
		t.Parallel()
		restartInMidStream(t, 50_000, func(s nats.StreamSource) nats.StreamSource { return s }, false)
	})
}

// soon is within what time an app must handle again: less than a request waits that the
// old server took along.
const soon = 4 * time.Second

func restartInMidStream(t *testing.T, most int, source func(nats.StreamSource) nats.StreamSource, strict bool) {
	server := startOnDisk(t)
	s := beside(t, server.running.URL())
	f := newFlow("orders", 200)
	f.strict = strict

	b := nats.New(s.url, quick()...)
	told := listen(b)
	service := startApp(t, b,
		source(nats.Stream("orders.*", "ORDERS").Durable("desk").AckWait(time.Second).
			Create(jetstream.StreamConfig{Subjects: []string{"orders.>"}})),
		gostream.Raw(func(_ context.Context, d *gostream.Delivery) error {
			f.handle(t, d.Message())
			return nil
		}), gostream.Observer{})

	other := nats.New(s.url, quick()...)
	connectBroker(t, other)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.publish(t, other.JetStreamPublisher(), most)
	}()
	until(t, "the middle of publishing, and that the app handles", func() bool {
		published, handled := f.count()
		return published >= most/2 && handled > 0
	})
	server.restart(t)
	publishedBefore, before := f.count()
	back := time.Now()
	until(t, "that the app handles again", func() bool {
		_, handled := f.count()
		return handled > before
	})
	if took := time.Since(back); took > soon {
		t.Errorf("the app handled the next message %v after the server was back, want at most %v", took, soon)
	}
	closed(t, "the end of publishing", ended)
	until(t, "that everything is handled", func() bool {
		published, handled := f.count()
		return handled == published
	})
	t.Logf("%d of %d messages were handled when the server was back, %d batches were published again, %d messages came again, %d of them were handled again", before, f.published, f.retries, f.redelivered, f.reruns)
	if f.published != most {
		t.Errorf("%d messages were accepted, want %d", f.published, most)
	}
	if publishedBefore == most || before == most {
		t.Errorf("when the server was back %d messages were published and %d handled, of %d: the restart was not in the middle", publishedBefore, before, most)
	}
	s.settled(t, "ORDERS", "desk")
	shutdownApp(t, service)
	s.holds(t, "ORDERS", most)
	if n := len(told.of(broker.EventReconnected)); n != 1 {
		t.Errorf("told %d times of a connection that is back, want 1", n)
	}
}

// onDisk is a server that can be restarted.
type onDisk struct {
	config  embedded.Config
	running *embedded.Server
}

func startOnDisk(t *testing.T) *onDisk {
	t.Helper()
	s := &onDisk{config: embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"}}
	s.start(t)
	u, err := url.Parse(s.running.URL())
	if err != nil {
		t.Fatal(err)
	}
	s.config.Listen = u.Host // the same port from now on
	t.Cleanup(func() { s.stop(t) })
	return s
}

func (s *onDisk) start(t *testing.T) {
	t.Helper()
	var err error
	if s.running, err = embedded.Start(s.config); err != nil {
		t.Fatal(err)
	}
}

func (s *onDisk) stop(t *testing.T) {
	t.Helper()
	if err := s.running.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

func (s *onDisk) restart(t *testing.T) {
	t.Helper()
	s.stop(t)
	s.start(t)
}

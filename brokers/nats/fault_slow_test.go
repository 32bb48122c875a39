package nats_test

import (
	"errors"
	"regexp"
	"strconv"
	"testing"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
)

// Ten thousand messages come while nobody receives, and a hundred have room: the rest
// is dropped, which is told, and the subscription goes on.
func TestSlowConsumer(t *testing.T) {
	const room, published = 100, 10_000
	t.Parallel()
	s := startServer(t)

	// What arrived is received in its order, then what is published afterwards.
	goesOn := func(t *testing.T, subject string, sub broker.Subscription) {
		t.Helper()
		for want := range room {
			if got := number(t, receive(t, sub).Payload()); got != want {
				t.Fatalf("received %d, want %d", got, want)
			}
		}
		publishCore(t, s.js.Conn(), subject, published, published)
		if got := number(t, receive(t, sub).Payload()); got != published {
			t.Errorf("received %d after the loss, want %d, which was published after it", got, published)
		}
	}
	dropped := func(t *testing.T, told []broker.Event, pattern string, least int) {
		t.Helper()
		e := told[len(told)-1]
		if e.Name != pattern {
			t.Errorf("the event names %q, want the subscription's name %q", e.Name, pattern)
		}
		if !errors.Is(e.Err, nats.ErrSlowConsumer) {
			t.Errorf("the event's error is %v, want ErrSlowConsumer", e.Err)
		}
		if n := counted(e.Err); n < least || n > published-room {
			t.Errorf("the event counts %d dropped messages in %q, want %d to %d", n, e.Err, least, published-room)
		}
		if len(told) != 1 {
			t.Errorf("one loss was told %d times", len(told))
		}
	}

	t.Run("New", func(t *testing.T) {
		t.Parallel()
		name := unique()
		b := nats.New(s.url, nats.PendingMessages(room))
		told := connectBroker(t, b)
		other := subscribe(t, b, nats.Subject(name+".other"))
		sub := subscribe(t, b, nats.Subject(name+".*.slow"))
		publishCore(t, s.js.Conn(), name+".a.slow", 0, published-1)
		arrived(t, b)
		// It is told while nobody receives; how much it counts by then is open.
		dropped(t, told.await(t, broker.EventSlowConsumer, 1), name+".*.slow", 1)
		goesOn(t, name+".b.slow", sub)
		if n := len(told.of(broker.EventSlowConsumer)); n != 1 {
			t.Errorf("one loss was told %d times", n)
		}
		// A second loss is told again.
		publishCore(t, s.js.Conn(), name+".a.slow", 0, published-1)
		arrived(t, b)
		if e := told.await(t, broker.EventSlowConsumer, 2)[1]; e.Name != name+".*.slow" {
			t.Errorf("the second event names %q", e.Name)
		}
		// A subscription beside it has lost nothing.
		publishCore(t, s.js.Conn(), name+".other", 7, 7)
		if got := number(t, receive(t, other).Payload()); got != 7 {
			t.Errorf("the other subscription received %d, want 7", got)
		}
	})

	t.Run("FromConn", func(t *testing.T) {
		t.Parallel()
		name := unique()
		own := make(chan error, 16) // what the program's own error handler is told
		nc, err := natsgo.Connect(s.url, natsgo.ErrorHandler(func(_ *natsgo.Conn, _ *natsgo.Subscription, err error) { own <- err }))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		b := nats.FromConn(nc, nats.PendingMessages(room))
		told := connectBroker(t, b)
		sub := subscribe(t, b, nats.Subject(name+".*.slow"))
		publishCore(t, s.js.Conn(), name+".a.slow", 0, published-1)
		arrived(t, b)
		if err := <-own; !errors.Is(err, natsgo.ErrSlowConsumer) {
			t.Errorf("the connection's own error handler was told %v", err)
		}
		if n := len(told.of(broker.EventSlowConsumer)); n != 0 {
			t.Errorf("told %d times before Receive, which alone can know of it", n)
		}
		goesOn(t, name+".b.slow", sub)
		// Receive tells when everything has arrived: the count is exact.
		dropped(t, told.of(broker.EventSlowConsumer), name+".*.slow", published-room)
	})
}

// publishCore publishes the numbers from first to last and waits until the server has
// them.
func publishCore(t *testing.T, nc *natsgo.Conn, subject string, first, last int) {
	t.Helper()
	for n := first; n <= last; n++ {
		if err := nc.Publish(subject, []byte(strconv.Itoa(n))); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.FlushTimeout(faultLimit); err != nil {
		t.Fatal(err)
	}
}

// arrived waits until whatever the server had for b has reached it: its answer comes
// after that.
func arrived(t *testing.T, b *nats.Broker) {
	t.Helper()
	if err := b.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
}

var count = regexp.MustCompile(`[0-9]+`)

// counted is the number in the text of an event, 0 for none.
func counted(err error) int {
	n, _ := strconv.Atoi(count.FindString(err.Error()))
	return n
}

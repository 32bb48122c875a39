package nats_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
	"github.com/gostream/gostream/internal/cutproxy"
)

// An ordered reader reads its stream in order and without a gap, whatever happens to its
// connection and to its consumer.
func TestOrderedReader(t *testing.T) {
	onServers(t, func(t *testing.T, s *faultServer) {
		for _, test := range []struct {
			name string
			run  func(*testing.T, *orderedTest)
		}{
			{"connection cut", orderedCut},
			{"consumer deleted", orderedConsumerDeleted},
			{"stream deleted", orderedStreamDeleted},
			{"settlement", orderedSettlement},
			{"DeliverPolicy New", orderedNew},
			{"StartSequence", orderedStartSequence},
		} {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				o := &orderedTest{s: s, stream: unique(), proxy: s.proxy(t)}
				s.stream(t, o.stream)
				o.b = nats.New(o.proxy.Addr(), quick()...)
				o.told = connectBroker(t, o.b)
				test.run(t, o)
			})
		}
	})
}

// orderedTest is a stream and a broker that reaches it through a proxy. The stream holds
// its own sequence numbers, which begin with 1.
type orderedTest struct {
	s      *faultServer
	stream string
	proxy  *cutproxy.Proxy
	b      *nats.Broker
	told   *events
	cuts   int
}

func (o *orderedTest) put(t *testing.T, first, last int) {
	t.Helper()
	o.s.put(t, o.stream+".log", first, last)
}

func (o *orderedTest) source() nats.StreamSource {
	return nats.Stream(o.stream+".>", o.stream).Ordered()
}

// read receives the messages from first to last.
func (o *orderedTest) read(t *testing.T, sub broker.Subscription, first, last int) {
	t.Helper()
	for want := first; want <= last; want++ {
		m := receive(t, sub)
		if got := number(t, m.Payload()); got != want {
			t.Fatalf("received %d, want %d", got, want)
		}
		if got := m.(*nats.OrderedMessage).Sequence(); got != uint64(want) {
			t.Fatalf("received %d with the sequence %d", want, got)
		}
	}
}

// cut cuts the connection and runs f before it can be made again.
func (o *orderedTest) cut(t *testing.T, f func()) {
	t.Helper()
	o.cuts++
	o.proxy.Cut()
	o.told.await(t, broker.EventDisconnected, o.cuts)
	f()
	o.proxy.Restore()
}

// consumers are those that the stream has.
func (o *orderedTest) consumers(t *testing.T) (names []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
	defer cancel()
	stream, err := o.s.js.Stream(ctx, o.stream)
	if err != nil {
		t.Fatal(err)
	}
	list := stream.ConsumerNames(ctx)
	for name := range list.Name() {
		names = append(names, name)
	}
	if err := list.Err(); err != nil {
		t.Fatal(err)
	}
	return names
}

// What is on its way, and what waits to be received, gets lost at every cut.
func orderedCut(t *testing.T, o *orderedTest) {
	const all, between = 5000, 500
	sub := subscribe(t, o.b, o.source())
	o.put(t, 1, all)
	for last := between; last < all; last += between {
		o.read(t, sub, last-between+1, last)
		if o.cuts%2 == 0 {
			o.cut(t, func() {})
		} else {
			o.cuts++
			o.proxy.CutOnce()
		}
		// Half of the cuts are over when the reader goes on.
		if o.cuts%4 < 2 {
			o.told.await(t, broker.EventReconnected, o.cuts)
		}
	}
	o.read(t, sub, all-between+1, all)
	o.told.await(t, broker.EventReconnected, o.cuts)
	// What comes later comes, too.
	o.put(t, all+1, all+10)
	o.read(t, sub, all+1, all+10)
}

// Somebody deletes the consumer: the reader makes another one, behind what it has read.
func orderedConsumerDeleted(t *testing.T, o *orderedTest) {
	const all, half = 1000, 500
	sub := subscribe(t, o.b, o.source())
	o.put(t, 1, all)
	o.read(t, sub, 1, half)
	names := o.consumers(t)
	if len(names) != 1 {
		t.Fatalf("the stream has the consumers %q, want one", names)
	}
	ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
	defer cancel()
	if err := o.s.js.DeleteConsumer(ctx, o.stream, names[0]); err != nil {
		t.Fatal(err)
	}
	o.read(t, sub, half+1, all)
	if names := o.consumers(t); len(names) != 1 {
		t.Errorf("the stream has the consumers %q, want one", names)
	}
	if lost := o.told.of(broker.EventSubscriptionLost); len(lost) != 0 {
		t.Errorf("told of a subscription that is lost: %v", lost)
	}
	// Close leaves none behind.
	if err := sub.Close(ctx); err != nil {
		t.Error(err)
	}
	if names := o.consumers(t); len(names) != 0 {
		t.Errorf("after Close the stream has the consumers %q", names)
	}
}

// The stream is deleted while Receive waits for more: connected, and while cut.
func orderedStreamDeleted(t *testing.T, o *orderedTest) {
	gone := func(t *testing.T, noticed time.Duration, del func()) {
		t.Helper()
		sub := subscribe(t, o.b, o.source())
		o.put(t, 1, 3)
		o.read(t, sub, 1, 3)
		ended := make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
		defer cancel()
		go func() {
			_, err := sub.Receive(ctx)
			ended <- err
		}()
		name := o.consumers(t)[0]
		until(t, "that Receive waits at the server", func() bool { return o.s.consumer(t, o.stream, name).NumWaiting > 0 })
		told := len(o.told.of(broker.EventSubscriptionLost))
		del()
		began := time.Now()
		if err := <-ended; !errors.Is(err, broker.ErrNotFound) {
			t.Fatalf("Receive answered %v, want ErrNotFound", err)
		}
		if took := time.Since(began); took > noticed {
			t.Errorf("Receive answered after %v, want at most %v", took, noticed)
		}
		lost := o.told.await(t, broker.EventSubscriptionLost, told+1)[told]
		if lost.Name != o.stream+".>" || !errors.Is(lost.Err, broker.ErrNotFound) {
			t.Errorf("told of %q: %v; want the subscription's name and ErrNotFound", lost.Name, lost.Err)
		}
	}
	del := func() {
		ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
		defer cancel()
		if err := o.s.js.DeleteStream(ctx, o.stream); err != nil {
			t.Fatal(err)
		}
	}
	gone(t, noticedTold, del)
	if err := createStream(t.Context(), o.s.js, jetstream.StreamConfig{Name: o.stream, Subjects: []string{o.stream + ".>"}}); err != nil {
		t.Fatal(err)
	}
	gone(t, noticedMissing, func() { o.cut(t, del) })
}

// A reader has nothing to settle.
func orderedSettlement(t *testing.T, o *orderedTest) {
	o.put(t, 1, 2)
	sub := subscribe(t, o.b, o.source())
	m := receive(t, sub)
	for range 2 {
		for what, err := range map[string]error{
			"Ack":       m.Ack(t.Context()),
			"Nack":      m.Nack(t.Context(), true),
			"reject":    m.Nack(t.Context(), false),
			"NackAfter": broker.NackAfter(t.Context(), m, time.Second),
		} {
			if !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("%s answered %v, want errors.ErrUnsupported", what, err)
			}
		}
	}
	o.read(t, sub, 2, 2)
	shutdownBroker(t, o.b)
	if err := m.Ack(t.Context()); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("Ack after Shutdown answered %v, want ErrClosed", err)
	}
}

// What is there when the reader subscribes is left out, and nothing else: not even where
// the consumer has to be made anew before it has delivered anything.
func orderedNew(t *testing.T, o *orderedTest) {
	o.put(t, 1, 10)
	sub := subscribe(t, o.b, o.source().DeliverPolicy(jetstream.DeliverNewPolicy))
	o.cut(t, func() { o.put(t, 11, 20) })
	o.read(t, sub, 11, 20)
	o.cut(t, func() { o.put(t, 21, 30) })
	o.read(t, sub, 21, 30)
}

// The reader begins where it is told to, also where the consumer has to be made anew.
func orderedStartSequence(t *testing.T, o *orderedTest) {
	o.put(t, 1, 10)
	sub := subscribe(t, o.b, o.source().StartSequence(5))
	o.cut(t, func() {})
	o.read(t, sub, 5, 7)
	o.cut(t, func() { o.put(t, 11, 20) })
	o.read(t, sub, 8, 20)
	// Another one reads from its own beginning.
	o.read(t, subscribe(t, o.b, o.source().StartSequence(19)), 19, 20)
}

package nats_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
)

// How soon a subscription must notice that its consumer is gone: at once, where the
// server says so. Where it says nothing it is found out by two heartbeats that are
// missing, which is still less than the 30 s that a request for messages waits.
const (
	noticedTold    = 5 * time.Second
	noticedMissing = 20 * time.Second
)

// The stream is deleted under a consumer that waits for messages.
func TestStreamDeletedUnderConsumer(t *testing.T) {
	deletedUnder(t, func(ctx context.Context, s *faultServer, stream string) error {
		return s.js.DeleteStream(ctx, stream)
	})
}

// The durable consumer is deleted while a subscription waits for its messages.
func TestConsumerDeleted(t *testing.T) {
	deletedUnder(t, func(ctx context.Context, s *faultServer, stream string) error {
		return s.js.DeleteConsumer(ctx, stream, "desk")
	})
}

// deletion deletes what the consumer named desk of the stream needs.
type deletion func(ctx context.Context, s *faultServer, stream string) error

func (d deletion) do(t *testing.T, s *faultServer, stream string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
	defer cancel()
	if err := d(ctx, s, stream); err != nil {
		t.Fatal(err)
	}
}

func deletedUnder(t *testing.T, del deletion) {
	onServers(t, func(t *testing.T, s *faultServer) {
		t.Run("Receive", func(t *testing.T) {
			t.Parallel()
			name := unique()
			s.dropAtEnd(t, name)
			b := nats.New(s.url, quick()...)
			told := connectBroker(t, b)
			receiveEnds(t, s, b, told, name, noticedTold, func() { del.do(t, s, name) })
		})
		t.Run("Receive while cut", func(t *testing.T) {
			t.Parallel()
			name := unique()
			s.dropAtEnd(t, name)
			p := s.proxy(t)
			b := nats.New(p.Addr(), quick()...)
			told := connectBroker(t, b)
			receiveEnds(t, s, b, told, name, noticedMissing, func() {
				p.Cut()
				told.await(t, broker.EventDisconnected, 1)
				del.do(t, s, name)
				p.Restore()
			})
		})
		t.Run("App", func(t *testing.T) {
			t.Parallel()
			name := unique()
			s.dropAtEnd(t, name)
			b := nats.New(s.url, quick()...)
			told := listen(b)
			appGoesOn(t, s, b, told, name, noticedTold, func() { del.do(t, s, name) })
		})
		t.Run("App while cut", func(t *testing.T) {
			t.Parallel()
			name := unique()
			s.dropAtEnd(t, name)
			p := s.proxy(t)
			b := nats.New(p.Addr(), quick()...)
			told := listen(b)
			appGoesOn(t, s, b, told, name, noticedMissing, func() {
				p.Cut()
				told.await(t, broker.EventDisconnected, 1)
				del.do(t, s, name)
				p.Restore()
			})
		})
	})
}

// receiveEnds deletes under a Receive that waits.
func receiveEnds(t *testing.T, s *faultServer, b *nats.Broker, told *events, name string, noticed time.Duration, del func()) {
	t.Helper()
	source := nats.Stream(name+".*", name).Durable("desk").AckWait(10 * time.Minute).Create(jetstream.StreamConfig{})
	sub := subscribe(t, b, source)
	s.put(t, name+".orders", 1, 3)
	settled, held, prolonged := receive(t, sub), receive(t, sub), receive(t, sub)
	if err := settled.Ack(t.Context()); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
	defer cancel()
	go func() {
		_, err := sub.Receive(ctx)
		ended <- err
	}()
	until(t, "that Receive waits at the server", func() bool { return s.consumer(t, name, "desk").NumWaiting > 0 })
	if broker.Stale(held) {
		t.Error("what is held is stale before anything was deleted")
	}

	del()
	began := time.Now()
	err := <-ended
	took := time.Since(began)
	t.Logf("noticed after %v: %v", took.Round(time.Millisecond), err)
	if !errors.Is(err, broker.ErrNotFound) {
		t.Fatalf("Receive answered %v, want ErrNotFound", err)
	}
	if took > noticed {
		t.Errorf("Receive answered after %v, want at most %v", took, noticed)
	}
	lost := told.await(t, broker.EventSubscriptionLost, 1)[0]
	if lost.Name != name+".*" || !errors.Is(lost.Err, broker.ErrNotFound) {
		t.Errorf("told of %q: %v; want the subscription's name and ErrNotFound", lost.Name, lost.Err)
	}
	if _, err := sub.Receive(ctx); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("another Receive answered %v, want ErrNotFound", err)
	}

	// Nothing that is held is ours any more.
	if !broker.Stale(held) {
		t.Error("what is held is not stale")
	}
	for what, err := range map[string]error{
		"Ack":         held.Ack(ctx),
		"Nack":        held.Nack(ctx, true),
		"reject":      held.Nack(ctx, false),
		"NackAfter":   broker.NackAfter(ctx, held, time.Second),
		"ExtendLease": broker.ExtendLease(ctx, prolonged),
	} {
		if !errors.Is(err, broker.ErrStale) {
			t.Errorf("%s of what is held answered %v, want ErrStale", what, err)
		}
	}
	if err := settled.Ack(ctx); !errors.Is(err, broker.ErrSettled) {
		t.Errorf("Ack of what was acknowledged before answered %v, want ErrSettled", err)
	}
	if err := sub.Close(ctx); err != nil {
		t.Error(err)
	}
	if n := len(told.of(broker.EventSubscriptionLost)); n != 1 {
		t.Errorf("the loss was told %d times", n)
	}
}

// appGoesOn deletes under an app, which opens its subscription anew.
func appGoesOn(t *testing.T, s *faultServer, b *nats.Broker, told *events, name string, noticed time.Duration, del func()) {
	t.Helper()
	source := nats.Stream(name+".*", name).Durable("desk").Create(jetstream.StreamConfig{})
	handled := make(chan int, 100)
	var states states
	service := startApp(t, b, source, gostream.Raw(func(_ context.Context, d *gostream.Delivery) error {
		handled <- number(t, d.Payload())
		return nil
	}), gostream.Observer{StateChanged: states.add})

	s.put(t, name+".orders", 1, 3)
	takeUntil(t, handled, 3)
	until(t, "that what was handled is acknowledged, and the app waits", func() bool {
		c := s.consumer(t, name, "desk")
		return c.NumAckPending == 0 && c.NumWaiting > 0
	})
	del()
	began := time.Now()
	until(t, "that the subscription is down and live again", func() bool {
		down := states.index(gostream.StateDown, 0)
		return down >= 0 && states.index(gostream.StateRunning, down) > down
	})
	took := time.Since(began)
	t.Logf("live again after %v", took.Round(time.Millisecond))
	if took > noticed {
		t.Errorf("live again after %v, want at most %v", took, noticed)
	}
	told.await(t, broker.EventSubscriptionLost, 1)

	// The stream and the durable consumer are there, and what is new is handled.
	s.put(t, name+".orders", 4, 6)
	takeUntil(t, handled, 6)
	s.settled(t, name, "desk")
	if !service.Health(t.Context()).Ready {
		t.Error("the service is not ready")
	}
	shutdownApp(t, service)
	if failures := service.Health(context.Background()).SettleFailures; failures != 0 {
		t.Errorf("%d settlements failed", failures)
	}
}

// takeUntil takes what was handled until it was last.
func takeUntil(t *testing.T, handled <-chan int, last int) {
	t.Helper()
	limit := time.NewTimer(faultLimit)
	defer limit.Stop()
	for {
		select {
		case n := <-handled:
			if n == last {
				return
			}
		case <-limit.C:
			t.Fatalf("%d was not handled", last)
		}
	}
}

// states are those of the one subscription of an app.
type states struct {
	mu  sync.Mutex
	all []gostream.State
}

func (s *states) add(_ *gostream.Subscription, to gostream.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, to)
}

// index is where the state comes first, at from or behind it; -1 for nowhere.
func (s *states) index(state gostream.State, from int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.all[from:], state); i >= 0 {
		return from + i
	}
	return -1
}

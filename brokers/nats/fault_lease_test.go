package nats_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
)

const (
	leaseAckWait = 500 * time.Millisecond
	// leaseHandling is how long the first message is handled: four leases.
	leaseHandling = 4 * leaseAckWait
)

// A handler takes longer than AckWait while others wait behind it. The runtime extends
// the leases of all: each message is handled once. Without that they come again.
func TestHandlerLongerThanAckWait(t *testing.T) {
	onServers(t, func(t *testing.T, s *faultServer) {
		for _, workers := range []int{1, 2} {
			for _, prefetch := range []int{1, nats.DefaultPrefetch} {
				t.Run(fmt.Sprintf("App with Workers(%d) and Prefetch(%d)", workers, prefetch), func(t *testing.T) {
					t.Parallel()
					leaseInTime(t, func() []error { return leaseKept(t, s, workers, prefetch) })
				})
			}
		}
		t.Run("not extended", func(t *testing.T) {
			t.Parallel()
			leaseInTime(t, func() []error { return leaseRunsOut(t, s) })
		})
	})
}

// leaseInTime reports what test finds wrong. A process that does not get to run for a
// good part of a lease cannot keep it, and nobody has promised that: test is then done
// once more, a few times.
func leaseInTime(t *testing.T, test func() []error) {
	t.Helper()
	const bearable, tries = leaseAckWait / 4, 5
	for try := 1; ; try++ {
		stopped := leaseWatch()
		wrong := test()
		longest := stopped()
		if len(wrong) > 0 && longest > bearable && try < tries {
			t.Logf("the process stood still for %v, once more: %v", longest.Round(time.Millisecond), errors.Join(wrong...))
			continue
		}
		for _, err := range wrong {
			t.Error(err)
		}
		return
	}
}

// leaseWatch watches how the process gets on, until the function is called that it
// returns: that says for how long it stood still at most.
func leaseWatch() (stop func() (longest time.Duration)) {
	end, longest := make(chan struct{}), make(chan time.Duration)
	go func() {
		const step = 10 * time.Millisecond
		tick := time.NewTicker(step)
		defer tick.Stop()
		last, most := time.Now(), time.Duration(0)
		for {
			select {
			case <-tick.C:
				most = max(most, time.Since(last)-step)
				last = time.Now()
			case <-end:
				longest <- max(most, time.Since(last)-step)
				return
			}
		}
	}()
	return func() time.Duration {
		close(end)
		return <-longest
	}
}

// leaseLog is how a message was handled.
type leaseLog struct {
	times      int
	deliveries int // the count of the first
	took       time.Duration
}

func leaseKept(t *testing.T, s *faultServer, workers, prefetch int) (wrong []error) {
	t.Helper()
	const messages = 20
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	name := unique()
	s.stream(t, name)
	var mu sync.Mutex
	handled := make(map[int]leaseLog)
	begun := make(chan struct{}) // closed when the first message is being handled
	begin := sync.OnceFunc(func() { close(begun) })

	r := gostream.NewRouter()
	r.HandleSource(nats.Stream(name+".>", name).Durable("desk").AckWait(leaseAckWait).Prefetch(prefetch),
		gostream.Raw(func(ctx context.Context, d *gostream.Delivery) error {
			began, n := time.Now(), number(t, d.Payload())
			if n == 1 {
				begin()
				enough := time.NewTimer(leaseHandling)
				defer enough.Stop()
				select {
				case <-enough.C:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			count, _ := broker.DeliveryCount(d.Message())
			mu.Lock()
			defer mu.Unlock()
			l := handled[n]
			if l.times++; l.times == 1 {
				l.deliveries, l.took = count, time.Since(began)
			}
			handled[n] = l
			return nil
		}), gostream.Workers(workers))
	app := gostream.New("lease", "0", gostream.WithLogger(slog.New(slog.DiscardHandler)))
	app.Mount(nats.New(s.url, quick()...), r)
	ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
	defer cancel()
	service, err := app.Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shutdownApp(t, service) })

	s.put(t, name+".orders", 1, 1)
	closed(t, "that the first message is handled", begun)
	s.put(t, name+".orders", 2, messages)
	until(t, "that everything is acknowledged", func() bool {
		c := s.consumer(t, name, "desk")
		return c.NumAckPending == 0 && c.NumPending == 0
	})
	shutdownApp(t, service) // whatever had come again by then is handled

	mu.Lock()
	defer mu.Unlock()
	for n := 1; n <= messages; n++ {
		if l := handled[n]; l.times != 1 {
			complain("message %d was handled %d times, want once", n, l.times)
		}
	}
	switch first := handled[1]; {
	case first.took < leaseHandling:
		complain("the first message was handled for %v: that does not outlast a lease", first.took)
	case first.deliveries != 1:
		complain("the message that was handled for %v is in its delivery %d, want the first", first.took, first.deliveries)
	}
	// What waited here for too long was given back and counts again; without a prefetch
	// there is none.
	if n := s.consumer(t, name, "desk").Delivered.Consumer; prefetch == 1 && n != messages {
		complain("the server made %d deliveries of %d messages", n, messages)
	}
	if h := service.Health(context.Background()); h.SettleFailures != 0 {
		complain("%d settlements failed", h.SettleFailures)
	}
	return wrong
}

// leaseRunsOut receives and does not extend.
func leaseRunsOut(t *testing.T, s *faultServer) (wrong []error) {
	t.Helper()
	complain := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	name := unique()
	s.stream(t, name)
	b := nats.New(s.url, quick()...)
	connectBroker(t, b)
	sub := subscribe(t, b, nats.Stream(name+".>", name).Durable("desk").AckWait(leaseAckWait))
	s.put(t, name+".orders", 1, 1)
	old := receive(t, sub)
	if broker.Stale(old) {
		complain("what was just received is stale")
	}
	again := receive(t, sub)
	if n := number(t, again.Payload()); n != 1 {
		complain("received message %d, want the first one again", n)
	}
	if n, _ := broker.DeliveryCount(again); n != 2 {
		complain("it is in its delivery %d, want the second", n)
	}

	// The server counts the lease from when it sent the message, we count from when it
	// arrived.
	until(t, "that the old delivery is stale", func() bool { return broker.Stale(old) })
	for what, settle := range map[string]func(context.Context) error{
		"Ack":         old.Ack,
		"Nack":        func(ctx context.Context) error { return old.Nack(ctx, true) },
		"reject":      func(ctx context.Context) error { return old.Nack(ctx, false) },
		"NackAfter":   func(ctx context.Context) error { return broker.NackAfter(ctx, old, time.Second) },
		"ExtendLease": func(ctx context.Context) error { return broker.ExtendLease(ctx, old) },
	} {
		if err := settle(t.Context()); !errors.Is(err, broker.ErrStale) {
			complain("%s of the old delivery answered %v, want ErrStale", what, err)
		}
	}
	if err := broker.ExtendLease(t.Context(), again); err != nil { // this one is ours
		complain("ExtendLease of the new delivery: %v", err)
	}
	// Nothing of that has reached the server: the message is still unsettled there.
	arrived(t, b)
	if c := s.consumer(t, name, "desk"); c.NumAckPending != 1 {
		complain("%d deliveries are unsettled at the server, want the new one", c.NumAckPending)
	}
	if err := again.Ack(t.Context()); err != nil {
		complain("Ack of the new delivery: %v", err)
		return wrong
	}
	until(t, "that the new delivery is acknowledged", func() bool {
		c := s.consumer(t, name, "desk")
		return c.NumAckPending == 0 && c.AckFloor.Stream == 1
	})
	return wrong
}

package gostream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

// atMostOnce is a broker that does not redeliver, with f as its only subscription,
// which hands out what has arrived after it is closed.
func atMostOnce(f *feed) *stubBroker {
	f.drains = true
	return &stubBroker{
		properties: broker.Properties{Keys: broker.KeysNative},
		publish:    func(context.Context, broker.OutgoingMessage) error { return nil },
		subscribe:  func(context.Context, string) (broker.Subscription, error) { return f, nil },
	}
}

// incoming is a message for "in".
func incoming(payload string) *stubMessage {
	return &stubMessage{name: "in", payload: []byte(payload)}
}

// begin starts app.
func begin(t *testing.T, app *gostream.App) *gostream.Service {
	t.Helper()
	s, err := app.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// wantAcked fails where a message was not acknowledged once.
func wantAcked(t *testing.T, messages []*stubMessage) {
	t.Helper()
	for _, m := range messages {
		if how := m.how(); !slices.Equal(how, []string{"ack"}) {
			t.Errorf("message %s was settled as %v, want ack", m.payload, how)
		}
	}
}

// A drain waits for room before it receives the next batch, handles all that has
// arrived and never has more than MaxInFlight in hand.
func TestBatchDrainKeepsMaxInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		var inHand, most atomic.Int64
		app := batchApp(atMostOnce(f), gostream.ConsumeBatch(func(_ context.Context, vs []string) error {
			now := inHand.Add(int64(len(vs)))
			defer inHand.Add(-int64(len(vs)))
			most.Store(max(most.Load(), now))
			time.Sleep(time.Second)
			return nil
		}, 4, 100*time.Millisecond), gostream.Workers(2), gostream.MaxInFlight(4))
		var messages []*stubMessage
		for i := range 6 {
			m := incoming(fmt.Sprint(i))
			messages = append(messages, m)
			f.in <- m
		}
		s := begin(t, app)
		synctest.Wait()
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		wantAcked(t, messages)
		if most.Load() > 4 {
			t.Errorf("%d messages in hand at once, want at most 4", most.Load())
		}
	})
}

// Where retries fill MaxInFlight when the drain begins, they are handled once more,
// and what had arrived after them.
func TestBatchDrainWithParkedRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		var calls atomic.Int64
		app := batchApp(atMostOnce(f), gostream.ConsumeBatch(func(context.Context, []string) error {
			if calls.Add(1) <= 32 {
				return gostream.RetryAfter(time.Hour, nil)
			}
			time.Sleep(100 * time.Millisecond)
			return nil
		}, 4, 10*time.Millisecond), gostream.Workers(2), gostream.MaxInFlight(128))
		var messages []*stubMessage
		for i := range 400 {
			m := incoming(fmt.Sprint(i))
			messages = append(messages, m)
			f.in <- m
		}
		s := begin(t, app)
		time.Sleep(time.Minute)
		synctest.Wait()
		if h := s.Health(t.Context()).Subscriptions[0]; h.Parked != 128 {
			t.Errorf("health %+v, want 128 parked", h)
		}
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		wantAcked(t, messages)
	})
}

// A pause does not wait for room: it returns while a batch fills MaxInFlight.
func TestBatchPauseAtMaxInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		app := batchApp(atMostOnce(f), gostream.ConsumeBatch(func(context.Context, []string) error {
			time.Sleep(time.Second)
			return nil
		}, 4, 100*time.Millisecond), gostream.Workers(2), gostream.MaxInFlight(4))
		var messages []*stubMessage
		for i := range 6 {
			m := incoming(fmt.Sprint(i))
			messages = append(messages, m)
			f.in <- m
		}
		s := begin(t, app)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		for range 2 {
			if err := s.Pause(ctx, "in"); err != nil {
				t.Errorf("Pause: %v", err)
			}
		}
		time.Sleep(10 * time.Second) // what had arrived is handled
		synctest.Wait()
		wantAcked(t, messages)
		if h := s.Health(t.Context()).Subscriptions[0]; h.State != gostream.StatePaused || h.InFlight != 0 {
			t.Errorf("health %+v, want paused and at rest", h)
		}
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// A pause returns also where all of MaxInFlight is parked for a long time.
func TestPauseAtMaxInFlightParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		app := batchApp(atMostOnce(f), gostream.Consume(func(context.Context, string) error {
			return gostream.RetryAfter(time.Hour, nil)
		}), gostream.MaxInFlight(1))
		f.in <- incoming("a")
		s := begin(t, app)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.Pause(ctx, "in"); err != nil {
			t.Errorf("Pause: %v", err)
		}
		_ = s.Shutdown(context.Background())
		if r, _ := s.Report(); r.Lost != 1 {
			t.Errorf("report %+v, want one lost", r)
		}
	})
}

// A message that shuts the app down is not handed to its handler a second time by
// the drain.
func TestFailFastIsCalledOnce(t *testing.T) {
	cause := errors.New("no")
	for _, shape := range []string{"single", "by key", "batch"} {
		t.Run(shape, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFeed()
				var calls atomic.Int64
				fail := func() error { calls.Add(1); return gostream.FailFast(cause) }
				var h gostream.Handler = gostream.Consume(func(context.Context, string) error { return fail() })
				var options []gostream.HandleOption
				switch shape {
				case "by key":
					options = append(options, gostream.ByKey())
				case "batch":
					h = gostream.ConsumeBatch(func(context.Context, []string) error { return fail() }, 4, 0)
				}
				app := batchApp(atMostOnce(f), h, options...)
				f.in <- keyAsked{incoming("a"), nil}
				if err := app.Run(t.Context()); !errors.Is(err, cause) {
					t.Errorf("Run: %v, want %v", err, cause)
				}
				if calls.Load() != 1 {
					t.Errorf("the handler was called %d times, want 1", calls.Load())
				}
			})
		})
	}
}

// keyAsked is a message with a key; got is told, if not nil, that it is asked for.
type keyAsked struct {
	*stubMessage
	got func()
}

func (m keyAsked) PartitionKey() []byte {
	if m.got != nil {
		m.got()
	}
	return m.payload
}

// reopening is a service whose only subscription is being opened again: it gets g
// after a minute, whatever its context says.
func reopening(t *testing.T) (s *gostream.Service, g *feed) {
	t.Helper()
	f := newFeed()
	g = newFeed()
	g.drains = true
	b := atMostOnce(f)
	opened := 0
	b.subscribe = func(context.Context, string) (broker.Subscription, error) {
		opened++
		switch opened {
		case 1:
			return f, nil
		case 2:
			time.Sleep(time.Minute)
			return g, nil
		}
		return newFeed(), nil
	}
	s = begin(t, batchApp(b, gostream.Consume(nothing)))
	f.in <- errors.New("cut")
	time.Sleep(30 * time.Second) // the pause between tries is shorter
	synctest.Wait()
	if opened != 2 {
		t.Fatalf("opened %d times, want that the second is under way", opened)
	}
	return s, g
}

// wantClosed fails where the subscription is open.
func wantClosed(t *testing.T, f *feed) {
	t.Helper()
	select {
	case <-f.closed:
	default:
		t.Error("the subscription is open")
	}
}

// A subscription that is opened while the drain waits for it is closed at once, and
// the drain does not wait for its timeout.
func TestShutdownWhileReopening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, g := reopening(t)
		time.Sleep(20 * time.Second)
		began := time.Now()
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("Shutdown took %v", took)
		}
		wantClosed(t, g)
	})
}

// A subscription that is opened after a pause has begun is closed, as one that was
// open is, and opened anew when it is resumed.
func TestPauseWhileReopening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, g := reopening(t)
		if err := s.Pause(t.Context(), "in"); err != nil {
			t.Errorf("Pause: %v", err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		wantClosed(t, g)
		if state := s.Health(t.Context()).Subscriptions[0].State; state != gostream.StatePaused {
			t.Errorf("state %v, want paused", state)
		}
		resume(t, s)
		synctest.Wait()
		if state := s.Health(t.Context()).Subscriptions[0].State; state != gostream.StateRunning {
			t.Errorf("state %v after Resume, want running", state)
		}
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// A batch that is dead-lettered as a whole while the drain runs is dead-lettered, not
// handed over one by one, nor lost.
func TestBatchDeadLetterInTheDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		b := atMostOnce(f)
		var dead, calls atomic.Int64
		b.publish = func(context.Context, broker.OutgoingMessage) error { dead.Add(1); return nil }
		app := batchApp(b, gostream.ConsumeBatch(func(context.Context, []string) error {
			calls.Add(1)
			time.Sleep(time.Second)
			return gostream.DeadLetter(errors.New("no"))
		}, 2, time.Second), gostream.DeadLetterTo("dead"), gostream.AllowLoss())
		messages := []*stubMessage{incoming("a"), incoming("b")}
		for _, m := range messages {
			f.in <- m
		}
		s := begin(t, app)
		synctest.Wait()
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		wantAcked(t, messages)
		if dead.Load() != 2 || calls.Load() != 1 {
			t.Errorf("%d dead letters after %d calls, want 2 after 1", dead.Load(), calls.Load())
		}
	})
}

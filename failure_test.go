package gostream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

// run starts app, calls body and shuts the app down.
func run(t *testing.T, app *gostream.App, body func(s *gostream.Service)) {
	t.Helper()
	s, err := app.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	body(s)
	if err := s.Shutdown(context.Background()); err != nil {
		t.Errorf("shutdown: %v", err)
	}
}

// publish sends one message to name.
func publish(t *testing.T, b broker.Broker, name, payload string, headers ...broker.Header) {
	t.Helper()
	p, ok := broker.DefaultPublisher(b)
	if !ok {
		t.Fatal("no publisher")
	}
	msg := broker.OutgoingMessage{Name: name, Payload: []byte(payload), Headers: broker.NewHeaders(headers...)}
	if err := p.Publish(context.Background(), msg); err != nil {
		t.Fatal(err)
	}
}

// A handler that ends its goroutine is a failure and does not kill the receiver.
func TestGoexit(t *testing.T) {
	for _, workers := range []int{1, 3} {
		for _, where := range []string{"handler", "middleware"} {
			t.Run(fmt.Sprintf("%s with %d workers", where, workers), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					mem := memory.New()
					var calls atomic.Int64
					r := gostream.NewRouter()
					r.Handle("in", gostream.Consume(func(_ context.Context, s string) error {
						if where == "handler" && calls.Add(1) <= 20 {
							runtime.Goexit()
						}
						return nil
					}), gostream.Workers(workers))
					app := gostream.New("t", "0", quiet())
					app.Use(func(next gostream.Next) gostream.Next {
						return func(ctx context.Context, b *gostream.Batch) error {
							if where == "middleware" && calls.Add(1) <= 20 {
								runtime.Goexit()
							}
							return next(ctx, b)
						}
					})
					app.Mount(mem, r)
					var outcomes outcomeLog
					app.Observe(outcomes.observer())
					run(t, app, func(*gostream.Service) {
						for range 10 {
							publish(t, mem, "in", "x")
						}
						time.Sleep(time.Hour)
					})
					if got := outcomes.count(gostream.OutcomeAcked); got != 10 {
						t.Errorf("acked %d of 10", got)
					}
					if got := outcomes.count(gostream.OutcomeRetried); got != 20 {
						t.Errorf("retried %d, want 20", got)
					}
				})
			})
		}
	}
}

// outcomeLog counts how attempts ended.
type outcomeLog struct {
	mu  sync.Mutex
	all []gostream.SettledEvent
}

func (l *outcomeLog) observer() gostream.Observer {
	return gostream.Observer{Settled: func(e gostream.SettledEvent) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all = append(l.all, e)
	}}
}

func (l *outcomeLog) count(o gostream.Outcome) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, e := range l.all {
		if e.Outcome == o {
			n++
		}
	}
	return n
}

// A panic anywhere on the path of a message is a failure of that message.
func TestPanics(t *testing.T) {
	for _, where := range []string{"handler", "middleware", "codec", "publish middleware", "observer"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var calls atomic.Int64
				bad := func(at string) {
					if where == at && calls.Add(1) <= 2 {
						panic("boom in " + at)
					}
				}
				mem := memory.New()
				var replies atomic.Int64
				r := gostream.NewRouter()
				r.Handle("in", gostream.Reply(func(_ context.Context, n int) (int, error) {
					bad("handler")
					return n, nil
				}).To("out"), gostream.WithCodec(codecFunc(func() { bad("codec") })))
				r.Handle("out", gostream.Consume(func(context.Context, int) error { replies.Add(1); return nil }))
				app := gostream.New("t", "0", quiet())
				app.Use(func(next gostream.Next) gostream.Next {
					return func(ctx context.Context, b *gostream.Batch) error {
						bad("middleware")
						return next(ctx, b)
					}
				})
				app.UsePublish(func(next gostream.PublishNext) gostream.PublishNext {
					return func(ctx context.Context, msgs []broker.OutgoingMessage) error {
						bad("publish middleware")
						return next(ctx, msgs)
					}
				})
				var outcomes outcomeLog
				app.Observe(outcomes.observer())
				app.Observe(gostream.Observer{Received: func(*gostream.Delivery) { bad("observer") }})
				app.Mount(mem, r)
				run(t, app, func(*gostream.Service) {
					publish(t, mem, "in", "1")
					time.Sleep(time.Hour)
				})
				if replies.Load() != 1 {
					t.Errorf("%d replies, want 1", replies.Load())
				}
				want := 2
				if where == "observer" {
					want = 0
				}
				if got := outcomes.count(gostream.OutcomeRetried); got != want {
					t.Errorf("retried %d times, want %d", got, want)
				}
				for _, e := range outcomes.all {
					var p *gostream.PanicError
					if e.Outcome == gostream.OutcomeRetried && (!errors.As(e.Err, &p) || len(p.Stack) == 0) {
						t.Errorf("the failure is %v, want a PanicError with its stack", e.Err)
					}
				}
			})
		})
	}
}

// codecFunc is JSON with something before it.
type codecFunc func()

func (codecFunc) ContentType() string { return gostream.JSON.ContentType() }
func (f codecFunc) Append(dst []byte, v any) ([]byte, error) {
	f()
	return gostream.JSON.Append(dst, v)
}

func (f codecFunc) Unmarshal(data []byte, v any) error {
	f()
	return gostream.JSON.Unmarshal(data, v)
}

// OnPanic(PanicFailFast) ends the app with an error; the message is kept.
func TestPanicFailFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.NewStore()
		mem := memory.New(memory.On(store))
		r := gostream.NewRouter()
		var calls atomic.Int64
		r.Handle("in", gostream.Consume(func(context.Context, string) error {
			calls.Add(1)
			panic("boom")
		}), gostream.OnPanic(gostream.PanicFailFast))
		app := gostream.New("t", "0", quiet())
		app.Mount(mem, r)
		app.OnShutdown(func(ctx context.Context) error { time.Sleep(5 * time.Second); return nil })
		ended := make(chan error, 1)
		go func() { ended <- app.Run(context.Background()) }()
		synctest.Wait()
		publish(t, mem, "in", "x")
		err := <-ended
		var p *gostream.PanicError
		if !errors.As(err, &p) || p.Value != "boom" {
			t.Errorf("Run returned %v, want the panic", err)
		}
		if store.Len("in") != 1 {
			t.Errorf("%d messages left in the store, want 1", store.Len("in"))
		}
		if calls.Load() != 1 {
			t.Errorf("called %d times while the app shut down, want 1", calls.Load())
		}
	})
}

// A handler that fails fast by its error ends the app; so does a lost subscription
// that may not be lost.
func TestFailFast(t *testing.T) {
	cause := errors.New("disk is full")
	synctest.Test(t, func(t *testing.T) {
		store := memory.NewStore()
		mem := memory.New(memory.On(store))
		r := gostream.NewRouter()
		r.Handle("in", gostream.Consume(func(context.Context, string) error { return gostream.FailFast(cause) }))
		app := gostream.New("t", "0", quiet())
		app.Mount(mem, r)
		s, err := app.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		publish(t, mem, "in", "x")
		if err := s.Wait(); !errors.Is(err, cause) {
			t.Errorf("Wait returned %v, want %v", err, cause)
		}
		if err := s.Shutdown(context.Background()); !errors.Is(err, cause) {
			t.Errorf("Shutdown returned %v, want %v", err, cause)
		}
		if store.Len("in") != 1 {
			t.Errorf("%d messages left, want 1", store.Len("in"))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		b := &stubBroker{properties: broker.Properties{Redelivers: true}, subscribe: func(context.Context, string) (broker.Subscription, error) { return f, nil }}
		r := gostream.NewRouter()
		r.Handle("in", gostream.Consume(func(context.Context, string) error { return nil }), gostream.OnSubscriptionLost(gostream.LostFailFast))
		app := gostream.New("t", "0", quiet())
		app.Mount(b, r)
		s, err := app.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		f.in <- cause
		if err := s.Wait(); !errors.Is(err, cause) {
			t.Errorf("Wait returned %v, want %v", err, cause)
		}
	})
}

// A dead letter that cannot be published for a minute: the handler is not called
// again, the original stays unsettled, and after healing there is one dead letter.
func TestDeadLetterPublishFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.NewStore()
		mem := memory.New(memory.On(store))
		var calls atomic.Int64
		r := gostream.NewRouter()
		r.Handle("in", gostream.Consume(func(context.Context, string) error {
			calls.Add(1)
			return gostream.DeadLetter(errors.New("no"))
		}), gostream.DeadLetterTo("dead"))
		app := gostream.New("t", "0", quiet())
		heal := time.Now().Add(time.Minute)
		var tries atomic.Int64
		app.UsePublish(func(next gostream.PublishNext) gostream.PublishNext {
			return func(ctx context.Context, msgs []broker.OutgoingMessage) error {
				if msgs[0].Name == "dead" {
					tries.Add(1)
					if time.Now().Before(heal) {
						return errors.New("the broker is away")
					}
				}
				return next(ctx, msgs)
			}
		})
		app.Mount(mem, r)
		run(t, app, func(s *gostream.Service) {
			publish(t, mem, "in", "x")
			time.Sleep(59 * time.Second)
			if calls.Load() != 1 || store.Len("in") != 1 || store.Len("dead") != 0 {
				t.Errorf("before healing: %d calls, %d unsettled, %d dead; want 1, 1, 0", calls.Load(), store.Len("in"), store.Len("dead"))
			}
			if h := s.Health(t.Context()).Subscriptions[0]; h.Parked != 1 || h.InFlight != 1 || h.Oldest != 59*time.Second {
				t.Errorf("health is %+v, want one parked and in flight for 59 s", h)
			}
			time.Sleep(2 * time.Minute)
			if calls.Load() != 1 || store.Len("in") != 0 || store.Len("dead") != 1 {
				t.Errorf("after healing: %d calls, %d unsettled, %d dead; want 1, 0, 1", calls.Load(), store.Len("in"), store.Len("dead"))
			}
			if tries.Load() < 5 {
				t.Errorf("published %d times, want several tries", tries.Load())
			}
		})
	})
}

// A source whose Receive fails is opened again with backoff until it heals; while
// it is down the service is not ready.
func TestReceiveFailsAndHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var opened atomic.Int64
		heal := time.Now().Add(30 * time.Second)
		first, second := newFeed(), newFeed()
		b := &stubBroker{properties: broker.Properties{Redelivers: true}}
		b.subscribe = func(context.Context, string) (broker.Subscription, error) {
			switch n := opened.Add(1); {
			case n == 1:
				return first, nil
			case time.Now().Before(heal):
				return nil, errors.New("no such stream yet")
			default:
				return second, nil
			}
		}
		var handled atomic.Int64
		var states []string
		r := gostream.NewRouter()
		r.Handle("in", gostream.Consume(func(context.Context, string) error { handled.Add(1); return nil }))
		app := gostream.New("t", "0", quiet())
		app.Observe(gostream.Observer{StateChanged: func(_ *gostream.Subscription, to gostream.State) { states = append(states, to.String()) }})
		app.Mount(b, r)
		run(t, app, func(s *gostream.Service) {
			one, two := &stubMessage{name: "in"}, &stubMessage{name: "in"}
			first.in <- one
			first.in <- errors.New("the stream is gone")
			time.Sleep(10 * time.Second)
			if h := s.Health(t.Context()); h.Ready || h.Subscriptions[0].State != gostream.StateDown {
				t.Errorf("while down: ready %v, state %v", h.Ready, h.Subscriptions[0].State)
			}
			second.in <- two
			time.Sleep(2 * time.Minute)
			if h := s.Health(t.Context()); !h.Ready || h.Subscriptions[0].State != gostream.StateRunning {
				t.Errorf("after healing: ready %v, state %v", h.Ready, h.Subscriptions[0].State)
			}
			if handled.Load() != 2 || !slices.Equal(two.how(), []string{"ack"}) {
				t.Errorf("handled %d, the second is settled as %v", handled.Load(), two.how())
			}
			if n := opened.Load(); n < 4 || n > 20 {
				t.Errorf("subscribed %d times, want a handful with growing delays", n)
			}
		})
		if want := []string{"running", "down", "running", "draining", "stopped"}; !slices.Equal(states, want) {
			t.Errorf("states %v, want %v", states, want)
		}
	})
}

// Where the broker neither delays nor counts, a retry is parked: the delivery stays
// unsettled, the worker is free, the handler is called again on time.
func TestParkedRetry(t *testing.T) {
	for _, workers := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d workers", workers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFeed()
				b := &stubBroker{
					properties: broker.Properties{Redelivers: true},
					subscribe:  func(context.Context, string) (broker.Subscription, error) { return f, nil },
				}
				began := time.Now()
				var mu sync.Mutex
				var log []string
				r := gostream.NewRouter()
				r.Handle("in", gostream.Consume(func(_ context.Context, m gostream.Message[string]) error {
					mu.Lock()
					defer mu.Unlock()
					log = append(log, fmt.Sprintf("%s#%d@%v", m.Body(), m.Attempt(), time.Since(began)))
					if m.Body() == "bad" && m.Attempt() < 3 {
						return gostream.RetryAfter(10*time.Second, nil)
					}
					return nil
				}), gostream.Workers(workers))
				app := gostream.New("t", "0", quiet())
				app.Mount(b, r)
				bad, good := &stubMessage{name: "in", payload: []byte("bad")}, &stubMessage{name: "in", payload: []byte("good")}
				run(t, app, func(s *gostream.Service) {
					f.in <- bad
					synctest.Wait()
					if how := bad.how(); len(how) != 0 {
						t.Errorf("a parked delivery was settled: %v", how)
					}
					f.in <- good
					time.Sleep(time.Minute)
				})
				want := []string{"bad#1@0s", "good#1@0s", "bad#2@10s", "bad#3@20s"}
				if !slices.Equal(log, want) {
					t.Errorf("handled %v, want %v", log, want)
				}
				if how := bad.how(); !slices.Equal(how, []string{"ack"}) {
					t.Errorf("settled %v, want one ack", how)
				}
			})
		})
	}
}

// Parked deliveries count in MaxInFlight: at the limit nothing is received until
// one of them is settled.
func TestMaxInFlightBoundsParked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		b := &stubBroker{
			properties: broker.Properties{Redelivers: true},
			subscribe:  func(context.Context, string) (broker.Subscription, error) { return f, nil },
		}
		var calls atomic.Int64
		r := gostream.NewRouter()
		r.Handle("in", gostream.Consume(func(_ context.Context, m gostream.Message[string]) error {
			calls.Add(1)
			if m.Attempt() == 1 {
				return gostream.RetryAfter(time.Minute, nil)
			}
			return nil
		}), gostream.MaxInFlight(3))
		app := gostream.New("t", "0", quiet())
		app.Mount(b, r)
		run(t, app, func(s *gostream.Service) {
			for range 10 {
				f.in <- &stubMessage{name: "in"}
			}
			time.Sleep(30 * time.Second)
			if calls.Load() != 3 || len(f.in) != 7 {
				t.Errorf("%d calls, %d left, want 3 and 7", calls.Load(), len(f.in))
			}
			if h := s.Health(t.Context()).Subscriptions[0]; h.InFlight != 3 || h.Parked != 3 {
				t.Errorf("in flight %d, parked %d, want 3 and 3", h.InFlight, h.Parked)
			}
			time.Sleep(10 * time.Minute)
			if calls.Load() != 20 || len(f.in) != 0 {
				t.Errorf("%d calls, %d left, want 20 and 0", calls.Load(), len(f.in))
			}
		})
	})
}

// A transport without acknowledgements says so at each settlement; that is no error.
func TestUnsupportedSettlementIsAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		f.drains = true
		b := &stubBroker{subscribe: func(context.Context, string) (broker.Subscription, error) { return f, nil }}
		var logged bytes.Buffer
		var acked atomic.Int64
		r := gostream.NewRouter()
		r.Handle("in", gostream.Consume(func(ctx context.Context, s string) error {
			gostream.AfterAck(ctx, func(context.Context) { acked.Add(1) })
			return nil
		}))
		app := gostream.New("t", "0", gostream.WithLogger(slog.New(slog.NewTextHandler(&logged, nil))))
		app.Mount(b, r)
		run(t, app, func(*gostream.Service) {
			f.in <- &stubMessage{name: "in", settle: func(string) error { return errors.ErrUnsupported }}
			synctest.Wait()
		})
		if acked.Load() != 1 {
			t.Errorf("AfterAck ran %d times, want 1", acked.Load())
		}
		if strings.Contains(logged.String(), "settling failed") {
			t.Errorf("the log complains: %s", logged.String())
		}
		if !strings.Contains(logged.String(), "at most once") {
			t.Error("the log does not say that delivery is at most once")
		}
	})
}

// A settlement that fails is logged and counted, and follows no policy.
func TestSettleFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		b := &stubBroker{properties: broker.Properties{Redelivers: true}, subscribe: func(context.Context, string) (broker.Subscription, error) { return f, nil }}
		var logged bytes.Buffer
		var calls atomic.Int64
		r := gostream.NewRouter()
		r.Handle("in", gostream.Consume(func(context.Context, string) error { calls.Add(1); return nil }))
		app := gostream.New("t", "0", gostream.WithLogger(slog.New(slog.NewTextHandler(&logged, nil))))
		var outcomes outcomeLog
		app.Observe(outcomes.observer())
		app.Mount(b, r)
		m := &stubMessage{name: "in", settle: func(string) error { return broker.ErrStale }}
		run(t, app, func(*gostream.Service) {
			f.in <- m
			time.Sleep(time.Hour)
		})
		if calls.Load() != 1 || len(m.how()) != 1 || outcomes.count(gostream.OutcomeUnsettled) != 1 {
			t.Errorf("%d calls, settled %v, outcomes %v", calls.Load(), m.how(), outcomes.all)
		}
		if !strings.Contains(logged.String(), "settling failed") {
			t.Error("the failed settlement is not logged")
		}
	})
}

// A message that was delivered far more often than its attempts explain goes to the
// dead letter without a call.
func TestCrashGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.NewStore()
		var calls atomic.Int64
		// Other processes take the message and end on it.
		for range gostream.DefaultAttempts + 15 {
			b := memory.New(memory.On(store))
			if err := b.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			if store.Len("in") == 0 {
				publish(t, b, "in", "x")
			}
			sub, err := b.Subscribe(t.Context(), "in")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := sub.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := b.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		mem := memory.New(memory.On(store))
		reason := make(chan string, 1)
		r := gostream.NewRouter()
		r.Handle("in", gostream.Consume(func(context.Context, string) error { calls.Add(1); return nil }), gostream.DeadLetterTo("dead"))
		r.Handle("dead", gostream.Raw(func(_ context.Context, d *gostream.Delivery) error {
			reason <- d.Headers().Get(gostream.HeaderDeadReason)
			return nil
		}))
		app := gostream.New("t", "0", quiet())
		app.Mount(mem, r)
		run(t, app, func(*gostream.Service) {
			if got := <-reason; got != "deliveries exceeded" {
				t.Errorf("reason %q", got)
			}
		})
		if calls.Load() != 0 {
			t.Errorf("the handler was called %d times", calls.Load())
		}
	})
}

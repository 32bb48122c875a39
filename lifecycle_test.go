package gostream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
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

// steps records what happened, in order.
type steps struct {
	mu  sync.Mutex
	all []string
}

func (s *steps) add(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, what)
}

func (s *steps) hook(what string) func(context.Context) error {
	return func(context.Context) error { s.add(what); return nil }
}

func (s *steps) check(t *testing.T, want ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.all, want) {
		t.Errorf("order:\n got %s\nwant %s", strings.Join(s.all, ", "), strings.Join(want, ", "))
	}
}

// stepBroker is a stub that records what is done with it.
func stepBroker(log *steps, name string) *stubBroker {
	return &stubBroker{
		properties: broker.Properties{Redelivers: true},
		connect:    log.hook(name + " connects"),
		shutdown:   log.hook(name + " shuts down"),
		subscribe: func(_ context.Context, sub string) (broker.Subscription, error) {
			log.add(name + " subscribes " + sub)
			return stepFeed{newFeed(), log, sub}, nil
		},
	}
}

type stepFeed struct {
	*feed
	log  *steps
	name string
}

func (f stepFeed) Close(ctx context.Context) error {
	f.log.add("close " + f.name)
	return f.feed.Close(ctx)
}

func nothing(context.Context, string) error { return nil }

func TestOrderOfLifecycle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log steps
		b := stepBroker(&log, "b")
		r := gostream.NewRouter()
		r.Handle("in", gostream.Consume(nothing))
		app := gostream.New("t", "0", quiet())
		app.Mount(b, r)
		app.OnStartup(log.hook("OnStartup 1"))
		app.OnStartup(log.hook("OnStartup 2"))
		app.AfterStartup(log.hook("AfterStartup"))
		app.OnShutdown(log.hook("OnShutdown"))
		app.AfterShutdown(log.hook("AfterShutdown"))
		ctx, cancel := context.WithCancel(t.Context())
		app.AfterStartup(func(context.Context) error { cancel(); return nil })
		if err := app.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
		log.check(t, "OnStartup 1", "OnStartup 2", "b connects", "b subscribes in", "AfterStartup",
			"OnShutdown", "close in", "b shuts down", "AfterShutdown")
		if _, err := app.Start(t.Context()); !errors.Is(err, gostream.ErrStarted) {
			t.Errorf("a second start: %v, want ErrStarted", err)
		}
	})
}

// A start that fails undoes what it did, and says what failed.
func TestFailedStart(t *testing.T) {
	cause := errors.New("refused")
	fail := func(context.Context) error { return cause }
	for _, tc := range []struct {
		name  string
		brk   func(app *gostream.App, one, two *stubBroker)
		want  []string
		words string
	}{
		{"hook", func(app *gostream.App, _, _ *stubBroker) { app.OnStartup(fail) }, nil, "OnStartup hook"},
		{"hook panics", func(app *gostream.App, _, _ *stubBroker) {
			app.OnStartup(func(context.Context) error { panic(cause) })
		}, nil, "OnStartup hook"},
		{
			"second connect", func(_ *gostream.App, _, two *stubBroker) { two.connect = fail },
			[]string{"one connects", "one shuts down"},
			"connect",
		},
		{"second subscribe", func(_ *gostream.App, _, two *stubBroker) {
			two.subscribe = func(context.Context, string) (broker.Subscription, error) { return nil, cause }
		}, []string{"one connects", "two connects", "one subscribes a", "close a", "shut down"}, `subscribe "b"`},
		{
			"after startup", func(app *gostream.App, _, _ *stubBroker) { app.AfterStartup(fail) },
			[]string{"one connects", "two connects", "one subscribes a", "two subscribes b", "close a", "close b", "shut down"},
			"AfterStartup hook",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log steps
				one, two := stepBroker(&log, "one"), stepBroker(&log, "two")
				ra, rb := gostream.NewRouter(), gostream.NewRouter()
				ra.Handle("a", gostream.Consume(nothing))
				rb.Handle("b", gostream.Consume(nothing))
				app := gostream.New("t", "0", quiet())
				app.Mount(one, ra)
				app.Mount(two, rb)
				tc.brk(app, one, two)
				_, err := app.Start(t.Context())
				if !errors.Is(err, cause) || !strings.Contains(err.Error(), tc.words) {
					t.Errorf("Start: %v, want %q and the cause", err, tc.words)
				}
				// Two brokers shut down together: in either order.
				n := len(log.all)
				if n > 2 && strings.HasSuffix(log.all[n-1], "shuts down") && strings.HasSuffix(log.all[n-2], "shuts down") {
					log.all = append(log.all[:n-2], "shut down")
				}
				log.check(t, tc.want...)
			})
		})
	}
}

// Handlers finish with a live context; what fails meanwhile is given back, and a
// parked retry goes back with what remains of its delay.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.NewStore()
		mem := memory.New(memory.On(store))
		var ctxErr error
		r := gostream.NewRouter()
		r.Handle("slow", gostream.Consume(func(ctx context.Context, s string) error {
			time.Sleep(10 * time.Second)
			ctxErr = ctx.Err()
			return nil
		}))
		r.Handle("failing", gostream.Consume(func(context.Context, string) error {
			time.Sleep(5 * time.Second)
			return errors.New("no")
		}))
		app := gostream.New("t", "0", quiet())
		app.Mount(mem, r)
		s, err := app.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			publish(t, mem, "slow", "x")
			publish(t, mem, "failing", "x")
		}
		synctest.Wait()
		began := time.Now()
		if err := s.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		report, ok := s.Report()
		want := gostream.DrainReport{Finished: 1, GivenBack: 1, Took: 10 * time.Second}
		if !ok || report != want {
			t.Errorf("report %+v, want %+v", report, want)
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("the drain took %v", took)
		}
		if ctxErr != nil {
			t.Errorf("the handler's context was %v while it finished", ctxErr)
		}
		if store.Len("slow") != 2 || store.Len("failing") != 3 {
			t.Errorf("left %d and %d, want 2 and 3", store.Len("slow"), store.Len("failing"))
		}
		if h := s.Health(context.Background()); h.Ready || h.Subscriptions[0].State != gostream.StateStopped {
			t.Errorf("after the drain: %+v", h)
		}
	})
}

// Readiness turns false, and messages go on, while OnShutdown hooks run.
func TestReadinessFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := memory.New()
		var handled atomic.Int64
		r := gostream.NewRouter()
		r.Handle("in", gostream.Consume(func(context.Context, string) error { handled.Add(1); return nil }))
		app := gostream.New("t", "0", quiet())
		app.Mount(mem, r)
		app.OnShutdown(func(context.Context) error { time.Sleep(5 * time.Second); return nil })
		s, err := app.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = s.Shutdown(context.Background()) }()
		synctest.Wait()
		if h := s.Health(t.Context()); h.Ready || !h.Draining {
			t.Errorf("ready %v, draining %v, want not ready and draining", h.Ready, h.Draining)
		}
		publish(t, mem, "in", "x")
		synctest.Wait()
		if handled.Load() != 1 {
			t.Error("a message that came before the intake stopped was not handled")
		}
		<-s.Done()
	})
}

// After the shutdown timeout contexts are cancelled with a cause; a handler that
// heeds it finishes in the grace, one that does not is abandoned and counted, and
// its message comes back.
func TestShutdownTimeout(t *testing.T) {
	for _, heeds := range []bool{true, false} {
		for _, hurried := range []bool{false, true} {
			t.Run(fmt.Sprintf("heeds=%v hurried=%v", heeds, hurried), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					store := memory.NewStore()
					mem := memory.New(memory.On(store))
					var cause error
					hang := make(chan struct{})
					r := gostream.NewRouter()
					r.Handle("in", gostream.Consume(func(ctx context.Context, s string) error {
						<-ctx.Done()
						cause = context.Cause(ctx)
						if !heeds {
							<-hang
						}
						return ctx.Err()
					}))
					app := gostream.New("t", "0", quiet(), gostream.ShutdownTimeout(10*time.Second))
					app.Mount(mem, r)
					s, err := app.Start(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					publish(t, mem, "in", "x")
					synctest.Wait()
					began := time.Now()
					ctx, cancel := context.WithCancel(context.Background())
					defer cancel()
					least := 10 * time.Second
					if hurried {
						least = 2 * time.Second
						time.AfterFunc(least, cancel)
					}
					err = s.Shutdown(ctx)
					synctest.Wait()
					if took := time.Since(began); took < least || took > least+3*time.Second {
						t.Errorf("took %v, want between %v and 3 s more", took, least)
					}
					if !errors.Is(cause, gostream.ErrShutdownTimeout) {
						t.Errorf("the cause is %v", cause)
					}
					var drain *gostream.DrainError
					if heeds && err != nil {
						t.Errorf("Shutdown: %v, want a clean drain", err)
					}
					if !heeds && (!errors.As(err, &drain) || drain.Abandoned != 1) {
						t.Errorf("Shutdown: %v, want one abandoned", err)
					}
					if store.Len("in") != 1 {
						t.Errorf("%d messages left, want 1", store.Len("in"))
					}
					close(hang)
				})
			})
		}
	}
}

// Where nothing redelivers, what had been received is handled within the time, and
// what fails then is lost and counted.
func TestDrainWithoutRedelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		f.drains = true
		b := &stubBroker{subscribe: func(context.Context, string) (broker.Subscription, error) { return f, nil }}
		var handled atomic.Int64
		r := gostream.NewRouter()
		r.Handle("in", gostream.Consume(func(_ context.Context, s string) error {
			time.Sleep(time.Second)
			if s == "bad" {
				return errors.New("no")
			}
			handled.Add(1)
			return nil
		}))
		app := gostream.New("t", "0", quiet())
		app.Mount(b, r)
		s, err := app.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		f.in <- &stubMessage{name: "in", payload: []byte("bad"), settle: unsupported}
		time.Sleep(1100 * time.Millisecond) // parked until its next attempt
		for range 4 {
			f.in <- &stubMessage{name: "in", settle: unsupported}
		}
		synctest.Wait()
		err = s.Shutdown(context.Background())
		var drain *gostream.DrainError
		if !errors.As(err, &drain) || drain.Lost != 1 || drain.Finished != 4 || drain.GivenBack != 0 {
			t.Errorf("Shutdown: %v, want 4 finished and 1 lost", err)
		}
		if handled.Load() != 4 {
			t.Errorf("handled %d, want 4", handled.Load())
		}
	})
}

func unsupported(string) error { return errors.ErrUnsupported }

// Errors of hooks and brokers are in the DrainError, and the shutdown goes on. A
// hook that hangs costs its time, and no more.
func TestShutdownErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e1, e2, e3 := errors.New("hook one"), errors.New("broker"), errors.New("hook two")
		b := &stubBroker{shutdown: func(context.Context) error { return e2 }}
		app := gostream.New("t", "0", quiet(), gostream.ShutdownTimeout(time.Minute))
		app.Mount(b)
		release := make(chan struct{})
		app.OnShutdown(func(context.Context) error { return e1 })
		app.OnShutdown(func(context.Context) error { <-release; return nil })
		app.AfterShutdown(func(context.Context) error { panic(e3) })
		s, err := app.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		err = s.Shutdown(context.Background())
		close(release)
		var drain *gostream.DrainError
		if !errors.As(err, &drain) || !errors.Is(err, e1) || !errors.Is(err, e2) || !errors.Is(err, e3) || len(drain.Errs) != 4 {
			t.Errorf("Shutdown: %v, want four errors", err)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("took %v, want the shutdown timeout", took)
		}
	})
}

// Pause stops the intake, a message in hand is handled, retries wait; Resume goes on.
func TestPauseAndResume(t *testing.T) {
	for _, workers := range []int{1, 4} {
		t.Run(fmt.Sprintf("%d workers", workers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFeed()
				b := &stubBroker{properties: broker.Properties{Redelivers: true}, subscribe: func(context.Context, string) (broker.Subscription, error) { return f, nil }}
				var handled atomic.Int64
				began := time.Now()
				var retriedAt time.Duration
				r := gostream.NewRouter()
				r.Handle("in", gostream.Consume(func(_ context.Context, m gostream.Message[string]) error {
					if m.Body() == "slow" {
						time.Sleep(5 * time.Second)
					}
					if m.Body() == "retry" && m.Attempt() == 1 {
						return gostream.RetryAfter(time.Second, nil)
					}
					if m.Body() == "retry" {
						retriedAt = time.Since(began)
					}
					handled.Add(1)
					return nil
				}), gostream.Workers(workers))
				app := gostream.New("t", "0", quiet())
				app.Mount(b, r)
				run(t, app, func(s *gostream.Service) {
					pause := func() {
						t.Helper()
						at := time.Now()
						if err := s.Pause(t.Context(), "in"); err != nil {
							t.Error(err)
						}
						if waited := time.Since(at); waited != 0 {
							t.Errorf("Pause took %v", waited)
						}
					}
					pause() // while a Receive waits
					f.in <- &stubMessage{name: "in", payload: []byte("retry")}
					time.Sleep(time.Minute)
					if handled.Load() != 0 || len(f.in) != 1 {
						t.Errorf("paused: handled %d, %d left", handled.Load(), len(f.in))
					}
					if h := s.Health(t.Context()); !h.Ready || h.Subscriptions[0].State != gostream.StatePaused {
						t.Errorf("paused: %+v", h)
					}
					resume(t, s)
					synctest.Wait() // the first attempt has failed, its retry is due in a second
					f.in <- &stubMessage{name: "in", payload: []byte("slow")}
					synctest.Wait()
					pause() // while the worker, or one of them, is busy
					pause() // twice is once
					f.in <- &stubMessage{name: "in", payload: []byte("late")}
					time.Sleep(time.Minute)
					if handled.Load() != 1 || len(f.in) != 1 || retriedAt != 0 {
						t.Errorf("paused again: handled %d, %d left, retried at %v", handled.Load(), len(f.in), retriedAt)
					}
					resume(t, s)
					synctest.Wait()
					if handled.Load() != 3 || retriedAt != 2*time.Minute {
						t.Errorf("resumed: handled %d, retried at %v", handled.Load(), retriedAt)
					}
					if err := s.Pause(t.Context(), "no such"); !errors.Is(err, gostream.ErrUnknownSubscription) {
						t.Errorf("pausing an unknown subscription: %v", err)
					}
					pause() // a drain ends a pause
				})
			})
		})
	}
}

func resume(t *testing.T, s *gostream.Service) {
	t.Helper()
	if err := s.Resume(t.Context(), "in"); err != nil {
		t.Error(err)
	}
}

// Where the transport does not redeliver, Pause closes the subscription, what had
// arrived is handled, and Resume subscribes again.
func TestPauseWithoutRedelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var feeds []*feed
		b := &stubBroker{subscribe: func(context.Context, string) (broker.Subscription, error) {
			f := newFeed()
			f.drains = true
			feeds = append(feeds, f)
			return f, nil
		}}
		var handled atomic.Int64
		r := gostream.NewRouter()
		r.Handle("in", gostream.Consume(func(context.Context, string) error {
			time.Sleep(time.Second)
			handled.Add(1)
			return nil
		}))
		app := gostream.New("t", "0", quiet())
		app.Mount(b, r)
		run(t, app, func(s *gostream.Service) {
			for range 3 {
				feeds[0].in <- &stubMessage{name: "in", settle: unsupported}
			}
			synctest.Wait()
			if err := s.Pause(t.Context(), "in"); err != nil {
				t.Error(err)
			}
			select {
			case <-feeds[0].closed:
			default:
				t.Error("the subscription is still open")
			}
			resume(t, s) // before all that had arrived is handled
			time.Sleep(time.Minute)
			synctest.Wait()
			if handled.Load() != 3 || len(feeds) != 2 {
				t.Fatalf("handled %d, subscribed %d times, want 3 and 2", handled.Load(), len(feeds))
			}
			feeds[1].in <- &stubMessage{name: "in", settle: unsupported}
			time.Sleep(time.Minute)
			synctest.Wait()
			if handled.Load() != 4 {
				t.Errorf("handled %d, want 4", handled.Load())
			}
			if err := s.Pause(t.Context(), "in"); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
			resume(t, s)
			time.Sleep(time.Minute)
			synctest.Wait()
			if h := s.Health(t.Context()); len(feeds) != 3 || !h.Ready {
				t.Errorf("subscribed %d times, want 3; health %+v", len(feeds), h)
			}
		})
	})
}

// TestDrainUnderLoad cancels Run in the middle of 100,000 messages: what was handled
// and what is left add up, and nothing comes twice without a count that says so.
func TestDrainUnderLoad(t *testing.T) {
	t.Parallel()
	const total, workers = 100_000, 16
	store := memory.NewStore(memory.Capacity(total))
	mem := memory.New(memory.On(store))
	fill := memory.New(memory.On(store))
	if err := fill.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range total {
		publish(t, fill, "in", strconv.Itoa(i))
	}
	if err := fill.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var handled, doubled atomic.Int64
	var seen [total]atomic.Bool
	r := gostream.NewRouter()
	r.Handle("in", gostream.Consume(func(_ context.Context, m gostream.Message[int]) error {
		if m.Body()%1000 == 7 && m.Attempt() == 1 {
			return gostream.RetryAfter(time.Millisecond, nil)
		}
		if seen[m.Body()].Swap(true) && m.Attempt() == 1 {
			doubled.Add(1)
		}
		if handled.Add(1) == total/2 {
			cancel()
		}
		return nil
	}), gostream.Workers(workers))
	app := gostream.New("t", "0", quiet())
	app.Mount(mem, r)
	var report gostream.DrainReport
	app.Observe(gostream.Observer{Drained: func(r gostream.DrainReport) { report = r }})
	if err := app.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
	left := store.Len("in")
	if got := int(handled.Load()) + left; got != total {
		t.Errorf("handled %d + left %d = %d, want %d", handled.Load(), left, got, total)
	}
	if doubled.Load() != 0 {
		t.Errorf("%d messages came twice with a first attempt", doubled.Load())
	}
	if report.Abandoned != 0 || report.Lost != 0 || report.Finished > workers || report.Finished+report.GivenBack > 2*workers {
		t.Errorf("report %+v: at most what %d workers had in hand", report, workers)
	}
	// The rest is handled by the next service on the same store.
	rest := make(chan struct{})
	var again atomic.Int64
	r2 := gostream.NewRouter()
	r2.Handle("in", gostream.Consume(func(_ context.Context, m gostream.Message[int]) error {
		if seen[m.Body()].Swap(true) {
			doubled.Add(1)
		}
		if again.Add(1) == int64(left) {
			close(rest)
		}
		return nil
	}))
	next := gostream.New("t", "0", quiet())
	next.Mount(memory.New(memory.On(store)), r2)
	if left > 0 {
		run(t, next, func(*gostream.Service) { <-rest })
	}
	for i := range seen {
		if !seen[i].Load() {
			t.Fatalf("message %d was never handled", i)
		}
	}
	if doubled.Load() != 0 {
		t.Errorf("%d messages came twice", doubled.Load())
	}
	if store.Len("in") != 0 {
		t.Errorf("%d messages are left at the end", store.Len("in"))
	}
}

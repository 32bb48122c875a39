package gostream_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

// hostileError panics when it is asked for anything.
type hostileError struct{}

func (*hostileError) Error() string   { panic("Error") }
func (*hostileError) Is(error) bool   { panic("Is") }
func (*hostileError) As(any) bool     { panic("As") }
func (*hostileError) Unwrap() []error { panic("Unwrap") }

// An error whose methods panic is a failure as any other: retried, then dead-lettered.
func TestHostileError(t *testing.T) {
	for _, batch := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			store := memory.NewStore()
			mem := memory.New(memory.On(store))
			var h gostream.Handler = gostream.Consume(func(context.Context, string) error { return (*hostileError)(nil) })
			if batch {
				h = gostream.ConsumeBatch(func(context.Context, []string) error { return (*hostileError)(nil) }, 2, 0)
			}
			app := batchApp(mem, h, gostream.DeadLetterTo("dead"), gostream.OnError(gostream.Is(errors.New("x")).Reject()))
			run(t, app, func(*gostream.Service) {
				publish(t, mem, "in", "x")
				time.Sleep(time.Hour)
				synctest.Wait()
			})
			if store.Len("dead") != 1 || store.Len("in") != 0 {
				t.Errorf("batch=%v: dead %d, left %d", batch, store.Len("dead"), store.Len("in"))
			}
		})
	}
}

// A request whose reply-to the broker refuses does not hold its place for ever: it
// goes to the dead letter, or is rejected where there is none.
func TestUnanswerableRequest(t *testing.T) {
	for _, declared := range []bool{true, false} {
		for _, fails := range []bool{true, false} {
			synctest.Test(t, func(t *testing.T) {
				store := memory.NewStore()
				mem := memory.New(memory.On(store))
				var options []gostream.HandleOption
				if declared {
					options = append(options, gostream.DeadLetterTo("dead"))
				}
				app := batchApp(mem, gostream.Reply(func(context.Context, string) (string, error) {
					if fails {
						return "", errors.New("no")
					}
					return "yes", nil
				}).ToReplyTo(), options...)
				run(t, app, func(s *gostream.Service) {
					publish(t, mem, "in", "x", broker.Header{Key: broker.HeaderReplyTo, Value: "not a name"})
					time.Sleep(time.Minute)
					synctest.Wait()
					h := s.Health(t.Context())
					if h.Subscriptions[0].InFlight != 0 || h.SendFailures == 0 {
						t.Errorf("declared=%v fails=%v: health %+v", declared, fails, h)
					}
				})
				want := 0
				if declared {
					want = 1
				}
				if store.Len("in") != 0 || store.Len("dead") != want {
					t.Errorf("declared=%v fails=%v: left %d, dead %d", declared, fails, store.Len("in"), store.Len("dead"))
				}
			})
		}
	}
}

// A handler that decides on a retry outright is not limited by the guard against
// messages that end the process.
func TestRetryIsNotLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.NewStore()
		mem := memory.New(memory.On(store))
		var calls atomic.Int64
		app := batchApp(mem, gostream.Consume(func(context.Context, string) error {
			if calls.Add(1) < 100 {
				return gostream.RetryAfter(time.Second, nil)
			}
			return nil
		}), gostream.DeadLetterTo("dead"))
		run(t, app, func(*gostream.Service) {
			publish(t, mem, "in", "x")
			time.Sleep(time.Hour)
			synctest.Wait()
		})
		if calls.Load() != 100 || store.Len("dead") != 0 || store.Len("in") != 0 {
			t.Errorf("%d calls, dead %d, left %d", calls.Load(), store.Len("dead"), store.Len("in"))
		}
	})
}

// Each attempt is told of once, also where its message is let go later.
func TestSettledOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		b := &stubBroker{properties: broker.Properties{Redelivers: true}, subscribe: func(context.Context, string) (broker.Subscription, error) { return f, nil }}
		app := batchApp(b, gostream.Consume(func(_ context.Context, s string) error {
			if s == "fatal" {
				return gostream.FailFast(errors.New("no"))
			}
			return errors.New("no")
		}))
		var outcomes outcomeLog
		app.Observe(outcomes.observer())
		s, err := app.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		f.in <- &stubMessage{name: "in", payload: []byte("parked")}
		synctest.Wait()
		f.in <- &stubMessage{name: "in", payload: []byte("fatal")}
		if err := s.Wait(); err == nil {
			t.Error("the app did not fail")
		}
		if len(outcomes.all) != 2 || outcomes.count(gostream.OutcomeRetried) != 1 || outcomes.count(gostream.OutcomeGivenBack) != 1 {
			t.Errorf("told of %v", outcomes.all)
		}
		if report, _ := s.Report(); report.GivenBack != 2 {
			t.Errorf("report %+v, want both given back", report)
		}
	})
}

// A publisher made after the start works; one that cannot says why.
func TestLatePublisher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.NewStore()
		mem := memory.New(memory.On(store))
		app := gostream.New("t", "0", quiet())
		app.Mount(mem)
		var seen atomic.Int64
		app.UsePublish(func(next gostream.PublishNext) gostream.PublishNext {
			return func(ctx context.Context, msgs []broker.OutgoingMessage) error { seen.Add(1); return next(ctx, msgs) }
		})
		run(t, app, func(*gostream.Service) {
			if err := gostream.NewPublisher[int](app, mem, "out").Publish(t.Context(), 1); err != nil {
				t.Error(err)
			}
			if err := gostream.NewPublisher[int](app, memory.New(), "out").Publish(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "not mounted") {
				t.Errorf("on a broker that is not mounted: %v", err)
			}
			if err := gostream.NewPublisher[int](nil, mem, "out").Publish(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "nil app") {
				t.Errorf("with a nil app: %v", err)
			}
		})
		if store.Len("out") != 1 || seen.Load() != 1 {
			t.Errorf("%d published, %d through the middleware", store.Len("out"), seen.Load())
		}
	})
}

// The context of Shutdown bounds its hooks too.
func TestShutdownContextBoundsHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := gostream.New("t", "0", quiet())
		app.Mount(memory.New())
		app.OnShutdown(func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(20 * time.Second):
				return nil
			}
		})
		s, err := app.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		err = s.Shutdown(ctx)
		if took := time.Since(began); took != time.Second || !errors.Is(err, gostream.ErrShutdownTimeout) {
			t.Errorf("took %v: %v", took, err)
		}
	})
}

// A subscription that is paused while it is down is paused when it is open again.
func TestPausedWhileDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		feeds := []*feed{newFeed(), newFeed()}
		next := 0
		b := &stubBroker{properties: broker.Properties{Redelivers: true}}
		release := make(chan struct{})
		b.subscribe = func(context.Context, string) (broker.Subscription, error) {
			if next == 1 {
				<-release // it ignores its context, and pause comes meanwhile
			}
			next++
			return feeds[next-1], nil
		}
		app := batchApp(b, gostream.Consume(nothing))
		run(t, app, func(s *gostream.Service) {
			feeds[0].in <- errors.New("gone")
			time.Sleep(time.Second)
			synctest.Wait()
			paused := make(chan error, 1)
			go func() { paused <- s.Pause(t.Context(), "in") }()
			synctest.Wait()
			close(release)
			if err := <-paused; err != nil {
				t.Error(err)
			}
			if state := s.Health(t.Context()).Subscriptions[0].State; state != gostream.StatePaused {
				t.Errorf("state %v, want paused", state)
			}
			resume(t, s)
			synctest.Wait()
			if state := s.Health(t.Context()).Subscriptions[0].State; state != gostream.StateRunning {
				t.Errorf("state %v, want running", state)
			}
		})
	})
}

// What is ignored with a reason leaves a line in the log.
func TestIgnoredIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged bytes.Buffer
		mem := memory.New()
		r := gostream.NewRouter()
		r.Handle("in", gostream.Consume(func(_ context.Context, s string) error {
			if s == "reason" {
				return gostream.Ignore(errors.New("an old format"))
			}
			return gostream.Ignore(nil)
		}))
		app := gostream.New("t", "0", gostream.WithLogger(slog.New(slog.NewTextHandler(&logged, nil))))
		app.Mount(mem, r)
		run(t, app, func(*gostream.Service) {
			publish(t, mem, "in", "reason")
			publish(t, mem, "in", "none")
			time.Sleep(time.Second)
			synctest.Wait()
		})
		if n := strings.Count(logged.String(), "message is ignored"); n != 1 || !strings.Contains(logged.String(), "an old format") {
			t.Errorf("%d lines:\n%s", n, logged.String())
		}
	})
}

// NoDeadLetter takes an outer declaration back; a requester has the app's codecs, and
// a codec that panics on an answer is an error.
func TestOuterSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := memory.New()
		r := gostream.NewRouter(gostream.DeadLetterTo("dead"))
		r.Handle("with", gostream.Consume(nothing))
		r.Handle("without", gostream.Consume(nothing), gostream.NoDeadLetter())
		r.Handle("ask", gostream.Reply(func(context.Context, int) (gostream.Outgoing[int], error) {
			return gostream.Outgoing[int]{Body: 1, Headers: broker.NewHeaders(broker.Header{Key: broker.HeaderContentType, Value: "application/x-panics"})}, nil
		}).ToReplyTo())
		app := gostream.New("t", "0", quiet(), gostream.Codecs(strangeCodec{gostream.JSON}))
		app.Mount(mem, r)
		ask := gostream.NewRequester[int, int](app, mem, "ask")
		d, err := app.Describe()
		if err != nil {
			t.Fatal(err)
		}
		if len(d.Subscriptions[0].DeadLetters) != 1 || len(d.Subscriptions[1].DeadLetters) != 0 {
			t.Errorf("dead letters %v and %v", d.Subscriptions[0].DeadLetters, d.Subscriptions[1].DeadLetters)
		}
		run(t, app, func(*gostream.Service) {
			_, err := ask.Request(t.Context(), 1)
			var p *gostream.PanicError
			if !errors.As(err, &p) {
				t.Errorf("Request: %v, want the codec's panic", err)
			}
		})
	})
}

// strangeCodec panics when it decodes.
type strangeCodec struct{ gostream.Codec }

func (strangeCodec) ContentType() string         { return "application/x-panics" }
func (strangeCodec) Unmarshal([]byte, any) error { panic("codec") }

// A codec for JSON among Codecs replaces the default one; a codec without a content
// type is a mistake.
func TestNearerCodec(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := memory.New()
		var decoded atomic.Int64
		app := batchApp(mem, gostream.Consume(func(context.Context, int) error { return nil }),
			gostream.Codecs(codecFunc(func() { decoded.Add(1) })))
		run(t, app, func(*gostream.Service) {
			publish(t, mem, "in", "1")
			synctest.Wait()
		})
		if decoded.Load() != 1 {
			t.Errorf("the listed codec decoded %d payloads, want 1", decoded.Load())
		}
	})
	app := batchApp(memory.New(), gostream.Consume(func(context.Context, int) error { return nil }), gostream.WithCodec(namelessCodec{gostream.JSON}))
	if err := app.Check(); err == nil || !strings.Contains(err.Error(), "has no content type") {
		t.Errorf("Check: %v", err)
	}
}

// namelessCodec has no content type.
type namelessCodec struct{ gostream.Codec }

func (namelessCodec) ContentType() string { return "" }

// wrapped is an error that panics where it is nil.
type wrapped struct{ err error }

func (e *wrapped) Error() string { return e.err.Error() }
func (e *wrapped) Unwrap() error { return e.err }

// staleMessage is not ours any more.
type staleMessage struct{ *stubMessage }

func (staleMessage) Stale() bool { return true }

// A stale message whose error panics when it is asked for its text is let go as any
// other, and the next message is handled.
func TestStaleMessageWithHostileError(t *testing.T) {
	for _, batch := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := newFeed()
			b := atMostOnce(f)
			b.properties.Redelivers = true
			handle := func(payload string) error {
				if payload == "stale" {
					var e *wrapped
					return e
				}
				return nil
			}
			var h gostream.Handler = gostream.Consume(func(_ context.Context, payload string) error { return handle(payload) })
			if batch {
				h = gostream.ConsumeBatch(func(_ context.Context, payloads []string) error { return handle(payloads[0]) }, 1, 0)
			}
			r := gostream.NewRouter()
			r.Handle("in", h)
			var logged bytes.Buffer
			app := gostream.New("t", "0", gostream.WithLogger(slog.New(slog.NewTextHandler(&logged, nil))))
			app.Mount(b, r)
			stale, next := incoming("stale"), incoming("next")
			run(t, app, func(s *gostream.Service) {
				f.in <- staleMessage{stale}
				f.in <- next
				synctest.Wait()
				if h := s.Health(t.Context()).Subscriptions[0]; h.InFlight != 0 {
					t.Errorf("batch=%v: health %+v", batch, h)
				}
			})
			wantAcked(t, []*stubMessage{next})
			if len(stale.how()) != 0 || !strings.Contains(logged.String(), "is stale, it is let go") {
				t.Errorf("batch=%v: the stale message was settled as %v\n%s", batch, stale.how(), logged.String())
			}
		})
	}
}

// A publish middleware that ends its goroutine while a dead letter is sent is a
// failure of that publish, which is repeated.
func TestGoexitWhileDeadLettering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		b := atMostOnce(f)
		b.properties.Redelivers = true
		var published, tries atomic.Int64
		b.publish = func(context.Context, broker.OutgoingMessage) error { published.Add(1); return nil }
		app := batchApp(b, gostream.Consume(func(context.Context, string) error { return gostream.DeadLetter(nil) }), gostream.DeadLetterTo("dead"))
		app.UsePublish(func(next gostream.PublishNext) gostream.PublishNext {
			return func(ctx context.Context, msgs []broker.OutgoingMessage) error {
				if tries.Add(1) <= 3 {
					exit()
				}
				return next(ctx, msgs)
			}
		})
		m := incoming("a")
		run(t, app, func(s *gostream.Service) {
			f.in <- m
			synctest.Wait()
			if h := s.Health(t.Context()); h.Subscriptions[0].InFlight != 1 || h.Subscriptions[0].Parked != 1 || h.SendFailures != 1 {
				t.Errorf("after the first try: health %+v, want one parked", h)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			if h := s.Health(t.Context()).Subscriptions[0]; h.InFlight != 0 {
				t.Errorf("at rest: health %+v", h)
			}
		})
		wantAcked(t, []*stubMessage{m})
		if published.Load() != 1 || tries.Load() != 4 {
			t.Errorf("%d dead letters in %d tries, want 1 in 4", published.Load(), tries.Load())
		}
	})
}

// A key that waits without end is warned of, also where the rule that retries is one
// for every error, and not where that rule ends.
func TestEndlessKeyIsWarnedOf(t *testing.T) {
	endless := gostream.AnyError().Retry(gostream.Constant(time.Second))
	for _, test := range []struct {
		name string
		rule gostream.PolicyRule
		dead bool
		want bool
	}{
		{"endless", endless, false, true},
		{"endless with a dead letter", endless, true, true},
		{"rejected", gostream.AnyError().Reject(), false, false},
		{"limited", gostream.AnyError().Retry(gostream.Constant(time.Second).Attempts(3)).ThenReject(), false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := atMostOnce(newFeed())
				b.properties.Redelivers = true
				options := []gostream.HandleOption{gostream.Workers(2), gostream.ByKey(), gostream.OnError(test.rule)}
				if test.dead {
					options = append(options, gostream.DeadLetterTo("dead"))
				}
				r := gostream.NewRouter()
				r.Handle("in", gostream.Consume(nothing), options...)
				var logged bytes.Buffer
				app := gostream.New("t", "0", gostream.WithLogger(slog.New(slog.NewTextHandler(&logged, nil))))
				app.Mount(b, r)
				run(t, app, func(*gostream.Service) {})
				if got := strings.Contains(logged.String(), "waits without end"); got != test.want {
					t.Errorf("warned=%v, want %v\n%s", got, test.want, logged.String())
				}
			})
		})
	}
}

// A message that shuts the app down while the other subscriptions are being started
// races with none of them, and none of them outlives the drain.
func TestFailFastDuringStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const others = 3000
		cause := errors.New("no")
		f := newFeed()
		b := atMostOnce(f)
		b.properties.Redelivers = true
		b.subscribe = func(_ context.Context, name string) (broker.Subscription, error) {
			if name == "in" {
				return f, nil
			}
			return newFeed(), nil
		}
		r := gostream.NewRouter()
		r.Handle("in", gostream.Consume(func(context.Context, string) error { return gostream.FailFast(cause) }))
		for i := range others {
			r.Handle("other"+strconv.Itoa(i), gostream.Consume(nothing))
		}
		app := gostream.New("t", "0", quiet())
		app.Mount(b, r)
		f.in <- incoming("a")
		began := time.Now()
		if err := begin(t, app).Wait(); !errors.Is(err, cause) {
			t.Errorf("Wait: %v, want %v", err, cause)
		}
		if took := time.Since(began); took >= time.Second {
			t.Errorf("the drain took %v", took)
		}
	})
}

// A pause that comes while a message is received returns when that is handed over,
// also where every worker is busy with a handler then.
func TestPauseWithAllWorkersBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		b := atMostOnce(f)
		b.properties.Redelivers = true
		release := make(chan struct{})
		app := batchApp(b, gostream.Consume(func(context.Context, string) error { <-release; return nil }), gostream.Workers(2), gostream.ByKey())
		run(t, app, func(s *gostream.Service) {
			var asked atomic.Bool
			f.in <- keyAsked{incoming("a"), nil}
			synctest.Wait()
			f.in <- keyAsked{incoming("b"), func() {
				if !asked.Swap(true) {
					time.Sleep(100 * time.Millisecond) // received, and not handed over yet
				}
			}}
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := s.Pause(ctx, "in"); err != nil {
				t.Errorf("Pause: %v", err)
			}
			close(release)
		})
	})
}

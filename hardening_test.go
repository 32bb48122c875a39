package gostream_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
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

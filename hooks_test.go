package gostream_test

import (
	"context"
	"errors"
	"fmt"
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
)

// alteredSource is a subscription by name whose messages are altered: what they
// can do is hidden, or fails.
type alteredSource struct {
	broker.ByName
	alter func(broker.IncomingMessage) broker.IncomingMessage
}

func (s alteredSource) Subscribe(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
	sub, err := s.ByName.Subscribe(ctx, b)
	return alteredSubscription{sub, s.alter}, err
}

type alteredSubscription struct {
	broker.Subscription
	alter func(broker.IncomingMessage) broker.IncomingMessage
}

func (s alteredSubscription) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	m, err := s.Subscription.Receive(ctx)
	if err != nil {
		return nil, err
	}
	return s.alter(m), nil
}

// plain hides the optional interfaces of a message: its retries are parked.
func plain(m broker.IncomingMessage) broker.IncomingMessage {
	return struct{ broker.IncomingMessage }{m}
}

// unackable is a message whose Ack fails.
type unackable struct{ broker.IncomingMessage }

func (unackable) Ack(context.Context) error { return errBroken }

func asUnackable(m broker.IncomingMessage) broker.IncomingMessage { return unackable{m} }

// hooked notes the hooks of one test as "name outcome", in the order of their calls.
type hooked struct{ notes }

func (h *hooked) onAck(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	if !gostream.AfterAck(ctx, func(context.Context) { h.add(name + " acked") }) {
		t.Errorf("AfterAck %s was refused", name)
	}
}

func (h *hooked) onSettle(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	if !gostream.AfterSettle(ctx, func(_ context.Context, o gostream.Outcome) { h.add(name + " settled as " + o.String()) }) {
		t.Errorf("AfterSettle %s was refused", name)
	}
}

func (h *hooked) want(t *testing.T, want ...string) {
	t.Helper()
	if got := h.take(); !slices.Equal(got, want) {
		t.Errorf("the hooks ran as %q, want %q", got, want)
	}
}

func TestHooksByOutcome(t *testing.T) {
	t.Parallel()
	toDead := gostream.OnError(gostream.Is(errBroken).DeadLetterTo("dead"))
	for name, tt := range map[string]struct {
		err  error
		opts []gostream.HandleOption
		want []string
	}{
		"success":       {nil, nil, []string{"1 acked", "1 settled as acked"}},
		"Ignore":        {gostream.Ignore(nil), nil, []string{"1 settled as ignored"}},
		"Reject":        {gostream.Reject(nil), nil, []string{"1 settled as rejected"}},
		"RetryAfter":    {gostream.RetryAfter(time.Hour, nil), nil, []string{"1 settled as retried"}},
		"an error":      {errBroken, nil, []string{"1 settled as retried"}},
		"a dead letter": {errBroken, []gostream.HandleOption{toDead}, []string{"1 settled as dead-lettered"}},
		"a rule that ignores": {
			errBroken,
			[]gostream.HandleOption{gostream.OnError(gostream.AnyError().Ignore())},
			[]string{"1 settled as ignored"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			onStand(t, func(t *testing.T, s *stand) {
				var ran hooked
				s.router.Handle("parcels", gostream.Consume(func(ctx context.Context, v string) error {
					ran.onAck(t, ctx, v)
					ran.onSettle(t, ctx, v)
					return tt.err
				}), tt.opts...)
				s.start()
				s.send("parcels", "1")
				ran.want(t, tt.want...)
			})
		})
	}
}

func TestHooksOfARequest(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var ran hooked
		s.router.Handle("prices", gostream.Reply(func(ctx context.Context, v string) (string, error) {
			ran.onAck(t, ctx, v)
			ran.onSettle(t, ctx, v)
			if v == "bad" {
				return "", errBroken
			}
			return v, nil
		}).ToReplyTo())
		s.start()
		s.send("prices", "good", field("reply-to", "answers"))
		s.send("prices", "bad", field("reply-to", "answers"))
		ran.want(t, "good acked", "good settled as acked", "bad settled as error-replied")
	})
}

func TestHooksOfADrain(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var ran hooked
		s.router.Handle("parcels", gostream.Consume(func(ctx context.Context, v string) error {
			ran.onAck(t, ctx, v)
			ran.onSettle(t, ctx, v)
			time.Sleep(time.Second)
			return errBroken
		}))
		s.start()
		s.send("parcels", "1")
		s.stop()
		ran.want(t, "1 settled as given-back")
		s.wantLeft("parcels", 1)
	})
}

func TestHooksOfAFailedAck(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var ran hooked
		var got []gostream.SettledEvent
		s.app.Observe(gostream.Observer{Settled: func(e gostream.SettledEvent) { got = append(got, e) }})
		s.router.HandleSource(alteredSource{"parcels", asUnackable}, gostream.Consume(func(ctx context.Context, v string) error {
			ran.onAck(t, ctx, v)
			ran.onSettle(t, ctx, v)
			return nil
		}))
		s.start()
		s.send("parcels", "1")
		ran.want(t, "1 settled as unsettled")
		if len(got) != 1 || got[0].Outcome != gostream.OutcomeUnsettled || !errors.Is(got[0].Err, errBroken) {
			t.Errorf("the observer saw %+v, want what failed", got)
		}
		s.wantLeft("parcels", 1)
	})
}

// AfterAck means what it says: at its time the broker has the acknowledgement, and
// what failed before it is published.
func TestAfterAckComesAfterTheAck(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		unsettled, replies := -1, -1
		s.router.Handle("parcels", gostream.Reply(func(ctx context.Context, _ string) (string, error) {
			gostream.AfterAck(ctx, func(context.Context) {
				unsettled, replies = s.store.Len("parcels"), s.store.Len("receipts")
			})
			return "r", nil
		}).To("receipts"))
		s.start()
		s.send("parcels", "x")
		if unsettled != 0 || replies != 1 {
			t.Errorf("after the ack %d messages are unsettled and %d replies published", unsettled, replies)
		}
	})
}

// The reply is the last thing that can fail: then AfterAck does not run.
func TestAfterAckWithoutTheReply(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var ran hooked
		s.router.Handle("parcels", gostream.Reply(func(ctx context.Context, v string) (failingJSON, error) {
			ran.onAck(t, ctx, v)
			return failingJSON{}, nil
		}).To("receipts"), gostream.OnError(gostream.AnyError().Ignore()))
		s.start()
		s.send("parcels", "1")
		ran.want(t)
		s.wantLeft("parcels", 0)
	})
}

// Hooks belong to the attempt that added them, whether a retry waits at the broker
// or here, and run at most once.
func TestHooksBelongToOneAttempt(t *testing.T) {
	t.Parallel()
	for name, src := range map[string]broker.Source{
		"delayed by the broker": broker.ByName("parcels"),
		"parked":                alteredSource{"parcels", plain},
	} {
		t.Run(name, func(t *testing.T) {
			onStand(t, func(t *testing.T, s *stand) {
				var ran hooked
				var kept []context.Context
				s.router.HandleSource(src, gostream.Raw(func(ctx context.Context, d *gostream.Delivery) error {
					for _, old := range kept {
						if gostream.AfterAck(old, func(context.Context) { ran.add("too late") }) {
							t.Error("an attempt that has ended takes a hook")
						}
					}
					kept = append(kept, ctx)
					name := fmt.Sprint(d.Attempt())
					switch d.Attempt() {
					case 1:
						ran.onAck(t, ctx, name)
						ran.onSettle(t, ctx, name)
						return errBroken
					case 2:
						return errBroken
					case 3:
						ran.onAck(t, ctx, name)
						ran.onSettle(t, ctx, name)
					}
					return nil
				}), gostream.OnError(gostream.AnyError().Retry(gostream.Constant(time.Second))))
				s.start()
				s.send("parcels", "x")
				ran.want(t, "1 settled as retried")
				s.pass(time.Second)
				ran.want(t)
				s.pass(time.Second)
				ran.want(t, "3 acked", "3 settled as acked")
				if len(kept) != 3 {
					t.Fatalf("%d attempts, want 3", len(kept))
				}
				for i, ctx := range kept {
					if gostream.AfterAck(ctx, func(context.Context) {}) || gostream.AfterSettle(ctx, func(context.Context, gostream.Outcome) {}) {
						t.Errorf("attempt %d has ended and takes a hook", i+1)
					}
				}
				s.wantLeft("parcels", 0)
				s.stop()
				ran.want(t)
			})
		})
	}
}

// While only the publish of a dead letter is repeated, the attempt has not ended.
func TestHooksOfARepeatedDeadLetter(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var ran hooked
		tries := 0
		s.app.UsePublish(func(next gostream.PublishNext) gostream.PublishNext {
			return func(ctx context.Context, msgs []broker.OutgoingMessage) error {
				if tries++; tries < 3 {
					return errBroken
				}
				return next(ctx, msgs)
			}
		})
		s.router.Handle("parcels", gostream.Consume(func(ctx context.Context, v string) error {
			ran.onSettle(t, ctx, v)
			return errBroken
		}), gostream.OnError(gostream.AnyError().DeadLetterTo("dead")))
		s.start()
		s.send("parcels", "1")
		ran.want(t)
		s.pass(time.Minute)
		ran.want(t, "1 settled as dead-lettered")
		s.takeOne("dead")
	})
}

func TestHooksOutsideOfADelivery(t *testing.T) {
	t.Parallel()
	called := func(context.Context) { t.Error("called") }
	if gostream.AfterAck(t.Context(), called) {
		t.Error("AfterAck: true")
	}
	if gostream.AfterSettle(t.Context(), func(ctx context.Context, _ gostream.Outcome) { called(ctx) }) {
		t.Error("AfterSettle: true")
	}
}

func TestHooksFromMiddleware(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var ran hooked
		s.app.Use(func(next gostream.Next) gostream.Next {
			return func(ctx context.Context, b *gostream.Batch) error {
				ran.onAck(t, ctx, "before")
				err := next(ctx, b)
				ran.onAck(t, ctx, "after")
				return err
			}
		})
		s.router.Handle("parcels", gostream.Consume(func(ctx context.Context, _ string) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			ran.onAck(t, ctx, "handler")
			return nil
		}))
		s.start()
		s.send("parcels", "x")
		ran.want(t, "before acked", "handler acked", "after acked")
	})
}

// Hooks may be added by many goroutines, also while the attempt ends: one that was
// taken runs, one that was refused does not.
func TestHooksAreAddedConcurrently(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		const adders, messages = 4, 200
		var taken, ran, early atomic.Int64
		var done sync.WaitGroup
		s.router.Handle("parcels", gostream.Consume(func(ctx context.Context, _ string) error {
			begin := make(chan struct{})
			var begun sync.WaitGroup
			for range adders {
				begun.Add(1)
				done.Go(func() {
					add := func() bool { return gostream.AfterAck(ctx, func(context.Context) { ran.Add(1) }) }
					<-begin
					if add() {
						taken.Add(1)
						early.Add(1)
					}
					begun.Done()
					for n := 0; n < 1000 && add(); n++ {
						taken.Add(1)
					}
				})
			}
			close(begin)
			begun.Wait()
			return nil
		}))
		s.start()
		for range messages {
			s.send("parcels", "x")
			done.Wait()
		}
		synctest.Wait()
		if early.Load() != adders*messages {
			t.Errorf("%d hooks were taken while the handler ran, want %d", early.Load(), adders*messages)
		}
		if taken.Load() != ran.Load() {
			t.Errorf("%d hooks were taken, %d ran", taken.Load(), ran.Load())
		}
	})
}

func TestHookPanics(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var ran hooked
		s.router.Handle("parcels", gostream.Consume(func(ctx context.Context, v string) error {
			ran.onAck(t, ctx, v)
			gostream.AfterAck(ctx, func(context.Context) { panic("hook " + v) })
			gostream.AfterSettle(ctx, func(context.Context, gostream.Outcome) { panic(errBroken) })
			ran.onSettle(t, ctx, v)
			return nil
		}), gostream.Named("sorter"))
		s.start()
		s.send("parcels", "1")
		s.send("parcels", "2")
		ran.want(t, "1 acked", "1 settled as acked", "2 acked", "2 settled as acked")
		for _, text := range []string{`panic="hook 1"`, `panic="hook 2"`} {
			if lines := s.logs.lines("level=ERROR", "subscription=sorter", text, "hooks_test.go"); len(lines) != 1 {
				t.Errorf("%d lines of the log say %s, with the stack, want 1:\n%s", len(lines), text, s.logs)
			}
		}
		if lines := s.logs.lines("level=ERROR", "panic=broken"); len(lines) != 2 {
			t.Errorf("%d lines of the log tell of the second hooks, want 2:\n%s", len(lines), s.logs)
		}
		s.wantLeft("parcels", 0)
	})
}

// A hook that ends its goroutine stops neither the hooks after it, nor those of
// other messages, nor the drain.
func TestHookCallsGoexit(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var ran hooked
		gate := make(chan struct{})
		s.router.Handle("parcels", gostream.Consume(func(ctx context.Context, v string) error {
			gostream.AfterAck(ctx, func(context.Context) { <-gate })
			gostream.AfterAck(ctx, func(context.Context) { runtime.Goexit() })
			ran.onAck(t, ctx, v)
			gostream.AfterSettle(ctx, func(context.Context, gostream.Outcome) { runtime.Goexit() })
			ran.onSettle(t, ctx, v)
			return nil
		}), gostream.Named("sorter"))
		s.start()
		const n = 40 // more than run at once, so that some wait
		var want []string
		for i := range n {
			v := fmt.Sprint(i)
			s.send("parcels", v)
			want = append(want, v+" acked", v+" settled as acked")
		}
		close(gate)
		s.stop()
		got := ran.take()
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("the hooks ran as %q, want %q", got, want)
		}
		if lines := s.logs.lines("level=ERROR", "subscription=sorter", "Goexit"); len(lines) != 2*n {
			t.Errorf("%d lines of the log tell of it, want %d", len(lines), 2*n)
		}
	})
}

func TestHooksRunOffTheDeliveryPath(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		gate := make(chan struct{})
		var handled []string
		var ran hooked
		s.router.Handle("parcels", gostream.Consume(func(ctx context.Context, v string) error {
			handled = append(handled, v)
			gostream.AfterAck(ctx, func(ctx context.Context) {
				if ctx.Err() != nil || ctx.Value(ctxKey{}) != "from Start" {
					t.Errorf("the hook's context: %v, %v", ctx.Err(), ctx.Value(ctxKey{}))
				}
				if gostream.AfterAck(ctx, func(context.Context) {}) {
					t.Error("the hook's context belongs to a delivery")
				}
				if v == "blocking" {
					<-gate
				}
				ran.add(v)
			})
			return nil
		}))
		s.startWith(context.WithValue(t.Context(), ctxKey{}, "from Start"))
		s.send("parcels", "blocking")
		s.send("parcels", "next")
		if !slices.Equal(handled, []string{"blocking", "next"}) {
			t.Errorf("handled are %q: a hook holds up the messages", handled)
		}
		ran.want(t, "next")
		close(gate)
		synctest.Wait()
		ran.want(t, "blocking")
	})
}

// The drain waits for hooks, with a live context, also for those that it sets off.
func TestDrainWaitsForHooks(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var ran hooked
		slow := func(ctx context.Context, v string) {
			time.Sleep(2 * time.Second)
			if err := ctx.Err(); err != nil {
				t.Errorf("the context of the hook of %s has ended: %v", v, err)
			}
			ran.add(v)
		}
		s.router.Handle("parcels", gostream.Consume(func(ctx context.Context, v string) error {
			gostream.AfterAck(ctx, func(ctx context.Context) { slow(ctx, v) })
			if v == "2" {
				time.Sleep(10 * time.Second)
			}
			return nil
		}))
		s.start()
		s.send("parcels", "1")
		s.send("parcels", "2")
		begun := time.Now()
		s.stop()
		ran.want(t, "1", "2")
		if took := time.Since(begun); took != 12*time.Second {
			t.Errorf("the drain took %v, want 10 s of the handler and 2 s of its hook", took)
		}
	})
}

// Hooks have the grace of the drain, and no more.
func TestDrainLeavesALateHook(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var took time.Duration
		s.router.Handle("parcels", gostream.Consume(func(ctx context.Context, _ string) error {
			begun := time.Now()
			gostream.AfterAck(ctx, func(ctx context.Context) {
				<-ctx.Done()
				took = time.Since(begun)
			})
			return nil
		}))
		svc, err := s.app.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s.send("parcels", "x")
		err = svc.Shutdown(context.Background())
		synctest.Wait()
		var de *gostream.DrainError
		if !errors.As(err, &de) || de.Finished != 0 || !strings.Contains(err.Error(), "hooks") {
			t.Errorf("Shutdown: %v, want a DrainError that tells of hooks", err)
		}
		if took != 3*time.Second {
			t.Errorf("the hook's context ended after %v, want 3 s", took)
		}
		s.wantLeft("parcels", 0)
	})
}

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

// batches records the batches that a handler saw.
type batches struct {
	mu  sync.Mutex
	all [][]int
}

func (b *batches) add(vs []int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = append(b.all, slices.Clone(vs))
}

func (b *batches) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return fmt.Sprint(b.all)
}

func (b *batches) sizes() (n []int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, one := range b.all {
		n = append(n, len(one))
	}
	return n
}

// batchApp is an app with one batch handler on "in".
func batchApp(b broker.Broker, h gostream.Handler, options ...gostream.HandleOption) *gostream.App {
	r := gostream.NewRouter()
	r.Handle("in", h, options...)
	app := gostream.New("t", "0", quiet())
	app.Mount(b, r)
	return app
}

// oneByOne is a source whose subscriptions have no batch receive.
type oneByOne struct{ broker.Source }

func (s oneByOne) Spec() broker.SourceSpec { return s.Source.(broker.SourceDescriber).Spec() }

func (s oneByOne) Subscribe(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
	sub, err := s.Source.Subscribe(ctx, b)
	return onlySubscription{sub}, err
}

type onlySubscription struct{ broker.Subscription }

// A batch is full, or as large as it is when the wait has passed, natively and
// through the adapter.
func TestBatchSizes(t *testing.T) {
	for _, native := range []bool{true, false} {
		t.Run(fmt.Sprintf("native=%v", native), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mem := memory.New()
				var seen batches
				var src broker.Source = memory.Queue("in", "g")
				if !native {
					src = oneByOne{src}
				}
				r := gostream.NewRouter()
				r.HandleSource(src, gostream.ConsumeBatch(func(_ context.Context, vs []int) error {
					seen.add(vs)
					time.Sleep(time.Second)
					return nil
				}, 4, 100*time.Millisecond))
				app := gostream.New("t", "0", quiet())
				app.Mount(mem, r)
				run(t, app, func(*gostream.Service) {
					publish(t, mem, "in", "0")
					time.Sleep(50 * time.Millisecond)
					publish(t, mem, "in", "1")
					time.Sleep(60 * time.Millisecond) // the wait has passed with two
					for i := 2; i < 12; i++ {
						publish(t, mem, "in", strconv.Itoa(i))
					}
					time.Sleep(time.Minute)
				})
				if got := seen.String(); got != "[[0 1] [2 3 4 5] [6 7 8 9] [10 11]]" {
					t.Errorf("batches %s", got)
				}
			})
		})
	}
}

// 128 messages, one of which always fails, and a handler that returns one error for
// all: 127 are acknowledged, 1 is dead-lettered, and the handler is called at most
// 128 + attempts times.
func TestOnePoisonInABatch(t *testing.T) {
	for _, how := range []string{"error", "panic", "goexit", "reject", "dead letter"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const n, poison = 128, 77
				store := memory.NewStore()
				mem := memory.New(memory.On(store))
				var calls atomic.Int64
				var outcomes outcomeLog
				app := batchApp(mem, gostream.ConsumeBatch(func(_ context.Context, vs []int) error {
					calls.Add(1)
					if !slices.Contains(vs, poison) {
						return nil
					}
					err := errors.New("one of them is bad")
					switch how {
					case "panic":
						panic(err)
					case "goexit":
						exit()
					case "reject":
						return gostream.Reject(err)
					case "dead letter":
						return gostream.DeadLetter(err)
					}
					return err
				}, n, 10*time.Millisecond), gostream.DeadLetterTo("dead"))
				app.Observe(outcomes.observer())
				run(t, app, func(*gostream.Service) {
					for i := range n {
						publish(t, mem, "in", strconv.Itoa(i))
					}
					time.Sleep(time.Hour)
					synctest.Wait()
				})
				dead := 1
				if how == "reject" {
					dead = 0
				}
				if got := outcomes.count(gostream.OutcomeAcked); got != n-1 || store.Len("dead") != dead || store.Len("in") != 0 {
					t.Errorf("acked %d, dead %d, left %d", got, store.Len("dead"), store.Len("in"))
				}
				if calls.Load() > n+gostream.DefaultAttempts {
					t.Errorf("%d calls, at most %d are allowed", calls.Load(), n+gostream.DefaultAttempts)
				}
			})
		})
	}
}

// Each settles element by element, and only what failed is handled again, together.
func TestEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.NewStore()
		mem := memory.New(memory.On(store))
		var seen batches
		var attempts []string
		app := batchApp(mem, gostream.ConsumeBatch(func(_ context.Context, ms []gostream.Message[int]) error {
			vs := make([]int, len(ms))
			errs := make([]error, len(ms))
			for i, m := range ms {
				vs[i] = m.Body()
				switch {
				case m.Body() < 3 && m.Attempt() == 1:
					errs[i] = errors.New("again")
				case m.Body() == 3:
					errs[i] = gostream.Reject(nil)
				case m.Body() == 4:
					errs[i] = gostream.DeadLetter(errors.New("no"))
				case m.Body() == 5:
					errs[i] = gostream.Ignore(nil)
				}
				attempts = append(attempts, fmt.Sprintf("%d#%d", m.Body(), m.Attempt()))
			}
			seen.add(vs)
			return gostream.Each(errs)
		}, 8, 10*time.Millisecond), gostream.DeadLetterTo("dead"))
		var outcomes outcomeLog
		app.Observe(outcomes.observer())
		run(t, app, func(*gostream.Service) {
			for i := range 8 {
				publish(t, mem, "in", strconv.Itoa(i))
			}
			time.Sleep(time.Hour)
			synctest.Wait()
		})
		if got := seen.String(); got != "[[0 1 2 3 4 5 6 7] [0 1 2]]" {
			t.Errorf("batches %s", got)
		}
		if got := strings.Join(attempts[8:], " "); got != "0#2 1#2 2#2" {
			t.Errorf("attempts %s", got)
		}
		for o, want := range map[gostream.Outcome]int{
			gostream.OutcomeAcked: 5, gostream.OutcomeRetried: 3, gostream.OutcomeRejected: 1,
			gostream.OutcomeDeadLettered: 1, gostream.OutcomeIgnored: 1,
		} {
			if got := outcomes.count(o); got != want {
				t.Errorf("%v %d times, want %d", o, got, want)
			}
		}
		if store.Len("in") != 0 || store.Len("dead") != 1 {
			t.Errorf("left %d, dead %d", store.Len("in"), store.Len("dead"))
		}
	})
}

// A list of the wrong length fails all; outside of a batch Each is an ordinary error.
func TestEachMisused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := memory.New()
		var seen batches
		app := batchApp(mem, gostream.ConsumeBatch(func(_ context.Context, vs []int) error {
			seen.add(vs)
			if len(seen.sizes()) == 1 {
				return gostream.Each([]error{nil, errors.New("x")})
			}
			return nil
		}, 3, 10*time.Millisecond))
		single := gostream.NewRouter()
		var calls atomic.Int64
		single.Handle("single", gostream.Consume(func(context.Context, int) error {
			if calls.Add(1) == 1 {
				return gostream.Each([]error{nil, errors.New("x")})
			}
			return nil
		}))
		app.Mount(mem, single)
		run(t, app, func(*gostream.Service) {
			for i := range 3 {
				publish(t, mem, "in", strconv.Itoa(i))
			}
			publish(t, mem, "single", "1")
			time.Sleep(time.Hour)
			synctest.Wait()
		})
		if got := seen.String(); got != "[[0 1 2] [0 1 2]]" {
			t.Errorf("batches %s", got)
		}
		if calls.Load() != 2 {
			t.Errorf("the single handler was called %d times, want 2", calls.Load())
		}
	})
	if err := gostream.Each([]error{nil, nil}); err != nil {
		t.Errorf("Each of nothing but nil is %v", err)
	}
}

// Payloads that cannot be decoded are settled by the policy and are not in the slice;
// the indexes of Each fit the slice.
func TestUndecodableInBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.NewStore()
		mem := memory.New(memory.On(store))
		var seen batches
		lens := make(chan int, 10)
		app := batchApp(mem, gostream.ConsumeBatch(func(_ context.Context, vs []int) error {
			seen.add(vs)
			errs := make([]error, len(vs))
			for i, v := range vs {
				if v == 5 {
					errs[i] = gostream.Reject(nil)
				}
			}
			return gostream.Each(errs)
		}, 8, 10*time.Millisecond), gostream.DeadLetterTo("dead"))
		app.Use(func(next gostream.Next) gostream.Next {
			return func(ctx context.Context, b *gostream.Batch) error {
				lens <- b.Len()
				if b.At(1).Name() != "in" || b.Subscription().Name() != "in" {
					t.Error("the batch does not know its deliveries")
				}
				return next(ctx, b)
			}
		})
		var rejected []string
		app.Observe(gostream.Observer{Settled: func(e gostream.SettledEvent) {
			if e.Outcome == gostream.OutcomeRejected {
				rejected = append(rejected, string(e.Delivery.Payload()))
			}
		}})
		run(t, app, func(*gostream.Service) {
			for _, p := range []string{"{", "1", "x", "5", "3", "]"} {
				publish(t, mem, "in", p)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			publish(t, mem, "in", "{")
			publish(t, mem, "in", "[") // nothing decodable: no call
			time.Sleep(time.Hour)
			synctest.Wait()
		})
		if got := seen.String(); got != "[[1 5 3]]" {
			t.Errorf("batches %s", got)
		}
		if store.Len("dead") != 5 || store.Len("in") != 0 || !slices.Equal(rejected, []string{"5"}) {
			t.Errorf("dead %d, left %d, rejected %v", store.Len("dead"), store.Len("in"), rejected)
		}
		if n := <-lens; n != 6 {
			t.Errorf("the middleware saw %d deliveries, want 6", n)
		}
	})
}

// An error that middleware returns overrules every element: a transaction around the
// handler that fails to commit acknowledges nothing.
func TestMiddlewareOverrulesEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.NewStore()
		mem := memory.New(memory.On(store))
		var inner []error
		var commitFails atomic.Bool
		commitFails.Store(true)
		var seen batches
		app := batchApp(mem, gostream.ConsumeBatch(func(_ context.Context, vs []int) error {
			seen.add(vs)
			return gostream.Each([]error{nil, errors.New("second"), nil}[:len(vs)])
		}, 3, 10*time.Millisecond))
		app.Use(func(next gostream.Next) gostream.Next {
			return func(ctx context.Context, b *gostream.Batch) error {
				inner = append(inner, next(ctx, b))
				if commitFails.Load() {
					return errors.New("commit failed")
				}
				return nil
			}
		})
		run(t, app, func(*gostream.Service) {
			for i := range 3 {
				publish(t, mem, "in", strconv.Itoa(i))
			}
			time.Sleep(300 * time.Millisecond)
			synctest.Wait()
			if store.Len("in") != 3 {
				t.Errorf("%d left after commits that failed, want 3", store.Len("in"))
			}
			commitFails.Store(false)
			time.Sleep(time.Hour)
			synctest.Wait()
		})
		if inner[0] != nil {
			t.Errorf("the middleware saw %v, want per-element failures as success", inner[0])
		}
		if sizes := seen.sizes(); sizes[0] != 3 || sizes[1] != 3 {
			t.Errorf("batches of %v", sizes)
		}
	})
}

// A middleware that fails before the handler is reached fails all of the batch.
func TestMiddlewareFailsBeforeBatch(t *testing.T) {
	for _, how := range []string{"error", "panic", "goexit", "skips"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memory.NewStore()
				mem := memory.New(memory.On(store))
				var seen batches
				var calls atomic.Int64
				app := batchApp(mem, gostream.ConsumeBatch(func(_ context.Context, vs []int) error {
					seen.add(vs)
					return nil
				}, 3, 10*time.Millisecond))
				app.Use(func(next gostream.Next) gostream.Next {
					return func(ctx context.Context, b *gostream.Batch) error {
						if calls.Add(1) > 1 {
							return next(ctx, b)
						}
						switch how {
						case "panic":
							panic(how)
						case "goexit":
							exit()
						case "skips":
							return nil
						}
						return errors.New(how)
					}
				})
				run(t, app, func(*gostream.Service) {
					for i := range 3 {
						publish(t, mem, "in", strconv.Itoa(i))
					}
					time.Sleep(time.Hour)
					synctest.Wait()
				})
				want := "[[0 1 2]]"
				if how == "skips" {
					want = "[]"
				}
				if seen.String() != want || store.Len("in") != 0 {
					t.Errorf("batches %s, left %d", seen.String(), store.Len("in"))
				}
			})
		})
	}
}

// A codec that panics on one element fails that one alone.
func TestCodecPanicsInBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.NewStore()
		mem := memory.New(memory.On(store))
		var seen batches
		var decoded atomic.Int64
		app := batchApp(mem, gostream.ConsumeBatch(func(_ context.Context, vs []int) error { seen.add(vs); return nil }, 3, 10*time.Millisecond),
			gostream.WithCodec(codecFunc(func() {
				if decoded.Add(1) == 2 {
					panic("codec")
				}
			})))
		run(t, app, func(*gostream.Service) {
			for i := range 3 {
				publish(t, mem, "in", strconv.Itoa(i))
			}
			time.Sleep(time.Hour)
			synctest.Wait()
		})
		if seen.String() != "[[0 2] [1]]" || store.Len("in") != 0 {
			t.Errorf("batches %s, left %d", seen.String(), store.Len("in"))
		}
	})
}

// A handler may keep its slice: it is not used again.
func TestHandlerKeepsSlice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := memory.New()
		var kept [][]string
		app := batchApp(mem, gostream.ConsumeBatch(func(_ context.Context, vs []string) error {
			kept = append(kept, vs)
			_ = append(vs, "beyond its end")
			return nil
		}, 2, 0))
		run(t, app, func(*gostream.Service) {
			for i := range 6 {
				publish(t, mem, "in", strconv.Itoa(i))
				synctest.Wait()
			}
		})
		var all []string
		for _, vs := range kept {
			all = append(all, vs...)
		}
		if got := strings.Join(all, " "); got != "0 1 2 3 4 5" {
			t.Errorf("kept %s", got)
		}
	})
}

// Hooks of a batch run once, after all of its messages; publishing in it carries
// nothing over.
func TestBatchHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.NewStore()
		mem := memory.New(memory.On(store))
		var acked atomic.Int64
		var outcomes []gostream.Outcome
		fail := true
		app := batchApp(mem, gostream.ConsumeBatch(func(ctx context.Context, vs []int) error {
			if _, ok := gostream.DeliveryFrom(ctx); ok {
				t.Error("the context of a batch belongs to one delivery")
			}
			gostream.AfterAck(ctx, func(context.Context) {
				acked.Add(1)
				if store.Len("in") != 0 {
					t.Error("AfterAck ran before everything was acknowledged")
				}
			})
			gostream.AfterSettle(ctx, func(_ context.Context, o gostream.Outcome) {
				if o == gostream.OutcomeRetried {
					panic("a hook that panics")
				}
				outcomes = append(outcomes, o)
			})
			errs := make([]error, len(vs))
			if fail {
				fail = false
				errs[1] = errors.New("once")
			}
			return gostream.Each(errs)
		}, 3, 10*time.Millisecond))
		run(t, app, func(*gostream.Service) {
			for i := range 3 {
				publish(t, mem, "in", strconv.Itoa(i))
			}
			time.Sleep(time.Hour)
			synctest.Wait()
		})
		if acked.Load() != 1 || !slices.Equal(outcomes, []gostream.Outcome{gostream.OutcomeAcked}) {
			t.Errorf("AfterAck ran %d times, outcomes %v", acked.Load(), outcomes)
		}
	})
}

// Batches with workers: each worker has one in hand, and MaxInFlight bounds them; a
// worker that waits for room goes on when there is some.
func TestBatchWorkers(t *testing.T) {
	for _, maxInFlight := range []int{35, 30} {
		t.Run(fmt.Sprintf("MaxInFlight(%d)", maxInFlight), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				mem := memory.New()
				var now, most, done atomic.Int64
				app := batchApp(mem, gostream.ConsumeBatch(func(_ context.Context, vs []int) error {
					if n := now.Add(1); n > most.Load() {
						most.Store(n)
					}
					time.Sleep(time.Second)
					now.Add(-1)
					done.Add(int64(len(vs)))
					return nil
				}, 10, time.Millisecond), gostream.Workers(4), gostream.MaxInFlight(maxInFlight))
				run(t, app, func(s *gostream.Service) {
					for i := range 200 {
						publish(t, mem, "in", strconv.Itoa(i))
					}
					time.Sleep(100 * time.Millisecond)
					synctest.Wait()
					if h := s.Health(t.Context()).Subscriptions[0]; h.InFlight != maxInFlight {
						t.Errorf("in flight %d, want %d", h.InFlight, maxInFlight)
					}
					time.Sleep(time.Minute)
					synctest.Wait()
				})
				if done.Load() != 200 || most.Load() > 4 {
					t.Errorf("done %d, at most %d at once", done.Load(), most.Load())
				}
			})
		})
	}
}

// A drain gives a batch that fails back, and what is parked of one.
func TestBatchDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.NewStore()
		mem := memory.New(memory.On(store))
		app := batchApp(mem, gostream.ConsumeBatch(func(_ context.Context, vs []int) error {
			time.Sleep(time.Second)
			return errors.New("no")
		}, 5, time.Millisecond))
		s, err := app.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 12 {
			publish(t, mem, "in", strconv.Itoa(i))
		}
		time.Sleep(1100 * time.Millisecond) // the first is parked, the second in hand
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if report, _ := s.Report(); report.GivenBack != 10 || store.Len("in") != 12 {
			t.Errorf("report %+v, left %d, want 10 given back and 12 left", report, store.Len("in"))
		}
	})
}

func TestBatchMistakes(t *testing.T) {
	t.Parallel()
	mem := memory.New()
	batch := func(context.Context, []string) error { return nil }
	replies := func(context.Context, []string) ([]string, error) { return nil, nil }
	r := gostream.NewRouter()
	r.Handle("zero", gostream.ConsumeBatch(batch, 0, 0))
	r.Handle("negative", gostream.ConsumeBatch(batch, 1, -time.Second))
	r.Handle("nil", gostream.ConsumeBatch[int](nil, 1, 0))
	r.Handle("no-destination", gostream.ReplyBatch(replies, 1, 0))
	r.Handle("small", gostream.ConsumeBatch(batch, 100, 0), gostream.MaxInFlight(99))
	r.HandleSource(memory.Queue("limited", "g").Limit(50), gostream.ConsumeBatch(batch, 100, 0))
	other := memory.New()
	app := gostream.New("t", "0")
	app.Mount(mem, r)
	app.Mount(other)
	r.Handle("spans", gostream.ReplyBatch(replies, 1, 0).To("out").Via(app.RawPublisher(other)).Transactional())
	err := app.Check()
	for _, want := range []string{
		`subscription "zero": ConsumeBatch: a batch of at most 0 messages: at least 1 is needed`,
		`subscription "negative": ConsumeBatch: the wait -1s must not be negative`,
		`subscription "nil": ConsumeBatch(nil): a function is needed`,
		`subscription "no-destination": `,
		`subscription "small": MaxInFlight(99) is below the batch's size of 100`,
		`subscription "limited": a batch of 100 is above the source's limit of 50`,
		`subscription "spans": ReplyBatch(…).Transactional with Via a publisher of another broker`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Check: %v\nwant %q", err, want)
		}
	}
}

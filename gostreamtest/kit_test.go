package gostreamtest_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/gostreamtest"
	"github.com/gostream/gostream/memory"
)

var update = flag.Bool("update", false, "write the golden files")

// app is an app with one router on one broker.
func app(b broker.Broker, build func(r *gostream.Router), options ...gostream.AppOption) *gostream.App {
	r := gostream.NewRouter()
	build(r)
	a := gostream.New("test", "0", append(options, gostreamtest.Quiet())...)
	a.Mount(b, r)
	return a
}

// A failed assertion shows the timeline.
func TestTimelineOfAFailure(t *testing.T) {
	var got string
	synctest.Test(t, func(t *testing.T) {
		failure := failing(t, func(t testing.TB) {
			a := app(memory.New(), func(r *gostream.Router) {
				r.Handle("orders", gostream.Reply(func(_ context.Context, m gostream.Message[Order]) (Confirmation, error) {
					if m.Attempt() < 3 {
						return Confirmation{}, errTill
					}
					return Confirmation{Order: m.Body().ID}, nil
				}).To("confirmations"), gostream.RetryBackoff(gostream.Constant(time.Minute)), gostream.DeadLetterTo("orders.dead"))
			}, gostream.RetryBackoff(gostream.Constant(time.Minute)).(gostream.AppOption))
			ts := gostreamtest.Start(t, a)
			ts.Publish("orders", Order{ID: "o-1", Cents: 1999})
			ts.Publish("orders", "no order\nat all")
			ts.ExpectHandled("orders", 2)
		})
		got = strings.Join(failure.said, "\n")
	})
	const golden = "testdata/timeline.golden"
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// What would run for ever fails, and says why.
func TestEndless(t *testing.T) {
	t.Run("retry", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			failing(t, func(t testing.TB) {
				ts := gostreamtest.Start(t, app(memory.New(), func(r *gostream.Router) {
					r.Handle("in", gostream.Consume(func(context.Context, string) error { return errTill }))
				}), gostreamtest.AttemptLimit(7))
				ts.Publish("in", "x")
			}).wants(t, `a retry without end: subscription "in"`, "7 times", errTill.Error(), "timeline:", "+0s")
		})
	})
	t.Run("loop without parents", func(t *testing.T) {
		mem := memory.New()
		var pub *gostream.Publisher[int]
		a := app(mem, func(r *gostream.Router) {
			r.Handle("in", gostream.Consume(func(_ context.Context, n int) error {
				return pub.Publish(context.Background(), n+1)
			}))
		})
		pub = gostream.NewPublisher[int](a, mem, "in")
		failing(t, func(t testing.TB) {
			gostreamtest.Start(t, a, gostreamtest.Timeout(time.Minute), gostreamtest.MessageLimit(1000)).Publish("in", 1)
		}).wants(t, "an endless loop?", `"in"`)
	})
	t.Run("handler that hangs", func(t *testing.T) {
		hang := make(chan struct{})
		failing(t, func(t testing.TB) {
			ts := gostreamtest.Start(t, app(memory.New(), func(r *gostream.Router) {
				r.Handle("in", gostream.Consume(func(ctx context.Context, _ string) error { <-hang; return nil }))
			}), gostreamtest.Timeout(50*time.Millisecond))
			t.Cleanup(func() { close(hang) })
			ts.Send("in", "first")
			ts.Publish("in", "second")
		}).wants(t, "not at rest after 50ms: 2 messages", "in: 1 waiting")
	})
	t.Run("app that fails fast", func(t *testing.T) {
		failing(t, func(t testing.TB) {
			ts := gostreamtest.Start(t, app(memory.New(), func(r *gostream.Router) {
				r.Handle("in", gostream.Consume(func(context.Context, string) error { return gostream.FailFast(errTill) }))
			}), gostreamtest.Timeout(time.Minute))
			ts.Publish("in", "x")
		}).wants(t, "the app shut itself down", errTill.Error())
	})
	t.Run("subscription that is paused", func(t *testing.T) {
		failing(t, func(t testing.TB) {
			ts := gostreamtest.Start(t, app(memory.New(), func(r *gostream.Router) {
				r.Handle("in", gostream.Consume(func(context.Context, string) error { return nil }))
			}), gostreamtest.Timeout(time.Minute))
			if err := ts.Service().Pause(context.Background(), "in"); err != nil {
				t.Errorf("pause: %v", err)
			}
			ts.Publish("in", "x")
		}).wants(t, `subscription "in" is paused`)
	})
}

// A test that expects the app to fail fast sees its error.
func TestExpectedFailFast(t *testing.T) {
	ts := gostreamtest.Start(t, app(memory.New(), func(r *gostream.Router) {
		r.Handle("in", gostream.Consume(func(context.Context, string) error { return gostream.FailFast(errTill) }))
	}))
	ts.Send("in", "x")
	if err := ts.Service().Wait(); !errors.Is(err, errTill) {
		t.Errorf("Wait: %v", err)
	}
}

func TestMistakes(t *testing.T) {
	start := func(t testing.TB) *gostreamtest.TS {
		return gostreamtest.Start(t, app(memory.New(), func(r *gostream.Router) {
			r.Handle("in", gostream.Consume(func(context.Context, string) error { return nil }))
		}))
	}
	for name, tc := range map[string]struct {
		test func(t testing.TB)
		want string
	}{
		"invalid name":    {func(t testing.TB) { start(t).Publish("not a name", "x") }, `publish to "not a name"`},
		"empty name":      {func(t testing.TB) { start(t).Publish("", "x") }, "the name is empty"},
		"unencodable":     {func(t testing.TB) { start(t).Publish("in", make(chan int)) }, "unsupported type"},
		"foreign broker":  {func(t testing.TB) { start(t).On(memory.New()) }, "is not mounted"},
		"faulty app":      {func(t testing.TB) { gostreamtest.Start(t, gostream.New("", "")) }, "no broker is mounted"},
		"wrong type":      {func(t testing.TB) { ts := start(t); ts.Publish("in", "x"); gostreamtest.All[int](ts, "in") }, "cannot be decoded"},
		"one of none":     {func(t testing.TB) { gostreamtest.One[int](start(t), "in") }, "want one"},
		"wrong count":     {func(t testing.TB) { start(t).ExpectPublished("in", 1) }, `0 messages were published to "in", want 1`},
		"wrong outcomes":  {func(t testing.TB) { start(t).ExpectOutcomes("in", gostream.OutcomeAcked) }, "ended [], want [acked]"},
		"hook that hangs": {hookThatHangs, "not at rest"},
		"several brokers": {severalBrokers, "the app has 2 brokers"},
		"client, too late": {func(t testing.TB) {
			gostreamtest.StartClient(t, memory.New()).ExpectPublished("x", 1, time.Millisecond)
		}, "want 1"},
		"client, foreign": {func(t testing.TB) { gostreamtest.StartClient(t, &slashBroker{t: t}).Subscribe(memory.Queue("a", "b")) }, "cannot subscribe"},
	} {
		t.Run(name, func(t *testing.T) { failing(t, tc.test).wants(t, tc.want) })
	}
}

func hookThatHangs(t testing.TB) {
	hang := make(chan struct{})
	ts := gostreamtest.Start(t, app(memory.New(), func(r *gostream.Router) {
		r.Handle("in", gostream.Consume(func(ctx context.Context, _ string) error {
			gostream.AfterSettle(ctx, func(context.Context, gostream.Outcome) { <-hang })
			return nil
		}))
	}), gostreamtest.Timeout(50*time.Millisecond))
	t.Cleanup(func() { close(hang) })
	ts.Publish("in", "x")
}

func severalBrokers(t testing.TB) {
	a := app(memory.New(), func(*gostream.Router) {})
	a.Mount(memory.New())
	gostreamtest.Start(t, a).Publish("in", "x")
}

// slashBroker is a foreign broker whose names have '/' between their parts and '+' for
// one of them. Nothing of it may be called but what says how names match.
type slashBroker struct{ t testing.TB }

func (b *slashBroker) called(what string)            { b.t.Errorf("the broker's own %s was called", what) }
func (b *slashBroker) Connect(context.Context) error { b.called("Connect"); return nil }
func (b *slashBroker) Shutdown(context.Context) error {
	b.called("Shutdown")
	return nil
}

func (b *slashBroker) Subscribe(context.Context, string) (broker.Subscription, error) {
	b.called("Subscribe")
	return nil, errors.ErrUnsupported
}
func (b *slashBroker) Publisher() broker.Publisher { return slashPublisher{b} }
func (b *slashBroker) Properties() broker.Properties {
	return broker.Properties{Redelivers: true, Keys: broker.KeysNative}
}

func (b *slashBroker) MatchName(pattern, name string) bool {
	p, n := strings.Split(pattern, "/"), strings.Split(name, "/")
	return len(p) == len(n) && !slices.ContainsFunc(slices.Collect(func(yield func(bool) bool) {
		for i := range p {
			if !yield(p[i] == "+" || p[i] == n[i]) {
				return
			}
		}
	}), func(same bool) bool { return !same })
}

type slashPublisher struct{ b *slashBroker }

func (p slashPublisher) Publish(context.Context, broker.OutgoingMessage) error {
	p.b.called("Publish")
	return nil
}

// The kit serves any broker without code of the broker's beyond Match, MatchName and
// Spec; members of a group compete.
func TestForeignBroker(t *testing.T) {
	var mu sync.Mutex
	got := make(map[string]int)
	count := func(by string) gostream.Handler {
		return gostream.Consume(func(_ context.Context, m gostream.Message[string]) error {
			mu.Lock()
			defer mu.Unlock()
			got[by+" "+m.Name()]++
			return nil
		})
	}
	a := app(&slashBroker{t: t}, func(r *gostream.Router) {
		r.Handle("house/+/heat", count("pattern"))
		r.Handle("house/hall/heat", count("exact"))
		r.HandleSource(shared{"house/+/heat", "boilers"}, count("member"), gostream.Named("a"))
		r.HandleSource(shared{"house/+/heat", "boilers"}, count("member"), gostream.Named("b"))
		r.HandleSource(shared{"house/+/heat", "meters"}, count("meter"), gostream.Named("c"))
	})
	ts := gostreamtest.Start(t, a)
	for range 4 {
		ts.Publish("house/hall/heat", "20")
	}
	ts.Publish("house/attic/heat", "10")
	ts.Publish("house/hall/light", "1")
	want := map[string]int{
		"pattern house/hall/heat": 4, "exact house/hall/heat": 4, "member house/hall/heat": 4, "meter house/hall/heat": 4,
		"pattern house/attic/heat": 1, "member house/attic/heat": 1, "meter house/attic/heat": 1,
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if n := len(ts.Settled("a")); n == 0 || n == 5 {
		t.Errorf("member a handled %d of 5: they do not compete", n)
	}
}

// shared is a source of slashBroker with a group.
type shared struct{ pattern, group string }

func (s shared) Name() string              { return s.pattern }
func (s shared) Check(broker.Broker) error { return nil }
func (s shared) Match(name string) bool    { return new(slashBroker).MatchName(s.pattern, name) }
func (s shared) Subscribe(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
	return b.(*slashBroker).Subscribe(ctx, s.pattern)
}

func (s shared) Spec() broker.SourceSpec {
	return broker.SourceSpec{Group: s.group, Properties: broker.Properties{Redelivers: true, Keys: broker.KeysNative}}
}

// The production app, with the publishers and requesters made from it, runs as it is.
func TestPublishersAndRequesters(t *testing.T) {
	mem := memory.New()
	a := app(mem, func(r *gostream.Router) {
		r.Handle("price", gostream.Reply(func(_ context.Context, item string) (int, error) {
			if item == "unknown" {
				return 0, errTill
			}
			return len(item), nil
		}).ToReplyTo())
	})
	ask := gostream.NewRequester[string, int](a, mem, "price")
	nobody := gostream.NewRequester[string, int](a, mem, "nobody")
	raw := a.RawPublisher(mem)
	ts := gostreamtest.Start(t, a)
	if n, err := ask.Request(t.Context(), "apple"); n != 5 || err != nil {
		t.Errorf("Request: %d, %v", n, err)
	}
	var remote *gostream.RemoteError
	if _, err := ask.Request(t.Context(), "unknown"); !errors.As(err, &remote) {
		t.Errorf("Request: %v, want the responder's error", err)
	}
	if _, err := nobody.Request(t.Context(), "x"); !errors.Is(err, gostreamtest.ErrNoResponders) {
		t.Errorf("Request: %v, want ErrNoResponders", err)
	}
	if err := raw.Publish(t.Context(), broker.OutgoingMessage{Name: "elsewhere", Payload: []byte("x")}); err != nil {
		t.Error(err)
	}
	ts.Wait()
	ts.ExpectPublished("elsewhere", 1)
	ts.ExpectOutcomes("price", gostream.OutcomeAcked, gostream.OutcomeErrorReplied)
}

// The policy is real: a dead letter that cannot be published is repeated without a
// call, a transaction publishes together, a key keeps its order.
func TestThePolicyIsReal(t *testing.T) {
	t.Run("dead letter", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			calls := 0
			ts := gostreamtest.Start(t, app(memory.New(), func(r *gostream.Router) {
				r.Handle("in", gostream.Consume(func(context.Context, string) error { calls++; return gostream.DeadLetter(errTill) }), gostream.DeadLetterTo("dead"))
			}))
			ts.FailPublish("dead", 3)
			ts.Publish("in", "x")
			ts.ExpectPublished("dead", 1)
			if calls != 1 {
				t.Errorf("called %d times", calls)
			}
		})
	})
	t.Run("transaction", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ts := gostreamtest.Start(t, app(memory.New(), func(r *gostream.Router) {
				r.Handle("in", gostream.ReplyBatch(func(_ context.Context, vs []string) ([]string, error) { return vs, nil }, 3, time.Millisecond).To("out").Transactional())
			}))
			ts.FailPublish("out", 1)
			for _, v := range []string{"a", "b", "c"} {
				ts.Send("in", v)
			}
			ts.Wait()
			if got := gostreamtest.All[string](ts, "out"); !slices.Equal(got, []string{"a", "b", "c"}) {
				t.Errorf("published %v", got)
			}
			ts.ExpectHandled("in", 3)
		})
	})
	t.Run("order by key, delivered twice", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var got []string
			ts := gostreamtest.Start(t, app(memory.New(), func(r *gostream.Router) {
				r.Handle("in", gostream.Consume(func(_ context.Context, m gostream.Message[string]) error {
					if m.Body() == "a" && m.Attempt() == 1 {
						return errTill
					}
					got = append(got, m.Body())
					return nil
				}), gostream.Workers(4), gostream.ByKey())
			}), gostreamtest.DeliverTwice())
			ts.Send("in", "a", gostream.Key("k"))
			ts.Send("in", "b", gostream.Key("k"))
			ts.Wait()
			if !slices.Equal(got, []string{"a", "a", "b", "b"}) {
				t.Errorf("handled %v", got)
			}
		})
	})
	t.Run("give back", func(t *testing.T) {
		// An ack or a nack is no no-op: a message that goes back at the drain is
		// not counted as handled.
		ts := gostreamtest.Start(t, app(memory.New(), func(r *gostream.Router) {
			r.Handle("in", gostream.Consume(func(context.Context, string) error { return errTill }))
		}))
		ts.Publish("in", "x")
		if err := ts.Service().Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		ts.ExpectOutcomes("in", gostream.OutcomeRetried)
		if report, _ := ts.Service().Report(); report.GivenBack != 1 {
			t.Errorf("report %+v, want one given back", report)
		}
	})
}

// A handler that waits on a mutex which another one holds does not stop Publish: what
// is waited for is counted.
func TestMutexDoesNotStopPublish(t *testing.T) {
	var mu sync.Mutex
	ts := gostreamtest.Start(t, app(memory.New(), func(r *gostream.Router) {
		r.Handle("in", gostream.Consume(func(context.Context, int) error {
			mu.Lock()
			defer mu.Unlock()
			return nil
		}), gostream.Workers(8))
	}))
	var senders sync.WaitGroup
	for i := range 100 {
		senders.Go(func() { ts.Send("in", i) })
	}
	senders.Wait()
	ts.Wait()
	ts.ExpectHandled("in", 100)
}

// A shutdown that is not clean fails the test.
func TestUncleanShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failing(t, func(t testing.TB) {
			a := app(memory.New(), func(*gostream.Router) {})
			a.OnShutdown(func(context.Context) error { return errTill })
			gostreamtest.Start(t, a)
		}).wants(t, "the shutdown was not clean", errTill.Error())
	})
}

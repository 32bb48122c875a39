package gostream_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// keyed publishes value under key.
func keyed(t *testing.T, p broker.Publisher, name, key string, value int) {
	t.Helper()
	msg := broker.OutgoingMessage{Name: name, Payload: fmt.Append(nil, value)}
	if key != "" {
		msg.Key = []byte(key)
	}
	if err := p.Publish(context.Background(), msg); err != nil {
		t.Fatal(err)
	}
}

// keyLog records the successes of every key, and whether a key ever overlapped.
type keyLog struct {
	mu       sync.Mutex
	done     map[string][]int
	busy     map[string]bool
	overlaps int
}

func newKeyLog() *keyLog { return &keyLog{done: make(map[string][]int), busy: make(map[string]bool)} }

func (l *keyLog) enter(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy[key] {
		l.overlaps++
	}
	l.busy[key] = true
}

func (l *keyLog) leave(key string, value int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy[key] = false
	if ok {
		l.done[key] = append(l.done[key], value)
	}
}

func (l *keyLog) total() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, v := range l.done {
		n += len(v)
	}
	return n
}

// The successes of every key are in publish order though one message in twenty fails
// twice, no key overlaps itself, and other keys move on meanwhile: on memory, and on
// a broker whose keys travel in a header.
func TestByKeyOrder(t *testing.T) {
	for _, lanes := range []int{1, 8, 64} {
		for _, source := range []string{"memory", "header"} {
			t.Run(fmt.Sprintf("%s %d lanes", source, lanes), func(t *testing.T) {
				t.Parallel()
				const keys, each = 10_000, 3
				synctest.Test(t, func(t *testing.T) {
					mem := memory.New()
					log := newKeyLog()
					var overtaken atomic.Int64 // successes of others while some key waited
					var waiting atomic.Int64
					r := gostream.NewRouter()
					handler := gostream.Consume(func(_ context.Context, m gostream.Message[int]) error {
						key := string(m.Key())
						log.enter(key)
						fail := m.Body()%20 == 7 && m.Attempt() <= 2
						log.leave(key, m.Body(), !fail)
						if fail {
							if m.Attempt() == 1 {
								waiting.Add(1)
							}
							return errors.New("not yet")
						}
						if m.Body()%20 == 7 {
							waiting.Add(-1)
						} else if waiting.Load() > 0 {
							overtaken.Add(1)
						}
						return nil
					})
					options := []gostream.HandleOption{gostream.Workers(lanes), gostream.ByKey(), gostream.MaxInFlight(60_000)}
					if source == "memory" {
						r.HandleSource(memory.Queue("in", "g"), handler, options...)
					} else {
						r.HandleSource(headerKeys{memory.Queue("in", "g")}, handler, options...)
					}
					app := gostream.New("t", "0", quiet())
					app.Mount(mem, r)
					run(t, app, func(s *gostream.Service) {
						p := mem.Publisher()
						for v := range each {
							for k := range keys {
								key := fmt.Sprintf("key-%d", k)
								if source == "memory" {
									keyed(t, p, "in", key, k*each+v)
								} else {
									publish(t, mem, "in", fmt.Sprint(k*each+v), broker.Header{Key: broker.HeaderKey, Value: key})
								}
							}
						}
						time.Sleep(time.Hour)
						synctest.Wait()
						if h := s.Health(t.Context()).Subscriptions[0]; h.InFlight != 0 || len(h.Stalled) != 0 {
							t.Errorf("at rest: %+v", h)
						}
					})
					if n := log.total(); n != keys*each {
						t.Errorf("%d successes, want %d", n, keys*each)
					}
					for k := range keys {
						want := []int{k * each, k*each + 1, k*each + 2}
						if got := log.done[fmt.Sprintf("key-%d", k)]; !slices.Equal(got, want) {
							t.Fatalf("key %d: successes %v, want %v", k, got, want)
						}
					}
					if log.overlaps != 0 {
						t.Errorf("a key overlapped itself %d times", log.overlaps)
					}
					if overtaken.Load() == 0 {
						t.Error("no other key moved on while one waited")
					}
				})
			})
		}
	}
}

// headerKeys is a source of a transport without keys of its own: they travel in the
// header.
type headerKeys struct{ broker.Source }

func (s headerKeys) Spec() broker.SourceSpec {
	spec := s.Source.(broker.SourceDescriber).Spec()
	spec.Properties.Keys = broker.KeysHeader
	return spec
}

func (s headerKeys) Subscribe(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
	sub, err := s.Source.Subscribe(ctx, b)
	return headerKeySub{sub}, err
}

type headerKeySub struct{ broker.Subscription }

func (s headerKeySub) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	m, err := s.Subscription.Receive(ctx)
	if err != nil {
		return nil, err
	}
	return headerKeyMessage{m}, nil
}

type headerKeyMessage struct{ broker.IncomingMessage }

func (m headerKeyMessage) PartitionKey() []byte {
	if v, ok := m.Headers().Lookup(broker.HeaderKey); ok {
		return []byte(v)
	}
	return nil
}

// One key never succeeds: the others finish until MaxInFlight is full, Health names
// the key, and a warning stands at the start.
func TestByKeyStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logged strings.Builder
		mem := memory.New()
		log := newKeyLog()
		var heal atomic.Bool
		r := gostream.NewRouter()
		r.Handle("in", gostream.Consume(func(_ context.Context, m gostream.Message[int]) error {
			if string(m.Key()) == "bad" && !heal.Load() {
				return errors.New("never")
			}
			log.leave(string(m.Key()), m.Body(), true)
			return nil
		}), gostream.Workers(4), gostream.ByKey(), gostream.MaxInFlight(50))
		app := gostream.New("t", "0", gostream.WithLogger(slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelWarn}))))
		app.Mount(mem, r)
		run(t, app, func(s *gostream.Service) {
			if !strings.Contains(logged.String(), "waits without end") {
				t.Errorf("no warning at the start: %q", logged.String())
			}
			p := mem.Publisher()
			for i := range 40 {
				keyed(t, p, "in", "bad", i)
				keyed(t, p, "in", fmt.Sprint("good-", i%5), i)
			}
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			if got := log.total(); got != 40 {
				t.Errorf("%d of the other keys' messages succeeded, want all 40", got)
			}
			h := s.Health(t.Context()).Subscriptions[0]
			if len(h.Stalled) != 1 || string(h.Stalled[0].Key) != "bad" || h.Stalled[0].Waiting != 39 || h.Stalled[0].Attempts < 10 || h.Stalled[0].For != 10*time.Minute {
				t.Errorf("stalled %+v", h.Stalled)
			}
			if h.InFlight != 40 || h.Parked != 1 {
				t.Errorf("in flight %d, parked %d, want 40 and 1", h.InFlight, h.Parked)
			}
			// Ten more of it fill MaxInFlight: nothing else is received.
			for i := range 10 {
				keyed(t, p, "in", "bad", 40+i)
			}
			keyed(t, p, "in", "late", 0)
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			if len(log.done["late"]) != 0 {
				t.Error("received beyond MaxInFlight")
			}
			heal.Store(true)
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			if got := log.done["bad"]; len(got) != 50 || !slices.IsSorted(got) || len(log.done["late"]) != 1 {
				t.Errorf("after healing: %v and %v", got, log.done["late"])
			}
		})
	})
}

// Messages without a key take turns over the workers, never more than there are, also
// while their retries run; keyed ones among them keep their order.
func TestByKeyWithoutKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const workers = 3
		mem := memory.New()
		var now, most, done atomic.Int64
		log := newKeyLog()
		r := gostream.NewRouter()
		r.Handle("in", gostream.Consume(func(_ context.Context, m gostream.Message[int]) error {
			for n := now.Add(1); ; {
				old := most.Load()
				if n <= old || most.CompareAndSwap(old, n) {
					break
				}
			}
			defer now.Add(-1)
			time.Sleep(10 * time.Millisecond)
			if m.Attempt() == 1 && m.Body()%2 == 0 {
				return gostream.RetryAfter(15*time.Millisecond, nil)
			}
			done.Add(1)
			if m.Key() != nil {
				log.leave(string(m.Key()), m.Body(), true)
			}
			return nil
		}), gostream.Workers(workers), gostream.ByKey())
		app := gostream.New("t", "0", quiet())
		app.Mount(mem, r)
		run(t, app, func(*gostream.Service) {
			p := mem.Publisher()
			for i := range 100 {
				keyed(t, p, "in", "", i)
				keyed(t, p, "in", "k", i)
			}
			time.Sleep(time.Minute)
			synctest.Wait()
		})
		if done.Load() != 200 || most.Load() != workers {
			t.Errorf("%d done, at most %d at once, want 200 and %d", done.Load(), most.Load(), workers)
		}
		if got := log.done["k"]; len(got) != 100 || !slices.IsSorted(got) {
			t.Errorf("the key's order: %v", got)
		}
	})
}

// Goexit and panics in a lane do not stop the lane, and keep the order.
func TestByKeySurvivesGoexit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := memory.New()
		log := newKeyLog()
		r := gostream.NewRouter()
		r.Handle("in", gostream.Consume(func(_ context.Context, m gostream.Message[int]) error {
			if m.Attempt() == 1 && m.Body()%3 == 0 {
				exit()
			}
			log.leave(string(m.Key()), m.Body(), true)
			return nil
		}), gostream.Workers(2), gostream.ByKey())
		app := gostream.New("t", "0", quiet())
		app.Mount(mem, r)
		run(t, app, func(*gostream.Service) {
			for i := range 30 {
				keyed(t, mem.Publisher(), "in", fmt.Sprint(i%2), i)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
		})
		for key, got := range log.done {
			if len(got) != 15 || !slices.IsSorted(got) {
				t.Errorf("key %s: %v", key, got)
			}
		}
	})
}

// A drain while a key waits leaves the key's messages to the broker in their order,
// and the next service handles them in it.
func TestDrainWhileAKeyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.NewStore()
		log := newKeyLog()
		app := func(fails bool) *gostream.App {
			r := gostream.NewRouter()
			r.HandleSource(memory.Queue("in", "g"), gostream.Consume(func(_ context.Context, m gostream.Message[int]) error {
				if fails && string(m.Key()) == "bad" {
					return errors.New("not now")
				}
				log.leave(string(m.Key()), m.Body(), true)
				return nil
			}), gostream.Workers(4), gostream.ByKey())
			app := gostream.New("t", "0", quiet())
			app.Mount(memory.New(memory.On(store)), r)
			return app
		}
		first := app(true)
		s, err := first.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b := memory.New(memory.On(store))
		if err := b.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			keyed(t, b.Publisher(), "in", "bad", i)
			keyed(t, b.Publisher(), "in", "good", i)
		}
		time.Sleep(time.Second)
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if report, _ := s.Report(); report.GivenBack != 20 || report.Finished != 0 {
			t.Errorf("report %+v, want 20 given back", report)
		}
		if store.Len("in") != 20 {
			t.Errorf("%d left, want 20", store.Len("in"))
		}
		run(t, app(false), func(*gostream.Service) { time.Sleep(time.Minute); synctest.Wait() })
		for key, got := range log.done {
			if len(got) != 20 || !slices.IsSorted(got) {
				t.Errorf("key %s: %v", key, got)
			}
		}
		if err := b.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A model of parked retries: one worker on an idle queue, all workers busy, and
// while paused and resumed. They run on time, or as soon as there is a worker.
func TestParkedRetryIsOnTime(t *testing.T) {
	for _, keys := range []bool{false, true} {
		for _, tc := range []struct {
			name    string
			workers int
			busy    int // handlers that take 25 s from 5 s on
			pause   bool
			want    time.Duration
		}{
			{"idle queue, one worker", 1, 0, false, 10 * time.Second},
			{"idle queue, three workers", 3, 0, false, 10 * time.Second},
			{"one worker, busy", 1, 1, false, 30 * time.Second},
			{"three workers, one free", 3, 2, false, 10 * time.Second},
			{"three workers, all busy", 3, 3, false, 30 * time.Second},
			{"paused over its time", 1, 0, true, 40 * time.Second},
			{"paused over its time, three workers", 3, 0, true, 40 * time.Second},
			{"one worker, busy, paused over its time", 1, 1, true, 40 * time.Second},
		} {
			if keys && tc.busy > 0 && tc.workers > 1 {
				continue // which lane is busy depends on the hash
			}
			t.Run(fmt.Sprintf("%s, by key %v", tc.name, keys), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFeed()
					b := &stubBroker{
						properties: broker.Properties{Redelivers: true, Keys: broker.KeysNative},
						subscribe:  func(context.Context, string) (broker.Subscription, error) { return f, nil },
					}
					began := time.Now()
					var retried time.Duration
					r := gostream.NewRouter()
					options := []gostream.HandleOption{gostream.Workers(tc.workers)}
					if keys {
						options = append(options, gostream.ByKey())
					}
					r.Handle("in", gostream.Consume(func(_ context.Context, m gostream.Message[string]) error {
						switch {
						case m.Body() == "busy":
							time.Sleep(25 * time.Second)
						case m.Attempt() == 1:
							return gostream.RetryAfter(10*time.Second, nil)
						default:
							retried = time.Since(began)
						}
						return nil
					}), options...)
					app := gostream.New("t", "0", quiet())
					app.Mount(b, r)
					run(t, app, func(s *gostream.Service) {
						f.in <- &keyedStub{stubMessage{name: "in", payload: []byte("retry")}, "a"}
						time.Sleep(5 * time.Second)
						for i := range tc.busy {
							f.in <- &keyedStub{stubMessage{name: "in", payload: []byte("busy")}, fmt.Sprint(i)}
						}
						if tc.pause {
							if err := s.Pause(t.Context(), "in"); err != nil {
								t.Error(err)
							}
							time.Sleep(35 * time.Second)
							resume(t, s)
						}
						time.Sleep(time.Minute)
						synctest.Wait()
					})
					if retried != tc.want {
						t.Errorf("the retry ran at %v, want %v", retried, tc.want)
					}
				})
			})
		}
	}
}

// keyedStub is a stub message with a key.
type keyedStub struct {
	stubMessage
	key string
}

func (m *keyedStub) PartitionKey() []byte { return []byte(m.key) }

// Timeout ends an attempt; the next one, parked, has its own.
func TestTimeoutAcrossParkedRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		b := &stubBroker{
			properties: broker.Properties{Redelivers: true},
			subscribe:  func(context.Context, string) (broker.Subscription, error) { return f, nil },
		}
		var causes []error
		r := gostream.NewRouter()
		r.Handle("in", gostream.Consume(func(ctx context.Context, m gostream.Message[string]) error {
			if m.Attempt() == 3 {
				return ctx.Err()
			}
			<-ctx.Done()
			causes = append(causes, context.Cause(ctx))
			return gostream.RetryAfter(time.Minute, ctx.Err())
		}), gostream.Timeout(time.Second))
		app := gostream.New("t", "0", quiet())
		app.Mount(b, r)
		m := &stubMessage{name: "in"}
		run(t, app, func(*gostream.Service) {
			f.in <- m
			time.Sleep(time.Hour)
			synctest.Wait()
		})
		if len(causes) != 2 || !errors.Is(causes[0], gostream.ErrHandlerTimeout) || !slices.Equal(m.how(), []string{"ack"}) {
			t.Errorf("causes %v, settled %v", causes, m.how())
		}
	})
}

func TestByKeyMistakes(t *testing.T) {
	t.Parallel()
	b := &stubBroker{subscribe: func(context.Context, string) (broker.Subscription, error) { return newFeed(), nil }}
	r := gostream.NewRouter()
	r.Handle("a", gostream.Consume(nothing), gostream.ByKey())
	r.Handle("b", gostream.ConsumeBatch(func(context.Context, []string) error { return nil }, 10, 0), gostream.ByKey())
	app := gostream.New("t", "0")
	app.Mount(b, r)
	err := app.Check()
	for _, want := range []string{
		`subscription "a": ByKey needs partition keys`,
		`subscription "b": ByKey does not apply to a consume batch handler`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Check: %v\nwant %q", err, want)
		}
	}
}

// What was received but not begun when the drain begins is given back, not handled.
func TestDrainGivesBackWhatIsNotBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.NewStore()
		mem := memory.New(memory.On(store))
		log := newKeyLog()
		r := gostream.NewRouter()
		r.Handle("in", gostream.Consume(func(_ context.Context, m gostream.Message[int]) error {
			time.Sleep(10 * time.Second)
			log.leave(string(m.Key()), m.Body(), true)
			return nil
		}), gostream.Workers(2), gostream.ByKey())
		app := gostream.New("t", "0", quiet())
		app.Mount(mem, r)
		s, err := app.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range 6 {
			keyed(t, mem.Publisher(), "in", "k", i)
		}
		synctest.Wait()
		if h := s.Health(t.Context()).Subscriptions[0]; h.InFlight != 6 {
			t.Errorf("in flight %d, want all 6 received", h.InFlight)
		}
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		report, _ := s.Report()
		if report.Finished != 1 || report.GivenBack != 5 || log.total() != 1 || store.Len("in") != 5 {
			t.Errorf("report %+v, handled %d, left %d; want 1 finished and 5 given back", report, log.total(), store.Len("in"))
		}
	})
}

package gostream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// Replies of a batch: one each, in order, with what a reply carries; a reply that
// cannot be published fails its message alone, and a list of the wrong length all.
func TestReplyBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.NewStore()
		mem := memory.New(memory.On(store))
		var seen batches
		var replies []string
		short := true
		app := batchApp(mem, gostream.ReplyBatch(func(_ context.Context, vs []int) ([]gostream.Outgoing[string], error) {
			seen.add(vs)
			out := make([]gostream.Outgoing[string], len(vs))
			errs := make([]error, len(vs))
			for i, v := range vs {
				out[i].Body = fmt.Sprint("r", v)
				if v == 2 {
					out[i].To = "not a name" // refused by the broker
				}
				if v == 3 {
					errs[i] = gostream.Ignore(nil)
				}
			}
			if short {
				short = false
				return out[1:], nil
			}
			return out, gostream.Each(errs)
		}, 5, 10*time.Millisecond).To("out"), gostream.DeadLetterTo("dead"))
		r := gostream.NewRouter()
		r.Handle("out", gostream.Consume(func(_ context.Context, m gostream.Message[string]) error {
			replies = append(replies, m.Body()+"/"+m.Headers().MessageID()+"/"+m.Headers().CorrelationID())
			return nil
		}))
		app.Mount(mem, r)
		run(t, app, func(*gostream.Service) {
			for i := range 5 {
				publish(t, mem, "in", strconv.Itoa(i), broker.Header{Key: broker.HeaderMessageID, Value: fmt.Sprint("m", i)})
			}
			time.Sleep(time.Hour)
			synctest.Wait()
		})
		if want := []string{"r0/m0/in/m0", "r1/m1/in/m1", "r4/m4/in/m4"}; !slices.Equal(replies, want) {
			t.Errorf("replies %v, want %v", replies, want)
		}
		if store.Len("dead") != 1 || store.Len("in") != 0 {
			t.Errorf("dead %d, left %d", store.Len("dead"), store.Len("in"))
		}
		if got := seen.String(); got != "[[0 1 2 3 4] [0 1 2 3 4] [2] [2] [2]]" {
			t.Errorf("batches %s", got)
		}
	})
}

// Replies and acknowledgements of a transaction are visible together; where it cannot
// commit nothing is, and the messages come again.
func TestTransactionalReplies(t *testing.T) {
	for _, wrapped := range []bool{false, true} {
		t.Run(fmt.Sprintf("publish middleware=%v", wrapped), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := memory.NewStore()
				mem := memory.New(memory.On(store))
				var seen batches
				var torn atomic.Int64
				fail := true
				app := batchApp(mem, gostream.ReplyBatch(func(_ context.Context, vs []int) ([]string, error) {
					seen.add(vs)
					out := make([]string, len(vs))
					for i, v := range vs {
						out[i] = strconv.Itoa(v)
					}
					if fail {
						fail = false
						return out, gostream.Each(append(make([]error, len(vs)-1), errors.New("the last fails once")))
					}
					return out, nil
				}, 4, 10*time.Millisecond).To("out").Transactional())
				if wrapped {
					app.UsePublish(func(next gostream.PublishNext) gostream.PublishNext {
						return func(ctx context.Context, msgs []broker.OutgoingMessage) error {
							err := next(ctx, msgs)
							if store.Len("out") != 0 && store.Len("in") != 1 {
								torn.Add(1)
							}
							return err
						}
					})
				}
				app.Observe(gostream.Observer{Settled: func(e gostream.SettledEvent) {
					// When the first of them is told of, all are visible.
					if e.Outcome == gostream.OutcomeAcked && store.Len("in")+store.Len("out") != 4 {
						torn.Add(1)
					}
				}})
				run(t, app, func(*gostream.Service) {
					for i := range 4 {
						publish(t, mem, "in", strconv.Itoa(i))
					}
					time.Sleep(100 * time.Millisecond)
					synctest.Wait()
					if store.Len("in") != 1 || store.Len("out") != 3 {
						t.Errorf("%d in, %d out, want 1 and 3", store.Len("in"), store.Len("out"))
					}
					time.Sleep(time.Hour)
					synctest.Wait()
				})
				if store.Len("in") != 0 || store.Len("out") != 4 || torn.Load() != 0 {
					t.Errorf("%d in, %d out, %d times torn", store.Len("in"), store.Len("out"), torn.Load())
				}
			})
		})
	}
	t.Run("abort", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store := memory.NewStore()
			mem := memory.New(memory.On(store))
			var bad atomic.Bool
			bad.Store(true)
			app := batchApp(mem, gostream.ReplyBatch(func(_ context.Context, vs []int) ([]gostream.Outgoing[string], error) {
				out := make([]gostream.Outgoing[string], len(vs))
				if bad.Load() {
					out[len(out)-1].To = "not a name"
				}
				return out, nil
			}, 4, 10*time.Millisecond).To("out").Transactional())
			run(t, app, func(*gostream.Service) {
				for i := range 4 {
					publish(t, mem, "in", strconv.Itoa(i))
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				if store.Len("in") != 4 || store.Len("out") != 0 {
					t.Errorf("while it cannot commit: %d in, %d out", store.Len("in"), store.Len("out"))
				}
				bad.Store(false)
				time.Sleep(time.Hour)
				synctest.Wait()
				if store.Len("in") != 0 || store.Len("out") != 4 {
					t.Errorf("healed: %d in, %d out", store.Len("in"), store.Len("out"))
				}
			})
		})
	})
	t.Run("abort lets go", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store := memory.NewStore()
			mem := memory.New(memory.On(store))
			var replies []string
			app := batchApp(mem, gostream.ReplyBatch(func(ctx context.Context, ms []gostream.Message[int]) ([]string, error) {
				out := make([]string, len(ms))
				for i, m := range ms {
					out[i] = strconv.Itoa(m.Body())
					if m.Body() == 1 && m.Attempt() == 1 {
						// What a handler must not do: the transaction cannot have it.
						if err := m.Delivery().Message().Ack(ctx); err != nil {
							t.Error(err)
						}
					}
				}
				return out, nil
			}, 2, 10*time.Millisecond).To("out").Transactional(), gostream.DeadLetterTo("dead"))
			r := gostream.NewRouter()
			r.Handle("out", gostream.Consume(func(_ context.Context, s string) error { replies = append(replies, s); return nil }))
			app.Mount(mem, r)
			run(t, app, func(*gostream.Service) {
				publish(t, mem, "in", "0")
				publish(t, mem, "in", "1")
				time.Sleep(time.Hour)
				synctest.Wait()
			})
			if !slices.Equal(replies, []string{"0"}) || store.Len("in") != 0 {
				t.Errorf("replies %v, left %d: the message beside the faulty one must get through", replies, store.Len("in"))
			}
		})
	})
	t.Run("unsupported", func(t *testing.T) {
		t.Parallel()
		b := &stubBroker{
			properties: broker.Properties{Redelivers: true},
			subscribe:  func(context.Context, string) (broker.Subscription, error) { return newFeed(), nil },
			publish:    func(context.Context, broker.OutgoingMessage) error { return nil },
		}
		app := batchApp(b, gostream.ReplyBatch(func(context.Context, []int) ([]int, error) { return nil, nil }, 1, 0).To("out").Transactional())
		if _, err := app.Start(t.Context()); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "Transactional") {
			t.Errorf("Start: %v", err)
		}
	})
}

package gostream_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/memory"
)

// trace is a middleware that writes down when it is entered and left.
func trace(to *[]string, name string) gostream.Middleware {
	return func(next gostream.Next) gostream.Next {
		return func(ctx context.Context, b *gostream.Batch) error {
			*to = append(*to, name)
			err := next(ctx, b)
			*to = append(*to, fmt.Sprintf("%s: %v", name, err))
			return err
		}
	}
}

func TestMiddlewareOrder(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var got []string
		inner := gostream.NewRouter()
		inner.Handle("parcels", gostream.Consume(func(context.Context, string) error {
			got = append(got, "handler")
			return gostream.Ignore(errBroken)
		}))
		inner.Use(trace(&got, "inner"))
		s.router.Include(inner)
		s.router.Use(trace(&got, "router 1"), trace(&got, "router 2"))
		s.router.Handle("outer", gostream.Consume(func(context.Context, string) error { return nil }))
		s.app.Use(trace(&got, "app 1"))
		s.app.Use(trace(&got, "app 2"))
		s.start()

		s.send("parcels", "x")
		want := []string{
			"app 1", "app 2", "router 1", "router 2", "inner", "handler",
			"inner: ignore: broken", "router 2: ignore: broken", "router 1: ignore: broken", "app 2: ignore: broken", "app 1: ignore: broken",
		}
		if !slices.Equal(got, want) {
			t.Errorf("the order is\n%q, want\n%q", got, want)
		}
		got = nil
		s.send("outer", "x")
		want = []string{"app 1", "app 2", "router 1", "router 2", "router 2: <nil>", "router 1: <nil>", "app 2: <nil>", "app 1: <nil>"}
		if !slices.Equal(got, want) {
			t.Errorf("of the outer router the order is\n%q, want\n%q", got, want)
		}
	})
}

func TestMiddlewareIsMadeOncePerSubscription(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		made := 0
		s.app.Use(func(next gostream.Next) gostream.Next {
			made++
			return next
		})
		s.router.Handle("a", gostream.Consume(func(context.Context, string) error { return nil }), gostream.Workers(4))
		s.router.Handle("b", gostream.Consume(func(context.Context, string) error { return nil }))
		s.start()
		for range 10 {
			s.send("a", "x")
			s.send("b", "x")
		}
		if made != 2 {
			t.Errorf("the middleware was made %d times, want 2", made)
		}
	})
}

func throwInHandler() { panic(errBroken) }

func TestMiddlewareSeesThePanic(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var seen error
		s.app.Use(func(next gostream.Next) gostream.Next {
			return func(ctx context.Context, b *gostream.Batch) error {
				seen = next(ctx, b)
				return gostream.Ignore(seen)
			}
		})
		s.router.Handle("parcels", gostream.Consume(func(context.Context, string) error {
			throwInHandler()
			return nil
		}))
		s.start()
		s.send("parcels", "x")
		var p *gostream.PanicError
		if !errors.As(seen, &p) || p.Value != any(errBroken) || !errors.Is(seen, errBroken) {
			t.Fatalf("the middleware saw %v", seen)
		}
		if !strings.Contains(string(p.Stack), "throwInHandler") {
			t.Errorf("the stack is not that of the panic:\n%s", p.Stack)
		}
		s.wantLeft("parcels", 0)
	})
}

func TestMiddlewarePanics(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		s.app.Use(func(gostream.Next) gostream.Next {
			return func(context.Context, *gostream.Batch) error { panic("middleware") }
		})
		s.router.Handle("parcels", gostream.Consume(func(context.Context, string) error { return nil }),
			gostream.OnError(gostream.As[*gostream.PanicError]().DeadLetterTo("dead")))
		s.start()
		s.send("parcels", "1")
		s.send("parcels", "2") // the receiver lives
		dead := s.take("dead")
		if len(dead) != 2 {
			t.Fatalf("%d dead letters, want 2\n%s", len(dead), s.logs)
		}
		h := dead[0].Headers()
		if h.Get(gostream.HeaderDeadReason) != "panic" || h.Get(gostream.HeaderDeadError) != "panic: middleware" {
			t.Errorf("the dead letter says %q, %q", h.Get(gostream.HeaderDeadReason), h.Get(gostream.HeaderDeadError))
		}
	})
}

// freshBody checks that a second call of next decodes into an empty body.
func freshBody[T any](t *testing.T, payload string, spoil func(T), want T) {
	t.Helper()
	t.Run(reflect.TypeFor[T]().String(), func(t *testing.T) {
		onStand(t, func(t *testing.T, s *stand) {
			var got []T
			handle := func(v T) {
				if !reflect.DeepEqual(v, want) {
					t.Errorf("call %d got %+v, want %+v", len(got)+1, v, want)
				}
				got = append(got, v)
				spoil(v)
			}
			s.app.Use(func(next gostream.Next) gostream.Next {
				return func(ctx context.Context, b *gostream.Batch) error {
					return errors.Join(next(ctx, b), next(ctx, b))
				}
			})
			s.router.Handle("consumed", gostream.Consume(func(_ context.Context, v T) error {
				handle(v)
				return nil
			}))
			s.router.Handle("replied", gostream.Reply(func(_ context.Context, v T) (string, error) {
				handle(v)
				return fmt.Sprint(len(got)), nil
			}).To("replies"))
			s.start()
			s.send("consumed", payload)
			s.send("replied", payload)
			if len(got) != 4 {
				t.Errorf("called %d times, want 4", len(got))
			}
			if replies := s.take("replies"); len(replies) != 2 || string(replies[0].Payload()) != "3" || string(replies[1].Payload()) != "4" {
				t.Errorf("%d replies", len(replies))
			}
			s.wantLeft("consumed", 0)
			s.wantLeft("replied", 0)
		})
	})
}

func TestMiddlewareCallsNextTwice(t *testing.T) {
	t.Parallel()
	freshBody(t, `{"a":1}`, func(m map[string]int) { m["b"] = 2 }, map[string]int{"a": 1})
	freshBody(t, `{"id":"p1"}`, func(p *parcel) { p.Weight = 7 }, &parcel{ID: "p1"})
	freshBody(t, `[[1],[2]]`, func(v [][]int) { v[0][0] = 7 }, [][]int{{1}, {2}})
}

func TestMiddlewareSwallowsAnError(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var outcomes []gostream.Outcome
		s.app.Observe(gostream.Observer{Settled: func(e gostream.SettledEvent) { outcomes = append(outcomes, e.Outcome) }})
		s.app.Use(func(next gostream.Next) gostream.Next {
			return func(ctx context.Context, b *gostream.Batch) error {
				_ = next(ctx, b)
				return nil
			}
		})
		s.router.Handle("parcels", gostream.Reply(func(context.Context, parcel) (string, error) { return "r", errBroken }).To("receipts"))
		s.start()
		s.send("parcels", `{}`)
		s.send("parcels", `{not JSON`)
		s.wantLeft("parcels", 0)
		s.wantLeft("receipts", 0)
		if !slices.Equal(outcomes, []gostream.Outcome{gostream.OutcomeAcked, gostream.OutcomeAcked}) {
			t.Errorf("the outcomes are %v", outcomes)
		}
	})
}

// A middleware that does not call next decides alone.
func TestMiddlewareAnswersItself(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		s.app.Use(func(gostream.Next) gostream.Next {
			return func(context.Context, *gostream.Batch) error { return gostream.Reject(errBroken) }
		})
		s.router.Handle("parcels", gostream.Consume(func(context.Context, string) error {
			t.Error("the handler was called")
			return nil
		}))
		s.start()
		s.send("parcels", "x")
		s.wantLeft("parcels", 0)
	})
}

func TestBatchOfOne(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		calls := 0
		s.app.Use(func(next gostream.Next) gostream.Next {
			return func(ctx context.Context, b *gostream.Batch) error {
				calls++
				if b.Len() != 1 {
					t.Errorf("Len is %d", b.Len())
				}
				d, ok := gostream.DeliveryFrom(ctx)
				if !ok || b.At(0) != d || string(d.Payload()) != "x" {
					t.Errorf("At(0) is %v, the context's delivery %v", b.At(0), d)
				}
				if b.Subscription() != d.Subscription() || b.Subscription().Name() != "sorter" || b.Subscription().Group() != "workers" {
					t.Errorf("Subscription is %+v", *b.Subscription())
				}
				func() {
					defer func() {
						if r := recover(); r == nil || !strings.Contains(fmt.Sprint(r), "At(1)") {
							t.Errorf("At(1) of a batch of one: %v", r)
						}
					}()
					b.At(1)
				}()
				return next(ctx, b)
			}
		})
		s.router.HandleSource(memory.Queue("parcels", "workers"), gostream.Raw(func(context.Context, *gostream.Delivery) error { return nil }), gostream.Named("sorter"))
		s.start()
		s.send("parcels", "x")
		if calls != 1 {
			t.Errorf("the middleware was called %d times", calls)
		}
	})
}

package gostream_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/memory"
)

type ctxKey struct{}

func TestDeliveryFrom(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		ctx := context.WithValue(t.Context(), ctxKey{}, "from Start")
		var kept context.Context
		s.router.Handle("parcels", gostream.Raw(func(ctx context.Context, d *gostream.Delivery) error {
			derived, cancel := context.WithTimeout(context.WithValue(ctx, ctxKey{}, "own"), time.Second)
			defer cancel()
			for _, c := range []context.Context{ctx, derived, context.WithoutCancel(derived)} {
				if got, ok := gostream.DeliveryFrom(c); !ok || got != d {
					t.Errorf("DeliveryFrom(%v) is %p, %v, want %p", c, got, ok, d)
				}
			}
			if v := ctx.Value(ctxKey{}); v != "from Start" {
				t.Errorf("the value of Start's context is %v", v)
			}
			kept = ctx
			return nil
		}))
		s.startWith(ctx)
		s.send("parcels", "x")
		for _, c := range []context.Context{ctx, context.Background()} {
			if d, ok := gostream.DeliveryFrom(c); ok || d != nil {
				t.Errorf("outside of a handler: %v, %v", d, ok)
			}
		}
		if d, ok := gostream.DeliveryFrom(kept); !ok || string(d.Payload()) != "x" {
			t.Error("a context that was kept has lost its delivery")
		}
		if kept.Err() != nil {
			t.Errorf("the handler's context ended with its attempt: %v", kept.Err())
		}
		s.stop()
		if kept.Err() == nil {
			t.Error("the handler's context outlives the service")
		}
	})
}

// Start's context bounds the start alone.
func TestStartContextEnds(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		s.router.Handle("parcels", gostream.Consume(func(ctx context.Context, _ string) error {
			calls++
			return ctx.Err()
		}))
		s.startWith(ctx)
		cancel()
		s.send("parcels", "x")
		if calls != 1 {
			t.Errorf("called %d times, want 1", calls)
		}
		s.wantLeft("parcels", 0)
	})
}

// A context that is derived from the handler's is linked to its parent without a
// goroutine, and is cancelled with it.
func TestDerivedContextStartsNoGoroutine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, gostream.ShutdownTimeout(time.Second))
		var cause error
		s.router.Handle("parcels", gostream.Consume(func(ctx context.Context, _ string) error {
			derived, cancel := context.WithTimeout(ctx, time.Hour)
			defer cancel()
			if started := goroutinesOf("propagateCancel"); len(started) > 0 {
				t.Errorf("context.WithTimeout started a goroutine:\n%s", started[0])
			}
			<-derived.Done()
			cause = context.Cause(derived)
			return nil
		}), gostream.Timeout(time.Minute))
		s.start()
		s.send("parcels", "x")
		s.stop()
		if !errors.Is(cause, gostream.ErrShutdownTimeout) {
			t.Errorf("the derived context ended because of %v, want ErrShutdownTimeout", cause)
		}
	})
}

// goroutinesOf returns the stacks of the goroutines that the calling one started in
// a function whose name holds what.
func goroutinesOf(what string) []string {
	buf := make([]byte, 1<<16)
	self, _, _ := strings.Cut(strings.TrimPrefix(string(buf[:runtime.Stack(buf, false)]), "goroutine "), " ")
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	var found []string
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		_, by, _ := strings.Cut(stack, "created by ")
		by, _, _ = strings.Cut(by, "\n")
		if strings.Contains(by, what) && strings.HasSuffix(by, "in goroutine "+self) {
			found = append(found, stack)
		}
	}
	return found
}

// What a middleware keeps on a delivery reaches the observers and the hooks, for this
// attempt alone.
func TestDeliverySetContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		mem := memory.New()
		var mu sync.Mutex
		var seen []string
		note := func(what string, ctx context.Context) {
			mu.Lock()
			defer mu.Unlock()
			value, _ := ctx.Value(key{}).(string)
			seen = append(seen, what+" "+value)
		}
		var kept *gostream.Delivery
		r := gostream.NewRouter()
		r.Handle("in", gostream.Consume(func(ctx context.Context, s string) error {
			d, _ := gostream.DeliveryFrom(ctx)
			kept = d
			gostream.AfterSettle(ctx, func(ctx context.Context, _ gostream.Outcome) {
				note("hook", ctx)
				if ctx.Err() != nil {
					t.Error("the hook's context has ended with the attempt's")
				}
			})
			if d.Attempt() == 1 {
				return errors.New("once")
			}
			return nil
		}), gostream.RetryBackoff(gostream.Constant(time.Second)))
		app := gostream.New("t", "0", quiet())
		app.Use(func(next gostream.Next) gostream.Next {
			return func(ctx context.Context, b *gostream.Batch) error {
				d := b.At(0)
				if d.Context().Value(key{}) != nil {
					t.Error("the context of another attempt is there")
				}
				ctx, cancel := context.WithCancel(context.WithValue(ctx, key{}, fmt.Sprint("attempt ", d.Attempt())))
				defer cancel()
				d.SetContext(ctx)
				var none context.Context
				d.SetContext(none) // changes nothing
				return next(ctx, b)
			}
		})
		app.Observe(gostream.Observer{Settled: func(e gostream.SettledEvent) { note("settled", e.Delivery.Context()) }})
		app.Mount(mem, r)
		run(t, app, func(*gostream.Service) {
			publish(t, mem, "in", "x")
			time.Sleep(2 * time.Second)
			synctest.Wait()
		})
		want := []string{"settled attempt 1", "hook attempt 1", "settled attempt 2", "hook attempt 2"}
		slices.Sort(seen)
		slices.Sort(want)
		if !slices.Equal(seen, want) {
			t.Errorf("seen %q, want %q", seen, want)
		}
		kept.SetContext(context.Background()) // too late: it changes nothing
		if got, _ := kept.Context().Value(key{}).(string); got != "attempt 2" {
			t.Errorf("after the attempt its context has %q", got)
		}
	})
}

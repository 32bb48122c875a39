package gostream_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

// laggingFeed has a lag that is told by a function.
type laggingFeed struct {
	*feed
	lag func(ctx context.Context) (int64, error)
}

func (f laggingFeed) Lag(ctx context.Context) (int64, error) { return f.lag(ctx) }

// unwellBroker tells how it is by a function.
type unwellBroker struct {
	*stubBroker
	health func(ctx context.Context) error
}

func (b unwellBroker) Health(ctx context.Context) error { return b.health(ctx) }

// Brokers and subscriptions are asked beside each other: what is slow to answer takes its
// own time alone, and what has not answered in time is unknown.
func TestHealthAsksBesideEachOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		wait := func(ctx context.Context, d time.Duration) error {
			select {
			case <-time.After(d):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		errIll := errors.New("ill")
		b := unwellBroker{&stubBroker{properties: broker.Properties{Redelivers: true}}, func(ctx context.Context) error {
			return errors.Join(wait(ctx, time.Second), errIll)
		}}
		made := int64(0)
		b.subscribe = func(context.Context, string) (broker.Subscription, error) {
			lag := made
			made++
			return laggingFeed{newFeed(), func(ctx context.Context) (int64, error) {
				if lag == 3 {
					return 7, wait(ctx, time.Hour)
				}
				return lag, wait(ctx, time.Second)
			}}, nil
		}
		r := gostream.NewRouter()
		for i := range 20 {
			r.Handle(fmt.Sprint(i), gostream.Consume(takeText))
		}
		app := gostream.New("shop", "1", quiet())
		app.Mount(b, r)
		run(t, app, func(s *gostream.Service) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			begun := time.Now()
			h := s.Health(ctx)
			if took := time.Since(begun); took != 10*time.Second {
				t.Errorf("it took %v, want the 10 s that the context gives to the slow one", took)
			}
			for i, sub := range h.Subscriptions {
				want := int64(i)
				if i == 3 {
					want = -1
				}
				if sub.Lag != want || sub.State != gostream.StateRunning {
					t.Errorf("subscription %d: lag %d, %v, want a lag of %d", i, sub.Lag, sub.State, want)
				}
			}
			if one := h.Brokers[0]; !h.Ready || !one.Known || !errors.Is(one.Err, errIll) || errors.Is(one.Err, context.DeadlineExceeded) {
				t.Errorf("ready %v, the broker is %+v", h.Ready, one)
			}
		})
	})
}

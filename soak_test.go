package gostream_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

// TestSoak runs keyed messages and batches through services that fail at random, are
// paused and resumed, and are drained and started again. Nothing may be lost, nothing
// may come twice (every drain is clean), and every key keeps its order. It takes two
// seconds, or as long as GOSTREAM_SOAK says.
func TestSoak(t *testing.T) {
	t.Parallel()
	length := 2 * time.Second
	if v := os.Getenv("GOSTREAM_SOAK"); v != "" {
		d, err := time.ParseDuration(v)
		if err != nil {
			t.Fatalf("GOSTREAM_SOAK: %v", err)
		}
		length = d
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("for %v, seed %d", length, seed)
	s := &soak{store: memory.NewStore(), keyed: newKeyLog(), end: time.Now().Add(length), random: rand.New(rand.NewPCG(seed, 0))}
	var publishers sync.WaitGroup
	publishers.Go(func() { s.publish(t) })
	for time.Now().Before(s.end) {
		s.round(t, time.Duration(s.chance(300))*time.Millisecond)
	}
	publishers.Wait()
	s.calm.Store(true)
	s.round(t, -1) // until all is handled
	s.check(t)
}

const soakKeys = 50

// soak is what the services of a soak share.
type soak struct {
	store *memory.Store
	end   time.Time
	calm  atomic.Bool
	keyed *keyLog

	mu        sync.Mutex
	random    *rand.Rand
	published int
	batched   []int
}

func (s *soak) chance(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.random.IntN(n)
}

// publish publishes numbers to both queues until the end: i to key i mod soakKeys.
func (s *soak) publish(t *testing.T) {
	b := memory.New(memory.On(s.store))
	if err := b.Connect(context.Background()); err != nil {
		t.Error(err)
		return
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	n := 0
	for time.Now().Before(s.end) {
		<-tick.C
		for range s.chance(20) {
			for _, name := range []string{"keyed", "batched"} {
				msg := broker.OutgoingMessage{Name: name, Key: strconv.AppendInt(nil, int64(n%soakKeys), 10), Payload: strconv.AppendInt(nil, int64(n), 10)}
				if err := b.Publisher().Publish(context.Background(), msg); err != nil {
					t.Error(err)
					return
				}
			}
			n++
		}
	}
	s.mu.Lock()
	s.published = n
	s.mu.Unlock()
	if err := b.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

// fail is what a handler does at random: nothing, an error, a panic, a Goexit.
func (s *soak) fail() error {
	if s.calm.Load() {
		return nil
	}
	switch n := s.chance(200); {
	case n < 10:
		return gostream.RetryAfter(time.Duration(n)*time.Millisecond, errors.New("at random"))
	case n == 10:
		panic("at random")
	case n == 11:
		exit()
	}
	return nil
}

func (s *soak) app() *gostream.App {
	r := gostream.NewRouter(gostream.OnError(gostream.AnyError().Retry(gostream.Exponential(time.Millisecond, 20*time.Millisecond))))
	r.HandleSource(memory.Queue("keyed", "g"), gostream.Consume(func(_ context.Context, m gostream.Message[int]) error {
		key := string(m.Key())
		s.keyed.enter(key)
		defer s.keyed.leave(key, 0, false)
		if err := s.fail(); err != nil {
			return err
		}
		s.keyed.mu.Lock()
		s.keyed.done[key] = append(s.keyed.done[key], m.Body())
		s.keyed.mu.Unlock()
		return nil
	}), gostream.Workers(4), gostream.ByKey())
	r.HandleSource(memory.Queue("batched", "g"), gostream.ConsumeBatch(func(_ context.Context, vs []int) error {
		if err := s.fail(); err != nil {
			return err
		}
		errs := make([]error, len(vs))
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, v := range vs {
			if !s.calm.Load() && s.random.IntN(50) == 0 {
				errs[i] = errors.New("at random")
				continue
			}
			s.batched = append(s.batched, v)
		}
		return gostream.Each(errs)
	}, 32, time.Millisecond), gostream.Workers(2))
	app := gostream.New("soak", "0", quiet())
	app.Mount(memory.New(memory.On(s.store)), r)
	return app
}

// round runs one service for a while, pausing it now and then; a negative while is
// until everything is handled.
func (s *soak) round(t *testing.T, while time.Duration) {
	service, err := s.app().Start(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for {
		<-tick.C
		switch left := s.store.Len("keyed") + s.store.Len("batched"); {
		case while >= 0 && time.Since(began) >= while, while < 0 && left == 0:
			if err := service.Shutdown(context.Background()); err != nil {
				t.Errorf("a drain was not clean: %v", err)
			}
			return
		case while < 0 && time.Since(began) > time.Minute:
			t.Fatalf("%d messages are left after a calm minute: %+v", left, service.Health(context.Background()))
		}
		if s.chance(5) == 0 {
			name := []string{"keyed", "batched"}[s.chance(2)]
			if err := service.Pause(context.Background(), name); err != nil {
				t.Error(err)
			}
			<-tick.C
			if err := service.Resume(context.Background(), name); err != nil {
				t.Error(err)
			}
		}
	}
}

func (s *soak) check(t *testing.T) {
	t.Logf("%d messages on each queue", s.published)
	if s.published == 0 {
		t.Error("nothing was published")
	}
	if s.keyed.overlaps != 0 {
		t.Errorf("a key overlapped itself %d times", s.keyed.overlaps)
	}
	for k := range soakKeys {
		var want []int
		for v := k; v < s.published; v += soakKeys {
			want = append(want, v)
		}
		if got := s.keyed.done[fmt.Sprint(k)]; !slices.Equal(got, want) {
			t.Errorf("key %d: %d successes, want %d in order; the first difference is at %d", k, len(got), len(want), firstDifference(got, want))
		}
	}
	slices.Sort(s.batched)
	for i, v := range s.batched {
		if i != v {
			t.Fatalf("batched: at %d stands %d: lost or twice", i, v)
		}
	}
	if len(s.batched) != s.published {
		t.Errorf("batched: %d of %d", len(s.batched), s.published)
	}
}

func firstDifference(a, b []int) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

package gostream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

// leasedMessage is ours for a time, and knows whether it was lost meanwhile.
type leasedMessage struct {
	stubMessage
	key  string
	term time.Duration

	mu       sync.Mutex
	until    time.Time
	extended int
	gone     bool // taken away by the broker
}

func newLeased(key string, term time.Duration) *leasedMessage {
	return &leasedMessage{stubMessage: stubMessage{name: "in", payload: []byte(key)}, key: key, term: term}
}

// leaseFeed is a feed whose messages' leases begin when they are received.
type leaseFeed struct{ *feed }

func (f leaseFeed) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	m, err := f.feed.Receive(ctx)
	if l, ok := m.(*leasedMessage); ok {
		l.mu.Lock()
		l.until = time.Now().Add(l.term)
		l.mu.Unlock()
	}
	return m, err
}

func (m *leasedMessage) PartitionKey() []byte { return []byte(m.key) }

func (m *leasedMessage) LeaseUntil() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.until
}

func (m *leasedMessage) ExtendLease(context.Context) error {
	settled := len(m.how()) > 0
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case settled:
		return broker.ErrSettled
	case m.gone || time.Now().After(m.until):
		return broker.ErrStale
	}
	m.extended++
	m.until = time.Now().Add(m.term)
	return nil
}

func (m *leasedMessage) Stale() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gone || time.Now().After(m.until)
}

func (m *leasedMessage) extensions() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.extended
}

// Everything in hand keeps its lease: what is handled, what waits for its worker in
// a lane, what is parked and what waits behind it, also while paused, singly and in
// batches.
func TestLeasesAreKept(t *testing.T) {
	for _, shape := range []string{"single", "by key", "batch"} {
		t.Run(shape, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const term = 10 * time.Second
				f := newFeed()
				b := &stubBroker{
					properties: broker.Properties{Redelivers: true, Keys: broker.KeysNative},
					subscribe:  func(context.Context, string) (broker.Subscription, error) { return leaseFeed{f}, nil },
				}
				handle := func(key string, attempt int) error {
					if attempt == 1 {
						time.Sleep(time.Minute) // far longer than the lease
						return gostream.RetryAfter(2*time.Minute, nil)
					}
					return nil
				}
				var h gostream.Handler
				options := []gostream.HandleOption{gostream.Workers(2)}
				switch shape {
				case "batch":
					h = gostream.ConsumeBatch(func(_ context.Context, ms []gostream.Message[string]) error {
						return handle(ms[0].Body(), ms[0].Attempt())
					}, 2, 0)
				case "by key":
					options = append(options, gostream.ByKey())
					fallthrough
				default:
					h = gostream.Consume(func(_ context.Context, m gostream.Message[string]) error { return handle(m.Body(), m.Attempt()) })
				}
				app := batchApp(b, h, options...)
				var messages []*leasedMessage
				run(t, app, func(s *gostream.Service) {
					for i := range 6 {
						m := newLeased(fmt.Sprint("k", i%2), term)
						messages = append(messages, m)
						f.in <- m
						synctest.Wait()
					}
					time.Sleep(70 * time.Second)
					if err := s.Pause(t.Context(), "in"); err != nil {
						t.Error(err)
					}
					time.Sleep(10 * time.Minute)
					resume(t, s)
					time.Sleep(30 * time.Minute)
					synctest.Wait()
					if h := s.Health(t.Context()).Subscriptions[0]; h.InFlight != 0 {
						t.Errorf("at rest: %+v", h)
					}
				})
				handled := 0
				for i, m := range messages {
					if how := m.how(); slices.Equal(how, []string{"ack"}) {
						handled++
					} else {
						t.Errorf("message %d was settled as %v", i, how)
					}
					if n, want := m.extensions(), 30; i < 2 && n < want {
						t.Errorf("message %d: its lease was extended %d times, want at least %d", i, n, want)
					}
				}
				// At rest nothing is extended any more.
				before := messages[0].extensions()
				time.Sleep(time.Hour)
				if messages[0].extensions() != before {
					t.Error("the lease of a settled message is extended")
				}
			})
		})
	}
}

// A parked message that became stale is let go: not handled, not settled.
func TestStaleParkedIsLetGo(t *testing.T) {
	for _, shape := range []string{"single", "by key", "batch"} {
		t.Run(shape, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFeed()
				b := &stubBroker{
					properties: broker.Properties{Redelivers: true, Keys: broker.KeysNative},
					subscribe:  func(context.Context, string) (broker.Subscription, error) { return leaseFeed{f}, nil },
				}
				var calls []string
				var h gostream.Handler = gostream.Consume(func(_ context.Context, m gostream.Message[string]) error {
					calls = append(calls, fmt.Sprint(m.Body(), m.Attempt()))
					return errors.New("no")
				})
				var options []gostream.HandleOption
				if shape == "by key" {
					options = append(options, gostream.ByKey())
				}
				if shape == "batch" {
					h = gostream.ConsumeBatch(func(_ context.Context, ms []gostream.Message[string]) error {
						for _, m := range ms {
							calls = append(calls, fmt.Sprint(m.Body(), m.Attempt()))
						}
						return errors.New("no")
					}, 1, 0)
				}
				app := batchApp(b, h, options...)
				var outcomes outcomeLog
				app.Observe(outcomes.observer())
				m := newLeased("a", time.Minute)
				run(t, app, func(s *gostream.Service) {
					f.in <- m
					synctest.Wait()
					m.mu.Lock()
					m.gone = true
					m.mu.Unlock()
					time.Sleep(time.Hour)
					synctest.Wait()
					if h := s.Health(t.Context()).Subscriptions[0]; h.InFlight != 0 || len(h.Stalled) != 0 {
						t.Errorf("at rest: %+v", h)
					}
				})
				if !slices.Equal(calls, []string{"a1"}) || len(m.how()) != 0 {
					t.Errorf("calls %v, settled %v", calls, m.how())
				}
				if len(outcomes.all) != 1 || outcomes.count(gostream.OutcomeRetried) != 1 {
					t.Errorf("outcomes %v, want the one attempt that there was", outcomes.all)
				}
			})
		})
	}
}

// A message that fails and is stale follows no policy.
func TestStaleFailureIsLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		b := &stubBroker{
			properties: broker.Properties{Redelivers: true},
			subscribe:  func(context.Context, string) (broker.Subscription, error) { return leaseFeed{f}, nil },
			publish:    func(context.Context, broker.OutgoingMessage) error { t.Error("a copy was published"); return nil },
		}
		m := newLeased("a", time.Minute)
		app := batchApp(b, gostream.Consume(func(context.Context, string) error {
			m.mu.Lock()
			m.gone = true
			m.mu.Unlock()
			return gostream.DeadLetter(errors.New("no"))
		}), gostream.DeadLetterTo("dead"))
		run(t, app, func(*gostream.Service) {
			f.in <- m
			time.Sleep(time.Hour)
			synctest.Wait()
		})
		if len(m.how()) != 0 {
			t.Errorf("settled %v", m.how())
		}
	})
}

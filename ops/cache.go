package ops

import (
	"context"
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/gostream/gostream"
)

const (
	// patience is how much longer than the timeout somebody waits for an answer, so that
	// brokers which heed their context come first.
	patience = 100 * time.Millisecond
	// probePatience is how long a probe waits, which must be quick.
	probePatience = 250 * time.Millisecond
	// endPatience is how long the end of the app waits for a call whose context has
	// ended: the other hooks need the time of its grace.
	endPatience = 500 * time.Millisecond
)

// cache is what Service.Health said last. It is guarded by the handler's mu.
type cache struct {
	last   *gostream.Health // nil for nothing yet
	at     time.Time        // when last was answered
	asked  time.Time        // when the last flight ended, with an answer or not
	flight *flight          // nil where nobody asks
}

// flight is one call of Service.Health.
type flight struct {
	cancel  context.CancelFunc
	done    chan struct{}
	limit   time.Time // nobody waits longer
	changes int       // the handler's, when it began
}

// refresh asks the service where the last answer is old enough and nobody asks already.
// It returns the flight that goes on, nil for none; mu is held.
func (h *Handler) refresh() *flight {
	c := &h.cache
	if state := h.state(); c.flight != nil || state == stateStarting || state == stateStopped {
		return c.flight
	}
	now := time.Now()
	if !c.asked.IsZero() && now.Sub(c.asked) < h.interval {
		return nil
	}
	// Not the request's: the answer is for all, and whoever asked may leave.
	ctx, cancel := context.WithTimeout(context.Background(), h.timeout)
	c.flight = &flight{
		cancel: cancel, done: make(chan struct{}),
		limit: now.Add(h.timeout + patience), changes: h.changes,
	}
	go h.ask(ctx, h.service, c.flight)
	return c.flight
}

// ask is the goroutine of a flight. onEnd waits for it.
func (h *Handler) ask(ctx context.Context, s *gostream.Service, f *flight) {
	var answer *gostream.Health
	defer func() {
		failure := recover()
		f.cancel()
		if answer == nil {
			h.log.Error("Health of a broker or Lag of a subscription did not return", "panic", fmt.Sprint(failure), "stack", string(debug.Stack()))
		}
		h.mu.Lock()
		h.keep(answer, f)
		h.mu.Unlock()
		close(f.done)
	}()
	health := s.Health(ctx)
	answer = &health
}

// keep ends the flight with its answer, nil for none; mu is held.
func (h *Handler) keep(answer *gostream.Health, f *flight) {
	now := time.Now()
	h.cache.flight, h.cache.asked = nil, now
	if answer == nil || h.ended { // asked for in vain, or cancelled by the end
		return
	}
	h.cache.last, h.cache.at = answer, now
	// Changes are told without a lock, so that two can overtake one another. What the
	// subscriptions themselves say is right, unless something was told since.
	if h.changes == f.changes {
		for _, s := range answer.Subscriptions {
			h.states[s.Subscription.Name()] = s.State
		}
	}
}

// await waits for f, at most until its limit and for as long as the caller can. nil is no
// flight.
func (f *flight) await(r *http.Request, most time.Duration) {
	if f == nil {
		return
	}
	wait := time.NewTimer(min(most, time.Until(f.limit)))
	defer wait.Stop()
	select {
	case <-f.done:
	case <-wait.C:
	case <-r.Context().Done():
	}
}

package ops

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gostream/gostream"
)

// stuckAfter is how long after the end of ShutdownTimeout a drain that goes on is stuck:
// the runtime gives itself 3 s more.
const stuckAfter = 15 * time.Second

type liveness struct {
	Live   bool   `json:"live"`
	State  string `json:"state"`
	Reason string `json:"reason,omitempty"`
}

// Livez answers 200 for as long as the process can answer, before the start and after
// the end too, with one exception: a drain that has not ended 15 s after
// ShutdownTimeout will not end, and is answered with 503. A broker that is away, a lag
// and a slow handler are not mended by a restart, and do not count. It asks nobody.
func (h *Handler) Livez(w http.ResponseWriter, r *http.Request) {
	if !allow(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	h.mu.Lock()
	answer := liveness{Live: true, State: h.state()}
	if over := time.Since(h.stuckAt); answer.State == stateDraining && !h.stuckAt.IsZero() && over >= 0 {
		answer.Live = false
		answer.Reason = "the shutdown goes on " + (over + stuckAfter).Round(time.Second).String() + " after its time limit"
	}
	h.mu.Unlock()
	respond(w, r, statusOf(answer.Live), answer)
}

type readiness struct {
	Ready bool   `json:"ready"`
	State string `json:"state"`
	// Reasons say why it is not ready; empty where it is.
	Reasons []string `json:"reasons"`
	// Brokers is what was known last, null for nothing yet. It does not decide.
	Brokers    []brokerAnswer `json:"brokers"`
	BrokersAge *float64       `json:"brokers_age_seconds"`
}

// Readyz answers 200 where the app has started, does not drain and no subscription is
// down, else 503 with the reasons: as [gostream.Health.Ready], but of this moment. What
// the brokers said last is in the answer with its age, and does not decide: they
// reconnect by themselves. Where that is older than [Interval], a new answer is waited
// for, at most 250 ms.
func (h *Handler) Readyz(w http.ResponseWriter, r *http.Request) {
	if !allow(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	h.mu.Lock()
	f := h.refresh()
	h.mu.Unlock()
	f.await(r, probePatience)
	h.mu.Lock()
	answer := readiness{State: h.state(), Reasons: h.reasons()}
	answer.Ready = len(answer.Reasons) == 0
	if last := h.cache.last; last != nil {
		age := seconds(time.Since(h.cache.at))
		answer.Brokers, answer.BrokersAge = h.brokers(last), &age
	}
	h.mu.Unlock()
	respond(w, r, statusOf(answer.Ready), answer)
}

// reasons is why the app is not ready, never nil; mu is held.
func (h *Handler) reasons() []string {
	reasons := []string{}
	if h.state() != stateRunning {
		return append(reasons, h.whyNot())
	}
	for name, state := range h.states {
		if state != gostream.StateRunning && state != gostream.StatePaused {
			reasons = append(reasons, "subscription "+strconv.Quote(name)+" is "+state.String())
		}
	}
	slices.Sort(reasons)
	return reasons
}

func statusOf(good bool) int {
	if good {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}

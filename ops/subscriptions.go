package ops

import (
	"context"
	"encoding/base64"
	"errors"
	"math"
	"net/http"
	"time"
	"unicode/utf8"

	"github.com/gostream/gostream"
)

// What is longer than this is cut in an answer: it is somebody else's text.
const (
	maxKey   = 256
	maxError = 1024
)

// The names of fields are stable; testdata/*.golden holds them.
type (
	listAnswer struct {
		App     string `json:"app"`
		Version string `json:"version"`
		State   string `json:"state"`
		Ready   bool   `json:"ready"`
		// Age is how old all that follows is, but the states of subscriptions.
		Age            float64              `json:"age_seconds"`
		SettleFailures int64                `json:"settle_failures"`
		SendFailures   int64                `json:"send_failures"`
		Subscriptions  []subscriptionAnswer `json:"subscriptions"`
		Brokers        []brokerAnswer       `json:"brokers"`
	}
	subscriptionAnswer struct {
		Name     string        `json:"name"`
		Source   string        `json:"source"`
		Group    string        `json:"group"`
		Broker   string        `json:"broker"`
		State    string        `json:"state"`
		InFlight int           `json:"in_flight"`
		Parked   int           `json:"parked"`
		Oldest   float64       `json:"oldest_seconds"`
		Lag      *int64        `json:"lag"` // null where it is not known
		Stalled  stalledAnswer `json:"stalled"`
	}
	stalledAnswer struct {
		Count   int         `json:"count"` // of keys, at most 100
		Oldest  float64     `json:"oldest_seconds"`
		Waiting int         `json:"waiting"` // messages behind the first of each key
		Keys    []keyAnswer `json:"keys,omitempty"`
	}
	keyAnswer struct {
		// One of the two: base64 where the key is no text.
		Key      *string `json:"key,omitempty"`
		Base64   string  `json:"key_base64,omitempty"`
		Cut      bool    `json:"cut,omitempty"`
		For      float64 `json:"for_seconds"`
		Attempts int     `json:"attempts"`
		Waiting  int     `json:"waiting"`
	}
	brokerAnswer struct {
		Kind string `json:"kind"`
		// Healthy is null where the broker cannot tell, or did not in time.
		Healthy *bool  `json:"healthy"`
		Error   string `json:"error"`
	}
)

// Subscriptions answers how the subscriptions and the brokers are, by
// [gostream.Service.Health]. Where the last answer is older than [Interval], it waits
// for a new one, for [Timeout]; where that does not come, the last one is given, with
// its age. Before the start and after the end it is 503.
func (h *Handler) Subscriptions(w http.ResponseWriter, r *http.Request) {
	if !allow(w, r, http.MethodGet, http.MethodHead) {
		return
	}
	h.mu.Lock()
	f := h.refresh()
	h.mu.Unlock()
	f.await(r, h.timeout+patience)
	h.mu.Lock()
	state, why := h.state(), h.whyNot()
	if state == stateStarting || state == stateStopped {
		h.mu.Unlock()
		fail(w, r, http.StatusServiceUnavailable, why, state)
		return
	}
	if h.cache.last == nil {
		h.mu.Unlock()
		fail(w, r, http.StatusServiceUnavailable, "the brokers have not answered yet", state)
		return
	}
	answer := h.list(h.cache.last)
	h.mu.Unlock()
	respond(w, r, http.StatusOK, answer)
}

// list makes the answer of what the service said; mu is held.
func (h *Handler) list(last *gostream.Health) listAnswer {
	answer := listAnswer{
		App: h.app.Name(), Version: h.app.Version(), State: h.state(), Ready: len(h.reasons()) == 0,
		Age:            seconds(time.Since(h.cache.at)),
		SettleFailures: last.SettleFailures, SendFailures: last.SendFailures,
		Subscriptions: []subscriptionAnswer{},
		Brokers:       h.brokers(last),
	}
	for _, s := range last.Subscriptions {
		one := subscriptionAnswer{
			Name: s.Subscription.Name(), Source: s.Subscription.Source(),
			Group: s.Subscription.Group(), Broker: s.Subscription.Broker(),
			State:    h.states[s.Subscription.Name()].String(),
			InFlight: s.InFlight, Parked: s.Parked, Oldest: seconds(s.Oldest),
			Stalled: h.stalled(s.Stalled),
		}
		if s.Lag >= 0 {
			one.Lag = &s.Lag
		}
		answer.Subscriptions = append(answer.Subscriptions, one)
	}
	return answer
}

func (h *Handler) stalled(keys []gostream.StalledKey) stalledAnswer {
	answer := stalledAnswer{Count: len(keys)}
	for _, k := range keys {
		answer.Oldest = max(answer.Oldest, seconds(k.For))
		answer.Waiting += k.Waiting
		if h.showKeys {
			answer.Keys = append(answer.Keys, keyOf(k))
		}
	}
	return answer
}

func keyOf(k gostream.StalledKey) keyAnswer {
	answer := keyAnswer{For: seconds(k.For), Attempts: k.Attempts, Waiting: k.Waiting, Cut: len(k.Key) > maxKey}
	if utf8.Valid(k.Key) {
		text := cut(string(k.Key), maxKey)
		answer.Key = &text
	} else {
		answer.Base64 = base64.StdEncoding.EncodeToString(k.Key[:min(len(k.Key), maxKey)])
	}
	return answer
}

func (h *Handler) brokers(last *gostream.Health) []brokerAnswer {
	answer := []brokerAnswer{}
	for _, b := range last.Brokers {
		one := brokerAnswer{Kind: b.Kind}
		switch {
		case !b.Known:
		case errors.Is(b.Err, context.DeadlineExceeded), errors.Is(b.Err, context.Canceled):
			one.Error = "no answer within " + h.timeout.String()
		default:
			healthy := b.Err == nil
			one.Healthy = &healthy
			if b.Err != nil {
				one.Error = cut(b.Err.Error(), maxError)
			}
		}
		answer = append(answer, one)
	}
	return answer
}

// cut shortens s to n bytes, at the beginning of a rune.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// seconds is d in seconds, to the millisecond.
func seconds(d time.Duration) float64 { return math.Round(d.Seconds()*1000) / 1000 }

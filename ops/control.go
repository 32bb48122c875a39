package ops

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"github.com/gostream/gostream"
)

// ErrUnauthenticated is what the function of [Control] returns, or wraps, where it is
// not known who asks: the client gets 401. The header WWW-Authenticate is "Bearer",
// unless a handler around this one has set another.
var ErrUnauthenticated = errors.New("ops: it is not known who asks")

const (
	// controlPatience is how long a request waits for the intake to stop: a broker that
	// ignores its context would keep it for as long as the client has patience.
	controlPatience = 10 * time.Second
	// mostBody bounds what the user's function can read of a body.
	mostBody = 64 << 10
)

type controlAnswer struct {
	Name  string `json:"name"`
	State string `json:"state"`
}

// Pause pauses the subscription that r.PathValue("name") names, on POST, and answers 200
// when its intake has stopped, or, where the request's context has ended before or 10 s
// have passed, 504: the pause holds all the same. See [gostream.Service.Pause]. An unknown name is 404 with
// the names that there are; while the app starts it is 503, from its drain on 409.
// Without [Control] it is 404.
//
// Mounted by itself, its pattern needs {name}: "/subscriptions/{name}/pause".
func (h *Handler) Pause(w http.ResponseWriter, r *http.Request) {
	h.control(w, r, "pause", (*gostream.Service).Pause)
}

// Resume lets the subscription work again; else it is as [Handler.Pause]. One that has to
// be opened again may still be down in the answer.
func (h *Handler) Resume(w http.ResponseWriter, r *http.Request) {
	h.control(w, r, "resume", (*gostream.Service).Resume)
}

func (h *Handler) control(w http.ResponseWriter, r *http.Request, action string, do func(*gostream.Service, context.Context, string) error) {
	if h.authorize == nil {
		h.notFound(w, r)
		return
	}
	if !allow(w, r, http.MethodPost) {
		return
	}
	name := r.PathValue("name")
	who, ok := h.admit(w, r, action, name)
	if !ok {
		return
	}
	if name == "" {
		fail(w, r, http.StatusInternalServerError, "the pattern that this handler is mounted on has no {name}", h.now())
		return
	}
	h.mu.Lock()
	service, state, why := h.service, h.state(), h.whyNot()
	h.mu.Unlock()
	if state != stateRunning {
		fail(w, r, notRunning(state), why, state)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), controlPatience)
	defer cancel()
	err := do(service, ctx, name)
	if err == nil {
		h.log.InfoContext(r.Context(), action+" by request", gostream.AttrSubscription, name, "who", who)
		h.mu.Lock()
		answer := controlAnswer{name, h.states[name].String()}
		h.mu.Unlock()
		respond(w, r, http.StatusOK, answer)
		return
	}
	h.log.WarnContext(r.Context(), action+" by request failed", gostream.AttrSubscription, name, "who", who, "error", err)
	h.controlFailed(w, r.WithContext(ctx), name, err)
}

// admit asks the user's function.
func (h *Handler) admit(w http.ResponseWriter, r *http.Request, action, name string) (who string, ok bool) {
	status, text := http.StatusForbidden, "this request is not allowed"
	err := h.origins.Check(r)
	if err == nil {
		if r.Body != nil {
			r.Body = http.MaxBytesReader(w, r.Body, mostBody)
		}
		who, err = h.decide(r)
	}
	var broken *authorizePanic
	switch {
	case err == nil:
		return who, true
	case errors.As(err, &broken):
		status, text = http.StatusInternalServerError, "whether this request is allowed could not be decided"
	case errors.Is(err, ErrUnauthenticated):
		status, text = http.StatusUnauthorized, "this request needs authentication"
		if w.Header().Get("WWW-Authenticate") == "" {
			w.Header().Set("WWW-Authenticate", "Bearer")
		}
	}
	h.log.WarnContext(r.Context(), action+" by request refused", gostream.AttrSubscription, name, "remote", r.RemoteAddr, "error", err)
	fail(w, r, status, text, "")
	return "", false
}

// decide is the user's function, with a panic turned into an error.
func (h *Handler) decide(r *http.Request) (who string, err error) {
	defer func() {
		if p := recover(); p != nil {
			who, err = "", &authorizePanic{p, debug.Stack()}
		}
	}()
	return h.authorize(r)
}

type authorizePanic struct {
	value any
	stack []byte
}

func (e *authorizePanic) Error() string {
	return fmt.Sprintf("the function of Control panicked: %v\n%s", e.value, e.stack)
}

func (h *Handler) controlFailed(w http.ResponseWriter, r *http.Request, name string, err error) {
	h.mu.Lock()
	state, why := h.state(), h.whyNot()
	names := slices.Sorted(maps.Keys(h.states))
	h.mu.Unlock()
	switch {
	case errors.Is(err, gostream.ErrUnknownSubscription):
		respond(w, r, http.StatusNotFound, failure{
			Error: "no subscription is called " + strconv.Quote(cut(name, maxKey)), State: state, Subscriptions: names,
		})
	case r.Context().Err() != nil:
		fail(w, r, http.StatusGatewayTimeout, "the time of this request has passed; what was asked for holds, and is not known to be complete", state)
	case state != stateRunning:
		fail(w, r, notRunning(state), why, state)
	default:
		fail(w, r, http.StatusInternalServerError, cut(err.Error(), maxError), state)
	}
}

func notRunning(state string) int {
	if state == stateStarting {
		return http.StatusServiceUnavailable
	}
	return http.StatusConflict
}

// now is the state of the app.
func (h *Handler) now() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state()
}

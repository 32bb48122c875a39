package ops

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gostream/gostream"
)

// The states of an app, as the answers name them.
const (
	stateStarting = "starting"
	stateRunning  = "running"
	stateDraining = "draining"
	stateStopped  = "stopped"
)

// Handler serves all paths of this package; the methods named after them serve one each,
// for a mux with other paths. It may be mounted and asked before the app starts, and
// after it has stopped. Its methods are safe for concurrent use.
type Handler struct {
	app       *gostream.App
	log       *slog.Logger
	interval  time.Duration
	timeout   time.Duration
	showKeys  bool
	authorize func(r *http.Request) (who string, err error) // nil: no control
	origins   *http.CrossOriginProtection

	mu      sync.Mutex                // guards what follows; never held while other code runs
	service *gostream.Service         // nil until it is live
	ended   bool                      // the brokers are closed: nothing is asked any more
	stuckAt time.Time                 // when the drain should have ended long ago; zero for unknown
	states  map[string]gostream.State // by the subscription's name
	changes int                       // of states, to know whether there were any
	cache   cache
}

// New returns the handler of app, which must not have started. It adds an observer and
// hooks to the app, opens no port and starts no goroutine: the app is started and run as
// it would be without it. All mistakes are in one error.
func New(app *gostream.App, opts ...Option) (*Handler, error) {
	h := &Handler{
		app: app, log: slog.Default(), interval: DefaultInterval, timeout: DefaultTimeout,
		origins: http.NewCrossOriginProtection(),
		states:  make(map[string]gostream.State),
	}
	var errs []error
	if app == nil {
		errs = append(errs, errors.New("New: the app is nil"))
	}
	for _, o := range opts {
		if o == nil {
			errs = append(errs, errors.New("New: an option is nil"))
			continue
		}
		errs = append(errs, o.apply(h))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("ops: %w", err)
	}
	h.log = h.log.With(gostream.AttrApp, app.Name())
	app.Observe(gostream.Observer{Started: h.onLive, StateChanged: h.onStateChanged, Drained: h.onDrained})
	app.OnShutdown(h.onShutdown)
	app.AfterShutdown(h.onEnd)
	return h, nil
}

// ServeHTTP serves /livez, /readyz, /subscriptions and, with [Control],
// /subscriptions/{name}/pause and /subscriptions/{name}/resume. Below another path, use
// [http.StripPrefix].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.EscapedPath() // a slash within a name is escaped here
	switch path {
	case "/livez":
		h.Livez(w, r)
		return
	case "/readyz":
		h.Readyz(w, r)
		return
	case "/subscriptions":
		h.Subscriptions(w, r)
		return
	}
	if rest, ok := strings.CutPrefix(path, "/subscriptions/"); ok {
		escaped, action, _ := strings.Cut(rest, "/")
		if name, err := url.PathUnescape(escaped); err == nil && name != "" {
			switch action {
			case "pause":
				r.SetPathValue("name", name)
				h.Pause(w, r)
				return
			case "resume":
				r.SetPathValue("name", name)
				h.Resume(w, r)
				return
			}
		}
	}
	h.notFound(w, r)
}

// onStateChanged keeps the states of the subscriptions, so that a probe need not ask.
func (h *Handler) onStateChanged(s *gostream.Subscription, to gostream.State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.states[s.Name()] = to
	h.changes++
}

// onLive is told the service, before the AfterStartup hooks.
func (h *Handler) onLive(s *gostream.Service) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.service = s
}

// onShutdown learns when the drain should end: the deadline of ctx is when
// ShutdownTimeout has passed.
func (h *Handler) onShutdown(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if limit, ok := ctx.Deadline(); ok {
		h.stuckAt = limit.Add(stuckAfter)
	}
	return nil
}

// onEnd waits for the goroutine that asks the brokers, if there is one.
func (h *Handler) onEnd(context.Context) error {
	h.mu.Lock()
	h.ended = true
	f := h.cache.flight
	h.mu.Unlock()
	if f == nil {
		return nil
	}
	f.cancel()
	wait := time.NewTimer(endPatience)
	defer wait.Stop()
	select {
	case <-f.done:
		return nil
	case <-wait.C:
		return errors.New("ops: Health of a broker or Lag of a subscription goes on although its context and the app have ended")
	}
}

// onDrained is called at the very end, also where there was no time for hooks.
func (h *Handler) onDrained(gostream.DrainReport) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
}

// state is the state of the app; mu is held.
func (h *Handler) state() string {
	switch {
	case h.ended:
		return stateStopped
	case h.service == nil:
		return stateStarting
	case h.service.Draining():
		return stateDraining
	case h.service.Started():
		return stateRunning
	default:
		return stateStarting
	}
}

// whyNot says why the app is not at work; mu is held.
func (h *Handler) whyNot() string {
	switch h.state() {
	case stateStopped:
		return "the app has stopped"
	case stateDraining:
		return "the app is shutting down"
	}
	return "the app has not started yet"
}

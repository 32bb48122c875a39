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

	mu       sync.Mutex // guards what follows; never held while other code runs
	ours     bool       // started by Start or Run
	live     bool       // the AfterStartup hooks have begun
	draining bool
	ended    bool      // the brokers are closed: nothing is asked any more
	stuckAt  time.Time // when the drain should have ended long ago; zero for unknown
	service  *gostream.Service
	states   map[string]gostream.State // by the subscription's name
	changes  int                       // of states, to know whether there were any
	cache    cache
}

// New returns the handler of app, which must not have started. It adds an observer and
// hooks to the app, opens no port and starts no goroutine. All mistakes are in one error.
//
// Readiness turns false in an OnShutdown hook, and hooks run in the order in which they
// were added: behind one that was added before New and takes its time, it turns false
// when the service is asked next, up to [Interval] later. [Handler.Run] turns it false
// at once in any case, but where the app shuts itself down.
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
	app.Observe(gostream.Observer{StateChanged: h.onStateChanged, Drained: h.onDrained})
	app.AfterStartup(h.onStarted)
	app.OnShutdown(h.onShutdown)
	app.AfterShutdown(h.onEnd)
	return h, nil
}

// Start is [gostream.App.Start] of the handler's app. An app that is started otherwise
// never becomes ready here, and /readyz says why.
func (h *Handler) Start(ctx context.Context) (*gostream.Service, error) {
	h.mu.Lock()
	h.ours = true
	h.mu.Unlock()
	s, err := h.app.Start(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		h.service = s
	case errors.Is(err, gostream.ErrStarted):
		h.ours = h.service != nil
	default:
		h.ended = true // an app starts once
	}
	return s, err
}

// Run is [gostream.App.Run] of the handler's app.
func (h *Handler) Run(ctx context.Context) error {
	s, err := h.Start(ctx)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		h.mu.Lock()
		h.draining = true // before any hook
		h.mu.Unlock()
		return s.Shutdown(context.WithoutCancel(ctx))
	case <-s.Done():
		return s.Wait()
	}
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

func (h *Handler) onStarted(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.live = true
	return nil
}

// onShutdown turns readiness false. The deadline of ctx is when
// ShutdownTimeout has passed.
func (h *Handler) onShutdown(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.draining = true
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
	case h.draining:
		return stateDraining
	case h.service != nil:
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
	if h.live && !h.ours {
		return "the app was started without this handler: start it with Handler.Start or Handler.Run"
	}
	return "the app has not started yet"
}

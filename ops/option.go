package ops

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

const (
	// DefaultInterval is how old what the brokers said may be before they are asked
	// again.
	DefaultInterval = time.Second
	// DefaultTimeout is how long the brokers have to answer.
	DefaultTimeout = time.Second
)

// Option configures [New]. One that is given twice replaces the first.
type Option interface{ apply(h *Handler) error }

type option func(h *Handler) error

func (o option) apply(h *Handler) error { return o(h) }

// Interval sets how long the answer of the brokers is kept: they are asked at most once
// in it, however many probes come. The default is [DefaultInterval]; d must be positive.
func Interval(d time.Duration) Option {
	return option(func(h *Handler) error {
		if d <= 0 {
			return fmt.Errorf("Interval(%v): it must be positive", d)
		}
		h.interval = d
		return nil
	})
}

// Timeout sets how long the brokers have to answer, all together: the context of
// [gostream.Service.Health] ends then. /subscriptions waits about that long for an
// answer, /readyz at most 250 ms, /livez not at all. The default is [DefaultTimeout]; d must be positive.
func Timeout(d time.Duration) Option {
	return option(func(h *Handler) error {
		if d <= 0 {
			return fmt.Errorf("Timeout(%v): it must be positive", d)
		}
		h.timeout = d
		return nil
	})
}

// ShowKeys has /subscriptions show the keys whose messages wait for a retry. The default
// shows how many there are and for how long they have waited: keys may be personal data.
func ShowKeys() Option {
	return option(func(h *Handler) error {
		h.showKeys = true
		return nil
	})
}

// WithLogger sets the logger of who paused and resumed what, and who was refused. The
// default is [slog.Default], asked at New. l must not be nil.
func WithLogger(l *slog.Logger) Option {
	return option(func(h *Handler) error {
		if l == nil {
			return errors.New("WithLogger(nil): a logger is needed")
		}
		h.log = l
		return nil
	})
}

// Control adds the routes that pause and resume a subscription. Without it they do not
// exist: the answer is 404.
//
// authorize decides about each request, from several goroutines at once; it must not be
// nil. r.PathValue("name") is the subscription's name. It returns who asks, for the log,
// or an error: that goes to the log, the client gets 401 where it is
// [ErrUnauthenticated] and 403 elsewhere, without its text; where authorize panics it
// gets 500, and nothing is done. The body, which no route needs, is cut off after 64 KiB. A request that a browser
// sends for a page of another origin is refused before, as [http.CrossOriginProtection]
// does: authorize may rely on what browsers send by themselves.
func Control(authorize func(r *http.Request) (who string, err error)) Option {
	return option(func(h *Handler) error {
		if authorize == nil {
			return errors.New("Control(nil): a function that authorises requests is needed")
		}
		h.authorize = authorize
		return nil
	})
}

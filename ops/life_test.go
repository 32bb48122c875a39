package ops_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/ops"
)

// What each path answers in each state, as the package comment tells it.
func TestStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		b := newTestBroker(nil)
		handling := make(chan struct{})
		app := newApp(b, func(context.Context, string) error {
			close(handling)
			<-release
			return nil
		})
		p := gostream.NewPublisher[string](app, b, "orders")
		h := newHandler(t, app, ops.Control(anybody))
		check(t, h, "before the start", "starting", 200, 503, 503, 503)
		app.OnStartup(func(context.Context) error {
			check(t, h, "in OnStartup", "starting", 200, 503, 503, 503)
			return nil
		})
		app.AfterStartup(func(context.Context) error {
			check(t, h, "in AfterStartup", "starting", 200, 503, 503, 503)
			return nil
		})
		hook, goOn := make(chan struct{}), make(chan struct{})
		app.OnShutdown(func(context.Context) error {
			close(hook)
			<-goOn
			return nil
		})
		s := start(t, h)
		check(t, h, "running", "running", 200, 200, 200, 200)
		if err := p.Publish(t.Context(), "one"); err != nil {
			t.Fatal(err)
		}
		<-handling

		ended := make(chan error)
		go func() { ended <- s.Shutdown(context.Background()) }()
		<-hook // the very start: the intake goes on
		if got := s.Health(t.Context()).Subscriptions[0]; got.State != gostream.StateRunning || got.InFlight != 1 {
			t.Errorf("the drain has gone too far for this test: %+v", got)
		}
		check(t, h, "draining, in OnShutdown", "draining", 200, 503, 200, 409)
		close(goOn)
		synctest.Wait()
		check(t, h, "draining, a handler runs", "draining", 200, 503, 200, 409)
		time.Sleep(20 * time.Second) // of ShutdownTimeout
		check(t, h, "draining for long", "draining", 200, 503, 200, 409)
		close(release)
		if err := <-ended; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		check(t, h, "stopped", "stopped", 200, 503, 503, 409)
	})
}

// Behind a hook that was added before New, readiness turns false when the service is
// asked next; with Run at once.
func TestReadyBehindASlowHook(t *testing.T) {
	for name, byRun := range map[string]bool{"Start": false, "Run": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				app := newApp(newTestBroker(nil), nothing)
				goOn := make(chan struct{})
				app.OnShutdown(func(context.Context) error { <-goOn; return nil })
				h := newHandler(t, app)
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error)
				if byRun {
					go func() { ended <- h.Run(ctx) }()
				} else {
					s := start(t, h)
					go func() { <-ctx.Done(); ended <- s.Shutdown(context.Background()) }()
				}
				synctest.Wait()
				if a := get(t, h, "/readyz"); a.status != 200 {
					t.Errorf("/readyz is %d: %s", a.status, a.body)
				}
				cancel()
				synctest.Wait()
				if !byRun {
					time.Sleep(ops.DefaultInterval)
				}
				if a := get(t, h, "/readyz"); a.status != 503 || a.State != "draining" {
					t.Errorf("in the drain /readyz is %d: %s", a.status, a.body)
				}
				close(goOn)
				if err := <-ended; err != nil {
					t.Errorf("Shutdown: %v", err)
				}
			})
		})
	}
}

// A drain that goes on long after its limit is stuck; one that is slow is not.
func TestStuckDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &hangingShutdown{newTestBroker(nil), make(chan struct{})}
		h := newHandler(t, newApp(b, nothing))
		s := start(t, h)
		ended := make(chan error)
		go func() { ended <- s.Shutdown(context.Background()) }()
		time.Sleep(gostream.DefaultShutdownTimeout + 14*time.Second)
		if a := get(t, h, "/livez"); a.status != 200 || !a.Live {
			t.Errorf("before the time /livez is %d: %s", a.status, a.body)
		}
		time.Sleep(time.Second)
		a := get(t, h, "/livez")
		if a.status != 503 || a.Live || !strings.Contains(a.Reason, "15s after its time limit") {
			t.Errorf("stuck: /livez is %d: %s", a.status, a.body)
		}
		if a := do(t, h, "HEAD", "/livez"); a.status != 503 {
			t.Errorf("stuck: HEAD /livez is %d", a.status)
		}
		close(b.goOn)
		<-ended
		if a := get(t, h, "/livez"); a.status != 200 {
			t.Errorf("it has ended after all: /livez is %d: %s", a.status, a.body)
		}
	})
}

type hangingShutdown struct {
	*testBroker
	goOn chan struct{}
}

func (b *hangingShutdown) Shutdown(ctx context.Context) error {
	<-b.goOn // ctx is not heeded
	return b.testBroker.Shutdown(ctx)
}

// A subscription that is down makes the app unready at once, with its name; live again,
// it is ready.
func TestSubscriptionDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestBroker(nil)
		b.feed = &feed{make(chan error)}
		h := newHandler(t, newApp(b, nothing))
		s := start(t, h)
		ready := func(want bool, reasons ...string) {
			t.Helper()
			a := get(t, h, "/readyz")
			if a.Ready != want || !slices.Equal(a.Reasons, reasons) || (a.status == 200) != want {
				t.Errorf("/readyz is %d, want ready %v because of %q: %s", a.status, want, reasons, a.body)
			}
			if s.Health(t.Context()).Ready != want {
				t.Errorf("the service says ready %v", !want)
			}
		}
		ready(true)
		b.feed.fail <- errors.New("gone")
		synctest.Wait()
		ready(false, `subscription "orders" is down`)
		if a := get(t, h, "/livez"); a.status != 200 {
			t.Errorf("/livez is %d", a.status)
		}
		time.Sleep(time.Second) // it is opened again
		ready(true)
		if err := s.Pause(t.Context(), "orders"); err != nil {
			t.Fatal(err)
		}
		ready(true)
		shutdown(t, s)
	})
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := newApp(newTestBroker(nil), nothing)
		h := newHandler(t, app)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- h.Run(ctx) }()
		synctest.Wait()
		if a := get(t, h, "/readyz"); a.status != 200 {
			t.Errorf("/readyz is %d: %s", a.status, a.body)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if a := get(t, h, "/readyz"); a.status != 503 || a.State != "stopped" {
			t.Errorf("/readyz is %d: %s", a.status, a.body)
		}
		if err := h.Run(t.Context()); !errors.Is(err, gostream.ErrStarted) {
			t.Errorf("a second Run: %v", err)
		}
	})
}

// A service that ends by itself ends Run, with its error.
func TestRunFailsFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestBroker(nil)
		cause := errors.New("out of paper")
		app := newApp(b, func(context.Context, string) error { return gostream.FailFast(cause) })
		p := gostream.NewPublisher[string](app, b, "orders")
		app.AfterStartup(func(ctx context.Context) error { return p.Publish(ctx, "one") })
		h := newHandler(t, app, ops.Control(anybody))
		if err := h.Run(t.Context()); !errors.Is(err, cause) {
			t.Errorf("Run: %v, want %v", err, cause)
		}
		check(t, h, "stopped", "stopped", 200, 503, 503, 409)
	})
}

// A start that fails leaves the handler stopped: an app starts once.
func TestFailedStart(t *testing.T) {
	for name, brk := range map[string]func(app *gostream.App, fail func(context.Context) error){
		"OnStartup":    func(app *gostream.App, fail func(context.Context) error) { app.OnStartup(fail) },
		"AfterStartup": func(app *gostream.App, fail func(context.Context) error) { app.AfterStartup(fail) },
		"the check":    func(app *gostream.App, _ func(context.Context) error) { app.OnStartup(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				app := newApp(newTestBroker(nil), nothing)
				h := newHandler(t, app, ops.Control(anybody))
				brk(app, func(context.Context) error { return errors.New("no paper") })
				if err := h.Run(t.Context()); err == nil {
					t.Error("Run has no error")
				}
				check(t, h, "after", "stopped", 200, 503, 503, 409)
			})
		})
	}
}

// An app that was started by itself is never ready, and the answer says what to change.
func TestStartedWithoutTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := newApp(newTestBroker(nil), nothing)
		h := newHandler(t, app, ops.Control(anybody))
		s, err := app.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			for _, path := range []string{"/readyz", "/subscriptions"} {
				if a := get(t, h, path); a.status != 503 || !strings.Contains(a.body, "Handler.Start or Handler.Run") {
					t.Errorf("%s is %d: %s", path, a.status, a.body)
				}
			}
			if a := do(t, h, http.MethodPost, "/subscriptions/orders/pause"); a.status != 503 || !strings.Contains(a.Error, "Handler.Start") {
				t.Errorf("pause is %d: %s", a.status, a.body)
			}
			if _, err := h.Start(t.Context()); !errors.Is(err, gostream.ErrStarted) {
				t.Errorf("Start: %v", err)
			}
		}
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if a := get(t, h, "/readyz"); a.State != "stopped" {
			t.Errorf("/readyz: %s", a.body)
		}
	})
}

// All mistakes are in one error, and a handler that was refused leaves the app alone.
func TestNewRefuses(t *testing.T) {
	t.Parallel()
	h, err := ops.New(nil, ops.Interval(0), ops.Timeout(-1), ops.WithLogger(nil), ops.Control(nil), nil)
	if h != nil || err == nil {
		t.Fatalf("New: %v, %v", h, err)
	}
	for _, want := range []string{"the app is nil", "Interval(0s)", "Timeout(-1ns)", "WithLogger(nil)", "Control(nil)", "an option is nil"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
}

package ops_test

import (
	"context"
	"errors"
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
		s := start(t, app)
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

// Readiness turns false at the start of the drain, also where a hook that was added
// before New takes its time.
func TestReadyBehindASlowHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := newApp(newTestBroker(nil), nothing)
		goOn := make(chan struct{})
		app.OnShutdown(func(context.Context) error { <-goOn; return nil })
		h := newHandler(t, app, ops.Control(anybody))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- app.Run(ctx) }()
		synctest.Wait()
		check(t, h, "running", "running", 200, 200, 200, 200)
		cancel()
		synctest.Wait()
		check(t, h, "in the drain", "draining", 200, 503, 200, 409)
		close(goOn)
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// An app is not ready before its last AfterStartup hook has returned.
func TestReadyAfterTheHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := newApp(newTestBroker(nil), nothing)
		slow := func(context.Context) error { time.Sleep(time.Minute); return nil }
		app.AfterStartup(slow)
		h := newHandler(t, app, ops.Control(anybody))
		app.AfterStartup(slow)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s := start(t, app)
			check(t, h, "after", "running", 200, 200, 200, 200)
			shutdown(t, s)
		}()
		for range 2 {
			time.Sleep(30 * time.Second)
			check(t, h, "in a hook", "starting", 200, 503, 503, 503)
			time.Sleep(29 * time.Second)
		}
		<-ended
	})
}

// A drain that goes on long after its limit is stuck; one that is slow is not.
func TestStuckDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &hangingShutdown{newTestBroker(nil), make(chan struct{})}
		app := newApp(b, nothing)
		h := newHandler(t, app)
		s := start(t, app)
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
		app := newApp(b, nothing)
		h := newHandler(t, app)
		s := start(t, app)
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

// A service that ends by itself is stopped here too.
func TestRunFailsFast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestBroker(nil)
		cause := errors.New("out of paper")
		app := newApp(b, func(context.Context, string) error { return gostream.FailFast(cause) })
		p := gostream.NewPublisher[string](app, b, "orders")
		app.AfterStartup(func(ctx context.Context) error { return p.Publish(ctx, "one") })
		h := newHandler(t, app, ops.Control(anybody))
		if err := app.Run(t.Context()); !errors.Is(err, cause) {
			t.Errorf("Run: %v, want %v", err, cause)
		}
		check(t, h, "stopped", "stopped", 200, 503, 503, 409)
	})
}

// A start that fails is never ready: after it was undone the app is stopped here, and
// where nothing had begun it is starting, since nobody is told.
func TestFailedStart(t *testing.T) {
	for name, tc := range map[string]struct {
		fail  func(app *gostream.App, fail func(context.Context) error)
		state string
		pause int
	}{
		"OnStartup":    {func(app *gostream.App, fail func(context.Context) error) { app.OnStartup(fail) }, "starting", 503},
		"AfterStartup": {func(app *gostream.App, fail func(context.Context) error) { app.AfterStartup(fail) }, "stopped", 409},
		"the check":    {func(app *gostream.App, _ func(context.Context) error) { app.OnStartup(nil) }, "starting", 503},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				app := newApp(newTestBroker(nil), nothing)
				h := newHandler(t, app, ops.Control(anybody))
				tc.fail(app, func(context.Context) error { return errors.New("no paper") })
				if err := app.Run(t.Context()); err == nil {
					t.Error("Run has no error")
				}
				check(t, h, "after", tc.state, 200, 503, 503, tc.pause)
			})
		})
	}
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

package ops_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/ops"
)

func boolOf(b *bool) any {
	if b == nil {
		return nil
	}
	return *b
}

// However many probes come: one Health call at a time, one in an interval.
func TestOneHealthCallInAnInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestBroker(func(context.Context) error { time.Sleep(300 * time.Millisecond); return nil })
		app := newApp(b, nothing)
		h := newHandler(t, app, ops.Interval(2*time.Second))
		for range 3 {
			get(t, h, "/readyz")
		}
		if n := b.calls.Load(); n != 0 {
			t.Errorf("%d calls before the start", n)
		}
		s := start(t, app)
		storm := func(when string, calls int64) {
			t.Helper()
			var wg sync.WaitGroup
			for i := range 50 {
				wg.Go(func() {
					path := []string{"/readyz", "/subscriptions", "/livez"}[i%3]
					if a := get(t, h, path); a.status != 200 {
						t.Errorf("%s: %s is %d: %s", when, path, a.status, a.body)
					}
				})
			}
			wg.Wait()
			if n := b.calls.Load(); n != calls {
				t.Errorf("%s: %d calls, want %d", when, n, calls)
			}
		}
		storm("at first", 1)
		storm("at once again", 1)
		time.Sleep(1900 * time.Millisecond)
		if a := get(t, h, "/subscriptions"); a.Age == nil || *a.Age != 1.9 {
			t.Errorf("the age is not 1.9 s: %s", a.body)
		}
		storm("before the interval has passed", 1)
		time.Sleep(100 * time.Millisecond)
		storm("after it", 2)
		if a := get(t, h, "/subscriptions"); a.Age == nil || *a.Age != 0 {
			t.Errorf("the age is not 0: %s", a.body)
		}
		if most := b.most.Load(); most != 1 {
			t.Errorf("%d calls at once", most)
		}
		shutdown(t, s)
		time.Sleep(time.Hour)
		for range 3 {
			get(t, h, "/readyz")
			get(t, h, "/subscriptions")
		}
		if n := b.calls.Load(); n != 2 {
			t.Errorf("%d calls, some after the end", n-2)
		}
	})
}

// A broker that hangs until its context ends costs /subscriptions the timeout once in an
// interval, and a probe 250 ms.
func TestHealthTimesOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestBroker(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		app := newApp(b, nothing)
		h := newHandler(t, app, ops.Timeout(700*time.Millisecond))
		s := start(t, app)
		took := func(path string, want time.Duration) answer {
			t.Helper()
			began := time.Now()
			a := get(t, h, path)
			if took := time.Since(began); took != want || a.status != 200 {
				t.Errorf("%s took %v, want %v; it is %d: %s", path, took, want, a.status, a.body)
			}
			return a
		}
		if a := took("/readyz", 250*time.Millisecond); a.Brokers != nil || a.BrokersAge != nil {
			t.Errorf("what was not asked is known: %s", a.body)
		}
		took("/livez", 0)
		a := took("/subscriptions", 450*time.Millisecond) // the rest of it
		if len(a.Brokers) != 1 || a.Brokers[0].Healthy != nil || !strings.Contains(a.Brokers[0].Error, "no answer within 700ms") {
			t.Errorf("the broker did not answer: %s", a.body)
		}
		took("/subscriptions", 0)
		if a := took("/readyz", 0); a.BrokersAge == nil || *a.BrokersAge != 0 || len(a.Brokers) != 1 {
			t.Errorf("/readyz: %s", a.body)
		}
		shutdown(t, s)
	})
}

// A broker that ignores its context is asked once. The last answer is given, with its
// age. The drain waits for the call, and tells of it where it does not come back.
func TestHealthHangs(t *testing.T) {
	for _, returns := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			goOn := make(chan struct{})
			var hang bool
			b := newTestBroker(nil)
			b.health = func(context.Context) error {
				if hang {
					<-goOn
				}
				return nil
			}
			app := newApp(b, nothing)
			h := newHandler(t, app)
			s := start(t, app)
			get(t, h, "/subscriptions")
			time.Sleep(5 * time.Second)
			hang = true
			began := time.Now()
			a := get(t, h, "/subscriptions")
			if took := time.Since(began); took > ops.DefaultTimeout+200*time.Millisecond {
				t.Errorf("the first answer took %v", took)
			}
			if a.status != 200 || a.Age == nil || *a.Age < 5 || boolOf(a.Brokers[0].Healthy) != true {
				t.Errorf("the last answer is not given: %d %s", a.status, a.body)
			}
			time.Sleep(time.Minute)
			began = time.Now()
			for range 5 {
				if a := get(t, h, "/subscriptions"); a.status != 200 || *a.Age < 65 {
					t.Errorf("it is %d: %s", a.status, a.body)
				}
				if a := get(t, h, "/readyz"); a.status != 200 {
					t.Errorf("/readyz is %d: %s", a.status, a.body)
				}
			}
			if took := time.Since(began); took != 0 {
				t.Errorf("later answers took %v", took)
			}
			if n := b.calls.Load(); n != 2 {
				t.Errorf("%d calls, want 2: one that hangs is not joined by others", n)
			}
			if returns {
				close(goOn)
				shutdown(t, s)
				return
			}
			err := s.Shutdown(context.Background())
			if err == nil || !strings.Contains(err.Error(), "ops: Health of a broker or Lag of a subscription goes on") {
				t.Errorf("Shutdown: %v", err)
			}
			close(goOn)
		})
	}
}

// One that never answered is no reason to hang, nor for silence.
func TestHealthNeverAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		b := newTestBroker(func(context.Context) error { <-goOn; return nil })
		app := newApp(b, nothing)
		h := newHandler(t, app)
		s := start(t, app)
		// A client that leaves is not waited for.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		began := time.Now()
		for _, path := range []string{"/subscriptions", "/readyz"} {
			do(t, h, "GET", path, func(r *http.Request) { *r = *r.WithContext(ctx) })
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v", took)
		}
		a := get(t, h, "/subscriptions")
		if a.status != 503 || a.Error != "the brokers have not answered yet" || a.State != "running" {
			t.Errorf("it is %d: %s", a.status, a.body)
		}
		close(goOn)
		shutdown(t, s)
	})
}

// The drain ends a call that heeds its context at once.
func TestEndCancelsTheCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestBroker(func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })
		app := newApp(b, nothing)
		h := newHandler(t, app, ops.Timeout(time.Hour))
		s := start(t, app)
		get(t, h, "/readyz")
		began := time.Now()
		shutdown(t, s)
		if took := time.Since(began); took != 0 || b.now.Load() != 0 {
			t.Errorf("the shutdown took %v, %d calls go on", took, b.now.Load())
		}
		if a := get(t, h, "/readyz"); a.Brokers != nil {
			t.Errorf("a call that was cancelled by the end counts as an answer: %s", a.body)
		}
	})
}

// A broker that is unwell is shown, and decides nothing.
func TestHealthFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newTestBroker(func(context.Context) error {
			return errors.New("the connection is lost " + strings.Repeat("€", 1000))
		})
		app := newApp(b, nothing)
		h := newHandler(t, app)
		s := start(t, app)
		a := get(t, h, "/subscriptions")
		if a.status != 200 || !a.Ready || boolOf(a.Brokers[0].Healthy) != false || !strings.HasPrefix(a.Brokers[0].Error, "the connection is lost €") {
			t.Errorf("it is %d: %s", a.status, a.body)
		}
		if n := len(a.Brokers[0].Error); n > 1024 || strings.ContainsRune(a.Brokers[0].Error, '\uFFFD') {
			t.Errorf("the error has %d bytes: %s", n, a.Brokers[0].Error)
		}
		if a := get(t, h, "/readyz"); a.status != 200 || boolOf(a.Brokers[0].Healthy) != false {
			t.Errorf("/readyz is %d: %s", a.status, a.body)
		}
		shutdown(t, s)
	})
}

// A Health that panics, or ends its goroutine, does not end the process.
func TestHealthPanics(t *testing.T) {
	for name, end := range map[string]func(){"panic": func() { panic("oh") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log logBuffer
				b := newTestBroker(func(context.Context) error { end(); return nil })
				app := newApp(b, nothing)
				h := newHandler(t, app, ops.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
				s := start(t, app)
				for range 3 {
					if a := get(t, h, "/subscriptions"); a.status != 503 {
						t.Errorf("it is %d: %s", a.status, a.body)
					}
				}
				if n := b.calls.Load(); n != 1 {
					t.Errorf("%d calls in an interval", n)
				}
				if !strings.Contains(log.String(), "did not return") {
					t.Errorf("the log is %q", log.String())
				}
				shutdown(t, s)
			})
		})
	}
}

// Over real connections, with the race detector: parallel probes while the app starts,
// runs, is paused and drains; then everything is gone.
func TestNothingIsLeft(t *testing.T) {
	before := runtime.NumGoroutine()
	b := newTestBroker(nil)
	app := newApp(b, nothing)
	p := gostream.NewPublisher[string](app, b, "orders")
	h := newHandler(t, app, ops.Interval(time.Microsecond), ops.Control(anybody))
	server := httptest.NewServer(h)
	client := server.Client()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, one := range []struct{ method, path string }{
		{"GET", "/livez"},
		{"GET", "/readyz"},
		{"GET", "/subscriptions"},
		{"GET", "/subscriptions"},
		{"POST", "/subscriptions/orders/pause"},
		{"POST", "/subscriptions/orders/resume"},
	} {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				r, err := http.NewRequest(one.method, server.URL+one.path, nil)
				if err != nil {
					t.Error(err)
					return
				}
				resp, err := client.Do(r)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if one.path == "/livez" && resp.StatusCode != 200 {
					t.Errorf("/livez is %d", resp.StatusCode)
				}
			}
		})
	}
	s, err := app.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if err := p.Publish(t.Context(), "one"); err != nil {
			t.Error(err)
		}
	}
	for b.calls.Load() < 50 {
		runtime.Gosched()
	}
	shutdown(t, s)
	close(stop)
	wg.Wait()
	client.CloseIdleConnections()
	server.Close()
	if most := b.most.Load(); most != 1 {
		t.Errorf("%d Health calls at once", most)
	}
	for limit := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; runtime.Gosched() {
		if time.Now().After(limit) {
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, before there were %d:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}

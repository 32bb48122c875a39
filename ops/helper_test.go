package ops_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
	"github.com/gostream/gostream/ops"
)

// testBroker is memory with a Health and, where feed is set, subscriptions of the test's.
type testBroker struct {
	*memory.Broker
	health func(ctx context.Context) error // nil: memory's
	feed   *feed
	calls  atomic.Int64 // of Health
	now    atomic.Int64 // that are going on
	most   atomic.Int64 // that went on at once
}

func newTestBroker(health func(ctx context.Context) error) *testBroker {
	return &testBroker{Broker: memory.New(), health: health}
}

func (b *testBroker) Health(ctx context.Context) error {
	b.calls.Add(1)
	now := b.now.Add(1)
	defer b.now.Add(-1)
	for most := b.most.Load(); now > most && !b.most.CompareAndSwap(most, now); most = b.most.Load() {
	}
	if b.health == nil {
		return b.Broker.Health(ctx)
	}
	return b.health(ctx)
}

func (b *testBroker) Subscribe(ctx context.Context, name string) (broker.Subscription, error) {
	if b.feed != nil {
		return b.feed, nil
	}
	return b.Broker.Subscribe(ctx, name)
}

// feed is a subscription that receives nothing, until it fails. It does not know its lag.
type feed struct{ fail chan error }

func (f *feed) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	select {
	case err := <-f.fail:
		return nil, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
func (f *feed) Close(context.Context) error { return nil }

// quiet is a logger that drops everything.
func quiet() gostream.AppOption { return gostream.WithLogger(slog.New(slog.DiscardHandler)) }

// newApp returns an app with one subscription, "orders", on b.
func newApp(b broker.Broker, handler func(context.Context, string) error) *gostream.App {
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Consume(handler))
	app := gostream.New("shop", "1.0.0", quiet())
	app.Mount(b, r)
	return app
}

func nothing(context.Context, string) error { return nil }

func newHandler(t *testing.T, app *gostream.App, opts ...ops.Option) *ops.Handler {
	t.Helper()
	h, err := ops.New(app, append([]ops.Option{ops.WithLogger(slog.New(slog.DiscardHandler))}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func start(t *testing.T, app *gostream.App) *gostream.Service {
	t.Helper()
	s, err := app.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Shutdown(context.Background()) })
	return s
}

func shutdown(t *testing.T, s *gostream.Service) {
	t.Helper()
	if err := s.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
}

// answer is what any route may answer.
type answer struct {
	status int
	header http.Header
	body   string

	Live          bool             `json:"live"`
	Ready         bool             `json:"ready"`
	State         string           `json:"state"`
	Reason        string           `json:"reason"`
	Reasons       []string         `json:"reasons"`
	Error         string           `json:"error"`
	Name          string           `json:"name"`
	Age           *float64         `json:"age_seconds"`
	BrokersAge    *float64         `json:"brokers_age_seconds"`
	Brokers       []brokerAnswer   `json:"brokers"`
	Subscriptions []map[string]any `json:"-"`
}

type brokerAnswer struct {
	Kind    string `json:"kind"`
	Healthy *bool  `json:"healthy"`
	Error   string `json:"error"`
}

func do(t *testing.T, h http.Handler, method, target string, edit ...func(*http.Request)) answer {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	for _, f := range edit {
		f(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	a := answer{status: w.Code, header: w.Header(), body: w.Body.String()}
	for header, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
		if got := a.header.Get(header); got != want {
			t.Errorf("%s %s: %s is %q, want %q", method, target, header, got, want)
		}
	}
	if method == http.MethodHead {
		if a.body != "" {
			t.Errorf("HEAD %s has a body: %s", target, a.body)
		}
		return a
	}
	if err := json.Unmarshal([]byte(a.body), &a); err != nil {
		t.Errorf("%s %s: %v in %s", method, target, err, a.body)
	}
	if a.status >= 400 && a.Error == "" && a.Reason == "" && len(a.Reasons) == 0 {
		t.Errorf("%s %s: status %d without a word: %s", method, target, a.status, a.body)
	}
	var list struct{ Subscriptions []map[string]any }
	_ = json.Unmarshal([]byte(a.body), &list) // names, where it was an error
	a.Subscriptions = list.Subscriptions
	return a
}

func get(t *testing.T, h http.Handler, target string) answer {
	t.Helper()
	return do(t, h, http.MethodGet, target)
}

// check compares the status of each path with what is wanted, and the state that the
// answers name.
func check(t *testing.T, h *ops.Handler, when, state string, livez, readyz, subscriptions, pause int) {
	t.Helper()
	for _, one := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/livez", livez},
		{"GET", "/readyz", readyz},
		{"GET", "/subscriptions", subscriptions},
		{"POST", "/subscriptions/orders/pause", pause},
		{"POST", "/subscriptions/orders/resume", pause},
	} {
		a := do(t, h, one.method, one.path)
		if a.status != one.want {
			t.Errorf("%s: %s %s is %d, want %d: %s", when, one.method, one.path, a.status, one.want, a.body)
		}
		if a.State != state && (one.method != "POST" || a.status != 200) {
			t.Errorf("%s: %s %s has the state %q, want %q", when, one.method, one.path, a.State, state)
		}
	}
}

// anybody authorises everybody.
func anybody(*http.Request) (string, error) { return "ana", nil }

// logBuffer is a log that may be written concurrently.
type logBuffer struct {
	mu  sync.Mutex
	all strings.Builder
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

package ops_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/ops"
)

// While a subscription is paused its handler is not called, after Resume it is; the list
// shows the state at once, whatever the brokers said last.
func TestPauseAndResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		handled := make(chan string, 10)
		b := newTestBroker(nil)
		app := newApp(b, func(_ context.Context, s string) error { handled <- s; return nil })
		p := gostream.NewPublisher[string](app, b, "orders")
		h := newHandler(t, app, ops.Control(anybody), ops.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		s := start(t, app)
		state := func(want string) {
			t.Helper()
			if a := get(t, h, "/subscriptions"); a.Subscriptions[0]["state"] != want {
				t.Errorf("the state is %v, want %s", a.Subscriptions[0]["state"], want)
			}
		}
		ask := func(action, want string) {
			t.Helper()
			a := do(t, h, "POST", "/subscriptions/orders/"+action)
			if a.status != 200 || a.Name != "orders" || a.State != want {
				t.Errorf("%s is %d: %s", action, a.status, a.body)
			}
		}
		publish := func(v string) {
			t.Helper()
			if err := p.Publish(t.Context(), v); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		publish("one")
		if len(handled) != 1 {
			t.Error("a message was not handled")
		}
		state("running")
		ask("pause", "paused")
		state("paused")
		ask("pause", "paused")
		publish("two")
		if len(handled) != 1 {
			t.Error("a message was handled during the pause")
		}
		if a := get(t, h, "/readyz"); a.status != 200 {
			t.Errorf("a pause makes the app unready: %s", a.body)
		}
		ask("resume", "running")
		synctest.Wait()
		if len(handled) != 2 {
			t.Error("a message was not handled after the pause")
		}
		ask("resume", "running")
		state("running")
		for _, want := range []string{
			`msg="pause by request" gostream.app=shop gostream.subscription=orders who=ana`,
			`msg="resume by request" gostream.app=shop gostream.subscription=orders who=ana`,
		} {
			if strings.Count(log.String(), want) != 2 {
				t.Errorf("the log does not have %q twice:\n%s", want, log.String())
			}
		}
		shutdown(t, s)
	})
}

// The answer waits until the intake has stopped, within the request's context.
func TestPauseIsBoundedByTheRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &stubbornBroker{newTestBroker(nil), make(chan struct{})}
		app := newApp(b, nothing)
		h := newHandler(t, app, ops.Control(anybody))
		s := start(t, app)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		began := time.Now()
		a := do(t, h, "POST", "/subscriptions/orders/pause", func(r *http.Request) { *r = *r.WithContext(ctx) })
		if took := time.Since(began); took != 2*time.Second || a.status != 504 || !strings.Contains(a.Error, "holds") {
			t.Errorf("after %v it is %d: %s", took, a.status, a.body)
		}
		if got := s.Health(t.Context()).Subscriptions[0].State; got != gostream.StatePaused {
			t.Errorf("the subscription is %v", got)
		}
		close(b.goOn)
		if a := do(t, h, "POST", "/subscriptions/orders/pause"); a.status != 200 {
			t.Errorf("it is %d: %s", a.status, a.body)
		}
		shutdown(t, s)
	})
}

// stubbornBroker has subscriptions whose Receive does not heed its context until goOn.
type stubbornBroker struct {
	*testBroker
	goOn chan struct{}
}

type stubbornFeed struct {
	feed
	goOn chan struct{}
}

func (b *stubbornBroker) Subscribe(context.Context, string) (broker.Subscription, error) {
	return &stubbornFeed{feed{}, b.goOn}, nil
}

func (f *stubbornFeed) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	<-f.goOn
	return f.feed.Receive(ctx)
}

// Without Control the routes do not exist, for any method and for single handlers.
func TestNoControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := newApp(newTestBroker(nil), nothing)
		h := newHandler(t, app)
		s := start(t, app)
		mux := http.NewServeMux()
		mux.HandleFunc("/{name}/pause", h.Pause)
		mux.HandleFunc("/{name}/resume", h.Resume)
		for _, method := range []string{"GET", "POST"} {
			for _, one := range []struct {
				handler http.Handler
				path    string
			}{
				{h, "/subscriptions/orders/pause"},
				{h, "/subscriptions/orders/resume"},
				{mux, "/orders/pause"},
				{mux, "/orders/resume"},
			} {
				if a := do(t, one.handler, method, one.path); a.status != 404 || strings.Contains(a.body, "{name}") {
					t.Errorf("%s %s is %d: %s", method, one.path, a.status, a.body)
				}
			}
		}
		if got := s.Health(t.Context()).Subscriptions[0].State; got != gostream.StateRunning {
			t.Errorf("the subscription is %v", got)
		}
		shutdown(t, s)
	})
}

// Who may not gets 401 or 403, without the reason, which goes to the log; nothing is
// done, and no names are told.
func TestAuthorisation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		authorize := func(r *http.Request) (string, error) {
			switch user, password, _ := r.BasicAuth(); {
			case user == "":
				return "", fmt.Errorf("no header: %w", ops.ErrUnauthenticated)
			case password != "right":
				return user, errors.New("not on the list of " + r.PathValue("name"))
			default:
				return user, nil
			}
		}
		app := newApp(newTestBroker(nil), nothing)
		h := newHandler(t, app, ops.Control(authorize), ops.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		s := start(t, app)
		as := func(user, password string) func(*http.Request) {
			return func(r *http.Request) { r.SetBasicAuth(user, password) }
		}
		crossSite := func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }
		for _, tc := range []struct {
			what, name, challenge string
			edit                  []func(*http.Request)
			want                  int
			logged                string
		}{
			{"nobody", "orders", "Bearer", nil, 401, "no header: ops: it is not known who asks"},
			{"one who may not", "orders", "", []func(*http.Request){as("eve", "wrong")}, 403, "not on the list of orders"},
			{"one who may not, with another name", "no such", "", []func(*http.Request){as("eve", "wrong")}, 403, "not on the list of no such"},
			{"a page elsewhere", "orders", "", []func(*http.Request){as("ana", "right"), crossSite}, 403, "cross-origin"},
		} {
			for _, action := range []string{"pause", "resume"} {
				a := do(t, h, "POST", "/subscriptions/"+url.PathEscape(tc.name)+"/"+action, tc.edit...)
				if a.status != tc.want || a.header.Get("WWW-Authenticate") != tc.challenge {
					t.Errorf("%s, %s: it is %d, challenge %q: %s", tc.what, action, a.status, a.header.Get("WWW-Authenticate"), a.body)
				}
				if strings.Contains(a.body, "list") || strings.Contains(a.body, "header") || strings.Contains(a.body, "orders") || a.State != "" {
					t.Errorf("%s, %s: it tells too much: %s", tc.what, action, a.body)
				}
				if !strings.Contains(log.String(), action+" by request refused") || !strings.Contains(log.String(), tc.logged) {
					t.Errorf("%s, %s: the log is %s", tc.what, action, log.String())
				}
			}
		}
		if got := s.Health(t.Context()).Subscriptions[0].State; got != gostream.StateRunning {
			t.Errorf("the subscription is %v", got)
		}
		if a := do(t, h, "POST", "/subscriptions/orders/pause", as("ana", "right")); a.status != 200 {
			t.Errorf("who may: it is %d: %s", a.status, a.body)
		}
		// A challenge that was set around the handler stays.
		w := httptest.NewRecorder()
		w.Header().Set("WWW-Authenticate", `Basic realm="shop"`)
		h.ServeHTTP(w, httptest.NewRequest("POST", "/subscriptions/orders/pause", nil))
		if got := w.Header().Get("WWW-Authenticate"); w.Code != 401 || got != `Basic realm="shop"` {
			t.Errorf("it is %d, challenge %q", w.Code, got)
		}
		shutdown(t, s)
	})
}

// Who may learns which names there are.
func TestUnknownSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := newApp(newTestBroker(nil), nothing)
		h := newHandler(t, app, ops.Control(anybody))
		s := start(t, app)
		for _, action := range []string{"pause", "resume"} {
			a := do(t, h, "POST", "/subscriptions/Orders/"+action)
			want := "{\n  \"error\": \"no subscription is called \\\"Orders\\\"\",\n  \"state\": \"running\",\n  \"subscriptions\": [\n    \"orders\"\n  ]\n}\n"
			if a.status != 404 || a.body != want {
				t.Errorf("%s is %d: %s, want %s", action, a.status, a.body, want)
			}
		}
		shutdown(t, s)
	})
}

// Any name can be asked for, escaped, through a mux and below another path too.
func TestOddNames(t *testing.T) {
	names := []string{"a/b", "two words", "100%", "?x=1", "#1", "a+b", ".", "..", "ä€", "a%2Fb", "pause", "a//b", `"quoted"`, "<b>", "\n"}
	synctest.Test(t, func(t *testing.T) {
		r := gostream.NewRouter()
		for i, name := range names {
			r.Handle(fmt.Sprint("in", i), gostream.Consume(nothing), gostream.Named(name))
		}
		app := gostream.New("shop", "1.0.0", quiet())
		app.Mount(newTestBroker(nil), r)
		var asked []string
		h := newHandler(t, app, ops.Control(func(r *http.Request) (string, error) {
			asked = append(asked, r.PathValue("name"))
			return "", nil
		}))
		s := start(t, app)
		below := http.NewServeMux()
		below.Handle("/ops/", http.StripPrefix("/ops", h))
		single := http.NewServeMux()
		single.HandleFunc("POST /one/{name}/pause", h.Pause)
		single.HandleFunc("POST /one/{name}/resume", h.Resume)
		for i, name := range names {
			escaped := url.PathEscape(name)
			if strings.Trim(name, ".") == "" { // a mux and clients clean these
				escaped = strings.ReplaceAll(name, ".", "%2E")
			}
			for _, one := range []struct {
				handler http.Handler
				prefix  string
			}{{h, "/subscriptions/"}, {below, "/ops/subscriptions/"}, {single, "/one/"}} {
				for action, want := range map[string]gostream.State{"pause": gostream.StatePaused, "resume": gostream.StateRunning} {
					asked = nil
					if a := do(t, one.handler, "POST", one.prefix+escaped+"/"+action); a.status != 200 || a.Name != name || a.State != want.String() {
						t.Errorf("%q below %s: %s is %d: %s", name, one.prefix, action, a.status, a.body)
					}
					if !slices.Equal(asked, []string{name}) {
						t.Errorf("%q below %s: asked about %q", name, one.prefix, asked)
					}
					if got := s.Health(t.Context()).Subscriptions[i].State; got != want {
						t.Errorf("%q below %s: %s leaves it %v", name, one.prefix, action, got)
					}
				}
			}
		}
		shutdown(t, s)
	})
}

// A pattern without {name} is a mistake of the program, and said to be one.
func TestPatternWithoutName(t *testing.T) {
	t.Parallel()
	app := newApp(newTestBroker(nil), nothing)
	h := newHandler(t, app, ops.Control(anybody))
	if a := do(t, http.HandlerFunc(h.Pause), "POST", "/pause"); a.status != 500 || !strings.Contains(a.Error, "{name}") {
		t.Errorf("it is %d: %s", a.status, a.body)
	}
}

// A function that panics decides nothing: the client gets an answer, and nothing is done.
func TestAuthorizePanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		app := newApp(newTestBroker(nil), nothing)
		h := newHandler(t, app, ops.Control(func(*http.Request) (string, error) { panic("no list") }), ops.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		s := start(t, app)
		a := do(t, h, "POST", "/subscriptions/orders/pause")
		if a.status != 500 || strings.Contains(a.body, "list") {
			t.Errorf("it is %d: %s", a.status, a.body)
		}
		if got := log.String(); !strings.Contains(got, "panicked: no list") || !strings.Contains(got, "control_test.go") {
			t.Errorf("the log is %s", got)
		}
		if got := s.Health(t.Context()).Subscriptions[0].State; got != gostream.StateRunning {
			t.Errorf("the subscription is %v", got)
		}
		shutdown(t, s)
	})
}

// The function of the user asks for what it wants of a body, but not without end.
func TestBodyIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var read int64
		app := newApp(newTestBroker(nil), nothing)
		h := newHandler(t, app, ops.Control(func(r *http.Request) (string, error) {
			n, err := io.Copy(io.Discard, r.Body)
			read = n
			return "", err
		}))
		s := start(t, app)
		for n, want := range map[int64]int{0: 200, 64 << 10: 200, 1 << 30: 403} {
			a := do(t, h, "POST", "/subscriptions/orders/pause", func(r *http.Request) {
				r.Body = io.NopCloser(io.LimitReader(endless{}, n))
			})
			if a.status != want || read > 64<<10 {
				t.Errorf("a body of %d bytes: it is %d, %d were read", n, a.status, read)
			}
		}
		shutdown(t, s)
	})
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// A form of a page elsewhere is refused before anybody is asked, also by a browser that
// sends no Sec-Fetch-Site, as on plain HTTP; so is one without an origin that it tells.
func TestForms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		app := newApp(newTestBroker(nil), nothing)
		h := newHandler(t, app, ops.Control(func(*http.Request) (string, error) { asked++; return "", nil }))
		s := start(t, app)
		for _, tc := range []struct {
			header, value string
			want          int
		}{
			{"Origin", "http://elsewhere.example", 403},
			{"Origin", "null", 403},
			{"Sec-Fetch-Site", "same-site", 403},
			{"Sec-Fetch-Site", "cross-site", 403},
			{"Sec-Fetch-Site", "same-origin", 200},
			{"Sec-Fetch-Site", "none", 200},
			{"Origin", "http://example.com", 200}, // the host of the request
		} {
			asked = 0
			a := do(t, h, "POST", "/subscriptions/orders/pause", func(r *http.Request) {
				r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				r.Header.Set(tc.header, tc.value)
			})
			if a.status != tc.want {
				t.Errorf("%s: %s is %d", tc.header, tc.value, a.status)
			}
			if (asked == 1) != (tc.want == 200) {
				t.Errorf("%s: %s: the function was asked %d times", tc.header, tc.value, asked)
			}
		}
		shutdown(t, s)
	})
}

// The function is asked in every state, before it is told what the state is.
func TestAuthorisationComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := newApp(newTestBroker(nil), nothing)
		h := newHandler(t, app, ops.Control(func(*http.Request) (string, error) { return "", ops.ErrUnauthenticated }))
		refused := func(when string) {
			t.Helper()
			for _, path := range []string{"orders/pause", "orders/resume", "no such/pause"} {
				if a := do(t, h, "POST", "/subscriptions/"+strings.ReplaceAll(path, " ", "%20")); a.status != 401 || a.State != "" {
					t.Errorf("%s: %s is %d: %s", when, path, a.status, a.body)
				}
			}
		}
		refused("before the start")
		s := start(t, app)
		refused("running")
		shutdown(t, s)
		refused("after the end")
	})
}

// Somebody without patience of its own is not kept for ever.
func TestPauseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &stubbornBroker{newTestBroker(nil), make(chan struct{})}
		app := newApp(b, nothing)
		h := newHandler(t, app, ops.Control(anybody))
		s := start(t, app)
		synctest.Wait()
		began := time.Now()
		a := do(t, h, "POST", "/subscriptions/orders/pause")
		if took := time.Since(began); took != 10*time.Second || a.status != 504 || !strings.Contains(a.Error, "holds") {
			t.Errorf("after %v it is %d: %s", took, a.status, a.body)
		}
		close(b.goOn)
		shutdown(t, s)
	})
}

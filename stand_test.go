package gostream_test

import (
	"bytes"
	"context"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

// stand is an app under test, and a client of the same store that stands outside
// of the app. Everything is made in the test's bubble.
type stand struct {
	t      *testing.T
	store  *memory.Store
	broker *memory.Broker   // the app's
	client *memory.Broker   // ours
	app    *gostream.App    // with router mounted on broker
	router *gostream.Router // on which the test puts its handlers
	svc    *gostream.Service
	logs   *logText
}

// onStand runs f in a bubble of its own. A goroutine that is left at the end fails
// the test.
func onStand(t *testing.T, f func(t *testing.T, s *stand), opts ...gostream.AppOption) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { f(t, newStand(t, opts...)) })
}

func newStand(t *testing.T, opts ...gostream.AppOption) *stand {
	t.Helper()
	s := &stand{t: t, store: memory.NewStore(), router: gostream.NewRouter(), logs: new(logText)}
	s.broker, s.client = memory.New(memory.On(s.store)), memory.New(memory.On(s.store))
	log := slog.New(slog.NewTextHandler(s.logs, nil))
	s.app = gostream.New("test", "1.0.0", append([]gostream.AppOption{gostream.WithLogger(log)}, opts...)...)
	s.app.Mount(s.broker, s.router)
	if err := s.client.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.client.Shutdown(context.Background()) })
	return s
}

// start starts the app; it is stopped at the end of the test.
func (s *stand) start() {
	s.t.Helper()
	s.startWith(s.t.Context())
}

func (s *stand) startWith(ctx context.Context) {
	s.t.Helper()
	svc, err := s.app.Start(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	s.svc = svc
	s.t.Cleanup(s.stop)
}

// stop drains the app, which must be clean.
func (s *stand) stop() {
	s.t.Helper()
	if err := s.svc.Shutdown(context.Background()); err != nil {
		s.t.Errorf("Shutdown: %v", err)
	}
}

// send publishes a message from outside of the app and returns when everything
// stands still.
func (s *stand) send(name, payload string, headers ...broker.Header) {
	s.t.Helper()
	s.sendMessage(broker.OutgoingMessage{Name: name, Payload: []byte(payload), Headers: broker.NewHeaders(headers...)})
}

func (s *stand) sendMessage(msg broker.OutgoingMessage) {
	s.t.Helper()
	if err := s.client.Publisher().Publish(s.t.Context(), msg); err != nil {
		s.t.Fatal(err)
	}
	synctest.Wait()
}

// pass lets time pass, in the bubble.
func (s *stand) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// take returns all that waits at name, which no handler receives.
func (s *stand) take(name string) []broker.IncomingMessage {
	s.t.Helper()
	ctx := s.t.Context()
	sub, err := s.client.Subscribe(ctx, name)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = sub.Close(ctx) }()
	var all []broker.IncomingMessage
	for {
		n, err := broker.Lag(ctx, sub)
		if err != nil {
			s.t.Fatal(err)
		}
		if n == 0 {
			return all
		}
		m, err := sub.Receive(ctx)
		if err != nil {
			s.t.Fatal(err)
		}
		if err := m.Ack(ctx); err != nil {
			s.t.Fatal(err)
		}
		all = append(all, m)
	}
}

// takeOne returns what waits at name: exactly one message.
func (s *stand) takeOne(name string) broker.IncomingMessage {
	s.t.Helper()
	all := s.take(name)
	if len(all) != 1 {
		s.t.Fatalf("%d messages at %s, want 1\n%s", len(all), name, s.logs)
	}
	return all[0]
}

// wantLeft checks how many messages of name are not settled.
func (s *stand) wantLeft(name string, want int) {
	s.t.Helper()
	if got := s.store.Len(name); got != want {
		s.t.Errorf("%d messages of %s are unsettled, want %d\n%s", got, name, want, s.logs)
	}
}

// logText is a log that may be read while it is written.
type logText struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// lines are the lines that hold all of the texts.
func (l *logText) lines(texts ...string) []string {
	var found []string
	for line := range strings.Lines(l.String()) {
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
			found = append(found, line)
		}
	}
	return found
}

// field is a header field.
func field(key, value string) broker.Header { return broker.Header{Key: key, Value: value} }

// wantHeaders checks all headers, of which each key has one value. Those of dead
// letters are left out.
func wantHeaders(t *testing.T, what string, h broker.Headers, want map[string]string) {
	t.Helper()
	got := make(map[string]string)
	for k, v := range h.All() {
		if strings.HasPrefix(k, "gostream-dead-") {
			continue
		}
		if _, twice := got[k]; twice {
			t.Errorf("%s: %s has more than one value: %q", what, k, h.Values(k))
		}
		got[k] = v
	}
	if len(got) != len(want) || !reflect.DeepEqual(got, want) && len(want) > 0 {
		t.Errorf("%s: the headers are %q, want %q", what, got, want)
	}
}

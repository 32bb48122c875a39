package gostream_test

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

//go:generate go test -run ^TestLog$ -update .

var update = flag.Bool("update", false, "write testdata/log.golden instead of comparing it")

// TestLog compares the log of a service's life with testdata/log.golden: start, retry, dead
// letter, connection lost and back, subscription down and live again, pause, drain, given
// back, stop. One line each.
func TestLog(t *testing.T) {
	var log logText
	synctest.Test(t, func(t *testing.T) { logScenario(t, &log) })
	got := log.String()
	if strings.Contains(got, "body-") {
		t.Error("a body is in the log")
	}
	golden := filepath.Join("testdata", "log.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the log is\n%s\nwant\n%s\nWhere it was meant to change: go generate .", got, want)
	}
}

func logScenario(t *testing.T, log *logText) {
	feeds := make(chan *feed, 2)
	first, second := newFeed(), newFeed()
	feeds <- first
	feeds <- second
	tell := make(chan func(broker.Event), 1)
	b := &tellingBroker{
		stubBroker: stubBroker{
			properties: broker.Properties{Redelivers: true},
			subscribe:  func(context.Context, string) (broker.Subscription, error) { return <-feeds, nil },
			publish:    func(context.Context, broker.OutgoingMessage) error { return nil },
		},
		tell: tell,
	}
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Consume(func(_ context.Context, s string) error {
		switch s {
		case "body-late":
			return gostream.RetryAfter(time.Hour, errors.New("the till is closed"))
		case "body-fine":
			return nil
		case "body-slow":
			time.Sleep(5 * time.Second) // the drain begins meanwhile
		}
		return errors.New("no such customer")
	}), gostream.OnError(gostream.AnyError().Retry(gostream.Constant(time.Second).Attempts(2)).ThenDeadLetterTo("orders.dead")))
	app := gostream.New("shop", "1.2.3", gostream.WithLogger(slog.New(traceHandler{slog.NewTextHandler(log, &slog.HandlerOptions{
		Level:       slog.LevelDebug,
		ReplaceAttr: withoutTime,
	})})))
	// What a tracing middleware does.
	app.Use(func(next gostream.Next) gostream.Next {
		return func(ctx context.Context, batch *gostream.Batch) error {
			ctx = context.WithValue(ctx, traceKey{}, "4bf92f35")
			batch.At(0).SetContext(ctx)
			return next(ctx, batch)
		}
	})
	app.Mount(b, r)
	s, err := app.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first.in <- &stubMessage{name: "orders", payload: []byte("body-fine")}
	first.in <- &stubMessage{name: "orders", payload: []byte("body-bad")}
	time.Sleep(2 * time.Second)
	event := <-tell
	event(broker.Event{Kind: broker.EventDisconnected, Err: errors.New("the server is gone")})
	event(broker.Event{Kind: broker.EventReconnected})
	first.in <- errors.New("the queue was deleted")
	time.Sleep(time.Minute)
	if err := s.Pause(t.Context(), "orders"); err != nil {
		t.Fatal(err)
	}
	if err := s.Resume(t.Context(), "orders"); err != nil {
		t.Fatal(err)
	}
	second.in <- &stubMessage{name: "orders", payload: []byte("body-late")}
	second.in <- &stubMessage{name: "orders", payload: []byte("body-slow")}
	synctest.Wait()
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

// withoutTime drops what differs from run to run.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// tellingBroker hands its listener to the test.
type tellingBroker struct {
	stubBroker
	tell chan func(broker.Event)
}

func (b *tellingBroker) Notify(f func(broker.Event)) { b.tell <- f }

type traceKey struct{}

// traceHandler adds the trace id in a line's context, as a handler of a tracing library.
type traceHandler struct{ slog.Handler }

func (h traceHandler) Handle(ctx context.Context, r slog.Record) error {
	if id, ok := ctx.Value(traceKey{}).(string); ok {
		r.AddAttrs(slog.String("trace_id", id))
	}
	return h.Handler.Handle(ctx, r)
}

func (h traceHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return traceHandler{h.Handler.WithAttrs(a)}
}

func (h traceHandler) WithGroup(name string) slog.Handler {
	return traceHandler{h.Handler.WithGroup(name)}
}

// A program around the app gives the logger of an app that has none of its own.
func TestDefaultLogger(t *testing.T) {
	t.Parallel()
	var own, outer logText
	logTo := func(b *logText) *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }
	run := func(app *gostream.App) {
		t.Helper()
		app.Mount(memory.New())
		ctx, cancel := context.WithCancel(t.Context())
		app.AfterStartup(func(context.Context) error { cancel(); return nil })
		if err := app.Run(ctx); err != nil {
			t.Error(err)
		}
	}

	app := gostream.New("t", "0")
	if l := app.DefaultLogger(nil); l != slog.Default() {
		t.Errorf("an app without a logger logs to %v, want slog.Default", l)
	}
	l := logTo(&outer)
	if got := app.DefaultLogger(l); got != l {
		t.Errorf("it logs to %v, want the one that it was given", got)
	}
	if got := app.DefaultLogger(nil); got != l {
		t.Errorf("after nil it logs to %v, want the one that it was given", got)
	}
	run(app)
	if log := outer.String(); !strings.Contains(log, "msg=stopped") {
		t.Errorf("the logger that it was given has %q", log)
	}

	mine, before := logTo(&own), outer.String()
	app = gostream.New("t", "0", gostream.WithLogger(mine))
	if got := app.DefaultLogger(l); got != mine {
		t.Errorf("an app with a logger logs to %v", got)
	}
	run(app)
	if log := own.String(); !strings.Contains(log, "msg=stopped") || outer.String() != before {
		t.Errorf("the app's own logger has %q", log)
	}
}

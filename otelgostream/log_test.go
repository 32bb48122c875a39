package otelgostream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"testing/slogtest"
	"testing/synctest"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/memory"
	"github.com/gostream/gostream/otelgostream"
	"go.opentelemetry.io/otel/trace"
)

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// The lines of a handler and of gostream about its message have the ids of its span, and
// say where it came from, each once.
func TestLogHandler(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		log := slog.New(otelgostream.LogHandler(slog.NewTextHandler(&buf, &slog.HandlerOptions{ReplaceAttr: withoutTime, Level: slog.LevelWarn})))
		s := newSpans()
		b := memory.New()
		r := gostream.NewRouter()
		r.Handle("orders", gostream.Consume(func(ctx context.Context, _ string) error {
			log.WarnContext(ctx, "plain")
			log.With("a", 1, "gostream.attempt", "mine").WarnContext(ctx, "with")
			log.With("a", 1).WithGroup("g").With("b", 2).WarnContext(ctx, "group", "c", 3)
			log.WarnContext(ctx, "own", "messaging.destination.name", "mine")
			log.Warn("without")
			return gostream.Reject(errNo)
		}), gostream.Named("intake"))
		app := gostream.New("shop", "1", gostream.WithLogger(log))
		otelgostream.Instrument(app, s.option())
		app.Mount(b, r)
		p := app.RawPublisher(b)
		_, stop := run(t, app)
		publish(t, t.Context(), p, out("orders", "x"))
		synctest.Wait()
		stop()
		sc := s.one(t, "process orders").SpanContext()
		ids := "trace_id=" + sc.TraceID().String() + " span_id=" + sc.SpanID().String()
		want := []string{
			"level=WARN msg=plain " + ids + " gostream.subscription=intake messaging.destination.name=orders gostream.attempt=1",
			"level=WARN msg=with a=1 gostream.attempt=mine " + ids + " gostream.subscription=intake messaging.destination.name=orders",
			"level=WARN msg=group a=1 " + ids + " gostream.subscription=intake messaging.destination.name=orders gostream.attempt=1 g.b=2 g.c=3",
			"level=WARN msg=own messaging.destination.name=mine " + ids + " gostream.subscription=intake gostream.attempt=1",
			"level=WARN msg=without",
			`level=ERROR msg="message is rejected" gostream.app=shop gostream.subscription=intake messaging.destination.name=orders gostream.attempt=1 error="reject: no" gostream.reason="handler decided" ` + ids,
		}
		if got := strings.Split(strings.TrimSpace(buf.String()), "\n"); strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("the log is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

// It is a proper slog.Handler, also where it adds something.
func TestLogHandlerConforms(t *testing.T) {
	t.Parallel()
	for _, traced := range []bool{false, true} {
		var buf bytes.Buffer
		var h slog.Handler = otelgostream.LogHandler(slog.NewJSONHandler(&buf, nil))
		if traced {
			h = inSpan{h}
		}
		err := slogtest.TestHandler(h, func() []map[string]any {
			var all []map[string]any
			for line := range strings.Lines(buf.String()) {
				m := map[string]any{}
				if err := json.Unmarshal([]byte(line), &m); err != nil {
					t.Fatal(err)
				}
				if traced && m["trace_id"] != traceID.String() {
					t.Errorf("no trace_id at the top of %s", line)
				}
				all = append(all, m)
			}
			return all
		})
		if err != nil {
			t.Error(err)
		}
	}
}

var traceID = trace.TraceID{1, 2, 3}

// inSpan logs everything with the context of a span.
type inSpan struct{ slog.Handler }

func (h inSpan) Handle(ctx context.Context, r slog.Record) error {
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: traceID, SpanID: trace.SpanID{1}})
	return h.Handler.Handle(trace.ContextWithSpanContext(ctx, sc), r)
}
func (h inSpan) WithAttrs(a []slog.Attr) slog.Handler { return inSpan{h.Handler.WithAttrs(a)} }
func (h inSpan) WithGroup(n string) slog.Handler      { return inSpan{h.Handler.WithGroup(n)} }

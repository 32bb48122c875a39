package otelgostream_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
	"github.com/gostream/gostream/otelgostream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
)

// Headers of any content cost no more than they must, and nothing that an exporter would
// refuse comes out of them.
func TestHostileHeaders(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 1<<19) // 1 MiB
	for _, h := range []broker.Header{
		{Key: broker.HeaderMessageID, Value: long},
		{Key: broker.HeaderMessageID, Value: "\xff\xfe" + long},
		{Key: broker.HeaderCorrelationID, Value: "a\xc3"},
		{Key: broker.HeaderCorrelationID, Value: long},
		{Key: gostream.HeaderDeadReason, Value: long},
		{Key: "traceparent", Value: "00-00000000000000000000000000000000-0000000000000000-01"},
		{Key: "traceparent", Value: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-ff"},
		{Key: "traceparent", Value: "ff-" + long},
		{Key: "traceparent", Value: long},
		{Key: "tracestate", Value: long},
		{Key: "baggage", Value: "a=" + long},
		{Key: "baggage", Value: strings.Repeat("a=b,", 4000)},
		{Key: "baggage", Value: "\x00=;;,=,%zz"},
		{Key: otelgostream.HeaderSent, Value: long},
	} {
		t.Run(fmt.Sprintf("%s %.20q", h.Key, h.Value), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, m := newSpans(), newMeters()
				b := memory.New()
				r := gostream.NewRouter()
				app := gostream.New("shop", "1", quiet())
				p := app.RawPublisher(b)
				r.Handle("orders", gostream.Consume(func(ctx context.Context, _ string) error {
					// A dead letter that is published again by hand, for one.
					return p.Publish(ctx, out("next", "x", h))
				}))
				var next broker.Headers
				r.Handle("next", gostream.Raw(func(_ context.Context, d *gostream.Delivery) error {
					next = d.Headers()
					return nil
				}))
				otelgostream.Instrument(app, s.option(), m.option(), otelgostream.WithParent(), otelgostream.WithClientSpans())
				app.Mount(b, r)
				_, stop := run(t, app)
				publish(t, t.Context(), p, out("orders", "x", h))
				publish(t, t.Context(), p, out("orders", "x", h), out("orders", "x", h))
				time.Sleep(time.Second)
				stop()
				if n := len(s.named("process next")); n != 3 {
					t.Errorf("%d messages went through, want 3: %s", n, s.names())
				}
				for _, span := range s.Ended() {
					all := span.Attributes()
					for _, l := range span.Links() {
						all = append(all, l.Attributes...)
					}
					for _, a := range all {
						if v := a.Value.String(); a.Value.Type() == attribute.STRING && (!utf8.ValidString(v) || len(v) > 1100) {
							t.Errorf("span %q: %s has %d bytes, valid UTF-8: %v", span.Name(), a.Key, len(v), utf8.ValidString(v))
						}
					}
				}
				if n := len(next.Get("baggage")); n > 8192 {
					t.Errorf("%d bytes of baggage go on", n)
				}
				for _, one := range m.collect(t) {
					if n := len(m.points(t, one.Name)); n > 13 {
						t.Errorf("%s has %d series", one.Name, n)
					}
				}
			})
		})
	}
}

// Baggage that may be passed on is, also where it is long.
func TestLongBaggage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSpans()
		b := memory.New()
		r := gostream.NewRouter()
		app := gostream.New("shop", "1", quiet())
		p := app.RawPublisher(b)
		value, got := strings.Repeat("v", 8000), ""
		r.Handle("a", gostream.Consume(func(ctx context.Context, _ string) error { return p.Publish(ctx, out("b", "x")) }))
		r.Handle("b", gostream.Consume(func(ctx context.Context, _ string) error {
			got = baggage.FromContext(ctx).Member("k").Value()
			return nil
		}))
		otelgostream.Instrument(app, s.option())
		app.Mount(b, r)
		_, stop := run(t, app)
		publish(t, t.Context(), p, out("a", "x", broker.Header{Key: "baggage", Value: "k=" + value}))
		synctest.Wait()
		stop()
		if got != value {
			t.Errorf("%d bytes of baggage have come, want %d", len(got), len(value))
		}
	})
}

// badError is an error whose methods panic on a nil pointer.
type badError struct{ text string }

func (e *badError) Error() string { return e.text }

// kindError says of what kind it is, and asks too much of a metric with that.
type kindError string

func (e kindError) Error() string     { return string(e) }
func (e kindError) ErrorType() string { return string(e) }

// An error that panics when it is asked is a panic, as gostream sees it, and its span ends.
func TestErrorThatPanics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, m := newSpans(), newMeters()
		b := memory.New()
		r := gostream.NewRouter()
		r.Handle("orders", gostream.Consume(func(context.Context, string) error {
			var bad *badError
			return bad
		}), gostream.DeadLetterTo("dead"), backoff())
		r.Handle("batches", gostream.ConsumeBatch(func(context.Context, []string) error {
			var bad *badError
			return bad
		}, 1, 0), gostream.DeadLetterTo("dead"), backoff())
		app := gostream.New("shop", "1", quiet())
		otelgostream.Instrument(app, s.option(), m.option())
		app.UsePublish(func(next gostream.PublishNext) gostream.PublishNext {
			return func(ctx context.Context, msgs []broker.OutgoingMessage) error {
				if msgs[0].Name == "refused" {
					var bad *badError
					return bad
				}
				return next(ctx, msgs)
			}
		})
		app.Mount(b, r)
		p := app.RawPublisher(b)
		_, stop := run(t, app)
		publish(t, t.Context(), p, out("orders", "x"))
		publish(t, t.Context(), p, out("batches", "x"))
		if err := p.Publish(t.Context(), out("refused", "x")); err == nil {
			t.Error("the message was not refused")
		}
		if err := p.PublishBatch(t.Context(), []broker.OutgoingMessage{out("refused", "x"), out("refused", "x")}); err == nil {
			t.Error("the messages were not refused")
		}
		time.Sleep(time.Minute)
		stop()
		if started, ended := len(s.Started()), len(s.Ended()); started != ended {
			t.Errorf("%d spans were started, %d ended", started, ended)
		}
		for _, name := range []string{"process orders", "process batches"} {
			spans := s.named(name)
			if len(spans) != 2 {
				t.Fatalf("%d spans %s, want 2: %s", len(spans), name, s.names())
			}
			for _, span := range spans {
				wantAttrs(t, span, map[string]string{"error.type": "panic"})
				if span.Status().Code != codes.Error {
					t.Errorf("the span's status is %v", span.Status())
				}
			}
		}
		m.want(t, "gostream.handler.panics",
			"destination.name=batches subscription=batches system=memory: 2", "destination.name=orders subscription=orders system=memory: 2")
		points := strings.Join(m.points(t, "messaging.client.sent.messages"), "\n")
		if want := "error.type=panic operation.name=send system=memory: 3"; !strings.Contains(points, want) {
			t.Errorf("there is no %s in\n%s", want, points)
		}
	})
}

// Types of errors that errors make up make no time series without end, and a long text of
// one makes no long span.
func TestErrorsWithoutEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, m := newSpans(), newMeters()
		b := memory.New()
		r := gostream.NewRouter()
		r.Handle("orders", gostream.Consume(func(_ context.Context, s string) error {
			return gostream.Reject(kindError(s + "\xff" + strings.Repeat("x", 1<<12)))
		}))
		app := gostream.New("shop", "1", quiet())
		otelgostream.Instrument(app, s.option(), m.option())
		app.Mount(b, r)
		p := app.RawPublisher(b)
		_, stop := run(t, app)
		for i := range 300 {
			publish(t, t.Context(), p, out("orders", fmt.Sprint(i)))
		}
		time.Sleep(time.Minute)
		stop()
		points := m.points(t, "messaging.process.duration")
		if n := len(points); n < 50 || n > 110 {
			t.Errorf("there are %d series, want some 100", n)
		}
		if all := strings.Join(points, "\n"); !strings.Contains(all, "error.type=_OTHER") {
			t.Error("the others are not counted")
		}
		for _, span := range s.named("process orders") {
			if text := span.Status().Description; len(text) > 1100 || !utf8.ValidString(text) {
				t.Errorf("the status has %d bytes, valid UTF-8: %v", len(text), utf8.ValidString(text))
			}
			if kind := attr(span, "error.type"); len(kind) > 1100 || !utf8.ValidString(kind) {
				t.Errorf("error.type has %d bytes, valid UTF-8: %v", len(kind), utf8.ValidString(kind))
			}
		}
	})
}

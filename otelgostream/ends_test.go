package otelgostream_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
	"github.com/gostream/gostream/otelgostream"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// wantEnded fails where a span was left open.
func (s *spans) wantEnded(t *testing.T) {
	t.Helper()
	open := map[trace.SpanID]string{}
	for _, span := range s.Started() {
		open[span.SpanContext().SpanID()] = span.Name()
	}
	for _, span := range s.Ended() {
		delete(open, span.SpanContext().SpanID())
	}
	for _, name := range open {
		t.Errorf("a span %q was left open", name)
	}
}

// tried is a source whose messages have been delivered as often as their payload has
// letters beyond the first, and which become stale while they are handled where they say so.
type tried struct{ broker.ByName }

func (s tried) Subscribe(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
	sub, err := s.ByName.Subscribe(ctx, b)
	return triedSubscription{sub}, err
}

type triedSubscription struct{ broker.Subscription }

func (s triedSubscription) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	m, err := s.Subscription.Receive(ctx)
	if err != nil {
		return nil, err
	}
	return triedMessage{m}, nil
}

type triedMessage struct{ broker.IncomingMessage }

func (m triedMessage) DeliveryCount() int { return strings.Count(string(m.Payload()), "!") + 1 }
func (m triedMessage) Stale() bool        { return strings.HasPrefix(string(m.Payload()), "stale") }

// However a message ends, its spans do: handled by itself and in a batch, with receive and
// settle spans and without.
func TestSpansEndOnEveryWay(t *testing.T) {
	t.Parallel()
	ways := []string{"ok", "fails", "panics", "exits", "ignored", "rejected", "dead", "again", "stale", "{", "exceeded!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!!"}
	handle := func(way string) error {
		switch strings.TrimRight(way, "!") {
		case "fails", "stale":
			return errNo
		case "panics":
			panic("handler")
		case "exits":
			runtime.Goexit()
		case "ignored":
			return gostream.Ignore(errNo)
		case "rejected":
			return gostream.Reject(errNo)
		case "dead":
			return gostream.DeadLetter(errNo)
		case "again":
			return gostream.RetryAfter(time.Hour, errNo) // it is parked when the drain begins
		}
		return nil
	}
	for _, batch := range []bool{false, true} {
		for _, client := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				s, m := newSpans(), newMeters()
				b := memory.New()
				h := gostream.Handler(gostream.Consume(func(_ context.Context, v letter) error { return handle(v.text) }))
				if batch {
					h = gostream.ConsumeBatch(func(_ context.Context, all []letter) error {
						errs := make([]error, len(all))
						for i, v := range all {
							errs[i] = handle(v.text)
						}
						return gostream.Each(errs)
					}, 4, time.Second)
				}
				r := gostream.NewRouter()
				r.HandleSource(tried{"orders"}, h, gostream.DeadLetterTo("dead"), backoff(), gostream.Workers(3), gostream.WithCodec(textCodec{}))
				app := gostream.New("shop", "1", quiet())
				opts := []otelgostream.Option{s.option(), m.option()}
				if client {
					opts = append(opts, otelgostream.WithClientSpans())
				}
				otelgostream.Instrument(app, opts...)
				var settled atomic.Int64
				app.Observe(gostream.Observer{Settled: func(gostream.SettledEvent) { settled.Add(1) }})
				app.Mount(b, r)
				p := app.RawPublisher(b)
				_, stop := run(t, app)
				for _, way := range ways {
					publish(t, t.Context(), p, out("orders", way))
				}
				time.Sleep(10 * time.Minute)
				stop()
				s.wantEnded(t)
				for _, span := range s.named("process orders") {
					if attr(span, "gostream.outcome")+attr(span, "gostream.outcomes") == "" {
						t.Error("a span has no outcome")
					}
				}
				if n := len(s.named("receive orders")); (n > 0) != client {
					t.Errorf("there are %d receive spans", n)
				}
				// What observers were told of is what was counted.
				var sum int64
				for _, point := range m.points(t, "gostream.settled.messages") {
					var n int64
					_, value, _ := strings.Cut(point, ": ")
					for _, c := range value {
						n = n*10 + int64(c-'0')
					}
					sum += n
				}
				if sum != settled.Load() {
					t.Errorf("%d attempts were counted, %d have ended", sum, settled.Load())
				}
			})
		}
	}
}

// textCodec decodes everything but "{" into the text of a letter.
type textCodec struct{}

type letter struct{ text string }

func (textCodec) ContentType() string                      { return "text/plain" }
func (textCodec) Append(dst []byte, _ any) ([]byte, error) { return dst, nil }

func (textCodec) Unmarshal(data []byte, v any) error {
	if string(data) == "{" {
		return errNo
	}
	v.(*letter).text = string(data)
	return nil
}

// A message that shuts the app down, and what is parked or waits behind it, leave no span open.
func TestSpansEndWithTheDrain(t *testing.T) {
	t.Parallel()
	for _, opts := range [][]otelgostream.Option{nil, {otelgostream.WithClientSpans()}} {
		synctest.Test(t, func(t *testing.T) {
			s := newSpans()
			b := memory.New()
			r := gostream.NewRouter()
			r.HandleSource(hidden{"orders"}, gostream.Consume(func(ctx context.Context, s string) error {
				switch s {
				case "parked":
					return errNo
				case "slow":
					time.Sleep(time.Second)
					return errNo
				case "fast":
					return gostream.FailFast(errNo)
				}
				return nil
			}), gostream.Workers(2), gostream.ByKey(), gostream.RetryBackoff(gostream.Exponential(time.Hour, time.Hour)))
			app := gostream.New("shop", "1", quiet())
			otelgostream.Instrument(app, append(opts, s.option())...)
			app.Mount(b, r)
			p := app.RawPublisher(b)
			svc, err := app.Start(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			key := func(payload, key string) broker.OutgoingMessage {
				msg := out("orders", payload)
				msg.Key = []byte(key)
				return msg
			}
			publish(t, t.Context(), p, key("parked", "a"), key("behind", "a"))
			synctest.Wait()
			publish(t, t.Context(), p, key("slow", "b"), key("fast", "c"), key("never", "c"))
			time.Sleep(time.Minute)
			if err := svc.Shutdown(context.WithoutCancel(t.Context())); !errors.Is(err, errNo) {
				t.Errorf("the service has ended with %v", err)
			}
			s.wantEnded(t)
			outcomes := map[string]int{}
			for _, span := range s.named("process orders") {
				outcomes[attr(span, "gostream.outcome")]++
			}
			if outcomes["given-back"] != 2 || outcomes["retried"] != 1 {
				t.Errorf("the outcomes are %v", outcomes)
			}
		})
	}
}

// A span that a middleware around has opened, and has set as the delivery's, is its own: it
// is not ended for it, and no receive span is lost by it.
func TestContextOfAnOuterMiddleware(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSpans()
		tracer := s.provider.Tracer("test")
		b := memory.New()
		r := gostream.NewRouter()
		r.Handle("orders", gostream.Consume(func(context.Context, string) error { return nil }))
		r.Handle("batches", gostream.ConsumeBatch(func(context.Context, []string) error { return nil }, 2, 0))
		app := gostream.New("shop", "1", quiet())
		app.Use(func(next gostream.Next) gostream.Next {
			return func(ctx context.Context, b *gostream.Batch) error {
				ctx, span := tracer.Start(ctx, "outer", trace.WithNewRoot())
				b.At(0).SetContext(ctx)
				err := next(ctx, b)
				if !span.IsRecording() {
					t.Error("somebody else has ended the span")
				}
				span.End()
				return err
			}
		})
		otelgostream.Instrument(app, s.option(), otelgostream.WithClientSpans())
		app.Mount(b, r)
		p := app.RawPublisher(b)
		_, stop := run(t, app)
		publish(t, t.Context(), p, out("orders", "x"))
		publish(t, t.Context(), p, out("batches", "x"))
		synctest.Wait()
		stop()
		s.wantEnded(t)
	})
}

// Where the error reply to a request cannot be sent, the span says why the request failed.
func TestSpanOfAPendingErrorReply(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSpans()
		b := memory.New()
		r := gostream.NewRouter()
		r.Handle("prices", gostream.Reply(func(context.Context, string) (string, error) { panic("no price") }).ToReplyTo())
		app := gostream.New("shop", "1", quiet())
		otelgostream.Instrument(app, s.option())
		var tries atomic.Int32
		app.UsePublish(func(next gostream.PublishNext) gostream.PublishNext {
			return func(ctx context.Context, msgs []broker.OutgoingMessage) error {
				if msgs[0].Headers.Has(gostream.HeaderError) && tries.Add(1) == 1 {
					return errNo
				}
				return next(ctx, msgs)
			}
		})
		app.Mount(b, r)
		ask := gostream.NewRequester[string, string](app, b, "prices")
		_, stop := run(t, app)
		var remote *gostream.RemoteError
		if _, err := ask.Request(t.Context(), "x"); !errors.As(err, &remote) {
			t.Error(err)
		}
		synctest.Wait()
		stop()
		wantAttrs(t, s.one(t, "process prices"), map[string]string{"gostream.outcome": "pending", "gostream.reason": "panic"})
	})
}

// The span of a batch of which some messages failed is an error.
func TestSpanOfAPartlyFailedBatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSpans()
		b := memory.New()
		r := gostream.NewRouter()
		r.Handle("orders", gostream.ConsumeBatch(func(_ context.Context, all []string) error {
			return gostream.Each([]error{nil, gostream.Reject(errNo), gostream.Ignore(nil), nil})
		}, 4, time.Second))
		app := gostream.New("shop", "1", quiet())
		otelgostream.Instrument(app, s.option())
		app.Mount(b, r)
		p := app.RawPublisher(b)
		_, stop := run(t, app)
		publish(t, t.Context(), p, out("orders", "a"), out("orders", "b"), out("orders", "c"), out("orders", "d"))
		time.Sleep(time.Minute)
		stop()
		span := s.one(t, "process orders")
		wantAttrs(t, span, map[string]string{"error.type": "*errors.errorString", "gostream.reason": "handler decided"})
		if got := span.Status(); got.Code != codes.Error || got.Description != "1 of 4 messages failed" {
			t.Errorf("the status is %v", got)
		}
	})
}

// The dead letter of a message that was delivered too often, and not handled, goes on in
// the trace of its sender.
func TestTraceOfAnUnhandledDeadLetter(t *testing.T) {
	t.Parallel()
	for _, parent := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newSpans()
			b := memory.New()
			r := gostream.NewRouter()
			r.HandleSource(tried{"orders"}, gostream.Consume(func(context.Context, string) error { return nil }), gostream.DeadLetterTo("dead"))
			r.Handle("dead", gostream.Raw(func(context.Context, *gostream.Delivery) error { return nil }))
			app := gostream.New("shop", "1", quiet())
			opts := []otelgostream.Option{s.option()}
			if parent {
				opts = append(opts, otelgostream.WithParent())
			}
			otelgostream.Instrument(app, opts...)
			app.Mount(b, r)
			p := app.RawPublisher(b)
			ctx, span := s.provider.Tracer("test").Start(t.Context(), "startup")
			svc, err := app.Start(ctx)
			if err != nil {
				t.Fatal(err)
			}
			span.End()
			publish(t, t.Context(), p, out("orders", strings.Repeat("!", 100)))
			synctest.Wait()
			if err := svc.Shutdown(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
			send, dead, process := s.one(t, "send orders"), s.one(t, "send dead"), s.one(t, "process dead")
			wantLink(t, dead, send)
			wantLink(t, process, dead)
			wantKind(t, dead, trace.SpanKindProducer)
			if parent {
				wantChild(t, dead, send)
				wantChild(t, process, dead)
			} else if dead.Parent().IsValid() {
				t.Error("the span of the dead letter has a parent")
			}
		})
	}
}

// What an AfterAck hook publishes, when the span of the processing may have ended, is below it.
func TestHookPublishes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSpans()
		b := memory.New()
		r := gostream.NewRouter()
		app := gostream.New("shop", "1", quiet())
		p := app.RawPublisher(b)
		var mu sync.Mutex
		r.Handle("orders", gostream.Consume(func(ctx context.Context, _ string) error {
			gostream.AfterAck(ctx, func(ctx context.Context) {
				time.Sleep(time.Second)
				mu.Lock()
				defer mu.Unlock()
				publish(t, ctx, p, out("next", "x"))
			})
			return nil
		}))
		r.Handle("next", gostream.Raw(func(context.Context, *gostream.Delivery) error { return nil }))
		otelgostream.Instrument(app, s.option(), otelgostream.WithParent(), otelgostream.WithDestinations("next"))
		app.Mount(b, r)
		_, stop := run(t, app)
		publish(t, t.Context(), p, out("orders", "x"))
		time.Sleep(time.Minute)
		stop()
		wantChild(t, s.one(t, "send next"), s.one(t, "process orders"))
		wantChild(t, s.one(t, "process next"), s.one(t, "send next"))
		wantAttrs(t, s.one(t, "process orders"), map[string]string{"gostream.outcome": "acked", "gostream.reason": ""})
	})
}

// A message that is handed over alone, when its batch has failed, was queued once.
func TestQueuedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMeters()
		b := memory.New()
		r := gostream.NewRouter()
		r.Handle("orders", gostream.ConsumeBatch(func(_ context.Context, all []string) error {
			return gostream.Reject(errNo)
		}, 4, time.Second))
		app := gostream.New("shop", "1", quiet())
		app.Use(func(next gostream.Next) gostream.Next {
			return func(ctx context.Context, b *gostream.Batch) error {
				_ = next(ctx, b)
				return next(ctx, b)
			}
		})
		otelgostream.Instrument(app, m.option(), otelgostream.WithSentTime())
		app.Mount(b, r)
		p := app.RawPublisher(b)
		_, stop := run(t, app)
		publish(t, t.Context(), p, out("orders", "a"), out("orders", "b"), out("orders", "c"))
		time.Sleep(time.Minute)
		stop()
		m.want(t, "gostream.queue.duration", "destination.name=orders subscription=orders system=memory: count 3 sum 3")
		m.want(t, "gostream.message.attempts", "destination.name=orders outcome=rejected subscription=orders system=memory: count 3 sum 3")
	})
}

// Counters that alerts look at are there before anything happens.
func TestCountersBeginWithZero(t *testing.T) {
	t.Parallel()
	prom := otelgostream.PrometheusHandler()
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Consume(func(context.Context, string) error { return nil }), gostream.DeadLetterTo("dead"))
	r.Handle("dead", gostream.Raw(func(context.Context, *gostream.Delivery) error { return nil }))
	app := gostream.New("shop", "1", quiet())
	otelgostream.Instrument(app, otelgostream.WithMeterProvider(prom.MeterProvider()))
	app.Mount(memory.New(), r)
	run(t, app)
	text := scrape(t, prom)
	for metric, want := range map[string]int{
		"gostream_handler_panics_total{": 2, "gostream_undecodable_messages_total{": 2, "gostream_dead_lettered_messages_total{": 6,
		"gostream_settle_failures_total{": 1, "gostream_send_failures_total{": 1,
	} {
		if got := strings.Count(text, metric); got != want {
			t.Errorf("there are %d series %s, want %d", got, metric, want)
		}
	}
}

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
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

var errNo = errors.New("no")

// backoff is one retry, a second later.
func backoff() gostream.Option {
	return gostream.RetryBackoff(gostream.Exponential(time.Second, time.Second).Attempts(2))
}

// What stands on the spans of one message: that of its sending, and of each attempt.
func TestSpansOfAMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSpans()
		b := memory.New()
		r := gostream.NewRouter()
		calls := 0
		r.HandleSource(memory.Pattern("orders.*"), gostream.Consume(func(ctx context.Context, _ string) error {
			if calls++; calls == 1 {
				time.Sleep(3 * time.Second)
				return errNo
			}
			return nil
		}), gostream.Named("intake"))
		app := gostream.New("shop", "1", quiet())
		otelgostream.Instrument(app, s.option(), otelgostream.WithMeterProvider(nil), otelgostream.WithDestinations("orders.eu"))
		app.Mount(b, r)
		p := app.RawPublisher(b)
		_, stop := run(t, app)
		publish(t, t.Context(), p, out("orders.eu", "x", broker.Header{Key: broker.HeaderMessageID, Value: "m-1"}, broker.Header{Key: broker.HeaderCorrelationID, Value: "c-1"}))
		time.Sleep(time.Minute)
		stop()

		send := s.one(t, "send orders.eu")
		wantKind(t, send, trace.SpanKindProducer)
		wantAttrs(t, send, map[string]string{
			"messaging.system": "memory", "messaging.operation.name": "send", "messaging.operation.type": "send",
			"messaging.destination.name": "orders.eu", "messaging.message.id": "m-1", "messaging.message.conversation_id": "c-1",
			"messaging.destination.template": "", "error.type": "",
		})
		attempts := s.named("process orders.*")
		if len(attempts) != 2 {
			t.Fatalf("%d attempts, want 2: %s", len(attempts), s.names())
		}
		for _, a := range attempts {
			wantKind(t, a, trace.SpanKindConsumer)
			wantLink(t, a, send)
			wantAttrs(t, a, map[string]string{
				"messaging.system": "memory", "messaging.operation.name": "process", "messaging.operation.type": "process",
				"messaging.destination.name": "orders.eu", "messaging.destination.template": "orders.*",
				"messaging.message.id": "m-1", "messaging.message.conversation_id": "c-1", "gostream.subscription": "intake",
			})
			if a.Parent().IsValid() || a.SpanContext().TraceID() == send.SpanContext().TraceID() {
				t.Error("without WithParent an attempt is in the sender's trace")
			}
		}
		first, second := attempts[0], attempts[1]
		wantAttrs(t, first, map[string]string{
			"gostream.attempt": "1", "gostream.redelivered": "false", "gostream.outcome": "retried", "gostream.reason": "error",
			"error.type": "*errors.errorString",
		})
		wantAttrs(t, second, map[string]string{
			"gostream.attempt": "2", "gostream.redelivered": "true", "gostream.outcome": "acked", "gostream.reason": "", "error.type": "",
		})
		if first.Status().Code != codes.Error || first.Status().Description != "no" || second.Status().Code != codes.Unset {
			t.Errorf("the statuses are %v and %v", first.Status(), second.Status())
		}
		if took := first.EndTime().Sub(first.StartTime()); took != 3*time.Second {
			t.Errorf("the first attempt took %v, want the handler's 3s", took)
		}
	})
}

// A span ends when its handler returned, although it is known later how its message was
// settled: here, when its dead letter could be published at the second try.
func TestSpanOfAPendingDeadLetter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSpans()
		b := memory.New()
		r := gostream.NewRouter()
		r.Handle("orders", gostream.Consume(func(context.Context, string) error { return gostream.DeadLetter(errNo) }), gostream.DeadLetterTo("dead"))
		app := gostream.New("shop", "1", quiet())
		otelgostream.Instrument(app, s.option())
		var tries atomic.Int32
		app.UsePublish(func(next gostream.PublishNext) gostream.PublishNext {
			return func(ctx context.Context, msgs []broker.OutgoingMessage) error {
				if msgs[0].Name == "dead" && tries.Add(1) == 1 {
					return errNo
				}
				return next(ctx, msgs)
			}
		})
		app.Mount(b, r)
		p := app.RawPublisher(b)
		_, stop := run(t, app)
		publish(t, t.Context(), p, out("orders", "x"))
		time.Sleep(time.Minute)
		stop()

		process := s.one(t, "process orders")
		wantAttrs(t, process, map[string]string{"gostream.outcome": "pending", "gostream.reason": "handler decided"})
		sends := s.named("send dead")
		if len(sends) != 2 {
			t.Fatalf("%d sends of the dead letter, want 2", len(sends))
		}
		for i, send := range sends {
			wantChild(t, send, process)
			wantAttrs(t, send, map[string]string{"gostream.reason": "handler decided"})
			if failed := send.Status().Code == codes.Error; failed != (i == 0) {
				t.Errorf("try %d failed: %v", i+1, failed)
			}
		}
	})
}

// The span of a batch links to each message; the outcome of each is on it.
func TestSpanOfABatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSpans()
		b := memory.New()
		r := gostream.NewRouter()
		r.Handle("orders", gostream.ReplyBatch(func(_ context.Context, in []string) ([]string, error) {
			errs := make([]error, len(in))
			for i, text := range in {
				switch text {
				case "again":
					errs[i] = errNo
				case "bad":
					errs[i] = gostream.DeadLetter(errNo)
				}
			}
			return in, gostream.Each(errs)
		}, 10, time.Second).To("replies"), gostream.DeadLetterTo("dead"))
		var replies []string // traceparent of each
		var mu sync.Mutex
		r.Handle("replies", gostream.Raw(func(_ context.Context, d *gostream.Delivery) error {
			mu.Lock()
			defer mu.Unlock()
			replies = append(replies, d.Headers().Get("traceparent"))
			return nil
		}))
		app := gostream.New("shop", "1", quiet())
		otelgostream.Instrument(app, s.option(), otelgostream.WithParent())
		app.Mount(b, r)
		p := app.RawPublisher(b)
		_, stop := run(t, app)
		publish(t, t.Context(), p, out("orders", "a"), out("orders", "again"), out("orders", "bad"), out("orders", "b"))
		time.Sleep(2 * time.Second)
		stop()

		created := s.named("create orders")
		if len(created) != 4 {
			t.Fatalf("%d messages were created, want 4: %s", len(created), s.names())
		}
		send := s.one(t, "send orders")
		wantKind(t, send, trace.SpanKindClient)
		wantAttrs(t, send, map[string]string{"messaging.batch.message_count": "4", "messaging.destination.name": "orders"})
		batches := s.named("process orders")
		first := batches[0]
		if len(first.Links()) != 4 {
			t.Errorf("the batch has %d links, want 4", len(first.Links()))
		}
		for _, c := range created {
			wantKind(t, c, trace.SpanKindProducer)
			wantLink(t, send, c)
			wantLink(t, first, c)
		}
		wantAttrs(t, first, map[string]string{
			"messaging.batch.message_count": "4", "messaging.destination.name": "orders",
			"gostream.outcomes": `["acked=2","retried=1","dead-lettered=1"]`, "gostream.outcome": "",
		})
		if first.Parent().IsValid() {
			t.Error("a batch has a parent")
		}
		wantChild(t, s.one(t, "send dead"), first)

		// Each reply is created in the batch, and leads back to the message that it answers.
		answers := s.named("create replies")
		if len(answers) != 2 {
			t.Fatalf("%d replies were created, want 2: %s", len(answers), s.names())
		}
		for i, a := range answers {
			wantChild(t, a, first)
			wantLink(t, a, created[[]int{0, 3}[i]])
			if mu.Lock(); !strings.Contains(replies[i], a.SpanContext().SpanID().String()) {
				t.Errorf("reply %d carries %s, want that of its creation", i, replies[i])
			}
			mu.Unlock()
		}
	})
}

// A message of a batch that waits for the publish of its dead letter is counted once,
// however it ends, while the others are still being settled.
func TestPendingMessageOfABatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSpans()
		b := memory.New()
		r := gostream.NewRouter()
		r.HandleSource(slowly{"orders"}, gostream.ConsumeBatch(func(_ context.Context, in []string) error {
			errs := make([]error, len(in))
			for i := range in {
				if in[i] == "bad" {
					errs[i] = gostream.DeadLetter(errNo)
				}
			}
			return gostream.Each(errs)
		}, 10, time.Second), gostream.DeadLetterTo("dead"), gostream.Workers(2))
		app := gostream.New("shop", "1", quiet())
		otelgostream.Instrument(app, s.option())
		var tries atomic.Int32
		app.UsePublish(func(next gostream.PublishNext) gostream.PublishNext {
			return func(ctx context.Context, msgs []broker.OutgoingMessage) error {
				if msgs[0].Name == "dead" && tries.Add(1) == 1 {
					return errNo
				}
				return next(ctx, msgs)
			}
		})
		app.Mount(b, r)
		p := app.RawPublisher(b)
		_, stop := run(t, app)
		// An acknowledgement takes 2 s, the dead letter is sent again after a fraction of one.
		publish(t, t.Context(), p, out("orders", "bad"), out("orders", "a"), out("orders", "b"))
		time.Sleep(time.Minute)
		stop()
		wantAttrs(t, s.one(t, "process orders"), map[string]string{"gostream.outcomes": `["pending=1","acked=2"]`})
	})
}

func TestWithoutCreateSpans(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSpans()
		b := memory.New()
		r := gostream.NewRouter()
		r.Handle("orders", gostream.Consume(func(context.Context, string) error { return nil }))
		app := gostream.New("shop", "1", quiet())
		otelgostream.Instrument(app, s.option(), otelgostream.WithParent(), otelgostream.WithoutCreateSpans())
		app.Mount(b, r)
		p := app.RawPublisher(b)
		_, stop := run(t, app)
		publish(t, t.Context(), p, out("orders", "a"), out("orders", "b"))
		synctest.Wait()
		stop()
		send := s.one(t, "send orders")
		wantKind(t, send, trace.SpanKindProducer)
		for _, one := range s.named("process orders") {
			wantChild(t, one, send)
			wantLink(t, one, send)
		}
	})
}

// Receiving and settling have spans of their own by option.
func TestClientSpans(t *testing.T) {
	t.Parallel()
	for _, parent := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newSpans()
			opts := []otelgostream.Option{s.option(), otelgostream.WithClientSpans()}
			if parent {
				opts = append(opts, otelgostream.WithParent())
			}
			b := memory.New()
			r := gostream.NewRouter()
			r.Handle("orders", gostream.Consume(func(_ context.Context, s string) error {
				if s == "bad" {
					return gostream.Reject(errNo)
				}
				return nil
			}))
			app := gostream.New("shop", "1", quiet())
			otelgostream.Instrument(app, opts...)
			app.Mount(b, r)
			p := app.RawPublisher(b)
			_, stop := run(t, app)
			publish(t, t.Context(), p, out("orders", "good"))
			time.Sleep(time.Second)
			publish(t, t.Context(), p, out("orders", "bad"))
			time.Sleep(time.Second)
			stop()

			sends, receives, processes := s.named("send orders"), s.named("receive orders"), s.named("process orders")
			if len(receives) != 2 || len(processes) != 2 {
				t.Fatalf("the spans are %s", s.names())
			}
			for i, receive := range receives {
				wantKind(t, receive, trace.SpanKindClient)
				wantLink(t, receive, sends[i])
				wantLink(t, processes[i], sends[i])
				if parent {
					wantChild(t, receive, sends[i])
					wantChild(t, processes[i], sends[i])
				} else {
					wantChild(t, processes[i], receive)
				}
			}
		})
	}
}

// slowly is a source of messages whose settlement takes two seconds.
type slowly struct{ broker.ByName }

func (s slowly) Subscribe(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
	sub, err := s.ByName.Subscribe(ctx, b)
	return slowSubscription{sub}, err
}

type slowSubscription struct{ broker.Subscription }

func (s slowSubscription) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	m, err := s.Subscription.Receive(ctx)
	if err != nil {
		return nil, err
	}
	return slowMessage{m}, nil
}

type slowMessage struct{ broker.IncomingMessage }

func (m slowMessage) Ack(ctx context.Context) error {
	time.Sleep(2 * time.Second) // of a bubble
	if string(m.Payload()) == "refused" {
		_ = m.IncomingMessage.Nack(ctx, false)
		return broker.ErrStale
	}
	return m.IncomingMessage.Ack(ctx)
}

func (m slowMessage) Nack(ctx context.Context, requeue bool) error {
	time.Sleep(2 * time.Second) // of a bubble
	return m.IncomingMessage.Nack(ctx, requeue)
}

func TestSettleSpan(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, m := newSpans(), newMeters()
		b := memory.New()
		r := gostream.NewRouter()
		r.HandleSource(slowly{"orders"}, gostream.Consume(func(_ context.Context, s string) error {
			if s == "bad" {
				return gostream.Reject(errNo)
			}
			return nil
		}))
		app := gostream.New("shop", "1", quiet())
		otelgostream.Instrument(app, s.option(), m.option(), otelgostream.WithClientSpans())
		app.Mount(b, r)
		p := app.RawPublisher(b)
		_, stop := run(t, app)
		for _, payload := range []string{"good", "bad", "refused"} {
			publish(t, t.Context(), p, out("orders", payload))
			time.Sleep(time.Minute)
		}
		stop()
		processes, acks, nack := s.named("process orders"), s.named("ack orders"), s.one(t, "nack orders")
		if len(acks) != 2 || len(processes) != 3 {
			t.Fatalf("the spans are %s", s.names())
		}
		for i, settle := range []sdktrace.ReadOnlySpan{acks[0], nack, acks[1]} {
			wantKind(t, settle, trace.SpanKindClient)
			wantChild(t, settle, processes[i])
			wantAttrs(t, settle, map[string]string{"messaging.operation.type": "settle"})
			if took := settle.EndTime().Sub(settle.StartTime()); took != 2*time.Second {
				t.Errorf("settlement %d took %v, want 2s", i, took)
			}
			if took := processes[i].EndTime().Sub(processes[i].StartTime()); took != 0 {
				t.Errorf("process %d took %v: the settlement is none of it", i, took)
			}
		}
		wantAttrs(t, acks[0], map[string]string{"gostream.outcome": "acked", "error.type": "", "messaging.operation.name": "ack"})
		wantAttrs(t, nack, map[string]string{"gostream.outcome": "rejected", "error.type": "", "messaging.operation.name": "nack"})
		wantAttrs(t, acks[1], map[string]string{"gostream.outcome": "unsettled", "error.type": "stale"})
		if acks[1].Status().Code != codes.Error {
			t.Error("a settlement that was refused is no error")
		}
		m.want(t, "messaging.client.operation.duration",
			"destination.name=orders error.type=stale operation.name=ack operation.type=settle subscription=orders system=memory: count 1 sum 2",
			"destination.name=orders operation.name=ack operation.type=settle subscription=orders system=memory: count 1 sum 2",
			"destination.name=orders operation.name=nack operation.type=settle subscription=orders system=memory: count 1 sum 2",
			"destination.name=orders operation.name=send operation.type=send system=memory: count 3 sum 0",
		)
	})
}

// A context that the user has put into a message's headers is left alone.
func TestCustomCreationContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSpans()
		b := memory.New()
		const traceID, custom = "0af7651916cd43dd8448eb211c80319c", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		r := gostream.NewRouter()
		app := gostream.New("shop", "1", quiet())
		p := app.RawPublisher(b)
		r.Handle("orders", gostream.Raw(func(ctx context.Context, d *gostream.Delivery) error {
			if got := d.Headers().Values("traceparent"); len(got) != 1 || got[0] != custom {
				t.Errorf("traceparent is %q, want %q", got, custom)
			}
			// In a handler, too; what is carried over is not the user's, however.
			publish(t, ctx, p, out("other", "x", broker.Header{Key: "traceparent", Value: "00-11111111111111111111111111111111-2222222222222222-01"}))
			publish(t, ctx, p, out("carried", "x"))
			return nil
		}))
		var got sync.Map
		for _, name := range []string{"other", "carried"} {
			r.Handle(name, gostream.Raw(func(_ context.Context, d *gostream.Delivery) error {
				got.Store(name, d.Headers().Get("traceparent"))
				return nil
			}))
		}
		otelgostream.Instrument(app, s.option(), otelgostream.WithParent())
		app.Mount(b, r)
		_, stop := run(t, app)
		publish(t, t.Context(), p, out("orders", "x", broker.Header{Key: "traceparent", Value: custom}))
		synctest.Wait()
		stop()
		send := s.one(t, "send orders")
		wantKind(t, send, trace.SpanKindClient)
		if len(send.Links()) != 1 || send.Links()[0].SpanContext.TraceID().String() != traceID {
			t.Errorf("the span of the sending links to %v, want the custom context", send.Links())
		}
		process := s.one(t, "process orders")
		if process.SpanContext().TraceID().String() != traceID {
			t.Error("the processing is not in the custom trace")
		}
		if v, _ := got.Load("other"); v != "00-11111111111111111111111111111111-2222222222222222-01" {
			t.Errorf("other carries %v", v)
		}
		if v, _ := got.Load("carried"); v == nil || !strings.Contains(v.(string), s.one(t, "send carried").SpanContext().SpanID().String()) {
			t.Errorf("carried carries %v", v)
		}
	})
}

// The span in which an app was started is no parent of what it handles; one that a
// middleware around has opened is.
func TestAmbientSpan(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name          string
		outer, parent bool
	}{{"startup", false, false}, {"outer middleware", true, false}, {"outer middleware, with parent", true, true}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := newSpans()
				tracer := s.provider.Tracer("test")
				b := memory.New()
				r := gostream.NewRouter()
				r.Handle("orders", gostream.Consume(func(context.Context, string) error { return nil }))
				app := gostream.New("shop", "1", quiet())
				if test.outer {
					app.Use(func(next gostream.Next) gostream.Next {
						return func(ctx context.Context, b *gostream.Batch) error {
							ctx, span := tracer.Start(ctx, "outer", trace.WithNewRoot())
							defer span.End()
							return next(ctx, b)
						}
					})
				}
				opts := []otelgostream.Option{s.option()}
				if test.parent {
					opts = append(opts, otelgostream.WithParent())
				}
				otelgostream.Instrument(app, opts...)
				app.Mount(b, r)
				p := app.RawPublisher(b)
				ctx, span := tracer.Start(t.Context(), "startup")
				svc, err := app.Start(ctx)
				if err != nil {
					t.Fatal(err)
				}
				publish(t, t.Context(), p, out("orders", "x"))
				synctest.Wait()
				span.End()
				if err := svc.Shutdown(context.WithoutCancel(ctx)); err != nil {
					t.Error(err)
				}
				process := s.one(t, "process orders")
				switch {
				case !test.outer && process.Parent().IsValid():
					t.Error("the span has a parent")
				case test.parent:
					wantChild(t, process, s.one(t, "send orders"))
					wantLink(t, process, s.one(t, "outer"))
				case test.outer:
					wantChild(t, process, s.one(t, "outer"))
				}
				wantLink(t, process, s.one(t, "send orders"))
			})
		})
	}
}

// A middleware that calls next twice leaves no span open, nor does a handler that panics
// or ends its goroutine.
func TestEverySpanEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSpans()
		b := memory.New()
		r := gostream.NewRouter()
		r.Use(func(next gostream.Next) gostream.Next {
			return func(ctx context.Context, b *gostream.Batch) error {
				switch string(b.At(0).Payload()) {
				case "middleware panics":
					panic("middleware")
				case "middleware exits":
					runtime.Goexit()
				}
				return next(ctx, b)
			}
		})
		r.Handle("orders", gostream.Consume(func(_ context.Context, s string) error {
			switch s {
			case "panics":
				panic("handler")
			case "exits":
				runtime.Goexit()
			}
			return nil
		}), gostream.DeadLetterTo("dead"), backoff())
		app := gostream.New("shop", "1", quiet())
		app.Use(func(next gostream.Next) gostream.Next {
			return func(ctx context.Context, b *gostream.Batch) error {
				if string(b.At(0).Payload()) == "twice" {
					_ = next(ctx, b)
				}
				return next(ctx, b)
			}
		})
		otelgostream.Instrument(app, s.option())
		app.Mount(b, r)
		p := app.RawPublisher(b)
		_, stop := run(t, app)
		for _, payload := range []string{"twice", "panics", "exits", "middleware panics", "middleware exits"} {
			publish(t, t.Context(), p, out("orders", payload))
			time.Sleep(time.Minute)
		}
		stop()
		if started, ended := len(s.Started()), len(s.Ended()); started != ended {
			t.Errorf("%d spans were started, %d ended", started, ended)
		}
		if got := len(s.named("process orders")); got != 10 {
			t.Errorf("%d spans of processing, want 2 of each: %s", got, s.names())
		}
		for _, span := range s.named("process orders")[2:] {
			if span.Status().Code != codes.Error || attr(span, "gostream.outcome") == "" {
				t.Errorf("the span of a failure: %v, outcome %q", span.Status(), attr(span, "gostream.outcome"))
			}
		}
	})
}

// Baggage arrives in the handler, and goes on as the handler has changed it.
func TestBaggage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSpans()
		b := memory.New()
		r := gostream.NewRouter()
		app := gostream.New("shop", "1", quiet())
		p := app.RawPublisher(b)
		var got []string
		r.Handle("a", gostream.Consume(func(ctx context.Context, _ string) error {
			got = append(got, baggage.FromContext(ctx).Member("tenant").Value())
			publish(t, ctx, p, out("b", "x"))
			return nil
		}))
		r.Handle("b", gostream.Consume(func(ctx context.Context, _ string) error {
			got = append(got, baggage.FromContext(ctx).Member("tenant").Value())
			other, _ := baggage.NewMember("tenant", "blue")
			bag, _ := baggage.New(other)
			publish(t, baggage.ContextWithBaggage(ctx, bag), p, out("c", "x"))
			return nil
		}))
		r.Handle("c", gostream.Consume(func(ctx context.Context, _ string) error {
			got = append(got, baggage.FromContext(ctx).Member("tenant").Value())
			return nil
		}))
		otelgostream.Instrument(app, s.option())
		app.Mount(b, r)
		_, stop := run(t, app)
		member, _ := baggage.NewMember("tenant", "red")
		bag, _ := baggage.New(member)
		publish(t, baggage.ContextWithBaggage(t.Context(), bag), p, out("a", "x"))
		synctest.Wait()
		stop()
		if strings.Join(got, " ") != "red red blue" {
			t.Errorf("the tenants are %q, want red red blue", got)
		}
	})
}

// Without a tracer provider that makes spans, what came in is passed on as it is.
func TestPassThrough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := memory.New()
		r := gostream.NewRouter()
		app := gostream.New("shop", "1", quiet())
		p := app.RawPublisher(b)
		const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		got := ""
		r.Handle("a", gostream.Consume(func(ctx context.Context, _ string) error {
			publish(t, ctx, p, out("b", "x"))
			return nil
		}))
		r.Handle("b", gostream.Raw(func(_ context.Context, d *gostream.Delivery) error {
			got = d.Headers().Get("traceparent")
			return nil
		}))
		otelgostream.Instrument(app) // the global providers, which nobody has set
		app.Mount(b, r)
		_, stop := run(t, app)
		publish(t, t.Context(), p, out("a", "x", broker.Header{Key: "traceparent", Value: parent}))
		synctest.Wait()
		stop()
		if got != parent {
			t.Errorf("traceparent is %q, want %q", got, parent)
		}
	})
}

package otelgostream_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
	"github.com/gostream/gostream/otelgostream"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// journey is three services on two brokers. An order is confirmed at the second attempt,
// the confirmation goes to the other broker; the invoice asks a third service for the price,
// fails, and ends in a dead letter, which the third service reads. Each service has spans of
// its own.
func journey(t *testing.T, opts ...otelgostream.Option) (orders, billing, prices *spans) {
	t.Helper()
	orders, billing, prices = newSpans(), newSpans(), newSpans()
	front, back := memory.NewStore(), memory.NewStore()
	connect := func(s *memory.Store) broker.Broker { return memory.New(memory.On(s)) }
	instrument := func(app *gostream.App, s *spans) {
		otelgostream.Instrument(app, append(opts, s.option(), otelgostream.WithMeterProvider(nil))...)
	}

	// The shop takes orders on one broker and confirms them on the other.
	one, two := connect(front), connect(back)
	shop := gostream.New("shop", "1", quiet())
	instrument(shop, orders)
	toBack := shop.RawPublisher(two)
	r := gostream.NewRouter()
	attempts := 0
	r.Handle("orders", gostream.Reply(func(_ context.Context, order string) (string, error) {
		if attempts++; attempts == 1 {
			return "", errNo
		}
		return order, nil
	}).To("confirmed").Via(toBack), gostream.DeadLetterTo("orders.dead"), backoff())
	shop.Mount(one, r)
	shop.Mount(two)
	publisher := gostream.NewPublisher[string](shop, one, "orders")

	// Billing asks for the price on the first broker, and cannot write the invoice.
	one, two = connect(front), connect(back)
	bill := gostream.New("billing", "1", quiet())
	instrument(bill, billing)
	ask := gostream.NewRequester[string, string](bill, one, "prices")
	r = gostream.NewRouter()
	r.Handle("confirmed", gostream.Consume(func(ctx context.Context, order string) error {
		if price, err := ask.Request(ctx, order); err != nil || price != "12" {
			t.Errorf("the price is %q, %v", price, err)
		}
		return gostream.DeadLetter(errNo)
	}), gostream.DeadLetterTo("confirmed.dead"))
	bill.Mount(one)
	bill.Mount(two, r)

	// Prices are answered on the first broker; dead letters are read from the second.
	one, two = connect(front), connect(back)
	price := gostream.New("prices", "1", quiet())
	instrument(price, prices)
	answers, dead := gostream.NewRouter(), gostream.NewRouter()
	answers.Handle("prices", gostream.Reply(func(context.Context, string) (string, error) { return "12", nil }).ToReplyTo())
	dead.Handle("confirmed.dead", gostream.Raw(func(context.Context, *gostream.Delivery) error { return nil }))
	price.Mount(one, answers)
	price.Mount(two, dead)

	var stops []func()
	for _, app := range []*gostream.App{price, bill, shop} {
		_, stop := run(t, app)
		stops = append(stops, stop)
	}
	if err := publisher.Publish(t.Context(), "o-1", gostream.Header(broker.HeaderMessageID, "o-1")); err != nil {
		t.Error(err)
	}
	time.Sleep(time.Minute)
	for _, stop := range stops {
		stop()
	}
	return orders, billing, prices
}

// steps are the spans of a journey in its order: which one comes from which.
func steps(t *testing.T, orders, billing, prices *spans) (all []sdktrace.ReadOnlySpan) {
	t.Helper()
	attempts := orders.named("process orders")
	if len(attempts) != 2 {
		t.Fatalf("the order was attempted %d times, want 2", len(attempts))
	}
	return []sdktrace.ReadOnlySpan{
		orders.one(t, "send orders"), attempts[0], attempts[1], orders.one(t, "send confirmed"),
		billing.one(t, "process confirmed"), billing.one(t, "request prices"),
		prices.one(t, "process prices"), prices.one(t, "send"),
		billing.one(t, "send confirmed.dead"), prices.one(t, "process confirmed.dead"),
	}
}

// from is the index of the step that each step comes from; fromAnother says that it came
// in a message.
var from = []struct {
	index       int
	fromAnother bool
}{{-1, false}, {0, true}, {0, true}, {2, false}, {3, true}, {4, false}, {5, true}, {6, false}, {4, false}, {8, true}}

// One trace goes through all services: reply, retry, dead letter and request-reply.
func TestOneTrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		orders, billing, prices := journey(t, otelgostream.WithParent())
		all := steps(t, orders, billing, prices)
		id := all[0].SpanContext().TraceID()
		for i, s := range all {
			if s.SpanContext().TraceID() != id {
				t.Errorf("step %d, %q, is in another trace", i, s.Name())
			}
			if from[i].index >= 0 {
				wantChild(t, s, all[from[i].index])
			}
			if want := "o-1"; i > 2 && attr(s, "messaging.message.conversation_id") != want {
				t.Errorf("step %d, %q: the conversation is %q, want %q", i, s.Name(), attr(s, "messaging.message.conversation_id"), want)
			}
		}
		for _, s := range [][]sdktrace.ReadOnlySpan{orders.Ended(), billing.Ended(), prices.Ended()} {
			for _, span := range s {
				if span.SpanContext().TraceID() != id {
					t.Errorf("%q is in another trace", span.Name())
				}
			}
		}
	})
}

// By default each processing has a trace of its own, and its link leads back.
func TestLinkedTraces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		orders, billing, prices := journey(t)
		all := steps(t, orders, billing, prices)
		for i, s := range all {
			switch f := from[i]; {
			case f.index < 0:
			case f.fromAnother:
				wantLink(t, s, all[f.index])
				if s.SpanContext().TraceID() == all[f.index].SpanContext().TraceID() || s.Parent().IsValid() {
					t.Errorf("step %d, %q, is in the trace of what it links to", i, s.Name())
				}
			default:
				wantChild(t, s, all[f.index])
			}
		}
	})
}

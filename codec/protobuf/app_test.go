package protobuf_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/codec/protobuf"
	"github.com/gostream/gostream/codec/protobuf/internal/orderpb"
	"github.com/gostream/gostream/gostreamtest"
	"github.com/gostream/gostream/memory"
)

func confirm(_ context.Context, o *orderpb.Order) (*orderpb.Confirmation, error) {
	return &orderpb.Confirmation{OrderId: o.GetId()}, nil
}

// contentType is the header that says how a payload is encoded.
func contentType(s string) gostream.PublishOption {
	return gostream.Header(broker.HeaderContentType, s)
}

func TestApp(t *testing.T) {
	t.Parallel()
	var confirmed atomic.Pointer[orderpb.Confirmation]
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Reply(confirm).To("confirmations"), gostream.DeadLetterTo("orders.dead"))
	r.Handle("confirmations", gostream.Consume(func(_ context.Context, c *orderpb.Confirmation) error {
		confirmed.Store(c)
		return nil
	}))
	mem := memory.New()
	app := gostream.New("shop", "1.0.0", gostreamtest.Quiet(), gostream.WithCodec(protobuf.New()))
	app.Mount(mem, r)
	orders := gostream.NewPublisher[*orderpb.Order](app, mem, "orders")
	ts := gostreamtest.Start(t, app)

	if err := orders.Publish(t.Context(), fullOrder()); err != nil {
		t.Fatal(err)
	}
	ts.Wait()
	for _, name := range []string{"orders", "confirmations"} {
		if got := ts.ExpectPublished(name, 1)[0].Headers.ContentType(); got != "application/protobuf" {
			t.Errorf("%s has the content type %q", name, got)
		}
	}
	ts.ExpectHandled("orders", 1)
	ts.ExpectHandled("confirmations", 1)
	if got := confirmed.Load(); got.GetOrderId() != "o-1 ✓" {
		t.Errorf("confirmed: %v", got)
	}
	if err := orders.Publish(t.Context(), nil); err == nil {
		t.Error("a nil message was published")
	}
}

// byValue is Consume of a function that takes an M, which go vet would report.
func byValue[M any](take func(*M) error) gostream.Handler {
	return gostream.Consume(func(_ context.Context, m M) error { return take(&m) })
}

// publisherByValue publishes an M.
func publisherByValue[M any](app *gostream.App, b broker.Broker, name string) func(context.Context, *M) error {
	p := gostream.NewPublisher[M](app, b, name, gostream.WithCodec(protobuf.New()))
	return func(ctx context.Context, m *M) error { return p.Publish(ctx, *m) }
}

// All ways in which a handler can take a message, with the real runtime.
func TestAppByPointerAndByValue(t *testing.T) {
	t.Parallel()
	want := fullOrder()
	var taken atomic.Int64
	take := func(o *orderpb.Order) error {
		if !proto.Equal(o, want) {
			t.Errorf("a handler took %v", o)
		}
		taken.Add(1)
		return nil
	}
	r := gostream.NewRouter(gostream.WithCodec(protobuf.New()))
	for name, handler := range map[string]gostream.Handler{
		"pointer": gostream.Consume(func(_ context.Context, o *orderpb.Order) error { return take(o) }),
		"message": gostream.Consume(func(_ context.Context, m gostream.Message[*orderpb.Order]) error { return take(m.Body()) }),
		"batch": gostream.ConsumeBatch(func(_ context.Context, os []*orderpb.Order) error {
			for _, o := range os {
				_ = take(o)
			}
			return nil
		}, 4, 0),
		"reply": gostream.Reply(func(_ context.Context, o *orderpb.Order) (gostream.Outgoing[*orderpb.Order], error) {
			return gostream.Outgoing[*orderpb.Order]{Body: o}, take(o)
		}).To("replies"),
	} {
		r.HandleSource(memory.Pattern("orders.>"), handler, gostream.Named(name))
	}
	r.HandleSource(memory.Pattern("orders.>"), byValue(take), gostream.Named("value"))
	mem := memory.New()
	app := gostream.New("shop", "1.0.0", gostreamtest.Quiet())
	app.Mount(mem, r)
	pointers := gostream.NewPublisher[*orderpb.Order](app, mem, "orders.pointer", gostream.WithCodec(protobuf.New()))
	publishValue := publisherByValue[orderpb.Order](app, mem, "orders.value")
	ts := gostreamtest.Start(t, app)
	for _, publish := range []func(context.Context) error{
		func(ctx context.Context) error { return pointers.Publish(ctx, want) },
		func(ctx context.Context) error { return publishValue(ctx, want) },
	} {
		if err := publish(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ts.Wait()
	if got := taken.Load(); got != 10 {
		t.Errorf("%d messages were taken, want two by each of five handlers", got)
	}
	for _, p := range ts.ExpectPublished("replies", 2) {
		got := new(orderpb.Order)
		if err := proto.Unmarshal(p.Payload, got); err != nil || !proto.Equal(got, want) {
			t.Errorf("a reply is %v, %v", got, err)
		}
	}
}

// An app with a T that is no message does not start, and the error says what to take.
func TestAppWithAnotherType(t *testing.T) {
	t.Parallel()
	r := gostream.NewRouter(gostream.WithCodec(protobuf.New()))
	r.Handle("orders", gostream.Consume(func(context.Context, plain) error { return nil }))
	r.Handle("replies", gostream.Reply(func(context.Context, *orderpb.Order) (*plain, error) { return nil, nil }).To("out"))
	app := gostream.New("shop", "1.0.0", gostreamtest.Quiet())
	mem := memory.New()
	app.Mount(mem, r)
	gostream.NewPublisher[[]*orderpb.Order](app, mem, "orders", gostream.WithCodec(protobuf.New()))
	err := app.Check()
	for _, want := range []string{
		`subscription "orders"`, "protobuf_test.plain is no protobuf message: take a pointer to a generated message, such as *pb.Order",
		`subscription "replies"`, "*protobuf_test.plain is no protobuf message",
		`NewPublisher "orders"`, "[]*orderpb.Order is no protobuf message",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Check says %v, want %q in it", err, want)
		}
	}
}

// What cannot be decoded goes to the dead letter as it came, and the handler is not
// called.
func TestAppUndecodable(t *testing.T) {
	t.Parallel()
	r := gostream.NewRouter()
	r.Handle("nodes", gostream.Consume(func(context.Context, *orderpb.Node) error {
		t.Error("the handler was called")
		return nil
	}), gostream.WithCodec(protobuf.New(protobuf.MaxDepth(8))), gostream.DeadLetterTo("nodes.dead"))
	app := gostream.New("shop", "1.0.0", gostreamtest.Quiet())
	app.Mount(memory.New(), r)
	ts := gostreamtest.Start(t, app)
	payloads := []string{deep(2, 9, 1000), "\xff", "\x0a\xff\xff\xff\xff\x07x", "\x0a\x01\xff", `{"name":"x"}`}
	for _, p := range payloads {
		ts.Publish("nodes", []byte(p), contentType("application/protobuf"))
	}
	ts.Publish("nodes", []byte("{}"), contentType("application/json"))
	for i, d := range ts.ExpectPublished("nodes.dead", len(payloads)+1) {
		if got := d.Headers.Get(gostream.HeaderDeadReason); got != gostream.ReasonUndecodable {
			t.Errorf("%q is dead for the reason %q: %s", d.Payload, got, d.Headers.Get(gostream.HeaderDeadError))
		}
		if i < len(payloads) && string(d.Payload) != payloads[i] {
			t.Errorf("%q came to the dead letter as %q", payloads[i], d.Payload)
		}
	}
	var undecodable *gostream.UndecodableError
	settled := ts.Settled("nodes")
	if len(settled) == 0 || !errors.As(settled[0].Err, &undecodable) || !errors.Is(undecodable, protobuf.ErrLimit) {
		t.Errorf("what is too deep is settled as %+v", settled)
	}
}

// During a migration one subscription takes both.
func TestAppWithTwoContentTypes(t *testing.T) {
	t.Parallel()
	mem := memory.New()
	app := gostream.New("shop", "1.0.0", gostreamtest.Quiet())
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Reply(confirm).To("confirmations"), gostream.WithCodec(gostream.JSON),
		gostream.Codecs(protobuf.New(), protobuf.New(protobuf.ContentType("application/x-protobuf"))), gostream.DeadLetterTo("orders.dead"))
	app.Mount(mem, r)
	before := gostream.NewPublisher[*orderpb.Order](app, mem, "orders")
	after := gostream.NewPublisher[*orderpb.Order](app, mem, "orders", gostream.WithCodec(protobuf.New()))
	other := gostream.NewPublisher[*orderpb.Order](app, mem, "orders", gostream.WithCodec(protobuf.New(protobuf.ContentType("application/x-protobuf"))))
	ts := gostreamtest.Start(t, app)
	for _, p := range []*gostream.Publisher[*orderpb.Order]{before, after, other} {
		if err := p.Publish(t.Context(), &orderpb.Order{Id: "o-7"}); err != nil {
			t.Fatal(err)
		}
	}
	ts.Wait()
	ts.ExpectHandled("orders", 3)
	var types []string
	for _, p := range ts.Published("orders") {
		types = append(types, p.Headers.ContentType())
	}
	if len(types) != 3 || types[0] != "application/json" || types[1] != "application/protobuf" || types[2] != "application/x-protobuf" {
		t.Errorf("the content types are %q", types)
	}
	for _, p := range ts.ExpectPublished("confirmations", 3) { // by the main codec
		if string(p.Payload) != `{"order_id":"o-7"}` {
			t.Errorf("a reply is %q", p.Payload)
		}
	}
}

func TestAppWithAMistake(t *testing.T) {
	t.Parallel()
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Reply(confirm).To("confirmations"), gostream.WithCodec(protobuf.New(protobuf.MaxDepth(-1))))
	app := gostream.New("shop", "1.0.0", gostreamtest.Quiet())
	app.Mount(memory.New(), r)
	if err := app.Check(); err == nil || !strings.Contains(err.Error(), "MaxDepth(-1)") {
		t.Errorf("Check says %v", err)
	}
}

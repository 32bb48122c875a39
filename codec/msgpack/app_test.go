package msgpack_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/codec/msgpack"
	"github.com/gostream/gostream/gostreamtest"
	"github.com/gostream/gostream/memory"
)

type confirmation struct {
	Order string `msgpack:"order" json:"order"`
	Items int    `msgpack:"items" json:"items"`
}

func confirm(_ context.Context, o order) (confirmation, error) {
	return confirmation{Order: o.ID, Items: len(o.Lines)}, nil
}

// contentType is the header that says how a payload is encoded.
func contentType(s string) gostream.PublishOption {
	return gostream.Header(broker.HeaderContentType, s)
}

func TestApp(t *testing.T) {
	t.Parallel()
	var confirmed atomic.Pointer[confirmation]
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Reply(confirm).To("confirmations"), gostream.DeadLetterTo("orders.dead"))
	r.Handle("confirmations", gostream.Consume(func(_ context.Context, c *confirmation) error {
		confirmed.Store(c)
		return nil
	}))
	mem := memory.New()
	app := gostream.New("shop", "1.0.0", gostreamtest.Quiet(), gostream.WithCodec(msgpack.New()))
	app.Mount(mem, r)
	orders := gostream.NewPublisher[order](app, mem, "orders")
	ts := gostreamtest.Start(t, app)

	if err := orders.Publish(t.Context(), fullOrder()); err != nil {
		t.Fatal(err)
	}
	ts.Wait()
	for _, name := range []string{"orders", "confirmations"} {
		if got := ts.ExpectPublished(name, 1)[0].Headers.ContentType(); got != "application/msgpack" {
			t.Errorf("%s has the content type %q", name, got)
		}
	}
	ts.ExpectHandled("orders", 1)
	ts.ExpectHandled("confirmations", 1)
	if got := confirmed.Load(); got == nil || *got != (confirmation{Order: "o-1 ✓", Items: 2}) {
		t.Errorf("confirmed: %+v", got)
	}
}

// What cannot be decoded goes to the dead letter as it came, and the handler is not
// called.
func TestAppUndecodable(t *testing.T) {
	t.Parallel()
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Consume(func(context.Context, order) error {
		t.Error("the handler was called")
		return nil
	}), gostream.WithCodec(msgpack.New(msgpack.MaxDepth(8))), gostream.DeadLetterTo("orders.dead"))
	app := gostream.New("shop", "1.0.0", gostreamtest.Quiet())
	app.Mount(memory.New(), r)
	ts := gostreamtest.Start(t, app)
	payloads := []string{"", "\xc1", "\xdd\xff\xff\xff\xff", "\x81\xa3any\x91\x91\x91\x91\x91\x91\x91\x91\x01", "\x81\xa4tags\xc4\x01a", `{"id":"o-1"}`}
	for _, p := range payloads {
		ts.Publish("orders", []byte(p), contentType("application/msgpack"))
	}
	ts.Publish("orders", []byte("{}"), contentType("application/json"))
	dead := ts.ExpectPublished("orders.dead", len(payloads)+1)
	for i, d := range dead {
		if got := d.Headers.Get(gostream.HeaderDeadReason); got != gostream.ReasonUndecodable {
			t.Errorf("%q is dead for the reason %q: %s", d.Payload, got, d.Headers.Get(gostream.HeaderDeadError))
		}
		if i < len(payloads) && string(d.Payload) != payloads[i] {
			t.Errorf("%q came to the dead letter as %q", payloads[i], d.Payload)
		}
	}
	var undecodable *gostream.UndecodableError
	settled := ts.Settled("orders")
	if len(settled) < 4 || !errors.As(settled[3].Err, &undecodable) || !errors.Is(undecodable, msgpack.ErrLimit) {
		t.Errorf("what is too deep is settled as %+v", settled)
	}
}

// During a migration one subscription takes both.
func TestAppWithTwoContentTypes(t *testing.T) {
	t.Parallel()
	mem := memory.New()
	app := gostream.New("shop", "1.0.0", gostreamtest.Quiet())
	both := gostream.Codecs(msgpack.New(), msgpack.New(msgpack.ContentType("application/x-msgpack")))
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Reply(confirm).To("confirmations"), gostream.WithCodec(gostream.JSON), both, gostream.DeadLetterTo("orders.dead"))
	app.Mount(mem, r)
	before := gostream.NewPublisher[order](app, mem, "orders")
	after := gostream.NewPublisher[order](app, mem, "orders", gostream.WithCodec(msgpack.New()))
	other := gostream.NewPublisher[order](app, mem, "orders", gostream.WithCodec(msgpack.New(msgpack.ContentType("application/x-msgpack"))))
	ts := gostreamtest.Start(t, app)
	for _, p := range []*gostream.Publisher[order]{before, after, other} {
		if err := p.Publish(t.Context(), order{ID: "o-7"}); err != nil {
			t.Fatal(err)
		}
	}
	ts.Wait()
	ts.ExpectHandled("orders", 3)
	var types []string
	for _, p := range ts.Published("orders") {
		types = append(types, p.Headers.ContentType())
	}
	if len(types) != 3 || types[0] != "application/json" || types[1] != "application/msgpack" || types[2] != "application/x-msgpack" {
		t.Errorf("the content types are %q", types)
	}
	for _, p := range ts.ExpectPublished("confirmations", 3) { // by the main codec
		if string(p.Payload) != `{"order":"o-7","items":0}` {
			t.Errorf("a reply is %q", p.Payload)
		}
	}
}

func TestAppWithAMistake(t *testing.T) {
	t.Parallel()
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Consume(func(context.Context, order) error { return nil }), gostream.WithCodec(msgpack.New(msgpack.MaxDepth(-1))))
	app := gostream.New("shop", "1.0.0", gostreamtest.Quiet())
	app.Mount(memory.New(), r)
	if err := app.Check(); err == nil || !strings.Contains(err.Error(), "MaxDepth(-1)") {
		t.Errorf("Check says %v", err)
	}
	r = gostream.NewRouter(gostream.WithCodec(msgpack.New()))
	r.Handle("orders", gostream.Consume(func(context.Context, struct{ Done chan int }) error { return nil }))
	app = gostream.New("shop", "1.0.0", gostreamtest.Quiet())
	app.Mount(memory.New(), r)
	if err := app.Check(); err == nil || !strings.Contains(err.Error(), "chan int has no form") {
		t.Errorf("Check says %v", err)
	}
}

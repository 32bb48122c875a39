package asyncapi_test

import (
	"context"
	"encoding/json"
	"image"
	"net/netip"
	"testing"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/asyncapi"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

// Order is what customers order.
type Order struct {
	ID       string    `json:"id" required:"true" description:"The number of the order." pattern:"^o-[0-9]+$"`
	Customer string    `json:"customer"`
	Lines    []Line    `json:"lines" minItems:"1"`
	Placed   time.Time `json:"placed,omitzero"`
	Status   Status    `json:"status"`
	Follows  *Order    `json:"follows,omitempty"`
}

func (Order) AsyncAPIDescription() string {
	return "What a customer orders.\n\nIt is placed once, and changed never."
}

type Line struct {
	SKU   string `json:"sku" required:"true"`
	Count uint16 `json:"count"`
	Cents int64  `json:"cents,string"`
}

type Status string

func (Status) Enum() []any { return []any{"new", "paid", "sent"} }

type Confirmation struct {
	OrderID string `json:"orderId" required:"true"`
}

// Receipt calls itself something else.
type Receipt struct {
	Confirmation
	Net, Gross float64
	At         netip.Addr
	Note       json.RawMessage   `json:"note,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Extra      any               `json:"extra,omitempty"`
	Hash       [4]int32
	Raw        []byte
	Secret     func() `json:"-"`
	For        time.Duration
}

func (*Receipt) AsyncAPIName() string { return "Proof of payment" }

type Page[T any] struct {
	Items []T      `json:"items"`
	Next  *Page[T] `json:"next,omitempty"`
}

// Point is not image.Point.
type Point struct {
	Name string      `json:"name"`
	At   image.Point `json:"at"`
}

type Tree struct {
	Left, Right *Tree
	Bush        *Bush
}

type Bush struct {
	Trees map[string][]Tree
}

// Tick has the same names as JSON and as msgpack; Tock has not.
type Tick struct{ N int }

type Tock struct {
	N int `json:"n"`
}

// protoOrder looks like a message of protobuf.
type protoOrder struct{ State int }

func (*protoOrder) ProtoReflect() protoReflection { return protoReflection{} }

type protoReflection struct{}

func (protoReflection) Descriptor() interface{ FullName() protoName } { return protoDescriptor{} }

type protoDescriptor struct{}

func (protoDescriptor) FullName() protoName { return "shop.v1.Order" }

type protoName string

func take[T any](context.Context, T) error { return nil }

func reply[T, R any](context.Context, T) (r R, err error) { return r, nil }

func raw(context.Context, *gostream.Delivery) error { return nil }

// as is a codec of another content type.
type as string

func (c as) ContentType() string                    { return string(c) }
func (as) Append(dst []byte, v any) ([]byte, error) { return gostream.JSON.Append(dst, v) }
func (as) Unmarshal(data []byte, v any) error       { return gostream.JSON.Unmarshal(data, v) }
func quickstart(app *gostream.App) []asyncapi.Option {
	b, r := memory.New(), gostream.NewRouter()
	r.Handle("orders", gostream.Reply(reply[Order, Confirmation]).To("confirmations"), gostream.DeadLetterTo("orders.dead"))
	r.Handle("confirmations", gostream.Consume(take[Confirmation]))
	app.Mount(b, r)
	gostream.NewPublisher[Order](app, b, "orders")
	return nil
}

func everything(app *gostream.App) []asyncapi.Option {
	b, r := memory.New(), gostream.NewRouter()
	r.Handle("prices", gostream.Reply(reply[string, Page[Line]]).ToReplyTo())
	r.HandleSource(memory.Pattern("orders.*.created"), gostream.Consume(take[gostream.Message[*Order]]), gostream.Named("created"))
	r.HandleSource(memory.Queue("orders.>", "audit"), gostream.Raw(raw))
	r.Handle("batches", gostream.ReplyBatch(func(context.Context, []Order) ([]Receipt, error) { return nil, nil }, 10, time.Second).To("receipts").Transactional())
	r.Handle("lists", gostream.Consume(take[[]Order]))
	r.Handle("maps", gostream.Consume(take[map[string]Tree]))
	r.Handle("points", gostream.Consume(take[Point]))
	r.Handle("images", gostream.Consume(take[image.Point]))
	r.Handle("anything", gostream.Consume(take[any]))
	r.Handle("numbers", gostream.Consume(take[int]))
	r.Handle("unnamed", gostream.Consume(take[struct {
		A int `json:"a"`
	}]))
	r.Handle("protobuf", gostream.Consume(take[*protoOrder]), gostream.WithCodec(as("application/protobuf")))
	r.Handle("ticks", gostream.Consume(take[Tick]), gostream.Codecs(as("application/msgpack"), as("application/cbor")))
	r.Handle("tocks", gostream.Consume(take[Tock]), gostream.WithCodec(as("application/msgpack")), gostream.Codecs(as("application/x-cbor")))
	r.Handle("xml", gostream.Reply(reply[[]byte, Tock]).To("xml.out"), gostream.WithCodec(as("text/xml; charset=utf-8")))
	app.Mount(b, r)
	gostream.NewPublisher[Page[Page[Order]]](app, b, "pages")
	gostream.NewPublisher[[]byte](app, b, "bytes")
	gostream.NewRequester[string, gostream.Message[Receipt]](app, b, "receipt-of")
	gostream.NewRequester[[]byte, string](app, b, "prices")
	return []asyncapi.Option{
		asyncapi.Version("3.1.0"), asyncapi.Title("The shop"), asyncapi.Description("Sells *things*."),
		asyncapi.Contact("The shop's team", "https://shop.example", "shop@shop.example"), asyncapi.License("Apache-2.0", ""),
		asyncapi.Server("production", broker.ServerSpec{Protocol: "memory", Hosts: []string{"a.shop.example:1", "b.shop.example:1/path"}, ProtocolVersion: "1", Description: "both sites"}),
		asyncapi.Parameters("orders.*.created", "region"),
	}
}

// odd has names that no key of AsyncAPI may be.
func odd(app *gostream.App) []asyncapi.Option {
	b, r := memory.New(), gostream.NewRouter()
	for _, name := range []string{"a/b", "a+b", "a_b", "bestellungen.größe", "{curly}", "x.any", "$ref", "~1", "😀", "orders.receive", "orders", "yes", "1.0", "null"} {
		r.Handle(name, gostream.Consume(take[Tick]))
	}
	r.HandleSource(memory.Pattern("x.*"), gostream.Consume(take[Tick]))
	r.HandleSource(memory.Pattern("{a}.*.b{"), gostream.Consume(take[Tick]))
	app.Mount(b, r)
	// A second broker of the same kind, with the same names.
	other, again := memory.New(), gostream.NewRouter()
	again.Handle("orders", gostream.Consume(take[Tick]), gostream.Named("again"))
	app.Mount(other, again)
	gostream.NewPublisher[Tick](app, other, "orders")
	gostream.NewPublisher[Tick](app, b, "orders")
	return nil
}

// empty publishes and subscribes nothing.
func empty(app *gostream.App) []asyncapi.Option {
	app.Mount(memory.New())
	return nil
}

// apps are those whose documents are compared with testdata/golden.
var apps = map[string]func(*gostream.App) []asyncapi.Option{
	"quickstart": quickstart, "everything": everything, "odd": odd, "empty": empty,
}

// documentOf makes an app and its document.
func documentOf(t testing.TB, build func(*gostream.App) []asyncapi.Option) *asyncapi.Spec {
	t.Helper()
	app := gostream.New("shop", "1.0.0")
	opts := build(app)
	d, err := app.Describe()
	if err != nil {
		t.Fatal(err)
	}
	spec, err := asyncapi.Document(d, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// mounting makes an app with one subscription, to "in".
func mounting(h gostream.Handler, opts ...gostream.HandleOption) func(*gostream.App) []asyncapi.Option {
	return func(app *gostream.App) []asyncapi.Option {
		r := gostream.NewRouter()
		r.Handle("in", h, opts...)
		app.Mount(memory.New(), r)
		return nil
	}
}

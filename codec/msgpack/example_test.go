package msgpack_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/codec/msgpack"
	"github.com/gostream/gostream/memory"
)

type Order struct {
	ID    string `json:"id" msgpack:"id"`
	Cents int64  `json:"cents" msgpack:"cents"`
}

// discard keeps the output of the examples free of logs.
var discard = gostream.WithLogger(slog.New(slog.DiscardHandler))

// A service that speaks MessagePack throughout.
func Example() {
	done := make(chan bool)
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Consume(func(_ context.Context, m gostream.Message[Order]) error {
		fmt.Printf("%s: %+v\n", m.Header(broker.HeaderContentType), m.Body())
		close(done)
		return nil
	}))

	mem := memory.New()
	app := gostream.New("shop", "1.0.0", discard, gostream.WithCodec(msgpack.New()))
	app.Mount(mem, r)
	orders := gostream.NewPublisher[Order](app, mem, "orders")

	ctx := context.Background()
	service, err := app.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := orders.Publish(ctx, Order{ID: "o-1", Cents: 1999}); err != nil {
		log.Fatal(err)
	}
	<-done
	fmt.Println("shut down:", service.Shutdown(ctx))
	// Output:
	// application/msgpack: {ID:o-1 Cents:1999}
	// shut down: <nil>
}

// A subscription that is on its way from JSON to MessagePack takes both.
func Example_migration() {
	seen := make(chan bool)
	handle := func(_ context.Context, m gostream.Message[Order]) error {
		fmt.Printf("%s: %+v\n", m.Header(broker.HeaderContentType), m.Body())
		seen <- true
		return nil
	}

	// 1. The readers: JSON as before, and MessagePack where a message says so.
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Consume(handle),
		gostream.WithCodec(gostream.JSON),
		gostream.Codecs(msgpack.New()),
		gostream.DeadLetterTo("orders.dead"))

	mem := memory.New()
	app := gostream.New("shop", "1.0.0", discard)
	app.Mount(mem, r)

	// 2. The writers, one after the other.
	before := gostream.NewPublisher[Order](app, mem, "orders")
	after := gostream.NewPublisher[Order](app, mem, "orders", gostream.WithCodec(msgpack.New()))

	ctx := context.Background()
	service, err := app.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, orders := range []*gostream.Publisher[Order]{before, after} {
		if err := orders.Publish(ctx, Order{ID: "o-1", Cents: 1999}); err != nil {
			log.Fatal(err)
		}
		<-seen
	}
	fmt.Println("shut down:", service.Shutdown(ctx))
	// Output:
	// application/json: {ID:o-1 Cents:1999}
	// application/msgpack: {ID:o-1 Cents:1999}
	// shut down: <nil>
}

// A mistake in an option is kept. An app with such a codec does not start.
func ExampleCodec_Check() {
	codec := msgpack.New(msgpack.MaxDepth(0), msgpack.ContentType("msgpack"))
	fmt.Println(codec.Check())
	// Output:
	// msgpack: MaxDepth(0): it must be between 4 and 10000 levels
	// msgpack: ContentType("msgpack"): a media type such as "application/msgpack" is needed
}

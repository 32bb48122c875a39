package protobuf_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/codec/protobuf"
	"github.com/gostream/gostream/codec/protobuf/internal/orderpb"
	"github.com/gostream/gostream/memory"
)

// discard keeps the output of the examples free of logs.
var discard = gostream.WithLogger(slog.New(slog.DiscardHandler))

// A service whose messages are generated from a .proto file. Handlers take and return
// pointers.
func Example() {
	confirm := func(_ context.Context, o *orderpb.Order) (*orderpb.Confirmation, error) {
		return &orderpb.Confirmation{OrderId: o.GetId()}, nil
	}

	done := make(chan bool)
	r := gostream.NewRouter(gostream.WithCodec(protobuf.New()))
	r.Handle("orders", gostream.Reply(confirm).To("confirmations"))
	r.Handle("confirmations", gostream.Consume(func(_ context.Context, c *orderpb.Confirmation) error {
		fmt.Println("confirmed:", c.GetOrderId())
		close(done)
		return nil
	}))

	mem := memory.New()
	app := gostream.New("shop", "1.0.0", discard)
	app.Mount(mem, r)
	orders := gostream.NewPublisher[*orderpb.Order](app, mem, "orders", gostream.WithCodec(protobuf.New()))

	ctx := context.Background()
	service, err := app.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := orders.Publish(ctx, &orderpb.Order{Id: "o-1", Cents: 1999}); err != nil {
		log.Fatal(err)
	}
	<-done
	fmt.Println("shut down:", service.Shutdown(ctx))
	// Output:
	// confirmed: o-1
	// shut down: <nil>
}

// A subscription that is on its way from JSON to protobuf takes both. The JSON is that
// of package protojson, by a codec of our own.
func Example_migration() {
	seen := make(chan bool)
	handle := func(_ context.Context, m gostream.Message[*orderpb.Order]) error {
		fmt.Println(m.Header(broker.HeaderContentType), m.Body().GetId(), m.Body().GetCents())
		seen <- true
		return nil
	}

	// 1. The readers: JSON as before, and protobuf where a message says so.
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Consume(handle),
		gostream.WithCodec(ProtoJSON[*orderpb.Order]{}),
		gostream.Codecs(protobuf.New()),
		gostream.DeadLetterTo("orders.dead"))

	mem := memory.New()
	app := gostream.New("shop", "1.0.0", discard)
	app.Mount(mem, r)

	// 2. The writers, one after the other.
	before := gostream.NewPublisher[*orderpb.Order](app, mem, "orders", gostream.WithCodec(ProtoJSON[*orderpb.Order]{}))
	after := gostream.NewPublisher[*orderpb.Order](app, mem, "orders", gostream.WithCodec(protobuf.New()))

	ctx := context.Background()
	service, err := app.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, orders := range []*gostream.Publisher[*orderpb.Order]{before, after} {
		if err := orders.Publish(ctx, &orderpb.Order{Id: "o-1", Cents: 1999}); err != nil {
			log.Fatal(err)
		}
		<-seen
	}
	fmt.Println("shut down:", service.Shutdown(ctx))
	// Output:
	// application/json o-1 1999
	// application/protobuf o-1 1999
	// shut down: <nil>
}

package dirbroker_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/examples/dirbroker"
)

// An application on queues in a folder. Its handlers know nothing of the broker.
func Example() {
	dir, err := os.MkdirTemp("", "queues")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	ctx, cancel := context.WithCancel(context.Background())
	b := dirbroker.New(dirbroker.Config{Dir: dir})
	r := gostream.NewRouter()
	r.HandleSource(dirbroker.Queue("orders").Limit(10), gostream.Consume(func(_ context.Context, m gostream.Message[string]) error {
		fmt.Println(m.Body(), "at attempt", m.Attempt())
		if m.Attempt() == 1 {
			return gostream.RetryAfter(time.Millisecond, errors.New("not yet"))
		}
		cancel()
		return nil
	}))
	app := gostream.New("shop", "1.0.0")
	app.Mount(b, r)
	orders := gostream.NewPublisher[string](app, b, "orders")
	app.AfterStartup(func(ctx context.Context) error { return orders.Publish(ctx, "an order") })
	if err := app.Run(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// an order at attempt 1
	// an order at attempt 2
}

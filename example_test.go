package gostream_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

type Order struct {
	ID     string `json:"id"`
	Amount int    `json:"amount"`
}

type Confirmation struct {
	Order string `json:"order"`
}

// discard keeps the output of the examples free of logs.
var discard = gostream.WithLogger(slog.New(slog.DiscardHandler))

// A service that confirms orders. What fails is tried three times, and then put
// aside.
func Example() {
	confirm := func(_ context.Context, o Order) (Confirmation, error) {
		if o.Amount <= 0 {
			return Confirmation{}, fmt.Errorf("order %s has no amount", o.ID)
		}
		return Confirmation{Order: o.ID}, nil
	}

	seen := make(chan string)
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Reply(confirm).To("confirmations"), gostream.OnError(
		gostream.AnyError().Retry(gostream.Constant(time.Millisecond).Attempts(3)).ThenDeadLetterTo("orders.dead")))
	r.Handle("confirmations", gostream.Consume(func(_ context.Context, c Confirmation) error {
		seen <- "confirmed: " + c.Order
		return nil
	}))
	r.Handle("orders.dead", gostream.Consume(func(_ context.Context, m gostream.Message[Order]) error {
		seen <- "given up after " + m.Header(gostream.HeaderDeadAttempts) + " attempts: " + m.Header(gostream.HeaderDeadError)
		return nil
	}))

	mem := memory.New()
	app := gostream.New("shop", "1.0.0", discard)
	app.Mount(mem, r)
	orders := gostream.NewPublisher[Order](app, mem, "orders")

	ctx := context.Background()
	service, err := app.Start(ctx) // or app.Run(ctx), which blocks until ctx ends
	if err != nil {
		log.Fatal(err)
	}
	for _, o := range []Order{{ID: "o-1", Amount: 25}, {ID: "o-2"}} {
		if err := orders.Publish(ctx, o); err != nil {
			log.Fatal(err)
		}
		fmt.Println(<-seen)
	}
	fmt.Println("shut down:", service.Shutdown(ctx))
	// Output:
	// confirmed: o-1
	// given up after 3 attempts: order o-2 has no amount
	// shut down: <nil>
}

func ExampleConsume() {
	done := make(chan bool)
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Consume(func(_ context.Context, o Order) error {
		fmt.Printf("order %s of %d\n", o.ID, o.Amount)
		close(done)
		return nil // acknowledges the message
	}))

	mem := memory.New()
	app := gostream.New("shop", "1.0.0", discard)
	app.Mount(mem, r)
	orders := gostream.NewPublisher[Order](app, mem, "orders")

	ctx := context.Background()
	service, err := app.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := orders.Publish(ctx, Order{ID: "o-1", Amount: 25}); err != nil {
		log.Fatal(err)
	}
	<-done
	fmt.Println(service.Shutdown(ctx))
	// Output:
	// order o-1 of 25
	// <nil>
}

func ExampleReply() {
	confirm := func(_ context.Context, o Order) (Confirmation, error) {
		return Confirmation{Order: o.ID}, nil
	}

	done := make(chan bool)
	r := gostream.NewRouter()
	// The confirmation is published first, then the order is acknowledged.
	r.Handle("orders", gostream.Reply(confirm).To("confirmations"))
	r.Handle("confirmations", gostream.Consume(func(_ context.Context, m gostream.Message[Confirmation]) error {
		fmt.Println("confirmed:", m.Body().Order)
		fmt.Println("message id:", m.Header(broker.HeaderMessageID))
		fmt.Println("conversation:", m.Header(broker.HeaderCorrelationID))
		close(done)
		return nil
	}))

	mem := memory.New()
	app := gostream.New("shop", "1.0.0", discard)
	app.Mount(mem, r)
	orders := gostream.NewPublisher[Order](app, mem, "orders")

	ctx := context.Background()
	service, err := app.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := orders.Publish(ctx, Order{ID: "o-1"}, gostream.Header(broker.HeaderMessageID, "m-1")); err != nil {
		log.Fatal(err)
	}
	<-done
	fmt.Println(service.Shutdown(ctx))
	// Output:
	// confirmed: o-1
	// message id: m-1/orders
	// conversation: m-1
	// <nil>
}

// A handler that takes a Message sees what came along with the body.
func ExampleMessage() {
	done := make(chan bool)
	r := gostream.NewRouter()
	r.HandleSource(memory.Pattern("orders.*"), gostream.Consume(func(_ context.Context, m gostream.Message[Order]) error {
		fmt.Println(m.Body().ID, "from", m.Name())
		fmt.Printf("key %s, tenant %s, attempt %d\n", m.Key(), m.Header("tenant"), m.Attempt())
		close(done)
		return nil
	}))

	mem := memory.New()
	app := gostream.New("shop", "1.0.0", discard)
	app.Mount(mem, r)
	orders := gostream.NewPublisher[Order](app, mem, "orders.eu")

	ctx := context.Background()
	service, err := app.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := orders.Publish(ctx, Order{ID: "o-1"}, gostream.Key("c-7"), gostream.Header("tenant", "acme")); err != nil {
		log.Fatal(err)
	}
	<-done
	fmt.Println(service.Shutdown(ctx))
	// Output:
	// o-1 from orders.eu
	// key c-7, tenant acme, attempt 1
	// <nil>
}

// A handler that returns an Outgoing decides on more than the body of its reply.
func ExampleOutgoing() {
	confirm := func(_ context.Context, o Order) (gostream.Outgoing[Confirmation], error) {
		reply := gostream.Outgoing[Confirmation]{
			Body:    Confirmation{Order: o.ID},
			Key:     []byte(o.ID),
			Headers: broker.NewHeaders(broker.Header{Key: "priority", Value: "normal"}),
		}
		if o.Amount > 1000 {
			reply.To = "confirmations.large" // instead of the declared name
		}
		return reply, nil
	}

	done := make(chan bool)
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Reply(confirm).To("confirmations"))
	r.HandleSource(memory.Pattern("confirmations.>"), gostream.Consume(func(_ context.Context, m gostream.Message[Confirmation]) error {
		fmt.Printf("%s: %s, key %s, priority %s\n", m.Name(), m.Body().Order, m.Key(), m.Header("priority"))
		close(done)
		return nil
	}))

	mem := memory.New()
	app := gostream.New("shop", "1.0.0", discard)
	app.Mount(mem, r)
	orders := gostream.NewPublisher[Order](app, mem, "orders")

	ctx := context.Background()
	service, err := app.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := orders.Publish(ctx, Order{ID: "o-1", Amount: 5000}); err != nil {
		log.Fatal(err)
	}
	<-done
	fmt.Println(service.Shutdown(ctx))
	// Output:
	// confirmations.large: o-1, key o-1, priority normal
	// <nil>
}

var errUnknownCustomer = errors.New("unknown customer")

// Rules are tried in order, and the first match decides. Describe says the whole
// policy in words.
func ExampleOnError() {
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Consume(func(context.Context, Order) error { return nil }),
		gostream.OnError(
			gostream.Is(errUnknownCustomer).DeadLetterTo("orders.dead"),
			gostream.Is(context.DeadlineExceeded).Retry(gostream.Exponential(100*time.Millisecond, 30*time.Second).Attempts(8)).ThenReject(),
		))

	app := gostream.New("shop", "1.0.0")
	app.Mount(memory.New(), r)
	d, err := app.Describe()
	if err != nil {
		log.Fatal(err)
	}
	for _, line := range d.Subscriptions[0].Policy {
		fmt.Println(line)
	}
	// Output:
	// error is "unknown customer": dead letter to "orders.dead"
	// error is "context deadline exceeded": retry after 100ms, doubled up to 30s, plus up to 20%, 8 attempts in all, then reject
	// undecodable: kept, tried again every 1m0s
	// any other error: retry after 200ms, doubled up to 1m0s, plus up to 20%, without end (no dead letter is declared)
}

// A dead letter holds the message as it arrived, and why it was given up.
func ExampleDeadLetterTo() {
	done := make(chan bool)
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Consume(func(context.Context, Order) error {
		return gostream.DeadLetter(errUnknownCustomer) // at once; other errors are retried before
	}), gostream.DeadLetterTo("orders.dead"))
	r.Handle("orders.dead", gostream.Raw(func(_ context.Context, d *gostream.Delivery) error {
		fmt.Printf("%s\n", d.Payload())
		fmt.Println("from:", d.Headers().Get(gostream.HeaderDeadSource))
		fmt.Println("why:", d.Headers().Get(gostream.HeaderDeadReason))
		fmt.Println("error:", d.Headers().Get(gostream.HeaderDeadError))
		close(done)
		return nil
	}))

	mem := memory.New()
	app := gostream.New("shop", "1.0.0", discard)
	app.Mount(mem, r)
	orders := gostream.NewPublisher[Order](app, mem, "orders")

	ctx := context.Background()
	service, err := app.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := orders.Publish(ctx, Order{ID: "o-1", Amount: 25}); err != nil {
		log.Fatal(err)
	}
	<-done
	fmt.Println(service.Shutdown(ctx))
	// Output:
	// {"id":"o-1","amount":25}
	// from: orders
	// why: handler decided
	// error: dead letter: unknown customer
	// <nil>
}

// Middleware wraps the handling of every message, here to tell of failures.
func ExampleApp_Use() {
	tell := func(next gostream.Next) gostream.Next {
		return func(ctx context.Context, b *gostream.Batch) error {
			err := next(ctx, b)
			fmt.Printf("%s, attempt %d: %v\n", b.Subscription().Name(), b.At(0).Attempt(), err)
			return err
		}
	}

	done := make(chan bool)
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Consume(func(ctx context.Context, m gostream.Message[Order]) error {
		if m.Attempt() == 1 {
			return gostream.RetryAfter(time.Millisecond, errors.New("the database is busy"))
		}
		gostream.AfterAck(ctx, func(context.Context) { close(done) })
		return nil
	}))

	mem := memory.New()
	app := gostream.New("shop", "1.0.0", discard)
	app.Use(tell)
	app.Mount(mem, r)
	orders := gostream.NewPublisher[Order](app, mem, "orders")

	ctx := context.Background()
	service, err := app.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := orders.Publish(ctx, Order{ID: "o-1"}); err != nil {
		log.Fatal(err)
	}
	<-done
	fmt.Println(service.Shutdown(ctx))
	// Output:
	// orders, attempt 1: retry: the database is busy
	// orders, attempt 2: <nil>
	// <nil>
}

// A requester asks and waits for the answer. An error of the responder comes back.
func ExampleNewRequester() {
	price := func(_ context.Context, product string) (int, error) {
		if product != "tea" {
			return 0, fmt.Errorf("we have no %s", product)
		}
		return 450, nil
	}
	r := gostream.NewRouter()
	r.Handle("prices", gostream.Reply(price).ToReplyTo())

	mem := memory.New()
	app := gostream.New("shop", "1.0.0", discard)
	app.Mount(mem, r)
	prices := gostream.NewRequester[string, int](app, mem, "prices")

	ctx := context.Background()
	service, err := app.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(prices.Request(ctx, "tea"))

	_, err = prices.Request(ctx, "milk")
	var remote *gostream.RemoteError
	if errors.As(err, &remote) {
		fmt.Println("the responder says:", remote.Message)
	}
	fmt.Println(service.Shutdown(ctx))
	// Output:
	// 450 <nil>
	// the responder says: we have no milk
	// <nil>
}

// What must happen only for a message that will not come again is done after its
// acknowledgement.
func ExampleAfterAck() {
	done := make(chan bool)
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Consume(func(ctx context.Context, o Order) error {
		gostream.AfterAck(ctx, func(context.Context) {
			fmt.Println("acknowledged:", o.ID)
			close(done)
		})
		fmt.Println("stored:", o.ID)
		return nil
	}))

	mem := memory.New()
	app := gostream.New("shop", "1.0.0", discard)
	app.Mount(mem, r)
	orders := gostream.NewPublisher[Order](app, mem, "orders")

	ctx := context.Background()
	service, err := app.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := orders.Publish(ctx, Order{ID: "o-1"}); err != nil {
		log.Fatal(err)
	}
	<-done
	fmt.Println(service.Shutdown(ctx))

	// In a unit test that calls the handler there is no delivery, and nothing happens.
	fmt.Println(gostream.AfterAck(ctx, func(context.Context) {}))
	// Output:
	// stored: o-1
	// acknowledged: o-1
	// <nil>
	// false
}

func ExampleService_Pause() {
	done := make(chan bool)
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Consume(func(_ context.Context, o Order) error {
		fmt.Println("order", o.ID)
		close(done)
		return nil
	}))

	mem := memory.New()
	app := gostream.New("shop", "1.0.0", discard)
	app.Mount(mem, r)
	orders := gostream.NewPublisher[Order](app, mem, "orders")

	ctx := context.Background()
	service, err := app.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := service.Pause(ctx, "orders"); err != nil { // nothing is received from here on
		log.Fatal(err)
	}
	if err := orders.Publish(ctx, Order{ID: "o-1"}); err != nil {
		log.Fatal(err)
	}
	h := service.Health(ctx).Subscriptions[0]
	fmt.Printf("%s is %v, %d waiting\n", h.Subscription.Name(), h.State, h.Lag)

	if err := service.Resume(ctx, "orders"); err != nil {
		log.Fatal(err)
	}
	<-done
	fmt.Println(service.Shutdown(ctx))
	// Output:
	// orders is paused, 1 waiting
	// order o-1
	// <nil>
}

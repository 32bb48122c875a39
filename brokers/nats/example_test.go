package nats_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
	"github.com/gostream/gostream/brokers/nats/embedded"
)

type Order struct {
	ID string `json:"id"`
}

type Confirmation struct {
	OrderID string `json:"order_id"`
}

var errUnknown = errors.New("nobody knows this order")

func Confirm(_ context.Context, o Order) (Confirmation, error) {
	if o.ID == "" {
		return Confirmation{}, errUnknown
	}
	return Confirmation{OrderID: o.ID}, nil
}

// quiet keeps the log of an app out of an example's output.
var quiet = gostream.WithLogger(slog.New(slog.DiscardHandler))

// A service on a stream: orders come in, confirmations go out, what fails for good is
// put aside. All three are in one stream, and survive the process.
func ExampleStream() {
	ctx := context.Background()
	server, err := embedded.Start(embedded.Config{Memory: true}) // or Dir: on the disk
	if err != nil {
		log.Fatal(err)
	}
	defer server.Shutdown(ctx)

	b := nats.New("", nats.InProcess(server), nats.ConfirmPublishes())
	orders := nats.Stream("orders", "SHOP").Durable("shop").
		Create(jetstream.StreamConfig{Subjects: []string{"orders", "orders.dead", "confirmations"}})

	confirmed := make(chan Confirmation)
	r := gostream.NewRouter()
	r.HandleSource(orders, gostream.Reply(Confirm).To("confirmations"), gostream.DeadLetterTo("orders.dead"))
	r.HandleSource(nats.Stream("confirmations", "SHOP").Durable("post"), gostream.Consume(func(_ context.Context, c Confirmation) error {
		confirmed <- c
		return nil
	}))
	app := gostream.New("shop", "1.0.0", quiet)
	app.Mount(b, r)
	incoming := gostream.NewPublisher[Order](app, b, "orders")

	service, err := app.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := incoming.Publish(ctx, Order{ID: "o-1"}); err != nil {
		log.Fatal(err)
	}
	fmt.Println((<-confirmed).OrderID, "is confirmed")
	if err := service.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
	// Output: o-1 is confirmed
}

// Members of a queue group share what is published while they listen.
func ExampleSubject() {
	ctx := context.Background()
	server, err := embedded.Start(embedded.Config{Memory: true})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Shutdown(ctx)
	b := nats.New("", nats.InProcess(server))

	prices := nats.Subject("prices.*").QueueGroup("desk")
	seen := make(chan string)
	r := gostream.NewRouter()
	for i := range 2 {
		r.HandleSource(prices, gostream.Consume(func(_ context.Context, m gostream.Message[string]) error {
			seen <- m.Name() + " " + m.Body()
			return nil
		}), gostream.Named(fmt.Sprintf("desk %d", i)))
	}
	app := gostream.New("desk", "1.0.0", quiet)
	app.Mount(b, r)
	service, err := app.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer service.Shutdown(ctx)
	if err := b.Publisher().Publish(ctx, broker.OutgoingMessage{Name: "prices.tea", Payload: []byte("4.20")}); err != nil {
		log.Fatal(err)
	}
	fmt.Println(<-seen)
	// Output: prices.tea 4.20
}

// Request and reply: several responders share the requests, and where nobody listens
// the server says so at once.
func ExampleErrNoResponders() {
	ctx := context.Background()
	server, err := embedded.Start(embedded.Config{Memory: true})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Shutdown(ctx)
	b := nats.New("", nats.InProcess(server))

	r := gostream.NewRouter()
	r.HandleSource(nats.Subject("confirm").QueueGroup("responders"), gostream.Reply(Confirm).ToReplyTo())
	app := gostream.New("shop", "1.0.0", quiet)
	app.Mount(b, r)
	ask := gostream.NewRequester[Order, Confirmation](app, b, "confirm")
	nobody := gostream.NewRequester[Order, Confirmation](app, b, "nobody.is.here")
	service, err := app.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer service.Shutdown(ctx)

	c, err := ask.Request(ctx, Order{ID: "o-1"})
	fmt.Println(c.OrderID, err)
	_, err = ask.Request(ctx, Order{})
	fmt.Println(err)
	_, err = nobody.Request(ctx, Order{ID: "o-1"})
	fmt.Println(errors.Is(err, nats.ErrNoResponders))
	// Output:
	// o-1 <nil>
	// request to "confirm": the responder failed: nobody knows this order
	// true
}

// Publishing into a stream, with what NATS can do beyond it.
func ExamplePublishOptions() {
	ctx := context.Background()
	server, err := embedded.Start(embedded.Config{Memory: true})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Shutdown(ctx)
	b := nats.New("", nats.InProcess(server))
	if err := b.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	defer b.Shutdown(ctx)
	src := nats.Stream("accounts.>", "ACCOUNTS").Create(jetstream.StreamConfig{})
	sub, err := src.Subscribe(ctx, b)
	if err != nil {
		log.Fatal(err)
	}
	defer sub.Close(ctx)

	p := b.JetStreamPublisher()
	opened := broker.OutgoingMessage{
		Name:    "accounts.7",
		Payload: []byte("opened"),
		Options: nats.PublishOptions{MsgID: "open-7", ExpectLastSubjectSequence: new(uint64)}, // 0: the first of its subject
	}
	fmt.Println(p.Publish(ctx, opened))
	fmt.Println(errors.Is(p.Publish(ctx, broker.OutgoingMessage{
		Name:    "accounts.7",
		Payload: []byte("opened again"),
		Options: nats.PublishOptions{ExpectLastSubjectSequence: new(uint64)},
	}), nats.ErrConflict))

	// A batch waits for all confirmations together, and says which failed.
	err = broker.PublishBatch(ctx, p, []broker.OutgoingMessage{
		{Name: "accounts.8", Payload: []byte("opened")},
		{Name: "nobody.keeps.this"},
	})
	errs := broker.BatchErrors(err, 2)
	fmt.Println(errs[0], errors.Is(errs[1], broker.ErrNotFound))
	// Output:
	// <nil>
	// true
	// <nil> true
}

// The broker's own values of a message, in a handler.
func ExampleMessage() {
	ctx := context.Background()
	server, err := embedded.Start(embedded.Config{Memory: true})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Shutdown(ctx)
	b := nats.New("", nats.InProcess(server), nats.ConfirmPublishes())

	seen := make(chan string)
	handler := gostream.Consume(func(_ context.Context, m gostream.Message[Order]) error {
		if stored, ok := m.Delivery().Message().(*nats.Message); ok {
			age := time.Since(stored.Time())
			seen <- fmt.Sprintln(stored.Stream(), stored.Sequence(), stored.MsgID(), age < time.Minute)
		}
		return nil
	})
	r := gostream.NewRouter()
	r.HandleSource(nats.Stream("orders", "SHOP").Durable("audit").Create(jetstream.StreamConfig{}), handler)
	app := gostream.New("audit", "1.0.0", quiet)
	app.Mount(b, r)
	orders := gostream.NewPublisher[Order](app, b, "orders")
	service, err := app.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer service.Shutdown(ctx)
	if err := orders.Publish(ctx, Order{ID: "o-1"}, gostream.BrokerOptions(nats.PublishOptions{MsgID: "order o-1"})); err != nil {
		log.Fatal(err)
	}
	fmt.Print(<-seen)
	// Output: SHOP 1 order o-1 true
}

// Three ways to keep an order.
func ExampleStreamSource_MaxAckPending() {
	// The stream's order, whatever happens: one message at a time.
	strict := nats.Stream("ledger.>", "LEDGER").Durable("ledger").MaxAckPending(1)
	// The order of each key, within the subscription.
	r := gostream.NewRouter()
	r.HandleSource(nats.Stream("orders.>", "SHOP").Durable("shop"), gostream.Consume(func(context.Context, Order) error { return nil }),
		gostream.Workers(16), gostream.ByKey())
	// A reader that builds something from the whole stream each time that it starts.
	reader := nats.Stream("ledger.>", "LEDGER").Ordered()

	fmt.Println(strict.Spec().Properties.Ordered, reader.Spec().Properties.Ordered)
	// Output: true true
}

// One message at a time: a message that is retried is not overtaken.
func ExampleStreamSource_MaxAckPending_retry() {
	ctx := context.Background()
	server, err := embedded.Start(embedded.Config{Memory: true})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Shutdown(ctx)
	b := nats.New("", nats.InProcess(server), nats.ConfirmPublishes())

	seen := make(chan string)
	r := gostream.NewRouter()
	steps := nats.Stream("steps", "STEPS").Durable("worker").MaxAckPending(1).Create(jetstream.StreamConfig{})
	r.HandleSource(steps, gostream.Consume(func(_ context.Context, m gostream.Message[string]) error {
		seen <- fmt.Sprintf("%s, attempt %d", m.Body(), m.Attempt())
		if m.Body() == "step 1" && m.Attempt() == 1 {
			return errors.New("not yet")
		}
		return nil
	}), gostream.RetryBackoff(gostream.Constant(50*time.Millisecond)))
	app := gostream.New("worker", "1.0.0", quiet)
	app.Mount(b, r)
	publish := gostream.NewPublisher[string](app, b, "steps")
	service, err := app.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer service.Shutdown(ctx)
	if err := publish.PublishBatch(ctx, []string{"step 1", "step 2"}); err != nil {
		log.Fatal(err)
	}
	for range 3 {
		fmt.Println(<-seen)
	}
	// Output:
	// step 1, attempt 1
	// step 1, attempt 2
	// step 2, attempt 1
}

// A reader builds a balance from the stream, from its first message on, each time that
// it starts.
func ExampleStreamSource_Ordered() {
	ctx := context.Background()
	server, err := embedded.Start(embedded.Config{Memory: true})
	if err != nil {
		log.Fatal(err)
	}
	defer server.Shutdown(ctx)

	ledger := nats.Stream("ledger.*", "LEDGER").Create(jetstream.StreamConfig{})
	for run, amount := range []int{100, -30} { // two runs of the program
		b := nats.New("", nats.InProcess(server), nats.ConfirmPublishes())
		read := make(chan string)
		balance := 0
		r := gostream.NewRouter()
		r.HandleSource(ledger.Ordered(), gostream.Consume(func(_ context.Context, m gostream.Message[int]) error {
			balance += m.Body()
			at := m.Delivery().Message().(*nats.OrderedMessage).Sequence()
			read <- fmt.Sprintf("%d after message %d", balance, at)
			return nil
		}))
		app := gostream.New("balance", "1.0.0", quiet)
		app.Mount(b, r)
		post := gostream.NewPublisher[int](app, b, "ledger.cash")
		service, err := app.Start(ctx)
		if err != nil {
			log.Fatal(err)
		}
		if err := post.Publish(ctx, amount); err != nil {
			log.Fatal(err)
		}
		for range run + 1 {
			fmt.Println(<-read)
		}
		if err := service.Shutdown(ctx); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// 100 after message 1
	// 100 after message 1
	// 70 after message 2
}

// A server elsewhere, with credentials and TLS.
func ExampleNew() {
	b := nats.New("tls://nats-1.example.com,tls://nats-2.example.com",
		nats.Name("shop"),
		nats.CredentialsFile("/etc/shop/nats.creds"),
		nats.TLS(&tls.Config{MinVersion: tls.VersionTLS13}),
		nats.ReconnectWait(time.Second),
	)
	b.Notify(func(e broker.Event) { log.Printf("nats: %v %s %v", e.Kind, e.Name, e.Err) })
	fmt.Println(b.Check(), b)
	// Output: <nil> nats broker nats-1.example.com:4222,nats-2.example.com:4222
}

// A connection that the program has already.
func ExampleFromConn() {
	nc, err := natsgo.Connect("nats://nats.example.com", natsgo.RetryOnFailedConnect(true), natsgo.MaxReconnects(-1))
	if err != nil {
		log.Fatal(err)
	}
	defer nc.Close() // Shutdown of the broker leaves it open
	b := nats.FromConn(nc, nats.PendingMessages(10_000))
	fmt.Println(b.Check())
}

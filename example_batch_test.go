package gostream_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"sync"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/memory"
)

// Messages of one key are handled in order, also across a retry: the second order
// of ann waits until the first one has succeeded. Those of ben do not wait for it.
func ExampleByKey() {
	var mu sync.Mutex
	stored := make(map[string][]string)
	var wg sync.WaitGroup
	store := func(_ context.Context, m gostream.Message[Order]) error {
		if m.Body().ID == "a-1" && m.Attempt() < 3 {
			return gostream.RetryAfter(time.Millisecond, errors.New("the database is busy"))
		}
		mu.Lock()
		defer mu.Unlock()
		customer := string(m.Key())
		stored[customer] = append(stored[customer], m.Body().ID)
		wg.Done()
		return nil
	}

	r := gostream.NewRouter()
	r.Handle("orders", gostream.Consume(store), gostream.Workers(4), gostream.ByKey())

	mem := memory.New()
	app := gostream.New("shop", "1.0.0", discard)
	app.Mount(mem, r)
	orders := gostream.NewPublisher[Order](app, mem, "orders")

	ctx := context.Background()
	service, err := app.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, o := range []struct{ customer, id string }{{"ann", "a-1"}, {"ann", "a-2"}, {"ben", "b-1"}, {"ann", "a-3"}, {"ben", "b-2"}} {
		wg.Add(1)
		if err := orders.Publish(ctx, Order{ID: o.id}, gostream.Key(o.customer)); err != nil {
			log.Fatal(err)
		}
	}
	wg.Wait()
	fmt.Println("ann:", stored["ann"])
	fmt.Println("ben:", stored["ben"])
	fmt.Println(service.Shutdown(ctx))
	// Output:
	// ann: [a-1 a-2 a-3]
	// ben: [b-1 b-2]
	// <nil>
}

// A batch is full with three orders here, or as large as it is a minute after its
// first one came.
func ExampleConsumeBatch() {
	done := make(chan bool)
	store := func(_ context.Context, orders []Order) error {
		fmt.Println(len(orders), "orders at once:", orders)
		close(done)
		return nil // acknowledges all of them
	}

	r := gostream.NewRouter()
	r.Handle("orders", gostream.ConsumeBatch(store, 3, time.Minute))

	mem := memory.New()
	app := gostream.New("shop", "1.0.0", discard)
	app.Mount(mem, r)
	orders := gostream.NewPublisher[Order](app, mem, "orders")

	ctx := context.Background()
	service, err := app.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := orders.PublishBatch(ctx, []Order{{"o-1", 25}, {"o-2", 10}, {"o-3", 90}}); err != nil {
		log.Fatal(err)
	}
	<-done
	fmt.Println(service.Shutdown(ctx))
	// Output:
	// 3 orders at once: [{o-1 25} {o-2 10} {o-3 90}]
	// <nil>
}

// Each decides about every message of a batch: here the second is put aside, the
// third is handled again, and the others are acknowledged.
func ExampleEach() {
	done := make(chan bool)
	store := func(ctx context.Context, orders []gostream.Message[Order]) error {
		errs := make([]error, len(orders))
		for i, m := range orders {
			switch o := m.Body(); {
			case o.Amount <= 0:
				errs[i] = gostream.DeadLetter(errors.New("no amount"))
			case o.ID == "o-3" && m.Attempt() == 1:
				errs[i] = gostream.RetryAfter(time.Millisecond, errors.New("busy"))
			default:
				fmt.Println("stored", o.ID, "at attempt", m.Attempt())
			}
		}
		gostream.AfterAck(ctx, func(context.Context) { close(done) }) // all of this call
		return gostream.Each(errs)
	}

	dead := make(chan string, 1)
	r := gostream.NewRouter()
	r.Handle("orders", gostream.ConsumeBatch(store, 3, 0), gostream.DeadLetterTo("orders.dead"))
	r.Handle("orders.dead", gostream.Consume(func(_ context.Context, o Order) error {
		dead <- o.ID
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
	if err := service.Pause(ctx, "orders"); err != nil { // so that all are there at once
		log.Fatal(err)
	}
	if err := orders.PublishBatch(ctx, []Order{{"o-1", 25}, {"o-2", 0}, {"o-3", 90}}); err != nil {
		log.Fatal(err)
	}
	if err := service.Resume(ctx, "orders"); err != nil {
		log.Fatal(err)
	}
	<-done
	fmt.Println("put aside", <-dead)
	fmt.Println(service.Shutdown(ctx))
	// Output:
	// stored o-1 at attempt 1
	// stored o-3 at attempt 2
	// put aside o-2
	// <nil>
}

// The replies of a batch and the acknowledgements of its orders become visible
// together, or not at all.
func ExampleReplyBatch() {
	confirm := func(_ context.Context, orders []Order) ([]Confirmation, error) {
		confirmations := make([]Confirmation, len(orders)) // one for each, in the same order
		for i, o := range orders {
			confirmations[i] = Confirmation{Order: o.ID}
		}
		return confirmations, nil
	}

	r := gostream.NewRouter()
	r.Handle("orders", gostream.ReplyBatch(confirm, 2, time.Minute).To("confirmations").Transactional())

	done := make(chan bool)
	r.Handle("confirmations", gostream.ConsumeBatch(func(_ context.Context, cs []Confirmation) error {
		fmt.Println("confirmed:", cs)
		close(done)
		return nil
	}, 2, time.Minute))

	mem := memory.New()
	app := gostream.New("shop", "1.0.0", discard)
	app.Mount(mem, r)
	orders := gostream.NewPublisher[Order](app, mem, "orders")

	ctx := context.Background()
	service, err := app.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := orders.PublishBatch(ctx, []Order{{"o-1", 25}, {"o-2", 10}}); err != nil {
		log.Fatal(err)
	}
	<-done
	fmt.Println(service.Shutdown(ctx))
	// Output:
	// confirmed: [{o-1} {o-2}]
	// <nil>
}

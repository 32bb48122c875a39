package memory_test

import (
	"context"
	"fmt"
	"log"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

func Example() {
	ctx := context.Background()
	b := memory.New()
	if err := b.Connect(ctx); err != nil {
		log.Fatal(err)
	}
	defer b.Shutdown(ctx)

	audit, err := memory.Pattern("orders.>").Subscribe(ctx, b)
	if err != nil {
		log.Fatal(err)
	}
	worker, err := memory.Queue("orders.new", "workers").Limit(16).Subscribe(ctx, b)
	if err != nil {
		log.Fatal(err)
	}
	if err := b.Publisher().Publish(ctx, broker.OutgoingMessage{Name: "orders.new", Payload: []byte("two apples")}); err != nil {
		log.Fatal(err)
	}
	for _, sub := range []broker.Subscription{audit, worker} {
		m, err := sub.Receive(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s\n", m.Name(), m.Payload())
		if err := m.Ack(ctx); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// orders.new: two apples
	// orders.new: two apples
}

// Two connections to one store: what the first leaves unsettled comes to the
// second.
func ExampleOn() {
	ctx := context.Background()
	store := memory.NewStore(memory.Capacity(1000))
	for range 2 {
		b := memory.New(memory.On(store))
		if err := b.Connect(ctx); err != nil {
			log.Fatal(err)
		}
		sub, err := memory.Queue("orders", "workers").Subscribe(ctx, b)
		if err != nil {
			log.Fatal(err)
		}
		if store.Len("orders") == 0 {
			if err := b.Publisher().Publish(ctx, broker.OutgoingMessage{Name: "orders", Payload: []byte("a pear")}); err != nil {
				log.Fatal(err)
			}
		}
		m, err := sub.Receive(ctx)
		if err != nil {
			log.Fatal(err)
		}
		n, _ := broker.DeliveryCount(m)
		fmt.Printf("%s, delivery %d\n", m.Payload(), n)
		if err := b.Shutdown(ctx); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println("held:", store.Len("orders"))
	// Output:
	// a pear, delivery 1
	// a pear, delivery 2
	// held: 1
}

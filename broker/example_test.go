package broker_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gostream/gostream/broker"
)

func ExampleHeaders() {
	base := broker.NewHeaders(broker.Header{Key: "Tenant", Value: "acme"})

	// Every change is a copy, so base can be shared between messages.
	h := base.WithContentType("application/json").WithAdded("tag", "new").WithAdded("tag", "urgent")

	fmt.Println(h.Get("tenant"), h.ContentType())
	fmt.Println(h.Values("tag"))
	fmt.Println(base.Len(), h.Len())
	fmt.Println(h) // keys only: a value may be a secret
	// Output:
	// acme application/json
	// [new urgent]
	// 1 4
	// [Tenant content-type tag tag]
}

// A capability is an optional interface behind a helper. Absent and refused are
// the same answer, so one check leads to the fallback.
func ExampleNackAfter() {
	giveBack := func(ctx context.Context, m broker.IncomingMessage, d time.Duration) error {
		err := broker.NackAfter(ctx, m, d)
		if errors.Is(err, errors.ErrUnsupported) {
			fmt.Println("no delay here: at once")
			return m.Nack(ctx, true)
		}
		return err
	}

	var m bareMessage // has no capability
	fmt.Println(giveBack(context.Background(), m, time.Minute))
	// Output:
	// no delay here: at once
	// <nil>
}

func ExampleMessages() {
	ctx := context.Background()
	var sub broker.Subscription = &script{steps: []step{{ids: []int{1, 2}}, {err: broker.ErrClosed}}}

	for m, err := range broker.Messages(ctx, sub) {
		if err != nil {
			fmt.Println(err) // yielded once, then the sequence ends
			break
		}
		fmt.Println(m.Name(), m.Ack(ctx))
	}
	// Output:
	// orders <nil>
	// orders <nil>
}

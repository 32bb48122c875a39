package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
	"github.com/gostream/gostream/examples/internal/account"
)

// Order is what comes in.
type Order struct {
	ID      string `json:"id"`
	Cents   int    `json:"cents"`
	Payment string `json:"payment"`
}

// Confirmation is what goes out.
type Confirmation struct {
	OrderID string `json:"order_id"`
	Cents   int    `json:"cents"`
}

// What can be wrong with an order; the policy in App says what follows.
var (
	ErrNoAnswer = errors.New("the payment terminal does not answer")
	ErrVoucher  = errors.New("the voucher is not known")
)

// Shop has what the handler needs.
type Shop struct {
	// Latency is how long a payment takes.
	Latency time.Duration
}

// Confirm handles one order. An order may be delivered more than once; a real payment
// service would take its id as the idempotency key.
func (s *Shop) Confirm(ctx context.Context, m gostream.Message[Order]) (Confirmation, error) {
	order := m.Body()
	select {
	case <-time.After(s.Latency):
	case <-ctx.Done():
		return Confirmation{}, context.Cause(ctx)
	}
	switch {
	case order.Payment == "unknown-voucher":
		return Confirmation{}, fmt.Errorf("order %s: %w", order.ID, ErrVoucher)
	case order.Payment == "flaky-terminal" && m.Attempt() < 3: // the server counts, so this outlives the process
		return Confirmation{}, fmt.Errorf("order %s: %w", order.ID, ErrNoAnswer)
	}
	return Confirmation{OrderID: order.ID, Cents: order.Cents}, nil
}

const (
	workers = 8
	// ackWait is how long an order in the hands of a process that was killed waits for
	// the next. The lease of one that is being handled is extended.
	ackWait = 3 * time.Second
)

// App is the service: orders come in, confirmations and dead letters go out, all of
// them in one stream. The ledger reads it from the beginning each time that the process
// starts, and so knows what earlier ones have done.
func App(b *nats.Broker, stream string, shop *Shop, ledger *account.Ledger, opts ...gostream.AppOption) *gostream.App {
	backoff := gostream.Exponential(20*time.Millisecond, 200*time.Millisecond).Attempts(5)
	in := func(subject string) nats.StreamSource {
		return nats.Stream(stream+"."+subject, stream).Create(jetstream.StreamConfig{Subjects: []string{stream + ".>"}})
	}

	r := gostream.NewRouter()
	r.HandleSource(in("orders.*").Durable("shop").AckWait(ackWait), gostream.Reply(shop.Confirm).To(stream+".confirmations"),
		gostream.Named(account.Orders), gostream.Workers(workers),
		gostream.OnError(gostream.Is(ErrNoAnswer, ErrVoucher).Retry(backoff)),
		gostream.DeadLetterTo(stream+".dead"), // after the last attempt, and at once what is no order
	)
	r.HandleSource(in("confirmations").Ordered(), gostream.Raw(ledger.Confirmed))
	r.HandleSource(in("dead").Ordered(), gostream.Raw(ledger.Dead))

	app := gostream.New("nats-example", "1.0.0", opts...)
	app.Mount(b, r)
	app.Observe(gostream.Observer{Settled: ledger.Observe})
	return app
}

// publish puts the orders into the stream, but for those that an earlier process has
// put there: each has a subject of its own, which must still be empty.
func publish(ctx context.Context, p *gostream.RawPublisher, orders []broker.OutgoingMessage) error {
	err := p.PublishBatch(ctx, orders)
	for _, err := range broker.BatchErrors(err, len(orders)) {
		if err != nil && !errors.Is(err, nats.ErrConflict) {
			return err
		}
	}
	return nil
}

// newOrders returns 1000 orders. Of these 7 are none, 5 can never be confirmed, and 12
// at their third attempt.
func newOrders(stream string) []broker.OutgoingMessage {
	var msgs []broker.OutgoingMessage
	for n := 1; n <= 1000; n++ {
		order := Order{ID: fmt.Sprintf("o-%04d", n), Cents: 100 + 37*n%9900, Payment: "card"}
		switch {
		case n%200 == 50:
			order.Payment = "unknown-voucher"
		case n%85 == 30:
			order.Payment = "flaky-terminal"
		}
		payload, err := json.Marshal(order)
		if err != nil {
			panic(err) // a struct of strings and numbers
		}
		if n%150 == 7 {
			payload = payload[:len(payload)/2]
		}
		msgs = append(msgs, broker.OutgoingMessage{
			Name:    stream + ".orders." + order.ID,
			Payload: payload,
			Headers: broker.Headers{}.WithContentType(gostream.JSON.ContentType()).WithMessageID(order.ID),
			Options: nats.PublishOptions{ExpectLastSubjectSequence: new(uint64)}, // 0: there is none
		})
	}
	return msgs
}

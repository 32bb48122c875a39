package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
	"github.com/gostream/gostream/examples/internal/account"
)

// Order is what comes in.
type Order struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
	Cents    int    `json:"cents"`
	Payment  string `json:"payment"`
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

	mu        sync.Mutex
	confirmed map[string]bool   // by order
	last      map[string]string // the last of each customer
	overtaken []string          // orders that came after a later one of their customer
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
	case order.Payment == "flaky-terminal" && m.Attempt() < 3:
		return Confirmation{}, fmt.Errorf("order %s: %w", order.ID, ErrNoAnswer)
	}
	s.note(order)
	return Confirmation{OrderID: order.ID, Cents: order.Cents}, nil
}

// note keeps account of the order in which those of one customer are confirmed. One that
// comes again has had its place already.
func (s *Shop) note(o Order) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.confirmed == nil {
		s.confirmed, s.last = make(map[string]bool), make(map[string]string)
	}
	switch {
	case s.confirmed[o.ID]:
		return
	case o.ID < s.last[o.Customer]:
		s.overtaken = append(s.overtaken, o.ID)
	default:
		s.last[o.Customer] = o.ID
	}
	s.confirmed[o.ID] = true
}

// Check reports orders that were confirmed after a later one of the same customer.
func (s *Shop) Check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.overtaken) > 0 {
		return fmt.Errorf("confirmed after later orders of the same customer: %v", s.overtaken)
	}
	return nil
}

const workers = 8

// App is the service: orders come in, confirmations and dead letters go out. A customer is
// the key of an order: the orders of one are in one partition, and handled one after the
// other, also while one of them waits for its next attempt. The ledger reads what went out
// from the beginning each time that the process starts, and so knows what earlier ones
// have done.
func App(b *kafka.Broker, prefix string, shop *Shop, ledger *account.Ledger, opts ...gostream.AppOption) *gostream.App {
	backoff := gostream.Exponential(20*time.Millisecond, 200*time.Millisecond).Attempts(5)
	orders := kafka.Topic(prefix + ".orders").Group(prefix).CommitInterval(100 * time.Millisecond)

	r := gostream.NewRouter()
	r.HandleSource(orders, gostream.Reply(shop.Confirm).To(prefix+".confirmations"),
		gostream.Named(account.Orders), gostream.Workers(workers), gostream.ByKey(),
		gostream.OnError(gostream.Is(ErrNoAnswer, ErrVoucher).Retry(backoff)),
		gostream.DeadLetterTo(prefix+".dead"), // after the last attempt, and at once what is no order
	)
	r.HandleSource(kafka.Partitions(prefix+".confirmations", partitions(confirmationPartitions)...), gostream.Raw(ledger.Confirmed))
	r.HandleSource(kafka.Partitions(prefix+".dead", partitions(deadPartitions)...), gostream.Raw(ledger.Dead))

	app := gostream.New("kafka-example", "1.0.0", opts...)
	app.Mount(b, r)
	app.Observe(gostream.Observer{Settled: ledger.Observe})
	return app
}

// partitions are the first n.
func partitions(n int32) []int32 {
	var list []int32
	for p := range n {
		list = append(list, p)
	}
	return list
}

// publish puts the orders into their topic, but for those that an earlier process has put
// there.
func publish(ctx context.Context, b *kafka.Broker, p *gostream.RawPublisher, orders []broker.OutgoingMessage) error {
	there, err := published(ctx, b, orders[0].Name)
	if err != nil {
		return err
	}
	var missing []broker.OutgoingMessage
	for _, o := range orders {
		if !there[o.Headers.MessageID()] {
			missing = append(missing, o)
		}
	}
	return p.PublishBatch(ctx, missing)
}

// published reads the whole topic and returns the message ids that are there.
func published(ctx context.Context, b *kafka.Broker, topic string) (map[string]bool, error) {
	sub, err := kafka.Partitions(topic, partitions(orderPartitions)...).Subscribe(ctx, b)
	if err != nil {
		return nil, err
	}
	defer sub.Close(ctx)
	left, err := broker.Lag(ctx, sub)
	if err != nil {
		return nil, err
	}
	ids := make(map[string]bool)
	for ; left > 0; left-- {
		m, err := sub.Receive(ctx)
		if err != nil {
			return nil, err
		}
		ids[m.Headers().MessageID()] = true
	}
	return ids, nil
}

// customers is how many there are.
const customers = 40

// newOrders returns 1000 orders. Of these 7 are none, 5 can never be confirmed, and 12
// at their third attempt.
func newOrders(prefix string) []broker.OutgoingMessage {
	var msgs []broker.OutgoingMessage
	for n := 1; n <= 1000; n++ {
		order := Order{ID: fmt.Sprintf("o-%04d", n), Customer: fmt.Sprintf("c-%02d", n%customers), Cents: 100 + 37*n%9900, Payment: "card"}
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
			Name:    prefix + ".orders",
			Key:     []byte(order.Customer),
			Payload: payload,
			Headers: broker.Headers{}.WithContentType(gostream.JSON.ContentType()).WithMessageID(order.ID),
		})
	}
	return msgs
}

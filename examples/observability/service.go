package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"go.opentelemetry.io/otel/trace"
)

// Order is what comes in.
type Order struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
	Item     string `json:"item"`
}

// Confirmation is what goes out.
type Confirmation struct {
	OrderID string `json:"order_id"`
	Cents   int    `json:"cents"`
}

var (
	errBusy    = errors.New("the till is busy")
	errUnknown = errors.New("no such item")
)

// service is an app of four subscriptions, and what it needs.
type service struct {
	app    *gostream.App
	orders *gostream.RawPublisher
	prices *gostream.Requester[string, int]
	log    *slog.Logger

	mu   sync.Mutex
	busy map[string]bool // orders that met a busy till
}

func newService(b broker.Broker, instrument func(*gostream.App), opts ...gostream.AppOption) *service {
	s := &service{busy: make(map[string]bool), log: slog.New(slog.DiscardHandler)}
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Reply(s.confirm).To("confirmations"),
		gostream.Workers(4), gostream.ByKey(), // the orders of one customer in their order
		gostream.RetryBackoff(gostream.Exponential(20*time.Millisecond, 100*time.Millisecond).Attempts(3)),
		gostream.DeadLetterTo("orders.dead"))
	r.Handle("prices", gostream.Reply(price).ToReplyTo(), gostream.Workers(4))
	r.Handle("confirmations", gostream.ConsumeBatch(s.book, 20, 50*time.Millisecond))
	r.Handle("orders.dead", gostream.Raw(s.lookAt))

	s.app = gostream.New("observability", "1.0.0", opts...)
	instrument(s.app)
	s.app.Mount(b, r)
	s.orders = s.app.RawPublisher(b)
	s.prices = gostream.NewRequester[string, int](s.app, b, "prices")
	return s
}

// confirm asks for the price of an order. A busy till is asked again.
func (s *service) confirm(ctx context.Context, o Order) (Confirmation, error) {
	switch {
	case o.Item == "till" && s.firstTime(o.ID):
		return Confirmation{}, errBusy
	case o.Item == "bomb":
		panic("the order exploded")
	}
	cents, err := s.prices.Request(ctx, o.Item)
	if err != nil {
		return Confirmation{}, fmt.Errorf("order %s: %w", o.ID, err)
	}
	s.log.InfoContext(ctx, "order is confirmed", "order", o.ID)
	return Confirmation{OrderID: o.ID, Cents: cents}, nil
}

func (s *service) firstTime(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := s.busy[id]
	s.busy[id] = true
	return !seen
}

// price answers what an item costs; its error goes back to who asked.
func price(_ context.Context, item string) (int, error) {
	if item == "ghost" {
		return 0, errUnknown
	}
	return 100 * len(item), nil
}

// book books confirmations together.
func (s *service) book(ctx context.Context, all []Confirmation) error {
	s.log.InfoContext(ctx, "confirmations are booked", "number", len(all))
	return nil
}

// lookAt is for dead letters: the log line has the id of the order's trace.
func (s *service) lookAt(ctx context.Context, d *gostream.Delivery) error {
	s.log.WarnContext(ctx, "somebody should look at this order", "reason", d.Headers().Get(gostream.HeaderDeadReason))
	return nil
}

// items are what is ordered in turn: of twenty, one meets a busy till, one a bug, one is
// no item, and one is no order.
var items = [...]string{
	"mug", "bowl", "plate", "till", "lamp", "towel", "pen", "ruler", "bomb", "teapot",
	"mug", "bowl", "ghost", "kettle", "lamp", "", "pen", "ruler", "basket", "teapot",
}

// message is the i-th order; an item of "" makes it undecodable.
func message(i int) broker.OutgoingMessage {
	o := Order{ID: fmt.Sprintf("o-%04d", i+1), Customer: fmt.Sprintf("c-%d", i%7), Item: items[i%len(items)]}
	payload := []byte("{")
	if o.Item != "" {
		payload, _ = json.Marshal(o) // strings alone: it cannot fail
	}
	return broker.OutgoingMessage{
		Name: "orders", Key: []byte(o.Customer), Payload: payload,
		Headers: broker.Headers{}.WithContentType(gostream.JSON.ContentType()).WithMessageID(o.ID),
	}
}

// order orders something at every tick until ctx ends.
func (s *service) order(ctx context.Context, tracer trace.Tracer, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		from, span := tracer.Start(context.WithoutCancel(ctx), "customer orders")
		err := s.orders.Publish(from, message(i))
		span.End()
		if err != nil {
			return err
		}
	}
}

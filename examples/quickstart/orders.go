package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// Order is what comes in.
type Order struct {
	ID       string    `json:"id"`
	Customer string    `json:"customer"`
	Items    []Item    `json:"items"`
	Currency string    `json:"currency"`
	Payment  string    `json:"payment"`
	PlacedAt time.Time `json:"placed_at"`
}

// Item is one position of an order.
type Item struct {
	SKU       string `json:"sku"`
	Quantity  int    `json:"quantity"`
	UnitPrice int    `json:"unit_price"` // in cents
}

// Confirmation is what goes out.
type Confirmation struct {
	OrderID  string `json:"order_id"`
	Customer string `json:"customer"`
	Total    int    `json:"total"` // in cents
	Currency string `json:"currency"`
}

// What can be wrong with an order; the policy in App says what follows.
var (
	ErrUnknownSKU = errors.New("not in the catalogue")
	ErrNoAnswer   = errors.New("the payment terminal does not answer")
)

// Shop has what the handler needs.
type Shop struct{ Payments *Payments }

// Confirm handles one order. It knows nothing of brokers, retries or dead letters.
func (s *Shop) Confirm(ctx context.Context, o Order) (Confirmation, error) {
	total := 0
	for _, it := range o.Items {
		if !catalogue[it.SKU] {
			return Confirmation{}, fmt.Errorf("order %s: %q is %w", o.ID, it.SKU, ErrUnknownSKU)
		}
		total += it.Quantity * it.UnitPrice
	}
	if err := s.Payments.Charge(ctx, o.ID, o.Payment, total); err != nil {
		return Confirmation{}, fmt.Errorf("order %s: %w", o.ID, err)
	}
	return Confirmation{OrderID: o.ID, Customer: o.Customer, Total: total, Currency: o.Currency}, nil
}

var catalogue = map[string]bool{
	"basket-willow": true, "blanket-wool": true, "bowl-large": true, "bowl-small": true,
	"cushion-linen": true, "kettle-steel": true, "lamp-desk": true, "lamp-floor": true,
	"mug-blue": true, "mug-white": true, "notebook-a4": true, "notebook-a5": true,
	"pen-black": true, "pencil-hb": true, "plate-deep": true, "plate-flat": true,
	"ruler-30cm": true, "scissors-paper": true, "teapot-glass": true, "towel-cotton": true,
}

// Payments stands for a service elsewhere: it takes its time, and one of its
// terminals answers only the third time that it is asked.
type Payments struct {
	Latency time.Duration

	mu    sync.Mutex
	asked map[string]int // by order id
}

// Charge asks for an amount. An order may be delivered more than once; a real
// payment service would take its id as the idempotency key.
func (p *Payments) Charge(ctx context.Context, orderID, method string, cents int) error {
	select {
	case <-time.After(p.Latency):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if method != "flaky-terminal" {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked == nil {
		p.asked = make(map[string]int)
	}
	p.asked[orderID]++
	if n := p.asked[orderID]; n < 3 {
		return fmt.Errorf("charge %d.%02d: %w", cents/100, cents%100, ErrNoAnswer)
	}
	return nil
}

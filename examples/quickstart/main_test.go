package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream/examples/internal/account"
	"github.com/gostream/gostream/memory"
)

// The whole program, as main runs it, on a clock that does not wait.
func TestRun(t *testing.T) {
	t.Parallel()
	for _, redraw := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			var out bytes.Buffer
			shop := &Shop{Payments: &Payments{Latency: 15 * time.Millisecond}}
			if err := run(t.Context(), shop, quiet, &account.Report{Out: &out, Redraw: redraw}); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
			for _, want := range []string{
				"read                    1000\n",
				"confirmed                988\n",
				"  at the first attempt   976\n",
				"  after retries           12\n",
				"dead-lettered             12\n",
				"  undecodable              7\n",
				"  attempts exhausted       5\n",
				"1000 read = 988 confirmed + 12 dead-lettered",
			} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in the output:\n%s", want, out.String())
				}
			}
			if got := strings.Contains(out.String(), "\r"); got != redraw {
				t.Errorf("Redraw is %v, but lines are redrawn: %v", redraw, got)
			}
		})
	}
}

// Orders that are not settled in time are named, and the program ends all the same.
func TestRunIsLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var out bytes.Buffer
		shop := &Shop{Payments: &Payments{Latency: time.Hour}}
		err := run(t.Context(), shop, quiet, &account.Report{Out: &out})
		if !errors.Is(err, errLate) || !strings.Contains(err.Error(), "orders are not settled: line-0001, line-0002, ") {
			t.Errorf("the error is: %v", err)
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("took %v", took)
		}
		if !strings.Contains(out.String(), "1000 read ≠ 0 confirmed + ") {
			t.Errorf("the output is:\n%s", out.String())
		}
	})
}

func TestRunIsInterrupted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		var out bytes.Buffer
		shop := &Shop{Payments: &Payments{Latency: 15 * time.Millisecond}}
		err := run(ctx, shop, quiet, &account.Report{Out: &out})
		if err == nil || !strings.Contains(err.Error(), "interrupted\n") || !strings.Contains(err.Error(), "not settled") {
			t.Errorf("the error is: %v", err)
		}
	})
}

// A handler is a plain function: its test needs no broker.
func TestConfirm(t *testing.T) {
	t.Parallel()
	order := func(payment, sku string) Order {
		return Order{ID: "o-1", Customer: "c-1", Currency: "EUR", Payment: payment, Items: []Item{
			{SKU: "mug-blue", Quantity: 2, UnitPrice: 1250},
			{SKU: sku, Quantity: 1, UnitPrice: 90},
		}}
	}
	confirmed := Confirmation{OrderID: "o-1", Customer: "c-1", Total: 2590, Currency: "EUR"}
	tests := []struct {
		name  string
		order Order
		want  []error // of one call after the other
	}{
		{"card", order("card", "pencil-hb"), []error{nil, nil}},
		{"flaky terminal", order("flaky-terminal", "pencil-hb"), []error{ErrNoAnswer, ErrNoAnswer, nil}},
		{"unknown sku", order("card", "no-such-thing"), []error{ErrUnknownSKU, ErrUnknownSKU}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			shop := &Shop{Payments: &Payments{}}
			for i, want := range test.want {
				got, err := shop.Confirm(t.Context(), test.order)
				if !errors.Is(err, want) {
					t.Errorf("call %d: error %v, want %v", i+1, err, want)
				}
				if err == nil && got != confirmed {
					t.Errorf("call %d: %+v, want %+v", i+1, got, confirmed)
				}
			}
		})
	}
}

func TestConfirmHeedsItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("why")
	cancel(why)
	shop := &Shop{Payments: &Payments{Latency: time.Hour}}
	if _, err := shop.Confirm(ctx, Order{ID: "o-1"}); !errors.Is(err, why) {
		t.Errorf("error %v, want %v", err, why)
	}
}

// The data is what the numbers above rest on.
func TestReadOrders(t *testing.T) {
	t.Parallel()
	msgs := readOrders(orders)
	if len(msgs) != 1000 {
		t.Errorf("%d messages, want 1000", len(msgs))
	}
	if m := msgs[0]; m.Headers.MessageID() != "line-0001" || string(m.Key) != "c-0548" || m.Headers.ContentType() != "application/json" {
		t.Errorf("message id %q, key %q, %v", m.Headers.MessageID(), m.Key, m.Headers)
	}
	if err := App(memory.New(), &Shop{}, account.New(msgs)).Check(); err != nil {
		t.Error(err)
	}
}

var quiet = slog.New(slog.DiscardHandler)

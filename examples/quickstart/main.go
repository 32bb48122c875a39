// Command quickstart is a small service, whole: it reads orders, confirms them,
// retries those that fail for a while, and puts aside those that cannot be
// confirmed. It needs no server: the broker is in the process.
//
//	go run ./examples/quickstart
//
// It ends by itself within seconds, and succeeds only if every order that it read
// turned up again: confirmed, or in the dead letter. With -v it shows what
// gostream logs.
package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/examples/internal/account"
	"github.com/gostream/gostream/memory"
)

//go:embed orders.ndjson
var orders string

const (
	workers = 8
	// patience is for the orders, shutdownTimeout for handlers that still run then.
	patience        = 8 * time.Second
	shutdownTimeout = time.Second
)

func main() {
	verbose := flag.Bool("v", false, "show gostream's log on standard error")
	flag.Parse()
	log := slog.New(slog.DiscardHandler)
	if *verbose {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	shop := &Shop{Payments: &Payments{Latency: 15 * time.Millisecond}}
	err := run(ctx, shop, log, account.NewReport(os.Stdout))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// App is the service: orders come in, confirmations and dead letters go out, and
// the ledger sees both.
func App(b broker.Broker, shop *Shop, ledger *account.Ledger, opts ...gostream.AppOption) *gostream.App {
	backoff := gostream.Exponential(20*time.Millisecond, 200*time.Millisecond).Attempts(5)

	r := gostream.NewRouter()
	r.Handle("orders", gostream.Reply(shop.Confirm).To("confirmations"),
		gostream.Workers(workers), gostream.ByKey(), // the orders of one customer in their order
		gostream.OnError(
			gostream.Is(ErrNoAnswer).Retry(backoff),
			gostream.Is(ErrUnknownSKU).Retry(backoff), // the catalogue may be late
		),
		gostream.DeadLetterTo("orders.dead"), // after the last attempt, and at once what is no order
	)
	r.Handle("confirmations", gostream.Raw(ledger.Confirmed))
	r.Handle("orders.dead", gostream.Raw(ledger.Dead))

	app := gostream.New("quickstart", "1.0.0", opts...)
	app.Mount(b, r) // another broker here, and nothing above changes
	app.Observe(gostream.Observer{Settled: ledger.Observe})
	return app
}

// run runs the service until all orders are accounted for, or ctx ends.
func run(ctx context.Context, shop *Shop, log *slog.Logger, report *account.Report) error {
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, patience, errLate)
	defer cancel()

	b, msgs := memory.New(), readOrders(orders)
	ledger := account.New(msgs)
	app := App(b, shop, ledger, gostream.WithLogger(log), gostream.ShutdownTimeout(shutdownTimeout))
	publisher := app.RawPublisher(b)

	svc, err := app.Start(ctx)
	if err != nil {
		return err
	}
	err = publisher.PublishBatch(ctx, msgs)
	if err == nil {
		err = report.Watch(ctx, svc, ledger)
	}
	// Shutdown drains: what is in hand is finished, what is not goes back to the
	// broker. That ctx has ended must not hurry it.
	err = errors.Join(err, svc.Shutdown(context.WithoutCancel(ctx)))

	report.Summary(ledger.Counts(), time.Since(began))
	return errors.Join(err, ledger.Check())
}

var errLate = fmt.Errorf("not done after %v", patience)

// readOrders makes a message of each line, as it stands: that a line is no order
// is for the service to find out.
func readOrders(lines string) []broker.OutgoingMessage {
	var msgs []broker.OutgoingMessage
	for line := range strings.Lines(lines) {
		m := broker.OutgoingMessage{
			Name:    "orders",
			Payload: []byte(strings.TrimSuffix(line, "\n")),
			Headers: broker.Headers{}.
				WithContentType(gostream.JSON.ContentType()).
				WithMessageID(fmt.Sprintf("line-%04d", len(msgs)+1)),
		}
		var order struct{ Customer string }
		if json.Unmarshal(m.Payload, &order) == nil && order.Customer != "" {
			m.Key = []byte(order.Customer)
		}
		msgs = append(msgs, m)
	}
	return msgs
}

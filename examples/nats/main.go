// Command nats is the service of the quickstart on NATS JetStream: it reads orders,
// confirms them, retries those that fail for a while, and puts aside those that cannot
// be confirmed. Nothing needs to be installed: the server runs in the process, with its
// streams on the disk.
//
//	go run ./examples/nats
//
// It survives being killed. Kill it in the middle (kill -9; -latency gives you time to)
// and run it again: what was acknowledged is not handled again, the rest is. Only what
// was acknowledged in the last tenth of a second may be: the server, which dies too, had
// not written it down. It succeeds only if every order turns up again in the stream,
// confirmed or in the dead letter. Then it removes the stream, so that the next run
// begins anew.
//
// The same on a server with JetStream, here or elsewhere:
//
//	nats-server -js
//	NATS_URL=nats://127.0.0.1:4222 go run ./examples/nats
//
// The stream is called gostream-example there, and one run at a time may use it.
//
// The flags:
//
//	-dir      the folder for the streams of the server in the process; by default
//	          gostream/examples/nats in the folder for caches, ~/.cache on Linux
//	-latency  how long a payment takes; by default 15 ms
//	-v        show gostream's log on standard error
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/examples/internal/account"
)

const (
	streamName = "gostream-example"
	// patience is for the orders, beyond their payments; shutdownTimeout for handlers
	// that still run then.
	patience        = 15 * time.Second
	shutdownTimeout = time.Second
)

// config is what the environment and the flags say.
type config struct {
	url     string // "" for a server in this process
	dir     string // of that
	stream  string
	latency time.Duration
	log     *slog.Logger
}

func main() {
	c := config{url: os.Getenv("NATS_URL"), stream: streamName, log: slog.New(slog.DiscardHandler)}
	flag.StringVar(&c.dir, "dir", defaultDir(), "`folder` for the streams of the server in the process")
	flag.DurationVar(&c.latency, "latency", 15*time.Millisecond, "how long a payment takes")
	verbose := flag.Bool("v", false, "show gostream's log on standard error")
	flag.Parse()
	if *verbose {
		c.log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	_, err := run(ctx, c, account.NewReport(os.Stdout))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "nats:", err)
		os.Exit(1)
	}
}

// run runs the service until all orders are accounted for, or ctx ends.
func run(ctx context.Context, c config, report *account.Report) (_ account.Counts, err error) {
	began := time.Now()
	orders := newOrders(c.stream)
	late := patience + time.Duration(len(orders)/workers)*2*c.latency
	ctx, cancel := context.WithTimeoutCause(ctx, late, fmt.Errorf("not done after %v", late))
	defer cancel()

	s, err := open(c.url, c.dir)
	if err != nil {
		return account.Counts{}, err
	}
	defer func() { err = errors.Join(err, s.close()) }()

	b := s.broker()
	fmt.Fprintln(report.Out, c.where(b))
	ledger := account.NewAtLeastOnce(orders)
	app := App(b, c.stream, &Shop{Latency: c.latency}, ledger, gostream.WithLogger(c.log), gostream.ShutdownTimeout(shutdownTimeout))
	publisher := app.RawPublisher(b)

	svc, err := app.Start(ctx)
	if err != nil {
		return account.Counts{}, err
	}
	err = publish(ctx, publisher, orders)
	if err == nil {
		err = report.Watch(ctx, svc, ledger)
	}
	// Shutdown drains: what is in hand is finished, what is not goes back to the
	// broker. That ctx has ended must not hurry it.
	err = errors.Join(err, svc.Shutdown(context.WithoutCancel(ctx)))

	report.Summary(ledger.Counts(), time.Since(began))
	if err = errors.Join(err, ledger.Check()); err != nil {
		return ledger.Counts(), fmt.Errorf("%w\nthe stream is kept: run it again, and it goes on", err)
	}
	fmt.Fprintln(report.Out, c.next())
	return ledger.Counts(), s.remove(ctx, c.stream)
}

// where says where the messages are, and how to see that they stay there.
func (c config) where(b fmt.Stringer) string {
	at := fmt.Sprintf("stream %s on a server in this process, in %s", c.stream, c.dir)
	if c.url != "" {
		at = fmt.Sprintf("stream %s, %v", c.stream, b)
	}
	return fmt.Sprintf("%s\nkill -9 %d in the middle, run it again, and it goes on\n", at, os.Getpid())
}

// next says what else can be tried.
func (c config) next() string {
	if c.url != "" {
		return "\nthe stream is removed: the next run begins anew"
	}
	return `
the stream is removed: the next run begins anew
the same on a server: nats-server -js
                      NATS_URL=nats://127.0.0.1:4222 go run ./examples/nats`
}

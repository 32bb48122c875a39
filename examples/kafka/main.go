// Command kafka is the service of the quickstart on Kafka: it reads orders, confirms
// them, those of one customer in their order, retries those that fail for a while, and
// puts aside those that cannot be confirmed. Nothing needs to be installed: the cluster
// runs in the process. It is kfake, which speaks Kafka's protocol and is made for tests;
// what is in it ends with the process.
//
//	go run ./examples/kafka
//
// It succeeds only if every order turns up again, confirmed or in the dead letter.
//
// The same on a cluster that takes connections without TLS and credentials:
//
//	KAFKA_BROKERS=127.0.0.1:9092 go run ./examples/kafka
//
// There it survives being killed. Kill it in the middle (kill -9; -latency gives you time
// to) and run it again: it waits until the cluster has given up the process that is gone,
// six seconds, and goes on. What was committed is not handled again, the rest is: what was
// acknowledged in the last tenth of a second may be among it. In the end it removes the
// topics, so that the next run begins anew.
//
// The topics and the group begin with gostream-example there, and one run at a time may
// use them.
//
// The flags:
//
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
	prefix = "gostream-example"
	// session is how long the cluster waits for a member that gives no sign of life: the
	// shortest that a Kafka server allows by default.
	session = 6 * time.Second
	// patience is for the orders, beyond their payments; shutdownTimeout for handlers
	// that still run then.
	patience        = 30 * time.Second
	shutdownTimeout = time.Second
)

// config is what the environment and the flags say.
type config struct {
	brokers string // "" for a cluster in this process
	prefix  string // of the topics and the group
	session time.Duration
	latency time.Duration
	log     *slog.Logger
}

func main() {
	c := config{brokers: os.Getenv("KAFKA_BROKERS"), prefix: prefix, session: session, log: slog.New(slog.DiscardHandler)}
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
		fmt.Fprintln(os.Stderr, "kafka:", err)
		os.Exit(1)
	}
}

// run runs the service until all orders are accounted for, or ctx ends.
func run(ctx context.Context, c config, report *account.Report) (_ account.Counts, err error) {
	began := time.Now()
	orders := newOrders(c.prefix)
	late := patience + time.Duration(len(orders)/workers)*2*c.latency
	ctx, cancel := context.WithTimeoutCause(ctx, late, fmt.Errorf("not done after %v", late))
	defer cancel()

	k, err := open(ctx, c)
	if err != nil {
		return account.Counts{}, err
	}
	defer k.close()

	b := k.broker()
	fmt.Fprintln(report.Out, c.where(b))
	shop := &Shop{Latency: c.latency}
	ledger := account.NewAtLeastOnce(orders)
	app := App(b, c.prefix, shop, ledger, gostream.WithLogger(c.log), gostream.ShutdownTimeout(shutdownTimeout))
	publisher := app.RawPublisher(b)

	svc, err := app.Start(ctx)
	if err != nil {
		return account.Counts{}, err
	}
	err = publish(ctx, b, publisher, orders)
	if err == nil {
		err = report.Watch(ctx, svc, ledger)
	}
	// Shutdown drains: what is in hand is finished, what is not is left uncommitted. That
	// ctx has ended must not hurry it.
	err = errors.Join(err, svc.Shutdown(context.WithoutCancel(ctx)))

	report.Summary(ledger.Counts(), time.Since(began))
	if err = errors.Join(err, ledger.Check(), shop.Check()); err != nil {
		return ledger.Counts(), c.advise(err)
	}
	fmt.Fprintln(report.Out, c.next())
	return ledger.Counts(), k.remove(ctx)
}

// where says where the messages are, and how to see that they stay there.
func (c config) where(b fmt.Stringer) string {
	if c.brokers == "" {
		return "topics " + c.prefix + ".* on a cluster in this process\n"
	}
	return fmt.Sprintf("topics %s.*, %v\nkill -9 %d in the middle, run it again, and it goes on\n", c.prefix, b, os.Getpid())
}

// advise adds to err what can be done.
func (c config) advise(err error) error {
	if c.brokers == "" {
		return err
	}
	return fmt.Errorf("%w\nthe topics are kept: run it again, and it goes on", err)
}

// next says what else can be tried.
func (c config) next() string {
	const kept = "\nthe orders of every customer were confirmed in their order"
	if c.brokers != "" {
		return kept + "\nthe topics are removed: the next run begins anew"
	}
	return kept + "\nthe same on a cluster: KAFKA_BROKERS=127.0.0.1:9092 go run ./examples/kafka"
}

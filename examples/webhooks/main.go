// Command webhooks puts GitHub webhook events through a broker and accounts for
// each of them: typed handlers take some kinds, an audit takes all, a dead letter
// takes what cannot be decoded.
//
//	go run ./examples/webhooks -in events.ndjson -workers 8
//
// Each line of the file is one event: {"event": "push", "payload": {…}}, with the
// name from the X-GitHub-Event header and the body of the request. With -corrupt N
// the payloads of N events are damaged before they are published. With -by-key the
// typed events of one kind and repository are handled one after the other, and the
// order in which they were handled must be that of the file. With -batch N the audit
// takes up to N events at once. It needs no server: the broker is in the process.
//
// The exit status is 0 if the numbers add up, 1 if they do not or something
// failed, and 2 for wrong flags.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/memory"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the process at once
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// config is what the flags say.
type config struct {
	in      string
	workers int
	byKey   bool
	batch   int // the most events that the audit takes at once; 0: one by one
	corrupt int
	log     *slog.Logger
}

// command is main with everything that it uses handed in; it returns the exit
// status.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2 // parse has said why
	}
	if err := run(ctx, c, stdout); err != nil {
		fmt.Fprintln(stderr, "webhooks:", err)
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (config, error) {
	var c config
	flags := flag.NewFlagSet("webhooks", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&c.in, "in", "", "`file` of events, a line of JSON each (required)")
	flags.IntVar(&c.workers, "workers", 4, "how many events of one kind are handled at once")
	flags.BoolVar(&c.byKey, "by-key", false, "handle the events of one kind and repository in order, and verify that")
	flags.IntVar(&c.batch, "batch", 0, "how many events the audit takes at once at most; 0: one by one")
	flags.IntVar(&c.corrupt, "corrupt", 0, "how many payloads of typed events to damage")
	verbose := flags.Bool("v", false, "show gostream's log on standard error")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	c.log = slog.New(slog.DiscardHandler)
	if *verbose {
		c.log = slog.New(slog.NewTextHandler(stderr, nil))
	}
	var errs []error
	if flags.NArg() > 0 {
		errs = append(errs, fmt.Errorf("unexpected argument %q", flags.Arg(0)))
	}
	if c.in == "" {
		errs = append(errs, errors.New("-in is missing: name the file of events"))
	}
	if c.workers < 1 {
		errs = append(errs, fmt.Errorf("-workers %d: at least 1 is needed", c.workers))
	}
	if c.batch < 0 {
		errs = append(errs, fmt.Errorf("-batch %d: it must not be negative", c.batch))
	}
	if c.corrupt < 0 {
		errs = append(errs, fmt.Errorf("-corrupt %d: it must not be negative", c.corrupt))
	}
	for _, err := range errs {
		fmt.Fprintln(stderr, "webhooks:", err)
	}
	if len(errs) > 0 {
		flags.Usage()
	}
	return c, errors.Join(errs...)
}

// run reads the events, runs the app until all are accounted for, and prints the
// account.
func run(ctx context.Context, c config, out io.Writer) error {
	events, err := readFile(c.in)
	if err != nil {
		return err
	}
	if err := corrupt(events, c.corrupt); err != nil {
		return fmt.Errorf("-corrupt %d: %w", c.corrupt, err)
	}
	b := memory.New()
	for _, e := range events {
		if err := b.CheckPublishName(prefix + e.kind); err != nil {
			return fmt.Errorf("%s: line %d: %w", c.in, e.line, err)
		}
	}

	account, activity := NewAccount(events, c.byKey), NewActivity()
	app := App(b, account, activity, c)
	publisher := app.RawPublisher(b)
	svc, err := app.Start(ctx)
	if err != nil {
		return err
	}
	err = publish(ctx, publisher, events)
	if err == nil {
		err = wait(ctx, svc, account)
	}
	// Shutdown drains; that ctx has ended must not hurry it.
	err = errors.Join(err, svc.Shutdown(context.WithoutCancel(ctx)))

	activity.Print(out)
	account.Print(out)
	return errors.Join(err, account.Check())
}

func publish(ctx context.Context, publisher *gostream.RawPublisher, events []event) error {
	for _, e := range events {
		if err := publisher.Publish(ctx, e.message()); err != nil {
			return fmt.Errorf("line %d: %w", e.line, err)
		}
	}
	return nil
}

// patience is how long nothing may happen until wait gives up.
const patience = 5 * time.Second

// wait returns when the account is complete.
func wait(ctx context.Context, svc *gostream.Service, account *Account) error {
	tick := time.NewTicker(patience)
	defer tick.Stop()
	for seen := -1; ; {
		select {
		case <-account.Done():
			return nil
		case <-svc.Done():
			return errors.New("the service ended early") // Shutdown says why
		case <-ctx.Done():
			return errors.New("interrupted")
		case <-tick.C:
			n := account.Seen()
			if n == seen {
				return fmt.Errorf("nothing has happened for %v", patience)
			}
			seen = n
		}
	}
}

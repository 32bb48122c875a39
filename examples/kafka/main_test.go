package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/brokers/kafka"
	"github.com/gostream/gostream/examples/internal/account"
	"github.com/gostream/gostream/gostreamtest"
)

// victimEnv holds the brokers and the prefix, a line each, for the process that a test
// starts from its own binary in order to kill it.
const victimEnv = "GOSTREAM_KAFKA_EXAMPLE"

const (
	progress     = " of 1000 orders: " // a line in the middle of a run
	quickSession = time.Second         // for a run after one that was killed: a server's default does not allow it
)

func TestMain(m *testing.M) {
	if c := strings.Split(os.Getenv(victimEnv), "\n"); len(c) == 2 {
		// It ends by itself where the test that should kill it is no more.
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := run(ctx, config{brokers: c[0], prefix: c[1], session: quickSession, latency: 10 * time.Millisecond, log: quiet}, &account.Report{Out: os.Stdout})
		fmt.Println("it was not killed:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

var quiet = slog.New(slog.DiscardHandler)

func newConfig() config {
	return config{prefix: "gostream-example-" + strings.ToLower(rand.Text()), session: session, latency: time.Millisecond, log: quiet}
}

// elsewhere is a configuration for a cluster that outlives the runs.
func elsewhere(t *testing.T) config {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(quickSession))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	c := newConfig()
	c.brokers, c.session = strings.Join(cluster.ListenAddrs(), ","), quickSession
	return c
}

// atServer is a configuration for the cluster at KAFKA_BROKERS.
func atServer(t *testing.T) config {
	t.Helper()
	c := newConfig()
	if c.brokers = os.Getenv("KAFKA_BROKERS"); c.brokers == "" {
		t.Skip("KAFKA_BROKERS is not set: KAFKA_BROKERS=127.0.0.1:9092 go test -run '^TestRun$' ./examples/kafka")
	}
	t.Cleanup(func() {
		if !t.Failed() {
			return // the topics are removed
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		k, err := open(ctx, c)
		if err != nil {
			t.Error(err)
			return
		}
		defer k.close()
		if err := k.remove(ctx); err != nil {
			t.Error(err)
		}
	})
	return c
}

// The whole program, as main runs it, on a cluster in the process, on one that outlives the
// runs, and on that of KAFKA_BROKERS. Each run begins anew where the one before was
// complete.
func TestRun(t *testing.T) {
	t.Parallel()
	own := func(*testing.T) config { return newConfig() }
	for name, where := range map[string]func(*testing.T) config{"own": own, "elsewhere": elsewhere, "KAFKA_BROKERS": atServer} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := where(t)
			for range 2 {
				var out bytes.Buffer
				counts, err := run(t.Context(), c, &account.Report{Out: &out})
				if err != nil {
					t.Fatalf("%v\n%s", err, &out)
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
					"the orders of every customer were confirmed in their order",
				} {
					if !strings.Contains(out.String(), want) {
						t.Errorf("no %q in the output:\n%s", want, &out)
					}
				}
				if tip := strings.Contains(out.String(), "KAFKA_BROKERS="); tip != (c.brokers == "") {
					t.Errorf("it says how to run it on a cluster: %v", tip)
				}
				if counts.Handled != 1000 {
					t.Errorf("the run has handled %d orders", counts.Handled)
				}
			}
		})
	}
}

// The process is killed in the middle. The next one handles the rest, and nothing is lost.
func TestRunIsKilled(t *testing.T) {
	t.Parallel()
	c := elsewhere(t)
	kill(t, c)
	var out bytes.Buffer
	counts, err := run(t.Context(), c, &account.Report{Out: &out})
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if counts.Confirmed != 988 || counts.DeadLettered() != 12 {
		t.Errorf("the account is\n%s", &out)
	}
	if counts.Handled == 0 || counts.Handled == 1000 {
		t.Errorf("the second run has handled %d orders: that is not the rest", counts.Handled)
	}
}

// interrupter is an output that presses Ctrl-C in the middle.
type interrupter struct {
	bytes.Buffer
	press context.CancelFunc
}

func (w *interrupter) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(progress)) {
		w.press()
	}
	return w.Buffer.Write(p)
}

// After Ctrl-C the next run handles the rest, and no order twice: what was settled behind an
// order that was not is committed, too.
func TestRunIsInterrupted(t *testing.T) {
	t.Parallel()
	c := elsewhere(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first, err := run(ctx, c, &account.Report{Out: &interrupter{press: cancel}})
	if err == nil || !strings.Contains(err.Error(), "interrupted\n") || !strings.Contains(err.Error(), "not settled") || !strings.Contains(err.Error(), "run it again") {
		t.Errorf("the error is: %v", err)
	}
	var out bytes.Buffer
	second, err := run(t.Context(), c, &account.Report{Out: &out})
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if first.Handled == 0 || second.Handled == 0 || first.Handled+second.Handled != 1000 || second.Repeats != 0 {
		t.Errorf("the first run has handled %d orders and the second %d; %d were settled a second time", first.Handled, second.Handled, second.Repeats)
	}
}

// Orders that are not settled in time are named, and the program ends all the same.
func TestRunIsLate(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, errors.New("too late"))
	defer cancel()
	c := newConfig()
	c.latency = time.Hour
	var out bytes.Buffer
	_, err := run(ctx, c, &account.Report{Out: &out})
	if err == nil || !strings.Contains(err.Error(), "too late") || !strings.Contains(err.Error(), "orders are not settled: o-0001, o-0002, ") {
		t.Errorf("the error is: %v", err)
	}
	if !strings.Contains(out.String(), "1000 read ≠ 0 confirmed + ") {
		t.Errorf("the output is:\n%s", &out)
	}
}

// kill starts the program and kills it when it has got on.
func kill(t *testing.T, c config) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), victimEnv+"="+c.brokers+"\n"+c.prefix)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		said = append(said, lines.Text())
		if strings.Contains(lines.Text(), progress) {
			break
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
		t.Fatalf("the process was not killed: %v; it said %q", err, said)
	}
}

// A handler is a plain function: its test needs no cluster.
func TestConfirm(t *testing.T) {
	t.Parallel()
	for payment, want := range map[string][]error{ // by attempt
		"card":            {nil, nil},
		"flaky-terminal":  {ErrNoAnswer, ErrNoAnswer, nil},
		"unknown-voucher": {ErrVoucher, ErrVoucher, ErrVoucher, ErrVoucher, ErrVoucher},
	} {
		shop := new(Shop)
		order := gostreamtest.NewMessage(Order{ID: "o-1", Customer: "c-1", Cents: 1999, Payment: payment})
		for i, want := range want {
			m := gostream.NewMessage(order.Body(), order.Delivery().Message(), i+1)
			got, err := shop.Confirm(t.Context(), m)
			if !errors.Is(err, want) {
				t.Errorf("%s, attempt %d: error %v, want %v", payment, i+1, err, want)
			}
			if err == nil && got != (Confirmation{OrderID: "o-1", Cents: 1999}) {
				t.Errorf("%s, attempt %d: %+v", payment, i+1, got)
			}
		}
	}
}

// And so does that of the whole service.
func TestApp(t *testing.T) {
	t.Parallel()
	orders := newOrders("shop")
	ledger := account.New(orders)
	app := App(kafka.New("127.0.0.1:1"), "shop", new(Shop), ledger, gostreamtest.Quiet())
	ts := gostreamtest.Start(t, app)
	for _, o := range orders[:7] { // the seventh is none
		ts.Send(o.Name, o)
	}
	ts.Wait()
	ts.ExpectPublished("shop.confirmations", 6)
	dead := ts.ExpectPublished("shop.dead", 1)
	if id, reason := dead[0].Headers.MessageID(), dead[0].Headers.Get(gostream.HeaderDeadReason); id != "o-0007" || reason != gostream.ReasonUndecodable {
		t.Errorf("dead is %s: %s", id, reason)
	}
	if c := ledger.Counts(); c.Settled() != 7 || c.Strays != 0 || c.Repeats != 0 {
		t.Errorf("the ledger has counted %+v", c)
	}
}

// An order that overtakes another of its customer is noticed.
func TestShopCheck(t *testing.T) {
	t.Parallel()
	shop := new(Shop)
	for _, id := range []string{"o-2", "o-1", "o-2"} {
		shop.note(Order{ID: id, Customer: "c"})
	}
	if err := shop.Check(); err == nil || !strings.Contains(err.Error(), "[o-1]") {
		t.Errorf("the error is: %v", err)
	}
}

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

	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
	"github.com/gostream/gostream/brokers/nats/embedded"
	"github.com/gostream/gostream/examples/internal/account"
	"github.com/gostream/gostream/gostreamtest"
)

// victimEnv holds the stream, the folder and the URL, a line each, for the
// process that a test starts from its own binary in order to kill it.
const victimEnv = "GOSTREAM_NATS_EXAMPLE"

const progress = " of 1000 orders: " // a line in the middle of a run

func TestMain(m *testing.M) {
	if c := strings.Split(os.Getenv(victimEnv), "\n"); len(c) == 3 {
		// It ends by itself where the test that should kill it is no more.
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_, err := run(ctx, config{stream: c[0], dir: c[1], url: c[2], latency: 10 * time.Millisecond, log: quiet}, &account.Report{Out: os.Stdout})
		fmt.Println("it was not killed:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

var quiet = slog.New(slog.DiscardHandler)

// onServers runs test on a server in this process and on the one of NATS_URL.
func onServers(t *testing.T, test func(t *testing.T, c config)) {
	t.Parallel()
	c := config{stream: "gostream-example-" + strings.ToLower(rand.Text()), latency: time.Millisecond, log: quiet}
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		c := c
		c.dir = t.TempDir()
		test(t, c)
	})
	t.Run("NATS_URL", func(t *testing.T) {
		t.Parallel()
		c := c
		if c.url = os.Getenv("NATS_URL"); c.url == "" {
			t.Skipf("NATS_URL is not set: NATS_URL=nats://127.0.0.1:4222 go test -run '^%s$' ./examples/nats", strings.TrimSuffix(t.Name(), "/NATS_URL"))
		}
		t.Cleanup(func() { // after a failure
			withServer(t, c, func(ctx context.Context, js jetstream.JetStream) {
				if err := js.DeleteStream(ctx, c.stream); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
					t.Error(err)
				}
			})
		})
		test(t, c)
	})
}

// withServer calls f while no run has the server.
func withServer(t *testing.T, c config, f func(ctx context.Context, js jetstream.JetStream)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	s, err := open(c.url, c.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	js, done, err := s.jetStream()
	if err != nil {
		t.Fatal(err)
	}
	defer done()
	f(ctx, js)
}

// unacknowledged asks how many orders an interrupted run has left.
func unacknowledged(t *testing.T, c config) (n int) {
	t.Helper()
	withServer(t, c, func(ctx context.Context, js jetstream.JetStream) {
		shop, err := js.Consumer(ctx, c.stream, "shop")
		if err != nil {
			t.Fatal(err)
		}
		info := shop.CachedInfo()
		n = int(info.NumPending) + info.NumAckPending
	})
	return n
}

// The whole program, as main runs it. Each run begins anew where the one before was
// complete.
func TestRun(t *testing.T) {
	onServers(t, func(t *testing.T, c config) {
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
				"the stream is removed",
			} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("no %q in the output:\n%s", want, &out)
				}
			}
			if tip := strings.Contains(out.String(), "NATS_URL="); tip != (c.url == "") {
				t.Errorf("it says how to run it on a server: %v", tip)
			}
			if counts.Handled != 1000 {
				t.Errorf("the run has handled %d orders", counts.Handled)
			}
			withServer(t, c, func(ctx context.Context, js jetstream.JetStream) {
				if _, err := js.Stream(ctx, c.stream); !errors.Is(err, jetstream.ErrStreamNotFound) {
					t.Errorf("asked for the stream the server answers %v", err)
				}
			})
		}
	})
}

// The process is killed in the middle. The next one handles what was not acknowledged,
// and nothing else.
func TestRunIsKilled(t *testing.T) {
	onServers(t, func(t *testing.T, c config) {
		kill(t, c)
		left := unacknowledged(t, c)
		if left == 0 || left == 1000 {
			t.Fatalf("the process that was killed has left %d orders: that is not the middle", left)
		}
		var out bytes.Buffer
		counts, err := run(t.Context(), c, &account.Report{Out: &out})
		if err != nil {
			t.Fatalf("%v\n%s", err, &out)
		}
		// The run ends when every order is settled. Of those that were settled already, whose
		// acknowledgements alone were lost, some may not have come again by then; and a server
		// that lives on may have read the last acknowledgements since.
		if counts.Handled > left {
			t.Errorf("%d orders were handled after the crash, want at most the %d that were not acknowledged", counts.Handled, left)
		}
		if counts.Confirmed != 988 || counts.DeadLettered() != 12 {
			t.Errorf("the account is\n%s", &out)
		}
		for _, want := range []string{"1000 read = 988 confirmed + 12 dead-lettered", fmt.Sprintf("handled by this run      %3d\n", counts.Handled)} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("no %q in the output:\n%s", want, &out)
			}
		}
		t.Logf("%d orders were left, %d of them were settled already", left, counts.Repeats)
	})
}

// kill starts the program and kills it when it has got on.
func kill(t *testing.T, c config) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), victimEnv+"="+strings.Join([]string{c.stream, c.dir, c.url}, "\n"))
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

// After Ctrl-C the next run handles the rest, and no order twice.
func TestRunIsInterrupted(t *testing.T) {
	onServers(t, func(t *testing.T, c config) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		first, err := run(ctx, c, &account.Report{Out: &interrupter{press: cancel}})
		if err == nil || !strings.Contains(err.Error(), "interrupted\n") || !strings.Contains(err.Error(), "not settled") || !strings.Contains(err.Error(), "run it again") {
			t.Errorf("the error is: %v", err)
		}
		left := unacknowledged(t, c)
		if first.Handled+left != 1000 || left == 0 {
			t.Errorf("the first run has handled %d orders and left %d", first.Handled, left)
		}
		var out bytes.Buffer
		second, err := run(t.Context(), c, &account.Report{Out: &out})
		if err != nil {
			t.Fatalf("%v\n%s", err, &out)
		}
		if second.Handled != left || second.Repeats != 0 {
			t.Errorf("the second run has handled %d orders, want %d; %d were settled a second time", second.Handled, left, second.Repeats)
		}
	})
}

// Orders that are not settled in time are named, and the program ends all the same.
func TestRunIsLate(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 3*time.Second, errors.New("too late"))
	defer cancel()
	c := config{stream: streamName, dir: t.TempDir(), latency: time.Hour, log: quiet}
	var out bytes.Buffer
	_, err := run(ctx, c, &account.Report{Out: &out})
	if err == nil || !strings.Contains(err.Error(), "too late") || !strings.Contains(err.Error(), "orders are not settled: o-0001, o-0002, ") {
		t.Errorf("the error is: %v", err)
	}
	if !strings.Contains(out.String(), "1000 read ≠ 0 confirmed + ") {
		t.Errorf("the output is:\n%s", &out)
	}
}

func TestFolderInUse(t *testing.T) {
	t.Parallel()
	c := config{stream: streamName, dir: t.TempDir(), log: quiet}
	withServer(t, c, func(ctx context.Context, _ jetstream.JetStream) {
		_, err := run(ctx, c, &account.Report{Out: new(bytes.Buffer)})
		if !errors.Is(err, embedded.ErrInUse) || !strings.Contains(err.Error(), c.dir) || !strings.Contains(err.Error(), "-dir") {
			t.Errorf("the error is: %v", err)
		}
	})
}

// A handler is a plain function: its test needs no server.
func TestConfirm(t *testing.T) {
	t.Parallel()
	for payment, want := range map[string][]error{ // by attempt
		"card":            {nil, nil},
		"flaky-terminal":  {ErrNoAnswer, ErrNoAnswer, nil},
		"unknown-voucher": {ErrVoucher, ErrVoucher, ErrVoucher, ErrVoucher, ErrVoucher},
	} {
		shop := new(Shop)
		order := gostreamtest.NewMessage(Order{ID: "o-1", Cents: 1999, Payment: payment})
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
	app := App(nats.New("nats://127.0.0.1:1"), "shop", new(Shop), ledger, gostreamtest.Quiet())
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

// What is published a second time is not stored a second time, and no error.
func TestPublishAgain(t *testing.T) {
	onServers(t, func(t *testing.T, c config) {
		s, err := open(c.url, c.dir)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := s.close(); err != nil {
				t.Error(err)
			}
		}()
		js, done, err := s.jetStream()
		if err != nil {
			t.Fatal(err)
		}
		defer done()
		stream, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: c.stream, Subjects: []string{c.stream + ".>"}})
		if err != nil {
			t.Fatal(err)
		}
		b := s.broker()
		app := gostream.New("publisher", "0", gostream.WithLogger(quiet))
		app.Mount(b)
		p := app.RawPublisher(b)
		svc, err := app.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		orders := newOrders(c.stream)
		for _, part := range [][]broker.OutgoingMessage{orders[:300], orders, orders} {
			if err := publish(t.Context(), p, part); err != nil {
				t.Fatal(err)
			}
		}
		if err := publish(t.Context(), p, []broker.OutgoingMessage{{Name: "nobody.takes.this"}}); !errors.Is(err, broker.ErrNotFound) {
			t.Errorf("a message that no stream takes: %v", err)
		}
		if err := svc.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		info, err := stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.State.Msgs != 1000 {
			t.Errorf("the stream holds %d messages", info.State.Msgs)
		}
	})
}

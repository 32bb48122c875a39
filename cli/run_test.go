package cli_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/cli"
	"github.com/gostream/gostream/memory"
	"github.com/gostream/gostream/ops"
)

// running is a run command at work in this process.
type running struct {
	lines chan string // of out
	err   *syncBuffer
	end   context.CancelFunc
	done  chan int
}

// start runs args until the test ends it, and returns when the app has started.
func start(t *testing.T, app *gostream.App, args []string, opts ...cli.Option) *running {
	t.Helper()
	return startLogging(t, app, args, nil, opts...)
}

// startLogging is start of an app that logs to log; nil is the command's err.
func startLogging(t *testing.T, app *gostream.App, args []string, log *syncBuffer, opts ...cli.Option) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{lines: make(chan string, 100), err: new(syncBuffer), end: cancel, done: make(chan int, 1)}
	t.Cleanup(func() { cancel(); <-r.done })
	if log == nil {
		log = r.err
	}
	out, w := io.Pipe()
	var reading sync.WaitGroup
	reading.Go(func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			r.lines <- s.Text()
		}
	})
	go func() {
		defer close(r.done)
		code := cli.Run(ctx, app, args, cli.Streams{Out: w, Err: r.err, Getenv: func(string) string { return "" }}, opts...)
		_ = w.Close()
		reading.Wait()
		r.done <- code
	}()
	awaitStarted(t, log, r.done)
	return r
}

// startedLine is that of the log for people, with colours or without.
var startedLine = regexp.MustCompile(`INF\S* started`)

// awaitStarted returns when the log says that the app has started. The last hook would be
// too early: a signal would then be one that interrupts the start.
func awaitStarted(t *testing.T, log *syncBuffer, ended chan int) {
	t.Helper()
	tick, limit := time.NewTicker(2*time.Millisecond), time.After(20*time.Second)
	defer tick.Stop()
	for !startedLine.MatchString(log.String()) && !strings.Contains(log.String(), "msg=started") && !strings.Contains(log.String(), `"msg":"started"`) {
		select {
		case <-tick.C:
		case code := <-ended:
			t.Fatalf("run ended with %d: %s", code, log)
		case <-limit:
			t.Fatalf("the app has not started: %s", log)
		}
	}
}

// stop ends the command and returns its exit code.
func (r *running) stop(t *testing.T) int {
	t.Helper()
	r.end()
	select {
	case code := <-r.done:
		return code
	case <-time.After(20 * time.Second):
		t.Fatal("run did not end")
		return 0
	}
}

func get(t *testing.T, method, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func TestRun(t *testing.T) {
	t.Parallel()
	app := newShop(memory.New())
	r := start(t, app, []string{"run", "--log-format", "text"})
	if code := r.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if got := r.err.String(); !strings.Contains(got, "\ndrained in ") || !strings.HasSuffix(got, "0 finished, 0 given back, 0 abandoned, 0 lost\n") {
		t.Errorf("it says %q", got)
	}
	again := call(t, app, "run")
	again.want(t, 1, "", "error: the app was started before\n")
}

// The log is JSON where no terminal is, its last line the drain's.
func TestRunLogsJSON(t *testing.T) {
	t.Parallel()
	r := start(t, newShop(memory.New()), []string{"run"})
	if code := r.stop(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	var last struct {
		Msg  string `json:"msg"`
		App  string `json:"gostream.app"`
		Lost *int   `json:"lost"`
	}
	for line := range strings.Lines(r.err.String()) {
		if err := json.Unmarshal([]byte(line), &last); err != nil {
			t.Errorf("%v: %s", err, line)
		}
	}
	if last.Msg != "stopped" || last.App != "shop" || last.Lost == nil {
		t.Errorf("the last line is %+v", last)
	}
}

// An app that has a logger keeps it, and flags that would do nothing are refused.
func TestRunKeepsTheAppsLogger(t *testing.T) {
	t.Parallel()
	var own syncBuffer
	newApp := func() *gostream.App {
		app := gostream.New("shop", "1.4.0", gostream.WithLogger(slog.New(slog.NewTextHandler(&own, nil))))
		app.Mount(memory.New(), orders())
		return app
	}
	call(t, newApp(), "run", "--log-level", "debug").want(t, 2, "", "error: --log-level does nothing: the program has a logger of its own\n")
	call(t, newApp(), "run", "--log-format", "text").want(t, 2, "", "error: --log-format does nothing")
	r := startLogging(t, newApp(), []string{"run", "--ops", "127.0.0.1:0"}, &own)
	r.stop(t)
	if log := own.String(); !strings.Contains(log, "msg=stopped") || !strings.Contains(log, `msg="ops endpoints"`) {
		t.Errorf("the app's log is %s", log)
	}
	if strings.Contains(r.err.String(), "stopped") {
		t.Errorf("a second log: %s", r.err)
	}
}

func TestRunOps(t *testing.T) {
	t.Parallel()
	r := start(t, newShop(memory.New()), []string{"run", "--ops", "127.0.0.1:0"},
		cli.OpsOptions(ops.Control(func(*http.Request) (string, error) { return "ana", nil })))
	url, ok := strings.CutPrefix(<-r.lines, "ops http://127.0.0.1:")
	if !ok {
		t.Fatalf("out begins with %q", url)
	}
	url = "http://127.0.0.1:" + url
	deadline := time.Now().Add(10 * time.Second)
	for get(t, "GET", url+"/readyz") != 200 { // ready a moment after the last hook
		if time.Now().After(deadline) {
			t.Fatal("it does not become ready")
		}
	}
	if got := get(t, "POST", url+"/subscriptions/orders/pause"); got != 200 {
		t.Errorf("pause answers %d", got)
	}
	if code := r.stop(t); code != 0 {
		t.Errorf("exit code %d: %s", code, r.err)
	}
	if !strings.Contains(r.err.String(), `"who":"ana"`) {
		t.Errorf("the log does not say who paused: %s", r.err)
	}
	if conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://")); err == nil {
		_ = conn.Close()
		t.Error("the port is still open")
	}
}

// Without the option of the program nobody can pause.
func TestRunOpsWithoutControl(t *testing.T) {
	t.Parallel()
	r := start(t, newShop(memory.New()), []string{"run", "--ops", "127.0.0.1:0"})
	_, url, _ := strings.Cut(<-r.lines, " ")
	if got := get(t, "POST", url+"/subscriptions/orders/pause"); got != 404 {
		t.Errorf("pause answers %d", got)
	}
	r.stop(t)
	bad := command{app: newShop(memory.New()), args: []string{"run", "--ops", "127.0.0.1:0"}, opts: []cli.Option{cli.OpsOptions(ops.Control(nil))}}
	bad.run(t).want(t, 2, "", "error: ops: Control(nil)")
}

// A taken port is found before anything else is touched.
func TestRunTakenPort(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	for _, tt := range []struct {
		args []string
		env  map[string]string
		want string
	}{
		{[]string{"run", "--log-format", "text", "--ops", addr}, nil, "--ops"},
		{[]string{"run", "--log-format", "text"}, map[string]string{"GOSTREAM_OPS": addr}, "GOSTREAM_OPS"},
	} {
		b := memory.New()
		app := newShop(b)
		app.OnStartup(func(context.Context) error { t.Error("a hook was called"); return nil })
		got := command{app: app, args: tt.args, env: tt.env}.run(t)
		got.want(t, 1, "", fmt.Sprintf("error: %s %q: port %s is taken by another process: choose another one, or port 0 for any that is free\n", tt.want, addr, port))
		if err := b.Health(t.Context()); !errors.Is(err, broker.ErrNotConnected) {
			t.Errorf("the broker was touched: %v", err)
		}
	}
	got := call(t, newShop(memory.New()), "run", "--ops", addr)
	got.want(t, 1, "", `"level":"ERROR","msg":"the command failed","exit_code":1,"errors":["--ops `)
}

// deadBroker cannot be reached.
type deadBroker struct{ *memory.Broker }

func (*deadBroker) Connect(context.Context) error {
	return &broker.Error{Op: "connect", Broker: "post", Name: "127.0.0.1:2525", Err: errors.Join(errors.New("127.0.0.1:2525: refused"), errors.New("127.0.0.1:2526: refused\x1b[2J"))}
}

func TestRunFails(t *testing.T) {
	t.Parallel()
	text := []string{"run", "--log-format", "text", "--log-level", "error"}

	app := newShop(memory.New())
	app.OnStartup(func(context.Context) error {
		return errors.Join(errors.New("no database"), errors.New("no cache"))
	})
	command{app: app, args: text}.run(t).want(t, 1, "", "error: OnStartup hook 1: no database\n  - no cache\n")

	got := command{app: newShop(&deadBroker{memory.New()}), args: text}.run(t)
	got.want(t, 1, "", "error: connect memory: post: connect \"127.0.0.1:2525\": 127.0.0.1:2525: refused\n  - 127.0.0.1:2526: refused\\x1b[2J\n")

	// A handler that fails fast ends the app.
	b := memory.New()
	app = gostream.New("shop", "1.4.0")
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Consume(func(context.Context, []byte) error {
		return gostream.FailFast(errors.New("the till is on fire"))
	}))
	app.Mount(b, r)
	pub := gostream.NewPublisher[string](app, b, "orders")
	app.AfterStartup(func(ctx context.Context) error { return pub.Publish(ctx, "x") })
	got = command{app: app, args: text}.run(t)
	if got.code != 1 || !strings.Contains(got.err, "the till is on fire") {
		t.Errorf("exit code %d: %s", got.code, got.err)
	}
}

// A drain that is not clean says what was left behind.
func TestRunDrainFails(t *testing.T) {
	t.Parallel()
	app := newShop(memory.New())
	app.OnShutdown(func(context.Context) error { return errors.New("the till is open") })
	app.AfterShutdown(func(context.Context) error { return errors.New("the lights are on") })
	r := start(t, app, []string{"run", "--log-format", "text"})
	if code := r.stop(t); code != 1 {
		t.Errorf("exit code %d", code)
	}
	const want = "error: the drain was not clean: 0 finished, 0 given back, 0 abandoned, 0 lost\n" +
		"  - OnShutdown hook: the till is open\n  - AfterShutdown hook: the lights are on\n"
	if got := r.err.String(); !strings.HasSuffix(got, want) {
		t.Errorf("it says\n%s\nwant\n%s", got, want)
	}
}

// A signal that comes before the app has started ends it without an account of a drain.
func TestRunInterruptedStart(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	app := newShop(memory.New())
	app.OnStartup(func(ctx context.Context) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	})
	got := command{app: app, args: []string{"run", "--log-format", "text", "--log-level", "error"}}.runIn(ctx)
	got.want(t, 130, "", "error: ended by a signal before the app had started\n")
}

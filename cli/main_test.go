package cli_test

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/cli"
	"github.com/gostream/gostream/memory"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing them")

// TestMain is also the program that the tests of signals start: a binary of a user's.
func TestMain(m *testing.M) {
	if name := os.Getenv("CLI_TEST_CHILD"); name != "" {
		child(name)
		return
	}
	os.Exit(m.Run())
}

type order struct {
	ID    int    `json:"id"`
	Email string `json:"email"`
}

type confirmation struct{ OrderID int }

// serverBroker is memory that says it has a server, so that commands take it for one that
// they can reach.
type serverBroker struct {
	*memory.Broker
	kind  string
	host  string
	props func(*broker.Properties)
	names []string // that were subscribed to
}

func (b *serverBroker) Subscribe(ctx context.Context, name string) (broker.Subscription, error) {
	b.names = append(b.names, name)
	return b.Broker.Subscribe(ctx, name)
}

func (b *serverBroker) DescribeServer() broker.ServerSpec {
	return broker.ServerSpec{Protocol: b.kind, Hosts: []string{b.host}}
}

func (b *serverBroker) Properties() broker.Properties {
	p := b.Broker.Properties()
	if b.props != nil {
		b.props(&p)
	}
	return p
}

func newServer(store *memory.Store) *serverBroker {
	return &serverBroker{Broker: memory.New(memory.On(store)), kind: "post", host: "127.0.0.1:2525"}
}

func confirm(_ context.Context, o order) (confirmation, error) { return confirmation{o.ID}, nil }

func audit(context.Context, []byte) error { return nil }

func settle(context.Context, []order) error { return nil }

// orders is a router with a bit of all.
func orders() *gostream.Router {
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Reply(confirm).To("confirmations"), gostream.Workers(16), gostream.ByKey(),
		gostream.DeadLetterTo("orders.dead"), gostream.Timeout(5*time.Second),
		gostream.OnError(gostream.Is(os.ErrPermission).DeadLetterTo("orders.refused")))
	r.Handle("audit", gostream.Consume(audit))
	return r
}

// newShop is an app on b.
func newShop(b broker.Broker) *gostream.App {
	app := gostream.New("shop", "1.4.0")
	app.Mount(b, orders())
	gostream.NewPublisher[order](app, b, "orders.new")
	return app
}

// outcome is what a command did.
type outcome struct {
	code     int
	out, err string
}

// command is a call of the command line.
type command struct {
	app  *gostream.App
	args []string
	in   string
	env  map[string]string
	opts []cli.Option
}

func (c command) run(t *testing.T) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return c.runIn(ctx)
}

func (c command) runIn(ctx context.Context) outcome {
	var out, errs syncBuffer
	code := cli.Run(ctx, c.app, c.args, cli.Streams{
		In: strings.NewReader(c.in), Out: &out, Err: &errs,
		Getenv: func(name string) string { return c.env[name] },
	}, c.opts...)
	return outcome{code, out.String(), errs.String()}
}

// call runs args on app.
func call(t *testing.T, app *gostream.App, args ...string) outcome {
	t.Helper()
	return command{app: app, args: args}.run(t)
}

// want checks a command's exit code, and that out and err hold what they must.
func (o outcome) want(t *testing.T, code int, out, errs string) {
	t.Helper()
	if o.code != code || !strings.Contains(o.out, out) || !strings.Contains(o.err, errs) || out == "" && o.out != "" || errs == "" && o.err != "" {
		t.Errorf("exit code %d, want %d\nout %q\nwant %q\nerr %q\nwant %q", o.code, code, o.out, out, o.err, errs)
	}
}

// golden compares got with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s\nWhere it was meant to change: go test -update .", name, got, want)
	}
}

// syncBuffer is a buffer that may be written while it is read.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

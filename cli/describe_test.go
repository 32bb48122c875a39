package cli_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/cli"
	"github.com/gostream/gostream/memory"
)

// bigShop has two brokers, batches, groups, a requester and long policies.
func bigShop() (*gostream.App, *serverBroker) {
	app := gostream.New("shop", "1.4.0")
	b := newServer(memory.NewStore())
	b.props = func(p *broker.Properties) { p.Persistent = true }
	app.Mount(b, orders())
	mem := memory.New()
	r := gostream.NewRouter()
	r.HandleSource(memory.Queue("payments.*", "ledger"), gostream.ConsumeBatch(settle, 128, 20*time.Millisecond),
		gostream.OnUndecodable(gostream.UndecodableReject))
	r.Handle("prices", gostream.Reply(confirm).ToReplyTo(), gostream.OnPanic(gostream.PanicFailFast))
	app.Mount(mem, r)
	gostream.NewPublisher[order](app, b, "orders.new")
	gostream.NewPublisher[string](app, mem, "notes")
	gostream.NewRequester[order, confirmation](app, mem, "prices")
	return app, b
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	app, b := bigShop()
	app.OnStartup(func(context.Context) error { t.Error("a hook was called"); return nil })
	text := call(t, app, "describe")
	text.want(t, 0, "shop 1.4.0", "")
	golden(t, "describe.golden", text.out)
	for line := range strings.Lines(text.out) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 100 {
			t.Errorf("a line has %d columns: %s", n, line)
		}
	}

	asJSON := call(t, app, "describe", "--json")
	asJSON.want(t, 0, "{", "")
	golden(t, "describe.json.golden", asJSON.out)
	var doc map[string]any
	if err := json.Unmarshal([]byte(asJSON.out), &doc); err != nil {
		t.Error(err)
	}
	if strings.Contains(asJSON.out, ": null") {
		t.Error("a field is null")
	}
	if err := b.Health(t.Context()); !errors.Is(err, broker.ErrNotConnected) {
		t.Errorf("the broker was connected: its health is %v", err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	app, b := bigShop()
	call(t, app, "check").want(t, 0, "ok: shop 1.4.0: 2 brokers, 4 subscriptions, 3 publishers; no connection was made\n", "")
	if err := b.Health(t.Context()); !errors.Is(err, broker.ErrNotConnected) {
		t.Errorf("the broker was connected: its health is %v", err)
	}

	faulty := gostream.New("shop", "1.4.0")
	r := orders()
	r.Handle("orders", gostream.Consume(audit))
	r.Handle("letters", gostream.Consume(audit), gostream.Workers(0))
	faulty.Mount(memory.New(), r)
	for _, cmd := range []string{"check", "describe", "run"} {
		got := call(t, faulty, cmd)
		got.want(t, 2, "", "error: app \"shop\" cannot start:\n")
		if n := strings.Count(got.err, "\n  - "); n != 2 {
			t.Errorf("%s: %d mistakes have lines of their own, want 2:\n%s", cmd, n, got.err)
		}
	}
	golden(t, "check.golden", call(t, faulty, "check").err)
}

// The options of the command line are checked with the app.
func TestCheckOptions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		opt  cli.Option
		want string
	}{
		{cli.DeadLetters(nil), "cli.DeadLetters: a source is nil"},
		{nil, "cli: an option is nil"},
		{cli.DeadLetters(memory.Queue("orders.dead", "")), `no broker of the app takes the source "orders.dead"`},
		{cli.DeadLetters(memory.Queue("x", "a"), memory.Queue("x", "b")), `two sources are called "x"`},
	} {
		for _, args := range [][]string{{"check"}, {"run"}, {"dead", "replay", "x", "--to", "y"}} {
			got := command{app: newShop(memory.New()), args: args, opts: []cli.Option{tt.opt}}.run(t)
			got.want(t, 2, "", tt.want)
		}
	}
	command{args: []string{"check"}}.run(t).want(t, 2, "", "error: cli: the app is nil\n")
	good := command{app: newShop(memory.New()), args: []string{"check"}, opts: []cli.Option{cli.DeadLetters(memory.Queue("orders.dead", "replay"))}}
	good.run(t).want(t, 0, "ok", "")
}

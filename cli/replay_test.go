package cli_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/cli"
	"github.com/gostream/gostream/memory"
)

// letter is a dead letter.
type letter struct{ payload, reason, source string }

// seed publishes dead letters to name.
func seed(t *testing.T, store *memory.Store, name string, letters ...letter) {
	t.Helper()
	seedAt(t, store, name, "2026-01-02T03:04:05Z", letters...)
}

// seedAt is seed with the time of the dead letters.
func seedAt(t *testing.T, store *memory.Store, name, at string, letters ...letter) {
	t.Helper()
	b := memory.New(memory.On(store))
	if err := b.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, l := range letters {
		h := broker.NewHeaders(
			broker.Header{Key: "tenant", Value: "acme"},
			broker.Header{Key: gostream.HeaderDeadReason, Value: l.reason},
			broker.Header{Key: gostream.HeaderDeadError, Value: "it failed"},
			broker.Header{Key: gostream.HeaderDeadSubscription, Value: "orders"},
			broker.Header{Key: gostream.HeaderDeadAttempts, Value: "5"},
			broker.Header{Key: gostream.HeaderDeadTime, Value: at},
		)
		if l.source != "" {
			h = h.With(gostream.HeaderDeadSource, l.source)
		}
		msg := broker.OutgoingMessage{Name: name, Key: []byte("k" + l.payload), Payload: []byte(l.payload), Headers: h}
		if err := b.Publisher().Publish(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// contents are the payloads that wait in store for name; they are taken.
func contents(t *testing.T, store *memory.Store, name string) []string {
	t.Helper()
	box := subscribe(t, store, name)
	n, err := broker.Lag(t.Context(), box.sub)
	if err != nil {
		t.Fatal(err)
	}
	list := []string{}
	for range n {
		m := box.next()
		if err := m.Ack(t.Context()); err != nil {
			t.Fatal(err)
		}
		list = append(list, string(m.Payload()))
	}
	return list
}

var (
	undecodable = letter{"1", gostream.ReasonUndecodable, "orders"}
	exhausted   = letter{"2", gostream.ReasonExhausted, "audit"}
	another     = letter{"3", gostream.ReasonUndecodable, "audit"}
)

func TestReplay(t *testing.T) {
	t.Parallel()
	all := []letter{undecodable, exhausted, another}
	for _, tt := range []struct {
		args                 string
		letters              []letter
		code                 int
		out, err             string
		orders, audit, stays []string
	}{
		{args: "--to orders", letters: all, out: "replayed 3 messages from \"orders.dead\" to \"orders\"\n", orders: []string{"1", "2", "3"}},
		{args: "--to-source", letters: all, out: "replayed 3 messages from \"orders.dead\" to their sources\n", orders: []string{"1"}, audit: []string{"2", "3"}},
		{args: "--to orders", out: "replayed 0 messages"},
		{args: "--to orders --limit 2", letters: all, out: "replayed 2 messages from \"orders.dead\" to \"orders\"; the limit was reached\n", orders: []string{"1", "2"}, stays: []string{"3"}},
		{args: "--to orders --limit 1 --filter reason=undecodable --match 3", letters: all, out: "replayed 1 message", orders: []string{"3"}, stays: []string{"1", "2"}},
		{args: "--to orders --filter reason=undecodable", letters: all, out: "replayed 2 messages from \"orders.dead\" to \"orders\"; 1 did not match and stay (attempts exhausted 1)\n", orders: []string{"1", "3"}, stays: []string{"2"}},
		{args: "--to orders --filter reason~^attempts", letters: all, out: "replayed 1 message", orders: []string{"2"}, stays: []string{"1", "3"}},
		{args: "--to orders --filter source=audit --filter reason=undecodable", letters: all, out: "(attempts exhausted 1, undecodable 1)", orders: []string{"3"}, stays: []string{"1", "2"}},
		{args: "--to orders --filter header.tenant=acme", letters: all, out: "replayed 3", orders: []string{"1", "2", "3"}},
		{args: "--to orders --filter header.tenant=bolt", letters: all, out: "replayed 0", stays: []string{"1", "2", "3"}},
		{args: "--to orders --match [12]", letters: all, out: "replayed 2", orders: []string{"1", "2"}, stays: []string{"3"}},
		{args: "--to-source --dry-run", letters: all, out: "orders -> orders  undecodable, 5 attempts, 2026-01-02T03:04:05Z, 1 bytes: it failed\n", stays: []string{"1", "2", "3"}},
		{args: "--to-source --dry-run --limit 1", letters: all, out: "would replay 1 message", stays: []string{"1", "2", "3"}},
		{args: "--to orders --rate 1000/s", letters: all, out: "replayed 3", orders: []string{"1", "2", "3"}},
		{
			args: "--to-source", letters: []letter{undecodable, {"4", "error", ""}, another}, code: 1,
			out: "replayed 2", err: "error: 1 message without the header gostream-dead-source: they stay; say with --to where they go\n",
			orders: []string{"1"}, audit: []string{"3"}, stays: []string{"4"},
		},
		{
			args: "--to-source", letters: []letter{undecodable, {"4", "error", "orders.dead"}, another}, code: 1,
			out: "replayed 1", err: "error: to \"orders.dead\": \"orders.dead\" comes back to the dead letters of \"orders.dead\"\n",
			orders: []string{"1"}, stays: []string{"4", "3"},
		},
		{
			args: "--to-source", letters: []letter{undecodable, {"4", "error", "no.*"}, another}, code: 1,
			out: "replayed 1", err: "error: to \"no.*\": ",
			orders: []string{"1"}, stays: []string{"4", "3"},
		},
	} {
		t.Run(tt.args, func(t *testing.T) {
			t.Parallel()
			store := memory.NewStore()
			seed(t, store, "orders.dead", tt.letters...)
			args := append([]string{"dead", "replay", "orders.dead", "--wait", "100ms"}, strings.Fields(tt.args)...)
			call(t, newShop(newServer(store)), args...).want(t, tt.code, tt.out, tt.err)
			for name, want := range map[string][]string{"orders": tt.orders, "audit": tt.audit, "orders.dead": tt.stays} {
				if got := contents(t, store, name); !slices.Equal(got, want) {
					t.Errorf("%s holds %q, want %q", name, got, want)
				}
			}
		})
	}
}

// What goes with a message, and what does not.
func TestReplayHeaders(t *testing.T) {
	t.Parallel()
	for _, keep := range []bool{false, true} {
		store := memory.NewStore()
		seed(t, store, "orders.dead", undecodable)
		box := subscribe(t, store, "orders")
		call(t, newShop(newServer(store)), "dead", "replay", "orders.dead", "--to", "orders", "--wait", "100ms", fmt.Sprintf("--keep-headers=%t", keep)).want(t, 0, "replayed 1", "")
		m := box.next()
		key, _ := broker.PartitionKey(m)
		if m.Headers().Get("tenant") != "acme" || string(key) != "k1" {
			t.Errorf("the headers are %v, the key is %q", m.Headers(), key)
		}
		want := 1
		if keep {
			want = 7
		}
		if m.Headers().Len() != want {
			t.Errorf("keep-headers=%t: the headers are %v", keep, m.Headers())
		}
	}
}

// In one process the memory broker's messages can be replayed, by a source of the program's.
func TestReplayMemory(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	seed(t, store, "orders.dead", undecodable, exhausted)
	c := command{
		app:  newShop(memory.New(memory.On(store))),
		args: []string{"dead", "replay", "orders.dead", "--to", "audit", "--wait", "100ms"},
		opts: []cli.Option{cli.DeadLetters(memory.Pattern("orders.dead"))},
	}
	c.run(t).want(t, 0, "replayed 2 messages", "")
	if got := contents(t, store, "audit"); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("audit holds %q", got)
	}
}

// What becomes a dead letter while the replay runs, such as one that failed again, is not
// replayed by it.
func TestReplayDoesNotGoRound(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	seedAt(t, store, "orders.dead", time.Now().Add(time.Hour).UTC().Format(time.RFC3339), undecodable)
	seed(t, store, "orders.dead", exhausted)
	call(t, newShop(newServer(store)), "dead", "replay", "orders.dead", "--to", "audit", "--wait", "100ms").
		want(t, 0, "replayed 1 message from \"orders.dead\" to \"audit\"; 1 came meanwhile and stay: they failed again, or are new\n", "")
	if got, stays := contents(t, store, "audit"), contents(t, store, "orders.dead"); !slices.Equal(got, []string{"2"}) || !slices.Equal(stays, []string{"1"}) {
		t.Errorf("audit holds %q, and %q stay", got, stays)
	}
}

// A filter that leaves behind more than the source hands out at once.
func TestReplayReachesTheSourcesLimit(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args string
		code int
	}{
		{"--filter reason=error", 1},
		{"--dry-run", 1},
		{"--dry-run --limit 2", 0},
		{"--match 1", 1},
		{"--match 1 --limit 1", 0},
	} {
		store := memory.NewStore()
		seed(t, store, "orders.dead", undecodable, exhausted, another)
		c := command{
			app:  newShop(memory.New(memory.On(store))),
			args: append([]string{"dead", "replay", "orders.dead", "--to", "audit", "--wait", "100ms"}, strings.Fields(tt.args)...),
			opts: []cli.Option{cli.DeadLetters(memory.Pattern("orders.dead").Limit(2))},
		}
		got := c.run(t)
		if got.code != tt.code || tt.code == 1 && !strings.Contains(got.err, "error: 2 messages held until the end: that is the source's limit; raise") {
			t.Errorf("%s: exit code %d: %s", tt.args, got.code, got.err)
		}
		want := 3 - len(contents(t, store, "audit"))
		if n := len(contents(t, store, "orders.dead")); n != want {
			t.Errorf("%s: %d stay, want %d", tt.args, n, want)
		}
	}

	// A source that does not say its limit.
	store := memory.NewStore()
	seed(t, store, "orders.dead", undecodable, exhausted, another)
	c := command{
		app:  newShop(memory.New(memory.On(store))),
		args: []string{"dead", "replay", "orders.dead", "--to", "audit", "--match", "x", "--wait", "100ms"},
		opts: []cli.Option{cli.DeadLetters(struct{ broker.Source }{memory.Pattern("orders.dead").Limit(2)})},
	}
	c.run(t).want(t, 1, "replayed 0", "error: 2 messages held until the end: the source hands out no more, though 1 wait; raise")
	if n := len(contents(t, store, "orders.dead")); n != 3 {
		t.Errorf("%d stay, want 3", n)
	}

	// Nor one that has none.
	many := make([]letter, 10_005)
	for i := range many {
		many[i] = letter{"x", "error", "orders"}
	}
	store = memory.NewStore()
	seed(t, store, "orders.dead", many...)
	got := call(t, newShop(newServer(store)), "dead", "replay", "orders.dead", "--to", "audit", "--match", "y", "--wait", "100ms")
	got.want(t, 1, "replayed 0", "error: 10000 messages held until the end: more are not held; raise")
	if n := len(contents(t, store, "orders.dead")); n != len(many) {
		t.Errorf("%d stay, want %d", n, len(many))
	}
}

// What a source must be.
func TestReplayRefusesSources(t *testing.T) {
	t.Parallel()
	const hint = "give its source with the option cli.DeadLetters"
	args := []string{"dead", "replay", "orders.dead", "--to", "audit"}
	b := newServer(memory.NewStore())
	b.props = func(p *broker.Properties) { p.Backlog, p.Redelivers = false, false }
	command{app: newShop(b), args: args}.run(t).want(t, 2, "", "error: by name, post keeps no backlog of \"orders.dead\" that could be acknowledged\n  "+hint)

	nameless := struct {
		broker.Broker
		broker.PublisherProvider
		broker.ServerDescriber
		broker.PropertiesDescriber
	}{b, b, b, b}
	app := gostream.New("shop", "1")
	app.Mount(&nameless)
	command{app: app, args: args}.run(t).want(t, 2, "", "does not subscribe by name")

	b = newServer(memory.NewStore())
	b.props = func(p *broker.Properties) { p.BuffersPublishes, p.Redelivers = true, true }
	app = gostream.New("shop", "1")
	app.Mount(b)
	command{app: app, args: args}.run(t).want(t, 2, "", "error: --to: messages to \"audit\" go through a publisher that only buffers: a crash would lose what was acknowledged here; accept that with --allow-loss\n")
	command{app: app, args: append(args, "--allow-loss", "--wait", "10ms")}.run(t).want(t, 0, "replayed 0", "")
}

// failing is a broker whose publisher fails at the n-th message.
type failing struct {
	*serverBroker
	n int
}

func (b *failing) Publisher() broker.Publisher { return b }

func (b *failing) Publish(ctx context.Context, m broker.OutgoingMessage) error {
	if b.n--; b.n == 0 {
		return errors.New("refused")
	}
	return b.serverBroker.Publisher().Publish(ctx, m)
}

// A message that could not be published stays, and what comes after it.
func TestReplayPublishFails(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	seed(t, store, "orders.dead", undecodable, exhausted, another)
	got := call(t, newShop(&failing{newServer(store), 2}), "dead", "replay", "orders.dead", "--to", "orders")
	got.want(t, 1, "replayed 1 message", "error: publish to \"orders\": refused; the message stays in \"orders.dead\"\n")
	if got := contents(t, store, "orders"); !slices.Equal(got, []string{"1"}) {
		t.Errorf("orders holds %q", got)
	}
	if got := contents(t, store, "orders.dead"); !slices.Equal(got, []string{"2", "3"}) {
		t.Errorf("orders.dead holds %q", got)
	}
}

// cancelling ends the command when the n-th message was published.
type cancelling struct {
	*serverBroker
	n      int
	cancel context.CancelFunc
}

func (b *cancelling) Publisher() broker.Publisher { return b }

func (b *cancelling) Publish(ctx context.Context, m broker.OutgoingMessage) error {
	if b.n--; b.n == 0 {
		b.cancel()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return b.serverBroker.Publisher().Publish(ctx, m)
}

// A signal ends it between two messages: the one in hand is published and acknowledged.
func TestReplayInterrupted(t *testing.T) {
	t.Parallel()
	for _, rate := range []string{"", "1/h"} {
		n := 2
		if rate != "" {
			n = 1 // it then waits an hour
		}
		store := memory.NewStore()
		seed(t, store, "orders.dead", undecodable, exhausted, another)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		b := &cancelling{newServer(store), n, cancel}
		c := command{app: newShop(b), args: []string{"dead", "replay", "orders.dead", "--to", "orders", "--rate", rate}}
		c.runIn(ctx).want(t, 130, fmt.Sprintf("replayed %d message", n), "error: ended by a signal\n")
		if got := len(contents(t, store, "orders")); got != n {
			t.Errorf("%d were published, want %d", got, n)
		}
		if got := len(contents(t, store, "orders.dead")); got != 3-n {
			t.Errorf("%d stay, want %d", got, 3-n)
		}
	}
}

// silent is a source that says that something waits, and hands nothing out.
type silent struct{ memory.PatternSource }

func (s silent) Subscribe(context.Context, broker.Broker) (broker.Subscription, error) { return s, nil }

func (silent) Close(context.Context) error { return nil }

func (silent) Lag(context.Context) (int64, error) { return 7, nil }

func (silent) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A source that is slow is not at its end.
func TestReplaySilentSource(t *testing.T) {
	t.Parallel()
	c := command{
		app:  newShop(memory.New()),
		args: []string{"dead", "replay", "orders.dead", "--to", "audit", "--wait", "10ms"},
		opts: []cli.Option{cli.DeadLetters(silent{memory.Pattern("orders.dead")})},
	}
	c.run(t).want(t, 1, "replayed 0", "error: nothing came for 30ms, though 7 wait\n")
}

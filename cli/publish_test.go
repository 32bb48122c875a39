package cli_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/cli"
	"github.com/gostream/gostream/memory"
)

// mailbox receives what is published to name in a store.
type mailbox struct {
	t   *testing.T
	sub broker.Subscription
}

func subscribe(t *testing.T, store *memory.Store, name string) *mailbox {
	t.Helper()
	b := memory.New(memory.On(store))
	if err := b.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Shutdown(context.Background()) })
	sub, err := b.Subscribe(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return &mailbox{t, sub}
}

// next returns the next message, which is there: publishing to memory waits for nothing.
func (m *mailbox) next() broker.IncomingMessage {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 5*time.Second)
	defer cancel()
	msg, err := m.sub.Receive(ctx)
	if err != nil {
		m.t.Fatal(err)
	}
	return msg
}

// empty checks that there is nothing.
func (m *mailbox) empty() {
	m.t.Helper()
	lag, err := broker.Lag(m.t.Context(), m.sub)
	if err != nil || lag != 0 {
		m.t.Errorf("%d messages wait, %v; want none", lag, err)
	}
}

func TestPublish(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	box := subscribe(t, store, "orders")
	b := newServer(store)
	app := newShop(b)
	app.OnStartup(func(context.Context) error { t.Error("a hook was called"); return nil })
	got := call(t, app, "publish", "orders", "--data", `{"id":7}`, "--header", "tenant=acme", "--header", "tag=a", "--header", "tag=b=c", "--key", "7")
	got.want(t, 0, "published 1 message to \"orders\" on post\n", "")
	m := box.next()
	h := m.Headers()
	key, _ := broker.PartitionKey(m)
	if string(m.Payload()) != `{"id":7}` || string(key) != "7" || h.ContentType() != "application/json" || h.Get("tenant") != "acme" || fmt.Sprint(h.Values("tag")) != "[a b=c]" {
		t.Errorf("it published %q, key %q, headers %v, tags %v", m.Payload(), key, h, h.Values("tag"))
	}
	box.empty()
	if b.names != nil {
		t.Errorf("it subscribed to %q", b.names)
	}
}

// Where the payload comes from.
func TestPublishInput(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "audit.bin")
	if err := os.WriteFile(file, []byte("in\r\n\na\x00file\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, args, in string
		want           []string
	}{
		{"data", "--data x", "", []string{"x"}},
		{"no bytes at all", "--data=", "", []string{""}},
		{"file", "--file " + file, "", []string{"in\r\n\na\x00file\n"}},
		{"standard input", "-", "a\nb\n", []string{"a\nb\n"}},
		{"standard input as a file", "--file -", "a\n", []string{"a\n"}},
		{"lines of a file", "--lines --file " + file, "", []string{"in", "a\x00file"}},
		{"lines", "--lines -", "a\n\n\r\nb c\nlast", []string{"a", "b c", "last"}},
		{"a long line", "--lines -", strings.Repeat("x", 100_000) + "\ny\n", []string{strings.Repeat("x", 100_000), "y"}},
		{"no lines", "--lines -", "\n", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			store := memory.NewStore()
			box := subscribe(t, store, "audit")
			c := command{app: newShop(newServer(store)), args: append([]string{"publish", "audit"}, strings.Fields(tt.args)...), in: tt.in}
			c.run(t).want(t, 0, fmt.Sprintf("published %d message", len(tt.want)), "")
			for _, want := range tt.want {
				m := box.next()
				if got := string(m.Payload()); got != want || m.Headers().ContentType() != "" {
					t.Errorf("it published %q of type %q, want %q", got, m.Headers().ContentType(), want)
				}
			}
			box.empty()
		})
	}
	got := call(t, newShop(newServer(memory.NewStore())), "publish", "audit", "--file", file+"x")
	got.want(t, 1, "", "no such file")
}

// A payload that could not be decoded is refused, with nothing published.
func TestPublishChecks(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		in   string
		code int
		want string
	}{
		{[]string{"orders", "--data", "{"}, "", 2, `error: subscription "orders" could not decode the payload as cli_test.order: unexpected end of JSON input (--no-check publishes it all the same)`},
		{[]string{"orders", "--data", `{"id":"seven"}`}, "", 2, `cannot unmarshal string into Go struct field order.id of type int`},
		{[]string{"orders", "--data", `{"id":7}`, "--content-type", "text/plain"}, "", 2, `subscription "orders" takes application/json, not text/plain`},
		{[]string{"orders", "--data", `{`, "--content-type", "application/json; charset=utf-8"}, "", 2, "could not decode"},
		{[]string{"orders.new", "--data", `{"id":"x"}`}, "", 2, `what the app publishes to "orders.new" is cli_test.order: json: cannot`},
		{[]string{"orders", "--lines", "-"}, "{\"id\":1}\n{\"id\":\n{\"id\":3}\n", 1, `error: line 2: subscription "orders" could not decode`},
	} {
		store := memory.NewStore()
		box, sent := subscribe(t, store, "orders"), subscribe(t, store, "orders.new")
		c := command{app: newShop(newServer(store)), args: append([]string{"publish"}, tt.args...), in: tt.in}
		got := c.run(t)
		if got.code != tt.code || !strings.Contains(got.err, tt.want) {
			t.Errorf("%q: exit code %d: %s", tt.args, got.code, got.err)
		}
		if tt.in != "" {
			if m := box.next(); string(m.Payload()) != `{"id":1}` || !strings.Contains(got.out, "published 1 message") {
				t.Errorf("the first line is %q; out %q", m.Payload(), got.out)
			}
		} else if got.out != "" {
			t.Errorf("%q: out %q", tt.args, got.out)
		}
		box.empty()
		sent.empty()

		if tt.in == "" {
			c.app, c.args = newShop(newServer(store)), append(c.args, "--no-check")
			c.run(t).want(t, 0, "published 1 message", "")
		}
	}
}

// Which of several brokers it is.
func TestPublishChoosesBroker(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args string
		want string // the store that gets it, or the error
		code int
	}{
		{"orders", "first", 0},
		{"prices", "second", 0},
		{"orders.dead", "first", 0},
		{"notes", "second", 0},
		{"orders --broker 2", "second", 0},
		{"orders --broker mail", "second", 0},
		{"nowhere", "error: no subscription or publisher of the app has the name \"nowhere\": say with --broker which broker is meant\n  - --broker 1  post  127.0.0.1:2525\n  - --broker 2  mail  127.0.0.1:2626\n  - --broker 3  mail  127.0.0.1:2727\n", 2},
		{"both", "error: several brokers have the name \"both\": say with --broker which one is meant\n  - --broker 1  post  127.0.0.1:2525\n  - --broker 2", 2},
		{"orders --broker mail", "error: --broker \"mail\": several brokers are of that kind: give the number\n  - --broker 2", 2},
	} {
		first, second := memory.NewStore(), memory.NewStore()
		one, two, three := newServer(first), newServer(second), newServer(second)
		two.kind, two.host, three.kind, three.host = "mail", "127.0.0.1:2626", "mail", "127.0.0.1:2727"
		app := gostream.New("shop", "1.4.0")
		r, r2 := orders(), gostream.NewRouter()
		r.Handle("both", gostream.Consume(audit))
		r2.Handle("both", gostream.Consume(audit), gostream.Named("both on 2"))
		r2.Handle("prices", gostream.Consume(audit))
		app.Mount(one, r)
		app.Mount(two, r2)
		if tt.code != 0 {
			app.Mount(three)
		}
		gostream.NewPublisher[string](app, two, "notes")
		name, _, _ := strings.Cut(tt.args, " ")
		boxes := map[string]*mailbox{"first": subscribe(t, first, name), "second": subscribe(t, second, name)}
		args := append([]string{"publish", "--data", "{}", "--no-check"}, strings.Fields(tt.args)...)
		got := call(t, app, args...)
		if tt.code != 0 {
			got.want(t, tt.code, "", tt.want)
			continue
		}
		got.want(t, 0, "published 1 message", "")
		boxes[tt.want].next()
		boxes["first"].empty()
		boxes["second"].empty()
	}
}

// The memory broker lives in the process of the app.
func TestPublishRefusesMemory(t *testing.T) {
	t.Parallel()
	const want = "the messages of broker 1 (memory) live in the process that runs the app: it names no server that a command of its own could reach\n"
	call(t, newShop(memory.New()), "publish", "orders", "--data", "{}").want(t, 2, "", want)
	call(t, newShop(memory.New()), "dead", "replay", "orders.dead", "--to-source").want(t, 2, "", want)
}

// A broker that fails after its Publish has returned nil.
type lateFailure struct {
	*serverBroker
	notify func(broker.Event)
}

func (b *lateFailure) Notify(f func(broker.Event)) { b.notify = f }

func (b *lateFailure) Shutdown(ctx context.Context) error {
	b.notify(broker.Event{Kind: broker.EventDisconnected})
	b.notify(broker.Event{Kind: broker.EventFailed, Err: errors.New("permission denied")})
	return b.serverBroker.Shutdown(ctx)
}

func TestPublishFails(t *testing.T) {
	t.Parallel()
	got := call(t, newShop(&lateFailure{serverBroker: newServer(memory.NewStore())}), "publish", "orders", "--data", "{}")
	got.want(t, 1, "published 1 message", "warning: the connection to post was cut; trying again\nerror: post did not take what it was sent: permission denied\n")

	// The queue is full.
	store := memory.NewStore(memory.Capacity(1))
	subscribe(t, store, "audit")
	c := command{app: newShop(newServer(store)), args: []string{"publish", "audit", "--lines", "-", "--timeout", "50ms"}, in: "a\nb\n"}
	c.run(t).want(t, 1, "published 1 message to \"audit\" on post\n", "error: line 2: memory: publish \"audit\"")
}

// hostless is a broker that cannot be reached.
type hostless struct{ *serverBroker }

func (*hostless) Connect(context.Context) error { return errors.New("127.0.0.1:2525: refused") }

func TestPublishCannotConnect(t *testing.T) {
	t.Parallel()
	app := newShop(&hostless{newServer(memory.NewStore())})
	call(t, app, "publish", "orders", "--data", "{}").want(t, 1, "", "error: connect post: 127.0.0.1:2525: refused\n")
}

// A command that waits for its input ends with the signal.
func TestPublishInterrupted(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"publish", "audit", "-"}, {"publish", "audit", "-", "--lines"}} {
		ctx, cancel := context.WithCancel(t.Context())
		in, w := io.Pipe()
		done := make(chan int, 1)
		var out, errs syncBuffer
		go func() {
			done <- cli.Run(ctx, newShop(newServer(memory.NewStore())), args, cli.Streams{In: in, Out: &out, Err: &errs})
		}()
		if _, err := w.Write([]byte("x")); err != nil { // it reads
			t.Fatal(err)
		}
		cancel()
		select {
		case code := <-done:
			if code != 130 || errs.String() != "error: ended by a signal\n" {
				t.Errorf("exit code %d: %s", code, errs.String())
			}
		case <-time.After(20 * time.Second):
			t.Fatal("it goes on reading")
		}
		_ = w.Close()
	}
}

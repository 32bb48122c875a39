package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/brokers/nats"
	"github.com/gostream/gostream/brokers/nats/embedded"
	"github.com/gostream/gostream/cli"
)

// jetStream is an embedded server.
type jetStream struct {
	url string
	js  jetstream.JetStream
}

func startNATS(t *testing.T) *jetStream {
	t.Helper()
	server, err := embedded.Start(embedded.Config{Memory: true, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Shutdown(context.Background()) })
	nc, err := natsgo.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for stream, subject := range map[string]string{"ORDERS": "orders", "DEAD": "orders.dead"} {
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: stream, Subjects: []string{subject}}); err != nil {
			t.Fatal(err)
		}
	}
	return &jetStream{server.URL(), js}
}

// app is the service.
func (j *jetStream) app(s *shop) *gostream.App {
	r := gostream.NewRouter()
	r.HandleSource(nats.Stream("orders", "ORDERS").Durable("shop"), gostream.Consume(s.handle), gostream.DeadLetterTo("orders.dead"))
	app := gostream.New("shop", "1.0.0")
	app.Mount(nats.New(j.url), r)
	return app
}

// messages is how many a stream holds.
func (j *jetStream) messages(t *testing.T, stream string) int {
	t.Helper()
	s, err := j.js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return int(info.State.Msgs)
}

// left is what a durable consumer has not acknowledged.
func (j *jetStream) left(t *testing.T, stream, durable string) int {
	t.Helper()
	c, err := j.js.Consumer(t.Context(), stream, durable)
	if err != nil {
		t.Fatal(err)
	}
	info, err := c.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return int(info.NumPending) + info.NumAckPending
}

// From publish over dead letters to their replay, on JetStream.
func TestNATS(t *testing.T) {
	t.Parallel()
	j := startNATS(t)
	dead := nats.Stream("orders.dead", "DEAD").Durable("replay").AckWait(2 * time.Second)
	opts := []cli.Option{cli.DeadLetters(dead)}
	s := &shop{closed: true}

	for _, payload := range []string{`{"id":1}`, `{"id":101}`, `{"id":102}`} {
		call(t, j.app(s), opts, "publish", "orders", "--data", payload).want(t, 0, "published 1 message to \"orders\" on nats\n", "")
	}
	call(t, j.app(s), opts, "publish", "orders", "--data", "{").want(t, 2, "", "could not decode")
	call(t, j.app(s), opts, "publish", "orders", "--data", "{", "--no-check").want(t, 0, "published 1", "")
	if n := j.messages(t, "ORDERS"); n != 4 {
		t.Fatalf("the stream holds %d orders, want 4", n)
	}
	runUntil(t, j.app(s), opts, func() bool { return j.messages(t, "DEAD") == 3 && s.count() == 1 })

	// By name that is Core NATS, which keeps nothing.
	call(t, j.app(s), nil, "dead", "replay", "orders.dead", "--to-source").
		want(t, 2, "", "error: by name, nats keeps no backlog of \"orders.dead\" that could be acknowledged\n  give its source")

	dry := call(t, j.app(s), opts, "dead", "replay", "orders.dead", "--to-source", "--dry-run", "--wait", "500ms")
	dry.want(t, 0, "would replay 3 messages", "")
	if n := strings.Count(dry.out, "orders -> orders  "); n != 3 || j.messages(t, "ORDERS") != 4 || j.left(t, "DEAD", "replay") != 3 {
		t.Errorf("the dry run listed %d:\n%s", n, dry.out)
	}

	// What does not match is held for longer than its lease.
	filtered := call(t, j.app(s), opts, "dead", "replay", "orders.dead", "--to-source", "--filter", "reason=undecodable", "--wait", "5s")
	filtered.want(t, 0, "replayed 1 message from \"orders.dead\" to their sources; 2 did not match and stay (handler decided 2)\n", "")
	if n := j.left(t, "DEAD", "replay"); n != 2 {
		t.Errorf("%d dead letters are left, want 2", n)
	}

	// A name that no stream keeps: the message stays.
	call(t, j.app(s), opts, "dead", "replay", "orders.dead", "--to", "nowhere").want(t, 1, "replayed 0", "error: publish to \"nowhere\": ")
	if n := j.left(t, "DEAD", "replay"); n != 2 {
		t.Errorf("%d dead letters are left, want 2", n)
	}

	s.closed = false
	call(t, j.app(s), opts, "dead", "replay", "orders.dead", "--to", "orders", "--wait", "500ms").want(t, 0, "replayed 2 messages", "")
	if n := j.left(t, "DEAD", "replay"); n != 0 {
		t.Errorf("%d dead letters are left, want none", n)
	}
	runUntil(t, j.app(s), opts, func() bool { return s.count() == 3 })
	if slices.Sort(s.handled); !slices.Equal(s.handled, []int{1, 101, 102}) {
		t.Errorf("the shop handled %v", s.handled)
	}
}

// A filter that leaves behind as many as the consumer may have unsettled.
func TestNATSLimit(t *testing.T) {
	t.Parallel()
	j := startNATS(t)
	s := new(shop)
	opts := []cli.Option{cli.DeadLetters(nats.Stream("orders.dead", "DEAD").Durable("replay").MaxAckPending(2))}
	for range 3 {
		call(t, j.app(s), opts, "publish", "orders.dead", "--data", "x").want(t, 0, "published 1", "")
	}
	got := call(t, j.app(s), opts, "dead", "replay", "orders.dead", "--to", "orders", "--match", "y")
	got.want(t, 1, "replayed 0", "error: 2 messages held until the end: that is the source's limit; raise")
	if n := j.left(t, "DEAD", "replay"); n != 3 {
		t.Errorf("%d are left, want 3", n)
	}
}

// What cannot be reached is said, without a password.
func TestNATSUnreachable(t *testing.T) {
	t.Parallel()
	app := gostream.New("shop", "1.0.0")
	app.Mount(nats.New("nats://ana:secret@127.0.0.1:1"))
	got := call(t, app, nil, "publish", "orders", "--data", "x", "--timeout", "5s")
	got.want(t, 1, "", "error: connect nats: ")
	if strings.Contains(got.err, "secret") {
		t.Errorf("it shows the password: %s", got.err)
	}
}

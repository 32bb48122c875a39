package nats_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
)

// A message that was published with a MsgID goes to a dead letter in the same stream.
// Were the id to travel along, the stream would take the dead letter for a duplicate:
// it would confirm it and store nothing.
func TestDeadLetterIntoTheSameStreamWithTheSameID(t *testing.T) {
	onServers(t, func(t *testing.T, s *faultServer) {
		name := unique()
		if err := createStream(t.Context(), s.js, jetstream.StreamConfig{Name: name, Subjects: []string{name + ".orders", name + ".orders.dead"}}); err != nil {
			t.Fatal(err)
		}
		stream, err := s.js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		s.dropAtEnd(t, name)

		b := nats.New(s.url, quick()...)
		connectBroker(t, b)
		for range 2 {
			err := b.JetStreamPublisher().Publish(t.Context(), broker.OutgoingMessage{
				Name: name + ".orders", Key: []byte("customer 7"), Payload: []byte("an order"),
				Headers: broker.Headers{}.WithMessageID("o-1").With("trace", "t-1"),
				Options: nats.PublishOptions{MsgID: "m1"},
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		headersStored(t, stream, 1) // the stream does know m1

		dead := make(chan struct{})
		headersDeadLetterAll(t, s, nats.Stream(name+".orders", name).Durable("desk"), name+".orders.dead", func() { close(dead) })
		closed(t, "that the message is dead-lettered", dead)

		headersStored(t, stream, 2)
		letter, err := stream.GetLastMsgForSubject(t.Context(), name+".orders.dead")
		if err != nil {
			t.Fatal(err)
		}
		if string(letter.Data) != "an order" {
			t.Errorf("the dead letter's payload is %q", letter.Data)
		}
		got := make(map[string]string)
		for key, values := range letter.Header {
			got[key] = strings.Join(values, "|")
		}
		if _, err := time.Parse(time.RFC3339, got[gostream.HeaderDeadTime]); err != nil {
			t.Errorf("the time in the dead letter: %v", err)
		}
		delete(got, gostream.HeaderDeadTime)
		want := map[string]string{
			"message-id": "o-1", "trace": "t-1", "gostream-key": "customer%207",
			gostream.HeaderDeadReason:       gostream.ReasonVerdict,
			gostream.HeaderDeadError:        errHeadersUnwanted.Error(),
			gostream.HeaderDeadSource:       name + ".orders",
			gostream.HeaderDeadSubscription: name + ".orders",
			gostream.HeaderDeadAttempts:     "1",
		}
		if !maps.Equal(got, want) {
			t.Errorf("the dead letter's headers are\n%v, want\n%v", got, want)
		}
		until(t, "that the message is acknowledged", func() bool {
			c := s.consumer(t, name, "desk")
			return c.NumAckPending == 0 && c.NumPending == 0
		})
	})
}

var errHeadersUnwanted = gostream.DeadLetter(errors.New("nobody wants this"))

// headersDeadLetterAll starts an app that sends whatever comes to a dead letter, and
// calls settled after each.
func headersDeadLetterAll(t *testing.T, s *faultServer, src broker.Source, to string, settled func()) {
	t.Helper()
	r := gostream.NewRouter()
	r.HandleSource(src, gostream.Raw(func(context.Context, *gostream.Delivery) error {
		return errHeadersUnwanted
	}), gostream.DeadLetterTo(to))
	app := gostream.New("headers", "0", gostream.WithLogger(slog.New(slog.DiscardHandler)))
	app.Mount(nats.New(s.url, quick()...), r)
	app.Observe(gostream.Observer{Settled: func(e gostream.SettledEvent) {
		if e.Outcome != gostream.OutcomeDeadLettered {
			t.Errorf("%q ended as %v: %v", e.Delivery.Payload(), e.Outcome, e.Err)
		}
		settled()
	}})
	ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
	defer cancel()
	service, err := app.Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shutdownApp(t, service) })
}

// headersStored fails unless the stream comes to hold that many messages: what Core
// NATS publishes is stored a moment later.
func headersStored(t *testing.T, stream jetstream.Stream, want uint64) {
	t.Helper()
	var have uint64
	until(t, fmt.Sprintf("that the stream holds %d messages", want), func() bool {
		info, err := stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		have = info.State.Msgs
		return have >= want
	})
	if have != want {
		t.Errorf("the stream holds %d messages, want %d", have, want)
	}
}

// headersReserved are spellings of keys that belong to NATS.
var headersReserved = []string{
	"Status", "status", "STATUS", "sTaTuS", "Description", "description", "DESCRIPTION",
	"Nats-Msg-Id", "nats-msg-id", "NATS-MSG-ID", "Nats-Expected-Stream", "Nats-TTL", "Nats-Rollup", "nats-anything", "NATS-", "nAtS-x",
}

// headersFree are not, although they look like it.
var headersFree = []string{"Statuses", "X-Status", "Descriptio", "Nats", "Nats_Msg-Id", "X-Nats-Msg-Id", "gnats-x"}

// The keys that NATS reserves can neither be published nor are they among the headers
// of what arrives, which therefore can be published again.
func TestReservedHeaders(t *testing.T) {
	onServers(t, func(t *testing.T, s *faultServer) {
		t.Run("publish", func(t *testing.T) {
			t.Parallel()
			headersRefused(t, s)
		})
		t.Run("arrive from a stream", func(t *testing.T) {
			t.Parallel()
			headersArriveStored(t, s)
		})
		t.Run("arrive through Core NATS", func(t *testing.T) {
			t.Parallel()
			headersArriveCore(t, s)
		})
	})
}

// headersRefused publishes them in every way that there is.
func headersRefused(t *testing.T, s *faultServer) {
	name := unique()
	s.stream(t, name)
	plain, confirming := nats.New(s.url, quick()...), nats.New(s.url, quick(nats.ConfirmPublishes())...)
	connectBroker(t, plain)
	connectBroker(t, confirming)
	ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
	defer cancel()
	message := func(key string) broker.OutgoingMessage {
		return broker.OutgoingMessage{Name: name + ".orders", Headers: broker.NewHeaders(broker.Header{Key: "a", Value: "1"}, broker.Header{Key: key, Value: "1"})}
	}
	publishers := map[string]broker.Publisher{
		"Core NATS": plain.Publisher(), "JetStream": plain.JetStreamPublisher(), "JetStream by default": confirming.Publisher(),
	}
	for which, p := range publishers {
		for _, key := range headersReserved {
			if err := p.Publish(ctx, message(key)); !errors.Is(err, broker.ErrInvalid) {
				t.Errorf("%s: publishing with the header %q answered %v, want ErrInvalid", which, key, err)
			}
		}
		if _, ok := p.(broker.Requester); !ok {
			continue
		}
		for _, key := range headersReserved {
			if _, err := broker.Request(ctx, p, message(key)); !errors.Is(err, broker.ErrInvalid) {
				t.Errorf("%s: a request with the header %q answered %v, want ErrInvalid", which, key, err)
			}
		}
	}
	stream, err := s.js.Stream(ctx, name)
	if err != nil {
		t.Fatal(err)
	}

	// Of a batch those alone fail, and the others are sent. Whatever was sent above is
	// stored before these, and would be counted.
	keys := append(slices.Clone(headersReserved), headersFree...)
	var batch []broker.OutgoingMessage
	for _, key := range keys {
		batch = append(batch, message(key))
	}
	stored := uint64(0)
	for which, p := range publishers {
		err := broker.PublishBatch(ctx, p, batch)
		for i, err := range broker.BatchErrors(err, len(batch)) {
			if refuse := i < len(headersReserved); refuse != errors.Is(err, broker.ErrInvalid) || !refuse && err != nil {
				t.Errorf("%s: in a batch the header %q answered %v", which, keys[i], err)
			}
		}
		stored += uint64(len(headersFree))
		headersStored(t, stream, stored)
	}
}

// headersWire is a message as another client sends it.
type headersWire struct {
	id    string // its payload, "" for an empty one
	block string // its headers on the wire
	// What arrives.
	shown  map[string]string // the headers; several values with | between them
	native map[string]string // what is reserved
	inline map[string]string // the same, of the first line: servers do not store it
}

// headersOdd returns the messages; the stream of that name takes them.
func headersOdd(stream string) []headersWire {
	type fields = map[string]string
	return []headersWire{
		{block: "NATS/1.0\r\nStatus: 503\r\n\r\n", native: fields{"Status": "503"}},
		{block: "NATS/1.0 503 No Responders\r\n\r\n", inline: fields{"Status": "503", "Description": "No Responders"}},
		{block: "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 7\r\n\r\n", native: fields{"Nats-Last-Consumer": "7"}, inline: fields{"Status": "100", "Description": "Idle Heartbeat"}},
		{"inline", "NATS/1.0 409 Consumer Deleted\r\na: 1\r\n\r\n", fields{"a": "1"}, nil, fields{"Status": "409", "Description": "Consumer Deleted"}},
		{"id", "NATS/1.0\r\nNats-Msg-Id: raw-1\r\nmessage-id: mine\r\n\r\n", fields{"message-id": "mine"}, fields{"Nats-Msg-Id": "raw-1", "nats-msg-id": "raw-1"}, nil},
		{"expect", "NATS/1.0\r\nNats-Expected-Stream: " + stream + "\r\nb: x\r\n\r\n", fields{"b": "x"}, fields{"Nats-Expected-Stream": stream}, nil},
		{"case", "NATS/1.0\r\nsTATUS: 200\r\nDESCRIPTION: fine\r\nnats-Own: 1\r\nc: y\r\n\r\n", fields{"c": "y"}, fields{"Status": "200", "Description": "fine", "Nats-Own": "1"}, nil},
		{"spaces", "NATS/1.0\r\npadded:  \t x y \t \r\nempty:\r\nblank:   \r\nNats-Padded: z \r\n\r\n", fields{"padded": "x y", "empty": "", "blank": ""}, fields{"Nats-Padded": "z "}, nil},
		{"several", "NATS/1.0\r\nd: 1\r\nStatus: 1\r\nd: 2\r\nStatus: 2\r\n\r\n", fields{"d": "1|2"}, fields{"Status": "1"}, nil},
		{"keys", "NATS/1.0\r\nhas space: 1\r\nhas(paren: 1\r\nschlüssel: 1\r\ne: 1\r\n\r\n", fields{"e": "1"}, nil, nil},
		{"values", "NATS/1.0\r\nreturn: a\rb\r\nbytes: \xff\x00\x7f\r\nf: 1\r\n\r\n", fields{"bytes": "\xff\x00\x7f", "f": "1"}, nil, nil},
		{"partition", "NATS/1.0\r\ngostream-key: a%0Ab%zz%\r\n\r\n", fields{"gostream-key": "a%0Ab%zz%"}, nil, nil},
		{id: "broken", block: "NATS/1.0\r\nthere is no colon\r\n\r\n"},
		{id: "nothing", block: "NATS/1.0\r\n\r\n"},
	}
}

// headersArriveStored: from a stream.
func headersArriveStored(t *testing.T, s *faultServer) {
	name := unique()
	s.stream(t, name)
	stream, err := s.js.Stream(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	odd := headersOdd(name)
	headersPublishRaw(t, s, name+".orders", odd)
	headersStored(t, stream, uint64(len(odd)))

	b := nats.New(s.url, quick()...)
	connectBroker(t, b)
	sub := subscribe(t, b, nats.Stream(name+".orders", name).Durable("look"))
	for _, w := range odd {
		m := receive(t, sub).(*nats.Message)
		w.check(t, m, m.Native, w.native)
		if m.MsgID() != w.native["Nats-Msg-Id"] {
			t.Errorf("%q: the message id is %q", w.id, m.MsgID())
		}
		if err := m.Ack(t.Context()); err != nil {
			t.Error(err)
		}
	}

	// Each of them can be dead-lettered, into the same stream.
	settled := make(chan struct{}, len(odd))
	headersDeadLetterAll(t, s, nats.Stream(name+".orders", name).Durable("desk"), name+".dead", func() { settled <- struct{}{} })
	headersAwait(t, settled, len(odd))
	headersStored(t, stream, uint64(2*len(odd)))
	letters := subscribe(t, b, nats.Stream(name+".dead", name).Durable("letters"))
	for _, w := range odd {
		w.checkLetter(t, receive(t, letters))
	}
}

// headersArriveCore: what Core NATS carries.
func headersArriveCore(t *testing.T, s *faultServer) {
	name := unique()
	b := nats.New(s.url, quick()...)
	connectBroker(t, b)
	sub := subscribe(t, b, nats.Subject(name+".orders"))
	letters := subscribe(t, b, nats.Subject(name+".dead"))
	odd := headersOdd("any")
	settled := make(chan struct{}, len(odd))
	headersDeadLetterAll(t, s, nats.Subject(name+".orders"), name+".dead", func() { settled <- struct{}{} })

	headersPublishRaw(t, s, name+".orders", odd)
	for _, w := range odd {
		m := receive(t, sub).(*nats.CoreMessage)
		native := maps.Clone(w.inline)
		if native == nil {
			native = make(map[string]string)
		}
		maps.Copy(native, w.native)
		w.check(t, m, m.Native, native)
	}
	headersAwait(t, settled, len(odd))
	for _, w := range odd {
		w.checkLetter(t, receive(t, letters))
	}
}

// check compares what arrived with what was sent.
func (w headersWire) check(t *testing.T, m broker.IncomingMessage, native func(string) string, reserved map[string]string) {
	t.Helper()
	if string(m.Payload()) != w.id {
		t.Errorf("%q arrived, want %q", m.Payload(), w.id)
		return
	}
	h := m.Headers()
	w.checkHeaders(t, h, w.shown)
	for key, want := range reserved {
		if got := native(key); got != want {
			t.Errorf("%q: the native header %s is %q, want %q", w.block, key, got, want)
		}
	}
}

// checkLetter checks the dead letter of the message.
func (w headersWire) checkLetter(t *testing.T, m broker.IncomingMessage) {
	t.Helper()
	if string(m.Payload()) != w.id {
		t.Errorf("the dead letter of %q arrived, want that of %q", m.Payload(), w.id)
		return
	}
	h := m.Headers()
	if got := h.Get(gostream.HeaderDeadError); got != errHeadersUnwanted.Error() {
		t.Errorf("%q: the dead letter's error is %q", w.block, got)
	}
	want := maps.Clone(w.shown)
	if key, there := want["gostream-key"]; there {
		want["gostream-key"] = strings.NewReplacer("%zz%", "%25zz%25").Replace(key) // written by us
	}
	w.checkHeaders(t, h.Without(
		gostream.HeaderDeadReason, gostream.HeaderDeadError, gostream.HeaderDeadSource,
		gostream.HeaderDeadSubscription, gostream.HeaderDeadAttempts, gostream.HeaderDeadTime,
	), want)
}

func (w headersWire) checkHeaders(t *testing.T, h broker.Headers, want map[string]string) {
	t.Helper()
	n, got := 0, make(map[string]string)
	for key, value := range h.All() {
		if _, more := got[key]; more {
			value = got[key] + "|" + value
		}
		got[key] = value
		n++
	}
	if !maps.Equal(got, want) {
		t.Errorf("%q: the headers are %q, want %q", w.block, got, want)
	}
	if h.Len() != n {
		t.Errorf("%q: Len is %d, listed are %d", w.block, h.Len(), n)
	}
	for key, value := range want {
		first, _, _ := strings.Cut(value, "|")
		if got, ok := h.Lookup(key); !ok || got != first {
			t.Errorf("%q: Lookup(%q) answered %q, %v", w.block, key, got, ok)
		}
	}
	for _, key := range append([]string{"has space", "has(paren", "schlüssel", "return", "nats-own", "Nats-Padded", "Nats-Last-Consumer"}, headersReserved...) {
		if value, ok := h.Lookup(key); ok || h.Has(key) || h.Get(key) != "" || len(h.Values(key)) != 0 {
			t.Errorf("%q: Lookup(%q) answered %q", w.block, key, value)
		}
	}
}

func headersAwait(t *testing.T, c <-chan struct{}, n int) {
	t.Helper()
	limit := time.NewTimer(faultLimit)
	defer limit.Stop()
	for i := range n {
		select {
		case <-c:
		case <-limit.C:
			t.Fatalf("waited %v in vain: %d of %d messages are dead-lettered", faultLimit, i, n)
		}
	}
}

// headersPublishRaw sends the messages over a connection without a client: clients tidy
// up. It returns when the server has them all.
func headersPublishRaw(t *testing.T, s *faultServer, subject string, messages []headersWire) {
	t.Helper()
	u, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := (&net.Dialer{Timeout: faultLimit}).DialContext(t.Context(), "tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(faultLimit)); err != nil {
		t.Fatal(err)
	}
	options := map[string]any{"verbose": false, "pedantic": false, "headers": true, "no_responders": true}
	if u.User != nil {
		options["user"] = u.User.Username()
		options["pass"], _ = u.User.Password()
	}
	connect, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	out := fmt.Sprintf("CONNECT %s\r\n", connect)
	for _, w := range messages {
		out += fmt.Sprintf("HPUB %s %d %d\r\n%s%s\r\n", subject, len(w.block), len(w.block)+len(w.id), w.block, w.id)
	}
	if _, err := conn.Write([]byte(out + "PING\r\n")); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		switch line := lines.Text(); {
		case line == "PONG":
			return
		case strings.HasPrefix(line, "-ERR"):
			t.Fatalf("the server said %s", line)
		}
	}
	t.Fatal("the server closed the connection")
}

// Another Go program publishes them with the client itself.
func TestReservedHeadersOfTheClient(t *testing.T) {
	onServers(t, func(t *testing.T, s *faultServer) {
		name := unique()
		s.stream(t, name)
		b := nats.New(s.url, quick()...)
		connectBroker(t, b)
		core := subscribe(t, b, nats.Subject(name+".orders"))
		stored := subscribe(t, b, nats.Stream(name+".orders", name).Durable("desk"))
		err := s.js.Conn().PublishMsg(&natsgo.Msg{Subject: name + ".orders", Header: natsgo.Header{
			"Status": {"503"}, "Nats-Msg-Id": {"raw-1"}, "Nats-Expected-Stream": {name}, "padded": {"x  "}, "a": {"1", "2"},
		}})
		if err != nil {
			t.Fatal(err)
		}
		w := headersWire{
			block:  "published by the client",
			shown:  map[string]string{"padded": "x", "a": "1|2"},
			native: map[string]string{"Status": "503", "Nats-Msg-Id": "raw-1", "Nats-Expected-Stream": name},
		}
		overCore := receive(t, core).(*nats.CoreMessage)
		w.check(t, overCore, overCore.Native, w.native)
		m := receive(t, stored).(*nats.Message)
		w.check(t, m, m.Native, w.native)
		if m.MsgID() != "raw-1" {
			t.Errorf("the message id is %q", m.MsgID())
		}
	})
}

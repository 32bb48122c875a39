package gostream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

// stand is an app under test, and a client of the same store that stands outside
// of the app. Everything is made in the test's bubble.
type stand struct {
	t      *testing.T
	store  *memory.Store
	broker *memory.Broker   // the app's
	client *memory.Broker   // ours
	app    *gostream.App    // with router mounted on broker
	router *gostream.Router // on which the test puts its handlers
	svc    *gostream.Service
	logs   *logText
}

// onStand runs f in a bubble of its own. A goroutine that is left at the end fails
// the test.
func onStand(t *testing.T, f func(t *testing.T, s *stand), opts ...gostream.AppOption) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { f(t, newStand(t, opts...)) })
}

func newStand(t *testing.T, opts ...gostream.AppOption) *stand {
	t.Helper()
	s := &stand{t: t, store: memory.NewStore(), router: gostream.NewRouter(), logs: new(logText)}
	s.broker, s.client = memory.New(memory.On(s.store)), memory.New(memory.On(s.store))
	log := slog.New(slog.NewTextHandler(s.logs, nil))
	s.app = gostream.New("test", "1.0.0", append([]gostream.AppOption{gostream.WithLogger(log)}, opts...)...)
	s.app.Mount(s.broker, s.router)
	if err := s.client.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.client.Shutdown(context.Background()) })
	return s
}

// start starts the app; it is stopped at the end of the test.
func (s *stand) start() {
	s.t.Helper()
	s.startWith(s.t.Context())
}

func (s *stand) startWith(ctx context.Context) {
	s.t.Helper()
	svc, err := s.app.Start(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	s.svc = svc
	s.t.Cleanup(s.stop)
}

// stop drains the app, which must be clean.
func (s *stand) stop() {
	s.t.Helper()
	if err := s.svc.Shutdown(context.Background()); err != nil {
		s.t.Errorf("Shutdown: %v", err)
	}
}

// send publishes a message from outside of the app and returns when everything
// stands still.
func (s *stand) send(name, payload string, headers ...broker.Header) {
	s.t.Helper()
	s.sendMessage(broker.OutgoingMessage{Name: name, Payload: []byte(payload), Headers: broker.NewHeaders(headers...)})
}

func (s *stand) sendMessage(msg broker.OutgoingMessage) {
	s.t.Helper()
	if err := s.client.Publisher().Publish(s.t.Context(), msg); err != nil {
		s.t.Fatal(err)
	}
	synctest.Wait()
}

// pass lets time pass, in the bubble.
func (s *stand) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// take returns all that waits at name, which no handler receives.
func (s *stand) take(name string) []broker.IncomingMessage {
	s.t.Helper()
	ctx := s.t.Context()
	sub, err := s.client.Subscribe(ctx, name)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = sub.Close(ctx) }()
	var all []broker.IncomingMessage
	for {
		n, err := broker.Lag(ctx, sub)
		if err != nil {
			s.t.Fatal(err)
		}
		if n == 0 {
			return all
		}
		m, err := sub.Receive(ctx)
		if err != nil {
			s.t.Fatal(err)
		}
		if err := m.Ack(ctx); err != nil {
			s.t.Fatal(err)
		}
		all = append(all, m)
	}
}

// takeOne returns what waits at name: exactly one message.
func (s *stand) takeOne(name string) broker.IncomingMessage {
	s.t.Helper()
	all := s.take(name)
	if len(all) != 1 {
		s.t.Fatalf("%d messages at %s, want 1\n%s", len(all), name, s.logs)
	}
	return all[0]
}

// wantLeft checks how many messages of name are not settled.
func (s *stand) wantLeft(name string, want int) {
	s.t.Helper()
	if got := s.store.Len(name); got != want {
		s.t.Errorf("%d messages of %s are unsettled, want %d\n%s", got, name, want, s.logs)
	}
}

// logText is a log that may be read while it is written.
type logText struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// lines are the lines that hold all of the texts.
func (l *logText) lines(texts ...string) []string {
	var found []string
	for line := range strings.Lines(l.String()) {
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
			found = append(found, line)
		}
	}
	return found
}

// field is a header field.
func field(key, value string) broker.Header { return broker.Header{Key: key, Value: value} }

// wantHeaders checks all headers, of which each key has one value. Those of dead
// letters are left out.
func wantHeaders(t *testing.T, what string, h broker.Headers, want map[string]string) {
	t.Helper()
	got := make(map[string]string)
	for k, v := range h.All() {
		if strings.HasPrefix(k, "gostream-dead-") {
			continue
		}
		if _, twice := got[k]; twice {
			t.Errorf("%s: %s has more than one value: %q", what, k, h.Values(k))
		}
		got[k] = v
	}
	if len(got) != len(want) || !reflect.DeepEqual(got, want) && len(want) > 0 {
		t.Errorf("%s: the headers are %q, want %q", what, got, want)
	}
}

type parcel struct {
	ID     string `json:"id"`
	Weight int    `json:"weight,omitempty"`
}

type receipt struct {
	Parcel string `json:"parcel"`
}

// unencodable is a type that passes App.Check and that JSON cannot encode.
type unencodable struct {
	Signal chan int `json:"signal"`
}

// csvCodec knows parcels as "id,weight".
type csvCodec struct{}

func (csvCodec) ContentType() string { return "text/csv" }

func (csvCodec) Append(dst []byte, v any) ([]byte, error) {
	switch p := v.(type) {
	case parcel:
		return fmt.Appendf(dst, "%s,%d", p.ID, p.Weight), nil
	case *parcel:
		return fmt.Appendf(dst, "%s,%d", p.ID, p.Weight), nil
	}
	return nil, fmt.Errorf("csv: no parcel but a %T", v)
}

func (csvCodec) Unmarshal(data []byte, v any) error {
	p, ok := v.(*parcel)
	if !ok {
		return fmt.Errorf("csv: no parcel but a %T", v)
	}
	id, weight, ok := strings.Cut(string(data), ",")
	if !ok {
		return errors.New("csv: no comma")
	}
	p.ID = id
	_, err := fmt.Sscan(weight, &p.Weight)
	return err
}

var errBroken = errors.New("broken")

// collect is a handler that appends what it gets.
func collect[T any](to *[]T) gostream.Handler {
	return gostream.Consume(func(_ context.Context, v T) error {
		*to = append(*to, v)
		return nil
	})
}

// consumed checks what a handler of T gets for the payload, and that it is acked.
func consumed[T any](t *testing.T, payload string, want T) {
	t.Helper()
	t.Run(reflect.TypeFor[T]().String(), func(t *testing.T) {
		onStand(t, func(t *testing.T, s *stand) {
			var got []T
			s.router.Handle("parcels", collect(&got))
			s.start()
			s.send("parcels", payload)
			if len(got) != 1 || !reflect.DeepEqual(got[0], want) {
				t.Errorf("got %+v, want %+v once", got, want)
			}
			s.wantLeft("parcels", 0)
		})
	})
}

func TestConsumeTypes(t *testing.T) {
	t.Parallel()
	const payload = `{"id":"p1","weight":3}`
	consumed(t, payload, parcel{"p1", 3})
	consumed(t, payload, &parcel{"p1", 3})
	consumed(t, payload, []byte(payload))
	consumed(t, payload, payload)
	consumed(t, payload, map[string]any{"id": "p1", "weight": 3.0})
	consumed[any](t, `[1]`, []any{1.0})
	consumed(t, payload, json.RawMessage(payload))
	consumed(t, "not JSON", "not JSON")
	consumed(t, "", "")
}

// enveloped checks the body that a handler of Message[T] gets.
func enveloped[T any](t *testing.T, payload string, want T) {
	t.Helper()
	t.Run(reflect.TypeFor[T]().String(), func(t *testing.T) {
		onStand(t, func(t *testing.T, s *stand) {
			var got []gostream.Message[T]
			s.router.Handle("parcels", collect(&got))
			s.start()
			s.send("parcels", payload)
			if len(got) != 1 || !reflect.DeepEqual(got[0].Body(), want) {
				t.Fatalf("got %+v, want %+v once", got, want)
			}
			if got[0].Name() != "parcels" {
				t.Errorf("Name is %q", got[0].Name())
			}
			s.wantLeft("parcels", 0)
		})
	})
}

func TestConsumeMessageTypes(t *testing.T) {
	t.Parallel()
	enveloped(t, `{"id":"p1"}`, parcel{ID: "p1"})
	enveloped(t, `{"id":"p1"}`, &parcel{ID: "p1"})
	enveloped(t, "\x00\xff", []byte("\x00\xff"))
	enveloped(t, "plain", "plain")
}

// An envelope that stands on the wrong side is found before the start.
func TestEnvelopeOnTheWrongSide(t *testing.T) {
	t.Parallel()
	b := memory.New()
	app := gostream.New("test", "1.0.0")
	r := gostream.NewRouter()
	app.Mount(b, r)
	r.Handle("consumed", gostream.Consume(func(context.Context, gostream.Outgoing[parcel]) error { return nil }))
	r.Handle("replied", gostream.Reply(func(context.Context, gostream.Outgoing[parcel]) (string, error) { return "", nil }).To("out"))
	r.Handle("replying", gostream.Reply(func(context.Context, string) (gostream.Message[parcel], error) {
		return gostream.Message[parcel]{}, nil
	}).To("out"))
	gostream.NewPublisher[gostream.Message[parcel]](app, b, "published")
	gostream.NewRequester[gostream.Message[parcel], string](app, b, "asked")
	gostream.NewRequester[string, gostream.Outgoing[parcel]](app, b, "answered")
	err := app.Check()
	if err == nil {
		t.Fatal("Check found nothing")
	}
	for what, want := range map[string]string{
		"consumed": "Outgoing[gostream_test.parcel]", "replied": "Outgoing[gostream_test.parcel]", "replying": "Message[gostream_test.parcel]",
		"published": "Message[gostream_test.parcel]", "asked": "Message[gostream_test.parcel]", "answered": "Outgoing[gostream_test.parcel]",
	} {
		found := false
		for line := range strings.Lines(err.Error()) {
			found = found || strings.Contains(line, `"`+what+`"`) && strings.Contains(line, ": a") && strings.Contains(line, want)
		}
		if !found {
			t.Errorf("nothing is said of %s:\n%v", what, err)
		}
	}
}

func TestMessageMethods(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var got []gostream.Message[parcel]
		var inCtx *gostream.Delivery
		s.router.HandleSource(memory.Pattern("parcels.*"), gostream.Consume(func(ctx context.Context, m gostream.Message[parcel]) error {
			got = append(got, m)
			inCtx, _ = gostream.DeliveryFrom(ctx)
			if m.Attempt() == 1 {
				return gostream.RetryAfter(time.Second, errBroken)
			}
			return nil
		}), gostream.Named("all-parcels"))
		s.start()
		s.sendMessage(broker.OutgoingMessage{
			Name: "parcels.eu", Key: []byte("k1"), Payload: []byte(`{"id":"p1","weight":3}`),
			Headers: broker.NewHeaders(field("Tag", "a"), field("tag", "b")),
		})
		s.pass(time.Second)

		if len(got) != 2 {
			t.Fatalf("called %d times, want 2", len(got))
		}
		for i, m := range got {
			if m.Body() != (parcel{"p1", 3}) {
				t.Errorf("Body is %+v", m.Body())
			}
			if m.Name() != "parcels.eu" {
				t.Errorf("Name is %q: not the concrete one", m.Name())
			}
			if string(m.Key()) != "k1" {
				t.Errorf("Key is %q", m.Key())
			}
			if m.Header("TAG") != "a" || m.Header("none") != "" {
				t.Errorf("Header answers %q and %q", m.Header("TAG"), m.Header("none"))
			}
			if !slices.Equal(m.Headers().Values("tag"), []string{"a", "b"}) {
				t.Errorf("Headers hold %q", m.Headers().Values("tag"))
			}
			if m.Attempt() != i+1 {
				t.Errorf("Attempt is %d, want %d", m.Attempt(), i+1)
			}
		}
		d := got[1].Delivery()
		if d != inCtx {
			t.Error("Delivery is not that of the context")
		}
		if d.Name() != "parcels.eu" || string(d.Payload()) != `{"id":"p1","weight":3}` || d.Attempt() != 2 {
			t.Errorf("the delivery is %q, %q, attempt %d", d.Name(), d.Payload(), d.Attempt())
		}
		if _, ok := d.Message().(*memory.Message); !ok {
			t.Errorf("the broker's message is a %T", d.Message())
		}
		sub := d.Subscription()
		if sub.Name() != "all-parcels" || sub.Source() != "parcels.*" || sub.Broker() != "memory" || sub.Group() != "" {
			t.Errorf("the subscription is %+v", *sub)
		}
	})
}

func TestMessageWithoutKey(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var got []gostream.Message[string]
		s.router.Handle("parcels", collect(&got))
		s.start()
		s.send("parcels", "x")
		if len(got) != 1 || got[0].Key() != nil {
			t.Errorf("got %d messages, the key is %q, want nil", len(got), got[0].Key())
		}
	})
}

func TestRaw(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var got []*gostream.Delivery
		s.router.Handle("parcels", gostream.Raw(func(ctx context.Context, d *gostream.Delivery) error {
			got = append(got, d)
			if in, ok := gostream.DeliveryFrom(ctx); !ok || in != d {
				t.Error("the delivery of the context is another one")
			}
			return nil
		}))
		s.start()
		s.send("parcels", "anything", field("content-type", "no/codec"))
		if len(got) != 1 || string(got[0].Payload()) != "anything" || got[0].Headers().ContentType() != "no/codec" {
			t.Errorf("got %+v", got)
		}
		s.wantLeft("parcels", 0)
	})
}

// replied checks what a reply of R becomes, and that the message is acked.
func replied[R any](t *testing.T, reply R, payload, contentType string) {
	t.Helper()
	t.Run(reflect.TypeFor[R]().String(), func(t *testing.T) {
		onStand(t, func(t *testing.T, s *stand) {
			s.router.Handle("parcels", gostream.Reply(func(context.Context, parcel) (R, error) { return reply, nil }).To("receipts"))
			s.start()
			s.send("parcels", `{"id":"p1"}`)
			m := s.takeOne("receipts")
			if string(m.Payload()) != payload {
				t.Errorf("the payload is %q, want %q", m.Payload(), payload)
			}
			if got := m.Headers().ContentType(); got != contentType {
				t.Errorf("the content type is %q, want %q", got, contentType)
			}
			if m.Headers().Has(broker.HeaderContentType) != (contentType != "") {
				t.Errorf("the headers are %v", m.Headers())
			}
			if key, _ := broker.PartitionKey(m); key != nil {
				t.Errorf("the key is %q, want none", key)
			}
			s.wantLeft("parcels", 0)
		})
	})
}

func TestReplyTypes(t *testing.T) {
	t.Parallel()
	const encoded, mediaType = `{"parcel":"p1"}`, "application/json"
	replied(t, receipt{"p1"}, encoded, mediaType)
	replied(t, &receipt{"p1"}, encoded, mediaType)
	replied[any](t, receipt{"p1"}, encoded, mediaType)
	replied(t, "plain", "plain", "")
	replied(t, []byte("\x00\xff"), "\x00\xff", "")
	replied(t, gostream.Outgoing[receipt]{Body: receipt{"p1"}}, encoded, mediaType)
	replied(t, gostream.Outgoing[*receipt]{Body: &receipt{"p1"}}, encoded, mediaType)
	replied(t, gostream.Outgoing[string]{Body: "plain"}, "plain", "")
	replied(t, gostream.Outgoing[[]byte]{Body: []byte("bytes")}, "bytes", "")
}

func TestReplyOutgoing(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		in := []broker.Header{field("message-id", "m1"), field("correlation-id", "c1"), field("traceparent", "t1")}
		own := map[string]string{"Content-Type": "application/x-own", "MESSAGE-ID": "own", "Correlation-Id": "own", "Traceparent": "own"}
		var ownHeaders broker.Headers
		for k, v := range own {
			ownHeaders = ownHeaders.With(k, v)
		}
		replies := map[string]gostream.Outgoing[receipt]{
			"more":    {Body: receipt{"p1"}, To: "elsewhere", Key: []byte("k1"), Headers: broker.NewHeaders(field("tag", "new"))},
			"own":     {Body: receipt{"p1"}, Headers: ownHeaders},
			"options": {Body: receipt{"p1"}, Options: 42},
		}
		s.router.Handle("parcels", gostream.Reply(func(_ context.Context, v string) (gostream.Outgoing[receipt], error) {
			return replies[v], nil
		}).To("receipts"))
		s.start()

		s.send("parcels", "more", in...)
		m := s.takeOne("elsewhere")
		if key, _ := broker.PartitionKey(m); string(key) != "k1" {
			t.Errorf("the key is %q", key)
		}
		wantHeaders(t, "with a header", m.Headers(), map[string]string{
			"tag": "new", "content-type": "application/json", "message-id": "m1/parcels", "correlation-id": "c1", "traceparent": "t1",
		})
		s.wantLeft("receipts", 0)

		s.send("parcels", "own", in...)
		wantHeaders(t, "overridden", s.takeOne("receipts").Headers(), own)

		s.send("parcels", "options") // memory has none, and says so
		if len(s.logs.lines("Options must be nil")) != 1 {
			t.Errorf("the options did not reach the broker:\n%s", s.logs)
		}
		s.wantLeft("parcels", 1)
	})
}

func TestReplyVia(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		elsewhere := memory.NewStore()
		other := memory.New(memory.On(elsewhere))
		s.app.Mount(other)
		via := s.app.RawPublisher(other)
		s.router.Handle("parcels", gostream.Reply(func(_ context.Context, v string) (string, error) { return v, nil }).To("receipts").Via(via))
		s.start()
		s.send("parcels", "x")
		s.wantLeft("receipts", 0)
		if n := elsewhere.Len("receipts"); n != 1 {
			t.Errorf("%d replies at the other broker, want 1", n)
		}
		s.wantLeft("parcels", 0)
	})
}

func TestReplyIgnored(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var outcomes []gostream.Outcome
		s.app.Observe(gostream.Observer{Settled: func(e gostream.SettledEvent) { outcomes = append(outcomes, e.Outcome) }})
		s.router.Handle("parcels", gostream.Reply(func(context.Context, string) (string, error) {
			return "not sent", gostream.Ignore(nil)
		}).To("receipts"))
		s.start()
		s.send("parcels", "x")
		s.wantLeft("receipts", 0)
		s.wantLeft("parcels", 0)
		if !slices.Equal(outcomes, []gostream.Outcome{gostream.OutcomeIgnored}) {
			t.Errorf("the outcomes are %v", outcomes)
		}
	})
}

func TestReplyHeaders(t *testing.T) {
	t.Parallel()
	const mediaType = "application/json"
	for name, tt := range map[string]struct {
		in   []broker.Header
		want map[string]string
	}{
		"nothing comes in": {nil, map[string]string{"content-type": mediaType}},
		"a correlation id": {
			[]broker.Header{field("correlation-id", "c1")},
			map[string]string{"content-type": mediaType, "correlation-id": "c1"},
		},
		"a message id alone": {
			[]broker.Header{field("message-id", "m1")},
			map[string]string{"content-type": mediaType, "correlation-id": "m1", "message-id": "m1/parcels"},
		},
		"both ids": {
			[]broker.Header{field("Message-Id", "m1"), field("Correlation-Id", "c1")},
			map[string]string{"content-type": mediaType, "correlation-id": "c1", "message-id": "m1/parcels"},
		},
		"trace context": {
			[]broker.Header{field("traceparent", "tp"), field("TraceState", "ts"), field("baggage", "b")},
			map[string]string{"content-type": mediaType, "traceparent": "tp", "tracestate": "ts", "baggage": "b"},
		},
		"what does not go on": {
			[]broker.Header{
				field("content-type", "application/json; charset=utf-8"), field("reply-to", "nowhere"), field("authorization", "secret"),
				field("gostream-error", "old"), field("gostream-dead-reason", "old"), field("gostream-key", "k"),
			},
			map[string]string{"content-type": mediaType},
		},
	} {
		t.Run(name, func(t *testing.T) {
			onStand(t, func(t *testing.T, s *stand) {
				s.router.Handle("parcels", gostream.Reply(func(_ context.Context, p parcel) (receipt, error) {
					return receipt{p.ID}, nil
				}).To("receipts"))
				s.start()
				s.send("parcels", `{"id":"p1"}`, tt.in...)
				wantHeaders(t, "the reply", s.takeOne("receipts").Headers(), tt.want)
			})
		})
	}
}

// A raw reply has no content type, and else the same headers.
func TestRawReplyHeaders(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		s.router.Handle("parcels", gostream.Reply(func(_ context.Context, v []byte) ([]byte, error) { return v, nil }).To("receipts"))
		s.start()
		s.send("parcels", "x", field("message-id", "m1"), field("content-type", "text/plain"))
		wantHeaders(t, "the reply", s.takeOne("receipts").Headers(), map[string]string{"correlation-id": "m1", "message-id": "m1/parcels"})
		s.send("parcels", "x", field("correlation-id", "c1"))
		wantHeaders(t, "the reply without a message id", s.takeOne("receipts").Headers(), map[string]string{"correlation-id": "c1"})
		s.send("parcels", "x")
		wantHeaders(t, "the reply to nothing", s.takeOne("receipts").Headers(), nil)
	})
}

func TestReplyMessageID(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		calls := 0
		answer := func(context.Context, string) (string, error) { return "r", nil }
		// The reply of the first attempt goes out, and then the attempt fails.
		twice := gostream.NewRouter()
		twice.Use(func(next gostream.Next) gostream.Next {
			return func(ctx context.Context, b *gostream.Batch) error {
				err := next(ctx, b)
				if calls++; calls%2 == 1 {
					return gostream.RetryAfter(time.Second, errBroken)
				}
				return err
			}
		})
		twice.Handle("parcels", gostream.Reply(answer).To("receipts.a"), gostream.Named("a"))
		s.router.Include(twice)
		s.router.Handle("parcels", gostream.Reply(answer).To("receipts.b"), gostream.Named("b"))
		s.start()

		idOf := func(m broker.IncomingMessage) string { return m.Headers().MessageID() }
		short, long := "m1", strings.Repeat("l", 1000)
		for _, id := range []string{short, long, long + "2"} {
			s.send("parcels", "x", field("message-id", id))
			s.pass(time.Second)
		}
		a, b := s.take("receipts.a"), s.take("receipts.b")
		if len(a) != 6 || len(b) != 3 {
			t.Fatalf("%d and %d replies, want 6 and 3", len(a), len(b))
		}
		seen := map[string]bool{}
		for i := range b {
			first, again, other := idOf(a[2*i]), idOf(a[2*i+1]), idOf(b[i])
			if first != again {
				t.Errorf("the repeated reply has the id %q, the first one %q", again, first)
			}
			for _, id := range []string{first, other} {
				if id == "" || len(id) > 256 || seen[id] {
					t.Errorf("the id %q is empty, too long or not its own", id)
				}
				seen[id] = true
			}
		}
		if first := idOf(a[0]); !strings.HasPrefix(first, short+"/") {
			t.Errorf("the id %q does not show where it comes from", first)
		}
	})
}

func TestReplyComesBeforeAck(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		calls, unsettled := 0, -1
		var mended atomic.Bool
		var seen error
		s.app.UsePublish(func(next gostream.PublishNext) gostream.PublishNext {
			return func(ctx context.Context, msgs []broker.OutgoingMessage) error {
				unsettled = s.store.Len("parcels")
				if !mended.Load() {
					return errBroken
				}
				return next(ctx, msgs)
			}
		})
		s.app.Use(func(next gostream.Next) gostream.Next {
			return func(ctx context.Context, b *gostream.Batch) error {
				seen = next(ctx, b)
				return seen
			}
		})
		s.router.Handle("parcels", gostream.Reply(func(context.Context, string) (string, error) {
			calls++
			return "r", nil
		}).To("receipts"), gostream.OnError(gostream.Is(errBroken).Retry(gostream.Constant(time.Second))))
		s.start()
		s.send("parcels", "x")
		s.pass(2 * time.Second)
		if calls != 3 {
			t.Errorf("called %d times, want 3: the reply was not published", calls)
		}
		var re *gostream.ReplyError
		if !errors.As(seen, &re) || re.Name != "receipts" || !errors.Is(seen, errBroken) {
			t.Errorf("the middleware saw %v, want a ReplyError", seen)
		}
		s.wantLeft("parcels", 1)

		mended.Store(true)
		s.pass(time.Second)
		if unsettled != 1 {
			t.Errorf("%d messages were unsettled while the reply was published, want 1", unsettled)
		}
		s.takeOne("receipts")
		s.wantLeft("parcels", 0)
	})
}

// failingJSON is a value that refuses to be encoded.
type failingJSON struct{}

func (failingJSON) MarshalJSON() ([]byte, error) { return nil, errBroken }

// unsendable checks that a reply that cannot be encoded is an ordinary failure.
func unsendable[R any](t *testing.T, reply R, opts ...gostream.HandleOption) {
	t.Helper()
	t.Run(reflect.TypeFor[R]().String(), func(t *testing.T) {
		onStand(t, func(t *testing.T, s *stand) {
			calls := 0
			var seen error
			s.router.Handle("parcels", gostream.Reply(func(context.Context, string) (R, error) {
				calls++
				return reply, nil
			}).To("receipts"), append(opts, gostream.DeadLetterTo("dead"))...)
			s.router.Use(func(next gostream.Next) gostream.Next {
				return func(ctx context.Context, b *gostream.Batch) error {
					seen = next(ctx, b)
					return seen
				}
			})
			s.start()
			s.send("parcels", "x")
			s.pass(time.Minute)
			if calls != gostream.DefaultAttempts {
				t.Errorf("called %d times, want %d", calls, gostream.DefaultAttempts)
			}
			var re *gostream.ReplyError
			if !errors.As(seen, &re) || re.Name != "receipts" {
				t.Errorf("the middleware saw %v, want a ReplyError", seen)
			}
			m := s.takeOne("dead")
			if got := m.Headers().Get(gostream.HeaderDeadReason); got != "attempts exhausted" {
				t.Errorf("the reason is %q", got)
			}
			if got := m.Headers().Get(gostream.HeaderDeadError); !strings.Contains(got, "receipts") {
				t.Errorf("the error is %q", got)
			}
			s.wantLeft("receipts", 0)
			s.wantLeft("parcels", 0)
		})
	})
}

func TestReplyUnencodable(t *testing.T) {
	t.Parallel()
	unsendable(t, unencodable{make(chan int)})
	unsendable(t, failingJSON{})
	unsendable(t, gostream.Outgoing[failingJSON]{})
	unsendable(t, receipt{}, gostream.WithCodec(panickingCodec{}))
}

// panickingCodec decodes nothing and panics when it encodes.
type panickingCodec struct{ csvCodec }

func (panickingCodec) Append([]byte, any) ([]byte, error) { panic("codec") }

func TestToReplyTo(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		calls := 0
		s.router.Handle("prices", gostream.Reply(func(_ context.Context, v string) (string, error) {
			calls++
			return "price of " + v, nil
		}).ToReplyTo(), gostream.DeadLetterTo("dead"))
		s.start()
		s.send("prices", "tea", field("reply-to", "answers"))
		if m := s.takeOne("answers"); string(m.Payload()) != "price of tea" {
			t.Errorf("the reply is %q", m.Payload())
		}

		s.send("prices", "nobody asks")
		s.pass(time.Minute)
		if calls != 1 {
			t.Errorf("called %d times, want 1: without a reply-to the handler is not called", calls)
		}
		m := s.takeOne("dead")
		if string(m.Payload()) != "nobody asks" {
			t.Errorf("the dead letter holds %q", m.Payload())
		}
		for key, want := range map[string]string{
			gostream.HeaderDeadReason:   "attempts exhausted",
			gostream.HeaderDeadAttempts: "5",
			gostream.HeaderDeadError:    gostream.ErrNoReplyTo.Error(),
		} {
			if got := m.Headers().Get(key); got != want {
				t.Errorf("%s is %q, want %q", key, got, want)
			}
		}
		s.wantLeft("prices", 0)
	})
}

func TestNoReplyToByRule(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		s.router.Handle("prices", gostream.Reply(func(_ context.Context, v string) (string, error) {
			t.Error("the handler was called")
			return v, nil
		}).ToReplyTo(), gostream.OnError(gostream.Is(gostream.ErrNoReplyTo).Reject()))
		s.start()
		s.send("prices", "nobody asks")
		s.wantLeft("prices", 0)
	})
}

// An Outgoing names its own destination: it needs no reply-to, and goes before it.
func TestOutgoingToReplyTo(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var to string
		s.router.Handle("prices", gostream.Reply(func(context.Context, string) (gostream.Outgoing[string], error) {
			return gostream.Outgoing[string]{Body: "r", To: to}, nil
		}).ToReplyTo(), gostream.OnError(gostream.Is(gostream.ErrNoReplyTo).DeadLetterTo("dead")))
		s.start()
		for _, tt := range []struct{ replyTo, to, want string }{
			{"answers", "", "answers"},
			{"answers", "elsewhere", "elsewhere"},
			{"", "elsewhere", "elsewhere"},
			{"", "", "dead"},
		} {
			to = tt.to
			var headers []broker.Header
			if tt.replyTo != "" {
				headers = append(headers, field("reply-to", tt.replyTo))
			}
			s.send("prices", "x", headers...)
			if m := s.takeOne(tt.want); (tt.want == "dead") != m.Headers().Has(gostream.HeaderDeadReason) {
				t.Errorf("%+v: the message there is %v", tt, m.Headers())
			}
			for _, name := range []string{"prices", "answers", "elsewhere", "dead"} {
				s.wantLeft(name, 0)
			}
		}
	})
}

func TestUndecodableDeadLetter(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		s.router.Handle("parcels", gostream.Consume(func(context.Context, parcel) error {
			t.Error("the handler was called")
			return nil
		}), gostream.DeadLetterTo("dead"), gostream.Named("sorter"))
		s.start()
		begun := time.Now().UTC()
		s.sendMessage(broker.OutgoingMessage{
			Name: "parcels", Key: []byte("k1"), Payload: []byte("{not JSON"),
			Headers: broker.NewHeaders(field("Tag", "a"), field("message-id", "m1"), field("reply-to", "r"), field("content-type", "application/json"), field(gostream.HeaderDeadReason, "from before")),
		})
		m := s.takeOne("dead") // at once: no time has passed
		if string(m.Payload()) != "{not JSON" {
			t.Errorf("the payload is %q", m.Payload())
		}
		if key, _ := broker.PartitionKey(m); string(key) != "k1" {
			t.Errorf("the key is %q", key)
		}
		wantHeaders(t, "the dead letter", m.Headers(), map[string]string{"Tag": "a", "message-id": "m1", "reply-to": "r", "content-type": "application/json"})
		for key, want := range map[string]string{
			gostream.HeaderDeadReason:       "undecodable",
			gostream.HeaderDeadSource:       "parcels",
			gostream.HeaderDeadSubscription: "sorter",
			gostream.HeaderDeadAttempts:     "1",
			gostream.HeaderDeadTime:         begun.Format(time.RFC3339),
		} {
			if got := m.Headers().Values(key); !slices.Equal(got, []string{want}) {
				t.Errorf("%s is %q, want %q", key, got, want)
			}
		}
		if got := m.Headers().Get(gostream.HeaderDeadError); !strings.Contains(got, "undecodable") || strings.Contains(got, "{not JSON") {
			t.Errorf("the error is %q", got)
		}
		s.wantLeft("parcels", 0)
	})
}

func TestUndecodableIsKept(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var tries []time.Time
		s.app.Observe(gostream.Observer{Settled: func(e gostream.SettledEvent) {
			tries = append(tries, time.Now())
			var ue *gostream.UndecodableError
			if e.Outcome != gostream.OutcomeRetried || !errors.Is(e.Err, gostream.ErrUndecodable) || !errors.As(e.Err, &ue) {
				t.Errorf("settled as %v with %v", e.Outcome, e.Err)
			}
		}})
		s.router.Handle("parcels", gostream.Consume(func(context.Context, parcel) error {
			t.Error("the handler was called")
			return nil
		}))
		s.start()
		s.send("parcels", "{not JSON")
		s.pass(10 * time.Minute)
		if n := len(tries); n < 9 || n > 11 {
			t.Errorf("tried %d times in ten minutes, want one a minute, more or less", n)
		}
		for i := 1; i < len(tries); i++ {
			if d := tries[i].Sub(tries[i-1]); d < time.Minute || d > 72*time.Second {
				t.Errorf("try %d came %v after the one before it, want a minute and at most a fifth more", i+1, d)
			}
		}
		s.wantLeft("parcels", 1)
		if len(s.logs.lines("undecodable")) != len(tries) {
			t.Errorf("the log does not say what is wrong:\n%s", s.logs)
		}
	})
}

func TestUndecodableReject(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var outcomes []gostream.Outcome
		s.app.Observe(gostream.Observer{Settled: func(e gostream.SettledEvent) { outcomes = append(outcomes, e.Outcome) }})
		s.router.Handle("parcels", gostream.Consume(func(context.Context, parcel) error {
			t.Error("the handler was called")
			return nil
		}), gostream.OnUndecodable(gostream.UndecodableReject), gostream.DeadLetterTo("dead"))
		s.start()
		s.send("parcels", "{not JSON")
		s.wantLeft("parcels", 0)
		s.wantLeft("dead", 0)
		if !slices.Equal(outcomes, []gostream.Outcome{gostream.OutcomeRejected}) {
			t.Errorf("the outcomes are %v", outcomes)
		}
		if len(s.logs.lines("level=ERROR", "undecodable")) != 1 {
			t.Errorf("what was thrown away is not in the log:\n%s", s.logs)
		}
	})
}

func TestContentTypes(t *testing.T) {
	t.Parallel()
	const asJSON, asCSV = `{"id":"p1","weight":3}`, "p1,3"
	for _, tt := range []struct {
		contentType, payload string
		ok                   bool
	}{
		{"", asJSON, true},
		{"application/json", asJSON, true},
		{"Application/JSON", asJSON, true},
		{"application/json; charset=utf-8", asJSON, true},
		{" application/json ;charset=utf-8", asJSON, true},
		{"text/csv", asCSV, true},
		{"Text/CSV; header=absent", asCSV, true},
		{"text/csv", asJSON, false},
		{"application/json", asCSV, false},
		{"", asCSV, false},
		{"application/xml", asJSON, false},
		{"application/jsonx", asJSON, false},
	} {
		t.Run(tt.contentType+" "+tt.payload, func(t *testing.T) {
			onStand(t, func(t *testing.T, s *stand) {
				s.router.Handle("parcels", gostream.Reply(func(_ context.Context, p parcel) (parcel, error) {
					if p != (parcel{"p1", 3}) {
						t.Errorf("got %+v", p)
					}
					return p, nil
				}).To("receipts"), gostream.Codecs(csvCodec{}), gostream.DeadLetterTo("dead"))
				s.start()
				var headers []broker.Header
				if tt.contentType != "" {
					headers = append(headers, field("content-type", tt.contentType))
				}
				s.send("parcels", tt.payload, headers...)
				if !tt.ok {
					m := s.takeOne("dead")
					if got := m.Headers().Get(gostream.HeaderDeadReason); got != "undecodable" {
						t.Errorf("the reason is %q", got)
					}
					if got := m.Headers().Get(gostream.HeaderDeadError); tt.contentType != "" && !strings.Contains(got, tt.contentType) {
						t.Errorf("the error %q does not say the content type", got)
					}
					return
				}
				// Replies are always encoded by the main codec.
				m := s.takeOne("receipts")
				if string(m.Payload()) != asJSON || m.Headers().ContentType() != "application/json" {
					t.Errorf("the reply is %q as %q", m.Payload(), m.Headers().ContentType())
				}
			})
		})
	}
}

func TestWithCodec(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		echo := gostream.Reply(func(_ context.Context, p parcel) (parcel, error) { return p, nil })
		byRouter := gostream.NewRouter(gostream.WithCodec(csvCodec{}))
		byRouter.Handle("by.router", echo.To("replies"))
		byRouter.Handle("by.subscription", echo.To("replies"), gostream.WithCodec(gostream.JSON))
		s.router.Include(byRouter)
		s.start()
		for _, tt := range []struct{ name, payload, contentType string }{
			{"by.router", "p1,3", "text/csv"},
			{"by.subscription", `{"id":"p1","weight":3}`, "application/json"},
		} {
			s.send(tt.name, tt.payload)
			m := s.takeOne("replies")
			if string(m.Payload()) != tt.payload || m.Headers().ContentType() != tt.contentType {
				t.Errorf("%s: the reply is %q as %q", tt.name, m.Payload(), m.Headers().ContentType())
			}
		}
	})
}

func TestTimeoutBoundsTheFunction(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var cause error
		var took time.Duration
		s.app.Use(func(next gostream.Next) gostream.Next {
			return func(ctx context.Context, b *gostream.Batch) error {
				if _, ok := ctx.Deadline(); ok {
					t.Error("the middleware's context has a deadline")
				}
				err := next(ctx, b)
				if ctx.Err() != nil {
					t.Errorf("the middleware's context has ended: %v", ctx.Err())
				}
				return err
			}
		})
		s.app.UsePublish(func(next gostream.PublishNext) gostream.PublishNext {
			return func(ctx context.Context, msgs []broker.OutgoingMessage) error {
				if ctx.Err() != nil {
					t.Errorf("the context of the reply has ended: %v", ctx.Err())
				}
				time.Sleep(time.Minute)
				return next(ctx, msgs)
			}
		})
		s.router.Handle("parcels", gostream.Reply(func(ctx context.Context, _ string) (string, error) {
			begun := time.Now()
			if d, ok := ctx.Deadline(); !ok || d.Sub(begun) != 5*time.Second {
				t.Errorf("the deadline is %v", d)
			}
			<-ctx.Done()
			cause, took = context.Cause(ctx), time.Since(begun)
			return "late", nil
		}).To("receipts"), gostream.Timeout(5*time.Second))
		s.start()
		s.send("parcels", "x")
		s.pass(2 * time.Minute)
		if !errors.Is(cause, gostream.ErrHandlerTimeout) || took != 5*time.Second {
			t.Errorf("the context ended after %v because of %v", took, cause)
		}
		s.takeOne("receipts")
		s.wantLeft("parcels", 0)
	})
}

func TestTimeoutHoldsForEachAttempt(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		calls := 0
		s.router.Handle("parcels", gostream.Consume(func(ctx context.Context, _ string) error {
			if calls++; calls == 3 {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}), gostream.Timeout(time.Second), gostream.OnError(gostream.Is(context.DeadlineExceeded).Retry(gostream.Constant(time.Second))))
		s.start()
		s.send("parcels", "x")
		s.pass(3 * time.Second)
		s.wantLeft("parcels", 1)
		s.pass(time.Second) // 1 s of each attempt and 1 s after it, twice
		s.wantLeft("parcels", 0)
		if calls != 3 {
			t.Errorf("called %d times, want 3", calls)
		}
	})
}

// trace is a middleware that writes down when it is entered and left.
func trace(to *[]string, name string) gostream.Middleware {
	return func(next gostream.Next) gostream.Next {
		return func(ctx context.Context, b *gostream.Batch) error {
			*to = append(*to, name)
			err := next(ctx, b)
			*to = append(*to, fmt.Sprintf("%s: %v", name, err))
			return err
		}
	}
}

func TestMiddlewareOrder(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var got []string
		inner := gostream.NewRouter()
		inner.Handle("parcels", gostream.Consume(func(context.Context, string) error {
			got = append(got, "handler")
			return gostream.Ignore(errBroken)
		}))
		inner.Use(trace(&got, "inner"))
		s.router.Include(inner)
		s.router.Use(trace(&got, "router 1"), trace(&got, "router 2"))
		s.router.Handle("outer", gostream.Consume(func(context.Context, string) error { return nil }))
		s.app.Use(trace(&got, "app 1"))
		s.app.Use(trace(&got, "app 2"))
		s.start()

		s.send("parcels", "x")
		want := []string{
			"app 1", "app 2", "router 1", "router 2", "inner", "handler",
			"inner: ignore: broken", "router 2: ignore: broken", "router 1: ignore: broken", "app 2: ignore: broken", "app 1: ignore: broken",
		}
		if !slices.Equal(got, want) {
			t.Errorf("the order is\n%q, want\n%q", got, want)
		}
		got = nil
		s.send("outer", "x")
		want = []string{"app 1", "app 2", "router 1", "router 2", "router 2: <nil>", "router 1: <nil>", "app 2: <nil>", "app 1: <nil>"}
		if !slices.Equal(got, want) {
			t.Errorf("of the outer router the order is\n%q, want\n%q", got, want)
		}
	})
}

func TestMiddlewareIsMadeOncePerSubscription(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		made := 0
		s.app.Use(func(next gostream.Next) gostream.Next {
			made++
			return next
		})
		s.router.Handle("a", gostream.Consume(func(context.Context, string) error { return nil }), gostream.Workers(4))
		s.router.Handle("b", gostream.Consume(func(context.Context, string) error { return nil }))
		s.start()
		for range 10 {
			s.send("a", "x")
			s.send("b", "x")
		}
		if made != 2 {
			t.Errorf("the middleware was made %d times, want 2", made)
		}
	})
}

func throwInHandler() { panic(errBroken) }

func TestMiddlewareSeesThePanic(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var seen error
		s.app.Use(func(next gostream.Next) gostream.Next {
			return func(ctx context.Context, b *gostream.Batch) error {
				seen = next(ctx, b)
				return gostream.Ignore(seen)
			}
		})
		s.router.Handle("parcels", gostream.Consume(func(context.Context, string) error {
			throwInHandler()
			return nil
		}))
		s.start()
		s.send("parcels", "x")
		var p *gostream.PanicError
		if !errors.As(seen, &p) || p.Value != any(errBroken) || !errors.Is(seen, errBroken) {
			t.Fatalf("the middleware saw %v", seen)
		}
		if !strings.Contains(string(p.Stack), "throwInHandler") {
			t.Errorf("the stack is not that of the panic:\n%s", p.Stack)
		}
		s.wantLeft("parcels", 0)
	})
}

func TestMiddlewarePanics(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		s.app.Use(func(gostream.Next) gostream.Next {
			return func(context.Context, *gostream.Batch) error { panic("middleware") }
		})
		s.router.Handle("parcels", gostream.Consume(func(context.Context, string) error { return nil }),
			gostream.OnError(gostream.As[*gostream.PanicError]().DeadLetterTo("dead")))
		s.start()
		s.send("parcels", "1")
		s.send("parcels", "2") // the receiver lives
		dead := s.take("dead")
		if len(dead) != 2 {
			t.Fatalf("%d dead letters, want 2\n%s", len(dead), s.logs)
		}
		h := dead[0].Headers()
		if h.Get(gostream.HeaderDeadReason) != "panic" || h.Get(gostream.HeaderDeadError) != "panic: middleware" {
			t.Errorf("the dead letter says %q, %q", h.Get(gostream.HeaderDeadReason), h.Get(gostream.HeaderDeadError))
		}
	})
}

// freshBody checks that a second call of next decodes into an empty body.
func freshBody[T any](t *testing.T, payload string, spoil func(T), want T) {
	t.Helper()
	t.Run(reflect.TypeFor[T]().String(), func(t *testing.T) {
		onStand(t, func(t *testing.T, s *stand) {
			var got []T
			handle := func(v T) {
				if !reflect.DeepEqual(v, want) {
					t.Errorf("call %d got %+v, want %+v", len(got)+1, v, want)
				}
				got = append(got, v)
				spoil(v)
			}
			s.app.Use(func(next gostream.Next) gostream.Next {
				return func(ctx context.Context, b *gostream.Batch) error {
					return errors.Join(next(ctx, b), next(ctx, b))
				}
			})
			s.router.Handle("consumed", gostream.Consume(func(_ context.Context, v T) error {
				handle(v)
				return nil
			}))
			s.router.Handle("replied", gostream.Reply(func(_ context.Context, v T) (string, error) {
				handle(v)
				return fmt.Sprint(len(got)), nil
			}).To("replies"))
			s.start()
			s.send("consumed", payload)
			s.send("replied", payload)
			if len(got) != 4 {
				t.Errorf("called %d times, want 4", len(got))
			}
			if replies := s.take("replies"); len(replies) != 2 || string(replies[0].Payload()) != "3" || string(replies[1].Payload()) != "4" {
				t.Errorf("%d replies", len(replies))
			}
			s.wantLeft("consumed", 0)
			s.wantLeft("replied", 0)
		})
	})
}

func TestMiddlewareCallsNextTwice(t *testing.T) {
	t.Parallel()
	freshBody(t, `{"a":1}`, func(m map[string]int) { m["b"] = 2 }, map[string]int{"a": 1})
	freshBody(t, `{"id":"p1"}`, func(p *parcel) { p.Weight = 7 }, &parcel{ID: "p1"})
	freshBody(t, `[[1],[2]]`, func(v [][]int) { v[0][0] = 7 }, [][]int{{1}, {2}})
}

func TestMiddlewareSwallowsAnError(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var outcomes []gostream.Outcome
		s.app.Observe(gostream.Observer{Settled: func(e gostream.SettledEvent) { outcomes = append(outcomes, e.Outcome) }})
		s.app.Use(func(next gostream.Next) gostream.Next {
			return func(ctx context.Context, b *gostream.Batch) error {
				_ = next(ctx, b)
				return nil
			}
		})
		s.router.Handle("parcels", gostream.Reply(func(context.Context, parcel) (string, error) { return "r", errBroken }).To("receipts"))
		s.start()
		s.send("parcels", `{}`)
		s.send("parcels", `{not JSON`)
		s.wantLeft("parcels", 0)
		s.wantLeft("receipts", 0)
		if !slices.Equal(outcomes, []gostream.Outcome{gostream.OutcomeAcked, gostream.OutcomeAcked}) {
			t.Errorf("the outcomes are %v", outcomes)
		}
	})
}

// A middleware that does not call next decides alone.
func TestMiddlewareAnswersItself(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		s.app.Use(func(gostream.Next) gostream.Next {
			return func(context.Context, *gostream.Batch) error { return gostream.Reject(errBroken) }
		})
		s.router.Handle("parcels", gostream.Consume(func(context.Context, string) error {
			t.Error("the handler was called")
			return nil
		}))
		s.start()
		s.send("parcels", "x")
		s.wantLeft("parcels", 0)
	})
}

func TestBatchOfOne(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		calls := 0
		s.app.Use(func(next gostream.Next) gostream.Next {
			return func(ctx context.Context, b *gostream.Batch) error {
				calls++
				if b.Len() != 1 {
					t.Errorf("Len is %d", b.Len())
				}
				d, ok := gostream.DeliveryFrom(ctx)
				if !ok || b.At(0) != d || string(d.Payload()) != "x" {
					t.Errorf("At(0) is %v, the context's delivery %v", b.At(0), d)
				}
				if b.Subscription() != d.Subscription() || b.Subscription().Name() != "sorter" || b.Subscription().Group() != "workers" {
					t.Errorf("Subscription is %+v", *b.Subscription())
				}
				func() {
					defer func() {
						if r := recover(); r == nil || !strings.Contains(fmt.Sprint(r), "At(1)") {
							t.Errorf("At(1) of a batch of one: %v", r)
						}
					}()
					b.At(1)
				}()
				return next(ctx, b)
			}
		})
		s.router.HandleSource(memory.Queue("parcels", "workers"), gostream.Raw(func(context.Context, *gostream.Delivery) error { return nil }), gostream.Named("sorter"))
		s.start()
		s.send("parcels", "x")
		if calls != 1 {
			t.Errorf("the middleware was called %d times", calls)
		}
	})
}

type ctxKey struct{}

func TestDeliveryFrom(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		ctx := context.WithValue(t.Context(), ctxKey{}, "from Start")
		var kept context.Context
		s.router.Handle("parcels", gostream.Raw(func(ctx context.Context, d *gostream.Delivery) error {
			derived, cancel := context.WithTimeout(context.WithValue(ctx, ctxKey{}, "own"), time.Second)
			defer cancel()
			for _, c := range []context.Context{ctx, derived, context.WithoutCancel(derived)} {
				if got, ok := gostream.DeliveryFrom(c); !ok || got != d {
					t.Errorf("DeliveryFrom(%v) is %p, %v, want %p", c, got, ok, d)
				}
			}
			if v := ctx.Value(ctxKey{}); v != "from Start" {
				t.Errorf("the value of Start's context is %v", v)
			}
			kept = ctx
			return nil
		}))
		s.startWith(ctx)
		s.send("parcels", "x")
		for _, c := range []context.Context{ctx, context.Background()} {
			if d, ok := gostream.DeliveryFrom(c); ok || d != nil {
				t.Errorf("outside of a handler: %v, %v", d, ok)
			}
		}
		if d, ok := gostream.DeliveryFrom(kept); !ok || string(d.Payload()) != "x" {
			t.Error("a context that was kept has lost its delivery")
		}
		if kept.Err() != nil {
			t.Errorf("the handler's context ended with its attempt: %v", kept.Err())
		}
		s.stop()
		if kept.Err() == nil {
			t.Error("the handler's context outlives the service")
		}
	})
}

// Start's context bounds the start alone.
func TestStartContextEnds(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		ctx, cancel := context.WithCancel(t.Context())
		calls := 0
		s.router.Handle("parcels", gostream.Consume(func(ctx context.Context, _ string) error {
			calls++
			return ctx.Err()
		}))
		s.startWith(ctx)
		cancel()
		s.send("parcels", "x")
		if calls != 1 {
			t.Errorf("called %d times, want 1", calls)
		}
		s.wantLeft("parcels", 0)
	})
}

// A context that is derived from the handler's is linked to its parent without a
// goroutine, and is cancelled with it.
func TestDerivedContextStartsNoGoroutine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newStand(t, gostream.ShutdownTimeout(time.Second))
		var cause error
		s.router.Handle("parcels", gostream.Consume(func(ctx context.Context, _ string) error {
			derived, cancel := context.WithTimeout(ctx, time.Hour)
			defer cancel()
			if started := goroutinesOf("propagateCancel"); len(started) > 0 {
				t.Errorf("context.WithTimeout started a goroutine:\n%s", started[0])
			}
			<-derived.Done()
			cause = context.Cause(derived)
			return nil
		}), gostream.Timeout(time.Minute))
		s.start()
		s.send("parcels", "x")
		s.stop()
		if !errors.Is(cause, gostream.ErrShutdownTimeout) {
			t.Errorf("the derived context ended because of %v, want ErrShutdownTimeout", cause)
		}
	})
}

// goroutinesOf returns the stacks of the goroutines that the calling one started in
// a function whose name holds what.
func goroutinesOf(what string) []string {
	buf := make([]byte, 1<<16)
	self, _, _ := strings.Cut(strings.TrimPrefix(string(buf[:runtime.Stack(buf, false)]), "goroutine "), " ")
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	var found []string
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		_, by, _ := strings.Cut(stack, "created by ")
		by, _, _ = strings.Cut(by, "\n")
		if strings.Contains(by, what) && strings.HasSuffix(by, "in goroutine "+self) {
			found = append(found, stack)
		}
	}
	return found
}

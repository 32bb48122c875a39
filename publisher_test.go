package gostream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

func outgoing(name, payload string, headers ...broker.Header) broker.OutgoingMessage {
	return broker.OutgoingMessage{Name: name, Payload: []byte(payload), Headers: broker.NewHeaders(headers...)}
}

// payloads are those of the messages, as text.
func payloads(ms []broker.IncomingMessage) []string {
	var texts []string
	for _, m := range ms {
		texts = append(texts, string(m.Payload()))
	}
	return texts
}

func TestPublisherFollowsTheApp(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		typed := gostream.NewPublisher[parcel](s.app, s.broker, "parcels")
		raw := s.app.RawPublisher(s.broker)
		asks := gostream.NewRequester[string, string](s.app, s.broker, "prices")
		calls := map[string]func() error{
			"Publish":          func() error { return typed.Publish(t.Context(), parcel{}) },
			"PublishBatch":     func() error { return typed.PublishBatch(t.Context(), []parcel{{}, {}}) },
			"raw Publish":      func() error { return raw.Publish(t.Context(), outgoing("parcels", "x")) },
			"raw PublishBatch": func() error { return raw.PublishBatch(t.Context(), []broker.OutgoingMessage{outgoing("parcels", "x")}) },
			"Request": func() error {
				_, err := asks.Request(t.Context(), "x")
				return err
			},
		}
		want := func(when string, target error) {
			t.Helper()
			for name, call := range calls {
				if err := call(); !errors.Is(err, target) {
					t.Errorf("%s %s: %v, want %v", name, when, err, target)
				}
			}
		}
		s.app.OnStartup(func(context.Context) error {
			want("in OnStartup", broker.ErrNotConnected)
			return nil
		})
		s.app.AfterStartup(func(context.Context) error {
			want("in AfterStartup", nil)
			return nil
		})
		s.app.OnShutdown(func(context.Context) error {
			want("in OnShutdown", nil)
			return nil
		})
		s.router.Handle("prices", gostream.Reply(func(_ context.Context, v string) (string, error) { return v, nil }).ToReplyTo())

		want("before Start", broker.ErrNotConnected)
		s.wantLeft("parcels", 0)
		s.start()
		s.wantLeft("parcels", 5)
		s.stop()
		s.wantLeft("parcels", 10)
		want("after Shutdown", broker.ErrClosed)
		s.wantLeft("parcels", 10)
	})
}

func TestPublishOptions(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var options any
		s.app.UsePublish(func(next gostream.PublishNext) gostream.PublishNext {
			return func(ctx context.Context, msgs []broker.OutgoingMessage) error {
				options, msgs[0].Options = msgs[0].Options, nil
				return next(ctx, msgs)
			}
		})
		p := gostream.NewPublisher[parcel](s.app, s.broker, "parcels")
		s.start()
		publish := func(opts ...gostream.PublishOption) broker.IncomingMessage {
			t.Helper()
			if err := p.Publish(t.Context(), parcel{"p1", 3}, opts...); err != nil {
				t.Fatal(err)
			}
			m := s.takeOne("parcels")
			if string(m.Payload()) != `{"id":"p1","weight":3}` {
				t.Errorf("the payload is %q", m.Payload())
			}
			return m
		}
		type id string // a key may be of any text or bytes type
		for _, tt := range []struct {
			opts []gostream.PublishOption
			want []byte
		}{
			{nil, nil},
			{[]gostream.PublishOption{gostream.Key("k")}, []byte("k")},
			{[]gostream.PublishOption{gostream.Key(id("k"))}, []byte("k")},
			{[]gostream.PublishOption{gostream.Key([]byte("\x00\xff"))}, []byte("\x00\xff")},
			{[]gostream.PublishOption{gostream.Key("first"), gostream.Key("last")}, []byte("last")},
		} {
			if key, _ := broker.PartitionKey(publish(tt.opts...)); !bytes.Equal(key, tt.want) || (key == nil) != (tt.want == nil) {
				t.Errorf("the key is %q, want %q", key, tt.want)
			}
		}

		wantHeaders(t, "without options", publish().Headers(), map[string]string{"content-type": "application/json"})
		h := publish(gostream.Header("Tag", "a"), gostream.Header("tag", "b")).Headers()
		if !slices.Equal(h.Values("tag"), []string{"a", "b"}) {
			t.Errorf("the tags are %q", h.Values("tag"))
		}
		wantHeaders(t, "the well-known ones", publish(
			gostream.Header("Content-Type", "application/x-own"),
			gostream.Header("correlation-id", "c1"), gostream.Header("Correlation-ID", "c2"),
			gostream.Header("message-id", "m1"), gostream.Header("message-id", "m2"),
			gostream.Header("reply-to", "r1"), gostream.Header("Reply-To", "r2"),
		).Headers(), map[string]string{"Content-Type": "application/x-own", "Correlation-ID": "c2", "message-id": "m2", "Reply-To": "r2"})

		if options != nil {
			t.Errorf("the broker's options are %v without being asked for", options)
		}
		publish(gostream.BrokerOptions(42))
		if options != 42 {
			t.Errorf("the broker's options are %v, want 42", options)
		}
	})
}

// published checks what a publisher of T sends for v.
func published[T any](t *testing.T, v T, payload string, headers map[string]string, opts ...gostream.PublisherOption) {
	t.Helper()
	t.Run(reflect.TypeFor[T]().String(), func(t *testing.T) {
		onStand(t, func(t *testing.T, s *stand) {
			p := gostream.NewPublisher[T](s.app, s.broker, "parcels", opts...)
			s.start()
			if err := p.Publish(t.Context(), v); err != nil {
				t.Fatal(err)
			}
			if err := p.PublishBatch(t.Context(), []T{v, v}); err != nil {
				t.Fatal(err)
			}
			ms := s.take("parcels")
			if !slices.Equal(payloads(ms), []string{payload, payload, payload}) {
				t.Errorf("the payloads are %q, want %q", payloads(ms), payload)
			}
			for _, m := range ms {
				wantHeaders(t, "the message", m.Headers(), headers)
			}
		})
	})
}

func TestPublisherTypes(t *testing.T) {
	t.Parallel()
	const asJSON = `{"id":"p1","weight":3}`
	inJSON := map[string]string{"content-type": "application/json"}
	published(t, parcel{"p1", 3}, asJSON, inJSON)
	published(t, &parcel{"p1", 3}, asJSON, inJSON)
	published[any](t, parcel{"p1", 3}, asJSON, inJSON)
	published(t, []byte("\x00\xff"), "\x00\xff", nil)
	published(t, "plain", "plain", nil)
	published(t, gostream.Outgoing[parcel]{Body: parcel{"p1", 3}}, asJSON, inJSON)
	published(t, gostream.Outgoing[string]{Body: "plain"}, "plain", nil)
	published(t, gostream.Outgoing[[]byte]{Body: []byte("bytes")}, "bytes", nil)
}

func TestPublisherOfOutgoing(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		p := gostream.NewPublisher[gostream.Outgoing[parcel]](s.app, s.broker, "parcels")
		s.start()
		if err := p.Publish(t.Context(), gostream.Outgoing[parcel]{
			Body: parcel{"p1", 3}, To: "elsewhere", Key: []byte("k1"),
			Headers: broker.NewHeaders(field("tag", "a"), field("content-type", "application/x-own"), field("message-id", "m1")),
		}, gostream.Header("tag", "b"), gostream.Header("message-id", "m2")); err != nil {
			t.Fatal(err)
		}
		m := s.takeOne("elsewhere")
		if key, _ := broker.PartitionKey(m); string(key) != "k1" || string(m.Payload()) != `{"id":"p1","weight":3}` {
			t.Errorf("the message is %q with the key %q", m.Payload(), key)
		}
		if tags := m.Headers().Values("tag"); !slices.Equal(tags, []string{"a", "b"}) {
			t.Errorf("the tags are %q", tags)
		}
		wantHeaders(t, "the others", m.Headers().Without("tag"), map[string]string{"content-type": "application/x-own", "message-id": "m2"})
		if err := p.Publish(t.Context(), gostream.Outgoing[parcel]{Key: []byte("k1")}, gostream.Key("k2")); err != nil {
			t.Fatal(err)
		}
		if key, _ := broker.PartitionKey(s.takeOne("parcels")); string(key) != "k2" {
			t.Errorf("the key is %q: the option stands nearer", key)
		}
	})
}

// A batch says which of its elements failed, with publish middleware and without.
func TestPublishBatchSaysWhatFailed(t *testing.T) {
	t.Parallel()
	for _, wrapped := range []bool{false, true} {
		for _, n := range []int{1, 3} {
			t.Run(fmt.Sprintf("%d elements, middleware %v", n, wrapped), func(t *testing.T) {
				onStand(t, func(t *testing.T, s *stand) {
					if wrapped {
						s.app.UsePublish(func(next gostream.PublishNext) gostream.PublishNext { return next })
					}
					p := gostream.NewPublisher[gostream.Outgoing[string]](s.app, s.broker, "parcels")
					s.start()
					batch := []gostream.Outgoing[string]{{Body: "0"}, {Body: "1"}, {Body: "2"}}[:n]
					batch[n/2].To = "no*name"
					err := p.PublishBatch(t.Context(), batch)
					var be *broker.BatchError
					if !errors.As(err, &be) || len(be.Errs) != n || !errors.Is(err, broker.ErrInvalid) {
						t.Fatalf("the error is %#v, want a BatchError", err)
					}
					var want []string
					for i, err := range be.Errs {
						if (err != nil) != (i == n/2) {
							t.Errorf("element %d: %v", i, err)
						}
						if i != n/2 {
							want = append(want, fmt.Sprint(i))
						}
					}
					if got := payloads(s.take("parcels")); !slices.Equal(got, want) {
						t.Errorf("published are %q, want %q", got, want)
					}
				})
			})
		}
	}
}

func TestPublishUnencodable(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		p := gostream.NewPublisher[any](s.app, s.broker, "parcels")
		s.start()
		if err := p.Publish(t.Context(), failingJSON{}); !errors.Is(err, errBroken) || !strings.Contains(err.Error(), `"parcels"`) {
			t.Errorf("Publish: %v", err)
		}
		err := p.PublishBatch(t.Context(), []any{parcel{}, parcel{}, failingJSON{}, parcel{}})
		if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "element 2") {
			t.Errorf("PublishBatch: %v, want one that names element 2", err)
		}
		s.wantLeft("parcels", 0)
	})
}

func TestPublishBatchOfNothing(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		s.app.UsePublish(func(gostream.PublishNext) gostream.PublishNext {
			return func(context.Context, []broker.OutgoingMessage) error {
				t.Error("the middleware saw an empty batch")
				return errBroken
			}
		})
		p := gostream.NewPublisher[parcel](s.app, s.broker, "parcels")
		raw := s.app.RawPublisher(s.broker)
		s.start()
		if err := errors.Join(p.PublishBatch(t.Context(), nil), raw.PublishBatch(t.Context(), nil)); err != nil {
			t.Error(err)
		}
	})
}

func TestPublishWithPanickingCodec(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		p := gostream.NewPublisher[parcel](s.app, s.broker, "parcels", gostream.WithCodec(panickingCodec{}))
		asks := gostream.NewRequester[parcel, string](s.app, s.broker, "parcels", gostream.WithCodec(panickingCodec{}))
		s.start()
		_, asked := asks.Request(t.Context(), parcel{})
		for _, err := range []error{p.Publish(t.Context(), parcel{}), p.PublishBatch(t.Context(), []parcel{{}}), asked} {
			var pe *gostream.PanicError
			if !errors.As(err, &pe) || pe.Value != "codec" {
				t.Errorf("the error is %v, want a PanicError", err)
			}
		}
		s.wantLeft("parcels", 0)
	})
}

func TestPublisherCodec(t *testing.T) {
	t.Parallel()
	asCSV := map[string]string{"content-type": "text/csv"}
	t.Run("of the publisher", func(t *testing.T) {
		t.Parallel()
		published(t, parcel{"p1", 3}, "p1,3", asCSV, gostream.WithCodec(csvCodec{}))
		published(t, gostream.Outgoing[parcel]{Body: parcel{"p1", 3}}, "p1,3", asCSV, gostream.WithCodec(csvCodec{}))
	})
	t.Run("of the app", func(t *testing.T) {
		onStand(t, func(t *testing.T, s *stand) {
			byApp := gostream.NewPublisher[parcel](s.app, s.broker, "by.app")
			own := gostream.NewPublisher[parcel](s.app, s.broker, "own", gostream.WithCodec(gostream.JSON))
			s.start()
			if err := errors.Join(byApp.Publish(t.Context(), parcel{"p1", 3}), own.Publish(t.Context(), parcel{"p1", 3})); err != nil {
				t.Fatal(err)
			}
			m := s.takeOne("by.app")
			if string(m.Payload()) != "p1,3" || m.Headers().ContentType() != "text/csv" {
				t.Errorf("by the app's codec: %q as %q", m.Payload(), m.Headers().ContentType())
			}
			m = s.takeOne("own")
			if string(m.Payload()) != `{"id":"p1","weight":3}` || m.Headers().ContentType() != "application/json" {
				t.Errorf("by its own codec: %q as %q", m.Payload(), m.Headers().ContentType())
			}
		}, gostream.WithCodec(csvCodec{}))
	})
}

func TestRawPublisher(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		raw := s.app.RawPublisher(s.broker)
		s.start()
		one := outgoing("a", "1", field("tag", "x"))
		one.Key = []byte("k1")
		if err := raw.Publish(t.Context(), one); err != nil {
			t.Fatal(err)
		}
		m := s.takeOne("a")
		if key, _ := broker.PartitionKey(m); string(key) != "k1" || string(m.Payload()) != "1" {
			t.Errorf("the message is %q with the key %q", m.Payload(), key)
		}
		wantHeaders(t, "the message", m.Headers(), map[string]string{"tag": "x"})

		err := raw.PublishBatch(t.Context(), []broker.OutgoingMessage{outgoing("a", "1"), outgoing("no*name", "2"), outgoing("b", "3"), outgoing("a", "4")})
		if errs := broker.BatchErrors(err, 4); errs[0] != nil || !errors.Is(errs[1], broker.ErrInvalid) || errs[2] != nil || errs[3] != nil {
			t.Errorf("the errors are %v", errs)
		}
		if got := payloads(s.take("a")); !slices.Equal(got, []string{"1", "4"}) {
			t.Errorf("published to a are %q", got)
		}
		s.takeOne("b")
	})
}

// Inside a handler the correlation id and the trace context go on, by every
// publisher and with contexts that are derived.
func TestPublishCarriesOver(t *testing.T) {
	in := []broker.Header{field("message-id", "m1"), field("correlation-id", "c1"), field("traceparent", "tp"), field("tracestate", "ts"), field("baggage", "b"), field("secret", "s")}
	carried := map[string]string{"correlation-id": "c1", "traceparent": "tp", "tracestate": "ts", "baggage": "b"}
	onStand(t, func(t *testing.T, s *stand) {
		typed := gostream.NewPublisher[string](s.app, s.broker, "out")
		raw := s.app.RawPublisher(s.broker)
		asks := gostream.NewRequester[string, string](s.app, s.broker, "prices")
		var asked []broker.Headers
		own := []broker.Header{field("Correlation-Id", "own"), field("Traceparent", "own")}
		s.router.Handle("prices", gostream.Reply(func(_ context.Context, m gostream.Message[string]) (string, error) {
			asked = append(asked, m.Headers().Without("reply-to"))
			return "r", nil
		}).ToReplyTo())
		s.router.Handle("parcels", gostream.Consume(func(ctx context.Context, _ string) error {
			ctx, cancel := context.WithTimeout(context.WithValue(ctx, ctxKey{}, 1), time.Second)
			defer cancel()
			batch := []broker.OutgoingMessage{outgoing("out", "raw batch"), outgoing("out", "raw batch")}
			_, failed := asks.Request(ctx, "x")
			err := errors.Join(
				typed.Publish(ctx, "typed"),
				typed.PublishBatch(ctx, []string{"typed batch", "typed batch"}),
				raw.Publish(ctx, outgoing("out", "raw")),
				raw.PublishBatch(ctx, batch),
				typed.Publish(ctx, "own", gostream.Header("Correlation-Id", "own"), gostream.Header("Traceparent", "own")),
				raw.Publish(ctx, outgoing("out", "own", own...)),
				typed.Publish(context.Background(), "outside"),
				failed,
			)
			for _, m := range batch {
				wantHeaders(t, "the caller's own batch", m.Headers, nil)
			}
			return err
		}))
		s.start()
		s.send("parcels", "x", in...)
		s.wantLeft("parcels", 0)
		ms := s.take("out")
		if len(ms) != 9 {
			t.Fatalf("published are %q", payloads(ms))
		}
		for _, m := range ms {
			want := carried
			switch string(m.Payload()) {
			case "own":
				want = map[string]string{"Correlation-Id": "own", "Traceparent": "own", "tracestate": "ts", "baggage": "b"}
			case "outside":
				want = nil
			}
			wantHeaders(t, string(m.Payload()), m.Headers(), want)
		}

		s.send("parcels", "x", field("message-id", "m1"))
		for _, m := range s.take("out") {
			if text := string(m.Payload()); text != "own" && text != "outside" {
				wantHeaders(t, "with a message id alone, "+text, m.Headers(), map[string]string{"correlation-id": "m1"})
			}
		}
		if len(asked) != 2 {
			t.Fatalf("%d requests, want 2", len(asked))
		}
		wantHeaders(t, "the request", asked[0], carried)
		wantHeaders(t, "the second request", asked[1], map[string]string{"correlation-id": "m1"})
	})
}

// notes is what publish middleware wrote down.
type notes struct {
	mu    sync.Mutex
	lines []string
}

func (n *notes) add(line string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, line)
}

// take returns the lines and begins anew.
func (n *notes) take() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	lines := n.lines
	n.lines = nil
	return lines
}

// note is a publish middleware that writes down the names of what it sees; the
// number of an inbox is left out.
func note(to *notes, line string) gostream.PublishMiddleware {
	return func(next gostream.PublishNext) gostream.PublishNext {
		return func(ctx context.Context, msgs []broker.OutgoingMessage) error {
			all := line
			for _, m := range msgs {
				name := m.Name
				if strings.HasPrefix(name, "_inbox.") {
					name = "_inbox"
				}
				all += " " + name
			}
			to.add(all)
			return next(ctx, msgs)
		}
	}
}

func TestPublishMiddlewareOrder(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		var got notes
		p := gostream.NewPublisher[string](s.app, s.broker, "parcels") // before any UsePublish
		after := func(next gostream.PublishNext) gostream.PublishNext {
			return func(ctx context.Context, msgs []broker.OutgoingMessage) error {
				err := next(ctx, msgs)
				got.add(fmt.Sprint("after: ", err))
				return err
			}
		}
		s.app.UsePublish(note(&got, "1"), note(&got, "2"))
		s.app.UsePublish(after, note(&got, "3"))
		s.start()
		if err := p.Publish(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		if lines, want := got.take(), []string{"1 parcels", "2 parcels", "3 parcels", "after: <nil>"}; !slices.Equal(lines, want) {
			t.Errorf("the order is %q, want %q", lines, want)
		}
		s.takeOne("parcels")
	})
}

func TestPublishMiddlewareSeesEverything(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		typed := gostream.NewPublisher[string](s.app, s.broker, "typed")
		raw := s.app.RawPublisher(s.broker)
		asks := gostream.NewRequester[string, string](s.app, s.broker, "requests")
		other := memory.New()
		elsewhere := s.app.RawPublisher(other)
		s.app.Mount(other)
		var got notes
		s.app.UsePublish(note(&got, "saw"))
		s.router.Handle("requests", gostream.Reply(func(_ context.Context, v string) (string, error) {
			if v == "fail" {
				return "", errBroken
			}
			return v, nil
		}).ToReplyTo())
		s.router.Handle("replying", gostream.Reply(func(_ context.Context, v string) (string, error) { return v, nil }).To("replies"))
		s.router.Handle("via", gostream.Reply(func(_ context.Context, v string) (string, error) { return v, nil }).To("via.replies").Via(elsewhere))
		s.router.Handle("failing", gostream.Consume(func(context.Context, string) error { return errBroken }), gostream.OnError(gostream.AnyError().DeadLetterTo("dead")))
		s.start()
		ctx := t.Context()
		for _, tt := range []struct {
			what string
			do   func() error
			want []string
		}{
			{"typed", func() error { return typed.Publish(ctx, "x") }, []string{"saw typed"}},
			{"typed batch", func() error { return typed.PublishBatch(ctx, []string{"x", "y"}) }, []string{"saw typed typed"}},
			{"raw", func() error { return raw.Publish(ctx, outgoing("raw", "x")) }, []string{"saw raw"}},
			{"raw batch", func() error {
				return raw.PublishBatch(ctx, []broker.OutgoingMessage{outgoing("a", "x"), outgoing("b", "y")})
			}, []string{"saw a b"}},
			{"another broker", func() error { return elsewhere.Publish(ctx, outgoing("elsewhere", "x")) }, []string{"saw elsewhere"}},
			{"a request and its reply", func() error { _, err := asks.Request(ctx, "x"); return err }, []string{"saw requests", "saw _inbox"}},
			{"a request and its error", func() error {
				var re *gostream.RemoteError
				if _, err := asks.Request(ctx, "fail"); !errors.As(err, &re) {
					return fmt.Errorf("want a RemoteError, got %w", err)
				}
				return nil
			}, []string{"saw requests", "saw _inbox"}},
			{"a reply", func() error { s.send("replying", "x"); return nil }, []string{"saw replies"}},
			{"a reply elsewhere", func() error { s.send("via", "x"); return nil }, []string{"saw via.replies"}},
			{"a dead letter", func() error { s.send("failing", "x"); return nil }, []string{"saw dead"}},
		} {
			got.take()
			if err := tt.do(); err != nil {
				t.Errorf("%s: %v", tt.what, err)
			}
			synctest.Wait()
			if lines := got.take(); !slices.Equal(lines, tt.want) {
				t.Errorf("%s: the middleware %q, want %q", tt.what, lines, tt.want)
			}
		}
	})
}

func TestPublishMiddlewareChangesMessages(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		s.app.UsePublish(func(next gostream.PublishNext) gostream.PublishNext {
			return func(ctx context.Context, msgs []broker.OutgoingMessage) error {
				for i := range msgs {
					msgs[i].Name = "changed"
					msgs[i].Payload = append([]byte("signed "), msgs[i].Payload...)
				}
				return next(ctx, msgs)
			}
		})
		raw := s.app.RawPublisher(s.broker)
		s.router.Handle("parcels", gostream.Reply(func(_ context.Context, v string) (string, error) { return v, nil }).To("replies"))
		s.start()
		batch := []broker.OutgoingMessage{outgoing("a", "2"), outgoing("b", "3")}
		if err := errors.Join(raw.Publish(t.Context(), outgoing("a", "1")), raw.PublishBatch(t.Context(), batch)); err != nil {
			t.Fatal(err)
		}
		s.send("parcels", "4")
		if got, want := payloads(s.take("changed")), []string{"signed 1", "signed 2", "signed 3", "signed 4"}; !slices.Equal(got, want) {
			t.Errorf("published are %q, want %q", got, want)
		}
		if batch[0].Name != "a" || string(batch[1].Payload) != "3" {
			t.Errorf("the caller's own batch was changed: %v", batch)
		}
	})
}

// A middleware may hold back some messages of a batch, or all.
func TestPublishMiddlewareDropsMessages(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		s.app.UsePublish(func(next gostream.PublishNext) gostream.PublishNext {
			return func(ctx context.Context, msgs []broker.OutgoingMessage) error {
				return next(ctx, slices.DeleteFunc(msgs, func(m broker.OutgoingMessage) bool { return string(m.Payload) == "drop" }))
			}
		})
		p := gostream.NewPublisher[string](s.app, s.broker, "parcels")
		s.start()
		for _, batch := range [][]string{{"drop"}, {"1", "drop"}, {"drop", "2", "3"}} {
			if err := p.PublishBatch(t.Context(), batch); err != nil {
				t.Errorf("%q: %v", batch, err)
			}
		}
		if got := payloads(s.take("parcels")); !slices.Equal(got, []string{"1", "2", "3"}) {
			t.Errorf("published are %q", got)
		}
	})
}

func TestPublishMiddlewarePanics(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		s.app.UsePublish(func(next gostream.PublishNext) gostream.PublishNext {
			return func(ctx context.Context, msgs []broker.OutgoingMessage) error {
				if msgs[0].Name == "dead" {
					return next(ctx, msgs)
				}
				panic(errBroken)
			}
		})
		p := gostream.NewPublisher[string](s.app, s.broker, "parcels")
		raw := s.app.RawPublisher(s.broker)
		asks := gostream.NewRequester[string, string](s.app, s.broker, "parcels")
		s.router.Handle("in", gostream.Reply(func(_ context.Context, v string) (string, error) { return v, nil }).To("replies"),
			gostream.OnError(gostream.As[*gostream.ReplyError]().DeadLetterTo("dead")))
		s.start()
		_, asked := asks.Request(t.Context(), "x")
		for i, err := range []error{
			p.Publish(t.Context(), "x"),
			p.PublishBatch(t.Context(), []string{"x", "y"}),
			raw.Publish(t.Context(), outgoing("parcels", "x")),
			asked,
		} {
			var pe *gostream.PanicError
			if !errors.As(err, &pe) || !errors.Is(err, errBroken) || len(pe.Stack) == 0 {
				t.Errorf("call %d: %v, want a PanicError", i, err)
			}
		}
		s.send("in", "x") // as the failure of a reply it goes to the policy
		if got := s.takeOne("dead").Headers().Get(gostream.HeaderDeadReason); got != "panic" {
			t.Errorf("the reason is %q", got)
		}
		s.wantLeft("parcels", 0)
	})
}

func TestPublishMiddlewareSwallows(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		s.app.UsePublish(func(gostream.PublishNext) gostream.PublishNext {
			return func(context.Context, []broker.OutgoingMessage) error { return nil }
		})
		p := gostream.NewPublisher[string](s.app, s.broker, "parcels")
		asks := gostream.NewRequester[string, string](s.app, s.broker, "parcels")
		s.start()
		if err := p.Publish(t.Context(), "x"); err != nil {
			t.Errorf("Publish: %v", err)
		}
		if _, err := asks.Request(t.Context(), "x"); err == nil || !strings.Contains(err.Error(), "middleware") || !strings.Contains(err.Error(), "parcels") {
			t.Errorf("Request: %v, want an error that says why there is no answer", err)
		}
		s.wantLeft("parcels", 0)
	})
}

// What a middleware publishes while a request goes through it is no request.
func TestPublishInsideARequest(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		raw := s.app.RawPublisher(s.broker)
		typed := gostream.NewPublisher[string](s.app, s.broker, "audit")
		asks := gostream.NewRequester[string, string](s.app, s.broker, "prices")
		nested := gostream.NewRequester[string, string](s.app, s.broker, "rates")
		s.app.UsePublish(func(next gostream.PublishNext) gostream.PublishNext {
			return func(ctx context.Context, msgs []broker.OutgoingMessage) error {
				if msgs[0].Name != "prices" {
					return next(ctx, msgs)
				}
				err := errors.Join(
					raw.Publish(ctx, outgoing("audit", "raw")),
					typed.Publish(ctx, "typed"),
					typed.PublishBatch(ctx, []string{"batch", "batch"}),
				)
				rate, nestedErr := nested.Request(ctx, "rate")
				if rate != "rate of rate" {
					t.Errorf("the nested request was answered %q, %v", rate, nestedErr)
				}
				return errors.Join(err, nestedErr, next(ctx, msgs))
			}
		})
		for _, name := range []string{"prices", "rates"} {
			s.router.Handle(name, gostream.Reply(func(_ context.Context, v string) (string, error) {
				return strings.TrimSuffix(name, "s") + " of " + v, nil
			}).ToReplyTo())
		}
		s.start()
		if got, err := asks.Request(t.Context(), "tea"); err != nil || got != "price of tea" {
			t.Errorf("the answer is %q, %v", got, err)
		}
		ms := s.take("audit")
		if got := payloads(ms); !slices.Equal(got, []string{"raw", "typed", "batch", "batch"}) {
			t.Errorf("published are %q", got)
		}
		for _, m := range ms {
			if m.Headers().ReplyTo() != "" {
				t.Errorf("%s was published as a request", m.Payload())
			}
		}
	})
}

// answered checks what a requester of Res makes of an answer.
func answered[Res any](t *testing.T, answer gostream.Outgoing[[]byte], check func(t *testing.T, res Res, err error)) {
	t.Helper()
	t.Run(reflect.TypeFor[Res]().String(), func(t *testing.T) {
		onStand(t, func(t *testing.T, s *stand) {
			s.router.Handle("prices", gostream.Reply(func(_ context.Context, p parcel) (gostream.Outgoing[[]byte], error) {
				if p != (parcel{"p1", 3}) {
					t.Errorf("the request is %+v", p)
				}
				return answer, nil
			}).ToReplyTo())
			asks := gostream.NewRequester[parcel, Res](s.app, s.broker, "prices", gostream.Codecs(csvCodec{}))
			s.start()
			res, err := asks.Request(t.Context(), parcel{"p1", 3})
			check(t, res, err)
			synctest.Wait()
			s.wantLeft("prices", 0)
		})
	})
}

func TestRequestAnswer(t *testing.T) {
	t.Parallel()
	is := func(want any) func(t *testing.T, res any, err error) {
		return func(t *testing.T, res any, err error) {
			t.Helper()
			if err != nil || !reflect.DeepEqual(res, want) {
				t.Errorf("the answer is %+v, %v, want %+v", res, err, want)
			}
		}
	}
	asJSON := gostream.Outgoing[[]byte]{Body: []byte(`{"id":"p2"}`), Headers: broker.NewHeaders(field("tag", "a"))}
	asCSV := gostream.Outgoing[[]byte]{Body: []byte(`p2,4`), Headers: broker.NewHeaders(field("content-type", "text/csv"))}
	answered(t, asJSON, func(t *testing.T, res parcel, err error) { is(parcel{ID: "p2"})(t, res, err) })
	answered(t, asJSON, func(t *testing.T, res *parcel, err error) { is(&parcel{ID: "p2"})(t, res, err) })
	answered(t, asJSON, func(t *testing.T, res string, err error) { is(`{"id":"p2"}`)(t, res, err) })
	answered(t, asJSON, func(t *testing.T, res []byte, err error) { is([]byte(`{"id":"p2"}`))(t, res, err) })
	answered(t, asCSV, func(t *testing.T, res parcel, err error) { is(parcel{"p2", 4})(t, res, err) })
	answered(t, asJSON, func(t *testing.T, res gostream.Message[parcel], err error) {
		is(parcel{ID: "p2"})(t, res.Body(), err)
		if res.Header("tag") != "a" || res.Attempt() != 1 || !strings.HasPrefix(res.Name(), "_inbox.") || res.Key() != nil {
			t.Errorf("the answer is %q, attempt %d, from %s", res.Headers(), res.Attempt(), res.Name())
		}
		if sub := res.Delivery().Subscription(); sub.Name() != "" {
			t.Errorf("no subscription delivered the answer, and yet it is %q", sub.Name())
		}
	})
}

func TestRequestUndecodableAnswer(t *testing.T) {
	t.Parallel()
	undecodable := func(contentType string) func(t *testing.T, res receipt, err error) {
		return func(t *testing.T, _ receipt, err error) {
			t.Helper()
			var ue *gostream.UndecodableError
			if !errors.Is(err, gostream.ErrUndecodable) || !errors.As(err, &ue) || ue.ContentType != contentType {
				t.Errorf("the error is %v, want an UndecodableError", err)
			}
		}
	}
	answered(t, gostream.Outgoing[[]byte]{Body: []byte("{not JSON")}, undecodable(""))
	xml := broker.NewHeaders(field("content-type", "text/xml"))
	answered(t, gostream.Outgoing[[]byte]{Body: []byte("{}"), Headers: xml}, undecodable("text/xml"))
}

func TestRequestOfOutgoing(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		s.router.Handle("elsewhere", gostream.Reply(func(_ context.Context, m gostream.Message[string]) (string, error) {
			if m.Body() == "fail" {
				return "", errBroken
			}
			return m.Body() + " " + string(m.Key()) + " " + m.Header("tag"), nil
		}).ToReplyTo())
		asks := gostream.NewRequester[gostream.Outgoing[string], string](s.app, s.broker, "prices")
		s.start()
		got, err := asks.Request(t.Context(), gostream.Outgoing[string]{Body: "tea", To: "elsewhere", Key: []byte("k")}, gostream.Header("tag", "a"))
		if err != nil || got != "tea k a" {
			t.Errorf("the answer is %q, %v", got, err)
		}
		var re *gostream.RemoteError
		if _, err = asks.Request(t.Context(), gostream.Outgoing[string]{Body: "fail", To: "elsewhere"}); !errors.As(err, &re) || re.Name != "elsewhere" {
			t.Errorf("the error is %v, want one that names elsewhere", err)
		}
	})
}

// remote checks the error that the requester of prices gets, how often the handler
// was called, and that nothing is left.
func remote(t *testing.T, handler func(call int) error, message string, calls int, opts ...gostream.HandleOption) {
	t.Helper()
	onStand(t, func(t *testing.T, s *stand) {
		var outcomes []gostream.Outcome
		s.app.Observe(gostream.Observer{Settled: func(e gostream.SettledEvent) { outcomes = append(outcomes, e.Outcome) }})
		called := 0
		s.router.Handle("prices", gostream.Reply(func(_ context.Context, v parcel) (string, error) {
			called++
			return "answer", handler(called)
		}).ToReplyTo(), opts...)
		asks := gostream.NewRequester[string, string](s.app, s.broker, "prices")
		s.start()
		payload := "{}"
		if calls == 0 {
			payload = "{not JSON"
		}
		got, err := asks.Request(t.Context(), payload)
		synctest.Wait()
		var re *gostream.RemoteError
		switch {
		case message == "" && (err != nil || got != "answer"):
			t.Errorf("the answer is %q, %v", got, err)
		case message != "" && (!errors.As(err, &re) || re.Name != "prices" || !strings.HasPrefix(re.Message, message)):
			t.Errorf("the error is %v, want a RemoteError that says %q", err, message)
		case message != "" && (!strings.Contains(err.Error(), `"prices"`) || !strings.Contains(err.Error(), re.Message)):
			t.Errorf("the error %q does not say all", err)
		}
		if called != calls {
			t.Errorf("the handler was called %d times, want %d", called, calls)
		}
		s.wantLeft("prices", 0)
		if n := s.store.Len("dead"); (n == 1) != slices.Contains(outcomes, gostream.OutcomeDeadLettered) {
			t.Errorf("%d dead letters, the outcomes are %v", n, outcomes)
		}
	})
}

func TestRequestFails(t *testing.T) {
	t.Parallel()
	fails := func(err error) func(int) error { return func(int) error { return err } }
	failsUntil := func(last int) func(int) error {
		return func(call int) error {
			if call < last {
				return errBroken
			}
			return nil
		}
	}
	retries := gostream.OnError(gostream.Is(errBroken).Retry(gostream.Constant(time.Second).Attempts(3)).ThenReject())
	for name, tt := range map[string]struct {
		handler func(call int) error
		message string
		calls   int
		opts    []gostream.HandleOption
	}{
		"an error":                     {fails(errBroken), "broken", 1, nil},
		"an error, with a dead letter": {fails(errBroken), "broken", 1, []gostream.HandleOption{gostream.DeadLetterTo("dead")}},
		"an error without a text":      {fails(errors.New("")), "error", 1, nil},
		"an error of two lines":        {fails(errors.New("one\ntwo\x00")), "one two", 1, nil},
		"a panic":                      {func(int) error { panic("handler") }, "panic: handler", 1, nil},
		"undecodable":                  {fails(nil), "undecodable payload", 0, nil},
		"Reject":                       {fails(gostream.Reject(errBroken)), "reject: broken", 1, nil},
		"DeadLetter":                   {fails(gostream.DeadLetter(errBroken)), "dead letter: broken", 1, []gostream.HandleOption{gostream.DeadLetterTo("dead")}},
		"a rule that rejects":          {fails(errBroken), "broken", 1, []gostream.HandleOption{gostream.OnError(gostream.Is(errBroken).Reject())}},
		"a rule that dead-letters":     {fails(errBroken), "broken", 1, []gostream.HandleOption{gostream.OnError(gostream.Is(errBroken).DeadLetterTo("dead"))}},
		"a rule for others":            {fails(errBroken), "broken", 1, []gostream.HandleOption{gostream.OnError(gostream.Is(context.Canceled).Retry(gostream.Constant(0)))}},
		"retries that help":            {failsUntil(3), "", 3, []gostream.HandleOption{retries}},
		"retries that do not":          {fails(errBroken), "broken", 3, []gostream.HandleOption{retries}},
		"RetryAfter": {func(call int) error {
			if call == 1 {
				return gostream.RetryAfter(time.Second, errBroken)
			}
			return nil
		}, "", 2, nil},
	} {
		t.Run(name, func(t *testing.T) { remote(t, tt.handler, tt.message, tt.calls, tt.opts...) })
	}
}

func TestRequestErrorTextIsBounded(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		s.router.Handle("prices", gostream.Reply(func(context.Context, string) (string, error) {
			return "", errors.New(strings.Repeat("ä", 5000))
		}).ToReplyTo())
		asks := gostream.NewRequester[string, string](s.app, s.broker, "prices")
		s.start()
		_, err := asks.Request(t.Context(), "x")
		var re *gostream.RemoteError
		if !errors.As(err, &re) || len(re.Message) > 1024 || !strings.HasSuffix(re.Message, "ä…") || strings.Trim(re.Message, "ä…") != "" {
			t.Errorf("the error is %v", err)
		}
	})
}

// An error reply carries the ids of the conversation and no payload.
func TestErrorReplyHeaders(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		s.router.Handle("prices", gostream.Reply(func(context.Context, string) (string, error) { return "r", errBroken }).ToReplyTo())
		s.start()
		s.send("prices", "x", field("reply-to", "answers"), field("correlation-id", "c1"), field("traceparent", "tp"), field("tag", "a"))
		m := s.takeOne("answers")
		wantHeaders(t, "the error", m.Headers(), map[string]string{"gostream-error": "broken", "correlation-id": "c1", "traceparent": "tp"})
		if len(m.Payload()) != 0 {
			t.Errorf("the payload is %q", m.Payload())
		}
	})
}

func TestRequestTimeLimit(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		s.router.Handle("prices", gostream.Reply(func(context.Context, string) (string, error) {
			return "", gostream.Ignore(nil) // nobody answers
		}).ToReplyTo())
		asks := gostream.NewRequester[string, string](s.app, s.broker, "prices")
		s.start()
		bounded, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		longer, cancelLonger := context.WithTimeout(t.Context(), time.Hour)
		defer cancelLonger()
		for _, tt := range []struct {
			what string
			ctx  context.Context
			want time.Duration
		}{
			{"its own deadline", bounded, 3 * time.Second},
			{"none", t.Context(), gostream.DefaultRequestTimeout},
			{"a late one", longer, time.Hour - 33*time.Second},
		} {
			begun := time.Now()
			_, err := asks.Request(tt.ctx, "x")
			if took := time.Since(begun); !errors.Is(err, context.DeadlineExceeded) || took != tt.want {
				t.Errorf("with the deadline %s: %v after %v, want %v", tt.what, err, took, tt.want)
			}
		}
		ended, end := context.WithCancel(t.Context())
		end()
		if _, err := asks.Request(ended, "x"); !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended: %v", err)
		}
	})
}

func TestRequestWithoutResponder(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		asks := gostream.NewRequester[string, string](s.app, s.broker, "prices")
		s.start()
		begun := time.Now()
		_, err := asks.Request(t.Context(), "x")
		if took := time.Since(begun); !errors.Is(err, memory.ErrNoResponders) || took != 0 {
			t.Errorf("%v after %v, want ErrNoResponders at once", err, took)
		}
		s.wantLeft("prices", 0)
	})
}

// What the requester is told of a failure does not depend on its being reachable.
func TestRequesterIsGone(t *testing.T) {
	onStand(t, func(t *testing.T, s *stand) {
		calls := 0
		s.router.Handle("prices", gostream.Reply(func(context.Context, string) (string, error) {
			calls++
			return "", gostream.Reject(errBroken)
		}).ToReplyTo())
		s.start()
		s.send("prices", "x", field("reply-to", "no*name"))
		s.pass(time.Minute)
		if calls != 1 || len(s.logs.lines("the requester could not be told")) != 1 {
			t.Errorf("called %d times, want 1, and a line in the log:\n%s", calls, s.logs)
		}
		s.wantLeft("prices", 0)
	})
}

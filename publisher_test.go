package gostream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
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

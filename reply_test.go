package gostream_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

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

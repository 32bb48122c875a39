package gostream_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

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

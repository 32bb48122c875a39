package gostream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

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

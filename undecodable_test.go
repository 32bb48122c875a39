package gostream_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

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

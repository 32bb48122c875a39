package gostream_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

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

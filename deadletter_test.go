package gostream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

// A dead letter that is too large by what was added to its message is published without
// it: nothing of the message itself is left out, and one that is too large all the same
// waits.
func TestDeadLetterTooLarge(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("long ", 300)
	for name, c := range map[string]struct {
		most    int // bytes of header values that are taken
		want    []string
		without string
	}{
		"fits":                   {2000, []string{"mine", "reason", "error"}, ""},
		"without the error":      {200, []string{"mine", "reason"}, `without="the error's text"`},
		"without what was added": {20, []string{"mine"}, `without="the headers of a dead letter"`},
		"not at all":             {0, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			onStand(t, func(t *testing.T, s *stand) {
				tries := 0
				s.app.UsePublish(func(next gostream.PublishNext) gostream.PublishNext {
					return func(ctx context.Context, msgs []broker.OutgoingMessage) error {
						size := 0
						for _, v := range msgs[0].Headers.All() {
							size += len(v)
						}
						if msgs[0].Name == "dead" {
							if tries++; size > c.most {
								return fmt.Errorf("a limit: %w", broker.ErrTooLarge)
							}
						}
						return next(ctx, msgs)
					}
				})
				s.router.Handle("parcels", gostream.Consume(func(context.Context, string) error {
					return gostream.DeadLetter(errors.New(long))
				}), gostream.DeadLetterTo("dead"))
				s.start()
				s.send("parcels", "x", field("mine", "stays"))
				s.pass(time.Minute)
				if c.want == nil {
					s.wantLeft("parcels", 1)
					if tries < 5 {
						t.Errorf("%d tries, want them to go on", tries)
					}
					return
				}
				m := s.takeOne("dead")
				var got []string
				for what, key := range map[string]string{"mine": "mine", "reason": gostream.HeaderDeadReason, "error": gostream.HeaderDeadError} {
					if m.Headers().Get(key) != "" {
						got = append(got, what)
					}
				}
				slices.Sort(got)
				slices.Sort(c.want)
				if !slices.Equal(got, c.want) || string(m.Payload()) != "x" || m.Headers().Get("mine") != "stays" {
					t.Errorf("the dead letter is %q with %v, want %v", m.Payload(), got, c.want)
				}
				if lines := s.logs.lines("message is dead-lettered", c.without, "gostream.reason=\"handler decided\""); len(lines) != 1 {
					t.Errorf("the log does not say so:\n%s", s.logs)
				}
				s.wantLeft("parcels", 0)
			})
		})
	}
}

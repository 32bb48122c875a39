package gostreamtest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

// Published is a message that was published.
type Published struct {
	// Name is where it went.
	Name    string
	Key     []byte
	Payload []byte
	Headers broker.Headers
	// From is the subscription whose handler, reply or dead letter it was; "" for
	// what the test, a hook or a goroutine of the app published.
	From string
	// At is when, since the start of the test.
	At time.Duration

	broker broker.Broker
}

// Settled is an attempt that has ended.
type Settled struct {
	// Subscription is the identity of the subscription.
	Subscription string
	// Name is the concrete name that the message came from.
	Name    string
	Payload []byte
	// Attempt is its number; the first is 1.
	Attempt int
	Outcome gostream.Outcome
	// Err is why it failed; nil for a success.
	Err error
	// At is when, since the start of the test.
	At time.Duration
}

// timeline is everything that happened, in order.
type timeline struct {
	mu        sync.Mutex
	lines     []line
	published []Published
	settled   []Settled
}

// line is one line for people.
type line struct {
	at   time.Duration
	what string
	text string
}

func (l *timeline) add(b *bus, what, format string, args ...any) {
	at := b.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line{at, what, fmt.Sprintf(format, args...)})
}

func (l *timeline) publish(b *bus, ctx context.Context, of broker.Broker, o *origin) {
	p := Published{Name: o.name, Key: o.key, Payload: o.payload, Headers: o.headers, At: b.now(), broker: of}
	from := "the test"
	if d, ok := gostream.DeliveryFrom(ctx); ok {
		p.From = d.Subscription().Name()
		from = p.From
	} else if s := o.headers.Get(gostream.HeaderDeadSubscription); s != "" {
		p.From, from = s, s
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.published = append(l.published, p)
	l.lines = append(l.lines, line{p.At, "published", fmt.Sprintf("%s by %s: %s", o.name, from, show(o.payload))})
}

func (l *timeline) settle(b *bus, e gostream.SettledEvent) {
	s := Settled{
		Subscription: e.Delivery.Subscription().Name(), Name: e.Delivery.Name(), Payload: e.Delivery.Payload(),
		Attempt: e.Delivery.Attempt(), Outcome: e.Outcome, Err: e.Err, At: b.now(),
	}
	text := fmt.Sprintf("%s, attempt %d: %s", s.Subscription, s.Attempt, show(s.Payload))
	if s.Err != nil {
		text += ": " + oneLine(s.Err.Error())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settled = append(l.settled, s)
	l.lines = append(l.lines, line{s.At, s.Outcome.String(), text})
}

// maxLines is how much of a timeline a failure shows, from its end.
const maxLines = 60

func (l *timeline) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var s strings.Builder
	first := max(len(l.lines)-maxLines, 0)
	if first > 0 {
		fmt.Fprintf(&s, "  (%d lines before)\n", first)
	}
	for _, one := range l.lines[first:] {
		fmt.Fprintf(&s, "  %-10s %-13s %s\n", "+"+one.at.Round(time.Millisecond).String(), one.what, one.text)
	}
	if len(l.lines) == 0 {
		s.WriteString("  (nothing happened)\n")
	}
	return s.String()
}

// show is a payload on one short line.
func show(payload []byte) string {
	const most = 80
	s := string(payload)
	if !utf8.ValidString(s) {
		return fmt.Sprintf("%d bytes", len(payload))
	}
	if s == "" {
		return "(empty)"
	}
	s = oneLine(s)
	if len(s) > most {
		cut := most
		for !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	return s
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

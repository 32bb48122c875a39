package gostreamtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

// Published returns what was published to name so far, by anybody, in order.
func (ts *TS) Published(name string) (found []Published) {
	l := &ts.bus.timeline
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.published {
		if p.Name == name && (ts.on == nil || p.broker == ts.on) {
			found = append(found, p)
		}
	}
	return found
}

// Settled returns the attempts of a subscription that have ended so far, in order.
func (ts *TS) Settled(subscription string) (found []Settled) {
	l := &ts.bus.timeline
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.settled {
		if s.Subscription == subscription {
			found = append(found, s)
		}
	}
	return found
}

// Parked is a message that waits for a retry.
type Parked struct {
	Name    string
	Payload []byte
	// Until is when it is attempted again.
	Until time.Time
}

// Parked returns the messages that wait for a retry, in no particular order.
func (ts *TS) Parked() (found []Parked) {
	r := &ts.bus.rest
	r.mu.Lock()
	defer r.mu.Unlock()
	for m, until := range r.parked {
		found = append(found, Parked{Name: m.Name(), Payload: bytes.Clone(m.Payload()), Until: until})
	}
	return found
}

// Timeline is everything that happened so far, for people; its end where it is long.
func (ts *TS) Timeline() string { return ts.bus.timeline.String() }

// ExpectPublished fails the test, with the timeline, unless exactly n messages were
// published to name. It returns them.
func (ts *TS) ExpectPublished(name string, n int) []Published {
	ts.t.Helper()
	found := ts.Published(name)
	if len(found) != n {
		ts.error("%d messages were published to %q, want %d", len(found), name, n)
	}
	return found
}

// ExpectOutcomes fails the test, with the timeline, unless the attempts of the
// subscription ended in exactly these ways, in this order.
func (ts *TS) ExpectOutcomes(subscription string, want ...gostream.Outcome) {
	ts.t.Helper()
	found := ts.Settled(subscription)
	got := make([]gostream.Outcome, len(found))
	for i, s := range found {
		got[i] = s.Outcome
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		ts.error("the attempts of subscription %q ended %v, want %v", subscription, got, want)
	}
}

// ExpectHandled fails the test, with the timeline, unless the subscription handled
// exactly n messages with success.
func (ts *TS) ExpectHandled(subscription string, n int) {
	ts.t.Helper()
	got := 0
	for _, s := range ts.Settled(subscription) {
		if s.Outcome == gostream.OutcomeAcked {
			got++
		}
	}
	if got != n {
		ts.error("subscription %q handled %d messages, want %d", subscription, got, n)
	}
}

// error fails the test and lets it go on.
func (ts *TS) error(format string, args ...any) {
	ts.t.Helper()
	ts.t.Errorf("gostreamtest: "+format+"\ntimeline:\n%s", append(args, ts.bus.timeline.String())...)
}

// All returns what was published to name so far, decoded from JSON; a T of []byte or
// string is the payload as it is. What cannot be decoded ends the test.
func All[T any](ts *TS, name string) []T {
	ts.t.Helper()
	var all []T
	for _, p := range ts.Published(name) {
		var v T
		var err error
		switch target := any(&v).(type) {
		case *[]byte:
			*target = p.Payload
		case *string:
			*target = string(p.Payload)
		default:
			err = json.Unmarshal(p.Payload, &v)
		}
		if err != nil {
			ts.fatal("a message published to %q cannot be decoded: %v", name, err)
		}
		all = append(all, v)
	}
	return all
}

// One is [All] where exactly one message is expected; else it ends the test.
func One[T any](ts *TS, name string) T {
	ts.t.Helper()
	all := All[T](ts, name)
	if len(all) != 1 {
		ts.fatal("%d messages were published to %q, want one", len(all), name)
	}
	return all[0]
}

// outgoing makes a message of what a test publishes.
func outgoing(name string, v any, opts []gostream.PublishOption) (broker.OutgoingMessage, error) {
	msg := broker.OutgoingMessage{Name: name}
	switch v := v.(type) {
	case []byte:
		msg.Payload = v
	case string:
		msg.Payload = []byte(v)
	case broker.OutgoingMessage:
		msg = v
		msg.Name = name
	default:
		payload, err := json.Marshal(v)
		if err != nil {
			return msg, err
		}
		msg.Payload = payload
		msg.Headers = broker.NewHeaders(broker.Header{Key: broker.HeaderContentType, Value: gostream.JSON.ContentType()})
	}
	return gostream.ApplyPublishOptions(msg, opts...), nil
}

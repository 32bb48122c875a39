package kafka_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream"
)

const (
	poisonMessages = 100
	poisonAt       = 50
	poisonGroup    = "kitchen"
)

var (
	errPoison = errors.New("this one is poisoned")
	errNotYet = errors.New("not before the others")
)

// eaten counts the calls for each number.
type eaten struct {
	mu     sync.Mutex
	calls  map[int]int
	others chan struct{} // closed when all but the poison were handled
}

func newEaten() *eaten {
	return &eaten{calls: make(map[int]int), others: make(chan struct{})}
}

// call counts a call, and returns how many there were for that number.
func (e *eaten) call(n int) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls[n]++
	others := len(e.calls)
	if e.calls[poisonAt] > 0 {
		others--
	}
	if n != poisonAt && e.calls[n] == 1 && others == poisonMessages-1 {
		close(e.others)
	}
	return e.calls[n]
}

// want fails unless each message was handled once, and the poison so often.
func (e *eaten) want(t *testing.T, poison int) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for n := range poisonMessages {
		want := 1
		if n == poisonAt {
			want = poison
		}
		if e.calls[n] != want {
			t.Errorf("message %d was handled %d times, want %d", n, e.calls[n], want)
		}
	}
}

// A poison message does not hold up those after it in its partition. While it waits for
// its retry they are handled, and what is committed stays before it; when it has gone to
// the dead letter topic the watermark is past it.
func TestPoisonDoesNotHoldUp(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	topic, dead := s.topic(t, 1), s.topic(t, 1)
	s.put(t, topic, 0, 0, poisonMessages-1)
	e := newEaten()
	release := make(chan struct{})
	startApp(t, s.broker(t), quickly(topic, poisonGroup), gostream.Raw(func(_ context.Context, d *gostream.Delivery) error {
		n := number(t, d.Payload())
		e.call(n)
		if n != poisonAt {
			return nil
		}
		select {
		case <-release:
			return errPoison
		default:
			return errNotYet
		}
	}),
		gostream.OnError(gostream.Is(errNotYet).Retry(gostream.Constant(5*time.Millisecond)),
			gostream.Is(errPoison).DeadLetterTo(dead)))

	closed(t, "the messages after the poison are handled", e.others)
	s.untilCommitted(t, poisonGroup, topic, 0, poisonAt)
	until(t, "all but the poison is committed beside it", func() bool {
		return len(settledIn(t, s.commit(poisonGroup, topic, 0))) == poisonMessages-1-poisonAt
	})
	e.mu.Lock()
	before := e.calls[poisonAt]
	e.mu.Unlock()
	until(t, "the poison is tried again", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.calls[poisonAt] > before
	})
	if c := s.commit(poisonGroup, topic, 0); c.Offset != poisonAt {
		t.Errorf("while the poison is not settled offset %d is committed, want %d", c.Offset, poisonAt)
	}
	close(release)

	s.untilCommitted(t, poisonGroup, topic, 0, poisonMessages)
	wantDead(t, s, dead, deadLetter{strconv.Itoa(poisonAt), gostream.ReasonError, errPoison.Error(), ""})
	e.mu.Lock()
	poison := e.calls[poisonAt]
	e.mu.Unlock()
	e.want(t, poison)
}

// With a limit of attempts the poison is called that often, by one worker, by several and
// by key; then it is in the dead letter topic, once, and all that is left is committed.
func TestPoisonAfterItsAttempts(t *testing.T) {
	t.Parallel()
	const attempts = 4
	for _, c := range []struct {
		name string
		opts []gostream.HandleOption
	}{
		{"one worker", nil},
		{"workers", []gostream.HandleOption{gostream.Workers(4)}},
		{"by key", []gostream.HandleOption{gostream.Workers(4), gostream.ByKey()}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := ownCluster(t, 1)
			topic, dead := s.topic(t, 1), s.topic(t, 1)
			s.put(t, topic, 0, 0, poisonMessages-1)
			e := newEaten()
			opts := append(c.opts, gostream.DeadLetterTo(dead), gostream.RetryBackoff(gostream.Constant(5*time.Millisecond).Attempts(attempts)))
			service := startApp(t, s.broker(t), quickly(topic, poisonGroup), gostream.Raw(func(_ context.Context, d *gostream.Delivery) error {
				n := number(t, d.Payload())
				if call := e.call(n); n == poisonAt {
					if d.Attempt() != call {
						t.Errorf("call %d has the attempt %d", call, d.Attempt())
					}
					return errPoison
				}
				return nil
			}), opts...)
			s.untilCommitted(t, poisonGroup, topic, 0, poisonMessages)
			shutdownApp(t, service)
			e.want(t, attempts)
			wantDead(t, s, dead, deadLetter{strconv.Itoa(poisonAt), gostream.ReasonExhausted, errPoison.Error(), strconv.Itoa(attempts)})
		})
	}
}

// A poison that waits for its retry when the service stops goes to the next one, and the
// messages after it that were handled do not.
func TestPoisonIsHandedOn(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	topic, dead := s.topic(t, 1), s.topic(t, 1)
	s.put(t, topic, 0, 0, poisonMessages-1)
	e := newEaten()
	parking := startApp(t, s.broker(t), quickly(topic, poisonGroup), gostream.Raw(func(_ context.Context, d *gostream.Delivery) error {
		if n := number(t, d.Payload()); n != poisonAt {
			e.call(n)
			return nil
		}
		return errPoison
	}), gostream.OnError(gostream.Is(errPoison).Retry(gostream.Constant(time.Hour))))
	closed(t, "the messages after the poison are handled", e.others)
	shutdownApp(t, parking)
	if c := s.commit(poisonGroup, topic, 0); c.Offset != poisonAt {
		t.Errorf("after the shutdown offset %d is committed, want %d", c.Offset, poisonAt)
	}

	startApp(t, s.broker(t), quickly(topic, poisonGroup), gostream.Raw(func(_ context.Context, d *gostream.Delivery) error {
		e.call(number(t, d.Payload()))
		return errPoison
	}), gostream.OnError(gostream.Is(errPoison).DeadLetterTo(dead)))
	s.untilCommitted(t, poisonGroup, topic, 0, poisonMessages)
	e.want(t, 1)
	wantDead(t, s, dead, deadLetter{strconv.Itoa(poisonAt), gostream.ReasonError, errPoison.Error(), "1"})
}

// A payload that cannot be decoded goes to the dead letter topic as it is, without a call.
func TestUndecodablePayload(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	topic, dead := s.topic(t, 1), s.topic(t, 1)
	const garbage = `{"id":` // no JSON
	s.put(t, topic, 0, 0, poisonAt-1)
	c := s.client(t)
	if err := c.ProduceSync(bounded(t), &kgo.Record{Topic: topic, Value: []byte(garbage), Key: []byte("k"), Headers: []kgo.RecordHeader{{Key: "x-origin", Value: []byte("till 3")}}}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	s.put(t, topic, 0, poisonAt+1, poisonMessages-1)
	e := newEaten()
	startApp(t, s.broker(t), quickly(topic, poisonGroup), gostream.Consume(func(_ context.Context, n int) error { // a number is JSON
		e.call(n)
		return nil
	}), gostream.DeadLetterTo(dead))
	closed(t, "the messages after it are handled", e.others)
	s.untilCommitted(t, poisonGroup, topic, 0, poisonMessages)
	e.want(t, 0)
	rec := wantDead(t, s, dead, deadLetter{garbage, gostream.ReasonUndecodable, "", "1"})
	if string(rec.Key) != "k" || header(rec, "x-origin") != "till 3" {
		t.Errorf("the dead letter has the key %q and the headers %v, want those of the message", rec.Key, rec.Headers)
	}
}

// deadLetter is what one is to be; an empty text is not looked at.
type deadLetter struct{ payload, reason, err, attempts string }

// wantDead fails unless the topic has that dead letter and no other.
func wantDead(t *testing.T, s *site, topic string, want deadLetter) *kgo.Record {
	t.Helper()
	c := s.client(t, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	fetches := c.PollFetches(bounded(t))
	if err := fetches.Err(); err != nil {
		t.Fatal(err)
	}
	ends, err := s.admin.ListEndOffsets(bounded(t), topic)
	if err != nil {
		t.Fatal(err)
	}
	if end, _ := ends.Lookup(topic, 0); end.Offset != 1 {
		t.Errorf("there are %d dead letters, want 1", end.Offset)
	}
	rec := fetches.Records()[0]
	got := deadLetter{string(rec.Value), header(rec, gostream.HeaderDeadReason), header(rec, gostream.HeaderDeadError), header(rec, gostream.HeaderDeadAttempts)}
	if want.err == "" {
		got.err = ""
	}
	if want.attempts == "" {
		got.attempts = ""
	}
	if got != want {
		t.Errorf("the dead letter is %+v, want %+v", got, want)
	}
	return rec
}

func header(rec *kgo.Record, key string) string {
	for _, h := range rec.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

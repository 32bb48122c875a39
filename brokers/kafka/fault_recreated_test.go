package kafka_test

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
)

// A topic that is deleted and made anew under its name is noticed, though there is one: the
// client never takes to the new one by itself. Whoever subscribes again reads it.
func TestTopicIsMadeAnew(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]func(topic string) broker.Source{
		"group":       func(topic string) broker.Source { return kafka.Topic(topic).Group("g") },
		"pattern":     func(topic string) broker.Source { return kafka.TopicPattern(topic).Group("p") },
		"auto-commit": func(topic string) broker.Source { return kafka.Topic(topic).Group("a").AutoCommit() },
		"reader":      func(topic string) broker.Source { return kafka.Partitions(topic, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := ownCluster(t, 1)
			b := s.broker(t)
			topic := s.topic(t, 1)
			s.put(t, topic, 0, 0, 0)
			sub, err := source(topic).Subscribe(bounded(t), b)
			if err != nil {
				t.Fatal(err)
			}
			m, err := sub.Receive(bounded(t))
			if err != nil {
				t.Fatal(err)
			}
			if err := m.Ack(t.Context()); err != nil && !errors.Is(err, errors.ErrUnsupported) {
				t.Fatal(err)
			}
			if _, err := s.admin.DeleteTopics(t.Context(), topic); err != nil {
				t.Fatal(err)
			}
			if _, err := s.createTopic(t.Context(), topic, 1); err != nil {
				t.Fatal(err)
			}
			for {
				if _, err = sub.Receive(bounded(t)); err != nil {
					break
				}
			}
			if !errors.Is(err, broker.ErrNotFound) {
				t.Fatalf("Receive answers %v, want broker.ErrNotFound", err)
			}
			if err := sub.Close(bounded(t)); err != nil {
				t.Errorf("Close: %v", err)
			}
			until(t, "that it can be published to", func() bool {
				return b.Publisher().Publish(bounded(t), broker.OutgoingMessage{Name: topic, Payload: []byte("new")}) == nil
			})
			again, err := source(topic).Subscribe(bounded(t), b)
			if err != nil {
				t.Fatal(err)
			}
			if m, err := again.Receive(bounded(t)); err != nil || string(m.Payload()) != "new" {
				t.Errorf("received %v, %v", m, err)
			}
		})
	}
}

// holdingHook holds up the client of a group before it comes to life.
type holdingHook struct {
	group            string
	reached, release chan struct{}
	open             atomic.Int32
}

func (h *holdingHook) OnNewClient(c *kgo.Client) {
	if c.OptValue(kgo.ConsumerGroup) == h.group {
		h.open.Add(1)
		close(h.reached)
		<-h.release
	}
}

func (h *holdingHook) OnClientClosed(c *kgo.Client) {
	if c.OptValue(kgo.ConsumerGroup) == h.group {
		h.open.Add(-1)
	}
}

// A Shutdown in the middle of a Subscribe leaves no member behind.
func TestShutdownWhileSubscribing(t *testing.T) {
	t.Parallel()
	for _, auto := range []bool{false, true} {
		s := ownCluster(t, 1)
		topic := s.topic(t, 1)
		h := &holdingHook{group: newID(), reached: make(chan struct{}), release: make(chan struct{})}
		b := kafka.New(s.brokers, s.options(kafka.ClientOptions(kgo.WithHooks(h)))...)
		if err := b.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		src := kafka.Topic(topic).Group(h.group)
		if auto {
			src = src.AutoCommit()
		}
		subscribed, ended := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := src.Subscribe(bounded(t), b)
			subscribed <- err
		}()
		<-h.reached
		go func() { ended <- b.Shutdown(bounded(t)) }()
		until(t, "that the broker is closed", func() bool {
			return errors.Is(b.Publisher().Publish(t.Context(), broker.OutgoingMessage{Name: topic}), broker.ErrClosed)
		})
		close(h.release)
		if err := <-subscribed; !errors.Is(err, broker.ErrClosed) {
			t.Errorf("Subscribe answers %v, want broker.ErrClosed", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		until(t, "that the client is closed", func() bool { return h.open.Load() == 0 })
	}
}

// What AutoCommit has committed is handed out, also where Close comes while the commit is
// under way.
func TestAutoCommitHandsOutWhatItCommits(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	topic := s.topic(t, 1)
	sub, err := kafka.Topic(topic).Group("g").AutoCommit().Subscribe(bounded(t), s.broker(t))
	if err != nil {
		t.Fatal(err)
	}
	held, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	s.cluster.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
		s.cluster.SleepControl(func() {
			once.Do(func() { close(held) })
			<-release
		})
		return nil, nil, false
	})
	received := make(chan int64, 1)
	go func() {
		var n int64
		for {
			if _, err := sub.Receive(context.Background()); err != nil {
				received <- n
				return
			}
			n++
		}
	}()
	s.put(t, topic, 0, 0, 4)
	<-held
	closing := make(chan error, 1)
	go func() { closing <- sub.Close(bounded(t)) }()
	select { // it waits for the answer
	case err := <-closing:
		t.Errorf("Close has not waited for the commit: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	close(release)
	n := <-received
	if c := s.commit("g", topic, 0); c.Offset > n {
		t.Errorf("offset %d is committed, and %d messages were handed out", c.Offset, n)
	}
}

// Messages that are given back are each read anew, however large: the next is not taken for
// gone because an answer had no room for it.
func TestLargeMessagesComePristine(t *testing.T) {
	t.Parallel()
	s := ownCluster(t, 1)
	topic := s.topic(t, 1)
	b := s.broker(t)
	const n, size = 3, 700_000
	for i := range n {
		payload := make([]byte, size)
		_, _ = rand.Read(payload) // it does not get smaller on the way
		payload[0] = byte(i) + 1
		if err := b.Publisher().Publish(bounded(t), broker.OutgoingMessage{Name: topic, Payload: payload}); err != nil {
			t.Fatal(err)
		}
	}
	sub, err := kafka.Topic(topic).Group("g").Subscribe(bounded(t), b)
	if err != nil {
		t.Fatal(err)
	}
	var first []broker.IncomingMessage
	for range n {
		m, err := sub.Receive(bounded(t))
		if err != nil {
			t.Fatal(err)
		}
		clear(m.Payload())
		first = append(first, m)
	}
	for _, m := range first {
		if err := m.Nack(t.Context(), true); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		m, err := sub.Receive(bounded(t))
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Payload()[0]; got != byte(i)+1 {
			t.Errorf("message %d begins with %d: its first receiver has cleared it", i, got)
		}
	}
}

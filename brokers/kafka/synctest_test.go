package kafka_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
)

// In these tests client and cluster talk over a network of this process inside a bubble of
// testing/synctest, where hours pass as soon as everybody waits. So times are exact.

const (
	bubbleTopic = "orders"
	bubbleGroup = "desk"
)

// bubble is a cluster inside a bubble, and what it has seen.
type bubble struct {
	network kfake.VirtualNetwork
	cluster *kfake.Cluster

	mu      sync.Mutex
	commits []bubbleCommit
	joins   int
}

type bubbleCommit struct {
	at     time.Time
	offset int64
}

// newBubble starts the cluster. Whatever a failed test leaves has to end inside of the
// bubble: else the runtime ends the whole process.
func newBubble(t *testing.T) *bubble {
	t.Helper()
	s := new(bubble)
	var err error
	s.cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(9092), kfake.ListenFn(s.network.Listen), kfake.SeedTopics(1, bubbleTopic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.cluster.Close)
	watch := func(key kmsg.Key, f func(kmsg.Request)) {
		s.cluster.ControlKey(int16(key), func(r kmsg.Request) (kmsg.Response, error, bool) {
			s.cluster.KeepControl()
			s.mu.Lock()
			defer s.mu.Unlock()
			f(r)
			return nil, nil, false
		})
	}
	watch(kmsg.OffsetCommit, func(r kmsg.Request) {
		s.commits = append(s.commits, bubbleCommit{time.Now(), r.(*kmsg.OffsetCommitRequest).Topics[0].Partitions[0].Offset})
	})
	watch(kmsg.JoinGroup, func(kmsg.Request) { s.joins++ })
	return s
}

// broker is one that is not connected.
func (s *bubble) broker(t *testing.T) *kafka.Broker {
	b := kafka.New("localhost:9092", kafka.Dialer(s.network.DialContext))
	t.Cleanup(func() { _ = b.Shutdown(context.Background()) })
	return b
}

// committed is when each offset was committed, but for the one where the group begins.
func (s *bubble) committed() []bubbleCommit {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.commits), func(c bubbleCommit) bool { return c.offset == 0 })
}

func (s *bubble) joined() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.joins
}

// A handler that fails is called again after exactly the delays of its policy, of hours;
// meanwhile the app stays in its group, and nothing is committed. What comes behind is
// handled at once.
func TestRetriesAfterHoursInBubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newBubble(t)
		ctx := t.Context()
		type call struct {
			payload string
			at      time.Time
		}
		calls := make(chan call, 100)
		failures := 3
		r := gostream.NewRouter()
		r.HandleSource(kafka.Topic(bubbleTopic).Group(bubbleGroup), gostream.Consume(func(_ context.Context, payload string) error {
			calls <- call{payload, time.Now()}
			if payload == "poison" && failures > 0 {
				failures--
				return errors.New("not now")
			}
			return nil
		}), gostream.OnError(gostream.AnyError().Retry(gostream.Exponential(time.Hour, 24*time.Hour).Jitter(0))))
		b := s.broker(t)
		app := gostream.New("bubble", "0", gostream.WithLogger(slog.New(slog.DiscardHandler)))
		app.Mount(b, r)
		service, err := app.Start(ctx)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = service.Shutdown(context.Background()) })
		s.put(t, b, "poison", "fine")

		first := <-calls
		if next := <-calls; next.payload != "fine" || next.at != first.at {
			t.Errorf("%q was handled after %v, want the message behind at once", next.payload, next.at.Sub(first.at))
		}
		joined := s.joined()
		last := first.at
		for i, want := range []time.Duration{time.Hour, 2 * time.Hour, 4 * time.Hour} {
			c := <-calls
			if got := c.at.Sub(last); c.payload != "poison" || got != want {
				t.Errorf("call %d was of %q after %v, want %v", i+2, c.payload, got, want)
			}
			last = c.at
			// The interval may end at the very moment of the last call, and its ack be in time.
			if all := s.committed(); len(all) > 0 && all[0].at.Before(c.at) {
				t.Errorf("committed before the message was handled, at %v: %v", c.at, all)
			}
		}
		time.Sleep(kafka.DefaultCommitInterval)
		synctest.Wait()
		if all := s.committed(); len(all) == 0 || all[len(all)-1].offset != 2 || all[len(all)-1].at.Sub(last) > kafka.DefaultCommitInterval {
			t.Errorf("committed: %v, want offset 2 within %v after the last call", all, kafka.DefaultCommitInterval)
		}
		if n := s.joined(); n != joined {
			t.Errorf("the group was joined %d times meanwhile", n-joined)
		}
		if h := service.Health(ctx); h.Brokers[0].Err != nil {
			t.Errorf("health: %v", h.Brokers[0].Err)
		}
		if err := service.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if len(calls) > 0 {
			t.Errorf("there are %d more calls", len(calls))
		}
	})
}

// What was acknowledged is committed when the interval has passed: not before, and not
// again while nothing changes.
func TestCommitIntervalInBubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const interval = 10 * time.Minute
		s := newBubble(t)
		ctx := t.Context()
		b := s.broker(t)
		if err := b.Connect(ctx); err != nil {
			t.Fatal(err)
		}
		begun := time.Now() // to subscribe takes no time here
		sub, err := kafka.Topic(bubbleTopic).Group(bubbleGroup).CommitInterval(interval).Subscribe(ctx, b)
		if err != nil {
			t.Fatal(err)
		}
		s.put(t, b, "0", "1", "2")
		var msgs []broker.IncomingMessage
		for range 3 {
			m, err := sub.Receive(ctx)
			if err != nil {
				t.Fatal(err)
			}
			msgs = append(msgs, m)
		}
		clusterAck(t, msgs[0])
		time.Sleep(time.Until(begun.Add(interval)) - time.Nanosecond)
		synctest.Wait()
		if all := s.committed(); len(all) > 0 {
			t.Errorf("committed before the interval has passed: %v", all)
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		want := []bubbleCommit{{begun.Add(interval), 1}}
		if all := s.committed(); !slices.Equal(all, want) {
			t.Errorf("committed: %v, want %v", all, want)
		}
		time.Sleep(5 * interval) // nothing is acknowledged
		synctest.Wait()          // for whoever wakes up now as well
		clusterAck(t, msgs[1])
		clusterAck(t, msgs[2])
		time.Sleep(interval)
		synctest.Wait()
		want = append(want, bubbleCommit{begun.Add(7 * interval), 3})
		if all := s.committed(); !slices.Equal(all, want) {
			t.Errorf("committed: %v, want %v", all, want)
		}
		if err := b.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if all := s.committed(); !slices.Equal(all, want) {
			t.Errorf("committed after Shutdown: %v, want nothing more than %v", all, want)
		}
	})
}

// A publish inside a bubble leaves nothing behind that one outside of it, or in another
// one, would come upon. The test runs in a process of its own, since what the runtime
// says of a channel of another bubble ends the process.
func TestPublishInBubblesAndOutside(t *testing.T) {
	t.Parallel()
	const child = "KAFKA_TEST_BUBBLES"
	if os.Getenv(child) == "" {
		ctx, cancel := context.WithTimeout(t.Context(), clusterLimit)
		defer cancel()
		cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1")
		cmd.Env = append(os.Environ(), child+"=1", "GOMAXPROCS=1") // one pool of everything
		if out, err := cmd.CombinedOutput(); err != nil {
			first, _, _ := strings.Cut(string(out), "\n\n")
			t.Errorf("%v: %s", err, first)
		}
		return
	}
	publish := func(t *testing.T) {
		s := newBubble(t)
		b := s.broker(t)
		if err := b.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		clusterPublish(t, b.Publisher(), bubbleTopic, "0", "1", "2")
		if err := b.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
	synctest.Test(t, publish)
	publish(t)
	synctest.Test(t, publish)
}

// put publishes to the topic.
func (s *bubble) put(t *testing.T, b *kafka.Broker, payloads ...string) {
	t.Helper()
	var batch []broker.OutgoingMessage
	for _, payload := range payloads {
		batch = append(batch, broker.OutgoingMessage{Name: bubbleTopic, Payload: []byte(payload)})
	}
	if err := broker.PublishBatch(t.Context(), b.Publisher(), batch); err != nil {
		t.Fatal(err)
	}
}

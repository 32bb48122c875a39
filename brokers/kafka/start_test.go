package kafka_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
)

// starter is a kind of source that has a start.
type starter struct {
	name   string
	source func(topic, group string, at begin) broker.Source
	group  bool
}

// begin is where a source begins.
type begin struct {
	name string
	at   string // "earliest", "latest" or "time"
	time time.Time
}

func group(at begin, s kafka.TopicSource) kafka.TopicSource {
	switch at.at {
	case "earliest":
		return s.FromEarliest()
	case "latest":
		return s.FromLatest()
	case "time":
		return s.FromTime(at.time)
	}
	return s
}

var starters = []starter{
	{"group", func(topic, name string, at begin) broker.Source { return group(at, kafka.Topic(topic).Group(name)) }, true},
	{"auto-commit", func(topic, name string, at begin) broker.Source {
		return group(at, kafka.Topic(topic).Group(name).AutoCommit())
	}, true},
	{"reader", func(topic, _ string, at begin) broker.Source {
		s := kafka.Partitions(topic, 0)
		switch at.at {
		case "earliest":
			return s.FromLatest().FromEarliest()
		case "latest":
			return s.FromLatest()
		case "time":
			return s.FromTime(at.time)
		}
		return s
	}, false},
}

// Where a source begins that has no position yet.
func TestStarts(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 1).trial(t)
	topic := x.site.topic(t, 2)
	moment := time.UnixMilli(1_700_000_000_000)
	for i := range 3 {
		when := moment.Add(time.Duration(i) * time.Second)
		x.publish(broker.OutgoingMessage{Name: topic, Payload: fmt.Append(nil, i), Options: kafka.PublishOptions{Partition: new(int32(0)), Timestamp: when}})
	}
	// What is published after Subscribe has returned is told apart by its number.
	marker := 0
	for _, tt := range []struct {
		begin
		want []string
	}{
		{begin{"default", "", time.Time{}}, []string{"0", "1", "2"}},
		{begin{"earliest", "earliest", time.Time{}}, []string{"0", "1", "2"}},
		{begin{"latest", "latest", time.Time{}}, nil},
		{begin{"1970", "time", time.UnixMilli(0)}, []string{"0", "1", "2"}},
		{begin{"the time of the second", "time", moment.Add(time.Second)}, []string{"1", "2"}},
		{begin{"before the second", "time", moment.Add(time.Second - time.Millisecond)}, []string{"1", "2"}},
		{begin{"after the second", "time", moment.Add(time.Second + time.Millisecond)}, []string{"2"}},
		{begin{"the future", "time", time.Now().Add(time.Hour)}, nil},
	} {
		for _, kind := range starters {
			sub := x.subscribe(kind.source(topic, newID(), tt.begin))
			marker++
			mark := fmt.Sprintf("mark %d", marker)
			x.send(topic, 0, mark)
			var got []string
			for len(got) == 0 || got[len(got)-1] != mark {
				m := string(x.receive(sub).Payload())
				if m == mark || !strings.HasPrefix(m, "mark") { // those of other starts
					got = append(got, m)
				}
			}
			if want := append(append([]string(nil), tt.want...), mark); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s from %s: %v, want %v", kind.name, tt.name, got, want)
			}
			if err := sub.Close(x.bound()); err != nil {
				t.Error(err)
			}
		}
	}
}

// The position of the group goes before the start of the source.
func TestTheGroupsCommitGoesFirst(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 1).trial(t)
	for _, kind := range starters {
		if !kind.group {
			continue
		}
		for _, at := range []begin{{"earliest", "earliest", time.Time{}}, {"latest", "latest", time.Time{}}, {"time", "time", time.UnixMilli(0)}, {"the future", "time", time.Now().Add(time.Hour)}} {
			topic, name := x.site.topic(t, 1), newID()
			x.send(topic, 0, "0", "1", "2")
			first := x.subscribe(kafka.Topic(topic).Group(name))
			x.ack(x.expect(first, "0")...)
			if err := first.Close(x.bound()); err != nil {
				t.Fatal(err)
			}
			sub := x.subscribe(kind.source(topic, name, at))
			x.expect(sub, "1", "2")
			if err := sub.Close(x.bound()); err != nil {
				t.Error(err)
			}
		}
	}
}

// A commit that retention has overtaken begins with the oldest message there is.
func TestACommitThatRetentionHasOvertaken(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 1).trial(t)
	topic := x.site.topic(t, 1)
	x.send(topic, 0, "0", "1", "2", "3")
	src := kafka.Topic(topic).Group("g")
	first := x.subscribe(src)
	x.ack(x.expect(first, "0")...)
	if err := first.Close(x.bound()); err != nil {
		t.Fatal(err)
	}
	if err := x.site.cluster.DeleteRecords(topic, 0, 3); err != nil {
		t.Fatal(err)
	}
	sub := x.subscribe(src)
	x.ack(x.expect(sub, "3")...)
	if err := sub.Close(x.bound()); err != nil {
		t.Fatal(err)
	}
	if at, err := x.site.committed(x.bound(), "g", topic, 0); at != 4 || err != nil {
		t.Errorf("committed is %d, %v", at, err)
	}
}

// Where a group begins that has committed nothing is committed at once: what is published
// after Subscribe has returned is not lost, though the member ends before it has seen any.
func TestFromLatestIsCommittedAtOnce(t *testing.T) {
	t.Parallel()
	for _, kind := range starters {
		if !kind.group {
			continue
		}
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			s := ownCluster(t, 1)
			quick := kafka.ClientOptions(kgo.SessionTimeout(400*time.Millisecond), kgo.HeartbeatInterval(50*time.Millisecond))
			x := s.trial(t, quick)
			topic := s.topic(t, 1)
			x.send(topic, 0, "old")
			src := kind.source(topic, "g", begin{at: "latest"})
			x.subscribe(src)
			if at, err := s.committed(x.bound(), "g", topic, 0); at != 1 || err != nil {
				t.Errorf("committed is %d, %v", at, err)
			}
			// It is cut off, so that nothing can be committed at the end.
			restore := s.interrupt()
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_ = x.b.Shutdown(ctx)
			restore()
			x.b = s.broker(t, quick)
			x.send(topic, 0, "between")
			x.expect(x.subscribe(src), "between")
		})
	}
}

// Subscribe returns when the commit of where it begins is answered.
func TestSubscribeWaitsForTheCommitOfItsStart(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 1).trial(t)
	topic := x.site.topic(t, 1)
	h := x.hold(int16(kmsg.OffsetCommit), false)
	done := make(chan error, 1)
	go func() {
		_, err := kafka.Topic(topic).Group("g").FromLatest().Subscribe(x.bound(), x.b)
		done <- err
	}()
	<-h.asked
	select {
	case err := <-done:
		t.Errorf("Subscribe returned before the commit was answered: %v", err)
	case <-time.After(100 * time.Millisecond): // a chance to go wrong
	}
	close(h.release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A topic or partition that is younger than the subscription is read from its beginning,
// whatever the start: what was published to it before it was found is not lost.
func TestWhatIsYoungerThanTheSubscriptionIsReadWhole(t *testing.T) {
	t.Parallel()
	for name, auto := range map[string]bool{"tracked": false, "auto-commit": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := ownCluster(t, 1)
			x := s.trial(t, kafka.ClientOptions(kgo.MetadataMaxAge(100*time.Millisecond)))
			prefix := "y" + newID()
			if _, err := s.createTopic(x.bound(), prefix+".0", 1); err != nil {
				t.Fatal(err)
			}
			x.send(prefix+".0", 0, "old")
			src := kafka.TopicPattern(prefix + `\..*`).Group("g").FromLatest()
			if auto {
				src = src.AutoCommit()
			}
			sub := x.subscribe(src)
			if _, err := s.admin.CreatePartitions(x.bound(), 1, prefix+".0"); err != nil {
				t.Fatal(err)
			}
			if _, err := s.createTopic(x.bound(), prefix+".1", 1); err != nil {
				t.Fatal(err)
			}
			if _, err := s.createTopic(x.bound(), "x"+prefix+".2", 1); err != nil {
				t.Fatal(err)
			}
			want := map[string]bool{"new partition": true, "new topic": true}
			for _, rec := range []*kgo.Record{
				{Topic: prefix + ".0", Partition: 1, Value: []byte("new partition")},
				{Topic: prefix + ".1", Value: []byte("new topic")},
				{Topic: "x" + prefix + ".2", Value: []byte("another's topic")},
			} {
				c := s.client(t, kgo.RecordPartitioner(kgo.ManualPartitioner()))
				if err := c.ProduceSync(x.bound(), rec).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			for len(want) > 0 {
				m := x.receive(sub)
				if !want[string(m.Payload())] {
					t.Fatalf("received %s of %s", m.Payload(), m.Name())
				}
				delete(want, string(m.Payload()))
			}
		})
	}
}

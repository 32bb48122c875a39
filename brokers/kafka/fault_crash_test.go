package kafka_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/gostream/gostream/brokers/kafka"
)

// crashEnv holds the brokers and the topic for the process that TestMemberIsKilled starts
// from its own binary in order to kill it.
const crashEnv = "GOSTREAM_KAFKA_CRASH"

const (
	crashMessages = 200
	crashKept     = 10 // is never settled
	crashSaved    = 60 // those before are acknowledged and committed, but crashKept
	crashAcked    = 80 // those before are acknowledged too, but not committed
	crashTaken    = 90 // those before were handed out
	crashGroup    = "desk"
)

// A member is killed. The next one repeats the message that was not settled and what was
// acknowledged after the last commit, and nothing that this commit says is settled, below
// the committed offset or above it.
func TestMemberIsKilled(t *testing.T) {
	if brokers, topic, ok := strings.Cut(os.Getenv(crashEnv), " "); ok {
		crashPlay(brokers, topic)
	}
	t.Parallel()
	s := ownCluster(t, 1)
	topic := s.topic(t, 1)
	s.put(t, topic, 0, 0, crashMessages-1)
	crashKill(t, s, topic)

	want := append([]int{crashKept}, numbers(crashSaved, crashMessages-1)...)
	b := s.broker(t)
	sub := subscribe(t, b, quickly(topic, crashGroup))
	for _, n := range want {
		m := receive(t, sub)
		if got := number(t, m.Payload()); got != n {
			t.Fatalf("the next member is given %d, want %d", got, n)
		}
		ack(t, m)
	}
	s.untilCommitted(t, crashGroup, topic, 0, crashMessages)
	if above := settledIn(t, s.commit(crashGroup, topic, 0)); len(above) != 0 {
		t.Errorf("at the end of the topic the commit says that %v are settled", above)
	}
}

// crashPlay is what the process does that is killed. It does not return.
func crashPlay(brokers, topic string) {
	fail := func(err error) {
		fmt.Println("failed:", err)
		os.Exit(1)
	}
	// It ends by itself where the test that should kill it is no more.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b := kafka.New(brokers, kafka.SASLScramSHA256("kit", password), kafka.ClientOptions(
		kgo.SessionTimeout(time.Second),
		kgo.HeartbeatInterval(50*time.Millisecond),
		kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
	))
	if err := b.Connect(ctx); err != nil {
		fail(err)
	}
	sub, err := quickly(topic, crashGroup).Subscribe(ctx, b)
	if err != nil {
		fail(err)
	}
	var taken []*kafka.Message
	for range crashTaken {
		m, err := sub.Receive(ctx)
		if err != nil {
			fail(err)
		}
		taken = append(taken, m.(*kafka.Message))
	}
	acknowledge := func(first, last int) {
		for _, m := range taken[first:last] {
			if m.Offset() == crashKept {
				continue
			}
			if err := m.Ack(ctx); err != nil {
				fail(err)
			}
			fmt.Println("acked", m.Offset())
		}
	}
	acknowledge(0, crashSaved)
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the parent has seen the commit
	acknowledge(crashSaved, crashAcked)
	<-ctx.Done()
	fail(errors.New("the process was not killed"))
}

// crashKill starts the process, and kills it when its first acknowledgements are committed
// and a commit with the others was refused.
func crashKill(t *testing.T, s *site, topic string) {
	t.Helper()
	cmd := exec.CommandContext(bounded(t), os.Args[0], "-test.run=^TestMemberIsKilled$")
	cmd.Env = append(os.Environ(), crashEnv+"="+s.brokers+" "+topic)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after a failure below
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	untilAcked(t, lines, crashSaved)
	above := slices.Collect(func(yield func(int64) bool) {
		for n := int64(crashKept + 1); n < crashSaved && yield(n); n++ {
		}
	})
	until(t, "the acknowledgements are committed", func() bool {
		c := s.commit(crashGroup, topic, 0)
		return c.Offset == crashKept && slices.Equal(settledIn(t, c), above)
	})
	refused := s.cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Group: crashGroup, Count: -1, Err: kerr.CoordinatorLoadInProgress})
	defer refused.Remove()
	if _, err := io.WriteString(in, "\n"); err != nil {
		t.Fatal(err)
	}
	untilAcked(t, lines, crashAcked)
	if err := refused.Wait(bounded(t), 1); err != nil {
		t.Fatal("it does not commit what it acknowledged:", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
		t.Fatalf("the process was not killed: %v", err)
	}
	if c := s.commit(crashGroup, topic, 0); c.Offset != crashKept || !slices.Equal(settledIn(t, c), above) {
		t.Fatalf("after the crash the commit is %+v", c)
	}
}

// untilAcked reads what the process says until it has acknowledged all before n.
func untilAcked(t *testing.T, lines *bufio.Scanner, n int) {
	t.Helper()
	var said []string
	last := fmt.Sprint("acked ", n-1)
	for !slices.Contains(said, last) && lines.Scan() {
		said = append(said, lines.Text())
	}
	if !slices.Contains(said, last) {
		t.Fatalf("the process ended before it had acknowledged %d; it said %q", n-1, said)
	}
}

// settledIn are the offsets that a commit says are settled above its own, by the format
// that another version of this package may have to read.
func settledIn(t *testing.T, c kfake.GroupCommit) (offsets []int64) {
	t.Helper()
	text, ok := strings.CutPrefix(c.Metadata, "gostream/1 ")
	if !ok {
		return nil // the client's own: the id of the member
	}
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		t.Fatalf("the metadata is %q (%v)", c.Metadata, err)
	}
	next := func() int64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			t.Fatalf("the metadata %q ends too early", c.Metadata)
		}
		b = b[n:]
		return int64(v)
	}
	next() // the epoch
	if at := next(); at != c.Offset {
		t.Fatalf("the metadata %q is of offset %d, the commit of %d", c.Metadata, at, c.Offset)
	}
	for at := c.Offset; len(b) > 0; {
		at += next()
		for n := next(); n > 0; n-- {
			offsets = append(offsets, at)
			at++
		}
	}
	return offsets
}

package dirbroker_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/examples/dirbroker"
)

// crashEnv holds the folder and the part that a process plays which a test starts
// from its own binary in order to kill it.
const crashEnv = "DIRBROKER_CRASH"

func TestMain(m *testing.M) {
	if part, dir, ok := strings.Cut(os.Getenv(crashEnv), ":"); ok {
		fmt.Println(play(part, dir))
		os.Exit(1) // a part that is played well is killed before
	}
	os.Exit(m.Run())
}

// play claims everything, or publishes without end. It prints a line for each.
func play(part, dir string) error {
	// It ends by itself where the test that should kill it is no more.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b := dirbroker.New(dirbroker.Config{Dir: dir, NoSync: true})
	if err := b.Connect(ctx); err != nil {
		return err
	}
	if part == "publish" {
		for i := 0; ; i++ {
			text := fmt.Sprintf("%d:%s", i, strings.Repeat("x", i%5000))
			if err := b.Publisher().Publish(ctx, broker.OutgoingMessage{Name: "orders", Payload: []byte(text)}); err != nil {
				return err
			}
			fmt.Println(len(text))
		}
	}
	sub, err := b.Subscribe(ctx, "orders")
	if err != nil {
		return err
	}
	for m, err := range broker.Messages(ctx, sub) {
		if err != nil {
			return err
		}
		fmt.Println(string(m.Payload()))
	}
	return nil
}

// killed starts a process that plays part, waits for n lines and kills it.
func killed(t *testing.T, part, dir string, n int) (lines []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), crashEnv+"="+part+":"+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := bufio.NewScanner(out)
	for s.Scan() {
		if lines = append(lines, s.Text()); len(lines) == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() || len(lines) < n {
		t.Fatalf("the process was not killed: %v; it said %q", err, lines)
	}
	return lines
}

// connect returns a connected broker on dir, which is shut down at the end.
func connect(t *testing.T, c dirbroker.Config) *dirbroker.Broker {
	t.Helper()
	c.NoSync = true
	if c.Poll == 0 {
		c.Poll = time.Millisecond
	}
	b := dirbroker.New(c)
	if err := b.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

func subscribe(t *testing.T, b *dirbroker.Broker) broker.Subscription {
	t.Helper()
	sub, err := b.Subscribe(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

func publish(t *testing.T, b *dirbroker.Broker, payloads ...string) {
	t.Helper()
	for _, p := range payloads {
		if err := b.Publisher().Publish(t.Context(), broker.OutgoingMessage{Name: "orders", Payload: []byte(p)}); err != nil {
			t.Fatal(err)
		}
	}
}

// receive receives a message of that payload, which is in its delivery number n.
func receive(t *testing.T, sub broker.Subscription, want string, n int) broker.IncomingMessage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	m, err := sub.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := broker.DeliveryCount(m); string(m.Payload()) != want || got != n {
		t.Fatalf("received %q in its delivery %d, want %q and %d", m.Payload(), got, want, n)
	}
	return m
}

// files returns what is in a folder of the queue.
func files(t *testing.T, dir string, elements ...string) []string {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(dir, "orders", filepath.Join(elements...)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	for _, f := range list {
		names = append(names, f.Name())
	}
	return names
}

// What a process had in hand when it was killed comes back, before what it had not
// received, with a count that says so.
func TestKilledConsumer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := connect(t, dirbroker.Config{Dir: dir})
	publish(t, b, "a", "b")
	killed(t, "consume", dir, 2)
	publish(t, b, "c")

	sub := subscribe(t, b)
	for i, want := range []string{"a", "b", "c"} {
		count := 2
		if i == 2 {
			count = 1
		}
		if err := receive(t, sub, want, count).Ack(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if left := files(t, dir, "claimed"); len(left) != 1 {
		t.Errorf("the folders of claims are %q, want our own alone", left)
	}
}

// A subscription that waits already notices, too.
func TestKilledConsumerIsNoticed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := connect(t, dirbroker.Config{Dir: dir})
	publish(t, b, "a")
	sub := subscribe(t, b)
	if err := receive(t, sub, "a", 1).Nack(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	killed(t, "consume", dir, 1)
	receive(t, sub, "a", 3)
}

// A consumer that lives keeps what it has, however many others come and go.
func TestLivingConsumerKeeps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := connect(t, dirbroker.Config{Dir: dir})
	publish(t, b, "a")
	m := receive(t, subscribe(t, b), "a", 1)
	other := connect(t, dirbroker.Config{Dir: dir})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if m, err := subscribe(t, other).Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("another consumer got %v, %v", m, err)
	}
	if err := m.Ack(t.Context()); err != nil {
		t.Error(err)
	}
}

// A process that is killed while it publishes leaves whole messages and at most a
// file that was not finished, which nobody receives and which is removed.
func TestKilledPublisher(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	accepted := killed(t, "publish", dir, 300)

	var log bytes.Buffer
	b := connect(t, dirbroker.Config{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	sub := subscribe(t, b)
	ready := files(t, dir, "ready")
	if len(ready) < len(accepted) || len(ready) > len(accepted)+1 {
		t.Errorf("%d messages are there, %d were accepted", len(ready), len(accepted))
	}
	for i := range ready {
		receive(t, sub, fmt.Sprintf("%d:%s", i, strings.Repeat("x", i%5000)), 1)
	}
	if left := files(t, dir, "tmp"); len(left) != 0 || log.Len() != 0 {
		t.Errorf("unfinished files %q, log %q", left, &log)
	}
}

// The unfinished file of a publisher that lives is left alone, that of a dead one is
// removed. Neither is received.
func TestUnfinishedPublish(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := connect(t, dirbroker.Config{Dir: dir})
	publish(t, b, "a")
	living := strings.Split(files(t, dir, "ready")[0], "-")[1]
	for _, from := range []string{living, "dead"} {
		name := filepath.Join(dir, "orders", "tmp", fmt.Sprintf("%019d-%s-0-0", 1, from))
		if err := os.WriteFile(name, []byte("gsd1half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	receive(t, subscribe(t, b), "a", 1)
	if left := files(t, dir, "tmp"); len(left) != 1 || !strings.Contains(left[0], living) {
		t.Errorf("the unfinished files are %q, want that of %s alone", left, living)
	}
}

// A damaged file is set aside and told of; the next message comes.
func TestCorruptFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var log bytes.Buffer
	b := connect(t, dirbroker.Config{Dir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	publish(t, b, "a", "b")
	damaged := files(t, dir, "ready")[0]
	if err := os.Truncate(filepath.Join(dir, "orders", "ready", damaged), 10); err != nil {
		t.Fatal(err)
	}
	receive(t, subscribe(t, b), "b", 1)
	aside := files(t, dir, "corrupt")
	if len(aside) != 1 || aside[0][:19] != damaged[:19] {
		t.Errorf("set aside are %q, want %s", aside, damaged)
	}
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "orders/corrupt") {
		t.Errorf("the log is %q", &log)
	}
}

// What is not ours in the folder is left alone.
func TestForeignFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := connect(t, dirbroker.Config{Dir: dir})
	publish(t, b, "a")
	if err := os.WriteFile(filepath.Join(dir, "orders", "ready", "0-notes.txt"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	sub := subscribe(t, b)
	receive(t, sub, "a", 1)
	if n, err := broker.Lag(t.Context(), sub); n != 0 || err != nil {
		t.Errorf("the lag is %d, %v", n, err)
	}
	if left := files(t, dir, "ready"); len(left) != 1 {
		t.Errorf("left are %q", left)
	}
}

// A message that somebody takes away is stale, and makes room below the limit, once.
func TestTakenAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := connect(t, dirbroker.Config{Dir: dir})
	publish(t, b, "a", "b", "c")
	sub, err := dirbroker.Queue("orders").Limit(1).Subscribe(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	m := receive(t, sub, "a", 1)
	id := files(t, dir, "claimed")[0]
	if err := os.Remove(filepath.Join(dir, "orders", "claimed", id, files(t, dir, "claimed", id)[0])); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.Ack(t.Context()); !errors.Is(err, broker.ErrStale) {
			t.Errorf("Ack answers %v", err)
		}
	}
	receive(t, sub, "b", 1)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if m, err := sub.Receive(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("above the limit came %v, %v", m, err)
	}
}

// A queue that is removed is noticed, not waited for.
func TestRemovedQueue(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := connect(t, dirbroker.Config{Dir: dir})
	sub := subscribe(t, b)
	if err := os.RemoveAll(filepath.Join(dir, "orders")); err != nil {
		t.Fatal(err)
	}
	if _, err := sub.Receive(t.Context()); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("Receive answers %v", err)
	}

	// A new subscription makes it anew.
	sub = subscribe(t, b)
	publish(t, b, "a")
	if err := os.RemoveAll(filepath.Join(dir, "orders", "claimed")); err != nil {
		t.Fatal(err)
	}
	if _, err := sub.Receive(t.Context()); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("without a folder for claims Receive answers %v", err)
	}
	receive(t, subscribe(t, b), "a", 1)

	if err := b.Health(t.Context()); err != nil {
		t.Errorf("Health answers %v", err)
	}
	if err := os.RemoveAll(filepath.Join(dir, ".connections")); err != nil {
		t.Fatal(err)
	}
	if err := b.Health(t.Context()); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("Health answers %v", err)
	}
}

// With files that must reach the disk everything is as it is without.
func TestSync(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for n := range 2 {
		b := dirbroker.New(dirbroker.Config{Dir: dir})
		if err := b.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			publish(t, b, "a", "b")
		}
		sub := subscribe(t, b)
		receive(t, sub, "a", n+1)
		if err := receive(t, sub, "b", n+1).Nack(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if err := b.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if left := files(t, dir, "ready"); len(left) != 2 {
		t.Errorf("left are %q", left)
	}
}

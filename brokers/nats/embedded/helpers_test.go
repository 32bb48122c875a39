package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/brokers/nats/embedded"
)

func start(t testing.TB, c embedded.Config) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t testing.TB, s *embedded.Server) {
	t.Helper()
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

// connect connects within the process.
func connect(t testing.TB, s *embedded.Server, options ...natsgo.Option) (*natsgo.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := natsgo.Connect("", append(options, natsgo.InProcessServer(s))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

func streamConfig(storage jetstream.StorageType) jetstream.StreamConfig {
	return jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}, Storage: storage}
}

func addStream(t testing.TB, js jetstream.JetStream, storage jetstream.StorageType) {
	t.Helper()
	if _, err := js.CreateStream(t.Context(), streamConfig(storage)); err != nil {
		t.Fatal(err)
	}
}

func publish(t testing.TB, js jetstream.JetStream, n int) {
	t.Helper()
	for i := range n {
		if _, err := js.Publish(t.Context(), "orders.new", fmt.Appendf(nil, "message %d", i)); err != nil {
			t.Fatal(err)
		}
	}
}

// consume acknowledges n messages and returns them.
func consume(t testing.TB, js jetstream.JetStream, n int) []string {
	t.Helper()
	c, err := js.CreateOrUpdateConsumer(t.Context(), "ORDERS", jetstream.ConsumerConfig{Durable: "desk", AckPolicy: jetstream.AckExplicitPolicy})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for len(got) < n {
		m, err := c.Next(jetstream.FetchMaxWait(5 * time.Second))
		if err != nil {
			t.Fatalf("after %d of %d messages: %v", len(got), n, err)
		}
		if err := m.DoubleAck(t.Context()); err != nil {
			t.Fatal(err)
		}
		got = append(got, string(m.Data()))
	}
	return got
}

func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", words)
	}
	for _, word := range append(words, "embedded.Start: ") {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not say %q: %v", word, err)
		}
	}
}

func entries(t *testing.T, dir string) []string {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, len(all))
	for i, e := range all {
		names[i] = e.Name()
	}
	return names
}

// noGoroutines fails if a goroutine of a server or of a client goes on.
func noGoroutines(t *testing.T) {
	t.Helper()
	var found []string
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); runtime.Gosched() {
		buf := make([]byte, 1<<20)
		buf = buf[:runtime.Stack(buf, true)]
		found = nil
		for stack := range strings.SplitSeq(string(buf), "\n\n") {
			if strings.Contains(stack, "nats") && !strings.Contains(stack, "testing.tRunner") {
				found = append(found, stack)
			}
		}
		if len(found) == 0 {
			return
		}
	}
	t.Errorf("%d goroutines go on, the first:\n%s", len(found), found[0])
}

// listening returns the addresses at which this process listens.
func listening(t *testing.T) []string {
	t.Helper()
	mine := make(map[string]bool)
	for _, fd := range entries(t, "/proc/self/fd") {
		if link, err := os.Readlink("/proc/self/fd/" + fd); err == nil {
			mine[link] = true
		}
	}
	var found []string
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			const address, state, inode, listen = 1, 3, 9, "0A"
			f := strings.Fields(line)
			if len(f) > inode && f[state] == listen && mine["socket:["+f[inode]+"]"] {
				found = append(found, f[address])
			}
		}
	}
	return found
}

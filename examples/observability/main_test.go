package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// buffer is written to and read by several goroutines.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{} // has something after each write
}

func newBuffer() *buffer { return &buffer{more: make(chan struct{}, 1)} }

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.more <- struct{}{}:
	default:
	}
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// await waits until the text matches, and returns the first group.
func (b *buffer) await(t *testing.T, re string) string {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		if m := regexp.MustCompile(re).FindStringSubmatch(b.String()); m != nil {
			return m[len(m)-1]
		}
		select {
		case <-b.more:
		case <-late:
			t.Fatalf("no %s in\n%s", re, b)
		}
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// The program, as main runs it: it serves what it says, and shows at its end what was traced.
func TestRun(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, logs := newBuffer(), newBuffer()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, l, out, slog.NewTextHandler(logs, nil)) }()

	at := out.await(t, `metrics +(http://\S+)/metrics`)
	logs.await(t, `somebody should look.* trace_id=\w{32}`) // an order has come to its end
	if code, body := get(t, at+"/metrics"); code != http.StatusOK || !strings.Contains(body, "gostream_settled_messages_total{") {
		t.Errorf("/metrics answers %d\n%s", code, body)
	}
	if code, body := get(t, at+"/readyz"); code != http.StatusOK {
		t.Errorf("/readyz answers %d\n%s", code, body)
	}
	if code, body := get(t, at+"/subscriptions"); code != http.StatusOK || !strings.Contains(body, "orders.dead") {
		t.Errorf("/subscriptions answers %d\n%s", code, body)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	for _, want := range []string{
		`drained +finished \d+, given back \d+, abandoned 0, lost 0, in `,
		`\d+  process orders\n`, `\d+  send orders.dead\n`,
		`A trace that ended in the dead letter, \w{32}\n  customer orders .*\n    send orders .*\n      process orders .*attempt 1, outcome retried, reason panic, type panic\n`,
		`process orders .*attempt 3, outcome dead-lettered, reason attempts exhausted, type panic\n        send orders.dead .*\n          process orders.dead .*outcome acked\n`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	confirmed := regexp.MustCompile(`msg="order is confirmed" order=o-0001 trace_id=\w{32} span_id=\w{16} gostream.subscription=orders messaging.destination.name=orders gostream.attempt=1`)
	if !confirmed.MatchString(logs.String()) {
		t.Errorf("no %s in\n%s", confirmed, logs)
	}
}

// The built program ends on Ctrl-C with its report, and by itself with -for.
func TestEnds(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "observability")
	if text, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	start := func(args ...string) (*exec.Cmd, *buffer) {
		out := newBuffer()
		cmd := exec.CommandContext(t.Context(), program, append([]string{"-listen", "127.0.0.1:0"}, args...)...)
		cmd.Stdout = out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, out
	}
	byItself, itsOutput := start("-for", "500ms")
	interrupted, out := start()
	out.await(t, "End it with Ctrl-C")
	if err := interrupted.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for _, one := range []struct {
		cmd *exec.Cmd
		out *buffer
	}{{interrupted, out}, {byItself, itsOutput}} {
		if err := one.cmd.Wait(); err != nil {
			t.Error(err)
		}
		if !strings.Contains(one.out.String(), "drained        finished") {
			t.Errorf("no report in\n%s", one.out)
		}
	}
}

package cli_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/cli"
	"github.com/gostream/gostream/memory"
)

// child is the program of a user's. Its handler waits for its context, or for nothing.
func child(name string) {
	b := memory.New()
	app := gostream.New("shop", "1.4.0", gostream.ShutdownTimeout(time.Minute))
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Consume(func(ctx context.Context, what string) error {
		slog.Info("in hand", "what", what)
		if what == "stuck" {
			<-ctx.Done() // a minute after the signal
		}
		return nil
	}))
	app.Mount(b, r)
	pub := gostream.NewPublisher[string](app, b, "orders")
	app.AfterStartup(func(ctx context.Context) error { return pub.Publish(ctx, name) })
	cli.Main(app)
}

// process is a child of the test's.
type process struct {
	cmd   *exec.Cmd
	lines chan string // of err
	all   strings.Builder
}

func startChild(t *testing.T, name string, args ...string) *process {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent a signal here")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	p := &process{cmd: exec.CommandContext(ctx, self, args...), lines: make(chan string, 1000)}
	p.cmd.Env = append(os.Environ(), "CLI_TEST_CHILD="+name)
	r, w := io.Pipe()
	p.cmd.Stderr = w
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // only what has not ended
		_ = p.cmd.Wait()
		_ = w.Close()
		cancel()
	})
	return p
}

// await returns when each of texts was in a line of the child's.
func (p *process) await(t *testing.T, texts ...string) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for len(texts) > 0 {
		select {
		case line, ok := <-p.lines:
			if !ok {
				t.Fatalf("no line holds %q:\n%s", texts, p.all.String())
			}
			p.all.WriteString(line + "\n")
			texts = slices.DeleteFunc(texts, func(text string) bool { return strings.Contains(line, text) })
		case <-limit:
			t.Fatalf("no line holds %q:\n%s", texts, p.all.String())
		}
	}
}

func (p *process) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// wait returns the child's exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// One signal drains: what is in hand is finished.
func TestSignalDrains(t *testing.T) {
	t.Parallel()
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		p := startChild(t, "quick", "run", "--log-format", "text")
		p.await(t, "in hand", "INF started")
		p.signal(t, s)
		p.await(t, "drained in ")
		if code := p.wait(t); code != 0 {
			t.Errorf("%v: exit code %d", s, code)
		}
	}
}

// A second signal does not wait for what is in hand.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	p := startChild(t, "stuck", "run", "--log-format", "text")
	p.await(t, "in hand", "INF started")
	p.signal(t, syscall.SIGTERM)
	p.await(t, "draining")
	p.signal(t, os.Interrupt)
	p.await(t, "error: a second signal: ended at once")
	if code := p.wait(t); code != 130 {
		t.Errorf("exit code %d", code)
	}
}

// What the handlers log themselves goes the way of the app's log.
func TestMainSetsSlogsDefault(t *testing.T) {
	t.Parallel()
	p := startChild(t, "quick", "run")
	p.await(t, `"level":"INFO","msg":"in hand","what":"quick"`, `"msg":"started"`)
	p.signal(t, os.Interrupt)
	p.await(t, `"msg":"stopped"`)
	if code := p.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

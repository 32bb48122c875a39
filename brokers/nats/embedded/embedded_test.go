package embedded_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/brokers/nats/embedded"
)

var _ natsgo.InProcessConnProvider = (*embedded.Server)(nil)

// The tests that are not parallel run while no other test has a server.

func TestNoPortWithoutListen(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	s := start(t, embedded.Config{Dir: t.TempDir()})
	if ports := listening(t); len(ports) > 0 {
		t.Errorf("the process listens: %q", ports)
	}
	if url := s.URL(); url != "" {
		t.Errorf("the URL is %q, want none", url)
	}
	stop(t, s)

	s = start(t, embedded.Config{Memory: true, Listen: "127.0.0.1:0"})
	if ports := listening(t); len(ports) != 1 {
		t.Errorf("the process listens: %q, want one port", ports)
	}
	stop(t, s)
	if ports := listening(t); len(ports) > 0 {
		t.Errorf("after Shutdown the process listens: %q", ports)
	}
}

func TestNoGoroutineOutlivesShutdown(t *testing.T) {
	s := start(t, embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0"})
	remote, err := natsgo.Connect(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	nc, js := connect(t, s)
	addStream(t, js, jetstream.FileStorage)
	publish(t, js, 10)
	consume(t, js, 5)
	if _, err := s.InProcessConn(); err != nil { // nobody reads it
		t.Fatal(err)
	}
	began := time.Now()
	stop(t, s)
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("Shutdown took %v", took)
	}
	nc.Close()
	remote.Close()
	noGoroutines(t)
}

func TestNoGoroutineOutlivesFailedStart(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := embedded.Start(embedded.Config{Dir: dir})
	if err == nil {
		stop(t, s)
	}
	wantError(t, err, "JetStream", "not a directory")
	noGoroutines(t)
	if err := os.Remove(filepath.Join(dir, "jetstream")); err != nil {
		t.Fatal(err)
	}
	stop(t, start(t, embedded.Config{Dir: dir})) // the folder is free
}

func TestRestart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]embedded.Config{
		"plain":      {},
		"SyncAlways": {SyncAlways: true},
		"Token":      {Token: "s3cret"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.Dir = filepath.Join(t.TempDir(), "made", "by", "Start")
			s := start(t, c)
			nc, js := connect(t, s, natsgo.Token(c.Token))
			addStream(t, js, jetstream.FileStorage)
			publish(t, js, 3)
			consume(t, js, 1)
			nc.Close()
			stop(t, s)

			s = start(t, c)
			_, js = connect(t, s, natsgo.Token(c.Token))
			if got, want := consume(t, js, 2), []string{"message 1", "message 2"}; !slices.Equal(got, want) {
				t.Errorf("after the restart %q are there, want %q", got, want)
			}
		})
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	s := start(t, embedded.Config{Memory: true})
	_, js := connect(t, s)
	for name, storage := range map[string]jetstream.StorageType{"FILE": jetstream.FileStorage, "MEMORY": jetstream.MemoryStorage} {
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name}, Storage: storage}); err != nil {
			t.Fatal(err)
		}
		if _, err := js.Publish(t.Context(), name, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	other := start(t, embedded.Config{Memory: true}) // shares nothing with the first
	_, js = connect(t, other)
	for name := range js.StreamNames(t.Context()).Name() {
		t.Errorf("another server in memory has the stream %q", name)
	}
}

func TestMemoryRemovesItsFolder(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()) // not parallel
	s := start(t, embedded.Config{Memory: true})
	if got := entries(t, os.TempDir()); len(got) != 1 || !strings.HasPrefix(got[0], "gostream-embedded-") {
		t.Errorf("the temporary folder holds %q, want gostream-embedded-…", got)
	}
	stop(t, s)
	if got := entries(t, os.TempDir()); len(got) > 0 {
		t.Errorf("after Shutdown the temporary folder holds %q", got)
	}
}

func TestFolderInUse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := start(t, embedded.Config{Dir: dir})
	_, js := connect(t, first)
	addStream(t, js, jetstream.FileStorage)
	publish(t, js, 1)

	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, same := range []string{dir, link} {
		s, err := embedded.Start(embedded.Config{Dir: same})
		if err == nil {
			stop(t, s)
		}
		if !errors.Is(err, embedded.ErrInUse) {
			t.Errorf("the second server in %s: %v, want ErrInUse", same, err)
		}
		wantError(t, err, "Config.Dir", same, "in use")
	}
	publish(t, js, 1)
	consume(t, js, 2)
	stop(t, first)
	stop(t, start(t, embedded.Config{Dir: dir}))
}

func TestFolderThatIsNone(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := embedded.Start(embedded.Config{Dir: file})
	wantError(t, err, "Config.Dir", file)
}

// The server would go on without a stream that it cannot restore.
func TestStreamThatIsNotRestored(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, embedded.Config{Dir: dir})
	_, js := connect(t, s)
	addStream(t, js, jetstream.FileStorage)
	stop(t, s)
	streams := filepath.Join(dir, "jetstream", "$G", "streams")
	meta := filepath.Join(streams, "ORDERS", "meta.inf")
	was, err := os.ReadFile(meta)
	if err != nil {
		t.Fatal(err)
	}
	// What remains of a stream when the process is killed while it makes or deletes it.
	for _, name := range []string{"HALF", ".DELETED"} {
		if err := os.MkdirAll(filepath.Join(streams, name, "msgs"), 0o750); err != nil {
			t.Fatal(err)
		}
	}

	if err := os.WriteFile(meta, append(was, '!'), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err = embedded.Start(embedded.Config{Dir: dir})
	if err == nil {
		stop(t, s)
	}
	wantError(t, err, `["ORDERS"]`, streams, "checksums do not match")

	if err := os.WriteFile(meta, was, 0o600); err != nil {
		t.Fatal(err)
	}
	s = start(t, embedded.Config{Dir: dir})
	_, js = connect(t, s)
	if _, err := js.Stream(t.Context(), "ORDERS"); err != nil {
		t.Error(err)
	}
}

func TestTakenPort(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	addr := taken.Addr().String()
	dir := filepath.Join(t.TempDir(), "never made")
	began := time.Now()
	s, err := embedded.Start(embedded.Config{Dir: dir, Listen: addr})
	if err == nil {
		stop(t, s)
	}
	wantError(t, err, "Config.Listen", addr)
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the error does not unwrap to EADDRINUSE: %v", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder was made: %v", err)
	}
	taken.Close()
	stop(t, start(t, embedded.Config{Dir: dir, Listen: addr}))
}

func TestReadyTimeout(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := embedded.Start(embedded.Config{Dir: dir, ReadyTimeout: 1})
	if err == nil {
		stop(t, s)
		t.Fatal("Start returned within a nanosecond")
	}
	wantError(t, err, "Config.ReadyTimeout", "1ns")
	// The folder is free soon.
	for t.Context().Err() == nil {
		s, err := embedded.Start(embedded.Config{Dir: dir})
		if err == nil {
			stop(t, s)
			break
		}
		if !errors.Is(err, embedded.ErrInUse) {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
}

func TestStartIsFast(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	began := time.Now()
	for range 20 {
		stop(t, start(t, embedded.Config{Dir: dir}))
	}
	if took := time.Since(began); took > 10*time.Second { // it takes less than one
		t.Errorf("20 starts took %v", took)
	}
}

func TestShutdownTwice(t *testing.T) {
	t.Parallel()
	s := start(t, embedded.Config{Memory: true, Listen: "127.0.0.1:0"})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() { stop(t, s) })
	}
	all.Wait()
	stop(t, s)
	if c, err := s.InProcessConn(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("InProcessConn after Shutdown answered %v, %v, want net.ErrClosed", c, err)
	}
	if _, err := natsgo.Connect("", natsgo.InProcessServer(s)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a client in the process got %v, want net.ErrClosed", err)
	}
	if nc, err := natsgo.Connect(s.URL()); err == nil {
		nc.Close()
		t.Error("a client has connected to the port after Shutdown")
	}
}

// The context bounds the waiting, not the shutdown.
func TestShutdownContext(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	s := start(t, embedded.Config{Memory: true, Logger: slog.New(holder{slog.DiscardHandler, hold})})
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown answered %v, want context.DeadlineExceeded", err)
	}
	if c, err := s.InProcessConn(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("InProcessConn during Shutdown answered %v, %v, want net.ErrClosed", c, err)
	}
	close(hold)
	stop(t, s)
}

// holder holds the server up when it logs that it shuts down.
type holder struct {
	slog.Handler
	until <-chan struct{}
}

func (h holder) Enabled(context.Context, slog.Level) bool { return true }

func (h holder) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "Initiating Shutdown") {
		<-h.until
	}
	return nil
}

package embedded_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/brokers/nats/embedded"
)

// victim is the environment variable that makes the test binary the process that is
// killed: its value is the folder.
const victim = "GOSTREAM_EMBEDDED_VICTIM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victim); dir != "" {
		beVictim(dir)
	}
	os.Exit(m.Run())
}

// What was confirmed before kill -9 is there afterwards, and until then nobody else
// gets the folder.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), victim+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	confirmed := 0
	for lines := bufio.NewScanner(out); lines.Scan(); { // one for each confirmed message
		if confirmed++; confirmed == 500 {
			if _, err := embedded.Start(embedded.Config{Dir: dir}); !errors.Is(err, embedded.ErrInUse) {
				t.Errorf("Start answered %v while another process has the folder, want ErrInUse", err)
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Exited() || confirmed < 500 {
		t.Fatalf("the process ended with %v after %d messages, want it killed:\n%s", err, confirmed, &stderr)
	}

	s := start(t, embedded.Config{Dir: dir})
	_, js := connect(t, s)
	got := consume(t, js, confirmed)
	for i, m := range got {
		if want := fmt.Sprintf("message %d", i); m != want {
			t.Fatalf("message %d is %q, want %q", i, m, want)
		}
	}
}

// beVictim publishes until it is killed.
func beVictim(dir string) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := func() error {
		s, err := embedded.Start(embedded.Config{Dir: dir})
		if err != nil {
			return err
		}
		nc, err := natsgo.Connect("", natsgo.InProcessServer(s))
		if err != nil {
			return err
		}
		js, err := jetstream.New(nc)
		if err != nil {
			return err
		}
		if _, err := js.CreateStream(ctx, streamConfig(jetstream.FileStorage)); err != nil {
			return err
		}
		for i := 0; ; i++ {
			if _, err := js.Publish(ctx, "orders.new", fmt.Appendf(nil, "message %d", i)); err != nil {
				return err
			}
			fmt.Println(i)
		}
	}()
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

package nats_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
)

// crashEnv holds the server's address and the stream for the process that
// TestProcessKilledInsideAHandler starts from its own binary in order to kill it.
const crashEnv = "GOSTREAM_NATS_CRASH"

const (
	crashMessages = 10
	crashAcked    = 3 // before the process is killed
	crashAckWait  = 3 * time.Second
	// crashInside is the line by which the process says that it is inside the handler.
	crashInside = "inside the handler of"
)

// A process is killed inside a handler. What it had acknowledged does not come again,
// the message in its hand does, and so does whatever it had prefetched.
func TestProcessKilledInsideAHandler(t *testing.T) {
	if address, stream, ok := strings.Cut(os.Getenv(crashEnv), " "); ok {
		crashPlay(address, stream)
	}
	onServers(t, func(t *testing.T, s *faultServer) {
		name := unique()
		s.stream(t, name)
		s.put(t, name+".orders", 1, crashMessages)
		crashKill(t, s, name)

		var mu sync.Mutex
		counts := make(map[int][]int) // the delivery counts with which each message came
		service := startApp(t, nats.New(s.url, quick()...), crashSource(name), gostream.Raw(func(_ context.Context, d *gostream.Delivery) error {
			n, _ := broker.DeliveryCount(d.Message())
			mu.Lock()
			defer mu.Unlock()
			which := number(t, d.Payload())
			counts[which] = append(counts[which], n)
			return nil
		}), gostream.Observer{})
		until(t, "that everything is acknowledged", func() bool {
			c := s.consumer(t, name, "desk")
			return c.NumAckPending == 0 && c.NumPending == 0
		})
		shutdownApp(t, service) // whatever came again by then is handled

		mu.Lock()
		defer mu.Unlock()
		for n := 1; n <= crashMessages; n++ {
			switch got := counts[n]; {
			case n <= crashAcked && len(got) != 0:
				t.Errorf("message %d was acknowledged before the crash and came again, with the counts %v", n, got)
			case n > crashAcked && len(got) != 1:
				t.Errorf("message %d was handled %d times after the crash, want once", n, len(got))
			case n == crashAcked+1 && got[0] < 2:
				t.Errorf("the message that was in hand at the crash came with the count %d, want more than 1", got[0])
			}
		}
	})
}

func crashSource(stream string) nats.StreamSource {
	return nats.Stream(stream+".>", stream).Durable("desk").AckWait(crashAckWait)
}

// crashPlay is what the process does that is killed. It does not return.
func crashPlay(address, stream string) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	// It ends by itself where the test that should kill it is no more.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	handled := 0
	r := gostream.NewRouter()
	r.HandleSource(crashSource(stream), gostream.Raw(func(ctx context.Context, d *gostream.Delivery) error {
		if handled++; handled > crashAcked {
			fmt.Println(crashInside, string(d.Payload()))
			<-ctx.Done()
		}
		return ctx.Err()
	}))
	app := gostream.New("crash", "0")
	app.Mount(nats.New(address), r)
	fmt.Println("the process was not killed:", app.Run(ctx))
	os.Exit(1)
}

// crashKill starts the process, and kills it when it is inside the handler and the
// server has its acknowledgements.
func crashKill(t *testing.T, s *faultServer, stream string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestProcessKilledInsideAHandler$")
	cmd.Env = append(os.Environ(), crashEnv+"="+s.url+" "+stream)
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
	var said []string
	inside := fmt.Sprint(crashInside, " ", crashAcked+1)
	for lines := bufio.NewScanner(out); !slices.Contains(said, inside) && lines.Scan(); {
		said = append(said, lines.Text())
	}
	if !slices.Contains(said, inside) {
		t.Fatalf("the process ended before it was inside the handler; it said %q", said)
	}
	until(t, "that the server has the acknowledgements", func() bool {
		c := s.consumer(t, stream, "desk")
		return c.AckFloor.Stream == crashAcked && c.NumAckPending >= 1
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
		t.Fatalf("the process was not killed: %v", err)
	}
	if c := s.consumer(t, stream, "desk"); c.AckFloor.Stream != crashAcked || c.NumAckPending == 0 {
		t.Fatalf("after the crash the first %d messages are acknowledged, and %d deliveries unsettled", c.AckFloor.Stream, c.NumAckPending)
	}
}

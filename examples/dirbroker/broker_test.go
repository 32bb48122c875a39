package dirbroker_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/examples/dirbroker"
)

// The settings without a default: this list is what a user must give.
func TestRequiredSettings(t *testing.T) {
	t.Parallel()
	err := broker.Check(dirbroker.New(dirbroker.Config{}))
	if !errors.Is(err, broker.ErrInvalid) || !strings.Contains(err.Error(), "Config.Dir") {
		t.Errorf("without a folder Check answers %v", err)
	}
	if err := broker.Check(dirbroker.New(dirbroker.Config{Dir: "queues"})); err != nil {
		t.Errorf("a folder alone is not enough: %v", err)
	}
	err = broker.Check(dirbroker.New(dirbroker.Config{Poll: -1, MaxPayload: -1}))
	for _, field := range []string{"Config.Dir", "Config.Poll", "Config.MaxPayload"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("Check does not tell of %s: %v", field, err)
		}
	}
}

// A folder that is not there is not made: it may be a mistake in the path.
func TestMissingFolder(t *testing.T) {
	t.Parallel()
	b := dirbroker.New(dirbroker.Config{Dir: filepath.Join(t.TempDir(), "nowhere")})
	if err := b.Connect(t.Context()); !errors.Is(err, broker.ErrNotFound) {
		t.Errorf("Connect answers %v", err)
	}
}

func TestSourceCheck(t *testing.T) {
	t.Parallel()
	b := dirbroker.New(dirbroker.Config{Dir: t.TempDir()})
	if err := dirbroker.Queue("orders").Check(b); err != nil {
		t.Error(err)
	}
	var none *dirbroker.Broker
	for want, err := range map[string]error{
		"a *dirbroker.Broker": dirbroker.Queue("orders").Check(none),
		"the limit is 0":      dirbroker.Queue("orders").Limit(0).Check(b),
		"the name":            dirbroker.Queue("../orders").Check(b),
	} {
		if !errors.Is(err, broker.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("Check answers %v, want something about %q", err, want)
		}
	}
}

// What the same broker publishes, gives back and closes wakes a Receive that waits: it
// does not poll for an hour.
func TestWake(t *testing.T) {
	t.Parallel()
	b := connect(t, dirbroker.Config{Dir: t.TempDir(), Poll: time.Hour})
	sub := subscribe(t, b)
	got := make(chan broker.IncomingMessage)
	go func() {
		defer close(got)
		for {
			m, err := sub.Receive(t.Context())
			if err != nil {
				if !errors.Is(err, broker.ErrClosed) {
					t.Errorf("Receive answers %v", err)
				}
				return
			}
			got <- m
		}
	}()
	publish(t, b, "a")
	if err := (<-got).Nack(t.Context(), true); err != nil {
		t.Error(err)
	}
	if n, _ := broker.DeliveryCount(<-got); n != 2 {
		t.Errorf("delivery %d came", n)
	}
	if err := sub.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if m := <-got; m != nil {
		t.Errorf("%v came after Close", m)
	}
}

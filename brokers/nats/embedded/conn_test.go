package embedded_test

import (
	"bufio"
	"fmt"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gostream/gostream/brokers/nats/embedded"
)

// What a client writes before the server has answered it arrives, all of it in order.
func TestWritesBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	s := start(t, embedded.Config{Memory: true})
	nc, _ := connect(t, s)
	const n = 1000
	arrived := make(chan *natsgo.Msg, n)
	if _, err := nc.ChanSubscribe("numbers", arrived); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}

	c, err := s.InProcessConn()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	lines := bufio.NewScanner(c)
	lines.Scan() // the greeting
	if _, err := c.Write([]byte("CONNECT {\"verbose\":false}\r\n")); err != nil {
		t.Fatal(err)
	}
	payload := strings.Repeat("x", 200) // in sum more than is kept for the server
	for i := range n {
		if _, err := fmt.Fprintf(c, "PUB numbers 204\r\n%04d%s\r\n", i, payload); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Write([]byte("PING\r\n")); err != nil {
		t.Fatal(err)
	}
	if lines.Scan(); lines.Text() != "PONG" {
		t.Fatalf("the server answered %q, %v, want PONG", lines.Text(), lines.Err())
	}
	for i := range n {
		select {
		case m := <-arrived:
			if got, want := string(m.Data[:4]), fmt.Sprintf("%04d", i); got != want {
				t.Fatalf("message %d is %s, want %s", i, got, want)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("message %d did not arrive", i)
		}
	}
}

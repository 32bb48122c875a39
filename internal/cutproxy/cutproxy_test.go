package cutproxy_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gostream/gostream/internal/cutproxy"
)

const soon = 5 * time.Second

// Not parallel: no other test has a proxy meanwhile.
func TestCloseWaitsForGoroutines(t *testing.T) {
	upstream := serve(t, echo)
	for range 50 {
		p := start(t, upstream)
		idle, stalled := dial(t, p), dial(t, p)
		ping(t, idle)
		ping(t, stalled)
		p.Stall()
		if _, err := stalled.Write([]byte("held back")); err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		buf := make([]byte, 1<<20)
		for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			frames, _, _ := strings.Cut(stack, "created by") // it may be at its very end
			if strings.Contains(frames, "cutproxy.(") {
				t.Fatalf("after Close this goes on:\n%s", stack)
			}
		}
		wantCut(t, idle)
		wantCut(t, stalled)
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	p := start(t, serve(t, echo))
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", p.Addr()); err == nil {
		c.Close()
		t.Error("after Close the port is open")
	}
	if err := p.Close(); err != nil {
		t.Errorf("the second Close: %v", err)
	}
	p.Cut()
	p.Restore()
	p.Stall()
	p.Resume()
}

func TestPassesOn(t *testing.T) {
	t.Parallel()
	p := start(t, serve(t, echo))
	payload := random(1 << 20)
	var clients sync.WaitGroup
	for range 4 {
		c := dial(t, p)
		clients.Go(func() { exchange(t, c, payload) })
	}
	clients.Wait()
}

func TestCutAndRestore(t *testing.T) {
	t.Parallel()
	p := start(t, serve(t, echo))
	addr := p.Addr()
	before := dial(t, p)
	ping(t, before)
	for range 3 {
		p.Cut()
		wantCut(t, before)
		for range 3 {
			during, err := net.Dial("tcp", p.Addr())
			if err != nil { // the reset may be faster
				continue
			}
			wantCut(t, during)
			during.Close()
		}
		p.Restore()
		if p.Addr() != addr {
			t.Errorf("after Restore the address is %s, want %s", p.Addr(), addr)
		}
		before = dial(t, p)
		ping(t, before)
	}
}

func TestCutOnce(t *testing.T) {
	t.Parallel()
	p := start(t, serve(t, echo))
	before := dial(t, p)
	ping(t, before)
	p.CutOnce()
	wantCut(t, before)
	ping(t, dial(t, p))
}

// The upstream notices as well.
func TestCutReachesUpstream(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	p := start(t, serve(t, func(c net.Conn) {
		_, err := io.Copy(c, c)
		ended <- err
	}))
	ping(t, dial(t, p))
	p.Cut()
	select {
	case <-ended:
	case <-time.After(soon):
		t.Error("the upstream did not notice the cut")
	}
}

func TestStall(t *testing.T) {
	t.Parallel()
	p := start(t, serve(t, echo))
	c := dial(t, p)
	ping(t, c)
	p.Stall()
	if _, err := c.Write([]byte("held back")); err != nil {
		t.Errorf("the connection did not stay open: %v", err)
	}
	late := dial(t, p) // can be made, but is stalled too
	if _, err := late.Write([]byte("late")); err != nil {
		t.Error(err)
	}
	for _, conn := range []net.Conn{c, late} {
		conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("while stalled %d bytes and %v arrived, want none and a deadline exceeded", n, err)
		}
	}
	p.Resume()
	wantRead(t, c, "held back")
	wantRead(t, late, "late")
	ping(t, c)
}

// Stalled while much is on its way, some of it is held back, and in the end all of it
// arrives.
func TestStallMidway(t *testing.T) {
	t.Parallel()
	sent := random(16 << 20) // more than the buffers of the sockets hold
	p := start(t, serve(t, func(c net.Conn) { c.Write(sent) }))
	c := dial(t, p)
	var got bytes.Buffer
	for range 50 {
		if _, err := io.CopyN(&got, c, 10_000); err != nil {
			t.Fatal(err)
		}
		p.Stall()
		p.Resume()
	}
	p.Stall()
	for arrived := int64(1); arrived > 0; { // what was passed on before, and is in the sockets
		c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		var err error
		if arrived, err = io.Copy(&got, c); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("while stalled: %v, want a deadline exceeded", err)
		}
	}
	if got.Len() >= len(sent) {
		t.Error("while stalled everything arrived")
	}
	p.Resume()
	c.SetReadDeadline(time.Now().Add(soon))
	if _, err := io.Copy(&got, c); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(got.Bytes(), sent) {
		t.Errorf("what arrived (%d bytes) is not what was sent (%d bytes)", got.Len(), len(sent))
	}
}

func TestCutWhileStalled(t *testing.T) {
	t.Parallel()
	p := start(t, serve(t, echo))
	c := dial(t, p)
	ping(t, c)
	p.Stall()
	if _, err := c.Write([]byte("held back")); err != nil {
		t.Fatal(err)
	}
	p.Cut()
	wantCut(t, c)
	p.Restore()
	c = dial(t, p)
	p.Resume()
	ping(t, c)
}

func TestSetUpstream(t *testing.T) {
	t.Parallel()
	says := func(what string) string {
		return serve(t, func(c net.Conn) { io.WriteString(c, what); io.Copy(io.Discard, c) })
	}
	p := start(t, says("one"))
	one := dial(t, p)
	wantRead(t, one, "one")
	if err := p.SetUpstream(says("two")); err != nil {
		t.Fatal(err)
	}
	wantRead(t, dial(t, p), "two")
	if err := p.SetUpstream("example.com:80"); err == nil {
		t.Error("SetUpstream took another machine")
	}
	wantRead(t, dial(t, p), "two")
}

func TestNobodyUpstream(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	p := start(t, nobody)
	wantCut(t, dial(t, p))
	if err := p.SetUpstream(serve(t, echo)); err != nil {
		t.Fatal(err)
	}
	ping(t, dial(t, p))
}

func TestUpstreamMustBeHere(t *testing.T) {
	t.Parallel()
	for _, upstream := range []string{"", "localhost", ":80", "0.0.0.0:80", "192.0.2.1:80", "example.com:80", "localhost:0", "localhost:http", "127.0.0.1:65536"} {
		p, err := cutproxy.Start(upstream)
		if err == nil {
			p.Close()
			t.Errorf("Start took the upstream %q", upstream)
		}
	}
	_, port, _ := net.SplitHostPort(serve(t, echo))
	ping(t, dial(t, start(t, "localhost:"+port)))
}

// All of it at once, for the race detector.
func TestConcurrently(t *testing.T) {
	t.Parallel()
	p := start(t, serve(t, echo))
	var all sync.WaitGroup
	for _, do := range []func(){p.Cut, p.Restore, p.CutOnce, p.Stall, p.Resume} {
		all.Go(func() {
			for range 200 {
				do()
			}
		})
	}
	for range 4 {
		all.Go(func() {
			for range 50 {
				c, err := net.Dial("tcp", p.Addr())
				if err != nil {
					continue
				}
				c.Write([]byte("x"))
				c.Close()
			}
		})
	}
	all.Wait()
	p.Restore()
	p.Resume()
	ping(t, dial(t, p))
}

func start(t *testing.T, upstream string) *cutproxy.Proxy {
	t.Helper()
	p, err := cutproxy.Start(upstream)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// serve runs a server until the test ends and returns its address.
func serve(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				handle(c)
			}()
		}
	}()
	return l.Addr().String()
}

func echo(c net.Conn) { io.Copy(c, c) }

func dial(t *testing.T, p *cutproxy.Proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(soon))
	return c
}

func ping(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	wantRead(t, c, "ping")
}

func wantRead(t *testing.T, c net.Conn, want string) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(soon))
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("read %q, %v, want %q", got[:n], err, want)
	}
}

// wantCut fails unless c ends soon.
func wantCut(t *testing.T, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(soon))
	if n, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes, %v, want a connection that was cut", n, err)
	}
}

// exchange sends the payload to an echo, ends its direction, and reads all of it back.
func exchange(t *testing.T, c net.Conn, payload []byte) {
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(payload)
		sent <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	got, err := io.ReadAll(c)
	if err := errors.Join(err, <-sent); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(got, payload) {
		t.Errorf("what came back (%d bytes) is not what was sent", len(got))
	}
}

func random(n int) []byte {
	r := rand.NewChaCha8([32]byte{})
	b := make([]byte, n)
	r.Read(b)
	return b
}

// Package cutproxy is a TCP proxy on this machine for tests that need a bad network:
// it cuts connections, refuses them for a while, and stalls them.
package cutproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

const (
	maxLinks    = 1000 // connections at a time; more are closed at once
	chunk       = 32 << 10
	dialTimeout = 5 * time.Second
)

// A Proxy passes on what it is sent, from its clients to the upstream and back. Its
// methods may be called concurrently.
type Proxy struct {
	listener net.Listener
	running  sync.WaitGroup

	mu       sync.Mutex
	changed  sync.Cond // of what follows
	upstream string
	links    map[*link]struct{}
	cut      bool
	stalled  bool
	closed   bool
	writing  int // writes that go on
}

// Start listens on a free port of 127.0.0.1 and passes connections on to upstream,
// host:port with the host 127.0.0.1 or localhost. It does not look whether somebody is
// there: a client's connection is closed at once while nobody is. The caller owes a
// Close.
func Start(upstream string) (*Proxy, error) {
	if err := check(upstream); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("cutproxy: %w", err)
	}
	p := &Proxy{listener: l, upstream: upstream, links: make(map[*link]struct{})}
	p.changed.L = &p.mu
	p.running.Go(p.accept)
	return p, nil
}

// check refuses what is not on this machine.
func check(upstream string) error {
	host, port, err := net.SplitHostPort(upstream)
	if err != nil {
		return fmt.Errorf("cutproxy: the upstream %q is not host:port", upstream)
	}
	if host != "127.0.0.1" && host != "localhost" {
		return fmt.Errorf("cutproxy: the upstream's host is %q, but only 127.0.0.1 and localhost are allowed", host)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("cutproxy: the upstream's port is %q: it must be a number from 1 to 65535", port)
	}
	return nil
}

// Addr returns the address for clients, 127.0.0.1:port. It never changes.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// SetUpstream sends new connections to another upstream; see [Start] for what it may
// be. Those that exist stay where they are.
func (p *Proxy) SetUpstream(upstream string) error {
	if err := check(upstream); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.upstream = upstream
	return nil
}

// Cut resets all connections, and every new one as soon as it is made, until
// [Proxy.Restore].
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = true
	p.closeLinks()
}

// CutOnce resets all connections. New ones are welcome.
func (p *Proxy) CutOnce() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closeLinks()
}

// Restore ends a [Proxy.Cut].
func (p *Proxy) Restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = false
}

// Stall holds back every byte, in both directions, until [Proxy.Resume]. When it
// returns nothing more is passed on; what was before may still arrive. Connections stay
// open and can be made.
func (p *Proxy) Stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = true
	for l := range p.links {
		l.setWriteDeadline(time.Unix(1, 0)) // long ago: ends the writes that go on
	}
	for p.stalled && p.writing > 0 {
		p.changed.Wait()
	}
}

// Resume ends a [Proxy.Stall]: what was held back is passed on, all of it.
func (p *Proxy) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = false
	for l := range p.links {
		l.setWriteDeadline(time.Time{})
	}
	p.changed.Broadcast()
}

// Close resets all connections, frees the port, and waits for all goroutines. A second
// Close does nothing.
func (p *Proxy) Close() error {
	p.mu.Lock()
	first := !p.closed
	p.closed = true
	p.closeLinks()
	p.mu.Unlock()
	var err error
	if first {
		err = p.listener.Close()
	}
	p.running.Wait()
	return err
}

func (p *Proxy) closeLinks() {
	for l := range p.links {
		l.close()
	}
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // too many open files
			time.Sleep(10 * time.Millisecond)
			continue
		}
		p.welcome(conn.(*net.TCPConn))
	}
}

// welcome makes a link of a connection, or resets it.
func (p *Proxy) welcome(client *net.TCPConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut || p.closed || len(p.links) >= maxLinks {
		reset(client)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	l := &link{proxy: p, client: client, cancel: cancel}
	p.links[l] = struct{}{}
	upstream := p.upstream
	p.running.Go(func() { l.run(ctx, upstream) })
}

// A link is a client's connection and the one to the upstream. The proxy's mu guards
// its fields.
type link struct {
	proxy  *Proxy
	client *net.TCPConn
	server *net.TCPConn // nil until it is dialed
	cancel context.CancelFunc
	closed bool
}

func (l *link) run(ctx context.Context, upstream string) {
	defer l.end()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", upstream)
	if err != nil || !l.join(conn.(*net.TCPConn)) {
		return
	}
	var pumps sync.WaitGroup
	pumps.Go(func() { l.pump(l.server, l.client) })
	pumps.Go(func() { l.pump(l.client, l.server) })
	pumps.Wait()
}

// join adds the connection to the upstream, unless the link was cut in the meantime.
func (l *link) join(server *net.TCPConn) bool {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	l.server = server
	if l.closed {
		reset(server)
	}
	return !l.closed
}

// end closes the link after its pumps have ended.
func (l *link) end() {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	delete(l.proxy.links, l)
	if l.closed {
		return
	}
	l.closed = true
	l.cancel()
	l.client.Close()
	if l.server != nil {
		l.server.Close()
	}
}

// close resets both connections. The proxy's mu is held.
func (l *link) close() {
	if l.closed {
		return
	}
	l.closed = true
	l.cancel()
	reset(l.client)
	if l.server != nil {
		reset(l.server)
	}
	l.proxy.changed.Broadcast()
}

func (l *link) setWriteDeadline(t time.Time) {
	l.client.SetWriteDeadline(t)
	if l.server != nil {
		l.server.SetWriteDeadline(t)
	}
}

// pump passes on what from sends, and at its end the end.
func (l *link) pump(to, from *net.TCPConn) {
	buf := make([]byte, chunk)
	for {
		n, err := from.Read(buf)
		if !l.write(to, buf[:n]) {
			break
		}
		if err == io.EOF {
			if l.enter() {
				to.CloseWrite()
				l.leave()
			}
			return
		}
		if err != nil {
			break
		}
	}
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	l.close() // the other pump ends as well
}

// write writes all of b, and holds back while the proxy is stalled.
func (l *link) write(to *net.TCPConn, b []byte) bool {
	for len(b) > 0 {
		if !l.enter() {
			return false
		}
		n, err := to.Write(b)
		l.leave()
		b = b[n:]
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
	}
	return true
}

// enter waits while the proxy is stalled. It is false when the link is closed.
// Otherwise a leave is owed.
func (l *link) enter() bool {
	p := l.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.stalled && !l.closed {
		p.changed.Wait()
	}
	if l.closed {
		return false
	}
	p.writing++
	return true
}

func (l *link) leave() {
	p := l.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writing--
	p.changed.Broadcast()
}

// reset closes conn so that the other side notices at once.
func reset(conn *net.TCPConn) {
	conn.SetLinger(0)
	conn.Close()
}

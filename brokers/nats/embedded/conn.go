package embedded

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
)

// maxEarly bounds the bytes that a client may write before the server has answered.
const maxEarly = 64 << 10

// A conn is the client's end of a connection in this process. The server makes a pipe
// without a buffer, in which two that write wait for each other; conn keeps them from
// it in two moments:
//
//   - The server greets first. If nobody reads that, a shutdown would wait for the
//     server's write deadline, 10 s. Therefore conns closes what was not read.
//   - The client introduces itself in two writes. If the server refuses the first, it
//     answers while the client is at the second: both are stuck for 10 s, and the
//     client never learns why. Therefore a write before the answer does not wait.
type conn struct {
	net.Conn
	greeted func() // once

	direct atomic.Bool // writes go straight through

	mu       sync.Mutex
	answered bool
	early    int           // bytes written before the answer
	last     chan struct{} // closed when the last early write ended; nil before the first
}

func (c *conn) Read(p []byte) (int, error) {
	c.greeted()
	n, err := c.Conn.Read(p)
	if !c.direct.Load() {
		c.mu.Lock()
		c.answered = c.answered || c.last != nil
		c.mu.Unlock()
	}
	return n, err
}

// Write does not wait while the client introduces itself. When such a write fails the
// connection is closed.
func (c *conn) Write(p []byte) (int, error) {
	if c.direct.Load() {
		return c.Conn.Write(p)
	}
	c.mu.Lock()
	before := c.last
	if c.answered || c.early+len(p) > maxEarly {
		c.mu.Unlock()
		if before != nil {
			<-before
		}
		c.direct.Store(true)
		return c.Conn.Write(p)
	}
	defer c.mu.Unlock()
	done := make(chan struct{})
	c.last, c.early = done, c.early+len(p)
	go func(p []byte) {
		defer close(done)
		if before != nil {
			<-before
		}
		if _, err := c.Conn.Write(p); err != nil { // at the latest when either end is closed
			c.Conn.Close()
		}
	}(bytes.Clone(p))
	return len(p), nil
}

func (c *conn) Close() error {
	c.greeted()
	return c.Conn.Close()
}

// conns are the connections that were not read yet.
type conns struct {
	mu     sync.Mutex
	closed bool
	unread map[*conn]struct{}
}

// open adds the connection that dial makes, unless c is closed.
func (c *conns) open(dial func() (net.Conn, error)) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, net.ErrClosed
	}
	pipe, err := dial()
	if err != nil {
		return nil, err
	}
	added := &conn{Conn: pipe}
	added.greeted = sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.unread, added)
	})
	if c.unread == nil {
		c.unread = make(map[*conn]struct{})
	}
	c.unread[added] = struct{}{}
	return added, nil
}

// close closes the connections that were not read, and lets nobody open another.
func (c *conns) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for unread := range c.unread {
		unread.Conn.Close()
	}
}

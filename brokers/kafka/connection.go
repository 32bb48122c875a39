package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/gostream/gostream/broker"
)

// pingInterval is between two looks whether the cluster can be reached again, and
// pingTimeout bounds one.
const (
	pingInterval = 250 * time.Millisecond
	pingTimeout  = 2 * time.Second
	// mostLooks is how often it looks again though the cluster was there, for something
	// else that is suspicious: the look may have met a connection about to break.
	mostLooks = 3
)

// link watches the connections of all clients of a broker. A client dials each broker of
// the cluster when it needs it, and one broker that is gone is no loss: what is told is
// whether any can be reached. So a connection that breaks, and a dial that fails, are
// suspicious only, and have somebody look.
type link struct {
	config *config
	ping   func(context.Context) error // of any broker
	tell   func(broker.Event)
	done   context.Context // ends at Shutdown

	mu       sync.Mutex
	watching bool
	again    bool // there was something suspicious since the last look began
	ended    bool
	watchers sync.WaitGroup
}

// dial makes a connection that is watched, with TLS where that is asked for.
func (l *link) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, l.config.dialTimeout)
	defer cancel()
	conn, err := l.dialPlain(ctx, network, address)
	if err == nil && l.config.tls != nil {
		conn, err = l.handshake(ctx, conn, address)
	}
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			l.suspect(err)
		}
		return nil, err
	}
	return &watchedConn{Conn: conn, link: l}, nil
}

func (l *link) dialPlain(ctx context.Context, network, address string) (net.Conn, error) {
	if l.config.dial != nil {
		return l.config.dial(ctx, network, address)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, address)
}

func (l *link) handshake(ctx context.Context, conn net.Conn, address string) (net.Conn, error) {
	t := l.config.tls
	if t.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			host = address
		}
		t = t.Clone()
		t.ServerName = host
	}
	secure := tls.Client(conn, t)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secure, nil
}

// suspect has somebody look whether the cluster can be reached, if nobody does.
func (l *link) suspect(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.again = true
	if l.watching || l.ended {
		return
	}
	l.watching = true
	l.watchers.Go(func() { l.watch(cause) })
}

// watch looks until the cluster can be reached. It tells that it cannot, and then that it
// can again.
func (l *link) watch(cause error) {
	down, looks := false, 0
	timer := time.NewTimer(pingInterval)
	defer timer.Stop()
	for {
		l.mu.Lock()
		l.again = false
		l.mu.Unlock()
		ctx, cancel := context.WithTimeout(l.done, pingTimeout)
		err := l.ping(ctx)
		cancel()
		if l.done.Err() != nil {
			return
		}
		if err == nil {
			l.mu.Lock()
			looks++
			again := l.again && !down && looks < mostLooks
			l.watching = again
			l.mu.Unlock()
			switch {
			case down:
				l.tell(broker.Event{Kind: broker.EventReconnected})
				return
			case !again:
				return
			}
		} else if !down {
			down = true
			l.tell(broker.Event{Kind: broker.EventDisconnected, Err: cause})
		}
		timer.Reset(pingInterval)
		select {
		case <-timer.C:
		case <-l.done.Done():
			return
		}
	}
}

// end waits for whoever watches, which ends with done; nobody does from here on.
func (l *link) end() {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.watchers.Wait()
}

// watchedConn tells its link when the other side ends it.
type watchedConn struct {
	net.Conn
	link *link
}

func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.link.suspect(err)
	}
	return n, err
}

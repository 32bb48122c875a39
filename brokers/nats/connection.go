package nats

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/broker"
)

// connection is what Connect makes.
type connection struct {
	nc    *natsgo.Conn
	js    jetstream.JetStream
	owned bool // made here, closed here

	settled *settlements
	stop    context.CancelFunc // ends the loop of settled

	status  chan natsgo.Status
	watched chan struct{} // closed when the watcher has ended

	mu   sync.Mutex
	up   context.Context // ends when the connection is lost; made anew when it is back
	down context.CancelFunc
}

// dial connects as the configuration says.
func (b *Broker) dial(ctx context.Context) (*connection, error) {
	c := &connection{nc: b.config.conn, watched: make(chan struct{})}
	if c.nc == nil {
		d := &dialer{ctx: ctx, timeout: b.config.connectTimeout}
		o := b.config.options(d)
		if err := b.config.authOptions(&o); err != nil {
			return nil, err
		}
		o.AsyncErrorCB = b.asyncError
		nc, err := o.Connect()
		if stopped := d.connected(); err == nil && stopped {
			nc.Close()
			err = ctx.Err()
		}
		if err != nil {
			if ctx.Err() != nil {
				err = errors.Join(ctx.Err(), err)
			}
			return nil, err
		}
		c.nc, c.owned = nc, true
	} else {
		flush, cancel := withDefault(ctx, broker.DefaultTimeout)
		defer cancel()
		if err := c.nc.FlushWithContext(flush); err != nil {
			return nil, fmt.Errorf("the connection that was given: %w", err)
		}
	}
	js, err := b.jetStream(c.nc)
	if err != nil {
		c.close()
		return nil, err
	}
	c.js = js
	c.up, c.down = context.WithCancel(context.Background())
	c.settled = newSettlements(c.nc)
	running, stop := context.WithCancel(context.Background())
	c.stop = stop
	go c.settled.run(running)
	c.status = c.nc.StatusChanged(natsgo.RECONNECTING, natsgo.CONNECTED, natsgo.CLOSED)
	go b.watch(c)
	return c, nil
}

func (b *Broker) jetStream(nc *natsgo.Conn) (jetstream.JetStream, error) {
	// A confirmation that never comes, such as of a publish that permissions forbid, must
	// not count among those that wait for ever.
	forget := jetstream.WithPublishAsyncTimeout(broker.DefaultTimeout)
	if b.config.domain != "" {
		return jetstream.NewWithDomain(nc, b.config.domain, forget)
	}
	return jetstream.New(nc, forget)
}

// close closes a connection that was made here.
func (c *connection) close() {
	if c.js != nil {
		c.js.CleanupPublisher()
	}
	if c.settled != nil {
		c.stop()
		<-c.settled.done
	}
	if c.owned {
		c.nc.Close()
	}
	if c.status != nil {
		c.nc.RemoveStatusListener(c.status)
		<-c.watched
		c.lost()
	}
}

// lost ends the questions that wait for an answer.
func (c *connection) lost() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down()
}

// ask calls f, which asks the server something that can be asked again. When the
// connection is lost it ends with natsgo.ErrDisconnected: no answer will come.
func (c *connection) ask(ctx context.Context, f func(ctx context.Context) error) error {
	if !c.nc.IsConnected() {
		return natsgo.ErrDisconnected
	}
	c.mu.Lock()
	up := c.up
	c.mu.Unlock()
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(up, cancel)()
	err := f(asking)
	if err != nil && ctx.Err() == nil && up.Err() != nil {
		return natsgo.ErrDisconnected
	}
	return err
}

// flush waits until the server has seen everything that was sent.
func (c *connection) flush(ctx context.Context) error {
	if n, err := c.nc.Buffered(); err == nil && n == 0 && !c.nc.IsConnected() && c.settled.waiting() == 0 {
		return nil // the server is gone, and nothing waits for it
	}
	return c.settled.flush(ctx)
}

// watch tells of what happens to the connection, until it is closed.
func (b *Broker) watch(c *connection) {
	defer close(c.watched)
	cut := false
	for status := range c.status {
		switch status {
		case natsgo.RECONNECTING:
			if !cut {
				cut = true
				c.lost()
				b.tell(broker.Event{Kind: broker.EventDisconnected, Err: c.nc.LastError()})
			}
		case natsgo.CONNECTED:
			if cut {
				cut = false
				c.mu.Lock()
				c.up, c.down = context.WithCancel(context.Background())
				c.mu.Unlock()
				c.settled.nudge()
				b.eachSubscription(func(s subscriber) { s.reconnected() })
				b.tell(broker.Event{Kind: broker.EventReconnected})
			}
		case natsgo.CLOSED:
			if b.life.isClosed() {
				continue
			}
			err := c.nc.LastError()
			b.tell(broker.Event{Kind: broker.EventDisconnected, Err: fmt.Errorf("the client has given up: %w", orClosed(err))})
			b.eachSubscription(func(s subscriber) { s.reconnected() })
		}
	}
}

func orClosed(err error) error {
	if err == nil {
		return natsgo.ErrConnectionClosed
	}
	return err
}

// asyncError tells of what the client found outside of any call.
func (b *Broker) asyncError(nc *natsgo.Conn, sub *natsgo.Subscription, err error) {
	e := broker.Event{Kind: broker.EventFailed, Err: err}
	if sub != nil {
		e.Name = sub.Subject
	}
	switch {
	case errors.Is(err, natsgo.ErrSlowConsumer):
		e.Kind = broker.EventSlowConsumer
		if sub != nil {
			e.Err = slowConsumer(sub)
		}
	case nc.IsReconnecting():
		return // part of being disconnected
	}
	b.tell(e)
}

// slowConsumer says how much the client has dropped.
func slowConsumer(sub *natsgo.Subscription) error {
	dropped, err := sub.Dropped()
	if err != nil {
		return ErrSlowConsumer
	}
	return fmt.Errorf("%w: %d messages of this subscription were dropped", ErrSlowConsumer, dropped)
}

// dialer dials for the client. While Connect runs its context bounds the dialing and
// the greeting; reconnects are bounded by the timeout alone.
type dialer struct {
	timeout time.Duration

	mu   sync.Mutex
	ctx  context.Context // nil when Connect has ended
	stop func() bool     // keeps ctx from closing the connection
}

// Dial is called by the client.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	d.mu.Lock()
	ctx := d.ctx
	d.mu.Unlock()
	if ctx == nil {
		ctx = context.Background()
	}
	conn, err := (&net.Dialer{Timeout: d.timeout}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx != nil {
		d.stop = context.AfterFunc(d.ctx, func() { _ = conn.Close() })
	}
	return conn, nil
}

// connected ends the influence of Connect's context. It reports whether that came too
// late: the context has closed the connection.
func (d *dialer) connected() (tooLate bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ctx = nil
	return d.stop != nil && !d.stop()
}

// withDefault returns ctx, with a time limit of d where it has none.
func withDefault(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, d)
}

// atLeast reports whether the server has that version or a later one.
func (c *connection) atLeast(major, minor int) bool {
	var have [2]int
	rest := strings.TrimPrefix(c.nc.ConnectedServerVersion(), "v")
	for i := range have {
		part, after, _ := strings.Cut(rest, ".")
		rest = after
		for _, digit := range []byte(part) {
			if digit < '0' || digit > '9' {
				break
			}
			have[i] = have[i]*10 + int(digit-'0')
		}
	}
	return have[0] > major || have[0] == major && have[1] >= minor
}

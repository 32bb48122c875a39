package nats

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/broker"
)

// connection is what Connect makes.
type connection struct {
	nc     *natsgo.Conn
	js     jetstream.JetStream
	owned  bool    // made here, closed here
	dialer *dialer // where owned and not in process

	subscribing chan struct{} // held by whoever opens a subscription of Core NATS

	settled *settlements
	stop    context.CancelFunc // ends the loop of settled

	status  chan natsgo.Status
	watched chan struct{} // closed when the watcher has ended

	mu   sync.Mutex
	up   context.Context // ends when the connection is lost; made anew when it is back
	down context.CancelFunc

	atCut atomic.Uint64 // how much was published when the connection was lost
}

// dial connects as the configuration says.
func (b *Broker) dial(ctx context.Context) (*connection, error) {
	c := &connection{nc: b.config.conn, subscribing: make(chan struct{}, 1), watched: make(chan struct{})}
	if c.nc == nil {
		d := &dialer{ctx: ctx, timeout: b.config.connectTimeout, patience: min(writePatience, 2*b.config.pingInterval)}
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
		c.nc, c.owned, c.dialer = nc, true, d
	} else {
		flush, cancel := withDefault(ctx, broker.DefaultTimeout)
		defer cancel()
		if err := c.answer(flush); err != nil {
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
	// At its bound the client makes a publish wait, whatever its context says. Here each
	// publish waits for its confirmation anyway, and a batch has a bound of its own.
	any := jetstream.WithPublishAsyncMaxPending(math.MaxInt)
	if b.config.domain != "" {
		return jetstream.NewWithDomain(nc, b.config.domain, forget, any)
	}
	return jetstream.New(nc, forget, any)
}

// close closes a connection that was made here. Its watcher then ends, unless a listener
// keeps it.
func (c *connection) close() {
	c.release()
	if c.owned {
		c.nc.Close()
	}
	if c.status != nil {
		c.nc.RemoveStatusListener(c.status)
		c.lost()
	}
}

// release ends what runs for the connection, but for its watcher.
func (c *connection) release() {
	if c.js != nil {
		c.js.CleanupPublisher()
	}
	if c.settled != nil {
		c.stop()
		<-c.settled.done
	}
}

// upNow ends when the connection is lost.
func (c *connection) upNow() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up
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
	up := c.upNow()
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(up, cancel)()
	err := f(asking)
	if err != nil && ctx.Err() == nil && up.Err() != nil {
		return natsgo.ErrDisconnected
	}
	return err
}

// roundTrip returns when the server has answered what was sent before. It is
// natsgo.ErrDisconnected when the connection is lost meanwhile: the client itself says
// that it was closed.
func (c *connection) roundTrip(ctx context.Context) error {
	return roundTrip(ctx, c.nc)
}

func roundTrip(ctx context.Context, nc *natsgo.Conn) error {
	err := nc.FlushWithContext(ctx)
	if errors.Is(err, natsgo.ErrConnectionClosed) && !nc.IsClosed() {
		return natsgo.ErrDisconnected
	}
	return err
}

// answer returns when the server has answered, on this connection or on the next one.
func (c *connection) answer(ctx context.Context) error {
	for {
		err := c.roundTrip(ctx)
		if !errors.Is(err, natsgo.ErrDisconnected) || ctx.Err() != nil {
			return err
		}
	}
}

// askUntil is ask, which asks again when the connection is back.
func (c *connection) askUntil(ctx context.Context, f func(ctx context.Context) error) error {
	for {
		err := c.ask(ctx, f)
		if !errors.Is(err, natsgo.ErrDisconnected) {
			return err
		}
		if err := c.answer(ctx); err != nil {
			return err
		}
	}
}

// drain ends the intake of sub behind what the server has sent. Where the connection is
// lost nothing more comes, and the client must not subscribe again: it would forget to
// tell the server of the end.
func (c *connection) drain(sub *natsgo.Subscription) error {
	if !c.nc.IsConnected() {
		return sub.Unsubscribe()
	}
	err := sub.Drain()
	if err == nil && !c.nc.IsConnected() {
		_ = sub.Unsubscribe()
	}
	return err
}

// flush waits until the server has seen everything that was sent. When the connection is
// lost meanwhile it goes on for what waits to be sent; what was on its way nobody knows.
func (c *connection) flush(ctx context.Context) error {
	var err error
	for {
		if c.nothingWaits() {
			return err
		}
		if err = c.settled.flush(ctx); !errors.Is(err, natsgo.ErrDisconnected) || ctx.Err() != nil {
			return err
		}
	}
}

// nothingWaits reports that the server is gone and that nothing is to be sent when it is
// back. In the client's buffer there may be its own pings.
func (c *connection) nothingWaits() bool {
	if c.nc.IsConnected() || c.settled.waiting() > 0 {
		return false
	}
	n, err := c.nc.Buffered()
	return err == nil && (n == 0 || c.nc.Stats().OutMsgs == c.atCut.Load())
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
				c.atCut.Store(c.nc.Stats().OutMsgs)
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
			err := fmt.Errorf("the client has given up: %w", orClosed(c.nc.LastError()))
			c.lost()
			c.js.CleanupPublisher() // what waits for a confirmation waits in vain
			b.tell(broker.Event{Kind: broker.EventDisconnected, Err: err})
			b.eachSubscription(func(s subscriber) { s.reconnected() })
			if c.owned && b.config.maxReconnects < 0 && b.redial(c) {
				b.tell(broker.Event{Kind: broker.EventReconnected})
				return
			}
		}
	}
}

// redial makes a new connection after the client has given up the old one, which it does
// where the server refuses something that it does not know, such as a message that has
// become too large. Subscriptions of the old one are lost. It reports whether there is a
// new one.
func (b *Broker) redial(old *connection) bool {
	for {
		select {
		case b.dialing <- struct{}{}:
		case <-b.done.Done():
			return false
		}
		if b.life.isClosed() {
			<-b.dialing
			return false
		}
		c, err := b.dial(b.done)
		if err == nil {
			c.settled.adopt(old.settled)
			b.conn.Store(c)
			old.release()
		}
		<-b.dialing
		if err == nil {
			return true
		}
		if !wait(b.done, b.config.reconnectWait) {
			return false
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
	case nc.IsReconnecting() && !errors.Is(err, natsgo.ErrPermissionViolation):
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
	timeout, patience time.Duration

	mu   sync.Mutex
	ctx  context.Context // nil when Connect has ended
	stop func() bool     // keeps ctx from closing the connection
	conn net.Conn        // the last one
}

// writePatience is how long a connection may take nothing of what is written. Meanwhile
// the client is locked: nobody can publish, and its pings cannot find it out.
const writePatience = 10 * time.Second

// patient is a connection that is closed when it takes nothing of what is written. The
// client's own limit is for all that it writes at once, and where nothing was written by
// then it goes on without it.
type patient struct {
	net.Conn
	patience time.Duration
}

// writeChunk is how much must find room in that time.
const writeChunk = 64 << 10

// Write is called by the client.
func (c *patient) Write(p []byte) (n int, err error) {
	for n < len(p) {
		if err := c.SetWriteDeadline(time.Now().Add(c.patience)); err != nil {
			return n, err
		}
		k, err := c.Conn.Write(p[n:min(len(p), n+writeChunk)])
		n += k
		if err != nil && (k == 0 || !errors.Is(err, os.ErrDeadlineExceeded)) {
			_ = c.Close()
			return n, err
		}
	}
	return n, nil
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
	d.conn = conn
	return &patient{conn, d.patience}, nil
}

// interrupt breaks the connection, and so frees the client where it is stuck in a write.
func (c *connection) interrupt() {
	if c.dialer == nil {
		return
	}
	c.dialer.mu.Lock()
	conn := c.dialer.conn
	c.dialer.mu.Unlock()
	if conn != nil {
		_ = conn.Close()
	}
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

package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	natsgo "github.com/nats-io/nats.go"
)

// stubNATS is a NATS server without one: its connections answer from memory, where the
// client writes and reads, so that what is measured is the client and what is on it. It
// knows as much of the protocol as the loops use: subscriptions, pings, and of JetStream
// the questions about one stream and one consumer, requests for messages, and
// acknowledgements.
type stubNATS struct {
	info   string            // the server's greeting
	answer map[string][]byte // of requests to the API, by subject
	names  int
	stream string // whose messages are requested; "" for Core
	// patience is how long acknowledgements may take when a loop has ended.
	patience time.Duration

	mu    sync.Mutex
	conns map[string]*stubConn // by the subject that is fed
}

// newStubNATS makes a stub of Core NATS.
func newStubNATS() *stubNATS {
	return &stubNATS{
		info:   `INFO {"server_id":"STUB","server_name":"stub","version":"2.15.2","proto":1,"headers":true,"max_payload":1048576}` + "\r\n",
		answer: make(map[string][]byte),
		conns:  make(map[string]*stubConn),

		patience: timeout,
	}
}

// newStubJetStream makes a stub that tells of a stream and a consumer what a server does.
func newStubJetStream(s *natsSite) (*stubNATS, error) {
	stub := newStubNATS()
	stream, err := s.stream()
	if err != nil {
		return nil, err
	}
	stub.stream = stream.CachedInfo().Config.Name
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if _, err := stream.CreateConsumer(ctx, consumerConfig(durable, stub.stream)); err != nil {
		return nil, err
	}
	for _, subject := range []string{
		"$JS.API.STREAM.INFO." + stub.stream,
		"$JS.API.CONSUMER.INFO." + stub.stream + "." + durable,
	} {
		reply, err := s.feed.RequestWithContext(ctx, subject, nil)
		if err != nil {
			return nil, err
		}
		stub.answer[subject] = reply.Data
	}
	return stub, s.dropStream(stream)
}

func (s *stubNATS) fresh() string {
	s.names++
	return "stub-" + strconv.Itoa(s.names)
}

// connect makes a connection to the stub.
func (s *stubNATS) connect(more ...natsgo.Option) (*natsgo.Conn, error) {
	return natsgo.Connect("", append([]natsgo.Option{natsgo.InProcessServer(s), natsgo.NoReconnect()}, more...)...)
}

// InProcessConn is called by the client.
func (s *stubNATS) InProcessConn() (net.Conn, error) {
	c := &stubConn{stub: s, subs: make(map[string]string)}
	c.readable.L = &c.mu
	c.out.WriteString(s.info)
	return c, nil
}

// fed has the connection that subscribed to subject deliver what is sent.
func (s *stubNATS) fed(r *rig, subject string, _ probe, t traffic) {
	s.mu.Lock()
	c := s.conns[subject]
	s.mu.Unlock()
	r.many = func(n int) error { return c.grant(n, t.number) }
	r.ready = func(context.Context) error { return c.restart() }
}

// stored is the stub's stream; the connection that asks for its messages gets them, which
// must acknowledge all.
func (s *stubNATS) stored(_ probe, t traffic) (string, *rig, error) {
	if s.stream == "" {
		return "", nil, errors.New("the stub has no stream")
	}
	s.mu.Lock()
	delete(s.conns, s.stream) // of the entrant before
	s.mu.Unlock()
	var c *stubConn
	find := func(ctx context.Context) error {
		for c == nil { // the loop asks for messages soon after it has begun
			s.mu.Lock()
			c = s.conns[s.stream]
			s.mu.Unlock()
			if c == nil && !pause(ctx, time.Millisecond) {
				return errors.New("nobody has asked the stub for messages")
			}
		}
		return c.restart()
	}
	return s.stream, &rig{
		ready: find,
		many:  func(n int) error { return c.grant(n, t.number) },
		stop: func() error {
			if c == nil {
				return nil
			}
			ctx, cancel := context.WithTimeout(context.Background(), s.patience)
			defer cancel()
			for {
				c.mu.Lock()
				granted, acked := c.granted, c.acked
				c.mu.Unlock()
				if acked == granted {
					return nil
				}
				if !pause(ctx, time.Millisecond) {
					return fmt.Errorf("the stub delivered %d messages, %d were acknowledged", granted, acked)
				}
			}
		},
	}, nil
}

// ring is how many messages a connection has ready. They are numbered when they are
// granted: as many bytes for each.
const ring = 4096

// stubConn is the server's side of a connection, called by the client's goroutines.
type stubConn struct {
	stub *stubNATS

	mu       sync.Mutex
	readable sync.Cond
	closed   bool
	out      bytes.Buffer      // answers, which go before messages
	subs     map[string]string // ids by subject
	rest     []byte            // the beginning of what was written in part
	asking   string            // the inbox that requests name
	beat     *time.Timer       // of heartbeats to that inbox; nil before there is one

	// The messages, all equally long, and how many were granted, asked for (of a stream),
	// and acknowledged; at is how many bytes of them were read.
	messages []byte
	each     int // bytes of a message
	number   int // where its number is
	granted  uint64
	asked    uint64
	acked    uint64
	at       uint64
}

// grant lets n more messages be delivered, with these numbers. No more than ring may be
// on their way.
func (c *stubConn) grant(n int, number func() uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.messages == nil {
		return errors.New("nobody subscribed at the stub")
	}
	for range n {
		place := int(c.granted%ring)*c.each + c.number
		binary.BigEndian.PutUint64(c.messages[place:], number())
		c.granted++
	}
	c.readable.Signal()
	return nil
}

// restart has nothing to do but to say whether there is somebody to deliver to.
func (c *stubConn) restart() error {
	if c == nil {
		return errors.New("nobody subscribed at the stub")
	}
	return nil
}

// due is how many bytes of messages may have been read; mu is held.
func (c *stubConn) due() uint64 {
	n := c.granted
	if c.stub.stream != "" {
		n = min(n, c.asked)
	}
	return n * uint64(c.each)
}

// Read gives the client what the server would send.
func (c *stubConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		due := c.due()
		switch {
		case c.closed:
			return 0, io.EOF
		case c.out.Len() > 0 && (c.each == 0 || c.at%uint64(c.each) == 0): // not within a message
			return c.out.Read(p)
		case c.at < due:
			from := c.at % uint64(len(c.messages))
			to := min(from+due-c.at, uint64(len(c.messages)))
			n := copy(p, c.messages[from:to])
			c.at += uint64(n)
			return n, nil
		}
		c.readable.Wait()
	}
}

// Write takes what the client sends.
func (c *stubConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, net.ErrClosed
	}
	in := p
	if len(c.rest) > 0 {
		c.rest = append(c.rest, p...)
		in = c.rest
	}
	n, err := c.take(in)
	c.rest = append(c.rest[:0], in[n:]...)
	c.readable.Signal()
	return len(p), err
}

// take deals with all that is complete and returns how many bytes that was.
func (c *stubConn) take(in []byte) (n int, err error) {
	for {
		end := bytes.IndexByte(in[n:], '\n')
		if end < 0 {
			return n, nil
		}
		line := in[n : n+end+1]
		next := n + len(line)
		switch {
		case bytes.HasPrefix(line, []byte("PUB ")):
			size, err := lastNumber(line)
			if err != nil {
				return n, err
			}
			if next+size+2 > len(in) {
				return n, nil
			}
			if err := c.published(line[len("PUB "):], in[next:next+size]); err != nil {
				return n, err
			}
			next += size + 2
		case bytes.HasPrefix(line, []byte("PING")):
			c.out.WriteString("PONG\r\n")
		case bytes.HasPrefix(line, []byte("SUB ")):
			f := strings.Fields(string(line))
			c.subscribed(f[1], f[len(f)-1])
		case bytes.HasPrefix(line, []byte("UNSUB ")), bytes.HasPrefix(line, []byte("CONNECT ")), bytes.HasPrefix(line, []byte("PONG")):
		default:
			return n, fmt.Errorf("the stub does not know %q", line)
		}
		n = next
	}
}

// lastNumber is the number at the end of a line.
func lastNumber(line []byte) (int, error) {
	line = bytes.TrimRight(line, "\r\n")
	return strconv.Atoi(string(line[bytes.LastIndexByte(line, ' ')+1:]))
}

func (c *stubConn) subscribed(subject, id string) {
	c.subs[subject] = id
	if c.stub.stream == "" && strings.HasPrefix(subject, "stub-") {
		c.deliver(fmt.Sprintf("MSG %s %s %d\r\n", subject, id, payloadSize), subject)
	}
}

// deliver makes the messages that c gets.
func (c *stubConn) deliver(head, name string) {
	one := append([]byte(head), make([]byte, payloadSize)...)
	one = append(one, "\r\n"...)
	c.each, c.number = len(one), len(head)
	c.messages = bytes.Repeat(one, ring)
	c.stub.mu.Lock()
	c.stub.conns[name] = c
	c.stub.mu.Unlock()
}

var ackPrefix = []byte("$JS.ACK.")

// published deals with a message: its subject, with what follows, and its payload.
func (c *stubConn) published(head, payload []byte) error {
	if bytes.HasPrefix(head, ackPrefix) {
		if !bytes.Equal(payload, []byte("+ACK")) {
			return fmt.Errorf("the stub got the settlement %q", payload)
		}
		c.acked++
		return nil
	}
	f := bytes.Fields(head)
	if len(f) < 3 {
		return nil // a publish that nobody answers
	}
	subject, reply := string(f[0]), string(f[1])
	if batch, ok := bytes.CutPrefix(payload[max(0, bytes.Index(payload, []byte(`"batch":`))):], []byte(`"batch":`)); ok && subject == "$JS.API.CONSUMER.MSG.NEXT."+c.stub.stream+"."+durable {
		return c.request(reply, batch)
	}
	answer, ok := c.stub.answer[subject]
	if !ok {
		return fmt.Errorf("the stub cannot answer %s", subject)
	}
	id, ok := c.subs[reply[:strings.LastIndexByte(reply, '.')]+".*"]
	if !ok {
		return fmt.Errorf("the stub has no inbox %s", reply)
	}
	fmt.Fprintf(&c.out, "MSG %s %s %d\r\n%s\r\n", reply, id, len(answer), answer)
	return nil
}

// request counts what is asked for. batch begins with the number.
func (c *stubConn) request(inbox string, batch []byte) error {
	digits := bytes.IndexFunc(batch, func(r rune) bool { return r < '0' || r > '9' })
	n, err := strconv.ParseUint(string(batch[:max(digits, 0)]), 10, 32)
	if err != nil {
		return fmt.Errorf("the stub got a request for messages without their number")
	}
	c.asked += n
	if c.asking == inbox {
		return nil
	}
	if c.asking != "" {
		return errors.New("the stub got requests of two inboxes")
	}
	c.asking = inbox
	ack := fmt.Sprintf("$JS.ACK.%s.%s.1.1000001.1000001.1700000000000000000.4096", c.stub.stream, durable)
	c.deliver(fmt.Sprintf("MSG %s %s %s %d\r\n", c.stub.stream, c.subs[inbox], ack, payloadSize), c.stub.stream)
	c.beat = time.AfterFunc(stubHeartbeat, c.heartbeat)
	return nil
}

// stubHeartbeat is how often the stub looks whether a loop waits. It is less than any
// client asks for: while others have their turn it must not believe that its server is
// gone.
const stubHeartbeat = 100 * time.Millisecond

// heartbeat says that the server is still there. A client that has handled all that it
// asked for before the goroutine that asks has come back does not ask again by itself; what
// wakes it is a request that ran out, as on a server, though sooner.
func (c *stubConn) heartbeat() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	header := "NATS/1.0 100 Idle Heartbeat\r\n\r\n"
	if c.granted > c.asked && c.at == c.due() {
		header = "NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 0\r\nNats-Pending-Bytes: 0\r\n\r\n"
	}
	fmt.Fprintf(&c.out, "HMSG %s %s %d %d\r\n%s\r\n", c.asking, c.subs[c.asking], len(header), len(header), header)
	c.readable.Signal()
	c.beat.Reset(stubHeartbeat)
}

// Close ends the connection.
func (c *stubConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.beat != nil {
		c.beat.Stop()
	}
	c.readable.Signal()
	return nil
}

// Deadlines do not apply: nothing here waits for a network.

// SetDeadline does nothing.
func (c *stubConn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (c *stubConn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing.
func (c *stubConn) SetWriteDeadline(time.Time) error { return nil }

// LocalAddr is no address.
func (c *stubConn) LocalAddr() net.Addr { return stubAddr{} }

// RemoteAddr is no address.
func (c *stubConn) RemoteAddr() net.Addr { return stubAddr{} }

type stubAddr struct{}

func (stubAddr) Network() string { return "stub" }
func (stubAddr) String() string  { return "stub" }

var _ net.Conn = (*stubConn)(nil)

package nats

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"
)

// How long a request waits at the server, and how often the server says meanwhile that
// it is still there.
const (
	pullExpires   = 30 * time.Second
	pullHeartbeat = 5 * time.Second
)

// pull is what a subscription has asked for and not handed out. Its methods are called
// with the subscription's lock held.
//
// It asks for no more than can be handled soon: what waits here has a lease that runs
// out. The window begins with one message, doubles as long as Receive finds nothing
// although it came back at once, and is one again when Receive takes its time.
type pull struct {
	queue []arrival // from first on
	first int

	asked  int // messages that the server still owes
	window int
	most   int   // of the window
	slow   int64 // from when on Receive takes its time, in nanoseconds
	last   int64 // when Receive had something last
	seen   int64 // when the server gave a sign of life
	quiet  int64 // how long it may not

	heartbeat, expires time.Duration

	empty int64 // when nothing waited in the channel

	doubtful bool  // the consumer may be gone
	refused  error // the server will not answer requests
}

// arrival is a message that waits to be received. It came at that time or later.
type arrival struct {
	msg *natsgo.Msg
	at  int64
}

func (p *pull) init(from *consumer, prefetch int) {
	p.window, p.most = 1, prefetch
	if from.maxBatch > 0 {
		p.most = min(p.most, from.maxBatch)
	}
	p.slow = int64(time.Second)
	if from.ackWait > 0 {
		p.slow = min(p.slow, int64(from.ackWait)/8)
	}
	p.expires = pullExpires
	if from.maxExpires > 0 {
		p.expires = min(p.expires, from.maxExpires)
	}
	p.heartbeat = min(pullHeartbeat, p.expires/3)
	p.quiet = int64(2*p.heartbeat + time.Second)
	p.last = -p.slow
}

func (p *pull) buffered() int { return len(p.queue) - p.first }

func (p *pull) push(a arrival) {
	if p.first > 0 && len(p.queue) == cap(p.queue) {
		n := copy(p.queue, p.queue[p.first:])
		clear(p.queue[n:])
		p.queue, p.first = p.queue[:n], 0
	}
	p.queue = append(p.queue, a)
	p.asked = max(p.asked-1, 0)
}

func (p *pull) pop() (arrival, bool) {
	if p.first == len(p.queue) {
		return arrival{}, false
	}
	a := p.queue[p.first]
	p.queue[p.first] = arrival{}
	if p.first++; p.first == len(p.queue) {
		p.queue, p.first = p.queue[:0], 0
	}
	return a, true
}

// reset forgets what was asked for and returns what waits.
func (p *pull) reset() []arrival {
	waiting := p.queue[p.first:]
	p.queue, p.first, p.asked, p.window = nil, 0, 0, 1
	return waiting
}

// forgetRequests forgets what was asked for.
func (p *pull) forgetRequests() { p.asked = 0 }

// doubt has Receive find out whether the consumer is still there.
func (p *pull) doubt() { p.asked, p.doubtful = 0, true }

// trust is the end of doubt.
func (p *pull) trust() { p.asked, p.doubtful = 0, false }

// ask returns how many messages to ask for, and counts them: Receive has taken n, and
// could have taken up to want.
func (p *pull) ask(now int64, n, want int) int {
	if p.doubtful {
		return 0
	}
	quick := now-p.last < p.slow
	if n > 0 {
		p.last = now
		if p.buffered() > 0 && now-p.queue[p.first].at > p.slow {
			p.window = 1 // what waits here waits too long
		}
	} else if quick {
		p.window = min(2*p.window, p.most)
	} else {
		p.window = 1
	}
	target := p.window
	if want > 1 {
		target = max(target, min(want, p.most))
	}
	have := p.buffered() + p.asked
	if 2*have > target || n > 0 && target == 1 {
		return 0
	}
	k := target - have
	if p.asked == 0 {
		p.seen = now
	}
	p.asked += k
	return k
}

// request asks the server for n messages.
func (s *streamSubscription) request(n int) {
	var err error
	if s.c.nc.IsConnected() {
		from := s.consumer()
		body := append(make([]byte, 0, 80), `{"batch":`...)
		body = strconv.AppendInt(body, int64(n), 10)
		body = append(body, `,"expires":`...)
		body = strconv.AppendInt(body, int64(s.pull.expires), 10)
		body = append(body, `,"idle_heartbeat":`...)
		body = strconv.AppendInt(body, int64(s.pull.heartbeat), 10)
		err = s.c.nc.PublishRequest(from.next, s.inbox.Subject, append(body, '}'))
	} else {
		err = natsgo.ErrDisconnected
	}
	if err != nil {
		s.mu.Lock() // asked again when the connection is back, at the next tick at the latest
		s.pull.asked = max(s.pull.asked-n, 0)
		s.mu.Unlock()
	}
}

// arrived takes in what came into the channel at that time or later; mu is held.
func (s *streamSubscription) arrived(msg *natsgo.Msg, at, now int64) {
	s.pull.seen = now
	if msg.Reply == "" {
		s.pull.status(native(msg.Header, "Status"), native(msg.Header, "Description"), native(msg.Header, "Nats-Pending-Messages"))
		return
	}
	s.pull.push(arrival{msg, at})
}

// status deals with what the server says of a request; left is how many messages it had
// still asked for.
func (p *pull) status(code, text, left string) {
	switch code {
	case "100": // the server is still there
	case "404", "408": // the request ended
		n, err := strconv.Atoi(left)
		if err != nil {
			n = p.asked
		}
		p.asked = max(p.asked-n, 0)
	case "409":
		switch lower := strings.ToLower(text); {
		case strings.Contains(lower, "consumer deleted"), strings.Contains(lower, "push based"), strings.Contains(lower, "exceeded"):
			p.doubt() // or there are too many requests: both are looked at with some patience
		default: // leadership change, server shutdown
			p.forgetRequests()
		}
	case "503": // nobody is there
		p.doubt()
	default:
		p.refused = fmt.Errorf("the server refused a request for messages: %s %s", code, text)
	}
}

// keepTicking has tick called while something is asked for or waits; mu is held.
func (s *streamSubscription) keepTicking() {
	if !s.ticking && (s.waiting || s.pull.asked > 0 || s.pull.buffered() > 0) {
		s.ticking = true
		s.timer.Reset(s.interval())
	}
}

// interval is between two ticks.
func (s *streamSubscription) interval() time.Duration {
	d := s.pull.heartbeat
	if wait := s.from.ackWait; wait > 0 {
		d = min(d, max(wait/8, 5*time.Millisecond))
	}
	return d
}

// tick sees to what no message brings about: a server that does not answer, messages
// whose lease runs out while nobody receives them.
func (s *streamSubscription) tick() {
	connected := s.c.nc.IsConnected()
	now := clock()
	var back []arrival
	s.mu.Lock()
	if s.closed || s.lost != nil {
		s.ticking = false
		s.mu.Unlock()
		return
	}
	p := &s.pull
	if !s.waiting {
		s.collect(now)
	}
	if connected && p.asked > 0 && now-p.seen > p.quiet {
		p.doubt()
	}
	if p.buffered() > 0 && !s.src.ordered && now-p.queue[p.first].at > int64(s.from.ackWait)/2 {
		asked := p.asked
		back = p.reset()
		p.asked = asked
	}
	wake := s.waiting && (p.asked == 0 || p.doubtful) && connected
	if p.asked > 0 || p.buffered() > 0 || s.waiting {
		s.timer.Reset(s.interval())
	} else {
		s.ticking = false
	}
	s.mu.Unlock()
	s.giveBack(back)
	if wake {
		s.poke()
	}
}

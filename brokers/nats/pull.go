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
	unwanted bool  // the server has refused a request: it is not asked again at once
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
	p.asked = 0
	return p.takeAll()
}

// takeAll returns what waits, to be given back.
func (p *pull) takeAll() []arrival {
	waiting := p.queue[p.first:]
	p.queue, p.first, p.window = nil, 0, 1
	return waiting
}

// forgetRequests forgets what was asked for.
func (p *pull) forgetRequests() { p.asked = 0 }

// doubt has Receive find out whether the consumer is still there.
func (p *pull) doubt() { p.asked, p.doubtful = 0, true }

// trust is the end of doubt. It reports whether a request was refused.
func (p *pull) trust() (unwanted bool) {
	unwanted = p.unwanted
	p.asked, p.doubtful, p.unwanted = 0, false, false
	return unwanted
}

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
			p.unwanted = true
			p.doubt() // or there are too many requests: both are looked at with some patience
		default: // leadership change, server shutdown
			p.forgetRequests()
		}
	case "503": // nobody is there
		p.unwanted = true
		p.doubt()
	default:
		p.refused = fmt.Errorf("the server refused a request for messages: %s %s", code, text)
	}
}

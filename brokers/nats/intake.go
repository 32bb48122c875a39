package nats

import (
	"context"
	"strconv"
	"sync"
	"time"

	natsgo "github.com/nats-io/nats.go"
)

// inbox is where the server sends what it is asked for. Requests end with it.
type inbox struct {
	sub    *natsgo.Subscription
	ended  chan struct{} // closed when nothing more comes
	ending sync.Once
}

func (s *streamSubscription) newInbox() (*inbox, error) {
	sub, err := s.c.nc.ChanSubscribe(s.c.nc.NewInbox(), s.in)
	if err != nil {
		return nil, err
	}
	in := &inbox{sub: sub, ended: make(chan struct{})}
	// The client may call it twice, where a drain has not ended when the subscription does.
	sub.SetClosedHandler(func(string) { in.ending.Do(func() { close(in.ended) }) })
	return in, nil
}

// inboxSpare is room for what the server says of requests.
const inboxSpare = 256

// request asks the server for n messages, to be sent to that inbox.
func (s *streamSubscription) request(n int, to string) {
	var err error
	if s.c.nc.IsConnected() {
		from := s.consumer()
		body := append(make([]byte, 0, 80), `{"batch":`...)
		body = strconv.AppendInt(body, int64(n), 10)
		body = append(body, `,"expires":`...)
		body = strconv.AppendInt(body, int64(s.pull.expires), 10)
		body = append(body, `,"idle_heartbeat":`...)
		body = strconv.AppendInt(body, int64(s.pull.heartbeat), 10)
		err = s.c.nc.PublishRequest(from.next, to, append(body, '}'))
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
		back = p.takeAll()
	}
	withdraw := len(back) > 0 && p.asked > 0 && connected
	wake := s.waiting && (p.asked == 0 || p.doubtful) && connected
	if p.asked > 0 || p.buffered() > 0 || s.waiting {
		s.timer.Reset(s.interval())
	} else {
		s.ticking = false
	}
	s.mu.Unlock()
	if withdraw {
		back = append(back, s.withdrawRequests()...) // else they come here again
	}
	s.giveBack(back)
	if wake {
		s.poke()
	}
}

// aliveShare is how often a consumer is kept alive within the time that it may be idle.
const aliveShare = 5

// keepAlive tells a server that removes idle consumers that this one is in use, although
// nothing is asked for: a subscription that is paused, or whose handlers take long, would
// lose it together with its position. Any acknowledgement says so; this one is of what is
// settled, or of nothing.
func (s *streamSubscription) keepAlive() {
	s.mu.Lock()
	if s.alive == nil {
		s.mu.Unlock()
		return
	}
	s.alive.Reset(s.from.inactive / aliveShare)
	reply := s.last
	s.mu.Unlock()
	if reply == "" {
		reply = ackPrefix + s.from.stream + "." + s.from.name + ".1.0.0.0.0"
	}
	if s.c.nc.IsConnected() {
		_ = s.c.nc.Publish(reply, bodyProgress)
	}
}

// letDie ends keepAlive; mu is held.
func (s *streamSubscription) letDie() {
	if s.alive != nil {
		s.alive.Stop()
		s.alive = nil
	}
}

// collect takes in what has come into the channel; mu is held, and nobody waits there.
func (s *streamSubscription) collect(now int64) {
	for {
		select {
		case msg := <-s.in:
			s.arrived(msg, s.pull.empty, now)
		default:
			s.pull.empty = now
			return
		}
	}
}

// leftBehind is what nobody will hand out, once the intake has ended; mu is held. A
// Receive that had waited may have one more in hand, and calls it again.
func (s *streamSubscription) leftBehind() []arrival {
	if !s.drained || s.src.ordered {
		return nil
	}
	s.collect(clock())
	return s.pull.reset()
}

// stopIntake gives back what waits here and what still arrives. It returns when nothing
// more does.
func (s *streamSubscription) stopIntake(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	s.letDie()
	owed, in := s.pull.asked > 0, s.inbox
	s.mu.Unlock()
	s.poke()
	var err error
	if in.sub.IsValid() {
		if err = s.endInbox(ctx, in); owed && err == nil {
			s.purgeRequests(ctx)
		}
	}
	s.mu.Lock()
	s.drained = true
	s.timer.Stop()
	back := s.leftBehind()
	s.mu.Unlock()
	s.giveBack(back)
	s.poke()
	return err
}

// endInbox ends the intake of an inbox. It returns when nothing more comes.
func (s *streamSubscription) endInbox(ctx context.Context, in *inbox) error {
	up := s.c.upNow()
	if err := s.c.drain(in.sub); err != nil {
		return err
	}
	// The server's answer comes after whatever it had sent here.
	select {
	case <-in.ended:
	case <-up.Done():
		_ = in.sub.Unsubscribe()
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// purgeRequests has an old server forget the requests of an inbox that is gone. When it
// finds out by itself, while it has something to deliver again, a server of version 2.9
// steps back in the stream and delivers once more what was acknowledged.
func (s *streamSubscription) purgeRequests(ctx context.Context) {
	if s.c.atLeast(2, 10) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, _ = s.c.consumerInfo(ctx, s.consumer()) // it counts the requests, and so looks at them
}

// withdrawRequests ends what was asked for and returns what came after all.
func (s *streamSubscription) withdrawRequests() []arrival {
	in, err := s.newInbox()
	if err != nil {
		return nil // the connection is closed
	}
	old := in // it ends at once where the intake has ended meanwhile
	s.mu.Lock()
	if !s.closed && s.lost == nil {
		old, s.inbox = s.inbox, in
		s.pull.forgetRequests()
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	if err := s.endInbox(ctx, old); err != nil && ctx.Err() == nil {
		return nil
	}
	s.purgeRequests(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.waiting {
		return nil // somebody sees to it
	}
	s.collect(clock())
	return s.pull.takeAll()
}

// giveBack returns messages that nobody has seen, in their order.
func (s *streamSubscription) giveBack(arrivals []arrival) {
	for _, a := range arrivals {
		s.nak(a.msg.Reply)
	}
}

// nak gives a message back. What fails comes back after AckWait, and so it does where the
// server is gone: Shutdown need not wait for it.
func (s *streamSubscription) nak(reply string) {
	if s.c.nc.IsConnected() {
		_ = s.c.nc.Publish(reply, bodyNak)
	}
}

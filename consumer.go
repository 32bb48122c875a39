package gostream

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gostream/gostream/broker"
)

// consumer runs one subscription.
//
// Its workers are goroutines that take turns in receiving. The right to receive
// is a baton: the worker that holds it takes the next thing to do, gives the baton
// on and does it. So there is one receiver at a time, a worker is free
// before Receive is called, and no message hops through a channel. Workers are
// started as they are needed.
//
// What is to be done next is decided by next, which only the holder of the baton
// runs: a retry that is due goes before Receive. Whatever needs the holder's
// attention (a due retry, a pause, the drain) sets the attention flag and
// interrupts a Receive that waits, by cancelling its context; the context is made
// anew only then.
type consumer struct {
	plan *subscriptionPlan
	svc  *Service
	obs  *observers
	log  *slog.Logger
	// chain is the middleware with core at its end.
	chain    Next
	leases   leaseKeeper
	lanes    *lanes                       // under ByKey; nil otherwise
	buffered *broker.BufferedSubscription // of a batch handler; the holder's
	received []broker.IncomingMessage     // of a batch handler, reused; the holder's

	// handlerCtx is the parent of every attempt's context; settleCtx outlives it
	// by the drain's grace.
	handlerCtx, settleCtx context.Context

	right *baton        // nil where there is one worker
	wake  chan struct{} // wakes a holder that waits for something else than a message

	attention atomic.Bool  // next must look at the fields under mu
	inFlight  atomic.Int64 // unsettled: in hand or parked
	wantsRoom atomic.Bool  // the holder waits until inFlight is below its limit

	// recvCtx is the context of Receive. The holder alone reads and renews it.
	recvCtx context.Context

	mu         sync.Mutex // guards what follows; never held while user or broker code runs
	sub        broker.Subscription
	state      State
	recvCancel context.CancelFunc // of recvCtx
	due        []*parked          // whose time has come, first in first out
	visits     []*lane            // where a due retry needs a worker
	parking    parkedHeap         // by due time
	timer      *time.Timer        // for the first of parking; nil until something parks
	slots      []*slot            // one for each worker that was started
	paused     bool
	stopping   bool            // the drain has begun
	closing    bool            // the subscription was told to close; ErrClosed is its end
	ended      bool            // it has ended
	pauseSeen  []chan struct{} // closed when the holder has seen the pause
	down       bool
	reopenAt   time.Time
	reopens    int
	changes    []State // that the observers have not been told of
}

// slot is what the outside sees of one worker.
type slot struct {
	// began is when it began with what it has in hand, in nanoseconds since the
	// service began, plus 1; 0 while it has nothing.
	began atomic.Int64
	// frame is what it handles, where messages have leases.
	frame atomic.Pointer[frame]
}

// idle says that the worker has nothing in hand.
func (s *slot) idle() {
	s.began.Store(0)
	if s.frame.Load() != nil {
		s.frame.Store(nil)
	}
}

// start is when the worker began, since the service began.
func (s *slot) start() time.Duration { return time.Duration(s.began.Load() - 1) }

// task is what a worker does next: one of a message or a batch just received, a
// parked one, or a lane in which something is due.
type task struct {
	msg    broker.IncomingMessage
	batch  *batchRun
	parked *parked
	visit  *lane
}

func newConsumer(s *Service, p *subscriptionPlan) *consumer {
	c := &consumer{
		plan: p, svc: s, obs: s.obs,
		log:        s.log.With(AttrSubscription, p.info.name),
		handlerCtx: s.handlerCtx, settleCtx: s.settleCtx,
		wake: make(chan struct{}, 1),
	}
	c.leases.c = c
	c.chain = c.core
	for i := len(p.middleware) - 1; i >= 0; i-- {
		c.chain = p.middleware[i](c.chain)
	}
	if p.workers > 1 {
		c.right = newBaton()
	}
	if p.byKey {
		c.lanes = newLanes(p.workers)
	}
	if b := p.handler.batch; b != nil {
		c.received = make([]broker.IncomingMessage, b.max)
	}
	return c
}

// open subscribes. It is called once, before start.
func (c *consumer) open(ctx context.Context) error {
	sub, err := c.subscribe(ctx)
	if err != nil {
		return err
	}
	if err := c.checkTransactions(sub); err != nil {
		return errors.Join(err, sub.Close(ctx))
	}
	c.use(sub)
	return nil
}

func (c *consumer) subscribe(ctx context.Context) (broker.Subscription, error) {
	if d := c.svc.double; d != nil {
		return d.Subscribe(c.plan.broker, c.plan.source, c.plan.info.name), nil
	}
	return c.plan.source.Subscribe(ctx, c.plan.broker)
}

// use has the consumer receive from sub.
func (c *consumer) use(sub broker.Subscription) {
	c.sub = sub
	if b := c.plan.handler.batch; b != nil {
		c.buffered = broker.Buffered(sub, b.wait)
	}
}

// start makes the subscription work, unless a drain has begun meanwhile.
func (c *consumer) start() {
	c.mu.Lock()
	defer c.unlock()
	if c.stopping {
		return
	}
	c.recvCtx, c.recvCancel = context.WithCancel(context.WithoutCancel(c.settleCtx))
	c.setState(StateRunning)
	c.addWorker()
}

// addWorker starts a worker; mu is held.
func (c *consumer) addWorker() {
	s := new(slot)
	c.slots = append(c.slots, s)
	c.svc.workers.add(1)
	go c.work(s, nil)
}

// work is a worker's life. It begins in lane ln, where that is not nil.
func (c *consumer) work(s *slot, ln *lane) {
	ended := false
	defer func() {
		s.idle()
		if !ended {
			// A handler called runtime.Goexit. The message was settled on the
			// way out; another goroutine takes this one's place.
			go c.work(s, ln)
			return
		}
		c.svc.workers.add(-1)
	}()
	for {
		c.finishLane(ln, s)
		ln = nil
		if c.right != nil {
			c.right.take()
		}
		var t task
		var ok bool
		if c.lanes == nil {
			t, ok = c.next(s)
		} else {
			t, ln, ok = c.nextInLane(s)
		}
		if c.right != nil {
			if awaited := c.right.give(); !awaited && ok {
				c.grow()
			}
			if c.attention.Load() && !c.right.isHeld() {
				c.sawPause() // nobody receives, and whoever begins to looks first
			}
		}
		if !ok {
			ended = true
			return
		}
		c.do(t, ln, s)
		s.idle()
	}
}

// nextInLane is next under ByKey: the worker has entered the lane of what it
// returns. What comes up for a busy lane, or behind a waiting key, is left there.
func (c *consumer) nextInLane(s *slot) (t task, ln *lane, ok bool) {
	for {
		t, ok = c.next(s)
		if !ok {
			return task{}, nil, false
		}
		if t.visit != nil {
			if due, ok := t.visit.take(); ok {
				return due, t.visit, true
			}
		} else if ln = c.lanes.of(t.msg); ln.enter(t) {
			return t, ln, true
		}
		s.began.Store(0)
	}
}

// finishLane does everything that waits in the lane which the worker is in, and
// leaves it.
func (c *consumer) finishLane(ln *lane, s *slot) {
	if ln == nil {
		return
	}
	for {
		t, ok := ln.another()
		if !ok {
			return
		}
		s.began.Store(int64(c.svc.since()) + 1)
		c.do(t, ln, s)
		s.idle()
	}
}

// grow starts one more worker where the pool is not full.
func (c *consumer) grow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.slots) < c.plan.workers {
		c.addWorker()
	}
}

// next waits for the next thing to do. It is called by the holder of the baton
// alone. ok is false when the worker shall end. The slot is marked as busy.
func (c *consumer) next(s *slot) (t task, ok bool) {
	var err error
	for {
		if c.attention.Load() || c.inFlight.Load() >= int64(c.plan.maxInFlight) {
			switch t, what := c.attend(); what {
			case taskReady:
				s.began.Store(int64(c.svc.since()) + 1)
				return t, true
			case workerEnds:
				return task{}, false
			case lookAgain:
				continue
			case mayReceive:
			}
		}
		if c.buffered != nil {
			t, err = c.receiveBatch()
		} else {
			t, err = c.receive()
		}
		if err != nil {
			c.receiveFailed(err)
			continue
		}
		s.began.Store(int64(c.svc.since()) + 1)
		if c.attention.Load() {
			c.sawPause() // this message had already won; nothing more is received
		}
		return t, true
	}
}

func (c *consumer) receive() (task, error) {
	m, err := c.sub.Receive(c.recvCtx)
	if err != nil {
		return task{}, err
	}
	c.inFlight.Add(1)
	return task{msg: m}, nil
}

// receiveBatch receives as many as the batch and the limit of unsettled deliveries
// allow.
func (c *consumer) receiveBatch() (task, error) {
	room := min(int64(len(c.received)), int64(c.plan.maxInFlight)-c.inFlight.Load())
	n, err := c.buffered.ReceiveBatch(c.recvCtx, c.received[:room])
	if err != nil {
		return task{}, err
	}
	c.inFlight.Add(int64(n))
	run := c.newBatch(n)
	for i, m := range c.received[:n] {
		run.add(i, m, attemptOf(m))
	}
	clear(c.received[:n])
	return task{batch: run}, nil
}

// whatNext is the answer of attend.
type whatNext int

const (
	mayReceive whatNext = iota
	taskReady
	workerEnds
	lookAgain
)

// attend does what the attention flag asks for, in this order: ending, a due
// retry, a pause, a subscription that is down, and the limit of unsettled
// deliveries. It waits where there is something to wait for.
func (c *consumer) attend() (task, whatNext) {
	c.mu.Lock()
	if c.recvCtx.Err() != nil {
		c.recvCtx, c.recvCancel = context.WithCancel(context.WithoutCancel(c.settleCtx))
	}
	c.attention.Store(c.stopping || c.paused || c.ended || c.down || len(c.due)+len(c.visits) > 0)
	mayStart := !c.paused || c.stopping
	switch {
	case mayStart && len(c.visits) > 0:
		ln := c.visits[0]
		c.visits = c.visits[1:]
		c.mu.Unlock()
		return task{visit: ln}, taskReady
	case mayStart && len(c.due) > 0:
		p := c.due[0]
		c.due[0] = nil
		c.due = c.due[1:]
		c.mu.Unlock()
		return task{parked: p}, taskReady
	case c.stopping && (c.ended || c.down || c.plan.properties.Redelivers):
		c.mu.Unlock()
		return task{}, workerEnds
	case c.stopping:
		// Nothing redelivers: what has arrived is handled until the end.
		c.mu.Unlock()
		return task{}, c.room()
	case c.paused && (c.ended || !c.closing):
		c.seePause()
		c.mu.Unlock()
		<-c.wake
		return task{}, lookAgain
	case c.paused:
		// Its subscription is closed: what has arrived is handled first.
		c.seePause()
		c.mu.Unlock()
		return task{}, c.room()
	case c.closing && c.ended:
		// Resumed after a pause that closed it: open it anew, at once.
		c.closing, c.ended = false, false
		c.down, c.reopens, c.reopenAt = true, 0, c.svc.epoch
		return task{}, c.reopen()
	case c.down:
		return task{}, c.reopen()
	}
	c.mu.Unlock()
	return task{}, c.room()
}

// room answers that the holder may receive, or waits where too much is unsettled.
func (c *consumer) room() whatNext {
	if c.inFlight.Load() < int64(c.plan.maxInFlight) {
		return mayReceive
	}
	c.wantsRoom.Store(true)
	if c.inFlight.Load() >= int64(c.plan.maxInFlight) {
		<-c.wake
	}
	c.wantsRoom.Store(false)
	return lookAgain
}

// interrupt makes the holder look at the fields under mu; mu is held.
func (c *consumer) interrupt() {
	c.attention.Store(true)
	if c.recvCancel != nil {
		c.recvCancel()
	}
	c.poke()
}

// poke wakes a holder that waits for something else than a message.
func (c *consumer) poke() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// release counts a delivery that is settled, or let go, out.
func (c *consumer) release() {
	c.inFlight.Add(-1)
	if c.wantsRoom.Load() {
		c.poke()
	}
}

// receiveFailed deals with an error of Receive.
func (c *consumer) receiveFailed(err error) {
	if c.recvCtx.Err() != nil {
		return // interrupted: next looks why
	}
	c.mu.Lock()
	if c.closing && errors.Is(err, broker.ErrClosed) {
		c.ended = true
		c.attention.Store(true)
		c.mu.Unlock()
		return
	}
	c.down = true
	c.reopens = 1
	c.reopenAt = time.Now().Add(ownBackoff.delay(1, c.svc.random()))
	c.attention.Store(true)
	c.setState(StateDown)
	c.unlock()
	c.log.Error("subscription is down", "error", err)
	if c.plan.lost == LostFailFast {
		c.svc.fail(&lostError{name: c.plan.info.name, err: err})
	}
}

// reopen tries to subscribe again when it is time, and waits until then; mu is
// held, and released.
func (c *consumer) reopen() whatNext {
	wait := time.Until(c.reopenAt)
	old := c.sub
	c.mu.Unlock()
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.wake:
		}
		return lookAgain
	}
	ctx, cancel := context.WithTimeout(c.recvCtx, broker.DefaultTimeout)
	defer cancel()
	if old != nil {
		_ = old.Close(ctx) // what it still holds goes back; it has failed already
	}
	sub, err := c.subscribe(ctx)
	var unwanted broker.Subscription
	defer func() {
		if unwanted != nil {
			_ = unwanted.Close(ctx) // what it has received is handled until it ends
		}
	}()
	c.mu.Lock()
	var say func() // without the lock: a log handler is somebody else's code
	defer func() {
		c.unlock()
		if say != nil {
			say()
		}
	}()
	if err != nil {
		if c.recvCtx.Err() == nil {
			c.reopens++
			c.reopenAt = time.Now().Add(ownBackoff.delay(c.reopens, c.svc.random()))
			tries := c.reopens
			say = func() { c.log.Warn("subscription is still down", "error", err, "tries", tries) }
		}
		return lookAgain
	}
	c.use(sub)
	c.down, c.reopens = false, 0
	if (c.stopping || c.paused) && !c.plan.properties.Redelivers {
		c.closing, unwanted = true, sub // a pause or a drain came meanwhile
	}
	switch {
	case c.stopping:
	case c.paused:
		c.setState(StatePaused)
	default:
		c.setState(StateRunning)
	}
	say = func() { c.log.Info("subscription is live again") }
	return lookAgain
}

// setState changes the state; mu is held, and must be released by unlock, which
// tells of it.
func (c *consumer) setState(to State) {
	if c.state != to {
		c.state = to
		c.changes = append(c.changes, to)
	}
}

// unlock releases mu, then tells the observers of changed states.
func (c *consumer) unlock() {
	changes := c.changes
	c.changes = nil
	c.mu.Unlock()
	for _, to := range changes {
		c.obs.onStateChanged(&c.plan.info, to)
	}
}

// lostError is a subscription that was lost and may not be.
type lostError struct {
	name string
	err  error
}

func (e *lostError) Error() string {
	return "subscription " + broker.Quote(e.name) + " is lost: " + e.err.Error()
}

func (e *lostError) Unwrap() error { return e.err }

package gostream

import (
	"context"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/gostream/gostream/internal/seam"
)

// AfterAck has f called after the message that ctx belongs to was acknowledged,
// and only then. It belongs to this attempt: a later one registers anew. f runs
// off the delivery path with a live context, at most once, up to 16 at a time; those
// that wait are kept in memory, and dropped where a drain's grace ends before their
// turn. A panic in it is logged. It reports false and does nothing where ctx belongs to no delivery, as
// in a unit test, or where the attempt has ended.
func AfterAck(ctx context.Context, f func(ctx context.Context)) bool {
	return addHook(ctx, hook{onlyAcked: true, run: func(ctx context.Context, _ Outcome) { f(ctx) }})
}

// AfterSettle has f called after this attempt ended, however it did, with its
// outcome. Else it is as [AfterAck].
func AfterSettle(ctx context.Context, f func(ctx context.Context, o Outcome)) bool {
	return addHook(ctx, hook{run: f})
}

func addHook(ctx context.Context, h hook) bool {
	f, ok := frameFrom(ctx)
	if !ok {
		return false
	}
	return f.delivery.attached().add(h)
}

// SetContext keeps ctx as the context of this attempt at the delivery: that of the log
// lines which the runtime writes about it once the handler has returned, and what
// [Delivery.Context] returns to observers. A middleware that opens a span sets it, so
// that these carry its id; AfterAck hooks see its values. It costs one allocation. nil,
// and a call after the attempt has ended, change nothing.
func (d *Delivery) SetContext(ctx context.Context) {
	if ctx == nil {
		return
	}
	l := d.attached()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.ctx = ctx
	}
}

// Context is what [Delivery.SetContext] was given in this attempt; without it, and of a
// delivery without a subscription, one that has no values. Publish middleware sees its
// values when the runtime publishes the dead letter or the error reply. It is for values only: it may
// have ended.
func (d *Delivery) Context() context.Context {
	l := d.hooks.Load()
	if l == nil {
		return context.Background()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ctx == nil {
		return context.Background()
	}
	return l.ctx
}

// attached is the delivery's list, made where there is none.
func (d *Delivery) attached() *hookList {
	l := d.hooks.Load()
	if l == nil {
		l = new(hookList)
		if !d.hooks.CompareAndSwap(nil, l) {
			l = d.hooks.Load()
		}
	}
	return l
}

type hook struct {
	onlyAcked bool
	run       func(ctx context.Context, o Outcome)
}

// hookList is what was attached to one attempt: its context, and the functions that wait
// for its settlement.
type hookList struct {
	mu     sync.Mutex
	ctx    context.Context // nil: none was set
	hooks  []hook
	closed bool // the attempt has ended: nothing can be added
}

// noMoreHooks stands in a delivery whose attempt has ended.
var noMoreHooks = &hookList{closed: true}

func (l *hookList) add(h hook) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.hooks = append(l.hooks, h)
	return true
}

// takeHooks ends the attempt's list and returns what stood on it.
func (d *Delivery) takeHooks() []hook {
	l := d.hooks.Load()
	if l == nil {
		if d.hooks.CompareAndSwap(nil, noMoreHooks) {
			return nil
		}
		l = d.hooks.Load()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	hooks := l.hooks
	l.hooks, l.closed = nil, true
	return hooks
}

// maxHookWorkers is how many hooks of one service run at once.
const maxHookWorkers = 16

// hookRunner runs the hooks of settled attempts off the delivery path, in the
// order in which they were handed over, a few at a time. Its goroutines end when
// there is nothing to do.
type hookRunner struct {
	ctx    context.Context // live until the end of the drain's grace
	log    *slog.Logger
	double seam.Double // nil but in a test of an app

	mu      sync.Mutex
	queue   []settledHooks
	running int
	workers group
}

type settledHooks struct {
	hooks   []hook
	outcome Outcome
	from    *Delivery
}

// settled hands over the hooks of an attempt that ended with o.
func (r *hookRunner) settled(d *Delivery, o Outcome) {
	hooks := d.takeHooks()
	if len(hooks) == 0 {
		return
	}
	if r.double != nil {
		r.double.Hold(len(hooks))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = append(r.queue, settledHooks{hooks, o, d})
	if r.running < maxHookWorkers {
		r.running++
		r.workers.add(1)
		go r.work()
	}
}

func (r *hookRunner) work() {
	var s settledHooks // in hand: hooks that did not run yet
	defer func() {
		// A hook that called Goexit ends this goroutine; another one goes on.
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(s.hooks) > 0 {
			r.queue = slices.Insert(r.queue, 0, s)
		}
		if len(r.queue) > 0 {
			go r.work()
			return
		}
		r.running--
		r.workers.add(-1)
	}()
	for {
		r.mu.Lock()
		if len(r.queue) == 0 {
			r.mu.Unlock()
			return
		}
		s = r.queue[0]
		r.queue[0] = settledHooks{}
		r.queue = r.queue[1:]
		r.mu.Unlock()
		for len(s.hooks) > 0 {
			h := s.hooks[0]
			s.hooks = s.hooks[1:]
			r.run(h, s)
		}
	}
}

func (r *hookRunner) run(h hook, s settledHooks) {
	if r.double != nil {
		defer r.double.Release()
	}
	if h.onlyAcked && s.outcome != OutcomeAcked {
		return
	}
	returned := false
	defer func() {
		if returned {
			return
		}
		log := r.log.With(AttrSubscription, s.from.Subscription().Name())
		if v := recover(); v != nil {
			log.Error("hook panicked", "panic", v, "stack", string(debug.Stack()))
			return
		}
		log.Error("hook called runtime.Goexit")
	}()
	h.run(s.from.live(r.ctx), s.outcome)
	returned = true
}

// live is ctx with the values of the delivery's own context, where it has one.
func (d *Delivery) live(ctx context.Context) context.Context {
	if values := d.Context(); values != context.Background() {
		return liveValues{ctx, values}
	}
	return ctx
}

// undelivered is a context that belongs to no delivery, whatever it descends from: what is
// published with it stands for the runtime, not for a handler.
type undelivered struct{ context.Context }

func (c undelivered) Value(key any) any {
	if _, ok := key.(frameKey); ok {
		return nil
	}
	return c.Context.Value(key)
}

// liveValues lives as long as its context does and has the values of another.
type liveValues struct {
	context.Context
	values context.Context
}

func (c liveValues) Value(key any) any {
	if v := c.values.Value(key); v != nil {
		return v
	}
	return c.Context.Value(key)
}

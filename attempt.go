package gostream

import (
	"context"
	"errors"
	"log/slog"

	"github.com/gostream/gostream/broker"
)

// do does a task, in the worker's own goroutine; ln is the lane that it is in, nil
// without ByKey.
func (c *consumer) do(t task, ln *lane, s *slot) {
	switch {
	case t.parked != nil:
		c.again(t.parked, s)
		return
	case t.batch != nil:
		if c.leases.needed(t.batch.elements[0].delivery.msg) {
			s.frame.Store(&t.batch.frame)
		}
		c.doBatch(t.batch, s)
		return
	}
	f := c.plan.handler.newFrame()
	attempt := attemptOf(t.msg)
	f.init(c.handlerCtx, c, t.msg, attempt)
	f.received, f.began, f.lane = s.start(), s.start(), ln
	if c.leases.needed(t.msg) {
		s.frame.Store(f)
	}
	c.obs.onReceived(&f.delivery)
	switch {
	case c.svc.stopping.Load() && c.plan.properties.Redelivers:
		c.giveBack(f, nil) // received, but not begun
	case c.plan.most > 0 && attempt > c.plan.most:
		c.carryOut(f, c.plan.policy.decide(failure{kind: failedProcess}), ErrDeliveriesExceeded)
	default:
		c.attempt(f)
	}
}

// attemptOf is the number of the attempt that a delivery begins with: the broker's
// count, where it counts.
func attemptOf(m broker.IncomingMessage) int {
	if n, ok := broker.DeliveryCount(m); ok && n > 1 {
		return n
	}
	return 1
}

// again goes on with a parked delivery: it repeats the publish that failed, or
// calls the handler again.
func (c *consumer) again(p *parked, s *slot) {
	if p.held {
		c.giveBack(p.frame, nil)
		return
	}
	if c.svc.double != nil && !p.alone {
		for _, f := range p.frames() {
			c.svc.double.Unparked(f.delivery.msg)
		}
	}
	if p.batch != nil {
		c.batchAgain(p, s)
		return
	}
	old := p.frame
	if c.leases.needed(old.delivery.msg) {
		s.frame.Store(old)
	}
	if c.svc.stopping.Load() && c.plan.properties.Redelivers {
		c.giveBack(old, nil)
		return
	}
	if broker.Stale(old.delivery.msg) {
		c.log.WarnContext(old.logContext(), "parked message is stale, it is let go", AttrName, old.delivery.Name())
		c.finish(old, OutcomeUnsettled, broker.ErrStale)
		return
	}
	if p.pending != nil {
		c.sendThenAck(old, p.pending)
		return
	}
	f := c.plan.handler.newFrame()
	f.init(c.handlerCtx, c, old.delivery.msg, old.delivery.attempt+1)
	f.received, f.began, f.lane = old.received, c.svc.since(), old.lane
	c.attempt(f)
}

// attempt handles a delivery and settles it. It runs at most once for each frame,
// and settles also where the handler panics or ends the goroutine.
func (c *consumer) attempt(f *frame) {
	returned := false
	defer func() {
		// Around the middleware, once more: the function's own panics were
		// errors before they came here.
		if !returned {
			c.conclude(f, abruptEnd(recover()))
		}
	}()
	err := c.chain(f, &f.batch)
	returned = true
	c.conclude(f, err)
}

// core is the innermost Next: decode, call, publish the reply.
func (c *consumer) core(ctx context.Context, b *Batch) error {
	f, h := b.frame, c.plan.handler
	if f.run != nil {
		return c.batchCore(ctx, f.run)
	}
	if h.send != nil && h.send.toReplyTo && !h.out.envelope && f.delivery.Headers().ReplyTo() == "" {
		return ErrNoReplyTo
	}
	if err := h.run(ctx, f, c.plan); err != nil || h.send == nil {
		return err
	}
	return c.publishReply(ctx, f)
}

// conclude settles a delivery by the error that its attempt ended with.
func (c *consumer) conclude(f *frame, err error) {
	if err == nil {
		c.acknowledge(f, OutcomeAcked, nil)
		return
	}
	err = tame(err)
	if broker.Stale(f.delivery.msg) {
		c.log.WarnContext(f.logContext(), "message failed and is stale, it is let go", c.failureAttrs(f, err)...)
		c.finish(f, OutcomeUnsettled, err)
		return
	}
	c.carryOut(f, c.decide(f, err, c.isRequest(f), c.svc.random()), err)
}

// decide asks the policy about a failed delivery.
func (c *consumer) decide(f *frame, err error, request bool, random float64) decision {
	return c.plan.policy.decide(failure{
		kind: f.failureKind(err), err: err, attempt: f.delivery.attempt,
		request: request, draining: c.svc.stopping.Load(), random: random,
	})
}

// failureKind says what failed.
func (f *frame) failureKind(err error) failureKind {
	var p *PanicError
	switch {
	case f.undecodable && errors.Is(err, ErrUndecodable):
		return failedDecode
	case errors.As(err, &p):
		return failedPanic
	default:
		return failedHandler
	}
}

// isRequest reports whether somebody waits for a reply to the message.
func (c *consumer) isRequest(f *frame) bool {
	h := c.plan.handler
	return h.send != nil && h.send.toReplyTo && f.delivery.Headers().ReplyTo() != ""
}

// carryOut does what was decided about a failed delivery.
func (c *consumer) carryOut(f *frame, d decision, err error) {
	f.reason = reasonOf(d.reason)
	if d.undeclared {
		c.log.WarnContext(f.logContext(), "a dead letter was asked for but none is declared: DeadLetterTo(name)", AttrName, f.delivery.Name())
	}
	switch d.action {
	case actionIgnore:
		c.logIgnored(f, d, err)
		c.acknowledge(f, OutcomeIgnored, err)
	case actionReject:
		c.log.ErrorContext(f.logContext(), "message is rejected", c.failureAttrs(f, err)...)
		c.answerFailure(f, err)
		c.reject(f, err)
	case actionRetry:
		c.logRetry(f, d, err)
		c.retry(f, d.delay, err)
	case actionDeadLetter:
		c.answerFailure(f, err)
		c.sendThenAck(f, c.deadLetter(f, d, err))
	case actionReplyError:
		c.sendThenAck(f, c.errorReply(f, err))
	case actionGiveBack:
		c.log.WarnContext(f.logContext(), "message failed during the drain, it is given back", c.failureAttrs(f, err)...)
		c.giveBack(f, err)
	case actionFailFast:
		c.log.ErrorContext(f.logContext(), "message failed, the app shuts down", c.failureAttrs(f, err)...)
		c.svc.fail(&failFastError{name: c.plan.info.name, err: err})
		c.hold(f, err)
	}
}

// logIgnored leaves a line about a message that is given up; that there is no reply
// this time, Ignore(nil), is nothing special.
func (c *consumer) logIgnored(f *frame, d decision, err error) {
	level := slog.LevelInfo
	if v, ok := verdictOf(err); ok && v.err == nil {
		level = slog.LevelDebug
	}
	if c.log.Enabled(c.settleCtx, level) {
		c.log.Log(f.logContext(), level, "message is ignored", c.failureAttrs(f, err)...)
	}
}

func (c *consumer) logRetry(f *frame, d decision, err error) {
	c.log.WarnContext(f.logContext(), "message failed, it will be retried", c.failureAttrs(f, err, "delay", d.delay)...)
}

// failureAttrs are the log attributes of a failed message, never its payload (though
// the error of a codec may quote a value of it); the
// stack of a panic with the first attempt alone.
func (c *consumer) failureAttrs(f *frame, err error, more ...any) []any {
	attrs := []any{AttrName, f.delivery.Name(), AttrAttempt, f.delivery.attempt, "error", err}
	if f.reason != 0 {
		attrs = append(attrs, AttrReason, f.reason.String())
	}
	attrs = append(attrs, more...)
	var p *PanicError
	if f.delivery.attempt == 1 && errors.As(err, &p) {
		attrs = append(attrs, "stack", string(p.Stack))
	}
	return attrs
}

// failFastError is a message whose failure ends the app.
type failFastError struct {
	name string
	err  error
}

func (e *failFastError) Error() string {
	return "subscription " + broker.Quote(e.name) + " failed fast: " + e.err.Error()
}

func (e *failFastError) Unwrap() error { return e.err }

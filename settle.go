package gostream

import (
	"errors"
	"time"

	"github.com/gostream/gostream/broker"
)

// acknowledge acks a delivery and ends its attempt.
func (c *consumer) acknowledge(f *frame, o Outcome, cause error) {
	if f.acked {
		c.finish(f, o, cause) // inside a transaction that was committed
		return
	}
	began := c.clock()
	c.settle(f, o, cause, f.delivery.msg.Ack(c.settleCtx), began)
}

// giveBack returns a delivery to the broker, unprocessed. What the transport
// cannot redeliver is lost then, and counted as that.
//
// Under ByKey it is left unsettled instead, for the broker's shutdown to return: a
// later message of its key must not be handed out before it.
func (c *consumer) giveBack(f *frame, cause error) {
	if f.lane != nil && c.plan.properties.Redelivers {
		c.finish(f, OutcomeGivenBack, cause)
		return
	}
	began := c.clock()
	c.settle(f, OutcomeGivenBack, cause, f.delivery.msg.Nack(c.settleCtx, true), began)
}

// retry has a delivery handled again after delay: by the broker where it can
// delay and counts deliveries, so that the count of attempts survives a crash;
// else, and always under ByKey, it is parked here.
func (c *consumer) retry(f *frame, delay time.Duration, cause error) {
	// Beyond the guard against messages that end the process, the broker's count
	// must not grow by what the handler asked for.
	guarded := c.plan.most > 0 && f.delivery.attempt >= c.plan.most
	if c.plan.properties.CountsDeliveries && f.lane == nil && !guarded {
		began := c.clock()
		err := broker.NackAfter(c.settleCtx, f.delivery.msg, delay)
		if err == nil || isFinal(err) {
			c.settle(f, OutcomeRetried, cause, err, began)
			return
		}
	}
	c.attemptEnded(f, OutcomeRetried, cause, 0)
	c.park(&parked{frame: f}, delay)
}

// isFinal reports a failed settlement that need not be tried again.
func isFinal(err error) bool {
	return errors.Is(err, broker.ErrSettled) || errors.Is(err, broker.ErrStale) || errors.Is(err, broker.ErrClosed)
}

// reject gives a delivery up.
func (c *consumer) reject(f *frame, cause error) {
	began := c.clock()
	c.settle(f, OutcomeRejected, cause, f.delivery.msg.Nack(c.settleCtx, false), began)
}

// clock is the time since the service began, plus 1; 0 where no observer would be told of
// it: reading it takes as long as a settlement in memory.
func (c *consumer) clock() time.Duration {
	if c.obs.settled == nil {
		return 0
	}
	return c.svc.since() + 1
}

// settle ends an attempt whose settlement began at a clock's time and answered err. A
// transport without acknowledgements answers that it has none, which is accepted.
func (c *consumer) settle(f *frame, o Outcome, cause, err error, began time.Duration) {
	if errors.Is(err, errors.ErrUnsupported) {
		began = 0
	} else if err != nil {
		c.log.ErrorContext(f.logContext(), "settling failed", AttrName, f.delivery.Name(), AttrOutcome, o.String(), "error", err)
		c.svc.settleFailures.Add(1)
		o = OutcomeUnsettled
		if cause == nil {
			cause = err
		}
	}
	c.attemptEnded(f, o, cause, began)
	c.finish(f, o, cause)
}

// finish ends an attempt and lets the delivery go.
func (c *consumer) finish(f *frame, o Outcome, cause error) {
	c.attemptEnded(f, o, cause, 0)
	if c.svc.stopping.Load() {
		c.svc.drained.count(o, c.plan.properties.Redelivers)
	}
	if f.lane != nil {
		f.lane.unblock(f)
	}
	if c.svc.double != nil {
		c.svc.double.Finished(f.delivery.msg)
	}
	c.release()
}

// attemptEnded tells the hooks and the observers how an attempt ended. settling is the
// clock's time when its settlement began, 0 where there was none.
//
// Once: a parked delivery that is let go later had its attempt ended when it was parked.
func (c *consumer) attemptEnded(f *frame, o Outcome, cause error, settling time.Duration) {
	if f.ended {
		return
	}
	f.ended = true
	if f.element {
		f.outcome.Store(uint32(o))
	}
	c.svc.hooks.settled(&f.delivery, o)
	if c.obs.settled != nil {
		e := SettledEvent{Delivery: &f.delivery, Outcome: o, Err: cause, Reason: f.reason.String(), Took: c.svc.since() - f.began}
		if settling > 0 {
			e.Settling = f.began + e.Took + 1 - settling
		}
		c.obs.onSettled(e)
	}
}

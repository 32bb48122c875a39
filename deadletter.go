package gostream

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/gostream/gostream/broker"
)

// pendingSend is a publish that must succeed before its delivery is acknowledged:
// a dead letter, or the error reply to a request. Where it fails only the publish
// is repeated; the handler is not called again.
type pendingSend struct {
	what    string // for logs
	msg     broker.OutgoingMessage
	via     *outlet
	outcome Outcome
	cause   error
	request bool // it is the answer to a request
	tries   int
	cut     string // what a dead letter had to do without; "" for nothing
}

// lighten takes off what makes a dead letter larger than its message was: first the
// error's text, then all that was added. It reports false where nothing is left to take.
func (p *pendingSend) lighten() bool {
	const text, all = "the error's text", "the headers of a dead letter"
	switch {
	case p.outcome != OutcomeDeadLettered || p.cut == all:
		return false
	case p.cut == "":
		p.cut = text
		p.msg.Headers = p.msg.Headers.Without(HeaderDeadError)
	default:
		p.cut = all
		p.msg.Headers = p.msg.Headers.Without(deadHeaders[:]...)
	}
	return true
}

// deadHeaders are what a dead letter has beyond its message.
var deadHeaders = [...]string{
	HeaderDeadReason, HeaderDeadError, HeaderDeadSource, HeaderDeadSubscription, HeaderDeadAttempts, HeaderDeadTime,
}

// sendTimeout bounds one try.
const sendTimeout = 30 * time.Second

// sendThenAck publishes p and acknowledges the delivery, or parks it for the next
// try.
func (c *consumer) sendThenAck(f *frame, p *pendingSend) {
	returned := false
	defer func() {
		if !returned {
			c.sendLater(f, p, ErrGoexit) // a publish middleware ended the goroutine
		}
	}()
	ctx, cancel := context.WithTimeout(undelivered{f.delivery.live(c.settleCtx)}, sendTimeout)
	err := p.via.publish(ctx, p.msg)
	for errors.Is(err, broker.ErrTooLarge) && p.lighten() {
		err = p.via.publish(ctx, p.msg)
	}
	cancel()
	returned = true
	switch {
	case err == nil:
		more := []any{"to", p.msg.Name}
		if p.cut != "" {
			more = append(more, "without", p.cut)
		}
		c.log.ErrorContext(f.logContext(), p.what, c.failureAttrs(f, p.cause, more...)...)
		c.acknowledge(f, p.outcome, p.cause)
	case p.request && isPermanent(err):
		c.unanswerable(f, p, err)
	default:
		c.sendLater(f, p, err)
	}
}

// sendLater parks the delivery until the next try of its publish.
func (c *consumer) sendLater(f *frame, p *pendingSend, err error) {
	p.tries++
	c.svc.sendFailures.Add(1)
	c.log.ErrorContext(f.logContext(), "publishing failed, it will be repeated", "what", p.what, AttrName, f.delivery.Name(), "to", p.msg.Name, "tries", p.tries, "error", err)
	if c.svc.stopping.Load() {
		c.giveBack(f, p.cause)
		return
	}
	c.park(&parked{frame: f, pending: p}, ownBackoff.delay(p.tries, c.svc.random()))
}

// ownBackoff is the schedule of what the runtime repeats on its own account: publishes
// that must succeed, subscriptions that are lost.
var ownBackoff = Exponential(DefaultRetryInitial, DefaultRetryMax)

// isPermanent reports an error of a publish that repeating it will not mend.
func isPermanent(err error) bool {
	return errors.Is(err, broker.ErrInvalid) || errors.Is(err, broker.ErrTooLarge) || errors.Is(err, errors.ErrUnsupported)
}

// unanswerable gives up a failed request whose reply-to the broker refuses: the
// requester chose it, and nobody can be told. It goes to the declared dead letter;
// where none is declared it is rejected.
func (c *consumer) unanswerable(f *frame, p *pendingSend, err error) {
	c.svc.sendFailures.Add(1)
	c.log.ErrorContext(f.logContext(), "the answer to a failed request cannot be published", AttrName, f.delivery.Name(), "to", p.msg.Name, "error", err)
	if to := c.plan.policy.deadLetter; to != "" {
		c.sendThenAck(f, c.deadLetter(f, decision{action: actionDeadLetter, to: to, reason: ReasonError}, p.cause))
		return
	}
	c.log.ErrorContext(f.logContext(), "message is rejected", c.failureAttrs(f, p.cause)...)
	c.reject(f, p.cause)
}

// deadLetter prepares the copy of a delivery that is given up: payload, key and
// headers as they arrived, and why.
func (c *consumer) deadLetter(f *frame, d decision, err error) *pendingSend {
	m := f.delivery.msg
	headers := m.Headers().Without(deadHeaders[:]...).WithAll(
		broker.Header{Key: HeaderDeadReason, Value: d.reason},
		broker.Header{Key: HeaderDeadError, Value: errorText(err)},
		broker.Header{Key: HeaderDeadSource, Value: m.Name()},
		broker.Header{Key: HeaderDeadSubscription, Value: c.plan.info.name},
		broker.Header{Key: HeaderDeadAttempts, Value: strconv.Itoa(f.delivery.attempt)},
		broker.Header{Key: HeaderDeadTime, Value: time.Now().UTC().Format(time.RFC3339)},
	)
	return &pendingSend{
		what:    "message is dead-lettered",
		msg:     broker.OutgoingMessage{Name: d.to, Key: f.delivery.Key(), Payload: m.Payload(), Headers: headers},
		via:     c.plan.deadVia,
		outcome: OutcomeDeadLettered,
		cause:   err,
	}
}

// errorReply prepares the answer to a request whose handler failed.
func (c *consumer) errorReply(f *frame, err error) *pendingSend {
	in := f.delivery.msg.Headers()
	var fields fieldList
	fields.add(HeaderError, nonEmpty(errorText(err)))
	fields.carry(in, broker.Headers{})
	return &pendingSend{
		what:    "request failed, its error is the reply",
		msg:     broker.OutgoingMessage{Name: in.ReplyTo(), Headers: fields.onto(broker.Headers{})},
		via:     c.plan.replyVia,
		outcome: OutcomeErrorReplied,
		cause:   err,
		request: true,
	}
}

// answerFailure tells the requester of a request that is given up otherwise than
// by its reply. It is tried once: the requester's own time limit covers the rest.
func (c *consumer) answerFailure(f *frame, err error) {
	if !c.isRequest(f) {
		return
	}
	ctx, cancel := context.WithTimeout(undelivered{f.delivery.live(c.settleCtx)}, sendTimeout)
	defer cancel()
	p := c.errorReply(f, err)
	if e := p.via.publish(ctx, p.msg); e != nil {
		c.log.WarnContext(f.logContext(), "the requester could not be told of the failure", AttrName, f.delivery.Name(), "to", p.msg.Name, "error", e)
	}
}

// nonEmpty keeps an error without a text from looking like no error.
func nonEmpty(text string) string {
	if text == "" {
		return "error"
	}
	return text
}

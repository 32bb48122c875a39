package gostream

import (
	"context"
	"fmt"
	"time"

	"github.com/gostream/gostream/broker"
)

// batchRun is one call of a batch handler: the context of the call, and a frame for
// each message, in one allocation. Frames of messages that are parked keep it alive.
type batchRun struct {
	frame    frame // the context; it has no delivery of its own
	elements []frame
	// live are the elements that the handler sees, in the order of its slice: those
	// that could be decoded. The others are in bad.
	live   []*frame
	bad    []failedElement
	bodies any
	errs   []error // of live, by Each or by their reply; nil where none failed
}

// failedElement is a message of a batch that the handler does not see.
type failedElement struct {
	frame *frame
	err   error
}

// newBatch returns a run for n messages, to be filled by add.
func (c *consumer) newBatch(n int) *batchRun {
	run := &batchRun{elements: make([]frame, n)}
	run.frame.parent, run.frame.run = c.handlerCtx, run
	run.frame.delivery.consumer = c
	run.frame.batch.frame = &run.frame
	return run
}

// add puts a message at index i.
func (run *batchRun) add(i int, m broker.IncomingMessage, attempt int) {
	c := run.frame.delivery.consumer
	run.elements[i].init(c.handlerCtx, c, m, attempt)
	run.elements[i].element = true
}

// doBatch handles a batch that was just received.
func (c *consumer) doBatch(run *batchRun, s *slot) {
	giveBack := c.svc.stopping.Load() && c.plan.properties.Redelivers
	var kept []*frame // made where some are settled on arrival
	for i := range run.elements {
		f := &run.elements[i]
		f.received, f.began = s.start(), s.start()
		c.obs.onReceived(&f.delivery)
		exceeded := c.plan.most > 0 && f.delivery.attempt > c.plan.most
		if (giveBack || exceeded) && kept == nil {
			kept = make([]*frame, 0, len(run.elements))
			for k := range i {
				kept = append(kept, &run.elements[k])
			}
		}
		switch {
		case giveBack:
			c.giveBack(f, nil)
		case exceeded:
			c.carryOut(f, c.plan.policy.decide(failure{kind: failedProcess}), ErrDeliveriesExceeded)
		case kept != nil:
			kept = append(kept, f)
		}
	}
	switch {
	case kept == nil:
		c.attemptBatch(run)
	case len(kept) > 0:
		c.attemptBatch(c.anew(kept, 0))
	}
}

// anew makes a batch of messages that were in one before; more is added to their
// number of attempts.
func (c *consumer) anew(frames []*frame, more int) *batchRun {
	run := c.newBatch(len(frames))
	for i, f := range frames {
		run.add(i, f.delivery.msg, f.delivery.attempt+more)
		run.elements[i].received, run.elements[i].began = f.received, c.svc.since()
	}
	return run
}

// batchAgain handles parked messages of a batch again, together.
func (c *consumer) batchAgain(p *parked, s *slot) {
	frames, more := p.batch, 1
	if p.alone {
		more = 0
	}
	if c.svc.stopping.Load() && c.plan.properties.Redelivers {
		for _, f := range frames {
			c.giveBack(f, nil)
		}
		return
	}
	var fresh []*frame
	for _, f := range frames {
		if broker.Stale(f.delivery.msg) {
			c.log.WarnContext(f.logContext(), "parked message is stale, it is let go", AttrName, f.delivery.Name())
			c.finish(f, OutcomeUnsettled, broker.ErrStale)
			continue
		}
		fresh = append(fresh, f)
	}
	if len(fresh) == 0 {
		return
	}
	run := c.anew(fresh, more)
	if c.leases.needed(fresh[0].delivery.msg) {
		s.frame.Store(&run.frame)
	}
	c.attemptBatch(run)
}

// attemptBatch handles a batch and settles its messages, also where the handler
// panics or ends the goroutine.
func (c *consumer) attemptBatch(run *batchRun) {
	returned := false
	defer func() {
		if !returned {
			c.concludeBatch(run, abruptEnd(recover()))
		}
	}()
	err := c.chain(&run.frame, &run.frame.batch)
	returned = true
	c.concludeBatch(run, err)
}

// batchCore is core for a batch: decode, call, publish the replies.
func (c *consumer) batchCore(ctx context.Context, run *batchRun) error {
	run.live, run.bad, run.errs = nil, nil, nil
	err := c.callBatch(ctx, run)
	if each, ok := asEach(err); ok {
		if len(each.errs) != len(run.live) {
			return fmt.Errorf("Each has %d entries for %d messages: %w", len(each.errs), len(run.live), err)
		}
		run.errs = append([]error(nil), each.errs...)
		err = nil
	}
	if err != nil || c.plan.handler.send == nil {
		return err
	}
	return c.publishReplies(ctx, run)
}

// callBatch decodes the payloads and calls the function where any could be decoded.
// A panic becomes an error here, so that middleware sees it.
func (c *consumer) callBatch(ctx context.Context, run *batchRun) (err error) {
	returned := false
	defer catchPanic(&returned, &err)
	h, p := c.plan.handler, c.plan
	run.bodies = h.batch.newBodies(len(run.elements))
	run.live = make([]*frame, 0, len(run.elements))
	for i := range run.elements {
		c.decodeElement(run, &run.elements[i])
	}
	if len(run.live) > 0 {
		if p.timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeoutCause(ctx, p.timeout, ErrHandlerTimeout)
			defer cancel()
		}
		err = h.batch.call(ctx, run.bodies, len(run.live))
	}
	returned = true
	return err
}

// decodeElement puts the payload of f into the next place of the handler's slice, or
// f among the bad ones.
func (c *consumer) decodeElement(run *batchRun, f *frame) {
	returned := false
	var err error
	defer func() {
		if !returned {
			err = abruptEnd(recover())
		}
		f.reached = true
		if err == nil {
			run.live = append(run.live, f)
			return
		}
		run.bad = append(run.bad, failedElement{f, err})
	}()
	h := c.plan.handler
	err = decodeTo(h.in.mode, &c.plan.codecs, f.delivery.msg, h.batch.target(run.bodies, len(run.live), &f.delivery))
	f.undecodable = err != nil
	returned = true
}

// fail records that the i-th message of the handler's slice failed, unless it had
// failed before.
func (run *batchRun) fail(i int, err error) {
	if run.errs == nil {
		run.errs = make([]error, len(run.live))
	}
	if run.errs[i] == nil {
		run.errs[i] = err
	}
}

// errOf is why the i-th message of the slice failed; nil where it did not.
func (run *batchRun) errOf(i int) error {
	if run.errs == nil {
		return nil
	}
	return run.errs[i]
}

// publishReplies publishes the replies of the messages that did not fail. A reply
// that fails fails its message.
func (c *consumer) publishReplies(ctx context.Context, run *batchRun) error {
	msgs := make([]broker.OutgoingMessage, 0, len(run.live))
	from := make([]int, 0, len(run.live)) // the index in live, by that in msgs
	for i, f := range run.live {
		if run.errOf(i) != nil {
			continue
		}
		msg, err := c.replyTo(f, c.plan.handler.batch.result(run.bodies, i))
		if err != nil {
			run.fail(i, err)
			continue
		}
		msgs, from = append(msgs, msg), append(from, i)
	}
	if c.plan.handler.send.transactional {
		return c.commitReplies(ctx, run, msgs, from)
	}
	err := c.plan.replyVia.publishBatch(ctx, msgs)
	if err == nil {
		return nil
	}
	for k, err := range broker.BatchErrors(err, len(msgs)) {
		if err != nil {
			run.fail(from[k], &ReplyError{Name: msgs[k].Name, Err: err})
		}
	}
	return nil
}

// concludeBatch settles the messages of a batch. err is the middleware's: nil
// leaves every message to its own error, any other fails all that could be decoded.
func (c *consumer) concludeBatch(run *batchRun, err error) {
	b := batchConclusion{consumer: c, random: c.svc.random()}
	if err != nil {
		// Where a middleware or the codec failed, some were not reached.
		for i := range run.elements {
			if f := &run.elements[i]; !f.reached {
				run.live = append(run.live, f)
			}
		}
	} else if run.bodies == nil {
		// A middleware did not call next, and is content.
		for i := range run.elements {
			run.live = append(run.live, &run.elements[i])
		}
	}
	for _, e := range run.bad {
		b.fail(e.frame, e.err, false)
	}
	whole := err != nil && len(run.live) > 1
	for i, f := range run.live {
		e := err
		if e == nil {
			e = run.errOf(i)
		}
		switch {
		case f.acked && e != nil:
			c.log.ErrorContext(f.logContext(), "the batch failed after its transaction was committed", c.failureAttrs(f, tame(e))...)
			c.acknowledge(f, OutcomeAcked, nil)
		case e == nil:
			c.acknowledge(f, OutcomeAcked, nil)
		default:
			b.fail(f, e, whole)
		}
	}
	c.svc.hooks.settled(&run.frame.delivery, run.outcome())
	b.park()
	c.handOverAlone(b.suspects)
}

// handOverAlone has each of the messages handled by itself, at once, as another part
// of the attempt in which their batch failed. Where a drain has begun there is no time
// for that: they are given back, or given up where nothing redelivers.
func (c *consumer) handOverAlone(suspects []suspect) {
	if len(suspects) == 0 {
		return
	}
	c.mu.Lock()
	stopping := c.stopping
	c.mu.Unlock()
	for _, s := range suspects {
		switch {
		case !stopping:
			c.attemptEnded(s.frame, OutcomeRetried, s.err, 0)
		case c.plan.properties.Redelivers:
			c.giveBack(s.frame, s.err)
		default:
			c.carryOut(s.frame, s.d, s.err)
		}
	}
	if stopping {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range suspects {
		c.due = append(c.due, &parked{batch: []*frame{s.frame}, alone: true})
	}
	c.interrupt()
}

// batchConclusion collects what is to be done with the failed messages of a batch.
type batchConclusion struct {
	consumer *consumer
	random   float64      // one for the batch, so that equal failures wait equally long
	groups   []retryGroup // to be handled again
	suspects []suspect    // to be handed over alone before they are given up
}

// suspect is a message that the error of its whole batch would give up.
type suspect struct {
	frame *frame
	d     decision
	err   error
}

type retryGroup struct {
	delay  time.Duration
	frames []*frame
}

// fail decides about one failed message. whole says that the error is that of a
// batch of several.
func (b *batchConclusion) fail(f *frame, err error, whole bool) {
	c := b.consumer
	err = tame(err)
	if broker.Stale(f.delivery.msg) {
		c.log.WarnContext(f.logContext(), "message failed and is stale, it is let go", c.failureAttrs(f, err)...)
		c.finish(f, OutcomeUnsettled, err)
		return
	}
	d := c.decide(f, err, false, b.random)
	switch {
	case d.action == actionRetry:
		f.reason = reasonOf(d.reason)
		c.logRetry(f, d, err)
		c.attemptEnded(f, OutcomeRetried, err, 0)
		b.retry(f, d.delay)
	case whole && givesUp(d.action):
		f.reason = reasonOf(d.reason)
		b.suspects = append(b.suspects, suspect{f, d, err})
	default:
		c.carryOut(f, d, err)
	}
}

// givesUp reports an action after which the message is handled no more.
func givesUp(a action) bool {
	return a == actionReject || a == actionIgnore || a == actionDeadLetter
}

func (b *batchConclusion) retry(f *frame, delay time.Duration) {
	for i := range b.groups {
		if b.groups[i].delay == delay {
			b.groups[i].frames = append(b.groups[i].frames, f)
			return
		}
	}
	b.groups = append(b.groups, retryGroup{delay, []*frame{f}})
}

// park holds the messages that are to be handled again, those with the same delay
// together.
func (b *batchConclusion) park() {
	for _, g := range b.groups {
		b.consumer.park(&parked{batch: g.frames}, g.delay)
	}
}

// outcome is that of the hooks of the whole batch: acked where every message was,
// else that of the first which was not.
func (run *batchRun) outcome() Outcome {
	for i := range run.elements {
		switch o := Outcome(run.elements[i].outcome.Load()); o {
		case OutcomeAcked:
		case 0:
			return OutcomeUnsettled // its dead letter could not be published yet
		default:
			return o
		}
	}
	return OutcomeAcked
}

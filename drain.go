package gostream

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gostream/gostream/broker"
)

// Shutdown drains the service and returns when it has ended: nil after a clean
// drain, else a [*DrainError], joined with the error that made the service shut
// itself down. Later and concurrent calls wait for the same drain.
//
// ctx is how long the caller is patient. One that has already ended, such as that
// of a signal which asked for the shutdown, leaves the handlers no time: give it
// context.WithoutCancel of that one, or a timeout of its own. It must not be called
// from a handler or a hook, which the drain waits for: return [FailFast] there.
//
// The order: readiness turns false; OnShutdown hooks; all subscriptions stop their
// intake together, what was received but not begun is given back, parked retries
// are given back; handlers finish, and a failed message is given back instead of
// being retried; where the transport does not redeliver, what had been received
// is handled. After [ShutdownTimeout], or when ctx ends, the contexts of handlers
// that still run are cancelled with the cause [ErrShutdownTimeout], and 3 s are
// left for the rest: hooks of settled messages finish, subscriptions close,
// brokers flush and close, AfterShutdown hooks. Handlers that ignore their context
// are abandoned and counted.
func (s *Service) Shutdown(ctx context.Context) error {
	s.beginDrain()
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
	}
	s.endLimit(ErrShutdownTimeout)
	<-s.done
	return s.err
}

// drainCounts are the counts of a DrainReport while it is made.
type drainCounts struct{ finished, givenBack, lost atomic.Int64 }

func (d *drainCounts) count(o Outcome, redelivers bool) {
	switch {
	case o != OutcomeGivenBack && o != OutcomeUnsettled && o != OutcomeRetried:
		d.finished.Add(1)
	case redelivers:
		d.givenBack.Add(1)
	default:
		d.lost.Add(1)
	}
}

// drain ends the service. It runs once, in a goroutine of its own.
func (s *Service) drain() {
	began := time.Now()
	s.log.Info("draining", "timeout", s.app.settings.shutdownTimeout)
	limit, stopLimit := context.WithTimeoutCause(s.limit, s.app.settings.shutdownTimeout, ErrShutdownTimeout)
	defer stopLimit()
	var errs []error
	for _, f := range s.app.onShutdown {
		if err := callHook(limit, f); err != nil {
			errs = append(errs, errorf("OnShutdown hook: %w", err))
		}
	}
	s.stopIntake(limit)
	inTime := s.awaitHandlers(limit)
	grace, stopGrace := context.WithTimeout(s.settleCtx, shutdownGrace)
	defer stopGrace()
	abandoned := 0
	if !inTime {
		abandoned = s.cancelAndAwait()
	}
	errs = append(errs, s.close(grace)...)
	s.finishDrain(began, abandoned, errs)
}

// stopIntake tells all subscriptions to stop receiving.
func (s *Service) stopIntake(ctx context.Context) {
	s.stopping.Store(true)
	for _, c := range s.consumers {
		c.stop(ctx)
	}
}

// awaitHandlers waits for the workers to end, within the time that they have.
func (s *Service) awaitHandlers(limit context.Context) (inTime bool) {
	select {
	case <-s.workers.wait():
		return true
	case <-limit.Done():
	}
	return false
}

// cancelAndAwait cancels the handlers' contexts and returns how many do not end
// within half of the grace; the other half is for what comes after.
func (s *Service) cancelAndAwait() (abandoned int) {
	s.log.Warn("handlers are cancelled: the shutdown timeout has passed")
	s.cancelHandlers(ErrShutdownTimeout)
	half := time.NewTimer(shutdownGrace / 2)
	defer half.Stop()
	select {
	case <-s.workers.wait():
		return 0
	case <-half.C:
	}
	for _, c := range s.consumers {
		abandoned += c.abandon()
	}
	return abandoned
}

// close lets hooks finish, closes subscriptions and brokers, and runs the last
// hooks, all within the grace.
func (s *Service) close(ctx context.Context) (errs []error) {
	select {
	case <-s.hooks.workers.wait():
	case <-ctx.Done():
		errs = append(errs, errors.New("gostream: hooks of settled messages did not return in time"))
	}
	for _, c := range s.consumers {
		if err := c.close(ctx); err != nil {
			errs = append(errs, errorf("close subscription %s: %w", broker.Quote(c.plan.info.name), err))
		}
	}
	errs = append(errs, s.shutdownBrokers(ctx)...)
	for _, f := range s.app.afterShutdown {
		if err := callHook(ctx, f); err != nil {
			errs = append(errs, errorf("AfterShutdown hook: %w", err))
		}
	}
	return errs
}

// shutdownBrokers shuts the connected brokers down together, so that one that
// hangs does not take the time of the others.
func (s *Service) shutdownBrokers(ctx context.Context) []error {
	errs := make([]error, len(s.connected))
	var wg sync.WaitGroup
	for i, b := range s.connected {
		wg.Go(func() {
			if err := b.Shutdown(ctx); err != nil {
				errs[i] = errorf("shut down %s: %w", kindOf(b), err)
			}
		})
	}
	wg.Wait()
	return errs
}

// finishDrain makes the report and ends the service.
func (s *Service) finishDrain(began time.Time, abandoned int, all []error) {
	s.cancelHandlers(ErrShutdownTimeout)
	s.endLimit(nil)
	s.cancelSettle()
	var errs []error
	for _, err := range all {
		if err != nil {
			errs = append(errs, err)
		}
	}
	s.report = DrainReport{
		Finished:  int(s.drained.finished.Load()),
		GivenBack: int(s.drained.givenBack.Load()),
		Abandoned: abandoned,
		Lost:      int(s.drained.lost.Load()),
		Took:      time.Since(began),
	}
	var failure error
	if s.report.Abandoned > 0 || s.report.Lost > 0 || len(errs) > 0 {
		failure = &DrainError{DrainReport: s.report, Errs: errs}
	}
	s.failMu.Lock()
	s.err = errors.Join(s.failErr, failure)
	if s.failErr == nil {
		s.err = failure
	}
	s.failMu.Unlock()
	level := s.log.Info
	if s.err != nil {
		level = s.log.Error
	}
	level("stopped", "finished", s.report.Finished, "given_back", s.report.GivenBack, "abandoned", s.report.Abandoned, "lost", s.report.Lost, "took", s.report.Took)
	s.obs.onDrained(s.report)
	close(s.done)
}

// undo ends a start that failed: what runs is drained, what is open is closed.
func (s *Service) undo() {
	s.beginDrain()
	<-s.done
}

// Report returns what the drain did; ok is false while the service runs.
func (s *Service) Report() (r DrainReport, ok bool) {
	select {
	case <-s.done:
		return s.report, true
	default:
		return DrainReport{}, false
	}
}

// stop ends the intake. Parked deliveries are given back, those of a failed dead
// letter too; where the transport does not redeliver, their time has come now.
func (c *consumer) stop(ctx context.Context) {
	c.mu.Lock()
	c.stopping = true
	c.setState(StateDraining)
	c.seePause()
	parked := c.takeParked()
	var closing broker.Subscription
	if !c.plan.properties.Redelivers {
		for _, p := range parked {
			c.nowDue(p)
		}
		parked = nil
		if !c.closing && !c.down {
			c.closing = true
			closing = c.sub
		}
	}
	c.interrupt()
	c.unlock()
	if closing != nil {
		if err := closing.Close(ctx); err != nil {
			c.log.Warn("closing the subscription failed", "error", err)
		}
	}
	for _, p := range parked {
		c.unpark(p)
	}
	if c.lanes != nil && c.plan.properties.Redelivers {
		c.clearLanes()
	}
}

// clearLanes leaves unsettled what waits behind the parked retries of its keys, as
// those are.
func (c *consumer) clearLanes() {
	for i := range c.lanes.all {
		for range c.lanes.all[i].clear() {
			c.svc.drained.givenBack.Add(1)
			c.release()
		}
	}
}

// unpark gives a parked delivery back, with what remains of its delay where the
// broker can keep it.
func (c *consumer) unpark(p *parked) {
	for _, f := range p.frames() {
		c.unparkOne(p, f)
	}
}

func (c *consumer) unparkOne(p *parked, f *frame) {
	if f.lane != nil {
		c.giveBack(f, nil)
		return
	}
	if rest := time.Until(p.due); rest > 0 && p.pending == nil && !p.held {
		if err := broker.NackAfter(c.settleCtx, f.delivery.msg, rest); err == nil {
			c.finish(f, OutcomeGivenBack, nil)
			return
		}
	}
	c.giveBack(f, nil)
}

// abandon counts the workers that still have something in hand.
func (c *consumer) abandon() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, s := range c.slots {
		if s.began.Load() != 0 {
			n++
		}
	}
	if n > 0 {
		c.log.Error("handlers ignored their cancelled context and are abandoned", "handlers", n)
	}
	return n
}

// close closes the subscription.
func (c *consumer) close(ctx context.Context) error {
	c.mu.Lock()
	sub := c.sub
	c.setState(StateStopped)
	if c.leases.timer != nil {
		c.leases.timer.Stop()
	}
	c.unlock()
	if sub == nil {
		return nil
	}
	err := sub.Close(ctx)
	if errors.Is(err, broker.ErrClosed) {
		return nil
	}
	return err
}

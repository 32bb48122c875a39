package gostream

import (
	"context"
	"fmt"
	"time"

	"github.com/gostream/gostream/broker"
)

// Pause stops the intake of a subscription and returns when it has stopped; a
// message that had already been received is handled. Retries wait for Resume.
// Where the transport does not redeliver, the subscription is closed, with a log
// line: what is published meanwhile does not reach it. Pausing a paused
// subscription changes nothing.
//
// ctx bounds the call; the pause holds all the same. An unknown name is
// [ErrUnknownSubscription]; during a drain the answer is [broker.ErrClosed].
func (s *Service) Pause(ctx context.Context, name string) error {
	c, err := s.consumerFor(name)
	if err != nil {
		return err
	}
	return c.pause(ctx)
}

// Resume lets a paused subscription work again. Resuming one that is not paused
// changes nothing. The errors are those of Pause.
func (s *Service) Resume(_ context.Context, name string) error {
	c, err := s.consumerFor(name)
	if err != nil {
		return err
	}
	return c.resume()
}

func (s *Service) consumerFor(name string) (*consumer, error) {
	c, ok := s.byName[name]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrUnknownSubscription, broker.Quote(name))
	}
	return c, nil
}

func (c *consumer) pause(ctx context.Context) error {
	c.mu.Lock()
	if c.stopping {
		c.mu.Unlock()
		return fmt.Errorf("gostream: pause %s: %w", broker.Quote(c.plan.info.name), broker.ErrClosed)
	}
	first := !c.paused
	if first {
		c.paused = true
		c.setState(StatePaused)
	}
	seen := make(chan struct{})
	c.pauseSeen = append(c.pauseSeen, seen)
	var closing broker.Subscription
	if !c.plan.properties.Redelivers && !c.closing && !c.down {
		c.closing = true
		closing = c.sub
		c.attention.Store(true)
		c.poke()
	} else {
		c.interrupt()
	}
	// Whoever begins to receive after this sees the attention flag first.
	receiving := c.slots[0].began.Load() == 0
	if c.right != nil {
		receiving = c.right.isHeld()
	}
	c.unlock()
	switch {
	case closing != nil:
		c.log.Warn("subscription is paused by closing it: the transport does not redeliver, what is published meanwhile is missed")
	case first:
		c.log.Info("subscription is paused")
	}
	if closing != nil {
		if err := closing.Close(ctx); err != nil {
			return err
		}
	}
	if !receiving {
		return nil
	}
	select {
	case <-seen:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sawPause tells those who wait in pause that nothing is received any more.
func (c *consumer) sawPause() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paused {
		c.seePause()
	}
}

// seePause is sawPause with mu held.
func (c *consumer) seePause() {
	for _, seen := range c.pauseSeen {
		close(seen)
	}
	c.pauseSeen = nil
}

func (c *consumer) resume() error {
	c.mu.Lock()
	resumed := false
	defer func() {
		c.unlock()
		if resumed {
			c.log.Info("subscription is resumed")
		}
	}()
	if c.stopping {
		return fmt.Errorf("gostream: resume %s: %w", broker.Quote(c.plan.info.name), broker.ErrClosed)
	}
	if !c.paused {
		return nil
	}
	c.paused, resumed = false, true
	if c.down || c.closing {
		c.setState(StateDown) // until it is open again
	} else {
		c.setState(StateRunning)
	}
	c.interrupt()
	if len(c.parking) > 0 {
		c.setTimer(time.Until(c.parking[0].due))
	}
	return nil
}

package gostream

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gostream/gostream/broker"
)

// Health is how a service is.
type Health struct {
	// Ready: started, not draining, and no subscription is down.
	Ready bool
	// Draining: the shutdown has begun.
	Draining bool
	// Subscriptions, in the order of Description.Subscriptions.
	Subscriptions []SubscriptionHealth
	// Brokers, in the order in which they were mounted.
	Brokers []BrokerHealth
	// SettleFailures counts settlements that a broker did not accept, SendFailures
	// dead letters and error replies that could not be published at a try.
	SettleFailures, SendFailures int64
}

// SubscriptionHealth is how one subscription is.
type SubscriptionHealth struct {
	Subscription *Subscription
	State        State
	// InFlight is the number of unsettled deliveries, the parked ones included.
	InFlight int
	// Parked is how many of them wait for a retry here.
	Parked int
	// Oldest is for how long the oldest delivery has been in hand; 0 where there
	// is none.
	Oldest time.Duration
	// Stalled are the keys of a ByKey subscription whose messages wait for a retry,
	// the one that has waited longest first, at most 100.
	Stalled []StalledKey
	// Lag is how many messages wait at the broker; -1 where that is not known.
	Lag int64
}

// BrokerHealth is how one broker is.
type BrokerHealth struct {
	// Kind is the kind of broker, such as "memory".
	Kind string
	// Known is false where the broker cannot tell.
	Known bool
	// Err is what is wrong; nil for nothing.
	Err error
}

// Health asks the subscriptions and the brokers how they are, on the connections
// that exist, up to 16 at a time. ctx bounds the asking; what has not answered by then is
// unknown, or its error is that of ctx, as far as the brokers keep to it.
func (s *Service) Health(ctx context.Context) Health {
	h := Health{Draining: s.draining.Load()}
	h.SettleFailures, h.SendFailures = s.settleFailures.Load(), s.sendFailures.Load()
	h.Ready = s.live.Load() && !h.Draining
	h.Subscriptions = make([]SubscriptionHealth, len(s.consumers))
	h.Brokers = make([]BrokerHealth, len(s.app.mounts))
	var questions []func()
	for i, m := range s.app.mounts {
		one := &h.Brokers[i]
		one.Kind = kindOf(m.broker)
		if s.double != nil {
			continue
		}
		questions = append(questions, func() {
			err := broker.Health(ctx, m.broker)
			if one.Known = !errors.Is(err, errors.ErrUnsupported); one.Known {
				one.Err = err
			}
		})
	}
	for i, c := range s.consumers {
		one, sub := c.health()
		if one.State != StateRunning && one.State != StatePaused {
			h.Ready = false
		}
		h.Subscriptions[i] = one
		if sub == nil {
			continue
		}
		to := &h.Subscriptions[i].Lag
		questions = append(questions, func() {
			if lag, err := broker.Lag(ctx, sub); err == nil {
				*to = lag
			}
		})
	}
	askAll(questions)
	return h
}

// askAll calls the functions, up to 16 at a time, and returns when all have returned.
func askAll(questions []func()) {
	var next atomic.Int64
	work := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(questions) {
				return
			}
			questions[i]()
		}
	}
	var others sync.WaitGroup
	for range min(len(questions), 16) - 1 {
		others.Go(work)
	}
	work()
	others.Wait()
}

// health is what is known without asking, and the subscription to ask, nil for none.
func (c *consumer) health() (SubscriptionHealth, broker.Subscription) {
	now := c.svc.since()
	c.mu.Lock()
	h := SubscriptionHealth{
		Subscription: &c.plan.info,
		State:        c.state,
		InFlight:     int(c.inFlight.Load()),
		Lag:          -1,
	}
	for _, s := range c.slots {
		if began := s.began.Load(); began != 0 {
			h.Oldest = max(h.Oldest, now-s.start())
		}
	}
	for _, list := range [][]*parked{c.parking, c.due} {
		for _, p := range list {
			for _, f := range p.frames() {
				h.Parked++
				h.Oldest = max(h.Oldest, now-f.received)
			}
		}
	}
	sub := c.sub
	c.mu.Unlock()
	if c.lanes != nil {
		h.Stalled = c.lanes.stalled(now)
	}
	return h, sub
}

package gostream

import (
	"context"
	"errors"
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
// that exist. ctx bounds the asking.
func (s *Service) Health(ctx context.Context) Health {
	h := Health{Draining: s.draining.Load()}
	h.SettleFailures, h.SendFailures = s.settleFailures.Load(), s.sendFailures.Load()
	h.Ready = s.live.Load() && !h.Draining
	for _, c := range s.consumers {
		one := c.health(ctx)
		if one.State != StateRunning && one.State != StatePaused {
			h.Ready = false
		}
		h.Subscriptions = append(h.Subscriptions, one)
	}
	for _, m := range s.app.mounts {
		err := errors.ErrUnsupported
		if s.double == nil {
			err = broker.Health(ctx, m.broker)
		}
		b := BrokerHealth{Kind: kindOf(m.broker), Known: !errors.Is(err, errors.ErrUnsupported)}
		if b.Known {
			b.Err = err
		}
		h.Brokers = append(h.Brokers, b)
	}
	return h
}

func (c *consumer) health(ctx context.Context) SubscriptionHealth {
	now := c.svc.since()
	c.mu.Lock()
	h := SubscriptionHealth{
		Subscription: &c.plan.info,
		State:        c.state,
		InFlight:     int(c.inFlight.Load()),
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
	h.Lag = -1
	if sub != nil {
		if lag, err := broker.Lag(ctx, sub); err == nil {
			h.Lag = lag
		}
	}
	return h
}

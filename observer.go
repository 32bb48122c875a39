package gostream

import (
	"log/slog"
	"runtime/debug"
	"time"
)

// Observer is optional functions that are called inline on the delivery path, from
// several goroutines at once: what metrics need beyond middleware. They must be
// quick, must not block, and must not end their goroutine. A nil function costs nothing; a panic in one is logged.
type Observer struct {
	// Started is called once, when every subscription is live and before the AfterStartup
	// hooks: s is what Start will return. Its Health may be asked from then on, for gauges.
	Started func(s *Service)
	// Received is called for each delivery, before its first attempt.
	Received func(d *Delivery)
	// Parked is called when a delivery is held for a later attempt.
	Parked func(d *Delivery, until time.Time)
	// Settled is called when an attempt has ended.
	Settled func(e SettledEvent)
	// StateChanged is called when a subscription's state changes.
	StateChanged func(s *Subscription, to State)
	// Drained is called once, at the end of the shutdown.
	Drained func(r DrainReport)
}

// SettledEvent is an attempt that has ended.
type SettledEvent struct {
	// Delivery is the message.
	Delivery *Delivery
	// Outcome is how the attempt ended.
	Outcome Outcome
	// Err is what failed, the settlement where nothing did before it; nil for a
	// success.
	Err error
	// Reason says in a word why a failed message ended so, one of the Reason constants;
	// "" where the policy was not asked.
	Reason string
	// Took is the time from the start of the attempt to its settlement.
	Took time.Duration
	// Settling is how much of Took the broker needed for the settlement alone; 0 where
	// there was none, as for what is parked, and on a transport without acknowledgements.
	Settling time.Duration
}

// observers is all observers of an app. The functions that nobody gave are absent.
type observers struct {
	started      []func(*Service)
	received     []func(*Delivery)
	parked       []func(*Delivery, time.Time)
	settled      []func(SettledEvent)
	stateChanged []func(*Subscription, State)
	drained      []func(DrainReport)
	log          *slog.Logger
}

func newObservers(all []Observer, log *slog.Logger) *observers {
	o := &observers{log: log}
	for _, one := range all {
		if one.Started != nil {
			o.started = append(o.started, one.Started)
		}
		if one.Received != nil {
			o.received = append(o.received, one.Received)
		}
		if one.Parked != nil {
			o.parked = append(o.parked, one.Parked)
		}
		if one.Settled != nil {
			o.settled = append(o.settled, one.Settled)
		}
		if one.StateChanged != nil {
			o.stateChanged = append(o.stateChanged, one.StateChanged)
		}
		if one.Drained != nil {
			o.drained = append(o.drained, one.Drained)
		}
	}
	return o
}

// each calls every function; a panic in one is logged, and the next is called.
func each[F any](o *observers, fs []F, call func(F)) {
	for _, f := range fs {
		guarded(o, f, call)
	}
}

func guarded[F any](o *observers, f F, call func(F)) {
	defer func() {
		if r := recover(); r != nil {
			o.log.Error("observer panicked", "panic", r, "stack", string(debug.Stack()))
		}
	}()
	call(f)
}

func (o *observers) onStarted(s *Service) {
	if o.started != nil {
		each(o, o.started, func(f func(*Service)) { f(s) })
	}
}

func (o *observers) onReceived(d *Delivery) {
	if o.received != nil {
		each(o, o.received, func(f func(*Delivery)) { f(d) })
	}
}

func (o *observers) onParked(d *Delivery, until time.Time) {
	if o.parked != nil {
		each(o, o.parked, func(f func(*Delivery, time.Time)) { f(d, until) })
	}
}

func (o *observers) onSettled(e SettledEvent) {
	if o.settled != nil {
		each(o, o.settled, func(f func(SettledEvent)) { f(e) })
	}
}

func (o *observers) onStateChanged(s *Subscription, to State) {
	if o.stateChanged != nil {
		each(o, o.stateChanged, func(f func(*Subscription, State)) { f(s, to) })
	}
}

func (o *observers) onDrained(r DrainReport) {
	if o.drained != nil {
		each(o, o.drained, func(f func(DrainReport)) { f(r) })
	}
}

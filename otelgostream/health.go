package otelgostream

import (
	"context"
	"errors"

	"github.com/gostream/gostream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// states are those that the metric of a subscription's state tells apart: one of them is
// 1, the others are 0.
var states = [...]gostream.State{
	gostream.StateStarting, gostream.StateRunning, gostream.StatePaused,
	gostream.StateDown, gostream.StateDraining, gostream.StateStopped,
}

// watch has the gauges ask the service how it is, once for each collection. They go on
// after it has ended, so that its end is seen.
func (t *telemetry) watch(s *gostream.Service) {
	m := t.metrics.meter
	var errs []error
	var all []metric.Observable
	gauge := func(name, unit, text string) metric.Int64ObservableGauge {
		g, err := m.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(text))
		errs, all = append(errs, err), append(all, g)
		return g
	}
	counter := func(name, unit, text string) metric.Int64ObservableCounter {
		c, err := m.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(text))
		errs, all = append(errs, err), append(all, c)
		return c
	}
	inFlight := gauge(metricInFlight, "{message}", "Messages that are unsettled, the parked ones included.")
	parked := gauge(metricParked, "{message}", "Messages that wait in the process for a retry.")
	lag := gauge(metricLag, "{message}", "Messages that wait at the broker, where it can tell.")
	state := gauge(metricState, "{state}", "1 for the state that the subscription is in, 0 for the others.")
	ready := gauge(metricReady, "{service}", "1 where the service has started, does not drain, and no subscription is down.")
	healthy := gauge(metricBrokerHealthy, "{broker}", "1 where the broker says that it is well, 0 where it says that it is not.")
	settleFailures := counter(metricSettleFailures, "{failure}", "Settlements that a broker did not accept.")
	sendFailures := counter(metricSendFailures, "{failure}", "Tries to publish a dead letter or an error reply that failed.")
	oldest, err := m.Float64ObservableGauge(metricOldest, metric.WithUnit("s"),
		metric.WithDescription("For how long the oldest message has been in hand; 0 where there is none."))
	errs, all = append(errs, err), append(all, oldest)
	if errors.Join(errs...) != nil {
		return // newInstruments has made others of the same kinds: there is nothing to fail
	}

	app := metric.WithAttributeSet(attribute.NewSet(keyApp.String(t.app.Name())))
	_, _ = m.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		ctx, cancel := context.WithTimeout(ctx, t.health)
		defer cancel()
		h := s.Health(ctx)
		o.ObserveInt64(ready, number(h.Ready), app)
		o.ObserveInt64(settleFailures, h.SettleFailures, app)
		o.ObserveInt64(sendFailures, h.SendFailures, app)
		for _, one := range h.Subscriptions {
			sub := t.of(one.Subscription)
			if sub == nil {
				continue
			}
			labels := sub.observed
			o.ObserveInt64(inFlight, int64(one.InFlight), labels)
			o.ObserveInt64(parked, int64(one.Parked), labels)
			o.ObserveFloat64(oldest, one.Oldest.Seconds(), labels)
			if one.Lag >= 0 {
				o.ObserveInt64(lag, one.Lag, labels)
			}
			for i, is := range states {
				o.ObserveInt64(state, number(one.State == is), sub.states[i])
			}
		}
		for labels, well := range t.wellness(h.Brokers) {
			o.ObserveInt64(healthy, number(well), metric.WithAttributeSet(labels))
		}
		return nil
	}, all...)
}

// wellness tells of the brokers that can tell how they are. Of several that no label tells
// apart all must be well.
func (t *telemetry) wellness(all []gostream.BrokerHealth) map[attribute.Set]bool {
	is := make(map[attribute.Set]bool, len(all))
	for i, b := range all {
		if !b.Known {
			continue
		}
		well, seen := is[t.brokers[i].observed]
		is[t.brokers[i].observed] = b.Err == nil && (well || !seen)
	}
	return is
}

func number(is bool) int64 {
	if is {
		return 1
	}
	return 0
}

// observe prepares the labels of the gauges.
func (s *subscription) observe(app string) {
	base := append(s.base[:len(s.base):len(s.base)], keyApp.String(app))
	s.observed = metric.WithAttributeSet(attribute.NewSet(base...))
	for i, state := range states {
		s.states[i] = metric.WithAttributeSet(attribute.NewSet(append(base[:len(base):len(base)], keyState.String(state.String()))...))
	}
}

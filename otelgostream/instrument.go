package otelgostream

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/gostream/gostream"
	"go.opentelemetry.io/otel/trace"
)

// Instrument adds traces and metrics to app. Call it once, before the app starts and
// before the app's other middleware is added. What is wrong with a meter is found by the
// app's start, which fails.
func Instrument(app *gostream.App, opts ...Option) {
	t := &telemetry{app: app, config: newConfig(opts)}
	if t.tracers != nil {
		t.tracer = t.tracers.Tracer(ScopeName, trace.WithSchemaURL(schemaURL))
	}
	var err error
	if t.meters != nil {
		t.metrics, err = newInstruments(t.meters)
	}
	if t.tracer == nil && t.metrics == nil && !t.sentTime {
		return
	}
	app.OnStartup(func(ctx context.Context) error {
		// The handlers' contexts descend from this one: a span in it is that of the start,
		// and no parent of theirs.
		t.startup = trace.SpanContextFromContext(ctx)
		if err != nil {
			return fmt.Errorf("otelgostream: %w", err)
		}
		return nil
	})
	if t.tracer != nil || t.metrics != nil {
		app.Use(t.middleware)
		app.Observe(t.observer())
	}
	app.UsePublishOn(t.publishMiddleware)
}

// telemetry is what belongs to one app.
type telemetry struct {
	config
	app     *gostream.App
	tracer  trace.Tracer // nil: no traces
	metrics *instruments // nil: no metrics
	startup trace.SpanContext

	mu            sync.Mutex // held while subscriptions is replaced
	subscriptions atomic.Pointer[map[*gostream.Subscription]*subscription]

	declare  sync.Once
	declared map[string]bool // what may stand in metrics; after declare
}

// of is what is kept for a subscription, nil for a delivery that none delivered. There are
// as many as the app has, so that reading must be cheap and writing need not be.
func (t *telemetry) of(s *gostream.Subscription) *subscription {
	if known := t.subscriptions.Load(); known != nil {
		if sub := (*known)[s]; sub != nil {
			return sub
		}
	}
	if s.Name() == "" {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	next := make(map[*gostream.Subscription]*subscription)
	if known := t.subscriptions.Load(); known != nil {
		if sub := (*known)[s]; sub != nil {
			return sub
		}
		maps.Copy(next, *known)
	}
	sub := t.newSubscription(s)
	next[s] = sub
	t.subscriptions.Store(&next)
	return sub
}

// isDeclared reports a destination that the app declares.
func (t *telemetry) isDeclared(name string) bool {
	t.declare.Do(func() {
		t.declared = make(map[string]bool)
		for _, n := range t.destinations {
			t.declared[n] = true
		}
		d, err := t.app.Describe()
		if err != nil {
			return // it has started, so there is nothing to describe wrongly
		}
		for _, s := range d.Subscriptions {
			t.declared[s.Subscription.Source()] = true
			t.declared[s.ReplyTo] = true
			for _, dead := range s.DeadLetters {
				t.declared[dead] = true
			}
		}
		for _, p := range d.Publishers {
			t.declared[p.Name] = true
		}
		delete(t.declared, "")
	})
	return t.declared[name]
}

package otelgostream

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/gostream/gostream"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"
)

// Instrument adds traces and metrics to app. Call it once, before the app starts and
// before the app's other middleware is added. What is wrong with the options or with a
// meter, and a second Instrument of the same app, is found by the app's start, which fails
// before any I/O.
func Instrument(app *gostream.App, opts ...Option) {
	t := &telemetry{app: app, config: newConfig(opts)}
	if !firstTime(app) {
		t.errs = append(t.errs, errors.New("the app is instrumented twice, and would count everything twice: call Instrument once, with all options"))
	}
	if t.tracers != nil {
		t.tracer = t.tracers.Tracer(ScopeName, trace.WithSchemaURL(schemaURL))
	}
	if t.meters != nil {
		var err error
		t.metrics, err = newInstruments(t.meters)
		t.errs = append(t.errs, err)
	}
	app.OnStartup(t.start)
	if t.tracer == nil && t.metrics == nil && !t.sentTime {
		return
	}
	if t.tracer != nil || t.metrics != nil {
		app.Use(t.middleware)
		app.Observe(t.observer())
	}
	app.UsePublishOn(t.publishMiddleware)
}

// instrumented are the apps that Instrument was called for, as long as they live.
var instrumented sync.Map // of weak.Pointer[gostream.App]

func firstTime(app *gostream.App) bool {
	key := weak.Make(app)
	if _, seen := instrumented.LoadOrStore(key, nil); seen {
		return false
	}
	runtime.AddCleanup(app, func(key weak.Pointer[gostream.App]) { instrumented.Delete(key) }, key)
	return true
}

// telemetry is what belongs to one app.
type telemetry struct {
	config
	app     *gostream.App
	tracer  trace.Tracer // nil: no traces
	metrics *instruments // nil: no metrics

	// What follows is set by the app's start, before anything is handled.
	startup       trace.SpanContext
	startBaggage  string                   // what is in the start's context, and in no message
	subscriptions map[string]*subscription // by their names
	brokers       []brokerLabels           // in the order of their mounts
	servers       map[string][]attribute.KeyValue

	declared atomic.Pointer[map[string]bool] // what may stand in metrics
	stale    atomic.Bool                     // a publisher was made since
	declare  sync.Mutex                      // held while declared is replaced
	late     int                             // how often it was; guarded by declare

	errorTypes limitedSet
}

// start is the app's first hook: it prepares all that does not depend on messages.
func (t *telemetry) start(ctx context.Context) error {
	if err := errors.Join(t.errs...); err != nil {
		return fmt.Errorf("otelgostream: %w", err)
	}
	// The handlers' contexts descend from this one: a span in it is that of the start,
	// and no parent of theirs. So it is with baggage.
	t.startup = trace.SpanContextFromContext(ctx)
	t.startBaggage = baggage.FromContext(ctx).String()
	d, err := t.app.Describe()
	if err != nil {
		return fmt.Errorf("otelgostream: %w", err)
	}
	t.describeBrokers(d)
	t.subscriptions = make(map[string]*subscription, len(d.Subscriptions))
	for _, s := range d.Subscriptions {
		t.subscriptions[s.Subscription.Name()] = t.newSubscription(s)
	}
	t.setDeclared(d)
	return nil
}

// of is what is prepared for a subscription, nil for a delivery that none delivered.
func (t *telemetry) of(s *gostream.Subscription) *subscription { return t.subscriptions[s.Name()] }

// mostLate bounds how often the declared destinations are looked at again. A program that
// makes publishers without end shall not have time series without end.
const mostLate = 100

// isDeclared reports a destination that the app declares.
func (t *telemetry) isDeclared(name string) bool {
	if t.stale.Load() {
		t.declareAgain()
	}
	known := t.declared.Load()
	return known != nil && (*known)[name]
}

// declareAgain adds the publishers that were made since the app has started.
func (t *telemetry) declareAgain() {
	t.declare.Lock()
	defer t.declare.Unlock()
	if !t.stale.Swap(false) || t.late == mostLate {
		return
	}
	t.late++
	if d, err := t.app.Describe(); err == nil { // it fails where a late publisher is faulty: what was known stays
		t.setDeclared(d)
	}
}

func (t *telemetry) setDeclared(d gostream.Description) {
	names := make(map[string]bool)
	for _, n := range t.destinations {
		names[n] = true
	}
	for _, s := range d.Subscriptions {
		names[s.Subscription.Source()] = true
		names[s.ReplyTo] = true
		for _, dead := range s.DeadLetters {
			names[dead] = true
		}
	}
	for _, p := range d.Publishers {
		names[p.Name] = true
	}
	delete(names, "")
	t.declared.Store(&names)
}

package gostream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/internal/seam"
)

// Service is an app that runs. Its methods are safe for concurrent use.
//
// The order of a start: OnStartup hooks, brokers connect in the order in which
// they were mounted, subscriptions open, workers begin, AfterStartup hooks. The
// order of a shutdown stands at Shutdown.
type Service struct {
	app   *App
	plan  *plan
	log   *slog.Logger
	obs   *observers
	epoch time.Time
	// double stands in for the brokers in a test of an app; nil otherwise.
	double seam.Double

	consumers []*consumer
	byName    map[string]*consumer
	hooks     *hookRunner
	workers   *group
	connected []broker.Broker // in the order in which they were connected

	// handlerCtx is the parent of what handlers see; settleCtx lives until the
	// end of the drain's grace.
	handlerCtx     context.Context
	cancelHandlers context.CancelCauseFunc
	settleCtx      context.Context
	cancelSettle   context.CancelFunc

	live     atomic.Bool // the start has succeeded
	draining atomic.Bool // the shutdown has begun: not ready any more
	stopping atomic.Bool // the intake stops: from here retries are given back
	drained  drainCounts // since stopping

	settleFailures, sendFailures atomic.Int64

	begin sync.Once // of the drain
	// limit is the time that hooks and handlers have in the drain; set by begin.
	limit    context.Context
	endLimit context.CancelCauseFunc
	done     chan struct{} // closed when the service has ended
	report   DrainReport   // after done
	err      error         // after done

	failMu  sync.Mutex
	failErr error // why the service shut itself down
}

// Started reports whether Start has succeeded: false in its hooks. It asks nobody.
func (s *Service) Started() bool { return s.live.Load() }

// Draining reports whether the shutdown has begun, and stays true after it. It asks nobody.
func (s *Service) Draining() bool { return s.draining.Load() }

// since is the time since the service began, by the monotonic clock.
func (s *Service) since() time.Duration { return time.Since(s.epoch) }

// random is in [0, 1), for jitter.
func (s *Service) random() float64 { return rand.Float64() }

// Start checks the app, runs its startup hooks, connects, subscribes, and returns
// when every subscription is live. ctx bounds the start only; its values reach the
// handlers. A start that fails undoes what it did, in reverse; its shutdown hooks
// run where the OnStartup hooks had all succeeded. An app starts once: later calls
// answer [ErrStarted].
func (a *App) Start(ctx context.Context) (*Service, error) { return a.start(ctx, nil) }

func init() {
	seam.Start = func(ctx context.Context, app any, d seam.Double) (any, error) {
		return app.(*App).start(ctx, d)
	}
}

// start is Start, on a double of the brokers where d is not nil.
func (a *App) start(ctx context.Context, d seam.Double) (*Service, error) {
	plan, err := a.plan()
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	started := a.started
	a.started = true
	a.mu.Unlock()
	if started {
		return nil, ErrStarted
	}
	if d != nil {
		plan.standIn(d)
	}
	s := newService(ctx, a, plan, d)
	a.mu.Lock()
	a.running = s
	for _, port := range a.ports {
		if _, planned := plan.ports[port]; !planned {
			s.bindLate(port) // made while the plan was
		}
	}
	a.mu.Unlock()
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func newService(ctx context.Context, a *App, p *plan, d seam.Double) *Service {
	log := a.settings.logger
	if log == nil {
		log = slog.Default()
	}
	s := &Service{
		app: a, plan: p, double: d, log: log.With(AttrApp, a.name),
		epoch:  time.Now(),
		byName: make(map[string]*consumer, len(p.subscriptions)),
		done:   make(chan struct{}),
	}
	s.obs = newObservers(a.observers, s.log)
	base := context.WithoutCancel(ctx)
	s.settleCtx, s.cancelSettle = context.WithCancel(base)
	s.handlerCtx, s.cancelHandlers = context.WithCancelCause(s.settleCtx)
	s.hooks = &hookRunner{ctx: s.settleCtx, log: s.log, double: d}
	s.workers = new(group)
	for _, o := range p.outlets {
		o.wrap(a.publishMiddleware)
	}
	for _, sp := range p.subscriptions {
		c := newConsumer(s, sp)
		s.consumers = append(s.consumers, c)
		s.byName[sp.info.name] = c
	}
	for port, o := range p.ports {
		port.bind(o, a.settings.defaults)
	}
	return s
}

// start does the I/O of Start.
func (s *Service) start(ctx context.Context) error {
	s.log.Info("starting", "version", s.app.version, "brokers", len(s.app.mounts), "subscriptions", len(s.consumers))
	for i, f := range s.app.onStartup {
		if err := callHook(ctx, f); err != nil {
			s.cancelSettle()
			return errorf("OnStartup hook %d: %w", i+1, err)
		}
	}
	if err := s.open(ctx); err != nil {
		s.undo()
		return err
	}
	for _, c := range s.consumers {
		c.start()
	}
	s.obs.onStarted(s)
	for i, f := range s.app.afterStartup {
		if err := callHook(ctx, f); err != nil {
			s.undo()
			return errorf("AfterStartup hook %d: %w", i+1, err)
		}
	}
	s.live.Store(true)
	s.log.Info("started", "took", s.since())
	return nil
}

// bindLate binds a publisher that was made after the start. What is wrong with it is
// told by its use.
func (s *Service) bindLate(late *port) {
	p := &planner{app: s.app, plan: &plan{ports: make(map[*port]*outlet)}}
	p.port(late)
	if err := errors.Join(p.errs...); err != nil {
		late.unbound = fmt.Errorf("gostream: %w", err)
		return
	}
	if s.double != nil {
		p.plan.standIn(s.double)
	}
	o := p.plan.ports[late]
	o.wrap(s.app.publishMiddleware)
	late.bind(o, s.app.settings.defaults)
}

// standIn replaces the brokers by their double.
func (p *plan) standIn(d seam.Double) {
	for _, s := range p.subscriptions {
		keys := s.properties.Keys
		s.properties = d.Properties()
		s.properties.Keys = keys
		s.most = 0
	}
	for _, o := range p.outlets {
		o.publisher = d.Publisher(o.broker, o.publisher)
	}
}

// open connects the brokers and opens the subscriptions.
func (s *Service) open(ctx context.Context) error {
	for _, m := range s.app.mounts {
		if s.double != nil {
			break
		}
		s.listen(m.broker)
		if err := m.broker.Connect(ctx); err != nil {
			return errorf("connect %s: %w", kindOf(m.broker), err)
		}
		s.connected = append(s.connected, m.broker)
	}
	for _, c := range s.consumers {
		if err := c.open(ctx); err != nil {
			return errorf("subscribe %s: %w", broker.Quote(c.plan.info.name), err)
		}
		s.warn(c.plan)
	}
	return nil
}

// listen logs what the broker tells.
func (s *Service) listen(b broker.Broker) {
	kind := strings.TrimSuffix(kindOf(b), "-secure") // as metrics name the system
	broker.Notify(b, func(e broker.Event) {
		attrs := []any{AttrSystem, kind, "event", e.Kind.String()}
		if e.Name != "" {
			attrs = append(attrs, AttrName, e.Name)
		}
		if e.Err != nil {
			attrs = append(attrs, "error", e.Err)
		}
		if e.Kind == broker.EventReconnected {
			s.log.Info("broker event", attrs...)
			return
		}
		s.log.Warn("broker event", attrs...)
	})
}

// warn logs, once, what the user should know of a subscription.
func (s *Service) warn(p *subscriptionPlan) {
	log := s.log.With(AttrSubscription, p.info.name)
	if !p.properties.Redelivers {
		log.Warn("delivery is at most once: the transport does not redeliver")
	}
	switch {
	case p.byKey && p.policy.endless():
		log.Warn("a key whose message keeps failing waits without end: a rule retries without a limit of attempts")
	case p.byKey && p.policy.deadLetter == "" && !p.policy.endsAll():
		log.Warn("a key whose message keeps failing waits without end: no dead letter is declared")
	case len(p.policy.targets()) == 0 && !p.policy.endsAll() && !p.answers():
		log.Info("no dead letter is declared: a message that keeps failing is retried without end")
	case p.policy.deadLetter != "" && p.most == 0:
		log.Info("no guard against messages that end the process each time: the broker does not count deliveries, or a rule retries without end")
	}
}

// answers reports a handler whose failures go back to who asked.
func (p *subscriptionPlan) answers() bool {
	return p.handler.send != nil && p.handler.send.toReplyTo
}

// Wait returns when the service has ended, with what Shutdown returns.
func (s *Service) Wait() error {
	<-s.done
	return s.err
}

// Done is closed when the service has ended.
func (s *Service) Done() <-chan struct{} { return s.done }

// fail shuts the service down because of err; the first one is reported.
func (s *Service) fail(err error) {
	s.failMu.Lock()
	if s.failErr == nil {
		s.failErr = err
	}
	s.failMu.Unlock()
	s.beginDrain()
}

// beginDrain has the service drained, once.
func (s *Service) beginDrain() {
	s.begin.Do(func() {
		s.draining.Store(true)
		s.limit, s.endLimit = context.WithCancelCause(s.settleCtx)
		go s.drain()
	})
}

// callHook runs a hook of the app. A panic, a Goexit, and a hook that outlives ctx
// are errors.
func callHook(ctx context.Context, f func(context.Context) error) error {
	result := make(chan error, 1)
	go func() {
		var err error
		returned := false
		defer func() {
			if !returned {
				err = abruptEnd(recover())
			}
			result <- err
		}()
		err = f(ctx)
		returned = true
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-result:
		return err
	default:
		return errors.Join(errHookLate, context.Cause(ctx))
	}
}

var errHookLate = errors.New("the hook did not return in time")

// group counts goroutines, as sync.WaitGroup does, with a wait that can be given up.
type group struct {
	mu   sync.Mutex
	n    int
	idle []chan struct{}
}

func (g *group) add(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n += n
	if g.n == 0 {
		for _, c := range g.idle {
			close(c)
		}
		g.idle = nil
	}
}

// wait returns a channel that is closed when the count is 0.
func (g *group) wait() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := make(chan struct{})
	if g.n == 0 {
		close(c)
	} else {
		g.idle = append(g.idle, c)
	}
	return c
}

package gostream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"

	"github.com/gostream/gostream/broker"
)

// App is routers mounted on brokers, with what surrounds them: middleware, hooks,
// publishers. It is built by one goroutine, then started once, by Run or Start.
// Mistakes in building it are found by [App.Check], which Start calls before any
// I/O.
type App struct {
	name, version string
	settings      appSettings

	middleware        []Middleware
	publishMiddleware []func(kind string) PublishMiddleware
	observers         []Observer
	mounts            []*mount
	errs              []error

	onStartup, afterStartup, onShutdown, afterShutdown []func(ctx context.Context) error

	mu      sync.Mutex // guards what follows: publishers may be made while others run
	ports   []*port
	started bool
	running *Service // nil until the app has started
}

// mount is a broker with its routers.
type mount struct {
	broker  broker.Broker
	routers []*Router
}

// New returns an app without brokers. name and version identify it in logs and
// documents; name must not be empty.
func New(name, version string, opts ...AppOption) *App {
	a := &App{name: name, version: version}
	a.settings.shutdownTimeout = DefaultShutdownTimeout
	for _, o := range opts {
		if o == nil {
			a.errs = append(a.errs, errNilOption)
			continue
		}
		o.applyApp(&a.settings)
	}
	if name == "" {
		a.errs = append(a.errs, errors.New("New: the app's name is empty"))
	}
	return a
}

// Name is the app's name.
func (a *App) Name() string { return a.name }

// Version is the app's version.
func (a *App) Version() string { return a.version }

// Mount puts routers on a broker. A broker may be mounted without routers, to
// publish only, and several times, which adds up. A router has one place in an
// app.
func (a *App) Mount(b broker.Broker, routers ...*Router) {
	if isNil(b) {
		a.errs = append(a.errs, errors.New("Mount: the broker is nil"))
		return
	}
	m := a.mountOf(b)
	if m == nil {
		m = &mount{broker: b}
		a.mounts = append(a.mounts, m)
	}
	for _, r := range routers {
		if r == nil {
			a.errs = append(a.errs, fmt.Errorf("Mount on %T: a router is nil", b))
			continue
		}
		m.routers = append(m.routers, r)
	}
}

// Use adds middleware around every subscription of the app. The first one given
// is the outermost.
func (a *App) Use(middleware ...Middleware) {
	for _, m := range middleware {
		if m == nil {
			a.errs = append(a.errs, errors.New("App.Use(nil): a middleware is needed"))
			continue
		}
		a.middleware = append(a.middleware, m)
	}
}

// UsePublish adds middleware around everything that the app publishes: replies,
// typed and raw publishers, batches, requests and dead letters. The first one
// given is the outermost. Publishers may be made before it.
func (a *App) UsePublish(middleware ...PublishMiddleware) {
	for _, m := range middleware {
		if m == nil {
			a.errs = append(a.errs, errors.New("App.UsePublish(nil): a middleware is needed"))
			continue
		}
		a.publishMiddleware = append(a.publishMiddleware, func(string) PublishMiddleware { return m })
	}
}

// UsePublishOn is [App.UsePublish] for a middleware that must know where it publishes to:
// m is called for each publisher, at start, with the kind of its broker, as
// [Subscription.Broker] says it. A nil middleware wraps nothing.
func (a *App) UsePublishOn(m func(kind string) PublishMiddleware) {
	if m == nil {
		a.errs = append(a.errs, errors.New("App.UsePublishOn(nil): a function is needed"))
		return
	}
	a.publishMiddleware = append(a.publishMiddleware, m)
}

// Observe adds an observer; several may be added.
func (a *App) Observe(o Observer) { a.observers = append(a.observers, o) }

// OnStartup adds a function that is called first at start, before the brokers
// connect. An error ends the start. Its ctx is Start's.
func (a *App) OnStartup(f func(ctx context.Context) error) { a.addHook(&a.onStartup, "OnStartup", f) }

// AfterStartup adds a function that is called when every subscription is live. An
// error ends the start, which is then undone.
func (a *App) AfterStartup(f func(ctx context.Context) error) {
	a.addHook(&a.afterStartup, "AfterStartup", f)
}

// OnShutdown adds a function that is called first at shutdown, before the intake
// stops. An error is reported, and the shutdown goes on.
func (a *App) OnShutdown(f func(ctx context.Context) error) {
	a.addHook(&a.onShutdown, "OnShutdown", f)
}

// AfterShutdown adds a function that is called last, when the brokers are closed.
// An error is reported.
func (a *App) AfterShutdown(f func(ctx context.Context) error) {
	a.addHook(&a.afterShutdown, "AfterShutdown", f)
}

func (a *App) addHook(to *[]func(context.Context) error, name string, f func(context.Context) error) {
	if f == nil {
		a.errs = append(a.errs, fmt.Errorf("%s(nil): a function is needed", name))
		return
	}
	*to = append(*to, f)
}

// DefaultLogger has the app log to l where [WithLogger] gave it no logger, in place of
// slog.Default, and returns the logger that it will log to. It is for what stands around
// an app, such as a command line; it comes before the start. nil changes nothing.
func (a *App) DefaultLogger(l *slog.Logger) *slog.Logger {
	if a.settings.logger == nil {
		a.settings.logger = l
	}
	if a.settings.logger == nil {
		return slog.Default()
	}
	return a.settings.logger
}

// Check finds everything that can be wrong before I/O and reports it in one joined
// error; nil where there is nothing.
func (a *App) Check() error {
	_, err := a.plan()
	return err
}

// Run starts the app, waits until ctx ends or a subscription or handler fails
// fast, and drains it. It returns nil after a clean drain, the start's error, the
// error that failed fast, or a [*DrainError]. Signals are the caller's business:
// see signal.NotifyContext. A ctx that never ends, in a program where nothing else is
// alive and a broker without a connection, is a deadlock that Go's runtime reports.
func (a *App) Run(ctx context.Context) error {
	s, err := a.Start(ctx)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return s.Shutdown(context.WithoutCancel(ctx))
	case <-s.done:
		return s.err
	}
}

// mountOf returns the mount of b, nil where it is not mounted.
func (a *App) mountOf(b broker.Broker) *mount {
	for _, m := range a.mounts {
		if sameBroker(m.broker, b) {
			return m
		}
	}
	return nil
}

// sameBroker compares without the panic that an uncomparable type would cause.
func sameBroker(x, y broker.Broker) bool {
	tx, ty := reflect.TypeOf(x), reflect.TypeOf(y)
	return tx == ty && tx.Comparable() && x == y
}

// isNil reports a nil interface or a nil pointer in one.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Func, reflect.Slice, reflect.Chan:
		return r.IsNil()
	}
	return false
}

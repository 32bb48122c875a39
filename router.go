package gostream

import (
	"errors"

	"github.com/gostream/gostream/broker"
)

// Router collects handlers, as http.ServeMux does. It knows no broker: [App.Mount]
// puts it on one. Routers nest, and carry their own middleware and defaults. A
// router is built by one goroutine, then mounted; it does not change after that.
type Router struct {
	defaults   settings
	middleware []Middleware
	routes     []route
	children   []*Router
	errs       []error
}

// route is one line of a router.
type route struct {
	source  broker.Source
	handler Handler
	own     settings
}

// NewRouter returns an empty router. Options are defaults for its subscriptions
// and those of the routers that it includes.
func NewRouter(opts ...RouterOption) *Router {
	r := new(Router)
	for _, o := range opts {
		if o == nil {
			r.errs = append(r.errs, errNilOption)
			continue
		}
		o.applyRouter(&r.defaults)
	}
	return r
}

// Handle routes the messages of a name to h. What a name is, and whether it may
// hold wildcards, is the broker's matter. Mistakes are found by [App.Check].
func (r *Router) Handle(name string, h Handler, opts ...HandleOption) {
	r.HandleSource(broker.ByName(name), h, opts...)
}

// HandleSource routes the messages of a source, a broker's own description such as
// memory.Queue("orders", "workers"), to h. Mistakes are found by [App.Check].
func (r *Router) HandleSource(src broker.Source, h Handler, opts ...HandleOption) {
	rt := route{source: src, handler: h}
	applyHandleOptions(&rt.own, opts)
	r.routes = append(r.routes, rt)
}

// Use adds middleware around every subscription of the router and of those that
// it includes, also those added before. The first one given is the outermost; the
// app's are outside of the router's, an outer router's outside of an inner one's.
func (r *Router) Use(middleware ...Middleware) {
	for _, m := range middleware {
		if m == nil {
			r.errs = append(r.errs, errors.New("Router.Use(nil): a middleware is needed"))
			continue
		}
		r.middleware = append(r.middleware, m)
	}
}

// Include adds the subscriptions of other routers to this one. A router has one
// place in an app: including or mounting it twice is a start error.
func (r *Router) Include(routers ...*Router) {
	for _, c := range routers {
		if c == nil {
			r.errs = append(r.errs, errors.New("Router.Include(nil): a router is needed"))
			continue
		}
		r.children = append(r.children, c)
	}
}

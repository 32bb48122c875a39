package gostream

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gostream/gostream/broker"
)

// plan is an app with everything decided that can be decided before I/O.
type plan struct {
	subscriptions []*subscriptionPlan
	ports         map[*port]*outlet // nil for a port that is faulty
	outlets       []*outlet
}

// subscriptionPlan is one subscription with its settings resolved.
type subscriptionPlan struct {
	info       Subscription
	broker     broker.Broker
	source     broker.Source
	handler    *handlerSpec
	middleware []Middleware // outermost first
	policy     policy
	codecs     codecTable

	workers, maxInFlight int
	byKey                bool
	timeout              time.Duration
	lost                 LostPolicy
	allowLoss            bool

	properties   broker.Properties
	limit        int            // of the source; 0: unknown
	replyVia     *outlet        // nil where nothing replies
	replyHeaders broker.Headers // of a reply with nothing but its content type
	deadVia      *outlet        // nil where nothing is dead-lettered
	most         int            // deliveries beyond this are a process that ends each time; 0: no guard
}

// crashAllowance is how many deliveries beyond its attempts a message may have had
// before it is taken for one that ends the process each time.
const crashAllowance = 15

// planner builds a plan and collects every mistake.
type planner struct {
	app   *App
	plan  *plan
	errs  []error
	seen  map[*Router]bool
	names map[string]string // identity to the source that has it
}

func (a *App) plan() (*plan, error) {
	a.mu.Lock()
	ports := append([]*port(nil), a.ports...)
	a.mu.Unlock()
	p := &planner{
		app:   a,
		plan:  &plan{ports: make(map[*port]*outlet)},
		seen:  make(map[*Router]bool),
		names: make(map[string]string),
	}
	p.errs = append(p.errs, a.errs...)
	p.addErrors("app", a.settings.defaults.errs)
	if len(a.mounts) == 0 {
		p.add(errors.New("no broker is mounted: app.Mount(broker, routers…)"))
	}
	for _, m := range a.mounts {
		if err := broker.Check(m.broker); err != nil {
			p.addErrors(fmt.Sprintf("%T", m.broker), []error{err})
		}
		for _, r := range m.routers {
			p.router(m, r, a.settings.defaults, a.middleware)
		}
	}
	for _, port := range ports {
		p.port(port)
	}
	for _, s := range p.plan.subscriptions {
		p.replies(s)
	}
	if len(p.errs) > 0 {
		return nil, fmt.Errorf("gostream: app %s cannot start:\n%w", broker.Quote(a.name), errors.Join(p.errs...))
	}
	return p.plan, nil
}

func (p *planner) add(err error) { p.errs = append(p.errs, err) }

// addErrors adds mistakes, each with where it was made before it, also those that
// were joined.
func (p *planner) addErrors(where string, errs []error) {
	for _, err := range errs {
		if err == nil {
			continue
		}
		if parts, ok := joined(err); ok {
			p.addErrors(where, parts)
			continue
		}
		p.add(fmt.Errorf("%s: %w", where, err))
	}
}

// joined returns the parts of an error that says nothing but them, as that of
// errors.Join does.
func joined(err error) (parts []error, ok bool) {
	if j, is := err.(interface{ Unwrap() []error }); is {
		parts = j.Unwrap()
		all := errors.Join(parts...)
		return parts, all != nil && all.Error() == err.Error()
	}
	return nil, false
}

func (p *planner) router(m *mount, r *Router, outer settings, middleware []Middleware) {
	if p.seen[r] {
		p.add(fmt.Errorf("router %s is mounted or included twice: a router has one place in an app", describeRouter(r)))
		return
	}
	p.seen[r] = true
	where := "router " + describeRouter(r)
	p.addErrors(where, r.errs)
	p.addErrors(where, r.defaults.errs)
	defaults := r.defaults.within(outer)
	all := append(middleware[:len(middleware):len(middleware)], r.middleware...)
	for i := range r.routes {
		p.route(m, &r.routes[i], defaults, all)
	}
	for _, c := range r.children {
		p.router(m, c, defaults, all)
	}
}

// describeRouter names a router by what it handles.
func describeRouter(r *Router) string {
	var names []string
	for _, rt := range r.routes {
		if !isNil(rt.source) {
			names = append(names, broker.Quote(rt.source.Name()))
		}
	}
	if len(names) == 0 {
		return "(without subscriptions)"
	}
	return "(of " + strings.Join(names, ", ") + ")"
}

func (p *planner) route(m *mount, rt *route, defaults settings, middleware []Middleware) {
	if isNil(rt.source) {
		p.addErrors(fmt.Sprintf("a subscription on %T", m.broker), append([]error{errNilSource}, rt.mistakes()...))
		return
	}
	spec, _ := broker.DescribeSource(rt.source, m.broker)
	s := &subscriptionPlan{
		broker: m.broker, source: rt.source, middleware: middleware,
		properties: spec.Properties, limit: spec.Limit,
	}
	s.info = Subscription{name: rt.own.name.get(rt.source.Name()), source: rt.source.Name(), group: spec.Group, broker: kindOf(m.broker)}
	where := "subscription " + broker.Quote(s.info.name)
	var errs []error
	bad := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	errs = append(errs, rt.mistakes()...)
	bad(rt.source.Check(m.broker))
	if other, taken := p.names[s.info.name]; taken {
		bad(fmt.Errorf("its name is taken by the subscription to %s: tell them apart with Named(…)", broker.Quote(other)))
	} else {
		p.names[s.info.name] = s.info.source
	}
	s.handler = rt.spec()
	s.byKey = rt.own.byKey.get(false)
	if s.byKey && s.properties.Keys == broker.KeysNone {
		bad(fmt.Errorf("ByKey needs partition keys, and this source of %T has none", m.broker))
	}
	set := rt.own.within(defaults)
	s.resolve(set, bad)
	if s.handler != nil {
		s.checkTypes(rt.own.codecs, bad)
	}
	for i := range s.policy.rules {
		bad(s.policy.rules[i].check(s.policy.deadLetter != ""))
	}
	p.deadLetters(s, bad)
	p.addErrors(where, errs)
	p.plan.subscriptions = append(p.plan.subscriptions, s)
}

var errNilSource = errors.New("the source is nil: make it with the broker's package, or use Handle(name, …)")

// mistakes are those of the options and of the handler.
func (rt *route) mistakes() []error {
	errs := append([]error(nil), rt.own.errs...)
	h := rt.spec()
	if h == nil {
		return append(errs, errNilHandler)
	}
	errs = append(errs, h.bad...)
	if h.send != nil {
		errs = append(errs, h.send.check())
	}
	return append(errs, inapplicable(h, &rt.own))
}

// spec is the handler's, nil where there is none.
func (rt *route) spec() *handlerSpec {
	if isNil(rt.handler) {
		return nil
	}
	return rt.handler.handlerSpec()
}

// kindOf names a kind of broker.
func kindOf(b broker.Broker) string {
	if spec, ok := broker.DescribeServer(b); ok && spec.Protocol != "" {
		return spec.Protocol
	}
	return fmt.Sprintf("%T", b)
}

// inapplicable reports options of the subscription itself that do nothing at its
// handler. As defaults of a router or an app they may stand anywhere.
func inapplicable(h *handlerSpec, own *settings) error {
	var errs []error
	decodes := h.in.mode == bodyCodec
	encodes := h.send != nil && h.out.mode == bodyCodec
	if own.codec.isSet && !decodes && !encodes {
		errs = append(errs, fmt.Errorf("WithCodec does nothing here: the %s handler takes and makes raw payloads", h.kind))
	}
	if len(own.codecs) > 0 && !decodes {
		errs = append(errs, fmt.Errorf("Codecs does nothing here: the %s handler takes raw payloads", h.kind))
	}
	if own.undecodable.isSet && !decodes {
		errs = append(errs, fmt.Errorf("OnUndecodable does nothing here: the %s handler takes raw payloads", h.kind))
	}
	if h.batch != nil && own.byKey.isSet {
		errs = append(errs, fmt.Errorf("ByKey does not apply to a %s handler: handle single messages, or leave it out", h.kind))
	}
	return errors.Join(errs...)
}

// resolve fills in the numbers, the policy and the codecs.
func (s *subscriptionPlan) resolve(set settings, bad func(error)) {
	s.workers = max(set.workers.get(1), 1)
	s.timeout = set.timeout.get(0)
	s.lost = set.lost.get(LostReopen)
	s.allowLoss = set.allowLoss.get(false)
	if s.limit > 0 && set.workers.isSet && s.workers > s.limit {
		bad(fmt.Errorf("Workers(%d) is above the source's limit of %d unsettled messages", s.workers, s.limit))
	}
	size := 1 // of a batch
	if s.handler != nil && s.handler.batch != nil {
		size = max(s.handler.batch.max, 1)
	}
	if s.limit > 0 && size > s.limit {
		bad(fmt.Errorf("a batch of %d is above the source's limit of %d unsettled messages", size, s.limit))
	}
	s.maxInFlight = set.maxInFlight.get(max(4*s.workers*size, minMaxInFlight))
	switch {
	case !set.maxInFlight.isSet:
		if s.limit > 0 {
			s.maxInFlight = min(s.maxInFlight, s.limit)
		}
	case s.limit > 0 && s.maxInFlight > s.limit:
		bad(fmt.Errorf("MaxInFlight(%d) is above the source's limit of %d unsettled messages", s.maxInFlight, s.limit))
	case s.maxInFlight >= 1 && s.maxInFlight < s.workers:
		bad(fmt.Errorf("MaxInFlight(%d) is below Workers(%d): some workers would never work", s.maxInFlight, s.workers))
	case s.maxInFlight >= 1 && s.maxInFlight < size:
		bad(fmt.Errorf("MaxInFlight(%d) is below the batch's size of %d: no batch would ever be full", s.maxInFlight, size))
	}
	s.policy = policy{
		rules:       set.rules,
		deadLetter:  set.deadLetter.get(""),
		retry:       set.retry.get(Exponential(DefaultRetryInitial, DefaultRetryMax)),
		panics:      set.panics.get(PanicAsError),
		undecodable: set.undecodable.get(UndecodableKeep),
	}
	if n := s.policy.retry.attempts; n > 0 && s.policy.deadLetter == "" {
		bad(fmt.Errorf("RetryBackoff: Attempts(%d) has nothing after it: declare DeadLetterTo", n))
	}
	if n := s.policy.mostAttempts(); n > 0 && s.properties.CountsDeliveries {
		s.most = n + crashAllowance
	}
	s.codecs = newCodecTable(set.mainCodec(), set.codecs)
}

// deadLetters checks the targets of the policy and finds the publisher for them.
func (p *planner) deadLetters(s *subscriptionPlan, bad func(error)) {
	targets := s.policy.targets()
	if len(targets) == 0 {
		return
	}
	for _, to := range targets {
		if err := broker.CheckPublishName(s.broker, to); err != nil {
			bad(fmt.Errorf("dead letter: %w", err))
		}
		if broker.Matches(s.source, s.broker, to) {
			bad(fmt.Errorf("dead letter %s comes back to the subscription itself: choose a name that it does not receive", broker.Quote(to)))
		}
	}
	s.deadVia = p.matching(s, "a dead letter", bad)
}

// matching returns the outlet through the publisher that matches the source.
func (p *planner) matching(s *subscriptionPlan, what string, bad func(error)) *outlet {
	pub, ok := broker.PublisherFor(s.source, s.broker)
	if !ok {
		bad(fmt.Errorf("%s cannot be published: %T has no publisher", what, s.broker))
		return nil
	}
	buffers := broker.PropertiesOf(s.broker).BuffersPublishes
	if m, ok := s.source.(broker.PublisherMatcher); ok && m.Publisher(s.broker) != nil {
		buffers = s.properties.BuffersPublishes
	}
	checkBuffering(s, what, buffers, bad)
	return p.outlet(s.broker, pub)
}

// outlet makes the pipeline's end; its middleware is added at start.
func (p *planner) outlet(b broker.Broker, pub broker.Publisher) *outlet {
	o := &outlet{broker: b, publisher: pub}
	p.plan.outlets = append(p.plan.outlets, o)
	return o
}

func checkBuffering(s *subscriptionPlan, what string, buffers bool, bad func(error)) {
	if buffers && s.properties.Redelivers && !s.allowLoss {
		bad(fmt.Errorf("%s goes through a publisher that only buffers: a crash would lose it after the message was acknowledged; use a source with a matching publisher, or accept it with AllowLoss()", what))
	}
}

// port checks a publisher that the user holds.
func (p *planner) port(port *port) {
	where := port.maker
	if port.name != "" {
		where += " " + broker.Quote(port.name)
	}
	errs := append([]error(nil), port.errs...)
	bad := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	defer func() { p.addErrors(where, errs) }()
	if port.maker != "RawPublisher" && port.name == "" {
		bad(errors.New("the name is empty"))
	}
	if isNil(port.broker) {
		bad(errors.New("the broker is nil"))
		return
	}
	if p.app.mountOf(port.broker) == nil {
		bad(fmt.Errorf("its broker %T is not mounted: app.Mount(broker)", port.broker))
		return
	}
	if port.name != "" {
		bad(broker.CheckPublishName(port.broker, port.name))
	}
	main := port.mainCodec(p.app.settings.defaults)
	bad(port.in.checkType(main))
	bad(port.out.checkType(main))
	pub, ok := broker.DefaultPublisher(port.broker)
	if !ok {
		bad(fmt.Errorf("%T has no default publisher", port.broker))
		return
	}
	if _, ok := pub.(broker.Requester); port.requests && !ok {
		bad(fmt.Errorf("%T has no request-reply", port.broker))
	}
	p.plan.ports[port] = p.outlet(port.broker, pub)
}

// replies finds where a reply handler publishes. It comes after the ports, which
// Via refers to.
func (p *planner) replies(s *subscriptionPlan) {
	if s.handler == nil || s.handler.send == nil {
		return
	}
	where := "subscription " + broker.Quote(s.info.name)
	send := s.handler.send
	bad := func(err error) {
		if err != nil {
			p.add(fmt.Errorf("%s: %w", where, err))
		}
	}
	to := s.broker
	if send.via != nil {
		s.replyVia = p.plan.ports[send.via.port]
		if s.replyVia == nil {
			bad(errors.New("Reply(…).Via: the publisher is not one of this app, or it is faulty: make it with RawPublisher of this app"))
			return
		}
		to = send.via.port.broker
		checkBuffering(s, "a reply", broker.PropertiesOf(to).BuffersPublishes, bad)
	} else {
		s.replyVia = p.matching(s, "a reply", bad)
	}
	if send.transactional && !sameBroker(to, s.broker) {
		bad(errors.New("ReplyBatch(…).Transactional with Via a publisher of another broker: one transaction cannot span two brokers"))
	}
	if send.to != "" {
		if err := broker.CheckPublishName(to, send.to); err != nil {
			bad(fmt.Errorf("reply: %w", err))
		}
	}
	if s.handler.out.mode == bodyCodec {
		s.replyHeaders = broker.NewHeaders(broker.Header{Key: broker.HeaderContentType, Value: s.codecs.contentType})
	}
}

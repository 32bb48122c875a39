package gostream_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

// Handlers that are never called.
func takeText(context.Context, string) error                   { return nil }
func takeBytes(context.Context, []byte) error                  { return nil }
func takeOrder(context.Context, checkOrder) error              { return nil }
func takeDelivery(context.Context, *gostream.Delivery) error   { return nil }
func answer(context.Context, checkOrder) (checkReceipt, error) { return checkReceipt{}, nil }
func answerBytes(context.Context, []byte) ([]byte, error)      { return nil, nil }

type (
	checkOrder   struct{ ID string }
	checkReceipt struct{ ID string }
)

// checkCodec is a codec of the given content type that encodes nothing.
type checkCodec string

func (c checkCodec) ContentType() string                    { return string(c) }
func (checkCodec) Append(dst []byte, _ any) ([]byte, error) { return dst, nil }
func (checkCodec) Unmarshal([]byte, any) error              { return nil }

// bareBroker can do nothing but connect.
type bareBroker struct{ connect func() error }

func (b *bareBroker) Connect(context.Context) error  { return b.connect() }
func (b *bareBroker) Shutdown(context.Context) error { return nil }

// faultyBroker is a broker whose constructor kept mistakes.
type faultyBroker struct {
	*bareBroker
	mistakes error
}

func (b *faultyBroker) Check() error { return b.mistakes }

// checkSource is a source for any broker, with its own properties and its own
// publisher.
type checkSource struct {
	name       string
	properties broker.Properties
	publisher  broker.Publisher // nil: the broker's
	bindings   map[string]any
}

func (s *checkSource) Name() string              { return s.name }
func (s *checkSource) Check(broker.Broker) error { return nil }
func (s *checkSource) Spec() broker.SourceSpec {
	return broker.SourceSpec{Properties: s.properties, Bindings: s.bindings}
}
func (s *checkSource) Publisher(broker.Broker) broker.Publisher { return s.publisher }
func (s *checkSource) Subscribe(context.Context, broker.Broker) (broker.Subscription, error) {
	return nil, errors.ErrUnsupported
}

// checkRig is an app for a test to add mistakes to. Whoever does I/O with its
// brokers fails the test.
type checkRig struct {
	t      *testing.T
	app    *gostream.App
	memory *memory.Broker
	stub   *stubBroker // takes any name, redelivers, buffers nothing, has no request-reply
	bare   *bareBroker // has neither a publisher nor subscriptions by name

	onMemory, onStub, onBare *gostream.Router
}

func newCheckRig(t *testing.T, name string, opts ...gostream.AppOption) *checkRig {
	t.Helper()
	noIO := func(what string) error {
		t.Errorf("%s was called: that is I/O", what)
		return errors.ErrUnsupported
	}
	r := &checkRig{
		t:      t,
		app:    gostream.New(name, "1.0.0", append(opts, quiet())...),
		memory: memory.New(),
		stub: &stubBroker{
			properties: broker.Properties{Redelivers: true},
			connect:    func(context.Context) error { return noIO("Connect") },
			subscribe:  func(context.Context, string) (broker.Subscription, error) { return nil, noIO("Subscribe") },
			publish:    func(context.Context, broker.OutgoingMessage) error { return noIO("Publish") },
		},
		bare:     &bareBroker{func() error { return noIO("Connect") }},
		onMemory: gostream.NewRouter(), onStub: gostream.NewRouter(), onBare: gostream.NewRouter(),
	}
	r.app.Mount(r.memory, r.onMemory)
	r.app.Mount(r.stub, r.onStub)
	r.app.Mount(r.bare, r.onBare)
	return r
}

// handle routes name on the memory broker to a handler that is fine.
func (r *checkRig) handle(name string, opts ...gostream.HandleOption) {
	r.onMemory.Handle(name, gostream.Consume(takeOrder), opts...)
}

// check returns what Check answers, and sees to it that Describe and Start say the
// same and that nothing was connected.
func (r *checkRig) check() error {
	r.t.Helper()
	err := r.app.Check()
	if err == nil {
		if _, err := r.app.Describe(); err != nil {
			r.t.Errorf("Describe of a sound app: %v", err)
		}
		return nil
	}
	d, describeErr := r.app.Describe()
	if describeErr == nil || describeErr.Error() != err.Error() || !reflect.ValueOf(d).IsZero() {
		r.t.Errorf("Describe answers %+v, %v", d, describeErr)
	}
	if s, startErr := r.app.Start(r.t.Context()); startErr == nil || startErr.Error() != err.Error() || s != nil {
		r.t.Errorf("Start answers %v, %v", s, startErr)
	}
	if err := r.memory.Health(r.t.Context()); !errors.Is(err, broker.ErrNotConnected) {
		r.t.Errorf("the memory broker was connected: its health is %v", err)
	}
	return err
}

// mistake is one that Check must find, and what it says of it, a line each.
type mistake struct {
	name string
	make func(r *checkRig)
	want []string
	// app is the app's own options, where the mistake is there.
	app []gostream.AppOption
}

// wantLines checks that err has one line for each of want, and no other.
func wantLines(t *testing.T, err error, want []string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want\n%s", strings.Join(want, "\n"))
		return
	}
	head, rest, _ := strings.Cut(err.Error(), "\n")
	if !strings.HasPrefix(head, "gostream: app ") || !strings.HasSuffix(head, " cannot start:") {
		t.Errorf("the first line is %q", head)
	}
	lines := strings.Split(rest, "\n")
	// The longest first, so that a short one does not take another's line.
	want = slices.SortedFunc(slices.Values(want), func(a, b string) int { return len(b) - len(a) })
	for _, w := range want {
		i := slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, w) })
		if i < 0 {
			t.Errorf("nothing says\n%s", w)
			continue
		}
		lines = slices.Delete(lines, i, i+1)
	}
	if len(lines) > 0 {
		t.Errorf("said without need:\n%s", strings.Join(lines, "\n"))
	}
}

func mistakes() []mistake {
	return slices.Concat(handlerMistakes(), routerMistakes(), optionMistakes(), policyMistakes(), nameMistakes(), publisherMistakes(), codecMistakes())
}

func handlerMistakes() []mistake {
	const noHandler = "the handler is nil: make it with Consume, Reply or Raw"
	reply := func() *gostream.ReplyHandler { return gostream.Reply(answer) }
	return []mistake{
		{name: "nil handler", make: func(r *checkRig) {
			r.onMemory.Handle("nil-handler", nil)
			r.onMemory.Handle("typed-nil-handler", (*gostream.ReplyHandler)(nil))
			r.onMemory.Handle("zero-handler", new(gostream.ReplyHandler))
		}, want: []string{
			`subscription "nil-handler": ` + noHandler,
			`subscription "typed-nil-handler": ` + noHandler,
			`subscription "zero-handler": ` + noHandler,
		}},
		{name: "nil function", make: func(r *checkRig) {
			r.onMemory.Handle("nil-consume", gostream.Consume[checkOrder](nil))
			r.onMemory.Handle("nil-reply", gostream.Reply[checkOrder, checkReceipt](nil).To("receipts"))
			r.onMemory.Handle("nil-raw", gostream.Raw(nil))
		}, want: []string{
			`subscription "nil-consume": Consume(nil): a function is needed`,
			`subscription "nil-reply": Reply(nil): a function is needed`,
			`subscription "nil-raw": Raw(nil): a function is needed`,
		}},
		{name: "payload type", make: func(r *checkRig) {
			r.onMemory.Handle("chan", gostream.Consume(func(context.Context, chan int) error { return nil }))
			r.onMemory.Handle("func", gostream.Consume(func(context.Context, gostream.Message[func()]) error { return nil }))
			r.onMemory.Handle("reply-func", gostream.Reply(func(context.Context, string) (func(), error) { return nil, nil }).ToReplyTo())
			r.onMemory.Handle("reply-chan", gostream.Reply(func(context.Context, chan string) (gostream.Outgoing[chan bool], error) {
				return gostream.Outgoing[chan bool]{}, nil
			}).ToReplyTo())
		}, want: []string{
			`subscription "chan": Consume: a value of type chan int cannot be a payload`,
			`subscription "func": Consume: a value of type func() cannot be a payload`,
			`subscription "reply-func": Reply: a value of type func() cannot be a payload`,
			`subscription "reply-chan": Reply: a value of type chan string cannot be a payload`,
			`subscription "reply-chan": Reply: a value of type chan bool cannot be a payload`,
		}},
		{name: "reply destination", make: func(r *checkRig) {
			r.onMemory.Handle("to-nowhere", reply())
			r.onMemory.Handle("to-both", reply().To("receipts").ToReplyTo())
			r.onMemory.Handle("to-empty", reply().To(""))
		}, want: []string{
			`subscription "to-nowhere": Reply has no destination: add .To(name) or .ToReplyTo()`,
			`subscription "to-both": Reply has both To and ToReplyTo: choose one`,
			`subscription "to-empty": Reply(…).To: the name is empty`,
		}},
		{name: "reply publisher", make: func(r *checkRig) {
			other := gostream.New("other", "1")
			other.Mount(r.memory)
			r.onMemory.Handle("via-nil", reply().To("receipts").Via(nil))
			r.onMemory.Handle("via-other-app", reply().To("receipts").Via(other.RawPublisher(r.memory)))
			r.onMemory.Handle("via-zero", reply().To("receipts").Via(new(gostream.RawPublisher)))
			r.onMemory.Handle("via-faulty", reply().To("receipts").Via(r.app.RawPublisher(&stubBroker{})))
			r.onBare.HandleSource(&checkSource{name: "via-none"}, reply().To("receipts"))
		}, want: []string{
			`subscription "via-nil": Reply(…).Via(nil): a publisher is needed`,
			`subscription "via-other-app": Reply(…).Via: the publisher is not one of this app`,
			`subscription "via-zero": Reply(…).Via: the publisher is not one of this app`,
			`subscription "via-faulty": Reply(…).Via: the publisher is not one of this app, or it is faulty`,
			`RawPublisher: its broker *gostream_test.stubBroker is not mounted: app.Mount(broker)`,
			`subscription "via-none": a reply cannot be published: *gostream_test.bareBroker has no publisher`,
		}},
	}
}

func routerMistakes() []mistake {
	const twice = " is mounted or included twice: a router has one place in an app"
	// with returns a router with a subscription, which its name is made of.
	with := func(name string) *gostream.Router {
		inner := gostream.NewRouter()
		inner.Handle(name, gostream.Consume(takeOrder))
		return inner
	}
	return []mistake{
		{name: "router with two places", make: func(r *checkRig) {
			mountedTwice := with("mounted-twice")
			r.app.Mount(r.memory, mountedTwice, mountedTwice)
			onTwoBrokers := with("on-two-brokers")
			r.app.Mount(r.memory, onTwoBrokers)
			r.app.Mount(r.stub, onTwoBrokers)
			includedTwice := with("included-twice")
			r.onMemory.Include(includedTwice, includedTwice)
			inTwoRouters := with("in-two-routers")
			r.onMemory.Include(inTwoRouters)
			r.onStub.Include(inTwoRouters)
			mountedToo := with("mounted-too")
			r.onMemory.Include(mountedToo)
			r.app.Mount(r.memory, mountedToo)
		}, want: []string{
			`router (of "mounted-twice")` + twice,
			`router (of "on-two-brokers")` + twice,
			`router (of "included-twice")` + twice,
			`router (of "in-two-routers")` + twice,
			`router (of "mounted-too")` + twice,
		}},
		{name: "router in itself", make: func(r *checkRig) {
			self := with("self")
			self.Include(self)
			outer, inner := with("outer"), with("inner")
			outer.Include(inner)
			inner.Include(outer)
			empty := gostream.NewRouter()
			empty.Include(empty)
			r.app.Mount(r.memory, self, outer, empty)
		}, want: []string{
			`router (of "self")` + twice,
			`router (of "outer")` + twice,
			`router (without subscriptions)` + twice,
		}},
		{name: "nil router", make: func(r *checkRig) {
			outer := with("outer-of-nil")
			outer.Include(nil)
			r.app.Mount(r.memory, nil, outer)
		}, want: []string{
			"Mount on *memory.Broker: a router is nil",
			`router (of "outer-of-nil"): Router.Include(nil): a router is needed`,
		}},
		{name: "nil middleware", make: func(r *checkRig) {
			inner := with("nil-middleware")
			inner.Use(nil)
			r.onMemory.Include(inner)
			r.app.Use(pass, nil)
			r.app.UsePublish(nil)
		}, want: []string{
			`router (of "nil-middleware"): Router.Use(nil): a middleware is needed`,
			"App.Use(nil): a middleware is needed",
			"App.UsePublish(nil): a middleware is needed",
		}},
		{name: "nil hook", make: func(r *checkRig) {
			r.app.OnStartup(nil)
			r.app.AfterStartup(nil)
			r.app.OnShutdown(nil)
			r.app.AfterShutdown(nil)
		}, want: []string{
			"OnStartup(nil): a function is needed", "AfterStartup(nil): a function is needed",
			"OnShutdown(nil): a function is needed", "AfterShutdown(nil): a function is needed",
		}},
		{name: "nil option", app: []gostream.AppOption{nil}, make: func(r *checkRig) {
			r.handle("nil-option", gostream.Workers(2), nil)
			inner := gostream.NewRouter(nil)
			inner.Handle("nil-router-option", gostream.Consume(takeOrder))
			r.onMemory.Include(inner)
			gostream.NewPublisher[checkOrder](r.app, r.memory, "nil-publisher-option", nil)
		}, want: []string{
			"an option is nil", // of the app
			`subscription "nil-option": an option is nil`,
			`router (of "nil-router-option"): an option is nil`,
			`NewPublisher "nil-publisher-option": an option is nil`,
		}},
		{name: "nil broker", make: func(r *checkRig) {
			r.app.Mount(nil)
			r.app.Mount((*memory.Broker)(nil), with("on-nil"))
		}, want: []string{"Mount: the broker is nil", "Mount: the broker is nil"}},
		{name: "nil source", make: func(r *checkRig) {
			r.onMemory.HandleSource(nil, nil, gostream.Workers(0))
			r.onMemory.HandleSource((*checkSource)(nil), gostream.Consume(takeOrder))
		}, want: []string{
			"a subscription on *memory.Broker: the source is nil: make it with the broker's package, or use Handle(name, …)",
			"a subscription on *memory.Broker: the handler is nil",
			"a subscription on *memory.Broker: Workers(0): at least 1 is needed",
			"a subscription on *memory.Broker: the source is nil",
		}},
		{name: "one name twice", make: func(r *checkRig) {
			r.handle("same")
			r.handle("same")
			r.onStub.Handle("same", gostream.Consume(takeOrder))
			r.handle("renamed", gostream.Named("a name"))
			r.handle("renamed-too", gostream.Named("a name"))
			r.handle("unnamed", gostream.Named(""))
		}, want: []string{
			`subscription "same": its name is taken by the subscription to "same": tell them apart with Named(…)`,
			`subscription "same": its name is taken by the subscription to "same": tell them apart with Named(…)`,
			`subscription "a name": its name is taken by the subscription to "renamed": tell them apart with Named(…)`,
			`subscription "": Named(""): the name is empty`,
		}},
		{name: "source of another broker", make: func(r *checkRig) {
			r.onStub.HandleSource(memory.Queue("queue-on-stub", "group"), gostream.Consume(takeOrder))
			r.onStub.HandleSource(memory.Pattern("pattern-on-stub.*"), gostream.Consume(takeOrder))
			r.onBare.Handle("name-on-bare", gostream.Consume(takeOrder))
		}, want: []string{
			`memory.Queue("queue-on-stub", "group") cannot subscribe on *gostream_test.stubBroker: it needs a *memory.Broker`,
			`memory.Pattern("pattern-on-stub.*") cannot subscribe on *gostream_test.stubBroker: it needs a *memory.Broker`,
			`"name-on-bare" is a subscription by name, and *gostream_test.bareBroker does not subscribe by name: use a source of that broker`,
		}},
		{name: "broker with mistakes", make: func(r *checkRig) {
			r.app.Mount(&faultyBroker{r.bare, errors.Join(errors.New("no address"), errors.New("no user"))})
			r.app.Mount(memory.New(memory.Capacity(0)))
		}, want: []string{
			"*gostream_test.faultyBroker: no address",
			"*gostream_test.faultyBroker: no user",
			"*memory.Broker: memory: check: invalid: memory.Capacity(0): a queue must hold at least one message",
		}},
	}
}

func optionMistakes() []mistake {
	return []mistake{
		{name: "numbers below 1", make: func(r *checkRig) {
			r.handle("no-workers", gostream.Workers(0))
			r.handle("negative-workers", gostream.Workers(-1))
			r.handle("none-in-flight", gostream.MaxInFlight(0))
			r.handle("negative-in-flight", gostream.MaxInFlight(-1))
			r.handle("no-time", gostream.Timeout(0))
			r.handle("negative-time", gostream.Timeout(-time.Second))
		}, want: []string{
			`subscription "no-workers": Workers(0): at least 1 is needed`,
			`subscription "negative-workers": Workers(-1): at least 1 is needed`,
			`subscription "none-in-flight": MaxInFlight(0): at least 1 is needed`,
			`subscription "negative-in-flight": MaxInFlight(-1): at least 1 is needed`,
			`subscription "no-time": Timeout(0s): it must be positive; leave it out for none`,
			`subscription "negative-time": Timeout(-1s): it must be positive; leave it out for none`,
		}},
		{name: "above the limit", make: func(r *checkRig) {
			limited := func(name string) memory.QueueSource { return memory.Queue(name, "group").Limit(8) }
			consume := gostream.Consume(takeOrder)
			r.onMemory.HandleSource(limited("workers-above"), consume, gostream.Workers(9))
			r.onMemory.HandleSource(limited("in-flight-above"), consume, gostream.MaxInFlight(9))
			r.onMemory.HandleSource(limited("both-above"), consume, gostream.Workers(9), gostream.MaxInFlight(10))
			r.onMemory.HandleSource(limited("no-limit").Limit(0), consume)
			inner := gostream.NewRouter(gostream.Workers(9))
			inner.HandleSource(limited("default-workers-above"), consume)
			outer := gostream.NewRouter(gostream.MaxInFlight(10))
			outer.HandleSource(limited("default-in-flight-above"), consume)
			outer.Include(inner)
			r.onMemory.Include(outer)
		}, want: []string{
			`subscription "workers-above": Workers(9) is above the source's limit of 8 unsettled messages`,
			`subscription "in-flight-above": MaxInFlight(9) is above the source's limit of 8 unsettled messages`,
			`subscription "both-above": Workers(9) is above the source's limit of 8 unsettled messages`,
			`subscription "both-above": MaxInFlight(10) is above the source's limit of 8 unsettled messages`,
			`memory.Queue("no-limit", "group"): the limit is 0: at least one delivery must be allowed to be unsettled`,
			`subscription "default-workers-above": Workers(9) is above the source's limit of 8 unsettled messages`,
			`subscription "default-workers-above": MaxInFlight(10) is above the source's limit of 8 unsettled messages`,
			`subscription "default-in-flight-above": MaxInFlight(10) is above the source's limit of 8 unsettled messages`,
		}},
		{name: "in flight below the workers", make: func(r *checkRig) {
			r.handle("idle-workers", gostream.Workers(4), gostream.MaxInFlight(3))
		}, want: []string{
			`subscription "idle-workers": MaxInFlight(3) is below Workers(4): some workers would never work`,
		}},
		{name: "batches and keys", make: func(r *checkRig) {
			settle := func(context.Context, []checkOrder) error { return nil }
			limited := func(name string) memory.QueueSource { return memory.Queue(name, "group").Limit(8) }
			r.onMemory.Handle("batch-of-none", gostream.ConsumeBatch(settle, 0, -time.Second))
			r.onMemory.Handle("batch-by-key", gostream.ConsumeBatch(settle, 8, 0), gostream.ByKey())
			r.onMemory.Handle("never-full", gostream.ConsumeBatch(settle, 8, 0), gostream.MaxInFlight(7))
			r.onMemory.HandleSource(limited("batch-above"), gostream.ConsumeBatch(settle, 9, 0))
			r.onStub.Handle("without-keys", gostream.Consume(takeOrder), gostream.ByKey())
		}, want: []string{
			`subscription "batch-of-none": ConsumeBatch: a batch of at most 0 messages: at least 1 is needed`,
			`subscription "batch-of-none": ConsumeBatch: the wait -1s must not be negative`,
			`subscription "batch-by-key": ByKey does not apply to a consume batch handler: handle single messages, or leave it out`,
			`subscription "never-full": MaxInFlight(7) is below the batch's size of 8: no batch would ever be full`,
			`subscription "batch-above": a batch of 9 is above the source's limit of 8 unsettled messages`,
			`subscription "without-keys": ByKey needs partition keys, and this source of *gostream_test.stubBroker has none`,
		}},
		{name: "unknown policies", make: func(r *checkRig) {
			r.handle("unknown-policies", gostream.OnPanic(7), gostream.OnUndecodable(8), gostream.OnSubscriptionLost(-1))
		}, want: []string{
			`subscription "unknown-policies": OnPanic(7): unknown policy`,
			`subscription "unknown-policies": OnUndecodable(8): unknown policy`,
			`subscription "unknown-policies": OnSubscriptionLost(-1): unknown policy`,
		}},
		{name: "nil codec", make: func(r *checkRig) {
			r.handle("nil-codec", gostream.WithCodec(nil), gostream.Codecs(gostream.JSON, (*codecPointer)(nil)))
			gostream.NewPublisher[checkOrder](r.app, r.memory, "nil-codec-publisher", gostream.WithCodec(nil))
		}, want: []string{
			`subscription "nil-codec": WithCodec(nil): a codec is needed`,
			`subscription "nil-codec": Codecs(nil): a codec is needed`,
			`NewPublisher "nil-codec-publisher": WithCodec(nil): a codec is needed`,
		}},
		{name: "option that does nothing", make: func(r *checkRig) {
			all := []gostream.HandleOption{
				gostream.WithCodec(gostream.JSON), gostream.Codecs(gostream.JSON), gostream.OnUndecodable(gostream.UndecodableReject),
			}
			r.onMemory.Handle("idle-at-raw", gostream.Raw(takeDelivery), all...)
			r.onMemory.Handle("idle-at-bytes", gostream.Consume(takeBytes), all...)
			r.onMemory.Handle("idle-at-text", gostream.Consume(takeText), all...)
			r.onMemory.Handle("idle-at-reply", gostream.Reply(answerBytes).ToReplyTo(), all...)
			// It encodes, so that only what concerns decoding is idle.
			r.onMemory.Handle("half-idle", gostream.Reply(func(context.Context, string) (checkReceipt, error) { return checkReceipt{}, nil }).ToReplyTo(), all...)
		}, want: []string{
			`subscription "idle-at-raw": WithCodec does nothing here: the raw handler takes and makes raw payloads`,
			`subscription "idle-at-raw": Codecs does nothing here: the raw handler takes raw payloads`,
			`subscription "idle-at-raw": OnUndecodable does nothing here: the raw handler takes raw payloads`,
			`subscription "idle-at-bytes": WithCodec does nothing here: the consume handler`,
			`subscription "idle-at-bytes": Codecs does nothing here: the consume handler`,
			`subscription "idle-at-bytes": OnUndecodable does nothing here: the consume handler`,
			`subscription "idle-at-text": WithCodec does nothing here: the consume handler`,
			`subscription "idle-at-text": Codecs does nothing here: the consume handler`,
			`subscription "idle-at-text": OnUndecodable does nothing here: the consume handler`,
			`subscription "idle-at-reply": WithCodec does nothing here: the reply handler`,
			`subscription "idle-at-reply": Codecs does nothing here: the reply handler`,
			`subscription "idle-at-reply": OnUndecodable does nothing here: the reply handler`,
			`subscription "half-idle": Codecs does nothing here: the reply handler takes raw payloads`,
			`subscription "half-idle": OnUndecodable does nothing here: the reply handler takes raw payloads`,
		}},
		{name: "option of a router", make: func(r *checkRig) {
			inner := gostream.NewRouter(gostream.Workers(0), gostream.DeadLetterTo(""), gostream.OnError())
			inner.Handle("of-faulty-router", gostream.Consume(takeOrder))
			r.onMemory.Include(inner)
		}, want: []string{
			`router (of "of-faulty-router"): Workers(0): at least 1 is needed`,
			`router (of "of-faulty-router"): DeadLetterTo(""): the name is empty`,
			`router (of "of-faulty-router"): OnError(): at least one rule is needed`,
		}},
		{
			name: "option of the app",
			app:  []gostream.AppOption{gostream.WithLogger(nil), gostream.ShutdownTimeout(0), gostream.Workers(-2), gostream.OnError(nil)},
			make: func(*checkRig) {},
			want: []string{
				"app: WithLogger(nil): a logger is needed; leave the option out for slog.Default",
				"app: ShutdownTimeout(0s): it must be positive",
				"app: Workers(-2): at least 1 is needed",
				"app: OnError(nil): begin a rule with Is, As or AnyError",
			},
		},
	}
}

// codecPointer is a codec that can be a nil pointer.
type codecPointer struct{ checkCodec }

func policyMistakes() []mistake {
	const buffers = " goes through a publisher that only buffers: a crash would lose it after the message was acknowledged; use a source with a matching publisher, or accept it with AllowLoss()"
	once := gostream.Constant(time.Second)
	rules := func(rules ...gostream.PolicyRule) gostream.Option { return gostream.OnError(rules...) }
	anyError := gostream.AnyError()
	return []mistake{
		{name: "attempts with nothing after them", make: func(r *checkRig) {
			r.handle("attempts-alone", rules(anyError.Retry(once.Attempts(3))))
			inner := gostream.NewRouter(gostream.DeadLetterTo("dead"))
			inner.Handle("attempts-without", gostream.Consume(takeOrder), gostream.NoDeadLetter(), rules(anyError.Retry(once.Attempts(5))))
			r.onMemory.Include(inner)
			r.handle("attempts-twice", rules(gostream.Is(context.Canceled).Retry(once.Attempts(3)), anyError.Retry(once.Attempts(4))))
		}, want: []string{
			`subscription "attempts-alone": rule "any error": Attempts(3) has nothing after it: add ThenDeadLetterTo, ThenReject, ThenIgnore or ThenFailFast, or declare DeadLetterTo`,
			`subscription "attempts-without": rule "any error": Attempts(5) has nothing after it`,
			`subscription "attempts-twice": rule "error is \"context canceled\"": Attempts(3) has nothing after it`,
			`subscription "attempts-twice": rule "any error": Attempts(4) has nothing after it`,
		}},
		{name: "something after retries without end", make: func(r *checkRig) {
			r.handle("then-dead", rules(anyError.Retry(once).ThenDeadLetterTo("dead")))
			r.handle("then-reject", rules(anyError.Retry(once).ThenReject()))
			r.handle("then-ignore", rules(anyError.Retry(once).ThenIgnore()))
			r.handle("then-fail", rules(anyError.Retry(once).ThenFailFast()))
		}, want: []string{
			`subscription "then-dead": dead letter after retries without end can never happen: add Attempts(n) to the backoff`,
			`subscription "then-reject": reject after retries without end can never happen: add Attempts(n) to the backoff`,
			`subscription "then-ignore": ignore after retries without end can never happen: add Attempts(n) to the backoff`,
			`subscription "then-fail": fail fast after retries without end can never happen: add Attempts(n) to the backoff`,
		}},
		{name: "rules", make: func(r *checkRig) {
			r.handle("no-rules", rules())
			r.handle("nil-rule", rules(nil))
			r.handle("zero-rules", rules(gostream.Rule{}, gostream.RetryRule{}))
			r.handle("is-nil", rules(gostream.Is(nil).Reject()))
			r.handle("is-nothing", rules(gostream.Is().Reject()))
			r.handle("bad-backoff", rules(anyError.Retry(gostream.Constant(-1).Attempts(0)).ThenReject()))
			r.handle("zero-backoff", rules(anyError.Retry(gostream.Backoff{})))
		}, want: []string{
			`subscription "no-rules": OnError(): at least one rule is needed`,
			`subscription "nil-rule": OnError(nil): begin a rule with Is, As or AnyError`,
			`subscription "zero-rules": an empty rule: begin it with Is, As or AnyError`,
			`subscription "zero-rules": an empty rule: begin it with Is, As or AnyError`,
			`subscription "is-nil": Is(nil): an error to look for is needed`,
			`subscription "is-nothing": Is(nil): an error to look for is needed`,
			`subscription "zero-backoff": an empty Backoff: make it with Exponential, Constant or Steps`,
			`subscription "bad-backoff": Constant(-1ns): the delay must not be negative`,
			`subscription "bad-backoff": Attempts(0): at least 1 is needed; leave it out for retries without end`,
		}},
		{name: "schedule of its own", make: func(r *checkRig) {
			r.handle("own-attempts", gostream.RetryBackoff(once.Attempts(3)))
			r.handle("own-faulty", gostream.RetryBackoff(gostream.Steps(-1, -2)))
			r.handle("own-zero", gostream.RetryBackoff(gostream.Backoff{}))
		}, want: []string{
			`subscription "own-attempts": RetryBackoff: Attempts(3) has nothing after it: declare DeadLetterTo`,
			`subscription "own-faulty": Steps: the delay -1ns must not be negative`,
			`subscription "own-faulty": Steps: the delay -2ns must not be negative`,
			`subscription "own-zero": an empty Backoff: make it with Exponential, Constant or Steps`,
		}},
		{name: "dead letter without a name", make: func(r *checkRig) {
			r.handle("dead-empty", gostream.DeadLetterTo(""))
			r.handle("rule-dead-empty", rules(anyError.DeadLetterTo("")))
			r.handle("then-dead-empty", rules(anyError.Retry(once.Attempts(2)).ThenDeadLetterTo("")))
		}, want: []string{
			`subscription "dead-empty": DeadLetterTo(""): the name is empty`,
			`subscription "rule-dead-empty": rule "any error": the dead letter has no name`,
			`subscription "then-dead-empty": rule "any error": the dead letter has no name`,
		}},
		{name: "dead letter onto itself", make: func(r *checkRig) {
			r.handle("loop", gostream.DeadLetterTo("loop"))
			r.onMemory.HandleSource(memory.Pattern("loops.>"), gostream.Consume(takeOrder), gostream.DeadLetterTo("loops.dead"))
			r.onMemory.HandleSource(memory.Queue("circles.*", "group"), gostream.Consume(takeOrder), rules(
				gostream.Is(context.Canceled).DeadLetterTo("circles.canceled"),
				anyError.Retry(once.Attempts(2)).ThenDeadLetterTo("circles.failed"),
			))
			r.onStub.Handle("stub-loop", gostream.Consume(takeOrder), gostream.DeadLetterTo("stub-loop"))
		}, want: []string{
			`subscription "loop": dead letter "loop" comes back to the subscription itself: choose a name that it does not receive`,
			`subscription "loops.>": dead letter "loops.dead" comes back to the subscription itself`,
			`subscription "circles.*": dead letter "circles.canceled" comes back to the subscription itself`,
			`subscription "circles.*": dead letter "circles.failed" comes back to the subscription itself`,
			`subscription "stub-loop": dead letter "stub-loop" comes back to the subscription itself`,
		}},
		{name: "dead letter without a publisher", make: func(r *checkRig) {
			r.onBare.HandleSource(&checkSource{name: "dead-none"}, gostream.Consume(takeOrder), gostream.DeadLetterTo("dead"))
		}, want: []string{
			`subscription "dead-none": a dead letter cannot be published: *gostream_test.bareBroker has no publisher`,
		}},
		{name: "publisher that only buffers", make: func(r *checkRig) {
			buffering := &stubBroker{
				properties: broker.Properties{Redelivers: true, BuffersPublishes: true},
				connect:    r.stub.connect, publish: r.stub.publish,
			}
			inner := gostream.NewRouter()
			inner.Handle("buffered", gostream.Reply(answer).To("receipts"), gostream.DeadLetterTo("dead"))
			inner.HandleSource(&checkSource{
				name: "buffered-too", publisher: stubPublisher{buffering},
				properties: broker.Properties{Redelivers: true, BuffersPublishes: true},
			}, gostream.Consume(takeOrder), gostream.DeadLetterTo("dead"))
			inner.HandleSource(&checkSource{name: "no-matching-one", properties: broker.Properties{Redelivers: true}},
				gostream.Consume(takeOrder), gostream.DeadLetterTo("dead"))
			r.app.Mount(buffering, inner)
			r.onMemory.Handle("via-buffered", gostream.Reply(answer).To("receipts").Via(r.app.RawPublisher(buffering)))
		}, want: []string{
			`subscription "buffered": a reply` + buffers,
			`subscription "buffered": a dead letter` + buffers,
			`subscription "buffered-too": a dead letter` + buffers,
			`subscription "no-matching-one": a dead letter` + buffers,
			`subscription "via-buffered": a reply` + buffers,
		}},
	}
}

// badNames are names that the memory broker takes nowhere, and why.
var badNames = []struct{ name, why string }{
	{"white space", "the name has white space or a control character"},
	{"line\nfeed", "the name has white space or a control character"},
	{"null\x00", "the name has white space or a control character"},
	{"wild.*", "the name has a wildcard character, '*' or '>': to subscribe by pattern use memory.Pattern or memory.Queue"},
	{"wild.>", "the name has a wildcard character, '*' or '>': to subscribe by pattern use memory.Pattern or memory.Queue"},
	{"empty..token", "the name has an empty token"},
	{"invalid\xff", "the name is not valid UTF-8"},
	{strings.Repeat("long", 16<<10), "the name is longer than 1024 bytes"},
}

func nameMistakes() []mistake {
	all := []mistake{{name: "empty name", make: func(r *checkRig) {
		r.handle("", gostream.Named("empty"))
		r.onMemory.HandleSource(memory.Queue("", ""), gostream.Consume(takeOrder), gostream.Named("empty-source"))
		gostream.NewPublisher[checkOrder](r.app, r.memory, "")
		gostream.NewRequester[checkOrder, checkReceipt](r.app, nil, "")
	}, want: []string{
		`subscription "empty": invalid: a subscription by name has an empty name`,
		`subscription "empty-source": memory: check: invalid: memory.Queue("", ""): the group is empty`,
		"the name is empty", // the same broker's second mistake, on a line of its own
		"NewPublisher: the name is empty",
		"NewRequester: the name is empty",
		"NewRequester: the broker is nil",
	}}}
	for i, bad := range badNames {
		// The identities are good, so that they tell which line is whose.
		named := func(what string) string { return fmt.Sprintf("%s-%d", what, i) }
		name, quoted := bad.name, broker.Quote(bad.name)
		all = append(all, mistake{name: quoted, make: func(r *checkRig) {
			r.handle(name, gostream.Named(named("name")))
			r.onMemory.Handle(named("reply"), gostream.Reply(answer).To(name))
			r.onMemory.Handle(named("reply-via"), gostream.Reply(answer).To(name).Via(r.app.RawPublisher(r.memory)))
			r.handle(named("dead"), gostream.DeadLetterTo(name), gostream.OnError(gostream.AnyError().DeadLetterTo(named("rule-dead"))))
			r.handle(named("rule"), gostream.OnError(gostream.AnyError().DeadLetterTo(name)))
			gostream.NewPublisher[checkOrder](r.app, r.memory, name)
			gostream.NewRequester[checkOrder, checkReceipt](r.app, r.memory, name)
		}, want: []string{
			fmt.Sprintf(`subscription "%s": memory: subscribe %s: invalid: %s`, named("name"), quoted, bad.why),
			fmt.Sprintf(`subscription "%s": reply: memory: publish %s: invalid: %s`, named("reply"), quoted, bad.why),
			fmt.Sprintf(`subscription "%s": reply: memory: publish %s: invalid: %s`, named("reply-via"), quoted, bad.why),
			fmt.Sprintf(`subscription "%s": dead letter: memory: publish %s: invalid: %s`, named("dead"), quoted, bad.why),
			fmt.Sprintf(`subscription "%s": dead letter: memory: publish %s: invalid: %s`, named("rule"), quoted, bad.why),
			fmt.Sprintf(`NewPublisher %s: memory: publish %s: invalid: %s`, quoted, quoted, bad.why),
			fmt.Sprintf(`NewRequester %s: memory: publish %s: invalid: %s`, quoted, quoted, bad.why),
		}})
	}
	return all
}

func publisherMistakes() []mistake {
	return []mistake{
		{name: "publisher's broker", make: func(r *checkRig) {
			gostream.NewPublisher[checkOrder](r.app, nil, "on-nil")
			gostream.NewPublisher[checkOrder](r.app, (*memory.Broker)(nil), "on-typed-nil")
			gostream.NewPublisher[checkOrder](r.app, memory.New(), "on-unmounted")
			gostream.NewPublisher[checkOrder](r.app, r.bare, "on-bare")
			gostream.NewRequester[checkOrder, checkReceipt](r.app, r.stub, "asks-stub")
			r.app.RawPublisher(nil)
			r.app.RawPublisher(r.bare)
		}, want: []string{
			`NewPublisher "on-nil": the broker is nil`,
			`NewPublisher "on-typed-nil": the broker is nil`,
			`NewPublisher "on-unmounted": its broker *memory.Broker is not mounted: app.Mount(broker)`,
			`NewPublisher "on-bare": *gostream_test.bareBroker has no default publisher`,
			`NewRequester "asks-stub": *gostream_test.stubBroker has no request-reply`,
			"RawPublisher: the broker is nil",
			"RawPublisher: *gostream_test.bareBroker has no default publisher",
		}},
		{name: "publisher's type", make: func(r *checkRig) {
			gostream.NewPublisher[chan int](r.app, r.memory, "sends-chan")
			gostream.NewPublisher[gostream.Outgoing[func()]](r.app, r.memory, "sends-func")
			gostream.NewRequester[func(), chan int](r.app, r.memory, "asks-both")
		}, want: []string{
			`NewPublisher "sends-chan": a value of type chan int cannot be a payload`,
			`NewPublisher "sends-func": a value of type func() cannot be a payload`,
			`NewRequester "asks-both": a value of type func() cannot be a payload`,
			`NewRequester "asks-both": a value of type chan int cannot be a payload`,
		}},
	}
}

// Each mistake alone is found, said once, and nothing else is said.
func TestCheckFindsMistakes(t *testing.T) {
	t.Parallel()
	for _, m := range mistakes() {
		t.Run(strings.ToValidUTF8(m.name, "?"), func(t *testing.T) {
			t.Parallel()
			r := newCheckRig(t, "shop", m.app...)
			m.make(r)
			wantLines(t, r.check(), m.want)
		})
	}
}

// All of them made together are found together.
func TestCheckFindsEverythingAtOnce(t *testing.T) {
	t.Parallel()
	all := mistakes()
	var opts []gostream.AppOption
	want := []string{"New: the app's name is empty"}
	for _, m := range all {
		opts = append(opts, m.app...)
		want = append(want, m.want...)
	}
	r := newCheckRig(t, "", opts...)
	for _, m := range all {
		m.make(r)
	}
	err := r.check()
	wantLines(t, err, want)
	if !errors.Is(err, broker.ErrInvalid) {
		t.Error("the joined error does not unwrap to the errors of the brokers")
	}
}

func TestCheckNoBroker(t *testing.T) {
	t.Parallel()
	const noBroker = "no broker is mounted: app.Mount(broker, routers…)"
	app := gostream.New("shop", "1.0.0")
	wantLines(t, app.Check(), []string{noBroker})
	app.Mount(nil)
	wantLines(t, app.Check(), []string{noBroker, "Mount: the broker is nil"})
	if _, err := app.Describe(); err == nil || err.Error() != app.Check().Error() {
		t.Errorf("Describe answers %v", err)
	}
}

// A name of 64 KiB, full of what quoting makes longer, does not spoil the error.
func TestCheckErrorIsBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("\x01", 64<<10)
	r := newCheckRig(t, long)
	inner := gostream.NewRouter(nil)
	inner.Handle(long, nil, gostream.DeadLetterTo(long))
	inner.Handle(long, gostream.Reply(answer).To(long), gostream.Workers(0))
	inner.HandleSource(memory.Queue(long, long).Limit(0), gostream.Reply(answer), gostream.Named(long))
	inner.HandleSource(&checkSource{name: long}, gostream.Consume(takeOrder), gostream.DeadLetterTo(long), gostream.Named(long+long))
	inner.Handle("rule", gostream.Consume(takeOrder), gostream.OnError(
		gostream.Is(errors.New(long)).Retry(gostream.Constant(1).Attempts(2)),
		gostream.Is(errors.New(long)).DeadLetterTo(""),
	))
	inner.Include(inner)
	r.app.Mount(r.memory, inner)
	r.onStub.HandleSource(memory.Pattern(long), gostream.Consume(takeOrder), gostream.Named("wrong broker"))
	gostream.NewPublisher[checkOrder](r.app, r.memory, long)
	gostream.NewRequester[checkOrder, checkReceipt](r.app, nil, long)
	err := r.check()
	if err == nil {
		t.Fatal("no error")
	}
	const most = 4 << 10
	for line := range strings.Lines(err.Error()) {
		if len(line) > most {
			t.Errorf("a line has %d bytes: %.200s", len(line), line)
		}
	}
	if n := strings.Count(err.Error(), "\n"); n < 15 {
		t.Errorf("only %d lines:\n%v", n, err)
	}
}

// What heals the mistakes, and what only looks like one.
func TestCheckSound(t *testing.T) {
	t.Parallel()
	attempts := gostream.AnyError().Retry(gostream.Constant(time.Second).Attempts(3))
	consume := gostream.Consume(takeOrder)
	for _, tt := range []struct {
		name string
		make func(r *checkRig)
		app  []gostream.AppOption
	}{
		{name: "nothing at all", make: func(*checkRig) {}},
		{name: "one source twice, one of them named", make: func(r *checkRig) {
			r.handle("orders")
			r.handle("orders", gostream.Named("orders-again"))
			r.onStub.Handle("orders", consume, gostream.Named("orders on the stub"))
		}},
		{name: "a broker mounted twice", make: func(r *checkRig) {
			again := gostream.NewRouter()
			again.Handle("again", consume)
			r.app.Mount(r.memory, again)
			r.app.Mount(r.memory)
			r.app.RawPublisher(r.memory)
		}},
		{name: "wildcards in sources that have them", make: func(r *checkRig) {
			r.onMemory.HandleSource(memory.Queue("orders.*", "group"), consume, gostream.DeadLetterTo("orders.eu.dead"))
			r.onMemory.HandleSource(memory.Pattern("payments.>"), consume, gostream.DeadLetterTo("payments"))
		}},
		{name: "a name that its broker says nothing against", make: func(r *checkRig) {
			r.onStub.Handle("white space.*", consume, gostream.DeadLetterTo("more white\nspace"))
			gostream.NewPublisher[checkOrder](r.app, r.stub, "white space.*")
		}},
		{name: "all of the limit", make: func(r *checkRig) {
			r.onMemory.HandleSource(memory.Queue("a", "group").Limit(8), consume, gostream.Workers(8))
			r.onMemory.HandleSource(memory.Queue("b", "group").Limit(8), consume, gostream.Workers(8), gostream.MaxInFlight(8))
			r.onMemory.HandleSource(memory.Queue("c", "group").Limit(1), consume)
			r.onStub.Handle("d", consume, gostream.Workers(1000), gostream.MaxInFlight(1000)) // no limit is known
		}},
		{name: "decoding options as a router's defaults", make: func(r *checkRig) {
			inner := gostream.NewRouter(gostream.WithCodec(gostream.JSON), gostream.Codecs(gostream.JSON), gostream.OnUndecodable(gostream.UndecodableReject))
			inner.Handle("raw", gostream.Raw(takeDelivery))
			inner.Handle("bytes", gostream.Consume(takeBytes))
			inner.Handle("text", gostream.Consume(takeText))
			inner.Handle("reply", gostream.Reply(answerBytes).ToReplyTo())
			r.onMemory.Include(inner)
		}},
		{
			name: "decoding options as the app's defaults",
			app:  []gostream.AppOption{gostream.WithCodec(gostream.JSON), gostream.Codecs(gostream.JSON), gostream.OnUndecodable(gostream.UndecodableReject)},
			make: func(r *checkRig) {
				r.onMemory.Handle("raw", gostream.Raw(takeDelivery))
				gostream.NewPublisher[[]byte](r.app, r.memory, "bytes")
			},
		},
		{name: "a codec for the reply alone, and for the payload alone", make: func(r *checkRig) {
			r.onMemory.Handle("out", gostream.Reply(func(context.Context, []byte) (checkReceipt, error) { return checkReceipt{}, nil }).ToReplyTo(), gostream.WithCodec(gostream.JSON))
			r.onMemory.Handle("in", gostream.Reply(func(context.Context, checkOrder) ([]byte, error) { return nil, nil }).ToReplyTo(), gostream.WithCodec(gostream.JSON), gostream.Codecs(gostream.JSON))
			gostream.NewRequester[[]byte, checkReceipt](r.app, r.memory, "asks", gostream.WithCodec(gostream.JSON), gostream.Codecs(gostream.JSON))
		}},
		{name: "attempts with a dead letter", make: func(r *checkRig) {
			r.handle("own", gostream.OnError(attempts), gostream.DeadLetterTo("dead"))
			inner := gostream.NewRouter(gostream.DeadLetterTo("dead"))
			inner.Handle("routers", consume, gostream.OnError(attempts))
			r.onMemory.Include(inner)
		}},
		{name: "attempts with a dead letter of the app", app: []gostream.AppOption{gostream.DeadLetterTo("dead")}, make: func(r *checkRig) {
			r.handle("apps", gostream.OnError(attempts))
		}},
		{name: "attempts with something after them", make: func(r *checkRig) {
			r.handle("then-dead", gostream.OnError(attempts.ThenDeadLetterTo("dead")))
			r.handle("then-reject", gostream.OnError(attempts.ThenReject()))
			r.handle("then-ignore", gostream.OnError(attempts.ThenIgnore()))
			r.handle("then-fail", gostream.OnError(attempts.ThenFailFast()))
		}},
		{name: "own attempts with a dead letter", make: func(r *checkRig) {
			r.handle("orders", gostream.RetryBackoff(gostream.Constant(time.Second).Attempts(3)), gostream.DeadLetterTo("dead"))
		}},
		{name: "retries without end", make: func(r *checkRig) {
			r.handle("endless", gostream.OnError(gostream.AnyError().Retry(gostream.Constant(time.Second))))
		}},
		{name: "via a publisher of this app", make: func(r *checkRig) {
			r.onMemory.Handle("across", gostream.Reply(answer).To("receipts").Via(r.app.RawPublisher(r.stub)))
			r.onBare.HandleSource(&checkSource{name: "from-bare"}, gostream.Reply(answer).To("receipts").Via(r.app.RawPublisher(r.memory)))
		}},
		{name: "a publisher that only buffers", make: func(r *checkRig) {
			mayLose := &stubBroker{properties: broker.Properties{BuffersPublishes: true}, connect: r.stub.connect, publish: r.stub.publish}
			r.app.Mount(mayLose, gostream.NewRouter())
			// Accepted, by the subscription and by a router.
			redelivers := broker.Properties{Redelivers: true}
			reply := gostream.Reply(answer).To("receipts")
			accepting := gostream.NewRouter(gostream.AllowLoss())
			accepting.HandleSource(&checkSource{name: "b", properties: redelivers}, reply, gostream.DeadLetterTo("dead"))
			accepting.Handle("c", reply)
			onMayLose := gostream.NewRouter()
			onMayLose.HandleSource(&checkSource{name: "a", properties: redelivers}, reply, gostream.DeadLetterTo("dead"), gostream.AllowLoss())
			// Nothing comes again anyway.
			onMayLose.Handle("d", reply, gostream.DeadLetterTo("dead"))
			// The source has a publisher that waits.
			onMayLose.HandleSource(&checkSource{name: "e", properties: redelivers, publisher: stubPublisher{r.stub}}, reply, gostream.DeadLetterTo("dead"))
			// Nothing is published.
			onMayLose.HandleSource(&checkSource{name: "f", properties: redelivers}, consume)
			onMayLose.Include(accepting)
			r.app.Mount(mayLose, onMayLose)
			r.onMemory.Handle("via", reply.Via(r.app.RawPublisher(mayLose)), gostream.AllowLoss())
		}},
		{name: "payload types", make: func(r *checkRig) {
			r.onMemory.Handle("message", gostream.Consume(func(context.Context, gostream.Message[[]byte]) error { return nil }))
			r.onMemory.Handle("outgoing", gostream.Reply(func(context.Context, map[string]any) (gostream.Outgoing[*checkReceipt], error) {
				return gostream.Outgoing[*checkReceipt]{}, nil
			}).ToReplyTo())
			r.onMemory.Handle("any", gostream.Consume(func(context.Context, any) error { return nil }))
			gostream.NewPublisher[gostream.Outgoing[string]](r.app, r.memory, "sends")
			gostream.NewRequester[any, gostream.Message[checkReceipt]](r.app, r.memory, "asks")
		}},
		{name: "a broker that has nothing to say against itself", make: func(r *checkRig) {
			r.app.Mount(&faultyBroker{bareBroker: r.bare})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newCheckRig(t, "shop", tt.app...)
			tt.make(r)
			if err := r.check(); err != nil {
				t.Error(err)
			}
		})
	}
}

// identity is what a description says of a subscription.
type identity struct{ name, source, group, broker string }

func TestDescribe(t *testing.T) {
	t.Parallel()
	errClosedShop := errors.New("the shop is closed")
	r := newCheckRig(t, "shop", gostream.WithCodec(checkCodec("application/shop")), gostream.Timeout(30*time.Second))
	bindings := map[string]any{"stub": "binding"}
	properties := broker.Properties{Redelivers: true, Ordered: true}

	r.onMemory.Handle("batches", gostream.ReplyBatch(func(context.Context, []checkOrder) ([]checkReceipt, error) { return nil, nil }, 20, time.Minute).To("receipts").Transactional())
	r.onMemory.Handle("keys", gostream.Consume(takeText), gostream.ByKey())

	inner := gostream.NewRouter(gostream.Codecs(checkCodec("text/csv")), gostream.DeadLetterTo("dead"))
	inner.Handle("orders", gostream.Reply(answer).To("receipts"),
		gostream.Workers(32), gostream.Timeout(time.Second), gostream.Codecs(checkCodec("Application/XML; v=1")),
		gostream.OnError(gostream.Is(errClosedShop).Retry(gostream.Constant(time.Minute).Attempts(9)).ThenDeadLetterTo("closed")))
	inner.HandleSource(memory.Queue("audit.*", "auditors").Limit(10), gostream.Raw(takeDelivery), gostream.Named("audit"))
	r.onMemory.Include(inner)
	r.onStub.Handle("prices", gostream.Reply(func(context.Context, gostream.Message[string]) (gostream.Outgoing[checkReceipt], error) {
		return gostream.Outgoing[checkReceipt]{}, nil
	}).ToReplyTo(), gostream.Workers(2), gostream.MaxInFlight(3))
	r.onBare.HandleSource(&checkSource{name: "events", properties: properties, bindings: bindings},
		gostream.Consume(takeOrder), gostream.WithCodec(gostream.JSON))

	gostream.NewPublisher[checkOrder](r.app, r.memory, "sends-order")
	gostream.NewPublisher[gostream.Outgoing[[]byte]](r.app, r.stub, "sends-bytes")
	r.app.RawPublisher(r.memory)
	gostream.NewRequester[checkOrder, gostream.Message[checkReceipt]](r.app, r.memory, "asks", gostream.WithCodec(gostream.JSON))

	d, err := r.app.Describe()
	if err != nil {
		t.Fatal(err)
	}
	if d.Name != "shop" || d.Version != "1.0.0" {
		t.Errorf("the app is %q, version %q", d.Name, d.Version)
	}
	brokers := []gostream.BrokerDescription{
		{Broker: r.memory, Kind: "memory", Server: r.memory.DescribeServer(), Properties: r.memory.Properties()},
		{Broker: r.stub, Kind: "*gostream_test.stubBroker", Properties: r.stub.properties},
		{Broker: r.bare, Kind: "*gostream_test.bareBroker"},
	}
	if !reflect.DeepEqual(d.Brokers, brokers) {
		t.Errorf("brokers\n%+v\nwant\n%+v", d.Brokers, brokers)
	}

	queue := memory.Queue("audit.*", "auditors").Spec()
	endless := []string{
		"undecodable: kept, tried again every 1m0s",
		"any other error: retry after 200ms, doubled up to 1m0s, plus up to 20%, without end (no dead letter is declared)",
	}
	const retried = "retry after 200ms, doubled up to 1m0s, plus up to 20%, "
	wantSubscriptions(t, d.Subscriptions, []identity{
		{"batches", "batches", "", "memory"},
		{"keys", "keys", "", "memory"},
		{"orders", "orders", "", "memory"},
		{"audit", "audit.*", "auditors", "memory"},
		{"prices", "prices", "", "*gostream_test.stubBroker"},
		{"events", "events", "", "*gostream_test.bareBroker"},
	}, []gostream.SubscriptionDescription{
		{
			Broker: 0, Handler: "reply batch",
			Payload: reflect.TypeFor[checkOrder](), Reply: reflect.TypeFor[checkReceipt](), ReplyTo: "receipts",
			ContentTypes: []string{"application/shop"},
			Workers:      1, MaxInFlight: 80, Timeout: 30 * time.Second,
			Batch: 20, BatchWait: time.Minute, Transactional: true,
			Policy:     endless,
			Properties: r.memory.Properties(),
		},
		{
			Broker: 0, Handler: "consume",
			Payload: reflect.TypeFor[string](),
			Workers: 1, MaxInFlight: 64, Timeout: 30 * time.Second, ByKey: true,
			Policy:     endless,
			Properties: r.memory.Properties(),
		},
		{
			Broker: 0, Handler: "reply",
			Payload: reflect.TypeFor[checkOrder](), Reply: reflect.TypeFor[checkReceipt](), ReplyTo: "receipts",
			ContentTypes: []string{"application/shop", "application/xml", "text/csv"},
			Workers:      32, MaxInFlight: 128, Timeout: time.Second,
			Policy: []string{
				`error is "the shop is closed": retry every 1m0s, 9 attempts in all, then dead letter to "closed"`,
				`undecodable: dead letter to "dead" at once`,
				"any other error: " + retried + `5 attempts in all, then dead letter to "dead"`,
			},
			DeadLetters: []string{"closed", "dead"},
			Properties:  r.memory.Properties(),
		},
		{
			Broker: 0, Handler: "raw",
			Workers: 1, MaxInFlight: 10, Timeout: 30 * time.Second,
			Policy: []string{
				`undecodable: dead letter to "dead" at once`,
				"any other error: " + retried + `5 attempts in all, then dead letter to "dead"`,
			},
			DeadLetters: []string{"dead"},
			Properties:  queue.Properties,
		},
		{
			Broker: 1, Handler: "reply",
			Payload: reflect.TypeFor[string](), Reply: reflect.TypeFor[checkReceipt](),
			Workers: 2, MaxInFlight: 3, Timeout: 30 * time.Second,
			Policy:     append([]string{"any other failure of a request: reply with the error, without a retry"}, endless...),
			Properties: r.stub.properties,
		},
		{
			Broker: 2, Handler: "consume",
			Payload:      reflect.TypeFor[checkOrder](),
			ContentTypes: []string{"application/json"},
			Workers:      1, MaxInFlight: 64, Timeout: 30 * time.Second,
			Policy:     endless,
			Properties: properties,
			Bindings:   bindings,
		},
	})

	publishers := []gostream.PublisherDescription{
		{Name: "sends-order", Broker: 0, Payload: reflect.TypeFor[checkOrder](), ContentType: "application/shop"},
		{Name: "sends-bytes", Broker: 1, Payload: reflect.TypeFor[[]byte]()},
		{Name: "asks", Broker: 0, Payload: reflect.TypeFor[checkOrder](), Answer: reflect.TypeFor[checkReceipt](), ContentType: "application/json"},
	}
	if !reflect.DeepEqual(d.Publishers, publishers) {
		t.Errorf("publishers\n%+v\nwant\n%+v", d.Publishers, publishers)
	}
	if again, err := r.app.Describe(); err != nil || !reflect.DeepEqual(again, d) {
		t.Errorf("the second description differs: %+v, %v", again, err)
	}
}

// A description needs no connection, and is the same with and after one.
func TestDescribeWhileRunning(t *testing.T) {
	t.Parallel()
	app := gostream.New("shop", "1.0.0", quiet())
	b := memory.New()
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Reply(answer).To("receipts"), gostream.DeadLetterTo("dead"))
	app.Mount(b, r)
	gostream.NewPublisher[checkOrder](app, b, "orders")
	describe := func() gostream.Description {
		t.Helper()
		d, err := app.Describe()
		if err != nil {
			t.Error(err)
		}
		return d
	}
	before := describe()
	s, err := app.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if while := describe(); !reflect.DeepEqual(while, before) {
		t.Errorf("while it runs the app is\n%+v\nbefore it was\n%+v", while, before)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if after := describe(); !reflect.DeepEqual(after, before) {
		t.Errorf("after it ran the app is\n%+v\nbefore it was\n%+v", after, before)
	}
}

// wantSubscriptions compares descriptions, of which want has the fields and ids
// the identities.
func wantSubscriptions(t *testing.T, got []gostream.SubscriptionDescription, ids []identity, want []gostream.SubscriptionDescription) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d subscriptions, want %d", len(got), len(want))
	}
	for i, g := range got {
		s := g.Subscription
		if id := (identity{s.Name(), s.Source(), s.Group(), s.Broker()}); id != ids[i] {
			t.Errorf("subscription %d is %+v, want %+v", i, id, ids[i])
		}
		g.Subscription = gostream.Subscription{}
		if !reflect.DeepEqual(g, want[i]) {
			t.Errorf("subscription %q\n%+v\nwant\n%+v", ids[i].name, g, want[i])
		}
	}
}

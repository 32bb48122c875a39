package gostream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

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

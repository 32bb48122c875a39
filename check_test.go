package gostream_test

import (
	"context"
	"errors"
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

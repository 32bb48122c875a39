package memory_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

func TestMistakesAreToldTogether(t *testing.T) {
	t.Parallel()
	for what, test := range map[string]struct {
		opts []memory.Option
		want []string
	}{
		"own store":        {[]memory.Option{memory.Capacity(0), memory.MaxPayload(-1)}, []string{"Capacity(0)", "MaxPayload(-1)"}},
		"shared store":     {[]memory.Option{memory.On(memory.NewStore(memory.Capacity(-1)))}, []string{"Capacity(-1)"}},
		"no store":         {[]memory.Option{memory.On(nil)}, []string{"On(nil)"}},
		"option and store": {[]memory.Option{memory.On(memory.NewStore()), memory.Capacity(1)}, []string{"NewStore"}},
		"two stores":       {[]memory.Option{memory.On(memory.NewStore()), memory.On(memory.NewStore())}, []string{"twice"}},
		"nil option":       {[]memory.Option{nil}, []string{"nil"}},
		"nil store option": {[]memory.Option{memory.On(memory.NewStore(nil))}, []string{"nil"}},
	} {
		b := memory.New(test.opts...)
		for _, err := range []error{broker.Check(b), b.Connect(t.Context())} {
			wantError(t, what, err, broker.ErrInvalid)
			for _, want := range test.want {
				if err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("%s: the error %q does not mention %q", what, err, want)
				}
			}
		}
		wantError(t, what, b.Publisher().Publish(t.Context(), out("a", "x")), broker.ErrNotConnected)
	}
	if err := broker.Check(memory.New(memory.Capacity(1), memory.MaxPayload(0))); err != nil {
		t.Errorf("Check of good options: %v", err)
	}
}

func TestMaxPayload(t *testing.T) {
	t.Parallel()
	b, p := connect(t, memory.MaxPayload(3))
	sub := subscribe(t, b, broker.ByName("a"))
	if got := broker.PropertiesOf(b).MaxPayload; got != 3 {
		t.Errorf("MaxPayload is declared as %d", got)
	}
	publish(t, p, "a", "123")
	wantError(t, "Publish", p.Publish(t.Context(), out("a", "1234")), broker.ErrTooLarge)
	_, err := broker.Request(t.Context(), p, out("a", "1234"))
	wantError(t, "Request", err, broker.ErrTooLarge)
	expect(t, sub, "123")
	expectNothing(t, sub)
}

func TestOptionsOfAMessageAreRefused(t *testing.T) {
	t.Parallel()
	b, p := connect(t)
	sub := subscribe(t, b, broker.ByName("a"))
	msg := out("a", "x")
	msg.Options = struct{}{}
	wantError(t, "Publish", p.Publish(t.Context(), msg), broker.ErrInvalid)
	_, err := broker.Request(t.Context(), p, msg)
	wantError(t, "Request", err, broker.ErrInvalid)
	tx, err := broker.Begin(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, "Publish in a transaction", tx.Publish(t.Context(), msg), broker.ErrInvalid)
	expectNothing(t, sub)
}

type otherBroker struct{ broker.Broker }

func TestSourceChecks(t *testing.T) {
	t.Parallel()
	b := memory.New()
	for _, src := range []broker.Source{
		memory.Queue("a", ""),
		memory.Queue("", "g"),
		memory.Queue("a", "g").Limit(0),
		memory.Pattern("a").Limit(-1),
		memory.Pattern(""),
		memory.QueueSource{},
		memory.PatternSource{},
	} {
		wantError(t, "Check", src.Check(b), broker.ErrInvalid)
		_, err := src.Subscribe(t.Context(), b)
		wantError(t, "Subscribe", err, broker.ErrInvalid)
	}

	err := memory.Queue("orders", "workers").Check(&otherBroker{})
	wantError(t, "another kind of broker", err, broker.ErrInvalid)
	const want = `memory.Queue("orders", "workers") cannot subscribe on *memory_test.otherBroker: it needs a *memory.Broker`
	if !strings.Contains(err.Error(), want) {
		t.Errorf("the error is %q, want in it %q", err, want)
	}
	for _, other := range []broker.Broker{&otherBroker{}, nil, (*memory.Broker)(nil)} {
		wantError(t, "another kind of broker", memory.Pattern("a.*").Check(other), broker.ErrInvalid)
		_, err = memory.Pattern("a.*").Subscribe(t.Context(), other)
		wantError(t, "another kind of broker", err, broker.ErrInvalid)
	}

	// Two mistakes at once are both told.
	err = memory.Queue("a..b", "").Limit(0).Check(&otherBroker{})
	for _, want := range []string{"empty token", "group", "limit", "otherBroker"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error %q does not mention %q", err, want)
		}
	}
}

func TestDescriptions(t *testing.T) {
	t.Parallel()
	b := memory.New()
	spec, ok := broker.DescribeSource(memory.Queue("a.*", "g").Limit(7), b)
	if !ok || spec.Group != "g" || spec.Limit != 7 || spec.Properties != b.Properties() {
		t.Errorf("Queue describes itself as %+v", spec)
	}
	spec, ok = broker.DescribeSource(memory.Pattern("a.*"), b)
	if !ok || spec.Group != "" || spec.Limit != memory.DefaultLimit || !spec.Properties.Ordered || spec.Properties.CompetingConsumers {
		t.Errorf("Pattern describes itself as %+v", spec)
	}
	if s, ok := broker.DescribeServer(b); !ok || s.Protocol != "memory" || len(s.Hosts) != 0 {
		t.Errorf("the server is described as %+v", s)
	}
	want := broker.Properties{
		Redelivers: true, CountsDeliveries: true, Ordered: true, OrderedByKey: true,
		Keys: broker.KeysNative, CompetingConsumers: true, Backlog: true,
	}
	if got := broker.PropertiesOf(b); got != want {
		t.Errorf("properties %+v", got)
	}
	if broker.Notify(b, func(broker.Event) {}) {
		t.Error("the broker tells of events, and has no connection that could be cut")
	}
	// Sources are values: Limit does not change the one that it is called on.
	src := memory.Queue("a", "g")
	_ = src.Limit(1)
	if src != memory.Queue("a", "g") {
		t.Error("Limit changed its receiver")
	}
}

// Every capability that the package promises is there.
var (
	_ broker.Broker              = (*memory.Broker)(nil)
	_ broker.Subscriber          = (*memory.Broker)(nil)
	_ broker.PublisherProvider   = (*memory.Broker)(nil)
	_ broker.PropertiesDescriber = (*memory.Broker)(nil)
	_ broker.Checker             = (*memory.Broker)(nil)
	_ broker.NameChecker         = (*memory.Broker)(nil)
	_ broker.NameMatcher         = (*memory.Broker)(nil)
	_ broker.HealthChecker       = (*memory.Broker)(nil)
	_ broker.ServerDescriber     = (*memory.Broker)(nil)

	_ broker.Source          = memory.QueueSource{}
	_ broker.SourceDescriber = memory.QueueSource{}
	_ broker.Matcher         = memory.QueueSource{}
	_ broker.Source          = memory.PatternSource{}
	_ broker.SourceDescriber = memory.PatternSource{}
	_ broker.Matcher         = memory.PatternSource{}

	_ broker.IncomingMessage = (*memory.Message)(nil)
	_ broker.DelayedNacker   = (*memory.Message)(nil)
	_ broker.DeliveryCounter = (*memory.Message)(nil)
	_ broker.Partitioned     = (*memory.Message)(nil)
)

func TestCapabilitiesOfHandles(t *testing.T) {
	t.Parallel()
	b, p := connect(t)
	if _, ok := p.(broker.BatchPublisher); !ok {
		t.Error("the publisher has no PublishBatch")
	}
	if _, ok := p.(broker.Transactor); !ok {
		t.Error("the publisher has no transactions")
	}
	if _, ok := p.(broker.Requester); !ok {
		t.Error("the publisher has no request-reply")
	}
	sub := subscribe(t, b, broker.ByName("a"))
	if _, ok := sub.(broker.BatchReceiver); !ok {
		t.Error("the subscription has no ReceiveBatch")
	}
	if _, err := broker.BeginReceived(t.Context(), sub); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a transaction on the subscription: %v", err)
	}
}

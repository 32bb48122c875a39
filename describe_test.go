package gostream_test

import (
	"context"
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

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
			Payload: reflect.TypeFor[checkOrder](), Reply: reflect.TypeFor[checkReceipt](), ReplyTo: "receipts", ReplyContentType: "application/shop",
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
			Payload: reflect.TypeFor[checkOrder](), Reply: reflect.TypeFor[checkReceipt](), ReplyTo: "receipts", ReplyContentType: "application/shop",
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
			Payload: reflect.TypeFor[string](), Reply: reflect.TypeFor[checkReceipt](), ReplyBroker: 1, ReplyContentType: "application/shop",
			Workers: 2, MaxInFlight: 3, Timeout: 30 * time.Second,
			Policy:     append([]string{"any other failure of a request: reply with the error, without a retry"}, endless...),
			Properties: r.stub.properties,
		},
		{
			Broker: 2, Handler: "consume",
			Payload:      reflect.TypeFor[checkOrder](),
			ReplyBroker:  2,
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
		{Name: "asks", Broker: 0, Payload: reflect.TypeFor[checkOrder](), Answer: reflect.TypeFor[checkReceipt](), ContentType: "application/json", AnswerContentTypes: []string{"application/json"}},
	}
	if !reflect.DeepEqual(d.Publishers, publishers) {
		t.Errorf("publishers\n%+v\nwant\n%+v", d.Publishers, publishers)
	}
	if again, err := r.app.Describe(); err != nil || !reflect.DeepEqual(again, d) {
		t.Errorf("the second description differs: %+v, %v", again, err)
	}
}

// What replies and answers are, and where they go, does not follow from what comes in.
func TestDescribeReplies(t *testing.T) {
	t.Parallel()
	r := newCheckRig(t, "shop", gostream.Codecs(checkCodec("text/csv")))
	r.onMemory.Handle("across", gostream.Reply(answer).To("receipts").Via(r.app.RawPublisher(r.stub)), gostream.WithCodec(checkCodec("application/shop")))
	r.onMemory.Handle("texts", gostream.Reply(func(context.Context, checkOrder) (string, error) { return "", nil }).To("texts-out"))
	gostream.NewRequester[[]byte, checkReceipt](r.app, r.memory, "asks", gostream.WithCodec(checkCodec("application/shop")))
	gostream.NewRequester[checkOrder, []byte](r.app, r.memory, "asks-bytes")
	d, err := r.app.Describe()
	if err != nil {
		t.Fatal(err)
	}
	across, texts := d.Subscriptions[0], d.Subscriptions[1]
	if across.Broker != 0 || across.ReplyBroker != 1 || across.ReplyContentType != "application/shop" {
		t.Errorf("across brokers: %+v", across)
	}
	if texts.ReplyBroker != 0 || texts.ReplyContentType != "" || len(texts.ContentTypes) == 0 {
		t.Errorf("a raw reply: %+v", texts)
	}
	typed, raw := d.Publishers[0], d.Publishers[1]
	if typed.ContentType != "" || !reflect.DeepEqual(typed.AnswerContentTypes, []string{"application/shop", "text/csv"}) {
		t.Errorf("a raw request with a typed answer: %+v", typed)
	}
	if raw.ContentType != "application/json" || raw.AnswerContentTypes != nil {
		t.Errorf("a typed request with a raw answer: %+v", raw)
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
		if g.Source == nil || g.Source.Name() != ids[i].source {
			t.Errorf("the source of subscription %q is %v, want that of %q", ids[i].name, g.Source, ids[i].source)
		}
		g.Subscription, g.Source = gostream.Subscription{}, nil
		if !reflect.DeepEqual(g, want[i]) {
			t.Errorf("subscription %q\n%+v\nwant\n%+v", ids[i].name, g, want[i])
		}
	}
}

package gostreamtest_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/gostreamtest"
	"github.com/gostream/gostream/memory"
)

type Order struct {
	ID    string `json:"id"`
	Cents int    `json:"cents"`
}

type Confirmation struct {
	Order string `json:"order"`
}

var errTill = errors.New("the till is closed")

// Till is what the handlers of the examples need.
type Till struct {
	opens time.Time // closed before
	seen  map[string]int
	hooks atomic.Int64
}

// Confirm confirms an order.
func (till *Till) Confirm(ctx context.Context, o Order) (Confirmation, error) {
	if time.Now().Before(till.opens) {
		return Confirmation{}, errTill
	}
	till.seen[o.ID]++
	gostream.AfterAck(ctx, func(context.Context) { till.hooks.Add(1) })
	return Confirmation{Order: o.ID}, nil
}

// Shop is the production app of the examples: it knows nothing of tests.
func Shop(till *Till) *gostream.App {
	till.seen = make(map[string]int)
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Reply(till.Confirm).To("confirmations"),
		gostream.OnError(gostream.Is(errTill).Retry(gostream.Steps(time.Hour, 2*time.Hour, 3*time.Hour).Attempts(4)).ThenDeadLetterTo("orders.dead")),
		gostream.DeadLetterTo("orders.dead"))
	app := gostream.New("shop", "1.0.0", gostreamtest.Quiet())
	app.Mount(memory.New(), r)
	return app
}

// One message in, a typed reply out.
func TestExample_reply(t *testing.T) {
	ts := gostreamtest.Start(t, Shop(new(Till)))
	ts.Publish("orders", Order{ID: "o-1", Cents: 1999})
	if got := gostreamtest.One[Confirmation](ts, "confirmations"); got.Order != "o-1" {
		t.Errorf("confirmed %q", got.Order)
	}
	ts.ExpectOutcomes("orders", gostream.OutcomeAcked)
}

// A ladder of retries over six hours takes milliseconds in a synctest bubble.
func TestExample_retryLadder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		ts := gostreamtest.Start(t, Shop(&Till{opens: began.Add(6 * time.Hour)}))
		ts.Publish("orders", Order{ID: "o-1"})
		ts.ExpectOutcomes("orders", gostream.OutcomeRetried, gostream.OutcomeRetried, gostream.OutcomeRetried, gostream.OutcomeAcked)
		if took := time.Since(began); took != 6*time.Hour {
			t.Errorf("confirmed after %v", took)
		}
	})
}

// A dead letter says why it is there.
func TestExample_deadLetter(t *testing.T) {
	ts := gostreamtest.Start(t, Shop(new(Till)))
	ts.Publish("orders", `{"id": 7}`) // an id is a string
	dead := ts.ExpectPublished("orders.dead", 1)
	if reason := dead[0].Headers.Get(gostream.HeaderDeadReason); reason != gostream.ReasonUndecodable {
		t.Errorf("the reason is %q", reason)
	}
	ts.ExpectPublished("confirmations", 0)
}

// A cascade over two brokers: an order on one sets off a parcel on the other.
func TestExample_twoBrokers(t *testing.T) {
	shop, depot := memory.New(), memory.New()
	app := gostream.New("shop", "1.0.0", gostreamtest.Quiet())
	parcels := gostream.NewPublisher[string](app, depot, "parcels")
	orders, labels := gostream.NewRouter(), gostream.NewRouter()
	orders.Handle("orders", gostream.Consume(func(ctx context.Context, o Order) error {
		return parcels.Publish(ctx, "parcel of "+o.ID)
	}))
	labels.Handle("parcels", gostream.Reply(func(_ context.Context, parcel string) (string, error) {
		return "label for " + parcel, nil
	}).To("labels"))
	app.Mount(shop, orders)
	app.Mount(depot, labels)

	ts := gostreamtest.Start(t, app)
	ts.On(shop).Publish("orders", Order{ID: "o-1"})
	if got := gostreamtest.One[string](ts.On(depot), "labels"); got != "label for parcel of o-1" {
		t.Errorf("labels: %q", got)
	}
}

// A batch with one bad element: the others are acknowledged.
func TestExample_batch(t *testing.T) {
	r := gostream.NewRouter()
	r.Handle("numbers", gostream.ConsumeBatch(func(_ context.Context, numbers []int) error {
		errs := make([]error, len(numbers))
		for i, n := range numbers {
			if n < 0 {
				errs[i] = gostream.DeadLetter(fmt.Errorf("%d is negative", n))
			}
		}
		return gostream.Each(errs)
	}, 10, time.Millisecond), gostream.DeadLetterTo("numbers.dead"))
	app := gostream.New("sums", "1.0.0", gostreamtest.Quiet())
	app.Mount(memory.New(), r)

	ts := gostreamtest.Start(t, app)
	for _, n := range []int{1, -2, 3} {
		ts.Send("numbers", n)
	}
	ts.Wait()
	ts.ExpectHandled("numbers", 2)
	if dead := gostreamtest.One[int](ts, "numbers.dead"); dead != -2 {
		t.Errorf("dead: %d", dead)
	}
}

// DeliverTwice finds a handler that does not bear a repetition.
func TestExample_deliverTwice(t *testing.T) {
	till := new(Till)
	ts := gostreamtest.Start(t, Shop(till), gostreamtest.DeliverTwice())
	ts.Publish("orders", Order{ID: "o-1"})
	if till.seen["o-1"] == 2 {
		t.Log("Confirm counts a repeated order twice: it is not idempotent")
	} else {
		t.Errorf("confirmed %d times", till.seen["o-1"])
	}
}

// FailPublish makes publishes fail: the order is not acknowledged before its
// confirmation stands.
func TestExample_failPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := gostreamtest.Start(t, Shop(new(Till)))
		ts.FailPublish("confirmations", 2)
		ts.Publish("orders", Order{ID: "o-1"})
		ts.ExpectOutcomes("orders", gostream.OutcomeRetried, gostream.OutcomeRetried, gostream.OutcomeAcked)
		ts.ExpectPublished("confirmations", 1)
	})
}

// Outside of a bubble a message that waits for a retry is at rest, and can be seen.
func TestExample_parked(t *testing.T) {
	ts := gostreamtest.Start(t, Shop(&Till{opens: time.Now().Add(time.Hour)}))
	ts.Publish("orders", Order{ID: "o-1"})
	if parked := ts.Parked(); len(parked) != 1 || parked[0].Name != "orders" {
		t.Errorf("parked: %v", parked)
	}
}

// A hook that ran: Publish waits for hooks too.
func TestExample_hook(t *testing.T) {
	till := new(Till)
	ts := gostreamtest.Start(t, Shop(till))
	ts.Publish("orders", Order{ID: "o-1"})
	if till.hooks.Load() != 1 {
		t.Errorf("the hook ran %d times", till.hooks.Load())
	}
}

// An endless ping-pong fails with a message that names the loop.
func TestExample_endlessLoop(t *testing.T) {
	r := gostream.NewRouter()
	again := func(_ context.Context, n int) (int, error) { return n + 1, nil }
	r.Handle("ping", gostream.Reply(again).To("pong"))
	r.Handle("pong", gostream.Reply(again).To("ping"))
	app := gostream.New("game", "1.0.0", gostreamtest.Quiet())
	app.Mount(memory.New(), r)

	failure := failing(t, func(t testing.TB) {
		ts := gostreamtest.Start(t, app)
		ts.Publish("ping", 1)
	})
	failure.wants(t, "an endless loop: ping → pong → ping")
}

// NewMessage calls a handler by itself.
func TestExample_newMessage(t *testing.T) {
	greet := func(_ context.Context, m gostream.Message[Order]) (string, error) {
		return m.Header("lang") + ":" + m.Body().ID + ":" + string(m.Key()), nil
	}
	got, err := greet(t.Context(), gostreamtest.NewMessage(Order{ID: "o-1"}, gostream.Key("c-1"), gostream.Header("lang", "en")))
	if err != nil || got != "en:o-1:c-1" {
		t.Errorf("greeted %q, %v", got, err)
	}
}

// A Client is the double without an app, for the author of a broker.
func TestExample_client(t *testing.T) {
	c := gostreamtest.StartClient(t, memory.New())
	sub := c.Subscribe(memory.Pattern("orders.>"))
	c.Publish("orders.eu", Order{ID: "o-1"}, gostream.Key("c-1"))
	m, err := sub.Receive(t.Context())
	if err != nil || m.Name() != "orders.eu" {
		t.Fatalf("received %v, %v", m, err)
	}
	if err := c.Publisher().Publish(t.Context(), broker.OutgoingMessage{Name: "done", Payload: m.Payload()}); err != nil {
		t.Fatal(err)
	}
	c.ExpectPublished("done", 1, time.Second)
}

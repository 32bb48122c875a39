package nats_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
	"github.com/gostream/gostream/gostreamtest"
)

// kitNobody is an address where nobody is: to dial it fails at once.
const kitNobody = "nats://127.0.0.1:1"

type kitOrder struct {
	ID    string `json:"id"`
	Cents int    `json:"cents"`
}

type kitConfirmation struct {
	Order string `json:"order"`
}

var errKitTill = errors.New("the till is closed")

// kitTill is what the handlers need.
type kitTill struct {
	opens time.Time // closed before
	seen  map[string]int
	hooks atomic.Int64
}

func (till *kitTill) confirm(ctx context.Context, o kitOrder) (kitConfirmation, error) {
	if time.Now().Before(till.opens) {
		return kitConfirmation{}, errKitTill
	}
	till.seen[o.ID]++
	gostream.AfterAck(ctx, func(context.Context) { till.hooks.Add(1) })
	return kitConfirmation{Order: o.ID}, nil
}

// kitSource is the source of the orders as production has it: with a stream to make and
// a consumer to tune, of which the double needs nothing.
var kitSource = nats.Stream("orders.*", "ORDERS").Durable("shop").
	AckWait(5 * time.Second).MaxAckPending(100).ConfirmAcks().
	Create(jetstream.StreamConfig{Subjects: []string{"orders.*", "confirmations", "dead"}})

// kitShop is a production app: it knows nothing of tests.
func kitShop(till *kitTill) *gostream.App {
	till.seen = make(map[string]int)
	r := gostream.NewRouter()
	r.HandleSource(kitSource, gostream.Reply(till.confirm).To("confirmations"), gostream.Named("orders"),
		gostream.OnError(gostream.Is(errKitTill).Retry(gostream.Steps(time.Hour, 2*time.Hour, 3*time.Hour).Attempts(4)).ThenDeadLetterTo("dead")),
		gostream.DeadLetterTo("dead"))
	app := gostream.New("shop", "1.0.0", gostreamtest.Quiet())
	app.Mount(nats.New(kitNobody), r)
	return app
}

// An app on NATS runs in the test kit, without a server. The kit needs nothing of this
// module but what its sources and its broker say of themselves.
func TestAppOnNATSInGostreamtest(t *testing.T) {
	t.Parallel()
	if err := nats.New(kitNobody).Connect(t.Context()); err == nil {
		t.Fatalf("there is somebody at %s: nothing below proves that nothing is dialed", kitNobody)
	}
	for name, test := range map[string]func(t *testing.T){
		"reply": func(t *testing.T) {
			ts := gostreamtest.Start(t, kitShop(new(kitTill)))
			ts.Publish("orders.eu", kitOrder{ID: "o-1", Cents: 1999})
			if got := gostreamtest.One[kitConfirmation](ts, "confirmations"); got.Order != "o-1" {
				t.Errorf("confirmed %q", got.Order)
			}
			ts.ExpectOutcomes("orders", gostream.OutcomeAcked)
		},
		"retry ladder": func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				ts := gostreamtest.Start(t, kitShop(&kitTill{opens: began.Add(6 * time.Hour)}))
				ts.Publish("orders.eu", kitOrder{ID: "o-1"})
				ts.ExpectOutcomes("orders", gostream.OutcomeRetried, gostream.OutcomeRetried, gostream.OutcomeRetried, gostream.OutcomeAcked)
				if took := time.Since(began); took != 6*time.Hour {
					t.Errorf("confirmed after %v", took)
				}
			})
		},
		"retry ladder to its end": func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ts := gostreamtest.Start(t, kitShop(&kitTill{opens: time.Now().Add(24 * time.Hour)}))
				ts.Publish("orders.eu", kitOrder{ID: "o-1"})
				dead := ts.ExpectPublished("dead", 1)
				for key, want := range map[string]string{
					gostream.HeaderDeadAttempts: "4", gostream.HeaderDeadSource: "orders.eu", gostream.HeaderDeadSubscription: "orders",
				} {
					if got := dead[0].Headers.Get(key); got != want {
						t.Errorf("the dead letter's %s is %q, want %q", key, got, want)
					}
				}
			})
		},
		"dead letter": func(t *testing.T) {
			ts := gostreamtest.Start(t, kitShop(new(kitTill)))
			ts.Publish("orders.eu", `{"id": 7}`) // an id is a string
			dead := ts.ExpectPublished("dead", 1)
			if reason := dead[0].Headers.Get(gostream.HeaderDeadReason); reason != gostream.ReasonUndecodable {
				t.Errorf("the reason is %q", reason)
			}
			ts.ExpectPublished("confirmations", 0)
		},
		"parked": func(t *testing.T) {
			ts := gostreamtest.Start(t, kitShop(&kitTill{opens: time.Now().Add(time.Hour)}))
			ts.Publish("orders.eu", kitOrder{ID: "o-1"})
			if parked := ts.Parked(); len(parked) != 1 || parked[0].Name != "orders.eu" {
				t.Errorf("parked: %v", parked)
			}
		},
		"deliver twice": func(t *testing.T) {
			till := new(kitTill)
			ts := gostreamtest.Start(t, kitShop(till), gostreamtest.DeliverTwice())
			ts.Publish("orders.eu", kitOrder{ID: "o-1"})
			if till.seen["o-1"] != 2 {
				t.Errorf("confirmed %d times", till.seen["o-1"])
			}
			ts.ExpectPublished("confirmations", 2)
		},
		"fail publish": func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ts := gostreamtest.Start(t, kitShop(new(kitTill)))
				ts.FailPublish("confirmations", 2)
				ts.Publish("orders.eu", kitOrder{ID: "o-1"})
				ts.ExpectOutcomes("orders", gostream.OutcomeRetried, gostream.OutcomeRetried, gostream.OutcomeAcked)
				ts.ExpectPublished("confirmations", 1)
			})
		},
		"hook": func(t *testing.T) {
			till := new(kitTill)
			ts := gostreamtest.Start(t, kitShop(till))
			ts.Publish("orders.eu", kitOrder{ID: "o-1"})
			if n := till.hooks.Load(); n != 1 {
				t.Errorf("the hook ran %d times", n)
			}
		},
		"wildcards":      kitWildcards,
		"groups":         kitGroups,
		"request":        kitRequest,
		"batch":          kitBatch,
		"two brokers":    kitTwoBrokers,
		"client":         kitClient,
		"ordered reader": kitOrdered,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

// kitRecorder collects which subscription received what.
type kitRecorder struct {
	mu   sync.Mutex
	seen []string
}

func (r *kitRecorder) handler(as string) gostream.Handler {
	return gostream.Raw(func(_ context.Context, d *gostream.Delivery) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.seen = append(r.seen, as+" "+d.Name())
		return nil
	})
}

func (r *kitRecorder) expect(t *testing.T, want ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.Sort(r.seen)
	slices.Sort(want)
	if !slices.Equal(r.seen, want) {
		t.Errorf("received were %q, want %q", r.seen, want)
	}
}

// Names, subjects and streams with wildcards receive what the server would send them.
func kitWildcards(t *testing.T) {
	var got kitRecorder
	r := gostream.NewRouter()
	r.Handle("orders.>", got.handler("name"))
	r.HandleSource(nats.Subject("orders.*.new"), got.handler("subject"))
	r.HandleSource(nats.Stream("orders.eu.*", "ORDERS").Durable("eu"), got.handler("stream"))
	r.HandleSource(nats.Stream("all", "ORDERS").Durable("filtered").FilterSubjects("orders.us.>", "parcels.*"), got.handler("filtered"))
	app := gostream.New("wild", "0", gostreamtest.Quiet())
	app.Mount(nats.New(kitNobody), r)
	ts := gostreamtest.Start(t, app)
	for _, name := range []string{"orders", "orders.eu", "orders.eu.new", "orders.us.new", "orders.us.new.late", "parcels.7", "parcels", "all"} {
		ts.Publish(name, "x")
	}
	got.expect(t,
		"name orders.eu", "name orders.eu.new", "subject orders.eu.new", "stream orders.eu.new",
		"name orders.us.new", "subject orders.us.new", "filtered orders.us.new",
		"name orders.us.new.late", "filtered orders.us.new.late", "filtered parcels.7")
}

// The members of a queue group and the subscriptions of a durable consumer compete;
// everybody else has a copy.
func kitGroups(t *testing.T) {
	var got kitRecorder
	r := gostream.NewRouter()
	sources := map[string]broker.Source{
		"queue": nats.Subject("orders").QueueGroup("desk"), "durable": nats.Stream("orders", "ORDERS").Durable("shop"),
		"subject": nats.Subject("orders"), "stream": nats.Stream("orders", "ORDERS"),
	}
	for which, src := range sources {
		for i := range 2 {
			r.HandleSource(src, got.handler(which), gostream.Named(fmt.Sprint(which, i)))
		}
	}
	app := gostream.New("groups", "0", gostreamtest.Quiet())
	app.Mount(nats.New(kitNobody), r)
	ts := gostreamtest.Start(t, app)
	for range 2 {
		ts.Publish("orders", "x")
	}
	got.expect(t,
		"queue orders", "queue orders", "durable orders", "durable orders",
		"subject orders", "subject orders", "subject orders", "subject orders", "stream orders", "stream orders", "stream orders", "stream orders")
	for _, which := range []string{"queue0", "queue1", "durable0", "durable1"} {
		ts.ExpectHandled(which, 1)
	}
}

// A handler asks another one through Core NATS, and its own reply goes to a stream.
func kitRequest(t *testing.T) {
	b := nats.New(kitNobody)
	app := gostream.New("prices", "0", gostreamtest.Quiet())
	prices := gostream.NewRequester[string, int](app, b, "prices")
	r := gostream.NewRouter()
	r.HandleSource(nats.Subject("prices").QueueGroup("desk"), gostream.Reply(func(_ context.Context, item string) (int, error) {
		if item != "mug" {
			return 0, fmt.Errorf("no price for %s", item)
		}
		return 1250, nil
	}).ToReplyTo())
	r.HandleSource(nats.Stream("orders", "ORDERS").Durable("shop"), gostream.Reply(func(ctx context.Context, item string) (string, error) {
		cents, err := prices.Request(ctx, item)
		if err != nil {
			return "", gostream.DeadLetter(err)
		}
		return fmt.Sprintf("%s for %d", item, cents), nil
	}).To("confirmations"), gostream.DeadLetterTo("dead"))
	app.Mount(b, r)
	ts := gostreamtest.Start(t, app)
	ts.Publish("orders", "mug")
	if got := gostreamtest.One[string](ts, "confirmations"); got != "mug for 1250" {
		t.Errorf("confirmed %q", got)
	}
	ts.Publish("orders", "moon")
	dead := ts.ExpectPublished("dead", 1)
	if text := dead[0].Headers.Get(gostream.HeaderDeadError); !strings.Contains(text, "no price for moon") {
		t.Errorf("the dead letter's error is %q", text)
	}
	ts.ExpectOutcomes("prices", gostream.OutcomeAcked, gostream.OutcomeErrorReplied)
}

// Of a batch with one bad element the others are acknowledged.
func kitBatch(t *testing.T) {
	r := gostream.NewRouter()
	r.HandleSource(nats.Stream("numbers", "NUMBERS").Durable("sums"), gostream.ConsumeBatch(func(_ context.Context, numbers []int) error {
		errs := make([]error, len(numbers))
		for i, n := range numbers {
			if n < 0 {
				errs[i] = gostream.DeadLetter(fmt.Errorf("%d is negative", n))
			}
		}
		return gostream.Each(errs)
	}, 10, time.Millisecond), gostream.DeadLetterTo("numbers.dead"))
	app := gostream.New("sums", "0", gostreamtest.Quiet())
	app.Mount(nats.New(kitNobody), r)
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

// An order on one broker sets off a parcel on the other.
func kitTwoBrokers(t *testing.T) {
	shop, depot := nats.New(kitNobody), nats.New(kitNobody, nats.ConfirmPublishes())
	app := gostream.New("shop", "0", gostreamtest.Quiet())
	parcels := gostream.NewPublisher[string](app, depot, "parcels")
	orders, labels := gostream.NewRouter(), gostream.NewRouter()
	orders.HandleSource(nats.Stream("orders", "ORDERS").Durable("shop"), gostream.Consume(func(ctx context.Context, o kitOrder) error {
		return parcels.Publish(ctx, "parcel of "+o.ID, gostream.BrokerOptions(nats.PublishOptions{MsgID: o.ID}))
	}))
	labels.HandleSource(nats.Stream("parcels", "PARCELS").Durable("depot"), gostream.Reply(func(_ context.Context, parcel string) (string, error) {
		return "label for " + parcel, nil
	}).To("labels"))
	app.Mount(shop, orders)
	app.Mount(depot, labels)
	ts := gostreamtest.Start(t, app)
	ts.On(shop).Publish("orders", kitOrder{ID: "o-1"})
	if got := gostreamtest.One[string](ts.On(depot), "labels"); got != "label for parcel of o-1" {
		t.Errorf("labels: %q", got)
	}
	ts.On(shop).Publish("parcels", "stray") // nobody there listens to it
	ts.ExpectHandled("parcels", 1)
}

// The double without an app.
func kitClient(t *testing.T) {
	c := gostreamtest.StartClient(t, nats.New(kitNobody))
	for _, src := range []broker.Source{nats.Subject("orders.>"), nats.Stream("orders.>", "ORDERS").Durable("desk"), broker.ByName("orders.*")} {
		sub := c.Subscribe(src)
		c.Publish("orders.eu", kitOrder{ID: "o-1"}, gostream.Key("c-1"))
		m := receive(t, sub)
		if m.Name() != "orders.eu" {
			t.Errorf("%v received %q", src, m.Name())
		}
		if err := m.Ack(t.Context()); err != nil {
			t.Error(err)
		}
		if err := sub.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if err := c.Publisher().Publish(t.Context(), broker.OutgoingMessage{Name: "done"}); err != nil {
		t.Fatal(err)
	}
	c.ExpectPublished("done", 1, time.Second)
	for _, name := range []string{"orders.*", "orders..eu", "$JS.API.INFO"} {
		if err := c.Publisher().Publish(t.Context(), broker.OutgoingMessage{Name: name}); !errors.Is(err, broker.ErrInvalid) {
			t.Errorf("publishing to %q answered %v, want ErrInvalid", name, err)
		}
	}
}

// An ordered reader builds something from a stream.
func kitOrdered(t *testing.T) {
	var got kitRecorder
	r := gostream.NewRouter()
	r.HandleSource(nats.Stream("orders.>", "ORDERS").Ordered(), got.handler("reader"))
	app := gostream.New("reader", "0", gostreamtest.Quiet())
	app.Mount(nats.New(kitNobody), r)
	ts := gostreamtest.Start(t, app)
	ts.Publish("orders.1", "x")
	ts.Publish("orders.2", "x")
	got.expect(t, "reader orders.1", "reader orders.2")
}

// A queue group and a durable consumer of one name are two groups.
func TestGroupsOfTwoKinds(t *testing.T) {
	t.Parallel()
	handled := make(chan string, 4)
	r := gostream.NewRouter()
	for kind, src := range map[string]broker.Source{"core": nats.Subject("orders").QueueGroup("desk"), "stream": nats.Stream("orders", "S").Durable("desk")} {
		r.HandleSource(src, gostream.Raw(func(context.Context, *gostream.Delivery) error {
			handled <- kind
			return nil
		}), gostream.Named(kind))
	}
	app := gostream.New("desk", "1.0.0", gostreamtest.Quiet())
	app.Mount(nats.New("nats://127.0.0.1:1"), r)
	ts := gostreamtest.Start(t, app)
	ts.Publish("orders", "o-1")
	if len(handled) != 2 {
		t.Errorf("%d copies were handled, want one of each kind", len(handled))
	}
}

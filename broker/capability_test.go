package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gostream/gostream/broker"
)

// Every helper whose method returns an error: absent and refused both answer
// errors.ErrUnsupported, any other answer comes through as it is.
func TestCapabilitiesThatCanFail(t *testing.T) {
	t.Parallel()
	errRefused := fmt.Errorf("not on this queue: %w", errors.ErrUnsupported)
	for _, tt := range []struct {
		name    string
		absent  func(ctx context.Context) error
		kind    string // the type that lacks it, as the text names it
		what    string // what it lacks
		present func(ctx context.Context, err error) error
	}{
		{
			name: "NackAfter", kind: "broker_test.bareMessage", what: "nack after a delay",
			absent: func(ctx context.Context) error { return broker.NackAfter(ctx, bareMessage{}, time.Second) },
			present: func(ctx context.Context, err error) error {
				var d time.Duration
				got := broker.NackAfter(ctx, fullMessage{err: err, delay: &d}, time.Second)
				return expect(got, d == time.Second, "the delay was %v", d)
			},
		},
		{
			name: "ExtendLease", kind: "broker_test.bareMessage", what: "extend the lease",
			absent: func(ctx context.Context) error { return broker.ExtendLease(ctx, bareMessage{}) },
			present: func(ctx context.Context, err error) error {
				return broker.ExtendLease(ctx, fullMessage{err: err})
			},
		},
		{
			name: "ReceiveBatch", kind: "broker_test.bareSubscription", what: "receive a batch",
			absent: func(ctx context.Context) error {
				n, err := broker.ReceiveBatch(ctx, bareSubscription{}, make([]broker.IncomingMessage, 1))
				return expect(err, n == 0, "it received %d", n)
			},
			present: func(ctx context.Context, err error) error {
				n, got := broker.ReceiveBatch(ctx, fullSubscription{err: err}, make([]broker.IncomingMessage, 1))
				return expect(got, n == 1 == (err == nil), "it received %d", n)
			},
		},
		{
			name: "Lag", kind: "broker_test.bareSubscription", what: "lag",
			absent: func(ctx context.Context) error {
				n, err := broker.Lag(ctx, bareSubscription{})
				return expect(err, n == 0, "the lag is %d", n)
			},
			present: func(ctx context.Context, err error) error {
				n, got := broker.Lag(ctx, fullSubscription{err: err})
				return expect(got, n == 7, "the lag is %d", n)
			},
		},
		{
			name: "BeginReceived", kind: "broker_test.bareSubscription", what: "transactions",
			absent: func(ctx context.Context) error {
				tx, err := broker.BeginReceived(ctx, bareSubscription{})
				return expect(err, tx == nil, "it began %v", tx)
			},
			present: func(ctx context.Context, err error) error {
				tx, got := broker.BeginReceived(ctx, fullSubscription{err: err})
				return expect(got, tx == openTransaction{}, "it began %v", tx)
			},
		},
		{
			name: "Begin", kind: "broker_test.barePublisher", what: "transactions",
			absent: func(ctx context.Context) error {
				tx, err := broker.Begin(ctx, barePublisher{})
				return expect(err, tx == nil, "it began %v", tx)
			},
			present: func(ctx context.Context, err error) error {
				tx, got := broker.Begin(ctx, fullPublisher{err: err})
				return expect(got, tx == openTransaction{}, "it began %v", tx)
			},
		},
		{
			name: "Request", kind: "broker_test.barePublisher", what: "request-reply",
			absent: func(ctx context.Context) error {
				m, err := broker.Request(ctx, barePublisher{}, broker.OutgoingMessage{Name: "ask"})
				return expect(err, m == nil, "the reply is %v", m)
			},
			present: func(ctx context.Context, err error) error {
				m, got := broker.Request(ctx, fullPublisher{err: err}, broker.OutgoingMessage{Name: "ask"})
				return expect(got, err != nil || m == bareMessage{id: 2}, "the reply is %v", m)
			},
		},
		{
			name: "Health", kind: "broker_test.bareBroker", what: "health",
			absent: func(ctx context.Context) error { return broker.Health(ctx, bareBroker{}) },
			present: func(ctx context.Context, err error) error {
				return broker.Health(ctx, &fullBroker{err: err})
			},
		},
		{
			name: "ByName.Subscribe", kind: "broker_test.bareBroker", what: "subscribing by name",
			absent: func(ctx context.Context) error {
				sub, err := broker.ByName("orders").Subscribe(ctx, bareBroker{})
				return expect(err, sub == nil, "it subscribed: %v", sub)
			},
			present: func(ctx context.Context, err error) error {
				b := &fullBroker{err: err}
				sub, got := broker.ByName("orders").Subscribe(ctx, b)
				asked := strings.Join(b.asked, ",")
				return expect(got, (sub == nil) == (err != nil) && asked == "subscribe orders", "it answers %v after %q", sub, asked)
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx := callerContext()
			err := tt.absent(ctx)
			if !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("absent: %v, want errors.ErrUnsupported", err)
			} else if want := tt.kind + ": " + tt.what + ": unsupported operation"; err.Error() != want {
				t.Errorf("absent: the text is %q, want %q", err, want)
			}
			for _, want := range []error{nil, errCut, errRefused} {
				if got := tt.present(ctx, want); got != want {
					t.Errorf("present, answering %v: %v", want, got)
				}
			}
		})
	}
}

// expect returns err where ok holds, else an error that says what was seen.
func expect(err error, ok bool, format string, args ...any) error {
	if ok {
		return err
	}
	return fmt.Errorf("%s, with the error %v", fmt.Sprintf(format, args...), err)
}

func TestPublishBatchIsNativeWherePossible(t *testing.T) {
	t.Parallel()
	for _, want := range []error{nil, errCut, &broker.BatchError{Errs: []error{nil, errCut}}} {
		var got []broker.OutgoingMessage
		err := broker.PublishBatch(callerContext(), fullPublisher{err: want, batch: &got}, named("a", "b"))
		if err != want || len(got) != 2 {
			t.Errorf("answers %v after %d messages, want %v after 2", err, len(got), want)
		}
	}
}

func TestDeliveryCount(t *testing.T) {
	t.Parallel()
	if n, ok := broker.DeliveryCount(bareMessage{}); n != 0 || ok {
		t.Errorf("absent: %d, %v", n, ok)
	}
	if n, ok := broker.DeliveryCount(fullMessage{count: 3}); n != 3 || !ok {
		t.Errorf("present: %d, %v", n, ok)
	}
}

func TestPartitionKey(t *testing.T) {
	t.Parallel()
	if k, ok := broker.PartitionKey(bareMessage{}); k != nil || ok {
		t.Errorf("absent: %q, %v", k, ok)
	}
	if k, ok := broker.PartitionKey(fullMessage{key: []byte("k")}); string(k) != "k" || !ok {
		t.Errorf("present: %q, %v", k, ok)
	}
	if k, ok := broker.PartitionKey(fullMessage{}); k != nil || !ok {
		t.Errorf("a message without a key on a transport with keys: %q, %v", k, ok)
	}
}

func TestLeaseUntil(t *testing.T) {
	t.Parallel()
	if until, ok := broker.LeaseUntil(bareMessage{}); !until.IsZero() || ok {
		t.Errorf("absent: %v, %v", until, ok)
	}
	want := time.Unix(1700000000, 0)
	if until, ok := broker.LeaseUntil(fullMessage{until: want}); !until.Equal(want) || !ok {
		t.Errorf("present: %v, %v", until, ok)
	}
}

func TestStale(t *testing.T) {
	t.Parallel()
	if broker.Stale(bareMessage{}) {
		t.Error("a message without the capability is stale")
	}
	for _, want := range []bool{false, true} {
		if broker.Stale(fullMessage{stale: want}) != want {
			t.Errorf("a message that says %v is reported otherwise", want)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	if err := broker.Check(bareBroker{}); err != nil {
		t.Errorf("absent: %v", err)
	}
	for _, want := range []error{nil, errCut} {
		if err := broker.Check(&fullBroker{err: want}); err != want {
			t.Errorf("present, answering %v: %v", want, err)
		}
	}
}

func TestNotify(t *testing.T) {
	t.Parallel()
	if broker.Notify(bareBroker{}, func(broker.Event) { t.Error("called") }) {
		t.Error("absent: reported as present")
	}
	b := &fullBroker{}
	var got []broker.Event
	for range 2 {
		if !broker.Notify(b, func(e broker.Event) { got = append(got, e) }) {
			t.Error("present: reported as absent")
		}
	}
	want := broker.Event{Kind: broker.EventSubscriptionLost, Name: "orders", Err: errCut}
	for _, f := range b.listeners {
		f(want)
	}
	if len(got) != 2 || got[0] != want || got[1] != want {
		t.Errorf("the listeners heard %v", got)
	}
}

func TestDescribeServer(t *testing.T) {
	t.Parallel()
	if spec, ok := broker.DescribeServer(bareBroker{}); ok || spec.Protocol != "" || spec.Hosts != nil {
		t.Errorf("absent: %v, %v", spec, ok)
	}
	if spec, ok := broker.DescribeServer(&fullBroker{}); !ok || spec.Protocol != "full" || len(spec.Hosts) != 1 {
		t.Errorf("present: %v, %v", spec, ok)
	}
}

func TestPropertiesOf(t *testing.T) {
	t.Parallel()
	if p := broker.PropertiesOf(bareBroker{}); p != (broker.Properties{}) {
		t.Errorf("absent: %+v, want nothing promised", p)
	}
	want := broker.Properties{Redelivers: true, Keys: broker.KeysNative}
	if p := broker.PropertiesOf(&fullBroker{}); p != want {
		t.Errorf("present: %+v, want %+v", p, want)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		got  fmt.Stringer
		want string
	}{
		{broker.KeySupport(0), "none"},
		{broker.KeysNone, "none"},
		{broker.KeysHeader, "header"},
		{broker.KeysNative, "native"},
		{broker.EventKind(0), "unknown event"},
		{broker.EventDisconnected, "disconnected"},
		{broker.EventReconnected, "reconnected"},
		{broker.EventSlowConsumer, "slow consumer"},
		{broker.EventSubscriptionLost, "subscription lost"},
	} {
		if tt.got.String() != tt.want {
			t.Errorf("%#v is called %q, want %q", tt.got, tt.got, tt.want)
		}
	}
}

// A helper adds nothing to a delivery's cost.
func TestCapabilityAllocations(t *testing.T) {
	var m broker.IncomingMessage = &fullMessage{count: 1, key: []byte("k")}
	ctx := callerContext()
	for name, f := range map[string]func(){
		"DeliveryCount": func() { sink.n, sink.ok = broker.DeliveryCount(m) },
		"PartitionKey":  func() { _, sink.ok = broker.PartitionKey(m) },
		"LeaseUntil":    func() { _, sink.ok = broker.LeaseUntil(m) },
		"Stale":         func() { sink.ok = broker.Stale(m) },
		"NackAfter":     func() { sink.ok = broker.NackAfter(ctx, m, 0) == nil },
		"ExtendLease":   func() { sink.ok = broker.ExtendLease(ctx, m) == nil },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

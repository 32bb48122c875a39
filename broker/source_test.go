package broker_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/gostream/gostream/broker"
)

func TestByNameCheck(t *testing.T) {
	t.Parallel()
	if got := broker.ByName("orders").Name(); got != "orders" {
		t.Errorf("Name is %q", got)
	}

	b := &fullBroker{}
	if err := broker.ByName("orders").Check(b); err != nil {
		t.Errorf("a good name: %v", err)
	}
	if !slices.Equal(b.asked, []string{"subscribe to orders"}) {
		t.Errorf("the broker was asked %q", b.asked)
	}
	// A broker that subscribes by name, but does not know names before I/O.
	if err := broker.ByName("anything").Check(onlySubscriber{}); err != nil {
		t.Errorf("a broker without a NameChecker: %v", err)
	}

	refused := &broker.Error{Op: "subscribe", Broker: "full", Name: "a b", Kind: broker.ErrInvalid}
	for _, tt := range []struct {
		name  string
		src   broker.ByName
		b     broker.Broker
		texts []string
	}{
		{"an empty name", "", &fullBroker{}, []string{"empty name"}},
		{"a broker that does not subscribe by name", "orders", bareBroker{}, []string{`"orders"`, "broker_test.bareBroker", "use a source of that broker"}},
		{"a name that the broker refuses", "a b", &fullBroker{err: refused}, []string{`"a b"`}},
	} {
		err := tt.src.Check(tt.b)
		if !errors.Is(err, broker.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", tt.name, err)
			continue
		}
		for _, text := range tt.texts {
			if !strings.Contains(err.Error(), text) {
				t.Errorf("%s: the text %q does not say %q", tt.name, err, text)
			}
		}
	}
}

type onlySubscriber struct {
	bareBroker
	broker.Subscriber
}

func TestCheckNames(t *testing.T) {
	t.Parallel()
	if err := broker.CheckSubscribeName(bareBroker{}, "any"); err != nil {
		t.Errorf("CheckSubscribeName, absent: %v", err)
	}
	if err := broker.CheckPublishName(bareBroker{}, "any"); err != nil {
		t.Errorf("CheckPublishName, absent: %v", err)
	}
	for _, want := range []error{nil, broker.ErrInvalid} {
		b := &fullBroker{err: want}
		if err := broker.CheckSubscribeName(b, "s"); err != want {
			t.Errorf("CheckSubscribeName, answering %v: %v", want, err)
		}
		if err := broker.CheckPublishName(b, "p"); err != want {
			t.Errorf("CheckPublishName, answering %v: %v", want, err)
		}
		if !slices.Equal(b.asked, []string{"subscribe to s", "publish to p"}) {
			t.Errorf("the broker was asked %q", b.asked)
		}
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		why  string
		src  broker.Source
		b    broker.Broker
		name string
		want bool
	}{
		{"the source's own rule", fullSource{}, &fullBroker{}, "matched", true},
		{"the source's own rule, not the name", fullSource{bareSource: bareSource{"declared"}}, &fullBroker{}, "declared", false},
		{"by name: the broker's rule", broker.ByName("orders.*"), &fullBroker{}, "orders.new", true},
		{"by name: the broker's rule", broker.ByName("orders.*"), &fullBroker{}, "bills.new", false},
		{"by name: equality without a rule", broker.ByName("orders.*"), bareBroker{}, "orders.new", false},
		{"by name: equality without a rule", broker.ByName("orders.*"), bareBroker{}, "orders.*", true},
		{"the broker's rule is for names alone", bareSource{"orders.*"}, &fullBroker{}, "orders.new", false},
		{"a source without a rule", bareSource{"orders"}, &fullBroker{}, "orders", true},
	} {
		if got := broker.Matches(tt.src, tt.b, tt.name); got != tt.want {
			t.Errorf("%s: Matches(%q, %q) is %v", tt.why, tt.src.Name(), tt.name, got)
		}
	}
}

func TestDescribeSource(t *testing.T) {
	t.Parallel()
	b := &fullBroker{}
	want := broker.SourceSpec{
		Group: "workers", Limit: 10,
		Properties: broker.Properties{Ordered: true},
		Bindings:   map[string]any{"full": map[string]any{"queue": "q"}},
	}
	if spec, ok := broker.DescribeSource(fullSource{spec: want}, b); !ok || !reflect.DeepEqual(spec, want) {
		t.Errorf("present: %+v, %v", spec, ok)
	}
	byBroker := broker.SourceSpec{Properties: b.Properties()}
	for _, src := range []broker.Source{bareSource{"orders"}, broker.ByName("orders")} {
		if spec, ok := broker.DescribeSource(src, b); ok || !reflect.DeepEqual(spec, byBroker) {
			t.Errorf("%T: %+v, %v; want the broker's properties and nothing else", src, spec, ok)
		}
		if spec, ok := broker.DescribeSource(src, bareBroker{}); ok || !reflect.DeepEqual(spec, broker.SourceSpec{}) {
			t.Errorf("%T on a broker that declares nothing: %+v, %v", src, spec, ok)
		}
	}
}

func TestPublisherFor(t *testing.T) {
	t.Parallel()
	own, byDefault := &recorder{}, &recorder{}
	for _, tt := range []struct {
		name string
		src  broker.Source
		b    broker.Broker
		want broker.Publisher
	}{
		{"the matching one", fullSource{publisher: own}, &fullBroker{publisher: byDefault}, own},
		{"the matching one of a broker without any", fullSource{publisher: own}, bareBroker{}, own},
		{"a source that has none after all", fullSource{}, &fullBroker{publisher: byDefault}, byDefault},
		{"the default", bareSource{"orders"}, &fullBroker{publisher: byDefault}, byDefault},
		{"by name", broker.ByName("orders"), &fullBroker{publisher: byDefault}, byDefault},
		{"a broker that has none after all", bareSource{"orders"}, &fullBroker{}, nil},
		{"neither", bareSource{"orders"}, bareBroker{}, nil},
	} {
		p, ok := broker.PublisherFor(tt.src, tt.b)
		if p != tt.want || ok != (tt.want != nil) {
			t.Errorf("%s: %v, %v", tt.name, p, ok)
		}
	}
}

func TestDefaultPublisher(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	for _, tt := range []struct {
		name string
		b    broker.Broker
		want broker.Publisher
	}{
		{"present", &fullBroker{publisher: r}, r},
		{"present, but nil", &fullBroker{}, nil},
		{"absent", bareBroker{}, nil},
	} {
		if p, ok := broker.DefaultPublisher(tt.b); p != tt.want || ok != (tt.want != nil) {
			t.Errorf("%s: %v, %v", tt.name, p, ok)
		}
	}
}

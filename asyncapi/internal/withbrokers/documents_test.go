package withbrokers

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/asyncapi"
	"github.com/gostream/gostream/asyncapi/internal/official"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
	"github.com/gostream/gostream/brokers/nats"
	"github.com/gostream/gostream/memory"
)

var update = flag.Bool("update", false, "write testdata anew")

type Order struct {
	ID string `json:"id" required:"true"`
}

type Confirmation struct {
	OrderID string `json:"order_id"`
}

func confirm(context.Context, Order) (Confirmation, error) { return Confirmation{}, nil }

func take(context.Context, Order) error { return nil }

func raw(context.Context, *gostream.Delivery) error { return nil }

// secrets stand where programs keep credentials. None may come into a document.
var secrets = []string{"hushhush", "s3cr3t", "anna", "t0ken"}

func onNATS(app *gostream.App) {
	b := nats.New("nats://anna:hushhush@nats-1.example:4222,nats://anna:hushhush@nats-2.example:4222", nats.ConfirmPublishes())
	r := gostream.NewRouter()
	r.HandleSource(nats.Stream("orders.*.created", "SHOP").Durable("shop"), gostream.Reply(confirm).To("confirmations"), gostream.DeadLetterTo("dead"))
	r.HandleSource(nats.Subject("audit.>").QueueGroup("auditors"), gostream.Raw(raw), gostream.Named("audit"))
	r.HandleSource(nats.Subject("prices"), gostream.Reply(func(context.Context, string) (Confirmation, error) { return Confirmation{}, nil }).ToReplyTo())
	app.Mount(b, r)
	gostream.NewPublisher[Order](app, b, "orders.eu.created")
	gostream.NewRequester[string, Confirmation](app, b, "prices")
}

func onKafka(app *gostream.App) {
	b := kafka.New("kafka-1.example:9092,kafka-2.example:9092", kafka.SASLPlain("anna", "s3cr3t"))
	r := gostream.NewRouter()
	r.HandleSource(kafka.Topic("orders").Group("shop").Create(kafka.TopicConfig{Partitions: 6, ReplicationFactor: 3}), gostream.Reply(confirm).To("confirmations"), gostream.ByKey(), gostream.DeadLetterTo("orders.dead"))
	r.HandleSource(kafka.Topics("a", "b").Group("shop"), gostream.Consume(take))
	r.HandleSource(kafka.TopicPattern(`audit\..*`).Group("audit"), gostream.Raw(raw))
	r.HandleSource(kafka.Partitions("replays", 0), gostream.Consume(take))
	app.Mount(b, r)
}

// onThree is what comes in on one broker and goes out on another.
func onThree(app *gostream.App) {
	in := kafka.New("127.0.0.1:9092", kafka.DefaultGroup("bridge"))
	out := nats.New("nats://t0ken@127.0.0.1:4222")
	inside := memory.New()
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Reply(confirm).To("orders").Via(app.RawPublisher(out)), gostream.AllowLoss())
	app.Mount(in, r)
	app.Mount(out)
	local := gostream.NewRouter()
	local.Handle("orders", gostream.Consume(take), gostream.Named("local"))
	app.Mount(inside, local)
}

func TestDocuments(t *testing.T) {
	t.Parallel()
	for name, build := range map[string]func(*gostream.App){"nats": onNATS, "kafka": onKafka, "three": onThree} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, version := range []string{"3.0.0", "3.1.0"} {
				app := gostream.New("shop", "1.0.0")
				build(app)
				d, err := app.Describe()
				if err != nil {
					t.Fatal(err)
				}
				spec, err := asyncapi.Document(d, asyncapi.Version(version))
				if err != nil {
					t.Fatal(err)
				}
				data, err := spec.JSON()
				if err != nil {
					t.Fatal(err)
				}
				if err := official.Validate(version, data); err != nil {
					t.Errorf("the document is not valid: %v\n%s", err, data)
				}
				text, err := spec.YAML()
				if err != nil {
					t.Fatal(err)
				}
				for _, secret := range secrets {
					if bytes.Contains(data, []byte(secret)) || bytes.Contains(text, []byte(secret)) {
						t.Errorf("the document has the credential %q:\n%s", secret, text)
					}
				}
				back, err := asyncapi.Parse(text)
				if err != nil {
					t.Fatal(err)
				}
				if c := asyncapi.Diff(spec, back); len(c.List) > 0 {
					t.Errorf("read again it differs: %s", c)
				}
				if version == "3.0.0" {
					golden(t, filepath.Join("testdata", name+".yaml"), text)
				}
			}
		})
	}
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v: run go test -update", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; go test -update writes it. It is now\n%s", file, got)
	}
}

// What changes at the brokers is told apart: a topic is the address, a group is not.
func TestDiffOfSources(t *testing.T) {
	t.Parallel()
	onTopic := func(s kafka.TopicSource) *asyncapi.Spec {
		return document(t, kafka.New("k:1"), s)
	}
	onSubject := func(s broker.Source) *asyncapi.Spec {
		return document(t, nats.New("nats://n:1"), s)
	}
	topic, subject := kafka.Topic("orders").Group("shop"), nats.Subject("orders").QueueGroup("shop")
	for _, tt := range []struct {
		name     string
		old, new *asyncapi.Spec
		breaking bool
		want     string
	}{
		{"another group", onTopic(topic), onTopic(topic.Group("other")), false, "[group]"},
		{"another queue", onSubject(subject), onSubject(subject.QueueGroup("other")), false, "[group]"},
		{"no queue", onSubject(subject), onSubject(nats.Subject("orders")), false, "[group]"},
		{"another topic", onTopic(topic), onTopic(kafka.Topic("other").Group("shop")), true, "[address]"},
		{"partitions", onTopic(topic), onTopic(topic.Create(kafka.TopicConfig{Partitions: 3})), false, "[binding]"},
		{"another pattern", onTopic(kafka.TopicPattern("a.*").Group("g")), onTopic(kafka.TopicPattern("b.*").Group("g")), true, "[address]"},
		{"a topic more", onTopic(kafka.Topics("a", "b").Group("g")), onTopic(kafka.Topics("a", "b", "c").Group("g")), false, "[parameters]"},
		{"a topic less", onTopic(kafka.Topics("a", "b", "c").Group("g")), onTopic(kafka.Topics("a", "b").Group("g")), true, "[address]"},
		{"another broker", onTopic(topic), onSubject(subject), true, "[protocol]"},
		{"a wildcard", onSubject(subject), onSubject(nats.Subject("orders.*")), true, "[address]"},
	} {
		c := asyncapi.Diff(tt.old, tt.new)
		if c.Breaking() != tt.breaking || !strings.Contains(c.Text(), tt.want) {
			t.Errorf("%s: breaking %v, want %v with %s:\n%s", tt.name, c.Breaking(), tt.breaking, tt.want, c)
		}
	}
}

// document is that of an app with one subscription, called s.
func document(t *testing.T, b broker.Broker, src broker.Source) *asyncapi.Spec {
	t.Helper()
	app := gostream.New("shop", "1.0.0")
	r := gostream.NewRouter()
	r.HandleSource(src, gostream.Consume(take), gostream.Named("s"))
	app.Mount(b, r)
	d, err := app.Describe()
	if err != nil {
		t.Fatal(err)
	}
	spec, err := asyncapi.Document(d)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

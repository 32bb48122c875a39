package kafka_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
)

// What must be given has no default, and is refused by its name.
func TestRequiredFields(t *testing.T) {
	t.Parallel()
	grouped := kafka.New("localhost", kafka.DefaultGroup("g"))
	for _, tt := range []struct {
		field string
		check error
		says  string
	}{
		{"brokers of New", kafka.New("").Check(), "kafka.New: the brokers are empty"},
		{"brokers of New", kafka.New(" \t").Check(), "kafka.New: the brokers are empty"},
		{"an option of New", kafka.New("a", nil).Check(), "kafka.New: an option is nil"},
		{"the id of ClientID", kafka.New("a", kafka.ClientID("")).Check(), "kafka.ClientID: the id is empty"},
		{"the group of DefaultGroup", kafka.New("a", kafka.DefaultGroup("")).Check(), "kafka.DefaultGroup: the group is empty"},
		{"the user of SASLPlain", kafka.New("a", kafka.SASLPlain("", "x")).Check(), "kafka.SASLPlain: the user is empty"},
		{"the password of SASLPlain", kafka.New("a", kafka.SASLPlain("x", "")).Check(), "kafka.SASLPlain: the password is empty"},
		{"the user of SASLScramSHA256", kafka.New("a", kafka.SASLScramSHA256("", "x")).Check(), "kafka.SASLScramSHA256: the user is empty"},
		{"the password of SASLScramSHA256", kafka.New("a", kafka.SASLScramSHA256("x", "")).Check(), "kafka.SASLScramSHA256: the password is empty"},
		{"the user of SASLScramSHA512", kafka.New("a", kafka.SASLScramSHA512("", "x")).Check(), "kafka.SASLScramSHA512: the user is empty"},
		{"the password of SASLScramSHA512", kafka.New("a", kafka.SASLScramSHA512("x", "")).Check(), "kafka.SASLScramSHA512: the password is empty"},
		{"the configuration of TLS", kafka.New("a", kafka.TLS(nil)).Check(), "kafka.TLS: the configuration is nil: &tls.Config{}"},
		{"the time of DialTimeout", kafka.New("a", kafka.DialTimeout(0)).Check(), "kafka.DialTimeout(0s): the time must be positive"},
		{"the function of Dialer", kafka.New("a", kafka.Dialer(nil)).Check(), "kafka.Dialer: the function is nil"},
		{"the id of TransactionalID", kafka.New("a", kafka.TransactionalID("")).Check(), "kafka.TransactionalID: the id is empty"},
		{"an option of ClientOptions", kafka.New("a", kafka.ClientOptions(nil)).Check(), "kafka.ClientOptions: an option is nil"},
		{"the name of Topic", kafka.Topic("").Check(grouped), `kafka.Topic(""): the topic is empty`},
		{"the names of Topics", kafka.Topics().Check(grouped), "there is no topic"},
		{"the pattern of TopicPattern", kafka.TopicPattern("").Check(grouped), "the pattern is empty"},
		{"a group for Topic", kafka.Topic("a").Check(kafka.New("a")), "there is no consumer group: name one with Group, or for all with kafka.DefaultGroup"},
		{"a group for TopicPattern", kafka.TopicPattern("a").Check(kafka.New("a")), "there is no consumer group"},
		{"a group for Subscribe by name", kafka.New("a").CheckSubscribeName("a"), "there is no consumer group"},
		{"the name of Group", kafka.Topic("a").Group("").Check(grouped), "the group is empty"},
		{"the time of FromTime", kafka.Topic("a").FromTime(time.Time{}).Check(grouped), "the start time is before 1970"},
		{"the topic of Partitions", kafka.Partitions("", 0).Check(grouped), `kafka.Partitions("", 0): the topic is empty`},
		{"the partitions of Partitions", kafka.Partitions("a").Check(grouped), "there is no partition: name those to read"},
		{"the time of FromTime", kafka.Partitions("a", 0).FromTime(time.Time{}).Check(grouped), "the start time is before 1970"},
		{"the name of a topic to publish to", grouped.CheckPublishName(""), "the topic is empty"},
	} {
		if !errors.Is(tt.check, broker.ErrInvalid) || !strings.Contains(fmt.Sprint(tt.check), tt.says) {
			t.Errorf("without %s: %v, want %q", tt.field, tt.check, tt.says)
		}
	}
}

// All mistakes are in one error, and none needs a server.
func TestMistakesAreJoined(t *testing.T) {
	t.Parallel()
	b := kafka.New("kafka://x, :9092, u:hidden@h, h:0,",
		nil, kafka.ClientID(""), kafka.DefaultGroup(strings.Repeat("g", 40_000)), kafka.DefaultGroup("a\x00b"),
		kafka.SASLPlain("hidden-user", ""), kafka.SASLScramSHA256("", "hidden-password"), kafka.SASLScramSHA512("u", "p"),
		kafka.TLS(nil), kafka.DialTimeout(-time.Second), kafka.Dialer(nil), kafka.TransactionalID(""),
		kafka.ClientOptions(nil, kgo.ClientID("x"), kgo.InstanceID("x")))
	err := b.Check()
	for _, want := range []string{
		"broker 1: it is no address of the form host:port", "broker 2: it has no host", "broker 3: it is no address", "broker 4: the port is no number from 1 to 65535",
		"broker 5: the address is empty", "credentials go into SASLPlain or SASLScramSHA512",
		"kafka.New: an option is nil", "kafka.ClientID", "kafka.DefaultGroup: the group \"ggg", "is too long", "has a zero byte",
		"kafka.SASLPlain: the password", "kafka.SASLScramSHA256: the user",
		"more than one way to authenticate: SASLPlain, SASLScramSHA256, SASLScramSHA512; keep one",
		"kafka.TLS", "kafka.DialTimeout(-1s)", "kafka.Dialer", "kafka.TransactionalID",
		"kafka.ClientOptions: an option is nil", "kgo.ClientID is refused: use ClientID of this package", "kgo.InstanceID is refused",
	} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	if !errors.Is(err, broker.ErrInvalid) {
		t.Errorf("%v is not broker.ErrInvalid", err)
	}
	if again := b.Check(); fmt.Sprint(again) != fmt.Sprint(err) {
		t.Errorf("a second Check: %v, the first: %v", again, err)
	}
	if got := b.Connect(t.Context()); fmt.Sprint(got) != fmt.Sprint(err) {
		t.Errorf("Connect: %v, Check: %v", got, err)
	}
	if len(fmt.Sprint(err)) > 8000 {
		t.Errorf("the error has %d bytes", len(fmt.Sprint(err)))
	}
	noSecret(t, b, err, "hidden")
}

// noSecret looks for a secret wherever a broker can be printed.
func noSecret(t *testing.T, b *kafka.Broker, err error, secret string) {
	t.Helper()
	text := fmt.Sprintf("%v %+v %#v %s %q %v %v %+v %#v", b, b, b, b, b, b.DescribeServer(), err, err, err)
	text += b.String() + b.GoString() + fmt.Sprint([]any{b}, map[string]any{"b": b}, struct{ B any }{b})
	if strings.Contains(text, secret) {
		t.Errorf("%q is shown in %s", secret, text)
	}
}

// Users and passwords are not shown, neither by what is printed nor by what fails.
func TestCredentialsAreNotShown(t *testing.T) {
	t.Parallel()
	refuse := kafka.Dialer(func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no way") })
	for name, login := range map[string]func(user, password string) kafka.Option{
		"PLAIN": kafka.SASLPlain, "SCRAM-SHA-256": kafka.SASLScramSHA256, "SCRAM-SHA-512": kafka.SASLScramSHA512,
	} {
		b := kafka.New("localhost:9", login("us3r", "s3cret"), refuse)
		if err := b.Check(); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		err := b.Connect(ctx)
		cancel()
		if err == nil {
			t.Fatal("connected to nobody")
		}
		for _, secret := range []string{"us3r", "s3cret"} {
			t.Run(name, func(t *testing.T) {
				noSecret(t, b, err, secret)
				noSecret(t, b, kafka.New("localhost", login("us3r", "s3cret"), kafka.ClientID("")).Check(), secret)
				noSecret(t, b, kafka.Topic("a").Check(b), secret)
			})
		}
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string][]string{
		"localhost":                      {"localhost:9092"},
		"localhost:1":                    {"localhost:1"},
		"127.0.0.1":                      {"127.0.0.1:9092"},
		"a.example.org:65535":            {"a.example.org:65535"},
		"::1":                            {"[::1]:9092"},
		"[::1]":                          {"[::1]:9092"},
		"[::1]:9093":                     {"[::1]:9093"},
		"2001:db8::7":                    {"[2001:db8::7]:9092"},
		"a, b:2 ,\tc:3\n":                {"a:9092", "b:2", "c:3"},
		"h:09092":                        {"h:09092"},
		"a,a":                            {"a:9092", "a:9092"},
		"0.kafka.svc.cluster.local:9094": {"0.kafka.svc.cluster.local:9094"},
	} {
		b := kafka.New(raw)
		if err := b.Check(); err != nil {
			t.Errorf("%q: %v", raw, err)
			continue
		}
		got := b.DescribeServer()
		if !slices.Equal(got.Hosts, want) || got.Protocol != "kafka" {
			t.Errorf("%q is described as %v, want %v", raw, got, want)
		}
		if text := b.String(); text != "kafka broker "+strings.Join(want, ",") || text != b.GoString() {
			t.Errorf("%q is printed as %s", raw, text)
		}
		got.Hosts[0] = "changed"
		if b.DescribeServer().Hosts[0] != want[0] {
			t.Error("the description shares its hosts with the broker")
		}
	}
	for _, tt := range []struct{ raw, says string }{
		{",", "broker 1: the address is empty"},
		{"a,,b", "broker 2: the address is empty"},
		{"kafka://visible", "a scheme, a user and a path have no place in it"},
		{"SASL_SSL://visible:9092", "no address of the form host:port"},
		{"visible:pw@h:9092", "credentials go into SASLPlain or SASLScramSHA512"},
		{"visible@h", "credentials go into SASLPlain"},
		{"h/visible", "no address of the form host:port"},
		{"h?visible=1", "no address of the form host:port"},
		{"h#visible", "no address of the form host:port"},
		{"visible h", "no address of the form host:port"},
		{":9092", "it has no host"},
		{"[]:9092", "it has no host"},
		{"[]", "it has no host"},
		{"h:", "the port is no number from 1 to 65535"},
		{"h:0", "the port is no number from 1 to 65535"},
		{"h:65536", "the port is no number from 1 to 65535"},
		{"h:-1", "the port is no number from 1 to 65535"},
		{"h:visible", "the port is no number from 1 to 65535"},
		{"visible:1:2", "no address of the form host:port"},
		{"[::1", "no address of the form host:port"},
		{"[::1]]:visible", "no address of the form host:port"},
	} {
		b := kafka.New(tt.raw)
		err := b.Check()
		if !errors.Is(err, broker.ErrInvalid) || !strings.Contains(fmt.Sprint(err), tt.says) {
			t.Errorf("%q: %v, want %q", tt.raw, err, tt.says)
		}
		noSecret(t, b, err, "visible")
	}
	if got := kafka.New("").String(); got != "kafka broker" {
		t.Errorf("without an address it is printed as %q", got)
	}
}

func TestValidConfigurations(t *testing.T) {
	t.Parallel()
	for _, opts := range [][]kafka.Option{
		nil,
		{kafka.ClientID("id"), kafka.DefaultGroup("g"), kafka.AllowTopicCreation(), kafka.TransactionalID("tx")},
		{kafka.SASLPlain("u", "p"), kafka.TLS(&tls.Config{})},
		{kafka.SASLScramSHA256("u", "p")},
		{kafka.SASLScramSHA512("u", "p")},
		{kafka.DialTimeout(1), kafka.Dialer((&net.Dialer{}).DialContext)},
		{kafka.DefaultGroup("gröup with spaces")},
		{kafka.ClientOptions()},
	} {
		b := kafka.New("localhost", opts...)
		if err := b.Check(); err != nil {
			t.Error(err)
		}
		// A broker that was never connected has nothing to end.
		if err := b.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// TLS is the configuration as it was: the caller may change theirs.
func TestTheConfigurationOfTLSIsCopied(t *testing.T) {
	t.Parallel()
	mine := &tls.Config{ServerName: "before", MinVersion: tls.VersionTLS12}
	names := make(chan string, 16)
	b := kafka.New("localhost:9", kafka.TLS(mine), kafka.Dialer(func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go func() {
			defer func() { _ = server.Close() }()
			_ = tls.Server(server, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
				select {
				case names <- h.ServerName:
				default:
				}
				return nil, errors.New("enough")
			}}).Handshake()
		}()
		return client, nil
	}))
	mine.ServerName = "after"
	if err := b.Connect(t.Context()); err == nil {
		t.Error("connected to nobody")
	}
	if got := <-names; got != "before" {
		t.Errorf("the server name is %q", got)
	}
}

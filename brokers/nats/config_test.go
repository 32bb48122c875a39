package nats_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
)

// What must be given has no default, and is refused by its name.
func TestRequiredFields(t *testing.T) {
	t.Parallel()
	b := nats.New("nats://127.0.0.1:4222")
	for _, tt := range []struct {
		field string
		check error
		says  string
	}{
		{"urls of New", nats.New("").Check(), "nats.New: the urls are empty"},
		{"the connection of FromConn", nats.FromConn(nil).Check(), "nats.FromConn: the connection is nil"},
		{"the server of InProcess", nats.New("", nats.InProcess(nil)).Check(), "nats.InProcess: the server is nil"},
		{"the user of UserPassword", nats.New("a", nats.UserPassword("", "x")).Check(), "nats.UserPassword: the user is empty"},
		{"the password of UserPassword", nats.New("a", nats.UserPassword("x", "")).Check(), "nats.UserPassword: the password is empty"},
		{"the token of Token", nats.New("a", nats.Token("")).Check(), "nats.Token: the token is empty"},
		{"the path of CredentialsFile", nats.New("a", nats.CredentialsFile("")).Check(), "nats.CredentialsFile: the path is empty"},
		{"the path of NKeySeedFile", nats.New("a", nats.NKeySeedFile("")).Check(), "nats.NKeySeedFile: the path is empty"},
		{"the configuration of TLS", nats.New("a", nats.TLS(nil)).Check(), "nats.TLS: the configuration is nil"},
		{"the subject of Subject", nats.Subject("").Check(b), `nats.Subject(""): the subject is empty`},
		{"the name of QueueGroup", nats.Subject("a").QueueGroup("").Check(b), "the queue group is empty"},
		{"the subject of Stream", nats.Stream("", "S").Check(b), `nats.Stream("", "S"): the subject is empty`},
		{"the stream of Stream", nats.Stream("a", "").Check(b), "the stream is empty"},
		{"the name of Durable", nats.Stream("a", "S").Durable("").Check(b), "the durable name is empty"},
		{"the subjects of FilterSubjects", nats.Stream("a", "S").FilterSubjects().Check(b), "FilterSubjects has no subject"},
		{"the sequence of StartSequence", nats.Stream("a", "S").StartSequence(0).Check(b), "the start sequence is 0"},
		{"the time of StartTime", nats.Stream("a", "S").StartTime(time.Time{}).Check(b), "the start time is zero"},
	} {
		if !errors.Is(tt.check, broker.ErrInvalid) || !strings.Contains(fmt.Sprint(tt.check), tt.says) {
			t.Errorf("without %s: %v, want %q", tt.field, tt.check, tt.says)
		}
	}
}

// All mistakes are in one error, and none needs a server.
func TestMistakesAreJoined(t *testing.T) {
	t.Parallel()
	b := nats.New("http://x, nats://, tls://%zz:secret@h",
		nil, nats.Name(""), nats.Token("t"), nats.UserPassword("u", "hidden"), nats.ReconnectWait(0), nats.ConnectTimeout(-1), nats.PingInterval(0),
		nats.MaxReconnects(-1), nats.ReconnectBuffer(-1), nats.PendingMessages(0), nats.InboxPrefix("a.*"), nats.InboxPrefix(""), nats.JetStreamDomain("a.b"))
	err := b.Check()
	for _, want := range []string{
		`url 1: the scheme "http"`, "url 2: it has no host", "url 3: it is no URL", "an option is nil", "nats.Name", "Token, UserPassword",
		"nats.ReconnectWait(0s)", "nats.ConnectTimeout(-1ns)", "nats.PingInterval(0s)", "nats.MaxReconnects(-1)", "nats.ReconnectBuffer(-1)",
		"nats.PendingMessages(0)", "nats.InboxPrefix", "the subject is empty", "nats.JetStreamDomain",
	} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	if !errors.Is(err, broker.ErrInvalid) || !errors.Is(b.Connect(t.Context()), broker.ErrInvalid) {
		t.Errorf("Check: %v, Connect: %v", err, b.Connect(t.Context()))
	}
	for _, secret := range []string{"secret", "hidden"} {
		if strings.Contains(fmt.Sprint(err), secret) {
			t.Errorf("the error shows %q: %v", secret, err)
		}
	}
	err = nats.Stream("a..b", "S.x").Durable("d>").FilterSubjects("a", "*", "b c").AckWait(time.Millisecond).MaxAckPending(0).Prefetch(0).
		DeliverPolicy(99).Create(jetstream.StreamConfig{Name: "T", NoAck: true, Subjects: []string{".."}}).Check(nil)
	for _, want := range []string{
		"an empty token", `the stream "S.x"`, `the durable name "d>"`, `FilterSubjects "b c"`, `"a" and "*" overlap`, "AckWait is 1ms", "MaxAckPending is 0",
		"the prefetch is 0", "no deliver policy 99", `Create is for the stream "T"`, "NoAck", `Create with the subject ".."`, "cannot subscribe on <nil>",
	} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	err = nats.Stream("a", "S").Durable("d").AckWait(time.Second).MaxAckPending(1).ConfirmAcks().Ordered().Check(b)
	if want := "take out Durable, AckWait, MaxAckPending, ConfirmAcks, or Ordered"; !strings.Contains(fmt.Sprint(err), want) {
		t.Errorf("%q is not in %v", want, err)
	}
	err = nats.Stream("orders.>", "S").Create(jetstream.StreamConfig{Subjects: []string{"payments.>"}}).Check(b)
	if want := `keeps nothing of "orders.>"`; !strings.Contains(fmt.Sprint(err), want) {
		t.Errorf("%q is not in %v", want, err)
	}
}

func TestValidConfigurations(t *testing.T) {
	t.Parallel()
	for _, b := range []*nats.Broker{
		nats.New("nats://127.0.0.1"),
		nats.New("localhost"),
		nats.New("a:4222, tls://b, ws://c/, wss://d:443"),
		nats.New("nats://user:p%40ss@a"),
		nats.New("a", nats.UserPassword("u", "p"), nats.MaxReconnects(0), nats.ReconnectBuffer(0), nats.TLS(&tls.Config{}), nats.InboxPrefix("_in.me"), nats.ConfirmPublishes()),
	} {
		if err := b.Check(); err != nil {
			t.Errorf("%v: %v", b, err)
		}
	}
	b := nats.New("nats://user:secret@a, b:1")
	if got := b.DescribeServer(); fmt.Sprint(got.Hosts) != "[a:4222 b:1]" || got.Protocol != "nats" {
		t.Errorf("described as %v", got)
	}
	if got := fmt.Sprintf("%v %+v %#v %s", b, b, b, b); strings.Contains(got, "secret") {
		t.Errorf("printed as %s", got)
	}
}

func TestSpecs(t *testing.T) {
	t.Parallel()
	core := nats.Subject("a.*").QueueGroup("g").Spec()
	if p := core.Properties; core.Group != "g" || p.Redelivers || !p.BuffersPublishes || !p.CompetingConsumers || p.Backlog || p.Keys != broker.KeysHeader {
		t.Errorf("a queue group: %+v", core)
	}
	if got := fmt.Sprint(core.Bindings); got != "map[nats:map[operation:map[bindingVersion:0.1.0 queue:g]]]" {
		t.Errorf("bindings: %s", got)
	}
	stream := nats.Stream("a.>", "S")
	for _, tt := range []struct {
		name string
		src  nats.StreamSource
		want broker.SourceSpec
	}{
		{"a durable one", stream.Durable("d").MaxAckPending(7), broker.SourceSpec{Group: "d", Limit: 7, Properties: broker.Properties{Persistent: true, Redelivers: true, CountsDeliveries: true, CompetingConsumers: true, Backlog: true, Keys: broker.KeysHeader}}},
		{"one of its own", stream, broker.SourceSpec{Limit: nats.DefaultMaxAckPending, Properties: broker.Properties{Persistent: true, Redelivers: true, Backlog: true, Keys: broker.KeysHeader}}},
		{"one at a time", stream.MaxAckPending(1).DeliverPolicy(jetstream.DeliverNewPolicy).InMemory(), broker.SourceSpec{Limit: 1, Properties: broker.Properties{Redelivers: true, Ordered: true, OrderedByKey: true, Keys: broker.KeysHeader}}},
		{"a reader", stream.Ordered().Create(jetstream.StreamConfig{Storage: jetstream.MemoryStorage}), broker.SourceSpec{Properties: broker.Properties{Ordered: true, OrderedByKey: true, Backlog: true, Keys: broker.KeysHeader}}},
	} {
		got := tt.src.Spec()
		if got.Group != tt.want.Group || got.Limit != tt.want.Limit || got.Properties != tt.want.Properties {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
	filtered := stream.FilterSubjects("a.b", "a.*.c")
	for name, want := range map[string]bool{"a.b": true, "a.x.c": true, "a.c": false, "a.*.c": false} {
		if got := filtered.Match(name); got != want {
			t.Errorf("Match(%q) is %v", name, got)
		}
	}
	if filtered.Name() != "a.>" {
		t.Errorf("the name is %q", filtered.Name())
	}
}

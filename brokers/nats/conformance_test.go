package nats_test

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"maps"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
	"github.com/gostream/gostream/brokers/nats/embedded"
	"github.com/gostream/gostream/brokertest"
	"github.com/gostream/gostream/internal/cutproxy"
	"github.com/gostream/gostream/internal/docpage"
	"github.com/gostream/gostream/internal/testserver"
)

//go:generate go test -run "TestConformance" -update .

var update = flag.Bool("update", false, "write the tables of docs/brokers/nats.md instead of comparing them")

// TestConformance proves that the broker keeps the contract, on an embedded server and
// on the one at NATS_URL. It is not parallel to other tests: the kit looks whether the
// memory of the process grows.
func TestConformance(t *testing.T) {
	for _, s := range []struct {
		name string
		open func(t *testing.T) *site
	}{{"embedded", embeddedSite}, {"server", serverSite}} {
		for _, k := range []struct {
			name    string
			harness func(t *testing.T, s *site) brokertest.Harness
		}{{"core", coreHarness}, {"stream", streamHarness}, {"stream-in-order", inOrderHarness}, {"reader", readerHarness}} {
			t.Run(k.name+"/"+s.name, func(t *testing.T) {
				t.Parallel()
				at := s.open(t)
				report := brokertest.Run(t, k.harness(t, at))
				all := len(report.Results()) == len(brokertest.Checks()) // -run may choose some
				if s.name == "embedded" && all && !t.Failed() {
					tables, _, _ := strings.Cut(report.Markdown(), "### Checks")
					docpage.Same(t, guide, k.name, strings.ReplaceAll(tables, "### ", "#### "), *update, "go generate ./brokers/nats")
				}
			})
		}
	}
}

var guide = filepath.Join("..", "..", "docs", "brokers", "nats.md")

// site is a server behind a proxy that can cut its connections.
type site struct {
	proxy          *cutproxy.Proxy
	user, password string
	direct         string // the server's own URL
	restart        func(ctx context.Context) error
	skip           map[string]string
}

const password = "s3cr3t/of the=kit"

func embeddedSite(t *testing.T) *site {
	config := embedded.Config{Dir: t.TempDir(), Listen: "127.0.0.1:0", User: "kit", Password: password}
	server, err := embedded.Start(config)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		if err := server.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	config.Listen = strings.TrimPrefix(server.URL(), "nats://") // the same port again
	s := newSite(t, server.URL())
	s.user, s.password = "kit", password
	s.restart = func(ctx context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		if err := server.Shutdown(ctx); err != nil {
			return err
		}
		again, err := embedded.Start(config)
		if err == nil {
			server = again
		}
		return err
	}
	return s
}

func serverSite(t *testing.T) *site {
	s := newSite(t, testserver.Address(t, "NATS_URL", "nats://127.0.0.1:4222", "./brokers/nats"))
	s.user, s.password = "kit", password // a server without users does not look at them
	nc := s.connect(t)
	if v := nc.ConnectedServerVersion(); strings.HasPrefix(v, "2.9.") {
		s.skip = map[string]string{
			"settlement/any-order": "a server of version " + v + " that finds a request without a reader while it has something to deliver again steps back in the stream, and delivers once more what was acknowledged",
		}
	}
	return s
}

func newSite(t *testing.T, direct string) *site {
	u, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := cutproxy.Start(u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proxy.Close(); err != nil {
			t.Error(err)
		}
	})
	return &site{proxy: proxy, direct: direct}
}

// connect returns a connection past the proxy.
func (s *site) connect(t *testing.T) *natsgo.Conn {
	opts := []natsgo.Option{natsgo.MaxReconnects(-1), natsgo.ReconnectWait(10 * time.Millisecond)}
	if s.user != "" {
		opts = append(opts, natsgo.UserInfo(s.user, s.password))
	}
	nc, err := natsgo.Connect(s.direct, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// harness is what both kinds of sources have in common.
func (s *site) harness() brokertest.Harness {
	options := func() []nats.Option {
		opts := []nats.Option{nats.ReconnectWait(20 * time.Millisecond), nats.ConnectTimeout(2 * time.Second)}
		if s.user != "" {
			opts = append(opts, nats.UserPassword(s.user, s.password))
		}
		return opts
	}
	return brokertest.Harness{
		New: func() broker.Broker { return nats.New(s.proxy.Addr(), options()...) },
		Interrupt: func(context.Context) (func(context.Context) error, error) {
			s.proxy.Cut()
			return func(context.Context) error { s.proxy.Restore(); return nil }, nil
		},
		Restart:     s.restart,
		Unreachable: func() broker.Broker { return nats.New("nats://127.0.0.1:1", options()...) },
		Misconfigured: func() broker.Broker {
			return nats.New("http://127.0.0.1", nats.Name(""), nats.ReconnectWait(-1))
		},
		InvalidNames: []string{"a.*", "a.>", ">", "a..b", ".a", "a.", "a b", "a\r\nb", "a*b", "$JS.API.INFO", strings.Repeat("a", nats.MaxName+1)},
		Secrets:      []string{s.password},
		Skip:         s.skip,
		Bulk:         20_000,
	}
}

func coreHarness(_ *testing.T, s *site) brokertest.Harness {
	h := s.harness()
	h.Source = func(_ context.Context, id string) (brokertest.Target, error) {
		return brokertest.Target{Source: nats.Subject(id), Name: id}, nil
	}
	h.Group = func(_ context.Context, id string) (brokertest.Group, error) {
		return brokertest.Group{Name: id, Member: func(g string) broker.Source { return nats.Subject(id).QueueGroup(g) }}, nil
	}
	h.Pattern = func(_ context.Context, id string) (brokertest.Pattern, error) {
		return brokertest.Pattern{
			Source:   nats.Subject(id + ".*.new"),
			Matching: []string{id + ".a.new", id + ".b.new"},
			Other:    []string{id, id + ".a", id + ".a.old", id + ".a.b.new"},
		}, nil
	}
	h.ValidOptions = []any{nats.PublishOptions{}, &nats.PublishOptions{}}
	h.InvalidOptions = []any{nats.PublishOptions{MsgID: "m"}, (*nats.PublishOptions)(nil)}
	return h
}

func streamHarness(t *testing.T, s *site) brokertest.Harness {
	return streamsHarness(t, s, func(src nats.StreamSource) nats.StreamSource { return src })
}

// inOrderHarness is of a consumer with one unsettled message at a time, whose
// acknowledgements are confirmed.
func inOrderHarness(t *testing.T, s *site) brokertest.Harness {
	h := streamsHarness(t, s, func(src nats.StreamSource) nats.StreamSource { return src.MaxAckPending(1).ConfirmAcks() })
	// Each message takes two round trips. What grows would disturb the kits that run beside
	// this one, which look at the memory of the same process.
	h.Bulk = 5_000
	return h
}

// readerHarness is of an ordered reader of what is new.
func readerHarness(t *testing.T, s *site) brokertest.Harness {
	h := streamsHarness(t, s, func(src nats.StreamSource) nats.StreamSource {
		return nats.Stream(src.Name(), strings.SplitN(src.Name(), ".", 2)[0]).Ordered().DeliverPolicy(jetstream.DeliverNewPolicy)
	})
	h.Group, h.Lease = nil, nil
	h.Skip = maps.Clone(h.Skip)
	if h.Skip == nil {
		h.Skip = make(map[string]string)
	}
	h.Skip["lifecycle/close-hands-out"] = "what waits in the stream has not arrived: a reader asks for a few messages at a time"
	return h
}

func streamsHarness(t *testing.T, s *site, with func(nats.StreamSource) nats.StreamSource) brokertest.Harness {
	js, err := jetstream.New(s.connect(t))
	if err != nil {
		t.Fatal(err)
	}
	h := s.harness()
	source := func(id string) nats.StreamSource {
		return nats.Stream(id, id).Durable("kit").AckWait(3 * time.Second).MaxAckPending(64)
	}
	// make makes the stream, and returns what removes it.
	make := func(ctx context.Context, id string) (func(context.Context) error, error) {
		err := createStream(ctx, js, jetstream.StreamConfig{Name: id, Subjects: []string{id, id + ".>"}})
		return func(ctx context.Context) error { return js.DeleteStream(ctx, id) }, err
	}
	target := func(of func(id string) nats.StreamSource) func(context.Context, string) (brokertest.Target, error) {
		return func(ctx context.Context, id string) (brokertest.Target, error) {
			remove, err := make(ctx, id)
			return brokertest.Target{Source: with(of(id)), Name: id, Close: remove}, err
		}
	}
	h.Source = target(source)
	h.Lease = target(func(id string) nats.StreamSource { return source(id).AckWait(1500 * time.Millisecond) })
	h.Group = func(ctx context.Context, id string) (brokertest.Group, error) {
		remove, err := make(ctx, id)
		return brokertest.Group{Name: id, Member: func(g string) broker.Source { return with(source(id).Durable(g)) }, Close: remove}, err
	}
	h.Pattern = func(ctx context.Context, id string) (brokertest.Pattern, error) {
		remove, err := make(ctx, id)
		return brokertest.Pattern{
			Source:   with(nats.Stream(id+".*.new", id).Durable("kit")),
			Matching: []string{id + ".a.new", id + ".b.new"},
			Other:    []string{id, id + ".a", id + ".a.old", id + ".a.b.new"},
			Close:    remove,
		}, err
	}
	h.ValidOptions = []any{
		nats.PublishOptions{MsgID: "m-1"},
		&nats.PublishOptions{MsgID: "m-2", ExpectLastMsgID: "m-1"},
	}
	h.InvalidOptions = []any{
		nats.PublishOptions{TTL: -time.Second},
		nats.PublishOptions{TTL: time.Millisecond},
		nats.PublishOptions{MsgID: "a\nb"},
		(*nats.PublishOptions)(nil),
	}
	return h
}

// broker returns a connected broker behind the proxy.
func (s *site) broker(t *testing.T, opts ...nats.Option) *nats.Broker {
	t.Helper()
	opts = append(opts, nats.ReconnectWait(20*time.Millisecond))
	if s.user != "" {
		opts = append(opts, nats.UserPassword(s.user, s.password))
	}
	b := nats.New(s.proxy.Addr(), opts...)
	if err := b.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

func (s *site) jetStream(t *testing.T) jetstream.JetStream {
	t.Helper()
	js, err := jetstream.New(s.connect(t))
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// stream makes a stream of a name that nobody else has, with the subjects below it.
func (s *site) stream(t *testing.T, js jetstream.JetStream, config jetstream.StreamConfig) string {
	t.Helper()
	config.Name = "t" + rand.Text()[:12]
	config.Subjects = []string{config.Name + ".>"}
	if err := createStream(t.Context(), js, config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := js.DeleteStream(context.Background(), config.Name); err != nil {
			t.Error(err)
		}
	})
	return config.Name
}

// createStream makes a stream. A server that has just removed its last stream removes
// the folder of streams, now and then while the next one is being made there.
func createStream(ctx context.Context, on jetstream.JetStream, config jetstream.StreamConfig) error {
	const storeFailed = 10049
	for try := 0; ; try++ {
		_, err := on.CreateStream(ctx, config)
		var api *jetstream.APIError
		var js jetstream.JetStreamError
		if !errors.As(err, &api) && errors.As(err, &js) {
			api = js.APIError()
		}
		if api == nil || api.ErrorCode != storeFailed || try == 20 {
			return err
		}
	}
}

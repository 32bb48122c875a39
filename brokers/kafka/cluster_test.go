package kafka_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/gostream/gostream/brokers/kafka"
	"github.com/gostream/gostream/internal/cutproxy"
	"github.com/gostream/gostream/internal/testserver"
)

// site is a cluster whose connections can be cut.
type site struct {
	brokers        string // addresses with commas between them
	user, password string // of SCRAM-SHA-256, "" for none
	replicas       int16

	mu      sync.Mutex
	cluster *kfake.Cluster             // nil for a real one
	proxies map[string]*cutproxy.Proxy // by the address behind
	cut     bool

	clusterOpts []kfake.Opt
	admin       *kadm.Client
	plain       *kgo.Client
}

const password = "s3cr3t/of the=kit"

// ownCluster starts a cluster in this process, on disk, with users.
func ownCluster(t *testing.T, brokers int, opts ...kfake.Opt) *site {
	t.Helper()
	opts = append([]kfake.Opt{
		kfake.NumBrokers(brokers), kfake.DataDir(t.TempDir()),
		kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "kit", password),
		kfake.GroupMinSessionTimeout(100 * time.Millisecond),
	}, opts...)
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{cluster: cluster, user: "kit", password: password, replicas: int16(brokers)}
	s.brokers = strings.Join(cluster.ListenAddrs(), ",")
	t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cluster.Close()
	})
	s.clusterOpts = opts
	s.open(t)
	return s
}

// realCluster is the one at KAFKA_BROKERS.
func realCluster(t *testing.T) *site {
	t.Helper()
	s := &site{brokers: testserver.Address(t, "KAFKA_BROKERS", "127.0.0.1:9092", "./brokers/kafka"), replicas: -1}
	s.open(t)
	return s
}

func (s *site) open(t *testing.T) {
	t.Helper()
	s.proxies = make(map[string]*cutproxy.Proxy)
	t.Cleanup(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, p := range s.proxies {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	s.plain = s.client(t)
	s.admin = kadm.NewClient(s.plain)
}

// client returns a client of its own, past the proxies.
func (s *site) client(t testing.TB, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	opts = append([]kgo.Opt{
		kgo.SeedBrokers(strings.Split(s.brokers, ",")...), kgo.MetadataMinAge(20 * time.Millisecond), kgo.ProducerLinger(0),
	}, opts...)
	if s.user != "" {
		opts = append(opts, kgo.SASL(s.mechanism()))
	}
	c, err := kgo.NewClient(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func (s *site) mechanism() sasl.Mechanism {
	return scram.Auth{User: s.user, Pass: s.password}.AsSha256Mechanism()
}

// dial connects through the proxy of that address.
func (s *site) dial(ctx context.Context, network, address string) (net.Conn, error) {
	s.mu.Lock()
	p := s.proxies[address]
	if p == nil {
		var err error
		if p, err = cutproxy.Start(address); err != nil {
			s.mu.Unlock()
			return nil, err
		}
		if s.cut {
			p.Cut()
		}
		s.proxies[address] = p
	}
	s.mu.Unlock()
	var d net.Dialer
	return d.DialContext(ctx, network, p.Addr())
}

// interrupt cuts all connections until restore is called.
func (s *site) interrupt() (restore func()) {
	each := func(cut bool, f func(*cutproxy.Proxy)) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cut = cut
		for _, p := range s.proxies {
			f(p)
		}
	}
	each(true, (*cutproxy.Proxy).Cut)
	return func() { each(false, (*cutproxy.Proxy).Restore) }
}

// restart stops the cluster and starts it again on what it stored.
func (s *site) restart(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ports []int
	for _, address := range strings.Split(s.brokers, ",") {
		_, port, err := net.SplitHostPort(address)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(port)
		if err != nil {
			return err
		}
		ports = append(ports, n)
	}
	s.cluster.Close()
	again, err := kfake.NewCluster(append(s.clusterOpts, kfake.Ports(ports...))...)
	if err != nil {
		return err
	}
	s.cluster = again
	return nil
}

// options are those of a broker at this site: quick, since nobody else waits here.
func (s *site) options(more ...kafka.Option) []kafka.Option {
	opts := []kafka.Option{
		kafka.Dialer(s.dial),
		kafka.DialTimeout(2 * time.Second),
		kafka.ClientOptions(
			kgo.MetadataMinAge(20*time.Millisecond),
			kgo.HeartbeatInterval(50*time.Millisecond),
			kgo.SessionTimeout(3*time.Second),
			kgo.RetryBackoffFn(func(int) time.Duration { return 20 * time.Millisecond }),
			kgo.FetchMaxWait(500*time.Millisecond),
		),
	}
	if s.user != "" {
		opts = append(opts, kafka.SASLScramSHA256(s.user, s.password))
	}
	return append(opts, more...)
}

// broker returns a connected broker behind the proxies.
func (s *site) broker(t testing.TB, more ...kafka.Option) *kafka.Broker {
	t.Helper()
	b := kafka.New(s.brokers, s.options(more...)...)
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

// createTopic makes a topic, and returns what removes it.
func (s *site) createTopic(ctx context.Context, name string, partitions int32) (remove func(context.Context) error, err error) {
	_, err = s.admin.CreateTopic(ctx, partitions, s.replicas, nil, name)
	return func(ctx context.Context) error {
		_, err := s.admin.DeleteTopics(ctx, name)
		return err
	}, err
}

// topic makes a topic of a name that nobody else has.
func (s *site) topic(t testing.TB, partitions int32) string {
	t.Helper()
	name := "t" + strings.ToLower(rand.Text()[:12])
	if _, err := s.createTopic(t.Context(), name, partitions); err != nil {
		t.Fatal(err)
	}
	return name
}

var errNoCommit = errors.New("the group has committed nothing")

// committed is the offset that a group has committed.
func (s *site) committed(ctx context.Context, group, topic string, partition int32) (int64, error) {
	offsets, err := s.admin.FetchOffsets(ctx, group)
	if err != nil {
		return 0, err
	}
	o, ok := offsets.Lookup(topic, partition)
	if !ok {
		return 0, errNoCommit
	}
	return o.At, o.Err
}

// newID is a name that nobody else has.
func newID() string { return strings.ToLower(rand.Text()[:16]) }

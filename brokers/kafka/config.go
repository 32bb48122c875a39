package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/gostream/gostream/broker"
)

// config is what the constructor was given. It holds credentials: it is never printed.
type config struct {
	brokers []string // host:port

	clientID        string
	group           string
	auth            []string // the options that authenticate
	mechanism       mechanism
	user, password  string
	tls             *tls.Config
	dial            func(ctx context.Context, network, address string) (net.Conn, error)
	dialTimeout     time.Duration
	createTopics    bool
	transactionalID string
	clientOptions   []kgo.Opt
	partitioner     kgo.Partitioner // of clientOptions; nil for the default

	rebalanceTimeout time.Duration // of clientOptions, or the client's default
	mistakes         []error

	probe sync.Once // of clientOptions, by check
}

type mechanism int

const (
	noAuth mechanism = iota
	plainAuth
	scramSHA256Auth
	scramSHA512Auth
)

// clientRebalanceTimeout is the client's own default.
const clientRebalanceTimeout = time.Minute

func newConfig() *config {
	return &config{clientID: DefaultClientID, dialTimeout: DefaultDialTimeout, rebalanceTimeout: clientRebalanceTimeout}
}

func (c *config) mistake(err error) { c.mistakes = append(c.mistakes, err) }

// parse reads the addresses.
func (c *config) parse(brokers string) {
	if strings.TrimSpace(brokers) == "" {
		c.mistake(errors.New(`kafka.New: the brokers are empty: give the address of at least one, such as "localhost:9092"`))
		return
	}
	for i, raw := range strings.Split(brokers, ",") {
		address, err := parseBroker(strings.TrimSpace(raw))
		if err != nil {
			c.mistake(fmt.Errorf("kafka.New: broker %d: %w", i+1, err))
			continue
		}
		c.brokers = append(c.brokers, address)
	}
}

const defaultPort = "9092"

// parseBroker reads one address. Its errors do not show it: it may hold a password.
func parseBroker(raw string) (string, error) {
	switch {
	case raw == "":
		return "", errors.New("the address is empty")
	case strings.Contains(raw, "://"), strings.ContainsAny(raw, "@/?# "):
		return "", errors.New("it is no address of the form host:port: a scheme, a user and a path have no place in it; credentials go into SASLPlain or SASLScramSHA512")
	}
	host, port, err := net.SplitHostPort(raw)
	if err != nil {
		// Without a port. An IPv6 address then may have no brackets.
		host, port = raw, defaultPort
		if inner, ok := strings.CutPrefix(raw, "["); ok && strings.HasSuffix(inner, "]") {
			host = strings.TrimSuffix(inner, "]")
		}
	}
	switch {
	case host == "":
		return "", errors.New("it has no host")
	case !isHost(host):
		return "", errors.New("it is no address of the form host:port")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", errors.New("the port is no number from 1 to 65535")
	}
	return net.JoinHostPort(host, port), nil
}

// isHost reports a name, or an address of IP.
func isHost(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		host = addr.Zone() // which may hold anything
	}
	for i := range len(host) {
		if !isTopicByte(host[i]) { // a letter, a digit, '.', '_' or '-'
			return false
		}
	}
	return true
}

// finish finds the mistakes that concern several options.
func (c *config) finish() {
	if len(c.auth) > 1 {
		c.mistake(fmt.Errorf("kafka.New: more than one way to authenticate: %s; keep one", strings.Join(c.auth, ", ")))
	}
}

// check reports all mistakes. The client's own options are looked at here and not in New,
// since that takes a client, though one that cannot dial.
func (c *config) check() error {
	c.probe.Do(c.probeClientOptions)
	if len(c.mistakes) == 0 {
		return nil
	}
	return fail("check", "", broker.ErrInvalid, errors.Join(c.mistakes...))
}

// saslMechanism is how to authenticate, nil for not at all.
func (c *config) saslMechanism() sasl.Mechanism {
	switch c.mechanism {
	case plainAuth:
		return plain.Auth{User: c.user, Pass: c.password}.AsMechanism()
	case scramSHA256Auth:
		return scram.Auth{User: c.user, Pass: c.password}.AsSha256Mechanism()
	case scramSHA512Auth:
		return scram.Auth{User: c.user, Pass: c.password}.AsSha512Mechanism()
	}
	return nil
}

// defaults are options that those of the user may override.
func (c *config) defaults() []kgo.Opt {
	return []kgo.Opt{
		kgo.MetadataMinAge(DefaultMetadataMinAge),
		// Publish waits for its message: holding it back for others to join costs the time
		// that it is held. Those that are published at once travel together anyway.
		kgo.ProducerLinger(0),
		kgo.UnknownTopicRetries(2),
		kgo.SessionTimeout(DefaultSessionTimeout),
	}
}

// forced are options that this package's promises need.
func (c *config) forced(l *link) []kgo.Opt {
	opts := []kgo.Opt{
		kgo.SeedBrokers(c.brokers...),
		kgo.ClientID(c.clientID),
		kgo.Dialer(l.dial),
		kgo.RecordPartitioner(explicitPartitioner{c.partitioner}),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// One of them may mean that a topic is gone, see judge.
		kgo.KeepRetryableFetchErrors(),
	}
	if m := c.saslMechanism(); m != nil {
		opts = append(opts, kgo.SASL(m))
	}
	if c.createTopics {
		opts = append(opts, kgo.AllowAutoTopicCreation())
	}
	return opts
}

// client makes a client of the broker; more are options of its purpose.
func (c *config) client(l *link, more ...kgo.Opt) (*kgo.Client, error) {
	var opts []kgo.Opt
	opts = append(opts, c.defaults()...)
	opts = append(opts, c.clientOptions...)
	opts = append(opts, c.forced(l)...)
	return kgo.NewClient(append(opts, more...)...)
}

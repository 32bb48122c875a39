package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The defaults of a connection.
const (
	DefaultClientID    = "gostream"
	DefaultDialTimeout = 10 * time.Second
	// DefaultMetadataMinAge is the least time between two looks at which broker leads
	// which partition, and so how long a producer or consumer waits when a leader has
	// moved. The client's own default is five seconds.
	DefaultMetadataMinAge = time.Second
	// DefaultSessionTimeout is how long a group waits for a member that gives no sign of
	// life, and so also for one that was killed: until then it admits nobody. It is shorter
	// than the 30 seconds that a start waits, so that a service which is started again at
	// once comes up. The client's own default is 45 seconds; kgo.SessionTimeout in
	// [ClientOptions] changes it.
	DefaultSessionTimeout = 20 * time.Second
)

// Option configures a broker made by [New].
type Option interface{ apply(*config) }

type option func(*config)

func (o option) apply(c *config) { o(c) }

// ClientID is the name by which the brokers know this client, in their logs and quotas.
// The default is [DefaultClientID]; "" is a mistake that Check reports.
func ClientID(id string) Option {
	return option(func(c *config) {
		if id == "" {
			c.mistake(errors.New("kafka.ClientID: the id is empty: leave the option out for the default"))
		}
		c.clientID = id
	})
}

// DefaultGroup is the consumer group of sources that name none, and of subscriptions by
// name. There is no default: without it each source must have its own Group. "" is a
// mistake that Check reports.
func DefaultGroup(group string) Option {
	return option(func(c *config) {
		if err := checkGroup(group); err != nil {
			c.mistake(fmt.Errorf("kafka.DefaultGroup: %w", err))
		}
		c.group = group
	})
}

// SASLPlain authenticates with a user and a password by the mechanism PLAIN, which sends
// the password as it is: use it with [TLS]. Both must be set.
func SASLPlain(user, password string) Option {
	return saslOption("SASLPlain", plainAuth, user, password)
}

// SASLScramSHA256 authenticates with a user and a password by SCRAM-SHA-256. Both must be
// set.
func SASLScramSHA256(user, password string) Option {
	return saslOption("SASLScramSHA256", scramSHA256Auth, user, password)
}

// SASLScramSHA512 authenticates with a user and a password by SCRAM-SHA-512. Both must be
// set.
func SASLScramSHA512(user, password string) Option {
	return saslOption("SASLScramSHA512", scramSHA512Auth, user, password)
}

func saslOption(name string, m mechanism, user, password string) Option {
	return option(func(c *config) {
		if user == "" {
			c.mistake(fmt.Errorf("kafka.%s: the user is empty", name))
		}
		if password == "" {
			c.mistake(fmt.Errorf("kafka.%s: the password is empty", name))
		}
		c.auth = append(c.auth, name)
		c.mechanism, c.user, c.password = m, user, password
	})
}

// TLS has every connection use TLS with that configuration; with Certificates in it,
// mutual TLS. Without ServerName each broker's own host name is verified. The default is
// no TLS. t is not changed; nil is a mistake that Check reports.
func TLS(t *tls.Config) Option {
	return option(func(c *config) {
		if t == nil {
			c.mistake(errors.New("kafka.TLS: the configuration is nil: &tls.Config{} verifies by the system's roots"))
			return
		}
		c.tls = t.Clone()
	})
}

// DialTimeout bounds dialing one broker. The default is [DefaultDialTimeout]; d <= 0 is a
// mistake that Check reports.
func DialTimeout(d time.Duration) Option {
	return option(func(c *config) {
		if d <= 0 {
			c.mistake(fmt.Errorf("kafka.DialTimeout(%v): the time must be positive", d))
		}
		c.dialTimeout = d
	})
}

// Dialer has every connection made by dial, such as through a tunnel or a test's network.
// [TLS], where it is given, is spoken over what dial returns. The default dials TCP. nil
// is a mistake that Check reports.
func Dialer(dial func(ctx context.Context, network, address string) (net.Conn, error)) Option {
	return option(func(c *config) {
		if dial == nil {
			c.mistake(errors.New("kafka.Dialer: the function is nil"))
		}
		c.dial = dial
	})
}

// AllowTopicCreation has the brokers create a topic that they do not know when something
// is published to it, with their own defaults, where they are set to do that
// (auto.create.topics.enable). The default is not to: publishing to an unknown topic is
// broker.ErrNotFound. A source creates its topics with [TopicSource.Create].
func AllowTopicCreation() Option {
	return option(func(c *config) { c.createTopics = true })
}

// TransactionalID gives the default publisher transactions. The id stands for one
// producer at a time: Connect ends whatever an earlier one with the same id left open, and
// that one is then [ErrFenced]. So every instance of a service needs an id of its own that
// stays the same when it starts again. "" is a mistake that Check reports. Without the
// option there are no transactions.
func TransactionalID(id string) Option {
	return option(func(c *config) {
		if id == "" {
			c.mistake(errors.New("kafka.TransactionalID: the id is empty: leave the option out for a publisher without transactions"))
		}
		c.transactionalID = id
	})
}

// ClientOptions passes further options to every client that the broker makes, for what
// has no option here: timeouts of sessions and fetches, compression, hooks, a logger.
// They come after the defaults of this package. One that has an option here, or that
// would take what this package promises, is a mistake that Check reports with the reason.
func ClientOptions(opts ...kgo.Opt) Option {
	return option(func(c *config) {
		for _, o := range opts {
			if o == nil {
				c.mistake(errors.New("kafka.ClientOptions: an option is nil"))
				continue
			}
			c.clientOptions = append(c.clientOptions, o)
		}
	})
}

package nats

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	natsgo "github.com/nats-io/nats.go"
)

// The defaults of a connection.
const (
	DefaultConnectTimeout  = 5 * time.Second
	DefaultReconnectWait   = 500 * time.Millisecond
	DefaultReconnectBuffer = 8 << 20 // bytes
	DefaultPingInterval    = 20 * time.Second
	DefaultPendingMessages = 65_536
)

// Option configures a broker made by [New].
type Option interface{ apply(*config) }

// ClientOption configures a broker whatever its connection: it may be given to [New]
// and to [FromConn].
type ClientOption interface {
	Option
	applyClient(*config)
}

type option func(*config)

func (o option) apply(c *config) { o(c) }

type clientOption func(*config)

func (o clientOption) apply(c *config)       { o(c) }
func (o clientOption) applyClient(c *config) { o(c) }

// Name sets the name of the connection, which the server shows. The default is
// "gostream"; "" is a mistake that Check reports.
func Name(name string) Option {
	return option(func(c *config) {
		if name == "" {
			c.mistake(errors.New("nats.Name: the name is empty: leave the option out for the default"))
		}
		c.name = name
	})
}

// UserPassword authenticates with a user and a password. There is no default; both
// must be set.
func UserPassword(user, password string) Option {
	return option(func(c *config) {
		if user == "" {
			c.mistake(errors.New("nats.UserPassword: the user is empty"))
		}
		if password == "" {
			c.mistake(errors.New("nats.UserPassword: the password is empty"))
		}
		c.authenticate("UserPassword")
		c.user, c.password = user, password
	})
}

// Token authenticates with a token. "" is a mistake that Check reports.
func Token(token string) Option {
	return option(func(c *config) {
		if token == "" {
			c.mistake(errors.New("nats.Token: the token is empty"))
		}
		c.authenticate("Token")
		c.token = token
	})
}

// CredentialsFile authenticates with the user JWT and the NKey seed in a credentials
// file. It is read by Connect and at every reconnect, so that it may be renewed.
func CredentialsFile(path string) Option {
	return option(func(c *config) {
		if path == "" {
			c.mistake(errors.New("nats.CredentialsFile: the path is empty"))
		}
		c.authenticate("CredentialsFile")
		c.credentials = path
	})
}

// NKeySeedFile authenticates with the NKey whose seed the file holds. Connect reads it.
func NKeySeedFile(path string) Option {
	return option(func(c *config) {
		if path == "" {
			c.mistake(errors.New("nats.NKeySeedFile: the path is empty"))
		}
		c.authenticate("NKeySeedFile")
		c.seed = path
	})
}

// TLS has the connection use TLS with that configuration; with Certificates in it,
// mutual TLS. The default is TLS where the URL or the server asks for it, verified by
// the system's roots. t is not changed; nil is a mistake that Check reports.
func TLS(t *tls.Config) Option {
	return option(func(c *config) {
		if t == nil {
			c.mistake(errors.New("nats.TLS: the configuration is nil"))
			return
		}
		c.tls = t.Clone()
	})
}

// MaxReconnects bounds how often in a row the broker tries to reconnect to each
// server. The default is for ever. When it has given up, every operation answers
// broker.ErrNotConnected; so it does, with a limit, where the server ends the connection
// over something that the client does not know. n < 0 is a mistake that Check reports; 0 is not to reconnect.
func MaxReconnects(n int) Option {
	return option(func(c *config) {
		if n < 0 {
			c.mistake(fmt.Errorf("nats.MaxReconnects(%d): the number is negative; without the option there is no limit", n))
		}
		c.maxReconnects = n
	})
}

// ReconnectWait is how long to wait between two tries at one server, to which the
// client adds some jitter. The default is [DefaultReconnectWait]; d <= 0 is a mistake
// that Check reports.
func ReconnectWait(d time.Duration) Option {
	return positive("ReconnectWait", d, func(c *config) { c.reconnectWait = d })
}

// ReconnectBuffer is how many bytes of publishes and acknowledgements are kept while
// the connection is lost; beyond it they fail. The default is
// [DefaultReconnectBuffer]. 0 keeps none: they fail at once. n < 0 is a mistake that
// Check reports.
func ReconnectBuffer(n int) Option {
	return option(func(c *config) {
		if n < 0 {
			c.mistake(fmt.Errorf("nats.ReconnectBuffer(%d): the size is negative; 0 keeps nothing", n))
		}
		c.reconnectBuffer = n
	})
}

// ConnectTimeout bounds dialing and greeting one server. The default is
// [DefaultConnectTimeout]; d <= 0 is a mistake that Check reports.
func ConnectTimeout(d time.Duration) Option {
	return positive("ConnectTimeout", d, func(c *config) { c.connectTimeout = d })
}

// PingInterval is how often the client asks whether the server is still there. A
// connection that does not answer is given up after two to three of them. The default
// is [DefaultPingInterval]; d <= 0 is a mistake that Check reports.
func PingInterval(d time.Duration) Option {
	return positive("PingInterval", d, func(c *config) { c.pingInterval = d })
}

// PendingMessages is how many messages of a [Subject] subscription may wait to be
// received. Beyond it the client drops what arrives, and broker.EventSlowConsumer tells
// of it. The default is [DefaultPendingMessages]; n < 1 is a mistake that Check reports.
// There is no bound in bytes: where messages are large set it lower.
func PendingMessages(n int) ClientOption {
	return clientOption(func(c *config) {
		if n < 1 {
			c.mistake(fmt.Errorf("nats.PendingMessages(%d): at least one message must have room", n))
		}
		c.pendingMessages = max(n, 1)
	})
}

// InboxPrefix is what the subjects begin with on which replies, and messages of
// streams, reach this client. The default is "_INBOX". Set it where permissions
// separate the clients of one account.
func InboxPrefix(prefix string) Option {
	return option(func(c *config) {
		if wild, err := checkSubject(prefix); err != nil || wild {
			c.mistake(fmt.Errorf("nats.InboxPrefix: %w", errors.Join(err, wildcardIf(wild))))
		}
		c.inboxPrefix = prefix
	})
}

func wildcardIf(wild bool) error {
	if wild {
		return errSubjectWildcard
	}
	return nil
}

// InProcess connects to a server in this process, such as one of package embedded,
// without a network. URLs must then be "".
func InProcess(server natsgo.InProcessConnProvider) Option {
	return option(func(c *config) {
		if server == nil {
			c.mistake(errors.New("nats.InProcess: the server is nil"))
		}
		c.inProcess = server
	})
}

// ConfirmPublishes makes [Broker.JetStreamPublisher] the default publisher: what
// gostream.NewPublisher and replies of [Subject] subscriptions go through. Every
// subject that is published to must then belong to a stream.
func ConfirmPublishes() ClientOption {
	return clientOption(func(c *config) { c.confirm = true })
}

// JetStreamDomain is the domain of the JetStream that sources and publishers use. The
// default, "", is the one of the server.
func JetStreamDomain(domain string) ClientOption {
	return clientOption(func(c *config) {
		if err := checkToken("domain", domain); err != nil {
			c.mistake(fmt.Errorf("nats.JetStreamDomain: %w", err))
		}
		c.domain = domain
	})
}

func positive(name string, d time.Duration, set func(*config)) Option {
	return option(func(c *config) {
		if d <= 0 {
			c.mistake(fmt.Errorf("nats.%s(%v): the time must be positive", name, d))
		}
		set(c)
	})
}

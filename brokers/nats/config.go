package nats

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gostream/gostream/broker"
)

// config is what the constructor was given. It holds credentials: it is never printed.
type config struct {
	servers []server
	conn    *natsgo.Conn // of FromConn; nil otherwise

	name                        string
	user, password, token       string
	credentials, seed           string
	auth                        []string // the options that authenticate
	tls                         *tls.Config
	maxReconnects               int
	reconnectWait, pingInterval time.Duration
	connectTimeout              time.Duration
	reconnectBuffer             int
	pendingMessages             int
	inboxPrefix                 string
	inProcess                   natsgo.InProcessConnProvider
	confirm                     bool
	domain                      string
	mistakes                    []error
}

// server is one address.
type server struct {
	url  string // as the client takes it, with credentials where the user gave some
	host string // host:port
}

func newConfig() *config {
	return &config{
		name:            "gostream",
		maxReconnects:   -1,
		reconnectWait:   DefaultReconnectWait,
		pingInterval:    DefaultPingInterval,
		connectTimeout:  DefaultConnectTimeout,
		reconnectBuffer: DefaultReconnectBuffer,
		pendingMessages: DefaultPendingMessages,
	}
}

func (c *config) mistake(err error) { c.mistakes = append(c.mistakes, err) }

func (c *config) authenticate(option string) { c.auth = append(c.auth, option) }

// parse reads the addresses.
func (c *config) parse(urls string) {
	if strings.TrimSpace(urls) == "" {
		if c.inProcess == nil {
			c.mistake(errors.New(`nats.New: the urls are empty: give the server's address, such as "nats://localhost:4222", or a server in this process with nats.InProcess`))
		}
		return
	}
	if c.inProcess != nil {
		c.mistake(errors.New(`nats.New: urls together with nats.InProcess: give "" as urls`))
	}
	withUser := false
	for i, raw := range strings.Split(urls, ",") {
		s, user, err := parseServer(strings.TrimSpace(raw))
		if err != nil {
			c.mistake(fmt.Errorf("nats.New: url %d: %w", i+1, err))
			continue
		}
		withUser = withUser || user
		c.servers = append(c.servers, s)
	}
	if withUser {
		c.authenticate("a user in the url")
	}
}

// parseServer reads one address. Its errors do not show it: it may hold a password.
func parseServer(raw string) (s server, user bool, err error) {
	if raw == "" {
		return server{}, false, errors.New("the address is empty")
	}
	if !strings.Contains(raw, "://") {
		raw = "nats://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil {
		return server{}, false, errors.New("it is no URL of the form nats://host:port")
	}
	switch u.Scheme {
	case "nats", "tls", "ws", "wss":
	default:
		return server{}, false, fmt.Errorf("the scheme %s is not nats, tls, ws or wss", broker.Quote(u.Scheme))
	}
	if u.Hostname() == "" {
		return server{}, false, errors.New("it has no host")
	}
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return server{}, false, errors.New("something follows the host: in a password write / as %2F, ? as %3F, # as %23 and @ as %40")
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"ws": "80", "wss": "443"}[u.Scheme]
	}
	if port == "" {
		port = "4222"
	}
	u.Host = net.JoinHostPort(u.Hostname(), port)
	return server{url: u.String(), host: u.Host}, u.User != nil, nil
}

// finish finds the mistakes that concern several options.
func (c *config) finish() {
	if len(c.auth) > 1 {
		c.mistake(fmt.Errorf("nats.New: more than one way to authenticate: %s; keep one", strings.Join(c.auth, ", ")))
	}
}

func (c *config) check() error {
	if len(c.mistakes) == 0 {
		return nil
	}
	return fail("check", "", broker.ErrInvalid, errors.Join(c.mistakes...))
}

// hosts are the addresses without credentials.
func (c *config) hosts() []string {
	hosts := make([]string, len(c.servers))
	for i, s := range c.servers {
		hosts[i] = s.host
	}
	return hosts
}

// options are those of the client.
func (c *config) options(d *dialer) natsgo.Options {
	o := natsgo.GetDefaultOptions()
	for _, s := range c.servers {
		o.Servers = append(o.Servers, s.url)
	}
	o.InProcessServer = c.inProcess
	o.Name = c.name
	o.User, o.Password, o.Token = c.user, c.password, c.token
	o.MaxReconnect = c.maxReconnects
	o.AllowReconnect = c.maxReconnects != 0
	o.ReconnectWait = c.reconnectWait
	o.ReconnectJitter, o.ReconnectJitterTLS = c.reconnectWait/5, c.reconnectWait/5
	o.ReconnectBufSize = c.reconnectBuffer
	if c.reconnectBuffer == 0 {
		o.ReconnectBufSize = -1
	}
	o.Timeout = c.connectTimeout
	o.PingInterval = c.pingInterval
	o.InboxPrefix = c.inboxPrefix
	// A server that refuses the credentials today may take them after it was mended.
	o.IgnoreAuthErrorAbort = true
	if c.tls != nil {
		o.Secure, o.TLSConfig = true, c.tls
	}
	if c.inProcess == nil {
		o.CustomDialer = d
		o.SkipHostLookup = true // the dialer looks up, bounded by Connect's context
	}
	return o
}

// authOptions reads the files of credentials.
func (c *config) authOptions(o *natsgo.Options) error {
	switch {
	case c.credentials != "":
		return natsgo.UserCredentials(c.credentials)(o)
	case c.seed != "":
		nkey, err := natsgo.NkeyOptionFromSeed(c.seed)
		if err != nil {
			return fmt.Errorf("the NKey seed file: %w", err)
		}
		return nkey(o)
	}
	return nil
}

package embedded

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode"

	natsd "github.com/nats-io/nats-server/v2/server"
)

const (
	// DefaultName is the name of a server whose Config has none.
	DefaultName = "gostream-embedded"
	// DefaultReadyTimeout bounds [Start] where the Config does not.
	DefaultReadyTimeout = 10 * time.Second
	// DefaultShutdownTimeout bounds [Server.Shutdown] where its context has no deadline.
	DefaultShutdownTimeout = 10 * time.Second

	// maxPayload is what the server accepts: no more than it keeps for a slow client.
	maxPayload = natsd.MAX_PENDING_SIZE
)

// Config says what [Start] starts. Required is Dir, or Memory.
type Config struct {
	// Dir is the folder of JetStream. Required unless Memory is set: there is no sane
	// default. It is made when it is not there. The streams in it are found again. It
	// should be on a disk of this machine.
	Dir string
	// Memory keeps nothing: streams with memory storage are in memory, and those with
	// file storage, the default of NATS, are in a temporary folder that Shutdown
	// removes. Dir must be empty then. A process that is killed leaves the temporary
	// folder ("gostream-embedded-…") behind. The default is false.
	Memory bool
	// Listen is the address, host:port, of a port for other processes; port 0 takes a
	// free one, which [Server.URL] tells. An empty host is every address of the
	// machine. The default, "", opens no port: only this process connects, through
	// [Server.InProcessConn].
	Listen string
	// SyncAlways has every message synced to the disk before it is confirmed, so that
	// it survives a power failure. Publishes that wait for their confirmation one by
	// one then take about 10 times as long: 0.35 to 0.7 ms in place of 45 µs on a
	// virtual disk, measured with
	//
	//	go test -run '^$' -bench Sync -count 5 ./embedded
	//
	// The default is false. With Memory it is a mistake.
	SyncAlways bool
	// Name is the server's name. "" means [DefaultName]. It must not have white space
	// in it.
	Name string
	// User and Password are what clients must present, those in this process too. The
	// default is that no client must present anything. One without the other, or
	// together with Token, is a mistake. A Password that is a bcrypt hash ("$2a$…")
	// is compared as one.
	User, Password string
	// Token is what clients must present, in place of User and Password. A bcrypt
	// hash is compared as one. The default, "", is none.
	Token string
	// TLSConfig has clients of the port use TLS; those in this process need not. It
	// must hold a certificate, and is not changed. The default, nil, is no TLS.
	// Without Listen it is a mistake.
	TLSConfig *tls.Config
	// MaxPayload is the largest payload in bytes, headers included. 0 means NATS's own
	// default of 1 MiB; the most is 64 MiB.
	MaxPayload int
	// ReadyTimeout is how long [Start] waits for the server, which reads all streams
	// first. 0 means [DefaultReadyTimeout].
	ReadyTimeout time.Duration
	// Logger is told what the server logs, traces excepted. What it says at Start of
	// the level DEBUG holds until Shutdown. The default, nil, is that the server is
	// silent.
	Logger *slog.Logger
}

// mistakes returns every mistake in c, joined. It does no I/O.
func (c Config) mistakes() error {
	var found []error
	mistake := func(format string, args ...any) { found = append(found, fmt.Errorf(format, args...)) }

	switch {
	case c.Memory && c.Dir != "":
		mistake("Config.Dir is set together with Config.Memory: leave out one of them")
	case !c.Memory && c.Dir == "":
		mistake("Config.Dir is empty: set it to the folder for JetStream, or set Config.Memory to keep nothing")
	}
	if c.Memory && c.SyncAlways {
		mistake("Config.SyncAlways is set together with Config.Memory, which keeps nothing: leave out one of them")
	}
	if _, _, err := c.address(); err != nil {
		mistake("Config.Listen is %q: %w", c.Listen, err)
	}
	if strings.ContainsFunc(c.Name, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		mistake("Config.Name is %q: it must not have white space or control characters in it", c.Name)
	}
	switch {
	case c.User == "" && c.Password != "":
		mistake("Config.User is empty, but Config.Password is set: set both, or neither")
	case c.User != "" && c.Password == "":
		mistake("Config.Password is empty, but Config.User is set: set both, or neither")
	}
	if c.Token != "" && (c.User != "" || c.Password != "") {
		mistake("Config.Token is set together with Config.User or Config.Password: keep one way to authenticate")
	}
	if t := c.TLSConfig; t != nil {
		if c.Listen == "" {
			mistake("Config.TLSConfig is set, but Config.Listen is empty: there is no port it could be for; set Listen, or leave it out")
		}
		if len(t.Certificates) == 0 && t.GetCertificate == nil && t.GetConfigForClient == nil {
			mistake("Config.TLSConfig holds no certificate: set its Certificates or GetCertificate")
		}
	}
	if c.MaxPayload < 0 || c.MaxPayload > maxPayload {
		mistake("Config.MaxPayload is %d: it must be from 1 to %d bytes; 0 is NATS's default of 1 MiB", c.MaxPayload, maxPayload)
	}
	if c.ReadyTimeout < 0 {
		mistake("Config.ReadyTimeout is %v: it must not be negative; 0 is %v", c.ReadyTimeout, DefaultReadyTimeout)
	}
	return errors.Join(found...)
}

// address returns the parts of Listen.
func (c Config) address() (host string, port int, err error) {
	if c.Listen == "" {
		return "", 0, nil
	}
	host, p, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return "", 0, errors.New(`it must be host:port, such as "127.0.0.1:0", or "" for no port`)
	}
	port, err = strconv.Atoi(p)
	if err != nil || port < 0 || port > 65_535 {
		return "", 0, errors.New("its port must be a number from 0 to 65535; 0 takes a free one")
	}
	return host, port, nil
}

// options are those of the server, with JetStream in dir.
func (c Config) options(dir string) *natsd.Options {
	host, port, _ := c.address()
	if port == 0 {
		port = natsd.RANDOM_PORT
	}
	o := &natsd.Options{
		ServerName:             c.Name,
		Host:                   host,
		Port:                   port,
		DontListen:             c.Listen == "",
		NoSigs:                 true,
		NoLog:                  true, // the sink is set by hand
		JetStream:              true,
		DisableJetStreamBanner: true,
		StoreDir:               dir,
		SyncAlways:             c.SyncAlways,
		Username:               c.User,
		Password:               c.Password,
		Authorization:          c.Token,
		MaxPayload:             int32(c.MaxPayload),
	}
	if o.ServerName == "" {
		o.ServerName = DefaultName
	}
	if c.TLSConfig != nil {
		o.TLSConfig = c.TLSConfig.Clone()
	}
	return o
}

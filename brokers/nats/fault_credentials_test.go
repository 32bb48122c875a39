package nats_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	natsd "github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
	"github.com/gostream/gostream/brokers/nats/embedded"
)

// The characters in them are those that somebody would escape or quote.
const (
	credPassword = `s3cr3t/of the=kit%+"ü`
	credWrong    = `wr0ng/and a=bit%+"ö`
	credToken    = `t0ken/of the=kit%+"ä`
)

// credPatience is within what time a refusal must be known. It is far below the 10 s
// after which a server gives up a client that hangs.
const credPatience = 4 * time.Second

// Wrong credentials are an error of Connect, in time, that says which server refused
// them and shows them nowhere. The right ones work in every form.
func TestWrongCredentials(t *testing.T) {
	t.Parallel()
	user := credStart(t, embedded.Config{Memory: true, Listen: "127.0.0.1:0", User: "kit", Password: credPassword})
	token := credStart(t, embedded.Config{Memory: true, Listen: "127.0.0.1:0", Token: credToken})
	plain := credStart(t, embedded.Config{Memory: true, Listen: "127.0.0.1:0"})
	nkey := credStartNKey(t)
	operator := credStartOperator(t)
	ca, other := credNewCA(t), credNewCA(t)
	secure := credStart(t, embedded.Config{Memory: true, Listen: "127.0.0.1:0", TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{ca.issue(t, x509.ExtKeyUsageServerAuth)},
	}})
	mutual := credStart(t, embedded.Config{Memory: true, Listen: "127.0.0.1:0", User: "kit", Password: credPassword, TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{ca.issue(t, x509.ExtKeyUsageServerAuth)},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: ca.pool(),
	}})
	at := func(s *embedded.Server, info *url.Userinfo) string {
		u := credURL(t, s.URL())
		u.User = info
		return u.String()
	}
	file := func(content []byte) string {
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	missing := filepath.Join(t.TempDir(), "missing")
	strange, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	strangeSeed, err := strange.Seed()
	if err != nil {
		t.Fatal(err)
	}
	strangeCreds := operator.credentials(t, credNewAccount(t)) // of an account that the server does not know

	t.Run("right", func(t *testing.T) {
		t.Parallel()
		for _, tt := range []struct {
			name string
			b    *nats.Broker
		}{
			{"user and password", nats.New(user.URL(), nats.UserPassword("kit", credPassword))},
			{"user and password in the URL", nats.New(at(user, url.UserPassword("kit", credPassword)))},
			{"user and password in process", nats.New("", nats.InProcess(user), nats.UserPassword("kit", credPassword))},
			{"token", nats.New(token.URL(), nats.Token(credToken))},
			{"token in the URL", nats.New(at(token, url.User(credToken)))},
			{"token in process", nats.New("", nats.InProcess(token), nats.Token(credToken))},
			{"NKey", nats.New(nkey.url, nats.NKeySeedFile(file(nkey.seed)))},
			{"credentials file", nats.New(operator.url, nats.CredentialsFile(file(operator.credentials(t, operator.account))))},
			{"TLS", nats.New(secure.URL(), nats.TLS(&tls.Config{RootCAs: ca.pool()}))},
			{"TLS that the server asks for", nats.New(strings.Replace(secure.URL(), "tls://", "nats://", 1), nats.TLS(&tls.Config{RootCAs: ca.pool()}))},
			{"TLS in process", nats.New("", nats.InProcess(secure))},
			{"mutual TLS and a password", nats.New(mutual.URL(), nats.UserPassword("kit", credPassword), nats.TLS(&tls.Config{
				RootCAs: ca.pool(), Certificates: []tls.Certificate{ca.issue(t, x509.ExtKeyUsageClientAuth)},
			}))},
		} {
			t.Run(tt.name, func(t *testing.T) {
				t.Parallel()
				connectBroker(t, tt.b)
				sub := subscribe(t, tt.b, nats.Subject("hello"))
				if err := tt.b.Publisher().Publish(t.Context(), broker.OutgoingMessage{Name: "hello", Payload: []byte("7")}); err != nil {
					t.Fatal(err)
				}
				if n := number(t, receive(t, sub).Payload()); n != 7 {
					t.Errorf("received %d, want 7", n)
				}
				credHidden(t, tt.b, nil, credPassword, credToken, string(nkey.seed))
			})
		}
	})

	for _, tt := range []struct {
		name   string
		b      *nats.Broker
		at     string // the server's address, "" for none
		secret string
		is     error // in the chain; nil for any
	}{
		{"password", nats.New(user.URL(), nats.UserPassword("kit", credWrong)), user.URL(), credWrong, natsgo.ErrAuthorization},
		{"password in the URL", nats.New(at(user, url.UserPassword("kit", credWrong))), user.URL(), credWrong, natsgo.ErrAuthorization},
		{"password in process", nats.New("", nats.InProcess(user), nats.UserPassword("kit", credWrong)), "", credWrong, natsgo.ErrAuthorization},
		{"password in one of two URLs", nats.New("127.0.0.1:1," + at(user, url.UserPassword("kit", credWrong))), user.URL(), credWrong, nil},
		{"no password", nats.New(user.URL()), user.URL(), credPassword, natsgo.ErrAuthorization},
		{"no password in process", nats.New("", nats.InProcess(user)), "", credPassword, natsgo.ErrAuthorization},
		{"token", nats.New(token.URL(), nats.Token(credWrong)), token.URL(), credWrong, natsgo.ErrAuthorization},
		{"token in the URL", nats.New(at(token, url.User(credWrong))), token.URL(), credWrong, natsgo.ErrAuthorization},
		{"token in process", nats.New("", nats.InProcess(token), nats.Token(credWrong)), "", credWrong, natsgo.ErrAuthorization},
		{"NKey that is not known", nats.New(nkey.url, nats.NKeySeedFile(file(strangeSeed))), nkey.url, string(strangeSeed), natsgo.ErrAuthorization},
		{"NKey file with something else", nats.New(nkey.url, nats.NKeySeedFile(file([]byte(credWrong)))), nkey.url, credWrong, nil},
		{"NKey file that is cut short", nats.New(nkey.url, nats.NKeySeedFile(file(strangeSeed[:30]))), nkey.url, string(strangeSeed[:30]), nil},
		{"NKey file that is missing", nats.New(nkey.url, nats.NKeySeedFile(missing)), nkey.url, "", fs.ErrNotExist},
		{"credentials of a stranger", nats.New(operator.url, nats.CredentialsFile(file(strangeCreds))), operator.url, credSeedIn(t, strangeCreds), natsgo.ErrAuthorization},
		{"credentials file with something else", nats.New(operator.url, nats.CredentialsFile(file([]byte(credWrong)))), operator.url, credWrong, nil},
		{"credentials file that is missing", nats.New(plain.URL(), nats.CredentialsFile(missing)), plain.URL(), "", fs.ErrNotExist},
		{"certificate of an authority that we do not know", nats.New(secure.URL(), nats.TLS(&tls.Config{RootCAs: other.pool()})), secure.URL(), "", nil},
		{"certificate of an authority that the system does not know", nats.New(secure.URL()), secure.URL(), "", nil},
		{"no certificate of our own", nats.New(mutual.URL(), nats.UserPassword("kit", credPassword), nats.TLS(&tls.Config{RootCAs: ca.pool()})), mutual.URL(), credPassword, nil},
		{"certificate of our own that the server does not know", nats.New(mutual.URL(), nats.UserPassword("kit", credPassword), nats.TLS(&tls.Config{
			RootCAs: ca.pool(), Certificates: []tls.Certificate{other.issue(t, x509.ExtKeyUsageClientAuth)},
		})), mutual.URL(), credPassword, nil},
		{"password behind a good certificate", nats.New(mutual.URL(), nats.UserPassword("kit", credWrong), nats.TLS(&tls.Config{
			RootCAs: ca.pool(), Certificates: []tls.Certificate{ca.issue(t, x509.ExtKeyUsageClientAuth)},
		})), mutual.URL(), credWrong, natsgo.ErrAuthorization},
	} {
		t.Run("wrong/"+tt.name, func(t *testing.T) {
			t.Parallel()
			told := listen(tt.b)
			for range 2 { // the first leaves nothing behind
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
				err := tt.b.Connect(ctx)
				cancel()
				if err == nil {
					t.Fatal("Connect answered nil")
				}
				if took := time.Since(began); took > credPatience {
					t.Errorf("Connect answered after %v, want at most %v", took, credPatience)
				}
				var typed *broker.Error
				if !errors.As(err, &typed) || typed.Op != "connect" || typed.Broker != "nats" {
					t.Errorf("Connect answered %#v, want a *broker.Error of connect", err)
				}
				if tt.is != nil && !errors.Is(err, tt.is) {
					t.Errorf("Connect answered %v, want %v in it", err, tt.is)
				}
				if errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Connect answered %v: that is no refusal", err)
				}
				if tt.at != "" {
					if host := credURL(t, tt.at).Host; !strings.Contains(err.Error(), host) {
						t.Errorf("the error does not name the server %s: %v", host, err)
					}
				}
				credHidden(t, tt.b, err, tt.secret, credPassword, credToken)
			}
			if err := tt.b.Publisher().Publish(t.Context(), broker.OutgoingMessage{Name: "a"}); !errors.Is(err, broker.ErrNotConnected) {
				t.Errorf("Publish answered %v, want ErrNotConnected", err)
			}
			shutdownBroker(t, tt.b)
			credHiddenIn(t, told, tt.secret, credPassword, credToken)
		})
	}
}

// A server that refuses the credentials at a reconnect is tried again until it takes
// them, and what is told meanwhile does not show them.
func TestWrongCredentialsAtReconnect(t *testing.T) {
	t.Parallel()
	refused := new(credErrors)
	config := embedded.Config{Memory: true, Listen: "127.0.0.1:0", User: "kit", Password: credPassword, Logger: slog.New(refused)}
	server, err := embedded.Start(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { credStop(t, server) })
	config.Listen = credURL(t, server.URL()).Host // the same port again
	restart := func(password string) {
		t.Helper()
		credStop(t, server)
		config.Password = password
		if server, err = embedded.Start(config); err != nil {
			t.Fatal(err)
		}
	}
	address := credURL(t, server.URL())
	address.User = url.UserPassword("kit", credPassword)
	b := nats.New(address.String(), quick()...)
	told := connectBroker(t, b)

	restart(credWrong)
	told.await(t, broker.EventDisconnected, 1)
	// A client that is not told otherwise gives up when it is refused twice.
	until(t, "that the server refuses the password five times", func() bool { return refused.count.Load() >= 5 })
	until(t, "that the client knows", func() bool { return errors.Is(b.Health(t.Context()), natsgo.ErrAuthorization) })
	credHidden(t, b, b.Health(t.Context()), credPassword, credWrong)
	restart(credPassword)
	told.await(t, broker.EventReconnected, 1)
	if err := b.Health(t.Context()); err != nil {
		t.Errorf("Health answered %v after the server was mended", err)
	}
	credHiddenIn(t, told, credPassword, credWrong)
}

// credErrors counts the errors that a server logs.
type credErrors struct {
	slog.Handler
	count atomic.Int64
}

func (h *credErrors) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelError
}

func (h *credErrors) Handle(context.Context, slog.Record) error {
	h.count.Add(1)
	return nil
}

// An address whose password was not escaped is no address, or one of somewhere else:
// Check says so, and does not show it.
func TestPasswordThatIsNotEscaped(t *testing.T) {
	t.Parallel()
	for _, password := range []string{"s3cr3t/of", "31415/92", "31415?92", "31415#92", "s3cr3t of", "s3cr3t%zz", "31415/9@2"} {
		b := nats.New("nats://localhost:" + password + "@127.0.0.1:1") // a user that is no name for others to look up
		for what, err := range map[string]error{"Check": b.Check(), "Connect": b.Connect(t.Context())} {
			if !errors.Is(err, broker.ErrInvalid) {
				t.Errorf("password %s: %s answered %v, want ErrInvalid", password, what, err)
			}
			credHidden(t, b, err, password, "31415", "s3cr3t")
		}
	}
}

// credHidden fails where a secret is in what the broker or the error shows.
func credHidden(t *testing.T, b *nats.Broker, err error, secrets ...string) {
	t.Helper()
	shown := []string{b.String(), b.GoString()}
	for _, v := range []any{b, b.DescribeServer(), err} {
		shown = append(shown, fmt.Sprintf("%v", v), fmt.Sprintf("%+v", v), fmt.Sprintf("%#v", v), fmt.Sprintf("%s", v), fmt.Sprintf("%q", v))
	}
	for _, e := range credChain(err) {
		shown = append(shown, e.Error(), fmt.Sprintf("%+v", e), fmt.Sprintf("%#v", e))
	}
	if check := b.Check(); check != nil {
		shown = append(shown, check.Error())
	}
	credSearch(t, shown, secrets)
}

// credHiddenIn does the same with what was told.
func credHiddenIn(t *testing.T, told *events, secrets ...string) {
	t.Helper()
	told.mu.Lock()
	defer told.mu.Unlock()
	var shown []string
	for _, e := range told.all {
		shown = append(shown, fmt.Sprintf("%v", e), fmt.Sprintf("%+v", e), fmt.Sprintf("%#v", e), fmt.Sprint(e.Err))
	}
	credSearch(t, shown, secrets)
}

// credChain lists err and all that it wraps.
func credChain(err error) (chain []error) {
	if err == nil {
		return nil
	}
	chain = append(chain, err)
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		chain = append(chain, credChain(e.Unwrap())...)
	case interface{ Unwrap() []error }:
		for _, e := range e.Unwrap() {
			chain = append(chain, credChain(e)...)
		}
	}
	return chain
}

// credSearch looks for the secrets in every form in which they may stand in a text.
func credSearch(t *testing.T, shown, secrets []string) {
	t.Helper()
	for _, secret := range secrets {
		secret = strings.TrimSpace(secret)
		if secret == "" {
			continue
		}
		quoted := strconv.Quote(secret)
		marshalled, err := json.Marshal(secret)
		if err != nil {
			t.Fatal(err)
		}
		forms := []string{
			secret, url.QueryEscape(secret), url.PathEscape(secret), url.User(secret).String(), strings.TrimPrefix(url.UserPassword("", secret).String(), ":"),
			quoted[1 : len(quoted)-1], string(marshalled[1 : len(marshalled)-1]),
			hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))),
			base64.StdEncoding.EncodeToString([]byte(secret)), base64.RawURLEncoding.EncodeToString([]byte(secret)),
			strings.Trim(fmt.Sprint([]byte(secret)), "[]"),
		}
		for _, form := range forms {
			if i := slices.IndexFunc(shown, func(text string) bool { return strings.Contains(text, form) }); i >= 0 {
				t.Errorf("%q shows the secret %q", shown[i], secret)
				break
			}
		}
	}
}

func credURL(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// credStart starts a server that ends with the test.
func credStart(t *testing.T, c embedded.Config) *embedded.Server {
	t.Helper()
	s, err := embedded.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { credStop(t, s) })
	return s
}

func credStop(t *testing.T, s *embedded.Server) {
	t.Helper()
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
}

// credRaw starts a server with options that an embedded one does not have.
func credRaw(t *testing.T, o *natsd.Options) (address string) {
	t.Helper()
	o.Host, o.Port, o.NoSigs, o.NoLog = "127.0.0.1", natsd.RANDOM_PORT, true, true
	s, err := natsd.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(faultLimit) {
		t.Fatal("the server is not ready")
	}
	return s.ClientURL()
}

// credNKey is a server that knows one NKey.
type credNKey struct {
	url  string
	seed []byte
}

func credStartNKey(t *testing.T) credNKey {
	t.Helper()
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return credNKey{credRaw(t, &natsd.Options{Nkeys: []*natsd.NkeyUser{{Nkey: credPublic(t, user)}}}), seed}
}

// credOperator is a server that knows one account by its JWT.
type credOperator struct {
	url     string
	account nkeys.KeyPair
}

func credStartOperator(t *testing.T) credOperator {
	t.Helper()
	operator, err := nkeys.CreateOperator()
	if err != nil {
		t.Fatal(err)
	}
	account := credNewAccount(t)
	token, err := jwt.NewAccountClaims(credPublic(t, account)).Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	accounts := new(natsd.MemAccResolver)
	if err := accounts.Store(credPublic(t, account), token); err != nil {
		t.Fatal(err)
	}
	return credOperator{credRaw(t, &natsd.Options{TrustedKeys: []string{credPublic(t, operator)}, AccountResolver: accounts}), account}
}

// credentials is a credentials file of a new user of the account.
func (credOperator) credentials(t *testing.T, account nkeys.KeyPair) []byte {
	t.Helper()
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.NewUserClaims(credPublic(t, user)).Encode(account)
	if err != nil {
		t.Fatal(err)
	}
	file, err := jwt.FormatUserConfig(token, seed)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func credNewAccount(t *testing.T) nkeys.KeyPair {
	t.Helper()
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	return account
}

func credPublic(t *testing.T, k nkeys.KeyPair) string {
	t.Helper()
	public, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public
}

// credSeedIn is the seed in a credentials file.
func credSeedIn(t *testing.T, file []byte) string {
	t.Helper()
	pair, err := nkeys.ParseDecoratedNKey(file)
	if err != nil {
		t.Fatal(err)
	}
	seed, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return string(seed)
}

// credCA is a certificate authority.
type credCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func credNewCA(t *testing.T) credCA {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the test's authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key, der := credSign(t, template, template, nil)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return credCA{cert, key}
}

func (ca credCA) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.cert)
	return p
}

// issue returns a certificate of this machine.
func (ca credCA) issue(t *testing.T, usage x509.ExtKeyUsage) tls.Certificate {
	t.Helper()
	key, der := credSign(t, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "kit"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}, ca.cert, ca.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// credSign makes a key and its certificate; without by it signs itself.
func credSign(t *testing.T, template, parent *x509.Certificate, by *ecdsa.PrivateKey) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if by == nil {
		by = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

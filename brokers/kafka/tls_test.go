package kafka_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, pool: x509.NewCertPool()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var der []byte
	der, a.key = a.sign(template, nil)
	var err error
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	return a
}

// sign signs with the authority's key, or without a parent with its own.
func (a *authority) sign(template, parent *x509.Certificate) ([]byte, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	by := a.key
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		a.t.Fatal(err)
	}
	return der, key
}

// certificate is one for a server of those hosts, or for a client.
func (a *authority) certificate(hosts ...string) tls.Certificate {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "certificate"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	der, key := a.sign(template, a.cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// start starts a cluster and returns its addresses.
func start(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, string) {
	t.Helper()
	cluster, err := kfake.NewCluster(append(opts, kfake.GroupMinSessionTimeout(100*time.Millisecond))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster, strings.Join(cluster.ListenAddrs(), ",")
}

// works does with a broker what needs every one of its clients.
func works(t *testing.T, cluster *kfake.Cluster, b *kafka.Broker) {
	t.Helper()
	topic := "t" + newID()
	if err := cluster.CreateTopic(topic, 3, nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := b.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	}()
	sub, err := kafka.Topic(topic).Group("g").Subscribe(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Publisher().Publish(ctx, broker.OutgoingMessage{Name: topic, Payload: []byte("safe")}); err != nil {
		t.Fatal(err)
	}
	m, err := sub.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Ack(ctx); err != nil || string(m.Payload()) != "safe" {
		t.Errorf("received %q: %v", m.Payload(), err)
	}
	if err := b.Health(ctx); err != nil {
		t.Error(err)
	}
}

// fails connects where that must fail, and returns the error. It must not take as long as
// the context lets it.
func fails(t *testing.T, b *kafka.Broker) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := b.Connect(ctx)
	if err == nil {
		_ = b.Shutdown(ctx)
		t.Fatal("connected")
	}
	if ctx.Err() != nil {
		t.Errorf("it was tried to the end: %v", err)
	}
	if err := b.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	return err
}

func TestTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cluster, brokers := start(t, kfake.NumBrokers(2), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{a.certificate("127.0.0.1")}}))
	works(t, cluster, kafka.New(brokers, kafka.TLS(&tls.Config{RootCAs: a.pool})))
	works(t, cluster, kafka.New(brokers, kafka.TLS(&tls.Config{RootCAs: a.pool}), kafka.TransactionalID("tx"), kafka.Dialer((&net.Dialer{}).DialContext)))

	err := fails(t, kafka.New(brokers, kafka.TLS(&tls.Config{RootCAs: newAuthority(t).pool})))
	if unknown := (x509.UnknownAuthorityError{}); !errors.As(err, &unknown) {
		t.Errorf("an unknown authority: %v", err)
	}
	err = fails(t, kafka.New(brokers, kafka.TLS(&tls.Config{RootCAs: a.pool, ServerName: "kafka.example.org"})))
	if wrong := (x509.HostnameError{}); !errors.As(err, &wrong) {
		t.Errorf("another name: %v", err)
	}
	_ = fails(t, kafka.New(brokers)) // it speaks no TLS
	_, plain := start(t, kfake.NumBrokers(1))
	_ = fails(t, kafka.New(plain, kafka.TLS(&tls.Config{RootCAs: a.pool}), kafka.DialTimeout(time.Second)))
}

// The name that is verified is each broker's own, unless one is given.
func TestServerName(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cluster, brokers := start(t, kfake.NumBrokers(1), kfake.TLS(&tls.Config{Certificates: []tls.Certificate{a.certificate("kafka.example.org")}}))
	works(t, cluster, kafka.New(brokers, kafka.TLS(&tls.Config{RootCAs: a.pool, ServerName: "kafka.example.org"})))
	err := fails(t, kafka.New(brokers, kafka.TLS(&tls.Config{RootCAs: a.pool})))
	if !strings.Contains(fmt.Sprint(err), "127.0.0.1") {
		t.Errorf("%v", err)
	}
}

func TestMutualTLS(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	cluster, brokers := start(t, kfake.NumBrokers(1), kfake.TLS(&tls.Config{
		Certificates: []tls.Certificate{a.certificate("127.0.0.1")}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.pool,
	}))
	works(t, cluster, kafka.New(brokers, kafka.TLS(&tls.Config{RootCAs: a.pool, Certificates: []tls.Certificate{a.certificate()}})))
	_ = fails(t, kafka.New(brokers, kafka.TLS(&tls.Config{RootCAs: a.pool})))
	_ = fails(t, kafka.New(brokers, kafka.TLS(&tls.Config{RootCAs: a.pool, Certificates: []tls.Certificate{newAuthority(t).certificate()}})))
}

var logins = []struct {
	mechanism string
	option    func(user, password string) kafka.Option
}{
	{"PLAIN", kafka.SASLPlain},
	{"SCRAM-SHA-256", kafka.SASLScramSHA256},
	{"SCRAM-SHA-512", kafka.SASLScramSHA512},
}

func TestSASL(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	for _, l := range logins {
		t.Run(l.mechanism, func(t *testing.T) {
			t.Parallel()
			cluster, brokers := start(t, kfake.NumBrokers(2), kfake.EnableSASL(), kfake.Superuser(l.mechanism, "us3r", "s3cret, with=all"))
			works(t, cluster, kafka.New(brokers, l.option("us3r", "s3cret, with=all")))
			works(t, cluster, kafka.New(brokers, l.option("us3r", "s3cret, with=all"), kafka.TransactionalID("tx")))
			_ = fails(t, kafka.New(brokers)) // without credentials

			safe, secure := start(t, kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser(l.mechanism, "us3r", "s3cret"),
				kfake.TLS(&tls.Config{Certificates: []tls.Certificate{a.certificate("127.0.0.1")}}))
			works(t, safe, kafka.New(secure, l.option("us3r", "s3cret"), kafka.TLS(&tls.Config{RootCAs: a.pool})))

			for name, b := range map[string]*kafka.Broker{
				"another password": kafka.New(brokers, l.option("us3r", "wr0ng")),
				"another user":     kafka.New(brokers, l.option("an0ther", "s3cret, with=all")),
			} {
				// This cluster closes the connection where others answer.
				refuse(cluster)
				err := fails(t, b)
				if !errors.Is(err, kafka.ErrDenied) || !errors.Is(err, kerr.SaslAuthenticationFailed) {
					t.Errorf("%s: %v", name, err)
				}
				for _, secret := range []string{"us3r", "s3cret", "wr0ng", "an0ther"} {
					noSecret(t, b, err, secret)
				}
			}
		})
	}
}

// refuse has a cluster answer each login as Kafka's own brokers do that of a wrong
// password.
func refuse(cluster *kfake.Cluster) {
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.SASLAuthenticate}, TopLevel: true, Err: kerr.SaslAuthenticationFailed, Count: -1})
}

// A mechanism that the brokers do not have is said to be that.
func TestUnsupportedMechanism(t *testing.T) {
	t.Parallel()
	cluster, brokers := start(t, kfake.NumBrokers(1), kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-512", "us3r", "s3cret"))
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.SASLHandshake}, TopLevel: true, Err: kerr.UnsupportedSaslMechanism, Count: -1})
	err := fails(t, kafka.New(brokers, kafka.SASLPlain("us3r", "s3cret")))
	if !errors.Is(err, kafka.ErrDenied) {
		t.Errorf("%v", err)
	}
}

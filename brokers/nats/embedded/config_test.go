package embedded_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gostream/gostream/brokers/nats/embedded"
)

// Required is Dir, or Memory; nothing else.
func TestRequiredFields(t *testing.T) {
	t.Parallel()
	_, err := embedded.Start(embedded.Config{})
	wantError(t, err, "Config.Dir", "Config.Memory")
	for f := range reflect.TypeFor[embedded.Config]().Fields() {
		required := f.Name == "Dir" || f.Name == "Memory"
		if got := strings.Contains(err.Error(), "Config."+f.Name); got != required {
			t.Errorf("the error of an empty Config names %s: %t, want %t", f.Name, got, required)
		}
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	certificate := &tls.Config{Certificates: make([]tls.Certificate, 1)}
	dir := filepath.Join(t.TempDir(), "never made")
	for name, test := range map[string]struct {
		config embedded.Config
		words  []string
	}{
		"memory with a folder":       {embedded.Config{Dir: dir, Memory: true}, []string{"Config.Dir", "Config.Memory"}},
		"memory synced":              {embedded.Config{Memory: true, SyncAlways: true}, []string{"Config.SyncAlways"}},
		"no port":                    {embedded.Config{Dir: dir, Listen: "localhost"}, []string{"Config.Listen", "host:port"}},
		"a port that is no number":   {embedded.Config{Dir: dir, Listen: "localhost:nats"}, []string{"Config.Listen", "number"}},
		"a port out of range":        {embedded.Config{Dir: dir, Listen: "localhost:65536"}, []string{"Config.Listen", "65535"}},
		"a negative port":            {embedded.Config{Dir: dir, Listen: "localhost:-1"}, []string{"Config.Listen", "65535"}},
		"white space in the name":    {embedded.Config{Dir: dir, Name: "my server"}, []string{"Config.Name", "white space"}},
		"a user without a password":  {embedded.Config{Dir: dir, User: "me"}, []string{"Config.Password is empty", "Config.User"}},
		"a password without a user":  {embedded.Config{Dir: dir, Password: "s3cret"}, []string{"Config.User is empty", "Config.Password"}},
		"a token and a user":         {embedded.Config{Dir: dir, Token: "s3cret", User: "me", Password: "s3cret"}, []string{"Config.Token", "one way"}},
		"TLS without a port":         {embedded.Config{Dir: dir, TLSConfig: certificate}, []string{"Config.TLSConfig", "Config.Listen"}},
		"TLS without a certificate":  {embedded.Config{Dir: dir, Listen: "localhost:0", TLSConfig: &tls.Config{}}, []string{"Config.TLSConfig", "certificate"}},
		"a negative payload":         {embedded.Config{Dir: dir, MaxPayload: -1}, []string{"Config.MaxPayload", "-1"}},
		"a payload that is too much": {embedded.Config{Dir: dir, MaxPayload: 64<<20 + 1}, []string{"Config.MaxPayload", "67108864"}},
		"a negative time":            {embedded.Config{Dir: dir, ReadyTimeout: -1}, []string{"Config.ReadyTimeout", "negative"}},
		"all at once": {
			embedded.Config{Listen: "x", Name: " ", User: "me", Token: "s3cret", TLSConfig: &tls.Config{}, MaxPayload: -1, ReadyTimeout: -1, SyncAlways: true},
			[]string{"Config.Dir", "Config.Listen", "Config.Name", "Config.Password", "Config.Token", "Config.TLSConfig", "Config.MaxPayload", "Config.ReadyTimeout"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := embedded.Start(test.config)
			if err == nil {
				stop(t, s)
			}
			wantError(t, err, test.words...)
			if strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the error shows a secret: %v", err)
			}
			if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the folder was made before the mistake was told: %v", err)
			}
		})
	}
}

func TestCredentials(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config embedded.Config
		right  natsgo.Option
		wrong  []natsgo.Option
	}{
		"user": {
			embedded.Config{User: "me", Password: "s3cret"},
			natsgo.UserInfo("me", "s3cret"),
			[]natsgo.Option{natsgo.UserInfo("me", "wrong"), natsgo.UserInfo("you", "s3cret"), natsgo.Token("s3cret"), natsgo.Name("none")},
		},
		"token": {
			embedded.Config{Token: "s3cret"},
			natsgo.Token("s3cret"),
			[]natsgo.Option{natsgo.Token("wrong"), natsgo.UserInfo("me", "s3cret"), natsgo.Name("none")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log logBuffer
			c := test.config
			c.Memory, c.Listen, c.Logger = true, "127.0.0.1:0", log.logger(slog.LevelDebug)
			s := start(t, c)
			if strings.Contains(s.URL(), "s3cret") {
				t.Errorf("the URL shows the secret: %s", s.URL())
			}
			for _, way := range []struct {
				url string
				via natsgo.Option
			}{{s.URL(), natsgo.Name("remote")}, {"", natsgo.InProcessServer(s)}} {
				nc, err := natsgo.Connect(way.url, way.via, test.right)
				if err != nil {
					t.Errorf("the right credentials at %q: %v", way.url, err)
				} else {
					nc.Close()
				}
				for i, wrong := range test.wrong {
					nc, err := natsgo.Connect(way.url, way.via, wrong)
					if err == nil {
						nc.Close()
					}
					if !errors.Is(err, natsgo.ErrAuthorization) {
						t.Errorf("the wrong credentials %d at %q: %v, want ErrAuthorization", i, way.url, err)
					}
				}
			}
			stop(t, s)
			if text := log.String(); strings.Contains(text, "s3cret") {
				t.Errorf("the log shows the secret:\n%s", text)
			}
		})
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	https := httptest.NewTLSServer(nil) // for its certificate
	certificate := https.TLS.Certificates[0]
	https.Close()
	roots := x509.NewCertPool()
	roots.AddCert(https.Certificate())

	s := start(t, embedded.Config{Memory: true, Listen: "127.0.0.1:0", TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}}})
	if !strings.HasPrefix(s.URL(), "tls://127.0.0.1:") {
		t.Errorf("the URL is %q, want tls://127.0.0.1:…", s.URL())
	}
	if nc, err := natsgo.Connect(s.URL()); err == nil {
		nc.Close()
		t.Error("a client that does not know the certificate has connected")
	}
	nc, err := natsgo.Connect(s.URL(), natsgo.Secure(&tls.Config{RootCAs: roots}))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.TLSConnectionState(); err != nil {
		t.Error(err)
	}
	connect(t, s) // without TLS
}

func TestURL(t *testing.T) {
	t.Parallel()
	for listen, want := range map[string]string{
		"127.0.0.1:0": "nats://127.0.0.1:",
		"localhost:0": "nats://localhost:",
		":0":          "nats://127.0.0.1:",
		"0.0.0.0:0":   "nats://127.0.0.1:",
	} {
		s := start(t, embedded.Config{Memory: true, Listen: listen})
		if !strings.HasPrefix(s.URL(), want) {
			t.Errorf("with Listen %q the URL is %q, want %s…", listen, s.URL(), want)
		}
		nc, err := natsgo.Connect(s.URL())
		if err != nil {
			t.Errorf("%s: %v", s.URL(), err)
			continue
		}
		nc.Close()
	}
}

func TestMaxPayload(t *testing.T) {
	t.Parallel()
	for config, want := range map[int]int64{0: 1 << 20, 100: 100, 64 << 20: 64 << 20} {
		nc, _ := connect(t, start(t, embedded.Config{Memory: true, MaxPayload: config}))
		if got := nc.MaxPayload(); got != want {
			t.Errorf("with MaxPayload %d a client is told %d, want %d", config, got, want)
		}
	}
}

func TestName(t *testing.T) {
	t.Parallel()
	for config, want := range map[string]string{"": embedded.DefaultName, "mine": "mine"} {
		nc, _ := connect(t, start(t, embedded.Config{Memory: true, Name: config}))
		if got := nc.ConnectedServerName(); got != want {
			t.Errorf("with Name %q the server is called %q, want %q", config, got, want)
		}
	}
}

func TestLogger(t *testing.T) {
	t.Parallel()
	for level, debug := range map[slog.Level]bool{slog.LevelDebug: true, slog.LevelInfo: false} {
		var log logBuffer
		s := start(t, embedded.Config{Memory: true, Logger: log.logger(level)})
		connect(t, s)
		stop(t, s)
		text := log.String()
		if !strings.Contains(text, "level=INFO") || !strings.Contains(text, "Server is ready") {
			t.Errorf("at %v the log does not tell of the start:\n%s", level, text)
		}
		if got := strings.Contains(text, "level=DEBUG"); got != debug {
			t.Errorf("at %v the log holds DEBUG: %t, want %t:\n%s", level, got, debug, text)
		}
	}
}

// logBuffer collects what is logged.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: level}))
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

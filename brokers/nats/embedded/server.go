package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
)

// Server is a NATS server in this process, made by [Start]. Its methods may be called
// concurrently. nats.go takes it as a server to connect to (nats.InProcessServer).
type Server struct {
	server *natsd.Server
	folder *folder
	url    string
	conns  conns

	stop sync.Once
	done chan struct{} // closed when nothing runs any more
	err  error         // of giving the folder up; to be read after done
}

// Start starts a server and returns when it takes connections, which it does after it
// has read all streams. The caller owes a [Server.Shutdown].
//
// All mistakes in c come back in one error, before any I/O. Start fails when the folder
// is in use ([ErrInUse]), when the port is taken, when a stream that is in the folder
// was not restored (the server itself would go on without it), and after
// [Config].ReadyTimeout. After an error nothing is running and the folder is free;
// after a timeout that is so as soon as the server, which cannot be interrupted, has
// read its streams.
//
// The server turns the block profile of the process off
// ([runtime.SetBlockProfileRate]).
func Start(c Config) (*Server, error) {
	s, err := start(c)
	if err != nil {
		return nil, fmt.Errorf("embedded.Start: %w", err)
	}
	return s, nil
}

func start(c Config) (*Server, error) {
	if err := c.mistakes(); err != nil {
		return nil, err
	}
	if err := probe(c); err != nil {
		return nil, err
	}
	f, err := openFolder(c)
	if err != nil {
		return nil, err
	}
	server, err := natsd.NewServer(c.options(f.path))
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	log := newSink(c.Logger)
	server.SetLoggerV2(log, log.debug, false, false)
	s := &Server{server: server, folder: f, done: make(chan struct{})}

	started := make(chan struct{})
	go func() {
		defer close(started)
		server.Start()
	}()
	wait := c.ReadyTimeout
	if wait == 0 {
		wait = DefaultReadyTimeout
	}
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	select {
	case <-started:
	case <-timeout.C:
		go func() {
			<-started
			s.begin()
		}()
		return nil, fmt.Errorf("the server was not ready after Config.ReadyTimeout, %v: give it more time to read its streams", wait)
	}

	said, fatal := log.start()
	if fatal == nil {
		fatal = restored(server, f.path, said)
	}
	if fatal != nil {
		s.begin()
		<-s.done
		return nil, errors.Join(fatal, s.err)
	}
	s.url = urlOf(c, server.Addr())
	return s, nil
}

// probe fails when the port cannot be had: the server would notice only after it had
// read all streams.
func probe(c Config) error {
	if c.Listen == "" {
		return nil
	}
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("Config.Listen: %w", err)
	}
	return l.Close()
}

// restored fails when a stream of the folder is not among those of the server, which
// merely warns of it: whoever looked for the stream would make a new, empty one.
func restored(server *natsd.Server, dir string, said []string) error {
	streams := filepath.Join(dir, natsd.JetStreamStoreDir, natsd.DEFAULT_GLOBAL_ACCOUNT, "streams")
	entries, err := os.ReadDir(streams)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	account, err := server.JszAccount(&natsd.JSzOptions{Account: natsd.DEFAULT_GLOBAL_ACCOUNT, Streams: true})
	if err != nil {
		return err
	}
	there := make(map[string]bool)
	for _, stream := range account.Streams {
		there[stream.Name] = true
	}
	var missing []string
	for _, e := range entries {
		if there[e.Name()] || strings.HasPrefix(e.Name(), ".") { // a dot: being deleted
			continue
		}
		// Without this file the process ended while it made the stream: nobody was told
		// that there is one.
		if _, err := os.Stat(filepath.Join(streams, e.Name(), natsd.JetStreamMetaFile)); errors.Is(err, os.ErrNotExist) {
			continue
		}
		missing = append(missing, e.Name())
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("the server could not restore the streams %q of %s (it said: %q): bring them back from a backup, or move them out of the folder",
		missing, streams, said)
}

// urlOf returns the URL of a server that listens at addr.
func urlOf(c Config, addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return ""
	}
	host, _, _ := c.address()
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	scheme := "nats://"
	if c.TLSConfig != nil {
		scheme = "tls://"
	}
	return scheme + net.JoinHostPort(host, strconv.Itoa(tcp.Port))
}

// URL returns the URL for clients, such as nats://127.0.0.1:4222, or "" if the server
// has no port. It never holds credentials. Where the server listens on every address
// it names the machine's own.
func (s *Server) URL() string { return s.url }

// InProcessConn returns a new connection to the server, which passes no network. It
// needs no TLS, but the credentials of the [Config]. nats.go calls it for every
// connect and reconnect. After [Server.Shutdown] was called it fails with
// [net.ErrClosed].
func (s *Server) InProcessConn() (net.Conn, error) {
	conn, err := s.conns.open(s.server.InProcessConn)
	if err != nil {
		return nil, fmt.Errorf("embedded: the server takes no connection: %w", err)
	}
	return conn, nil
}

// Shutdown closes all connections, ends the server and frees the folder, and waits
// until that is done. ctx bounds the waiting, not the shutdown; without a deadline it
// is bounded by [DefaultShutdownTimeout]. Further calls wait for the same end and
// return the same error.
//
// Shut down what uses the server first.
func (s *Server) Shutdown(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultShutdownTimeout)
		defer cancel()
	}
	s.begin()
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return fmt.Errorf("embedded: the server is still shutting down: %w", ctx.Err())
	}
}

// begin begins to shut down, once.
func (s *Server) begin() {
	s.stop.Do(func() {
		s.conns.close()
		go func() {
			defer close(s.done)
			s.server.Shutdown()
			s.server.WaitForShutdown()
			s.err = s.folder.close()
		}()
	})
}

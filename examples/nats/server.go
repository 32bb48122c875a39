package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/brokers/nats"
	"github.com/gostream/gostream/brokers/nats/embedded"
)

// server is where the messages are: in this process, or at a URL.
type server struct {
	url string
	own *embedded.Server // nil for the one at url
}

// open starts a server in this process with its streams in dir, unless there is a url.
func open(url, dir string) (*server, error) {
	if url != "" {
		return &server{url: url}, nil
	}
	if dir == "" {
		return nil, errors.New("the system has no folder for caches: say with -dir where the streams go")
	}
	own, err := embedded.Start(embedded.Config{Dir: dir})
	if errors.Is(err, embedded.ErrInUse) {
		return nil, fmt.Errorf("another run is using %s: wait for its end, or give this one another -dir: %w", dir, err)
	}
	if err != nil {
		return nil, err
	}
	return &server{own: own}, nil
}

// broker returns the broker. Every publish is confirmed by the server.
func (s *server) broker() *nats.Broker {
	if s.own != nil {
		return nats.New("", nats.InProcess(s.own), nats.ConfirmPublishes())
	}
	return nats.New(s.url, nats.ConfirmPublishes())
}

// remove removes the stream: with its last order done there is nothing to go on with.
func (s *server) remove(ctx context.Context, stream string) error {
	js, done, err := s.jetStream()
	if err != nil {
		return err
	}
	defer done()
	return js.DeleteStream(ctx, stream)
}

// jetStream returns the server's own API; the caller owes a call of done.
func (s *server) jetStream() (js jetstream.JetStream, done func(), err error) {
	options := natsgo.GetDefaultOptions()
	if s.own != nil {
		options.InProcessServer = s.own
	} else {
		options.Servers = []string{s.url}
	}
	nc, err := options.Connect()
	if err != nil {
		return nil, nil, err
	}
	if js, err = jetstream.New(nc); err != nil {
		nc.Close()
		return nil, nil, err
	}
	return js, nc.Close, nil
}

// close ends the server, if it is in this process.
func (s *server) close() error {
	if s.own == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return s.own.Shutdown(ctx)
}

// defaultDir is the folder for the streams, "" where the system has none for caches.
func defaultDir() string {
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(cache, "gostream", "examples", "nats")
}

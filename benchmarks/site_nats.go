package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
	"github.com/gostream/gostream/brokers/nats/embedded"
)

// What all NATS loops have in common, raw or not.
const (
	pending       = nats.DefaultPendingMessages // messages of a Core subscription may wait
	prefetch      = 256                         // of a consumer of a stream
	maxAckPending = nats.DefaultMaxAckPending
	ackWait       = nats.DefaultAckWait
)

// natsSite is the server that the loops of a group share, and the connection that feeds
// them.
type natsSite struct {
	url    string
	server *embedded.Server // nil where the server is another's
	feed   *natsgo.Conn
	js     jetstream.JetStream
	prefix string
	names  int
}

// openNATS starts a server in the process, unless it gets the address of one.
func openNATS(url string) (*natsSite, error) {
	s := &natsSite{url: url, prefix: "bench-" + rand.Text()[:8]}
	if url == "" {
		var err error
		if s.server, err = embedded.Start(embedded.Config{Memory: true, Listen: "127.0.0.1:0"}); err != nil {
			return nil, err
		}
		s.url = s.server.URL()
	}
	var err error
	if s.feed, err = s.connect(); err == nil {
		s.js, err = jetstream.New(s.feed)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *natsSite) close() error {
	if s.feed != nil {
		s.feed.Close()
	}
	if s.server == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), broker.DefaultShutdownTimeout)
	defer cancel()
	return s.server.Shutdown(ctx)
}

// where says what the loops ran on.
func (s *natsSite) where() string {
	if s.server == nil {
		return "nats-server " + s.feed.ConnectedServerVersion() + ", a server of its own"
	}
	return "nats-server " + s.feed.ConnectedServerVersion() + " in this process"
}

// fresh is a name that nobody has used.
func (s *natsSite) fresh() string {
	s.names++
	return fmt.Sprintf("%s-%d", s.prefix, s.names)
}

// connect makes a connection. The options are the same for all loops: those that the
// module sets by itself.
func (s *natsSite) connect(more ...natsgo.Option) (*natsgo.Conn, error) {
	return natsgo.Connect(s.url, append([]natsgo.Option{
		natsgo.MaxReconnects(-1),
		natsgo.ReconnectWait(nats.DefaultReconnectWait),
		natsgo.PingInterval(nats.DefaultPingInterval),
		natsgo.Timeout(nats.DefaultConnectTimeout),
	}, more...)...)
}

// publish is the feed: what publishes for the loops that consume.
func (s *natsSite) publish(subject string, t traffic) func(i int) error {
	return func(i int) error { return s.feed.Publish(subject, t.payload(i)) }
}

// stream makes a stream in memory.
func (s *natsSite) stream() (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	name := s.fresh()
	return s.js.CreateStream(ctx, jetstream.StreamConfig{Name: name, Subjects: []string{name}, Storage: jetstream.MemoryStorage})
}

// consumerConfig is that of the module for a durable consumer.
func consumerConfig(name, subject string) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: name, FilterSubject: subject, AckPolicy: jetstream.AckExplicitPolicy, DeliverPolicy: jetstream.DeliverAllPolicy,
		AckWait: ackWait, MaxAckPending: maxAckPending, MaxDeliver: -1,
	}
}

// emptied purges a stream: what was handled is no load for what comes.
func emptied(stream jetstream.Stream) func(context.Context) error {
	return func(ctx context.Context) error { return stream.Purge(ctx) }
}

// dropStream removes a stream.
func (s *natsSite) dropStream(stream jetstream.Stream) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return s.js.DeleteStream(ctx, stream.CachedInfo().Config.Name)
}

// acknowledged returns when the server has an acknowledgement for every message that it
// delivered, and nothing is left to deliver.
func acknowledged(stream jetstream.Stream, consumer string) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	for {
		c, err := stream.Consumer(ctx, consumer)
		if err != nil {
			return err
		}
		info := c.CachedInfo()
		if info.NumAckPending == 0 && info.NumPending == 0 {
			return nil
		}
		if !pause(ctx, 10*time.Millisecond) {
			return fmt.Errorf("%d messages were delivered and not acknowledged, %d not delivered", info.NumAckPending, info.NumPending)
		}
	}
}

// pause waits for d; false means that ctx ended before.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// natsModule is a broker on a connection of its own. stop ends both.
func natsModule(connect func(...natsgo.Option) (*natsgo.Conn, error)) (b *nats.Broker, stop func() error, err error) {
	nc, err := connect()
	if err != nil {
		return nil, nil, err
	}
	b = nats.FromConn(nc, nats.PendingMessages(pending))
	return b, func() error { nc.Close(); return nil }, nil
}

// moduleLoop is the module alone: it receives, handles and acknowledges.
func moduleLoop(b broker.Broker, src broker.Source, w work, p probe) (stop func() error, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := b.Connect(ctx); err != nil {
		return nil, err
	}
	sub, err := src.Subscribe(ctx, b)
	if err != nil {
		return nil, errors.Join(err, b.Shutdown(ctx))
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ctx, handle := context.Background(), handler(w, p)
		for {
			m, err := sub.Receive(ctx)
			if err == nil {
				err = handle(m.Payload())
			}
			if err == nil {
				if err = m.Ack(ctx); errors.Is(err, errors.ErrUnsupported) {
					err = nil
				}
			}
			if err != nil {
				if !errors.Is(err, broker.ErrClosed) {
					p.fail(err)
				}
				return
			}
		}
	}()
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		err := sub.Close(ctx)
		<-ended
		return errors.Join(err, b.Shutdown(ctx))
	}, nil
}

// runtimeLoop is the full runtime with its default of one worker.
func runtimeLoop(b broker.Broker, src broker.Source, w work, p probe) (stop func() error, err error) {
	app, r := newApp(), gostream.NewRouter()
	if w == noop {
		r.HandleSource(src, gostream.Raw(func(_ context.Context, d *gostream.Delivery) error {
			p.raw(d.Payload())
			return nil
		}))
	} else {
		r.HandleSource(src, gostream.Consume(func(_ context.Context, o Order) error {
			p.order(o)
			return nil
		}))
	}
	app.Mount(b, r)
	started, err := startApp(app, nil)
	if err != nil {
		return nil, err
	}
	return started.stop, nil
}

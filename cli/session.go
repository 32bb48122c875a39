package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

// defaultTimeout bounds each thing that a broker is asked for.
const defaultTimeout = 30 * time.Second

// addTimeoutFlag adds --timeout.
func addTimeoutFlag(cmd *cobra.Command, to *time.Duration) {
	cmd.Flags().DurationVar(to, "timeout", defaultTimeout, "how long the broker has to connect, and for each message")
}

// session is one connected broker. No subscription of the app is opened and none of its
// hooks is called.
type session struct {
	kind    string
	b       broker.Broker
	timeout time.Duration
	err     io.Writer

	mu     sync.Mutex
	failed []error // what the broker told after a call had succeeded
}

// connect connects the broker. A failure leaves nothing behind.
func (p *program) connect(ctx context.Context, d gostream.BrokerDescription, timeout time.Duration) (*session, error) {
	s := &session{kind: clean(d.Kind), b: d.Broker, timeout: timeout, err: p.err}
	broker.Notify(s.b, s.notice)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := s.b.Connect(ctx); err != nil {
		_ = s.close()
		return nil, fmt.Errorf("connect %s: %w", s.kind, err)
	}
	return s, nil
}

// notice hears what the broker tells outside of calls.
func (s *session) notice(e broker.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e.Kind {
	case broker.EventFailed:
		s.failed = append(s.failed, fmt.Errorf("%s did not take what it was sent: %w", s.kind, e.Err))
	case broker.EventDisconnected:
		fmt.Fprintf(s.err, "warning: the connection to %s was cut; trying again\n", s.kind)
	}
}

// close flushes and shuts the broker down, and tells what failed since the connection.
func (s *session) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), broker.DefaultShutdownTimeout)
	defer cancel()
	err := s.b.Shutdown(ctx)
	if err != nil {
		err = fmt.Errorf("shut down %s: %w", s.kind, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(append(s.failed, err)...)
}

// publish sends one message. The end of ctx does not interrupt it: the outcome would be
// unknown.
func (s *session) publish(ctx context.Context, pub broker.Publisher, m broker.OutgoingMessage) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
	defer cancel()
	return pub.Publish(ctx, m)
}

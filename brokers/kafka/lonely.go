package kafka

import (
	"context"

	"github.com/twmb/franz-go/pkg/kgo"
)

// lonely publishes one record at a time, with a client of its own that is made when it is
// needed first. Brokers refuse a whole batch of records as too large, whoever published
// them, where a topic or the cluster takes less than the client expects; alone, each
// record is refused or taken for itself.
type lonely struct {
	turn   chan struct{} // held by who publishes, or closes
	open   func() (*kgo.Client, error)
	client *kgo.Client
	closed bool
}

func (l *lonely) init(open func() (*kgo.Client, error)) {
	l.turn, l.open = make(chan struct{}, 1), open
}

// publish publishes rec and waits. Where ctx ends, rec is the client's for good.
func (l *lonely) publish(ctx context.Context, rec *kgo.Record) error {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	switch {
	case l.closed:
		return kgo.ErrClientClosed
	case l.client == nil:
		client, err := l.open()
		if err != nil {
			return err
		}
		l.client = client
	}
	done := make(chan error, 1)
	l.client.Produce(ctx, rec, func(_ *kgo.Record, err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// forget has the client forget a topic, if there is one and nobody publishes.
func (l *lonely) forget(topic string) {
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
		if l.client != nil {
			l.client.PurgeTopicsFromProducing(topic)
		}
	default:
	}
}

func (l *lonely) close() {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	l.closed = true
	if l.client != nil {
		l.client.Close()
	}
}

package brokertest_test

import (
	"context"
	"errors"

	"github.com/gostream/gostream/broker"
)

var unacknowledgedMutants = []mutant{
	{
		"an Ack fakes success where nothing redelivers", "settlement/unsupported", "Ack where the source does not redeliver answers nil",
		func(r *rig) {
			r.unacked = func(m *unackedMessage) broker.IncomingMessage { return fakedAck{m} }
		},
	},
	{
		"a settlement answers that it is not supported, also after Shutdown", "settlement/after-shutdown", "after Shutdown answers",
		func(r *rig) {
			r.unacked = func(m *unackedMessage) broker.IncomingMessage { return neverClosed{m} }
		},
	},
	{
		"a message is delivered twice where nothing redelivers", "settlement/unsupported", "came twice",
		func(r *rig) {
			r.subscription = func(s subscription) broker.Subscription { return &twice{unackedSubscription: newUnacked(s)} }
		},
	},
	{
		"Close drops what had arrived where nothing redelivers", "lifecycle/close-hands-out", "did not arrive",
		func(r *rig) {
			r.subscription = func(s subscription) broker.Subscription { return forgetful{newUnacked(s)} }
		},
	},
}

// fakedAck says that it was acked, whatever happens.
type fakedAck struct{ *unackedMessage }

func (fakedAck) Ack(context.Context) error { return nil }

// neverClosed does not see that its broker was shut down.
type neverClosed struct{ *unackedMessage }

func (neverClosed) Ack(context.Context) error { return errors.ErrUnsupported }

// twice delivers everything twice.
type twice struct {
	*unackedSubscription
	again broker.IncomingMessage
}

func (s *twice) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	if m := s.again; m != nil {
		s.again = nil
		return m, nil
	}
	m, err := s.unackedSubscription.Receive(ctx)
	if err == nil {
		s.again = m
	}
	return m, err
}

// forgetful closes at once.
type forgetful struct{ *unackedSubscription }

func (s forgetful) Close(ctx context.Context) error {
	s.close()
	return s.s.Close(ctx)
}

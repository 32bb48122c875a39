package brokertest_test

import (
	"context"

	"github.com/gostream/gostream/broker"
)

var unacknowledgedMutants = []mutant{
	{
		"an Ack fakes success where nothing redelivers", "settlement/unsupported", "Ack where the source does not redeliver answers nil",
		func(r *rig) {
			r.unacked = func(m *unackedMessage) broker.IncomingMessage { return &fakedAck{m} }
		},
	},
}

// fakedAck says that it was acked, whatever happens.
type fakedAck struct{ *unackedMessage }

func (fakedAck) Ack(context.Context) error { return nil }

package brokertest

import (
	"context"

	"github.com/gostream/gostream/broker"
)

// cancellationChecks: a context that ends loses nothing.
var cancellationChecks = []check{
	{
		name:  "publish-dead-context",
		rule:  "Publish with a context that has ended returns a context error, or nil and the message arrives",
		where: "broker.Publisher, Publish",
		run:   checkPublishDeadContext,
	},
}

func checkPublishDeadContext(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	dead, cancel := context.WithCancel(e.ctx)
	cancel()
	err = e.bounded(dead, "Publish with a context that has ended", func(ctx context.Context) error {
		return l.pub.Publish(ctx, broker.OutgoingMessage{Name: l.t.Name, Payload: []byte("dead")})
	})
	if err != nil {
		return mustBe("Publish with a context that has ended", err, context.Canceled)
	}
	d, err := s.one("dead")
	if err != nil {
		return err
	}
	return d.ack()
}

package brokertest

import (
	"fmt"

	"github.com/gostream/gostream/broker"
)

// lifecycleChecks: before Connect, after Shutdown, and Close.
var lifecycleChecks = []check{
	{
		name:  "publish-before-connect",
		rule:  "before Connect Publish answers ErrNotConnected and nothing is sent",
		where: "package broker, Rules that hold for every handle; broker.PublisherProvider, Publisher",
		run:   checkPublishBeforeConnect,
	},
}

func checkPublishBeforeConnect(e *env) error {
	t, err := e.target()
	if err != nil {
		return err
	}
	_, s, err := e.openOn(t)
	if err != nil {
		return err
	}
	b, err := e.newBroker()
	if err != nil {
		return err
	}
	l, err := e.link(t, b)
	if err != nil {
		return err
	}
	if err := mustBe("Publish before Connect", l.try(broker.OutgoingMessage{Payload: []byte("early")}), broker.ErrNotConnected); err != nil {
		return err
	}
	if err := e.call("Connect", b.Connect); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	if err := s.quiet(); err != nil {
		return err
	}
	// The publisher that was made before Connect works now.
	if err := l.publish("later"); err != nil {
		return err
	}
	d, err := s.one("later")
	if err != nil {
		return err
	}
	return d.ack()
}

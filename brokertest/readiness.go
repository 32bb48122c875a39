package brokertest

// readinessChecks: what a subscription receives from when on.
var readinessChecks = []check{
	{
		name:  "live",
		rule:  "the subscription is live when Subscribe returns: what is published from then on arrives",
		where: "broker.Source, Subscribe",
		run:   checkLive,
	},
}

func checkLive(e *env) error {
	for range 5 {
		t, err := e.target()
		if err != nil {
			return err
		}
		publisher, err := e.dial(t) // another connection: it must be live on the server
		if err != nil {
			return err
		}
		_, s, err := e.openOn(t)
		if err != nil {
			return err
		}
		if err := publisher.publish("first"); err != nil {
			return err
		}
		d, err := s.one("first")
		if err != nil {
			return err
		}
		if err := d.ack(); err != nil {
			return err
		}
	}
	return nil
}

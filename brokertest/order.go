package brokertest

// orderChecks: in which order messages come, and who shares them.
var orderChecks = []check{
	{
		name:  "publish-order",
		rule:  "deliveries come in publish order",
		where: "broker.Properties, Ordered",
		needs: []need{needOrdered},
		run:   checkPublishOrder,
	},
}

func checkPublishOrder(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	want := numbered("m", 200)
	if err := l.publish(want...); err != nil {
		return err
	}
	for _, p := range want {
		ds, err := s.inOrder(p)
		if err != nil {
			return err
		}
		if err := ackAll(ds...); err != nil {
			return err
		}
	}
	e.saw("Ordered", "yes")
	return nil
}

package brokertest

// settlementChecks: what Ack and Nack promise.
var settlementChecks = []check{
	{
		name:  "ack",
		rule:  "a message whose Ack returned nil does not come again, on another connection neither",
		where: "broker.IncomingMessage, Ack",
		needs: []need{needRedelivers},
		run:   checkAck,
	},
}

func checkAck(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	if err := l.publish("a", "b", "c"); err != nil {
		return err
	}
	ds, err := s.expect("a", "b", "c")
	if err != nil {
		return err
	}
	if err := ackAll(ds...); err != nil {
		return err
	}
	if err := s.quiet(); err != nil {
		return err
	}
	if err := s.close(); err != nil {
		return err
	}
	if err := e.shutdown(l.b); err != nil {
		return err
	}
	other, err := e.dial(l.t)
	if err != nil {
		return err
	}
	again, err := other.subscribeWith(s.book)
	if err != nil {
		return err
	}
	return again.quiet()
}

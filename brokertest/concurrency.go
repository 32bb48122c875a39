package brokertest

import "fmt"

// concurrencyChecks: many goroutines at once.
var concurrencyChecks = []check{
	{
		name:  "publishers",
		rule:  "a publisher is safe for concurrent use: what many goroutines publish arrives, each message once",
		where: "broker.Publisher",
		run:   checkConcurrentPublishers,
	},
}

func checkConcurrentPublishers(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	const publishers, each = 16, 10
	work := make([]func() error, 0, publishers+1)
	for i := range publishers {
		work = append(work, func() error { return l.publish(numbered(fmt.Sprintf("p%d-", i), each)...) })
	}
	work = append(work, func() error {
		for range publishers * each {
			d, err := s.receive()
			if err != nil {
				return err
			}
			if err := d.ack(); err != nil {
				return err
			}
		}
		return nil
	})
	if err := e.together(work...); err != nil {
		return err
	}
	return s.quiet()
}

package brokertest

import (
	"fmt"
)

// leakChecks: what is left behind. They come last.
var leakChecks = []check{
	{
		name:  "goroutines",
		rule:  "after Shutdown no goroutine of the broker is left",
		where: "broker.Broker, Shutdown",
		run:   checkGoroutines,
	},
}

func checkGoroutines(e *env) error {
	// Once to begin with: clients start some goroutines for the whole process.
	if err := workAndShutdown(e); err != nil {
		return err
	}
	before, _ := e.goroutines()
	const rounds = 5
	for range rounds {
		if err := workAndShutdown(e); err != nil {
			return err
		}
	}
	var stacks string
	err := e.eventually(func() string {
		n, s := e.goroutines()
		stacks = s
		if n <= before {
			return ""
		}
		return fmt.Sprintf("%d goroutines after one broker was shut down, %d after %d more", before, n, rounds)
	})
	if err != nil {
		return fmt.Errorf("%w; they are:\n%s", err, stacks)
	}
	return nil
}

// workAndShutdown uses a broker for everything and shuts it down.
func workAndShutdown(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	if err := l.publish("a", "b"); err != nil {
		return err
	}
	ds, err := s.expect("a", "b")
	if err != nil {
		return err
	}
	if err := ds[0].ack(); err != nil {
		return err
	}
	return e.shutdown(l.b)
}

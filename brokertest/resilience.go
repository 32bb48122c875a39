package brokertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gostream/gostream/broker"
)

// resilienceChecks: the connection is cut and the server is restarted.
var resilienceChecks = []check{
	{
		name:  "cuts",
		rule:  "when the connection is cut in mid-stream nothing is lost, the order of a key is kept, and what comes again is counted as a redelivery",
		where: "package broker, Rules that hold for every handle; broker.Subscription, Receive; broker.Publisher, Publish",
		needs: []need{needInterrupt, needRedelivers, needUnbuffered},
		run:   checkCuts,
	},
	{
		name:  "publishes",
		rule:  "a publish that returned nil arrives, also when the connection is cut at that moment",
		where: "broker.Publisher, Publish",
		needs: []need{needInterrupt, needRedelivers, needUnbuffered},
		run:   checkCutPublishes,
	},
	{
		name:  "long-cut",
		rule:  "a lost connection is seen in Health and in the events, Receive blocks meanwhile, and it heals without a new Subscribe",
		where: "package broker, Rules that hold for every handle; broker.Subscription, Receive; broker.HealthChecker; broker.EventKind",
		needs: []need{needInterrupt},
		run:   checkLongCut,
	},
	{
		name:  "connect",
		rule:  "Connect fails while the server cannot be reached, in time, and succeeds later on the same broker",
		where: "broker.Broker, Connect",
		needs: []need{needInterrupt},
		run:   checkConnectCut,
	},
	{
		name:  "shutdown",
		rule:  "Shutdown with the server gone ends whoever waits with ErrClosed, and what was unsettled comes back when the server does",
		where: "broker.Broker, Shutdown; broker.IncomingMessage",
		needs: []need{needInterrupt},
		run:   checkShutdownCut,
	},
	{
		name:  "restart-stored",
		rule:  "accepted messages survive a restart of the server, settled ones do not come again, and counts go on",
		where: "broker.Properties, Persistent and CountsDeliveries",
		needs: []need{needRestart, needPersistent, needRedelivers},
		run:   checkRestartStored,
	},
	{
		name:  "restart-live",
		rule:  "a subscription and a publisher outlive a restart of the server",
		where: "package broker, Rules that hold for every handle",
		needs: []need{needRestart},
		run:   checkRestartLive,
	},
}

// needUnbuffered is a need of publishes that are accepted when Publish returns nil.
var needUnbuffered = need{"no Properties.BuffersPublishes", func(e *env) (string, error) {
	p, err := e.properties()
	if err != nil || !p.BuffersPublishes {
		return "", err
	}
	return "the source declares BuffersPublishes: a publish that returned nil may be lost with the connection", nil
}}

func checkLongCut(e *env) error {
	t, err := e.target()
	if err != nil {
		return err
	}
	b, err := e.newBroker()
	if err != nil {
		return err
	}
	var heard listener
	tells := broker.Notify(b, heard.hear)
	if err := e.call("Connect", b.Connect); err != nil {
		return fmt.Errorf("Connect: %w", err)
	}
	l, err := e.link(t, b)
	if err != nil {
		return err
	}
	s, err := l.subscribe()
	if err != nil {
		return err
	}
	knows := !errors.Is(e.health(b), errors.ErrUnsupported)
	if err := s.heals(l, "before a cut"); err != nil {
		return err
	}

	restore, err := e.interrupt()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	received := func() error {
		// Nobody but the check ends this.
		for {
			var d *delivery
			err := e.bounded(ctx, "Receive", func(ctx context.Context) (err error) {
				d, err = s.raw(ctx)
				return err
			})
			switch {
			case err != nil && ctx.Err() != nil:
				return errors.New("nothing of what was published after a long cut came, without a new Subscribe")
			case err != nil:
				return fmt.Errorf("receive must block while the connection is lost, and it answers %w", err)
			}
			if err := e.call("Ack", d.Ack); err != nil && !errors.Is(err, errors.ErrUnsupported) {
				return fmt.Errorf("ack after a long cut: %w", err)
			}
			if d.text == "healed" {
				return nil
			}
		}
	}
	cut := func() error {
		if knows {
			if err := e.unhealthy(b); err != nil {
				return err
			}
		}
		if tells {
			if err := e.heard(broker.EventDisconnected, 1, &heard); err != nil {
				return err
			}
		}
		short, cancel := context.WithTimeout(e.ctx, e.h.Quiet)
		err := returns(short, e, "Publish while the connection is lost", func(ctx context.Context) error {
			return l.pub.Publish(ctx, broker.OutgoingMessage{Name: t.Name, Payload: []byte("while it was cut")})
		})
		cancel()
		if err != nil {
			return err
		}
		e.wait(max(5*e.h.Quiet, e.h.Timeout/10))
		if err := restore(); err != nil {
			return err
		}
		if knows {
			if err := e.healthy(b); err != nil {
				return err
			}
		}
		if tells {
			if err := e.heard(broker.EventReconnected, 1, &heard); err != nil {
				return err
			}
		}
		return e.eventually(func() string {
			if err := l.publish("healed"); err != nil {
				return err.Error()
			}
			return ""
		})
	}
	return e.together(received, func() error {
		err := cut()
		if err != nil {
			cancel()
			return err
		}
		time.AfterFunc(e.h.Timeout, cancel) // by then it has come
		return nil
	})
}

func checkConnectCut(e *env) error {
	t, err := e.target()
	if err != nil {
		return err
	}
	restore, err := e.interrupt()
	if err != nil {
		return err
	}
	b, err := e.newBroker()
	if err != nil {
		return err
	}
	short, cancel := context.WithTimeout(e.ctx, 3*e.h.Quiet)
	defer cancel()
	const what = "Connect while the server cannot be reached"
	err = e.bounded(short, what, b.Connect)
	switch {
	case err == nil:
		return errors.New(what + " answers nil")
	case isStuck(err):
		return err
	}
	if err := mustNotBe(what, err, broker.ErrClosed); err != nil {
		return err
	}
	if err := restore(); err != nil {
		return err
	}
	if err := e.call("Connect", b.Connect); err != nil {
		return fmt.Errorf("Connect, which had failed while the server could not be reached, fails afterwards: %w", err)
	}
	l, err := e.link(t, b)
	if err != nil {
		return err
	}
	s, err := l.subscribe()
	if err != nil {
		return err
	}
	return s.heals(l, "after a Connect that failed")
}

func checkShutdownCut(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	if err := l.publish("unsettled"); err != nil {
		return err
	}
	if _, err := s.one("unsettled"); err != nil {
		return err
	}
	restore, err := e.interrupt()
	if err != nil {
		return err
	}
	e.closeLeniently() // of the broker that is shut down without a server
	err = e.together(
		func() error {
			ctx, cancel := context.WithTimeout(e.ctx, 2*e.h.Timeout)
			defer cancel()
			err := e.bounded(ctx, "Receive", func(ctx context.Context) error {
				_, err := s.sub.Receive(ctx)
				return err
			})
			return mustBe("Receive that waited when Shutdown was called with the server gone", err, broker.ErrClosed)
		},
		func() error {
			e.wait(e.h.Quiet / 2)
			ctx, cancel := context.WithTimeout(e.ctx, e.h.Timeout/2)
			defer cancel()
			return returns(ctx, e, "Shutdown with the server gone", l.b.Shutdown)
		},
	)
	if err != nil {
		return err
	}
	if err := mustBe("Publish after a Shutdown with the server gone", l.try(broker.OutgoingMessage{Payload: []byte("late")}), broker.ErrClosed); err != nil {
		return err
	}
	if err := restore(); err != nil {
		return err
	}
	if !l.props.Redelivers {
		return nil
	}
	s.book.released()
	other, err := e.dial(l.t)
	if err != nil {
		return err
	}
	again, err := other.subscribeWith(s.book)
	if err != nil {
		return err
	}
	d, err := again.one("unsettled")
	if err != nil {
		return fmt.Errorf("a delivery that was unsettled at a Shutdown with the server gone must come back: %w", err)
	}
	return d.ack()
}

// restart restarts the server.
func (e *env) restart() error {
	if err := e.call("Harness.Restart", e.h.Restart); err != nil {
		return fmt.Errorf("the harness: Restart: %w", err)
	}
	return nil
}

func checkRestartStored(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	want := numbered("m", 8)
	if err := l.publish(want...); err != nil {
		return err
	}
	// Three are acknowledged. Then one is given back several times, or each where the
	// requeued do not come first: it is there at the restart.
	last := make(map[string]int)
	const settled = 3
	for range settled {
		d, err := s.receive()
		if err != nil {
			return err
		}
		if err := d.ack(); err != nil {
			return err
		}
	}
	for range 2 * len(want) {
		d, err := s.receive()
		if err != nil {
			return err
		}
		n, _ := broker.DeliveryCount(d.IncomingMessage)
		last[d.text] = n
		if err := d.requeue(); err != nil {
			return err
		}
		if n > 2 {
			break
		}
	}
	if err := s.close(); err != nil {
		return err
	}
	if err := e.shutdown(l.b); err != nil {
		return err
	}
	if err := e.restart(); err != nil {
		return err
	}
	s.book.released()
	other, err := e.dial(l.t)
	if err != nil {
		return err
	}
	again, err := other.subscribeWith(s.book)
	if err != nil {
		return err
	}
	for rest := len(want) - settled; rest > 0; rest-- {
		d, err := again.receive()
		if err != nil {
			return fmt.Errorf("after a restart of the server %d messages are missing: %w", rest, err)
		}
		if !slices.Contains(want, d.text) {
			return fmt.Errorf("after a restart of the server %v came, which was never published", d)
		}
		n, ok := broker.DeliveryCount(d.IncomingMessage)
		if l.props.CountsDeliveries && (!ok || n < last[d.text]) {
			return fmt.Errorf("the delivery count of %q was %d, after a restart of the server it is %d", d.text, last[d.text], n)
		}
		if err := d.ack(); err != nil {
			return err
		}
	}
	if err := again.quiet(); err != nil {
		return fmt.Errorf("after a restart of the server: %w", err)
	}
	e.saw("Persistent", "yes")
	return nil
}

func checkRestartLive(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	if err := s.heals(l, "before a restart"); err != nil {
		return err
	}
	if err := e.restart(); err != nil {
		return err
	}
	return s.heals(l, "after a restart of the server")
}

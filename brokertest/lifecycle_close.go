package brokertest

import (
	"context"
	"errors"
	"fmt"

	"github.com/gostream/gostream/broker"
)

// closeChecks belong to the group lifecycle.
var closeChecks = []check{
	{
		name:  "close-backlog",
		rule:  "after Close Receive answers ErrClosed even with a backlog, and prefetched messages are given back",
		where: "broker.Subscription, Close",
		needs: []need{needRedelivers, needUnsettled(2)},
		run:   checkCloseBacklog,
	},
	{
		name:  "close-hands-out",
		rule:  "where the transport does not redeliver, Receive after Close first hands out what had arrived, then answers ErrClosed",
		where: "broker.Subscription, Close",
		needs: []need{needNoRedelivery},
		run:   checkCloseHandsOut,
	},
	{
		name:  "close-settling",
		rule:  "after Close the deliveries that are out can still be settled",
		where: "broker.Subscription, Close; broker.IncomingMessage",
		needs: []need{needRedelivers, needUnsettled(3)},
		run:   checkCloseSettling,
	},
	{
		name:  "close-wakes-receive",
		rule:  "a Receive that waits returns ErrClosed when the subscription is closed; Close is idempotent",
		where: "broker.Subscription, Close",
		run:   checkCloseWakesReceive,
	},
	{
		name:  "close-alone",
		rule:  "Close ends one subscription: the broker, its publishers and its other subscriptions go on",
		where: "broker.Subscription, Close",
		run:   checkCloseAlone,
	},
	{
		name:  "close-membership",
		rule:  "group membership is given up when the last delivery of a closed subscription is settled: the other members get everything then",
		where: "broker.Subscription, Close",
		needs: []need{needGroup},
		run:   checkCloseMembership,
	},
}

// closedFor returns an error unless Receive answers ErrClosed, again and again.
func (s *stream) closedFor(when string) error {
	for range 2 {
		for _, op := range s.receiving() {
			if err := mustRefuse(s.e, when, []operation{op}, broker.ErrClosed); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkCloseBacklog(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	all := numbered("m", 10)
	if err := l.publish(all...); err != nil {
		return err
	}
	var held []*delivery
	left := newTally(all)
	for range 2 {
		d, err := s.receive()
		if err != nil {
			return err
		}
		held = append(held, d)
	}
	if err := s.close(); err != nil {
		return err
	}
	if err := s.closedFor("after Close with a backlog"); err != nil {
		return err
	}
	// One of those that were out is done, the other goes back.
	if err := held[0].ack(); err != nil {
		return err
	}
	left.settled(held[0].text)
	if err := held[1].requeue(); err != nil {
		return err
	}
	again, err := l.subscribeWith(s.book)
	if err != nil {
		return fmt.Errorf("subscribing again: %w", err)
	}
	if err := again.consume(left); err != nil {
		return fmt.Errorf("on the next subscription: %w", err)
	}
	return again.quiet()
}

func checkCloseHandsOut(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	all := numbered("m", 10)
	if err := l.publish(all...); err != nil {
		return err
	}
	left := newTally(all)
	d, err := s.receive()
	if err != nil {
		return err
	}
	left.settled(d.text)
	e.wait(e.h.Quiet) // the others arrive
	if err := s.close(); err != nil {
		return err
	}
	if err := l.publish("after Close"); err != nil {
		return err
	}
	for !left.isDone() {
		d, err := s.receive()
		if err != nil {
			return fmt.Errorf("after Close: %s: %w", left.missing(), err)
		}
		if !left.settled(d.text) {
			return fmt.Errorf("%v came after Close", d)
		}
	}
	return s.closedFor("after Close, when everything was handed out")
}

func checkCloseSettling(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	if err := l.publish("acked", "rejected", "requeued"); err != nil {
		return err
	}
	ds, err := s.expect("acked", "rejected", "requeued")
	if err != nil {
		return err
	}
	if err := s.close(); err != nil {
		return err
	}
	if err := ds[0].ack(); err != nil {
		return fmt.Errorf("after Close: %w", err)
	}
	if err := ds[1].reject(); err != nil {
		return fmt.Errorf("after Close: %w", err)
	}
	if err := ds[2].requeue(); err != nil {
		return fmt.Errorf("after Close: %w", err)
	}
	for _, d := range ds {
		if err := mustAnswer(e, "of a delivery that was "+d.text+" after Close", d.IncomingMessage, broker.ErrSettled); err != nil {
			return err
		}
	}
	// Rejected is for good on the subscription that rejected it.
	again, err := l.subscribe()
	if err != nil {
		return err
	}
	requeued := false
	for {
		d, err := again.untilQuiet()
		if err != nil {
			return err
		}
		if d == nil {
			break
		}
		switch d.text {
		case "acked":
			return fmt.Errorf("%v came again after Ack returned nil", d)
		case "requeued":
			requeued = true
		}
		if err := d.ack(); err != nil {
			return err
		}
	}
	if requeued {
		return nil
	}
	d, err := again.one("requeued")
	if err != nil {
		return fmt.Errorf("requeued after Close: %w", err)
	}
	return d.ack()
}

func checkCloseWakesReceive(e *env) error {
	_, s, err := e.open()
	if err != nil {
		return err
	}
	received := make(chan error, 1)
	go func() {
		received <- e.call("Receive", func(ctx context.Context) error {
			_, err := s.sub.Receive(ctx)
			return err
		})
	}()
	e.wait(e.h.Quiet) // let it wait
	if err := s.close(); err != nil {
		return err
	}
	if err := mustBe("Receive that waits at Close", <-received, broker.ErrClosed); err != nil {
		return err
	}
	if err := e.together(s.close, s.close, s.close); err != nil {
		return fmt.Errorf("several at once after the first: %w", err)
	}
	return s.closedFor("after Close")
}

func checkCloseAlone(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	t, err := e.target()
	if err != nil {
		return err
	}
	other, err := e.link(t, l.b)
	if err != nil {
		return err
	}
	stays, err := other.subscribe()
	if err != nil {
		return err
	}
	if err := s.close(); err != nil {
		return err
	}
	if err := other.works(stays); err != nil {
		return fmt.Errorf("on another subscription of the broker: %w", err)
	}
	again, err := l.subscribe()
	if err != nil {
		return fmt.Errorf("subscribing again: %w", err)
	}
	if err := l.works(again); err != nil {
		return fmt.Errorf("on the subscription that was opened again: %w", err)
	}
	return nil
}

func checkCloseMembership(e *env) error {
	g, err := e.newGroup()
	if err != nil {
		return err
	}
	members, err := e.members(&g, "a", 2)
	if err != nil {
		return err
	}
	publisher, err := e.dial(g.member("a"))
	if err != nil {
		return err
	}
	leaves, stays := members[0], members[1]
	first := numbered("first", 20)
	if err := publisher.publish(first...); err != nil {
		return err
	}
	// One delivery is out when its subscription closes, if it gets one.
	left := newTally(first)
	held, err := leaves.untilQuiet()
	if err != nil {
		return err
	}
	if err := leaves.close(); err != nil {
		return err
	}
	if held != nil {
		if err := held.ack(); err != nil {
			return err
		}
		left.settled(held.text)
	}
	for { // where the transport does not redeliver, what had arrived comes first
		d, err := leaves.receive()
		if errors.Is(err, broker.ErrClosed) {
			break
		}
		if err != nil {
			return fmt.Errorf("receive after Close: %w", err)
		}
		if err := d.ack(); err != nil {
			return err
		}
		left.settled(d.text)
	}
	if err := stays.consume(left); err != nil {
		return fmt.Errorf("on the member that stays: %w", err)
	}
	second := numbered("second", 20)
	if err := publisher.publish(second...); err != nil {
		return err
	}
	e.wait(e.h.Quiet) // whoever is a member still takes its share
	if err := stays.consume(newTally(second)); err != nil {
		return fmt.Errorf("published after the other member had left: %w", err)
	}
	return stays.quiet()
}

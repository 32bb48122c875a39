package brokertest

import (
	"fmt"
	"slices"
)

// readinessChecks: what a subscription receives from when on.
var readinessChecks = []check{
	{
		name:  "live",
		rule:  "the subscription is live when Subscribe returns: what is published from then on arrives",
		where: "broker.Source, Subscribe",
		run:   checkLive,
	},
	{
		name:  "live-members",
		rule:  "a subscription to a group is live when Subscribe returns, that of a second group beside it, too",
		where: "broker.Source, Subscribe",
		needs: []need{needGroup},
		run:   checkLiveMembers,
	},
	{
		name:  "backlog",
		rule:  "what was published before the first subscription is kept for it where Backlog is declared",
		where: "broker.Properties, Backlog",
		run:   checkBacklog,
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

func checkLiveMembers(e *env) error {
	g, err := e.newGroup()
	if err != nil {
		return err
	}
	if g.Single {
		return e.singleGroup()
	}
	publisher, err := e.dial(g.member("a"))
	if err != nil {
		return err
	}
	var streams []*stream
	var history []string
	for i, group := range []string{"a", "b"} {
		l, s, err := e.openOn(g.member(group))
		if err != nil {
			return err
		}
		streams = append(streams, s)
		payload := fmt.Sprintf("first%d", i)
		if err := publisher.publish(payload); err != nil {
			return err
		}
		for _, s := range streams {
			if err := s.oneAfter(history, payload); err != nil {
				return fmt.Errorf("group %s: %w", group, err)
			}
		}
		if l.props.Backlog {
			history = append(history, payload) // a later group may have it, too
		}
	}
	return nil
}

// oneAfter receives the message with that payload and acknowledges it. What is in the
// history may come first.
func (s *stream) oneAfter(history []string, payload string) error {
	for {
		d, err := s.receive()
		switch {
		case err != nil:
			return fmt.Errorf("waiting for %q: %w", payload, err)
		case d.text != payload && !slices.Contains(history, d.text):
			return fmt.Errorf("%v came, expected %q", d, payload)
		}
		if err := d.ack(); err != nil {
			return err
		}
		if d.text == payload {
			return nil
		}
	}
}

func checkBacklog(e *env) error {
	t, err := e.target()
	if err != nil {
		return err
	}
	publisher, err := e.dial(t)
	if err != nil {
		return err
	}
	all := numbered("early", 20)
	if err := publisher.publish(all...); err != nil {
		return err
	}
	if publisher.props.BuffersPublishes {
		// Else what lies in the buffer until the subscription is there looks like a backlog.
		if err := e.call("Shutdown", publisher.b.Shutdown); err != nil {
			return fmt.Errorf("Shutdown of the publisher: %w", err)
		}
	}
	l, s, err := e.openOn(t)
	if err != nil {
		return err
	}
	if !l.props.Backlog {
		// Nothing is promised. What is seen is for the report.
		seen := 0
		for {
			d, err := s.untilQuiet()
			if err != nil {
				return err
			}
			if d == nil {
				break
			}
			seen++
			if err := d.ack(); err != nil {
				return err
			}
		}
		e.saw("Backlog", yesNo(seen == len(all)))
		return e.notApplicable("the source does not declare Backlog; %d of %d messages came", seen, len(all))
	}
	came := newTally(all)
	for i, p := range all {
		d, err := s.receive()
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", came.missing(), err)
		case !came.settled(d.text):
			return fmt.Errorf("%v came, which was not published", d)
		case l.props.Ordered && d.text != p:
			return fmt.Errorf("%v came as number %d, expected %q", d, i+1, p)
		}
		if err := d.ack(); err != nil {
			return err
		}
	}
	e.saw("Backlog", "yes")
	return nil
}

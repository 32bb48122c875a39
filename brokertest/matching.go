package brokertest

import (
	"fmt"

	"github.com/gostream/gostream/broker"
)

// matchingChecks: what a source says that it receives is what it receives.
var matchingChecks = []check{
	{
		name:  "name",
		rule:  "a source matches the names that it receives, and no others",
		where: "broker.Matches; broker.Matcher, Match; broker.NameMatcher, MatchName",
		run:   checkMatchName,
	},
	{
		name:  "pattern",
		rule:  "a source with a wildcard matches by the rule of the server",
		where: "broker.Matches; broker.Matcher, Match; broker.NameMatcher, MatchName",
		needs: []need{needPattern},
		run:   checkMatchPattern,
	},
	{
		name:  "group",
		rule:  "each member of a group matches the names that the group receives",
		where: "broker.Matches; broker.Matcher, Match; broker.NameMatcher, MatchName",
		needs: []need{needGroup},
		run:   checkMatchGroup,
	},
}

// mustMatch fails unless src says that it receives name, or not, before Connect and
// afterwards.
func (e *env) mustMatch(src broker.Source, connected broker.Broker, name string, want bool) error {
	fresh, err := e.newBroker()
	if err != nil {
		return err
	}
	for _, c := range []struct {
		when string
		b    broker.Broker
	}{{"before Connect", fresh}, {"after Connect", connected}} {
		var got bool
		if err := protect(func() error { got = broker.Matches(src, c.b, name); return nil }); err != nil {
			return fmt.Errorf("matching %s %s: %w", broker.Quote(name), c.when, err)
		}
		if got != want {
			return fmt.Errorf("%s, that the source %s matches %s is %v, and that it receives it is %v",
				c.when, broker.Quote(src.Name()), broker.Quote(name), got, want)
		}
	}
	return nil
}

func checkMatchName(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	other, os, err := e.open()
	if err != nil {
		return err
	}
	if err := other.publish("other"); err != nil {
		return err
	}
	if err := l.publish("own"); err != nil {
		return err
	}
	for _, c := range []struct {
		s       *stream
		payload string
	}{{s, "own"}, {os, "other"}} {
		d, err := c.s.one(c.payload)
		if err != nil {
			return fmt.Errorf("two sources with names of their own: %w", err)
		}
		if err := d.ack(); err != nil {
			return err
		}
	}
	if err := s.quiet(); err != nil {
		return fmt.Errorf("two sources with names of their own: %w", err)
	}
	names := map[string]bool{l.t.Name: true, other.t.Name: false}
	if l.t.Source.Name() == l.t.Name { // it is no pattern
		names[l.t.Name+"x"], names["x"+l.t.Name], names[""] = false, false, false
	}
	for name, want := range names {
		if err := e.mustMatch(l.t.Source, l.b, name, want); err != nil {
			return err
		}
	}
	e.saw(capMatch, yesNo(is[broker.Matcher](l.t.Source) || is[broker.NameMatcher](l.b)))
	return nil
}

func checkMatchPattern(e *env) error {
	p, err := e.newPattern()
	if err != nil {
		return err
	}
	l, s, err := e.openOn(Target{Source: p.Source, Name: p.Matching[0]})
	if err != nil {
		return err
	}
	want := make(map[string]bool)
	for _, name := range p.Other {
		if err := l.send(broker.OutgoingMessage{Name: name, Payload: []byte("to " + name)}); err != nil {
			return fmt.Errorf("to %s, which Harness.Pattern gives as a name that can be published to: %w", broker.Quote(name), err)
		}
	}
	for _, name := range p.Matching {
		if err := l.send(broker.OutgoingMessage{Name: name, Payload: []byte("to " + name)}); err != nil {
			return err
		}
		want[name] = true
	}
	came := make(map[string]bool)
	for range p.Matching {
		d, err := s.receive()
		if err != nil {
			return fmt.Errorf("of the names %.200q %d had come: %w", p.Matching, len(came), err)
		}
		if d.text != "to "+d.Name() {
			return fmt.Errorf("%v came with the name %s", d, broker.Quote(d.Name()))
		}
		came[d.Name()] = true
		if err := d.ack(); err != nil {
			return err
		}
	}
	d, err := s.untilQuiet()
	if err != nil {
		return err
	}
	if d != nil {
		came[d.Name()] = true
	}
	for _, name := range append(p.Other, p.Matching...) {
		if err := e.mustMatch(p.Source, l.b, name, came[name]); err != nil {
			return err
		}
		if came[name] != want[name] {
			return fmt.Errorf("Harness.Pattern says that the source receives %s: %v; it does: %v", broker.Quote(name), want[name], came[name])
		}
	}
	return nil
}

func checkMatchGroup(e *env) error {
	g, err := e.newGroup()
	if err != nil {
		return err
	}
	t, err := e.target()
	if err != nil {
		return err
	}
	for _, name := range []string{"a", "a", "b"} {
		l, s, err := e.openOn(g.member(name))
		if err != nil {
			return err
		}
		if err := e.mustMatch(l.t.Source, l.b, g.Name, true); err != nil {
			return err
		}
		if err := e.mustMatch(l.t.Source, l.b, t.Name, false); err != nil {
			return err
		}
		if err := s.close(); err != nil {
			return err
		}
	}
	return nil
}

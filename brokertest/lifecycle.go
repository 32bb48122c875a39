package brokertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gostream/gostream/broker"
)

// lifecycleChecks: before Connect, after Shutdown, and Close. Shutdown is in
// lifecycle_shutdown.go, Close in lifecycle_close.go.
var lifecycleChecks = slices.Concat([]check{
	{
		name:  "no-io",
		rule:  "constructors and Check do no I/O and start nothing, and a configuration without mistakes has nothing to report",
		where: "broker.Broker; broker.Checker; broker.Source, Check",
		run:   checkNoIO,
	},
	{
		name:  "mistakes",
		rule:  "the mistakes that the constructor found are reported by Check, before any I/O",
		where: "broker.Checker",
		needs: []need{needMisconfigured},
		run:   checkMistakes,
	},
	{
		name:  "foreign-broker",
		rule:  "a source reports a broker of another kind with an error that names both",
		where: "broker.Source, Check",
		run:   checkForeignBroker,
	},
	{
		name:  "publish-before-connect",
		rule:  "before Connect Publish answers ErrNotConnected and nothing is sent; the same publisher works after Connect",
		where: "package broker, Rules that hold for every handle; broker.PublisherProvider, Publisher",
		run:   checkPublishBeforeConnect,
	},
	{
		name:  "before-connect",
		rule:  "before Connect every operation answers ErrNotConnected, from any goroutine",
		where: "package broker, Rules that hold for every handle",
		run:   checkBeforeConnect,
	},
	{
		name:  "connect-twice",
		rule:  "Connect is idempotent: on a connected broker it returns nil, also when several connect at once",
		where: "broker.Broker, Connect",
		run:   checkConnectTwice,
	},
	{
		name:  "connect-cancelled",
		rule:  "a cancelled Connect leaves nothing behind and may be called again",
		where: "broker.Broker, Connect",
		run:   checkConnectCancelled,
	},
	{
		name:  "connect-unreachable",
		rule:  "the context bounds dialing: Connect to a server that does not answer fails when it ends, and leaves nothing behind",
		where: "broker.Broker, Connect",
		needs: []need{needUnreachable},
		run:   checkConnectUnreachable,
	},
}, shutdownChecks, closeChecks)

func checkNoIO(e *env) error {
	t, err := e.target()
	if err != nil {
		return err
	}
	if e.h.Interrupt != nil {
		// Whoever does I/O now fails or waits.
		if _, err := e.interrupt(); err != nil {
			return err
		}
	}
	before, _ := e.goroutines()
	for range 3 {
		err := e.call("the constructor or a description", func(context.Context) error { return describeOnly(e, t) })
		if err != nil {
			return err
		}
	}
	var stacks string
	err = e.eventually(func() string {
		n, s := e.goroutines()
		stacks = s
		if n > before {
			return fmt.Sprintf("there were %d goroutines, after the constructor and Check there are %d", before, n)
		}
		return ""
	})
	if err != nil {
		return fmt.Errorf("%w:\n%s", err, stacks)
	}
	return nil
}

// describeOnly makes a broker and asks it and the source what needs no I/O.
func describeOnly(e *env, t Target) error {
	b := e.h.New()
	if err := broker.Check(b); err != nil {
		return fmt.Errorf("check of the broker of Harness.New: %w", err)
	}
	if err := t.Source.Check(b); err != nil {
		return fmt.Errorf("check of the source of Harness.Source: %w", err)
	}
	if err := broker.CheckPublishName(b, t.Name); err != nil {
		return fmt.Errorf("CheckPublishName of the target's name: %w", err)
	}
	e.h.Publisher(t.Source, b)
	broker.PropertiesOf(b)
	broker.DescribeSource(t.Source, b)
	broker.DescribeServer(b)
	if !broker.Matches(t.Source, b, t.Name) {
		return fmt.Errorf("the source %q does not match the name %q that reaches it", t.Source.Name(), t.Name)
	}
	return nil
}

func checkMistakes(e *env) error {
	b := e.h.Misconfigured()
	var err error
	if call := e.call("Check", func(context.Context) error {
		err = broker.Check(b)
		return nil
	}); call != nil {
		return call
	}
	if err == nil {
		return errors.New("check of the broker of Harness.Misconfigured answers nil")
	}
	e.saw(capCheck, "yes")
	if err := e.call("Shutdown", b.Shutdown); err != nil {
		return fmt.Errorf("shutdown of a broker with mistakes that was never connected: %w", err)
	}
	return nil
}

// foreignBroker is a broker of another kind.
type foreignBroker struct{}

func (foreignBroker) Connect(context.Context) error  { return nil }
func (foreignBroker) Shutdown(context.Context) error { return nil }

func checkForeignBroker(e *env) error {
	t, err := e.target()
	if err != nil {
		return err
	}
	sources := []broker.Source{t.Source}
	if e.h.Group != nil {
		g, err := e.newGroup()
		if err != nil {
			return err
		}
		sources = append(sources, g.Member("a"))
	}
	if e.h.Pattern != nil {
		p, err := e.newPattern()
		if err != nil {
			return err
		}
		sources = append(sources, p.Source)
	}
	for _, src := range sources {
		err := src.Check(foreignBroker{})
		switch {
		case err == nil:
			return fmt.Errorf("check of the source %q with a broker of another kind answers nil", src.Name())
		case !strings.Contains(err.Error(), "foreignBroker"), !strings.Contains(err.Error(), src.Name()):
			return fmt.Errorf("check of the source %q with a brokertest.foreignBroker answers %q, which does not name both", src.Name(), err)
		}
		var sub broker.Subscription
		err = e.call("Subscribe", func(ctx context.Context) (err error) {
			sub, err = src.Subscribe(ctx, foreignBroker{})
			return err
		})
		switch {
		case err == nil:
			return fmt.Errorf("the source %q subscribed on a broker of another kind, as a %T", src.Name(), sub)
		case isStuck(err):
			return err
		}
	}
	return nil
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

// operation is something that needs a connection.
type operation struct {
	what     string
	optional bool // errors.ErrUnsupported is an answer, too
	do       func(ctx context.Context) error
}

// operations returns what can be done with a link.
func (l *link) operations() []operation {
	msg := broker.OutgoingMessage{Name: l.t.Name, Payload: []byte("must not arrive")}
	return []operation{
		{"Publish", false, func(ctx context.Context) error { return l.pub.Publish(ctx, msg) }},
		{"PublishBatch", false, func(ctx context.Context) error {
			return broker.PublishBatch(ctx, l.pub, []broker.OutgoingMessage{msg, msg})
		}},
		{"Request", true, func(ctx context.Context) error {
			_, err := broker.Request(ctx, l.pub, msg)
			return err
		}},
		{"Begin", true, func(ctx context.Context) error {
			tx, err := broker.Begin(ctx, l.pub)
			if err == nil {
				err = errors.Join(errors.New("it began a transaction"), tx.Abort(ctx))
			}
			return err
		}},
		{"Subscribe", false, func(ctx context.Context) error {
			sub, err := l.t.Source.Subscribe(ctx, l.b)
			if err == nil {
				err = errors.Join(errors.New("it subscribed"), sub.Close(ctx))
			}
			return err
		}},
		{"Health", true, func(ctx context.Context) error { return broker.Health(ctx, l.b) }},
	}
}

// mustRefuse runs the operations, each on a goroutine of its own, and returns an
// error unless each answers target.
func mustRefuse(e *env, when string, ops []operation, target error) error {
	var fs []func() error
	for _, op := range ops {
		fs = append(fs, func() error {
			what := op.what + " " + when
			err := e.call(what, op.do)
			if op.optional && errors.Is(err, errors.ErrUnsupported) {
				return nil
			}
			return mustBe(what, err, target)
		})
	}
	return e.together(fs...)
}

func checkBeforeConnect(e *env) error {
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
	if err := mustRefuse(e, "before Connect", l.operations(), broker.ErrNotConnected); err != nil {
		return err
	}
	return s.quiet()
}

func checkConnectTwice(e *env) error {
	l, err := e.unconnected()
	if err != nil {
		return err
	}
	connect := func() error {
		if err := e.call("Connect", l.b.Connect); err != nil {
			return fmt.Errorf("connect, one of several: %w", err)
		}
		return nil
	}
	if err := e.together(connect, connect, connect, connect); err != nil {
		return err
	}
	s, err := l.subscribe()
	if err != nil {
		return err
	}
	if err := connect(); err != nil {
		return err
	}
	return l.works(s)
}

// unconnected returns the link of a broker that is not connected to a fresh target.
func (e *env) unconnected() (*link, error) {
	t, err := e.target()
	if err != nil {
		return nil, err
	}
	b, err := e.newBroker()
	if err != nil {
		return nil, err
	}
	return e.link(t, b)
}

// works publishes, receives and acknowledges a message. Nothing else comes.
func (l *link) works(s *stream) error {
	payload := "works " + newID()
	if err := l.publish(payload); err != nil {
		return err
	}
	d, err := s.one(payload)
	if err != nil {
		return err
	}
	if err := d.ack(); err != nil {
		return err
	}
	return s.quiet()
}

func checkConnectCancelled(e *env) error {
	l, err := e.unconnected()
	if err != nil {
		return err
	}
	before, _ := e.goroutines()
	ended, cancel := context.WithCancel(e.ctx)
	cancel()
	const what = "Connect with a context that has ended"
	err = e.bounded(ended, what, l.b.Connect)
	if err != nil {
		if err := mustBe(what, err, context.Canceled); err != nil {
			return err
		}
		if err := mustBe("Publish after a Connect that failed", l.try(broker.OutgoingMessage{Payload: []byte("early")}), broker.ErrNotConnected); err != nil {
			return err
		}
		if err := e.settleDown(before, "after a cancelled Connect"); err != nil {
			return err
		}
	}
	if err := e.call("Connect", l.b.Connect); err != nil {
		return fmt.Errorf("connect after a cancelled Connect: %w", err)
	}
	s, err := l.subscribe()
	if err != nil {
		return err
	}
	return l.works(s)
}

// settleDown waits until there are no more goroutines of this check than before.
func (e *env) settleDown(before int, when string) error {
	var stacks string
	err := e.eventually(func() string {
		n, s := e.goroutines()
		stacks = s
		if n <= before {
			return ""
		}
		return fmt.Sprintf("there were %d goroutines, %s there are %d", before, when, n)
	})
	if err != nil {
		return fmt.Errorf("%w:\n%s", err, stacks)
	}
	return nil
}

func checkConnectUnreachable(e *env) error {
	before, _ := e.goroutines()
	b := e.h.Unreachable()
	ctx, cancel := context.WithTimeout(e.ctx, e.h.Quiet)
	defer cancel()
	switch err := e.bounded(ctx, "Connect to a server that does not answer", b.Connect); {
	case err == nil:
		return errors.New("connect to the broker of Harness.Unreachable returned nil")
	case isStuck(err):
		return err
	}
	if p, ok := broker.DefaultPublisher(b); ok {
		err := e.call("Publish", func(ctx context.Context) error {
			return p.Publish(ctx, broker.OutgoingMessage{Name: newID(), Payload: []byte("early")})
		})
		if err := mustBe("Publish after a Connect that failed", err, broker.ErrNotConnected); err != nil {
			return err
		}
	}
	if err := e.shutdown(b); err != nil {
		return err
	}
	return e.settleDown(before, "after a Connect that failed and a Shutdown")
}

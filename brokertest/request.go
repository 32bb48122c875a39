package brokertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gostream/gostream/broker"
)

// requestChecks: asking and waiting for the answer.
var requestChecks = []check{
	{
		name:  "reply",
		rule:  "Request publishes with a reply-to of its own and returns the reply, payload and headers byte for byte",
		where: "broker.Requester, Request",
		run:   withRequests(checkReply),
	},
	{
		name:  "correlated",
		rule:  "replies are correlated: of many requests that are answered in reverse order each gets its own",
		where: "broker.Requester, Request",
		needs: []need{needUnsettled(16)},
		run:   withRequests(checkCorrelated),
	},
	{
		name:  "late",
		rule:  "an answer that comes late, or twice, resolves nothing else",
		where: "broker.Requester, Request",
		needs: []need{needUnsettled(3)},
		run:   withRequests(checkLateReply),
	},
	{
		name:  "no-responder",
		rule:  "where nobody listens Request fails: at once where the transport knows, else when ctx ends",
		where: "broker.Requester, Request",
		run:   withRequests(checkNoResponder),
	},
	{
		name:  "time-limit",
		rule:  "ctx carries the time limit: without an answer Request returns its error when it ends, and not before",
		where: "broker.Requester, Request",
		run:   withRequests(checkRequestTimeLimit),
	},
	{
		name:  "shutdown",
		rule:  "a Shutdown of the broker ends a Request that waits with ErrClosed",
		where: "broker.Requester, Request",
		run:   withRequests(checkRequestShutdown),
	},
	{
		name:  "refused",
		rule:  "Request refuses what Publish refuses, and nothing is sent",
		where: "broker.Publisher, Publish; broker.Requester, Request",
		run:   withRequests(checkRequestRefused),
	},
	{
		name:  "lifecycle",
		rule:  "Request answers ErrNotConnected before Connect and ErrClosed after Shutdown, and nothing is sent",
		where: "package broker, Rules that hold for every handle",
		run:   withRequests(checkRequestLifecycle),
	},
}

// asker is who asks: on a broker of its own, as the responder is.
type asker struct{ *link }

// withRequests hands f the responder with its subscription, and an asker.
func withRequests(f func(e *env, ask asker, l *link, s *stream) error) func(*env) error {
	return func(e *env) error {
		// Whether there is request-reply is found out at a name of which nothing is
		// expected.
		t, err := e.target()
		if err != nil {
			return err
		}
		probe, err := e.dial(t)
		if err != nil {
			return err
		}
		dead, cancel := context.WithCancel(e.ctx)
		cancel()
		if _, err := (asker{probe}).ask(dead, "probe"); errors.Is(err, errors.ErrUnsupported) {
			e.saw(capRequest, "no")
			return e.notApplicable("the publisher has no request-reply")
		}
		e.saw(capRequest, "yes")

		l, s, err := e.open()
		if err != nil {
			return err
		}
		other, err := e.dial(l.t)
		if err != nil {
			return err
		}
		return f(e, asker{other}, l, s)
	}
}

// ask requests with that payload.
func (a asker) ask(ctx context.Context, payload string) (broker.IncomingMessage, error) {
	return a.askWith(ctx, broker.OutgoingMessage{Name: a.t.Name, Payload: []byte(payload)})
}

func (a asker) askWith(ctx context.Context, msg broker.OutgoingMessage) (broker.IncomingMessage, error) {
	var m broker.IncomingMessage
	err := a.e.bounded(ctx, "Request", func(ctx context.Context) (err error) {
		m, err = broker.Request(ctx, a.pub, msg)
		if err == nil && m == nil {
			err = errors.New("neither a reply nor an error")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return m, nil
}

// asking is ask within the Timeout, for a reply with that payload.
func (a asker) asking(payload, reply string) error {
	ctx, cancel := context.WithTimeout(a.e.ctx, a.e.h.Timeout)
	defer cancel()
	m, err := a.ask(ctx, payload)
	if err != nil {
		return fmt.Errorf("request %q: %w", payload, err)
	}
	if got := string(m.Payload()); got != reply {
		return fmt.Errorf("request %q was resolved by the reply %q, its own is %q", payload, got, reply)
	}
	return nil
}

// asked receives the request with that payload.
func (s *stream) asked(payload string) (*delivery, error) {
	d, err := s.one(payload)
	if err != nil {
		return nil, fmt.Errorf("at the responder: %w", err)
	}
	if d.Headers().ReplyTo() == "" {
		return nil, fmt.Errorf("the request %v has no reply-to", d)
	}
	return d, d.ack()
}

// reply answers d.
func (l *link) reply(d *delivery, payload string) error {
	return l.send(broker.OutgoingMessage{Name: d.Headers().ReplyTo(), Payload: []byte(payload)})
}

func checkReply(e *env, a asker, l *link, s *stream) error {
	seen := make(map[string]bool)
	long := 50_000
	if most := l.props.MaxPayload; most > 0 {
		long = min(long, most)
	}
	for i, payload := range []string{"pong", "", "\x00\xff\r\n", strings.Repeat("x", long)} {
		ctx, cancel := context.WithTimeout(e.ctx, e.h.Timeout)
		defer cancel()
		question := fmt.Sprintf("ping%d", i)
		var m broker.IncomingMessage
		var d *delivery
		err := e.together(
			func() (err error) {
				msg := broker.OutgoingMessage{Name: a.t.Name, Payload: []byte(question)}
				msg.Headers = msg.Headers.WithCorrelationID("c1").With("asked-by", "the kit")
				m, err = a.askWith(ctx, msg)
				return err
			},
			func() (err error) {
				if d, err = s.asked(question); err != nil {
					return err
				}
				msg := broker.OutgoingMessage{Name: d.Headers().ReplyTo(), Payload: []byte(payload)}
				msg.Headers = msg.Headers.WithContentType("text/plain").With("x-reply", "a b")
				return l.send(msg)
			},
		)
		if err != nil {
			return err
		}
		h := d.Headers()
		switch {
		case h.Get("asked-by") != "the kit" || h.CorrelationID() != "c1":
			return fmt.Errorf("the request came with the headers %v, published with asked-by and a correlation id", h)
		case seen[h.ReplyTo()]:
			return fmt.Errorf("two requests had the reply-to %q, and each has one of its own", h.ReplyTo())
		case string(m.Payload()) != payload:
			return fmt.Errorf("the reply is %s, published was %s", quote(m.Payload()), quote([]byte(payload)))
		case m.Headers().ContentType() != "text/plain" || m.Headers().Get("x-reply") != "a b":
			return fmt.Errorf("the reply came with the headers %v, published with a content type and x-reply", m.Headers())
		}
		seen[h.ReplyTo()] = true
		if err := e.call("Ack", m.Ack); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return fmt.Errorf("ack of a reply: %w", err)
		}
	}
	return nil
}

func checkCorrelated(e *env, a asker, l *link, s *stream) error {
	const n = 16
	questions := numbered("question", n)
	var work []func() error
	for _, q := range questions {
		work = append(work, func() error { return a.asking(q, "answer to "+q) })
	}
	work = append(work, func() error {
		ds, err := s.expect(questions...)
		if err != nil {
			return err
		}
		for i := n - 1; i >= 0; i-- {
			if err := l.reply(ds[i], "answer to "+ds[i].text); err != nil {
				return err
			}
		}
		return ackAll(ds...)
	})
	return e.together(work...)
}

func checkLateReply(e *env, a asker, l *link, s *stream) error {
	// The first gives up before its answer comes.
	short, cancel := context.WithTimeout(e.ctx, e.h.Quiet)
	defer cancel()
	_, err := a.ask(short, "given up")
	if err := mustBe("a Request without an answer", err, context.DeadlineExceeded); err != nil {
		return err
	}
	late, err := s.asked("given up")
	if err != nil {
		return err
	}
	// An answer to nobody may be refused.
	stray := func(d *delivery, payload string) {
		_ = l.try(broker.OutgoingMessage{Name: d.Headers().ReplyTo(), Payload: []byte(payload)})
	}
	var second *delivery
	err = e.together(
		func() error { return a.asking("second", "its own") },
		func() (err error) {
			if second, err = s.asked("second"); err != nil {
				return err
			}
			stray(late, "late")
			e.wait(e.h.Quiet / 2)
			return l.reply(second, "its own")
		},
	)
	if err != nil {
		return fmt.Errorf("while the answer to an earlier request came late: %w", err)
	}
	stray(second, "twice")
	err = e.together(
		func() error { return a.asking("third", "its own, too") },
		func() error {
			third, err := s.asked("third")
			if err != nil {
				return err
			}
			stray(second, "thrice")
			stray(late, "later still")
			e.wait(e.h.Quiet / 2)
			return l.reply(third, "its own, too")
		},
	)
	if err != nil {
		return fmt.Errorf("while a second answer to an earlier request came: %w", err)
	}
	return nil
}

func checkNoResponder(e *env, _ asker, _ *link, _ *stream) error {
	t, err := e.target()
	if err != nil {
		return err
	}
	lonely, err := e.dial(t)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(e.ctx, 3*e.h.Quiet)
	defer cancel()
	m, err := (asker{lonely}).ask(ctx, "anybody?")
	switch {
	case err == nil:
		return fmt.Errorf("request at a name where nobody listens returned the reply %s", quote(m.Payload()))
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return fmt.Errorf("request at a name where nobody listens answered %q before its context ended", err)
	case errors.Is(err, broker.ErrNotConnected), errors.Is(err, broker.ErrClosed):
		return fmt.Errorf("request at a name where nobody listens answered %q", err)
	}
	return nil
}

func checkRequestTimeLimit(e *env, a asker, _ *link, s *stream) error {
	const limit = 2 // times Quiet
	ctx, cancel := context.WithTimeout(e.ctx, limit*e.h.Quiet)
	defer cancel()
	begin := time.Now()
	_, err := a.ask(ctx, "one")
	if err := mustBe("Request without an answer", err, context.DeadlineExceeded); err != nil {
		return err
	}
	if took := time.Since(begin); took < limit*e.h.Quiet {
		return fmt.Errorf("request returned %q after %v, and its context ends after %v", err, took, limit*e.h.Quiet)
	}
	ctx, cancel = context.WithCancel(e.ctx)
	defer cancel()
	return e.together(
		func() error {
			_, err := a.ask(ctx, "two")
			return mustBe("Request whose context is cancelled", err, context.Canceled)
		},
		func() error {
			defer cancel()
			if _, err := s.asked("one"); err != nil {
				return err
			}
			_, err := s.asked("two")
			return err
		},
	)
}

func checkRequestShutdown(e *env, a asker, _ *link, s *stream) error {
	return e.together(
		func() error {
			begin := time.Now()
			ctx, cancel := context.WithTimeout(e.ctx, 2*e.h.Timeout)
			defer cancel()
			_, err := a.ask(ctx, "waiting")
			if err := mustBe("Request that waited when Shutdown was called", err, broker.ErrClosed); err != nil {
				return fmt.Errorf("after %v: %w", time.Since(begin), err)
			}
			return nil
		},
		func() error {
			if _, err := s.asked("waiting"); err != nil {
				return err
			}
			return e.shutdown(a.b)
		},
	)
}

func checkRequestRefused(e *env, a asker, l *link, s *stream) error {
	for _, bad := range a.badMessages() {
		msg := broker.OutgoingMessage{Name: a.t.Name, Payload: []byte("bad")}
		bad.spoil(&msg)
		ctx, cancel := context.WithTimeout(e.ctx, e.h.Timeout)
		_, err := a.askWith(ctx, msg)
		cancel()
		if err := mustBe("Request with "+bad.what, err, bad.want); err != nil {
			return err
		}
	}
	return s.quiet()
}

func checkRequestLifecycle(e *env, a asker, l *link, s *stream) error {
	b, err := e.newBroker()
	if err != nil {
		return err
	}
	early, err := e.link(l.t, b)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(e.ctx, e.h.Timeout)
	defer cancel()
	_, err = (asker{early}).ask(ctx, "early")
	if err := mustBe("Request before Connect", err, broker.ErrNotConnected); err != nil {
		return err
	}
	if err := e.shutdown(a.b); err != nil {
		return err
	}
	_, err = a.ask(ctx, "late")
	if err := mustBe("Request after Shutdown", err, broker.ErrClosed); err != nil {
		return err
	}
	return s.quiet()
}

package brokertest

import (
	"context"
	"fmt"
	"sync"

	"github.com/gostream/gostream/broker"
)

// concurrencyChecks: many goroutines at once. Run them with the race detector.
var concurrencyChecks = []check{
	{
		name:  "publishers",
		rule:  "a publisher is safe for concurrent use: what many goroutines publish arrives, each message once",
		where: "broker.Publisher",
		run:   checkConcurrentPublishers,
	},
	{
		name:  "everything",
		rule:  "while many goroutines publish, several subscriptions receive and others open and close, each message arrives where it belongs, once",
		where: "broker.Broker; broker.Publisher; broker.Subscription",
		run:   checkEverythingAtOnce,
	},
	{
		name:  "settling",
		rule:  "a delivery is settled from any goroutine, in any order relative to other deliveries",
		where: "broker.IncomingMessage",
		run:   checkConcurrentSettling,
	},
	{
		name:  "headers",
		rule:  "reading a message's headers from several goroutines is safe",
		where: "broker.IncomingMessage, Headers; broker.HeaderView",
		run:   checkConcurrentHeaders,
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

func checkEverythingAtOnce(e *env) error {
	const publishers, subscriptions, comers = 64, 8, 4
	each := max(e.h.Load/publishers, 1)

	// Two connections that both publish and subscribe.
	var brokers [2]broker.Broker
	for i := range brokers {
		var err error
		if brokers[i], err = e.connect(); err != nil {
			return err
		}
	}
	var links [subscriptions]*link
	var streams [subscriptions]*stream
	var expected [subscriptions][]string
	for i := range links {
		t, err := e.target()
		if err != nil {
			return err
		}
		if links[i], err = e.link(t, brokers[i%2]); err != nil {
			return err
		}
		if streams[i], err = links[i].subscribe(); err != nil {
			return err
		}
	}
	for p := range publishers {
		for n := range each {
			to := (p + n) % subscriptions
			expected[to] = append(expected[to], fmt.Sprintf("p%d-%d", p, n))
		}
	}

	received := make(chan struct{})
	var work, receiving []func() error
	for p := range publishers {
		work = append(work, func() error {
			for n := range each {
				// With the publisher of its own target, on either connection.
				if err := links[(p+n)%subscriptions].publish(fmt.Sprintf("p%d-%d", p, n)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	for i, s := range streams {
		receiving = append(receiving, func() error { return s.exactly(expected[i]) })
	}
	work = append(work, func() error {
		defer close(received)
		return e.together(receiving...)
	})
	for i := range comers {
		work = append(work, func() error { return e.comeAndGo(brokers[i%2], received) })
	}
	return e.together(work...)
}

// exactly receives and acknowledges these messages and nothing else.
func (s *stream) exactly(payloads []string) error {
	left := newTally(payloads)
	for n := range payloads {
		d, err := s.receive()
		if err != nil {
			return fmt.Errorf("after %d messages: %s: %w", n, left.missing(), err)
		}
		if !left.settled(d.text) {
			return fmt.Errorf("%v came, which was not published to this subscription", d)
		}
		if err := d.ack(); err != nil {
			return err
		}
	}
	return s.quiet()
}

// comeAndGo opens and closes subscriptions to a target of its own until done.
func (e *env) comeAndGo(b broker.Broker, done <-chan struct{}) error {
	t, err := e.target()
	if err != nil {
		return err
	}
	for range 200 {
		select {
		case <-done:
			return nil
		default:
		}
		var sub broker.Subscription
		err := e.call("Subscribe", func(ctx context.Context) (err error) {
			sub, err = t.Source.Subscribe(ctx, b)
			return err
		})
		if err != nil {
			return fmt.Errorf("subscribe: %w", err)
		}
		if err := e.call("Close", sub.Close); err != nil {
			return fmt.Errorf("close: %w", err)
		}
	}
	return nil
}

func checkConcurrentSettling(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	width := 8
	if limit := l.limit(); limit > 0 {
		width = min(width, limit)
	}
	all := numbered("m", 25*width)
	if err := l.publish(all...); err != nil {
		return err
	}
	left := newTally(all)
	for !left.isDone() {
		// As many as may be in hand, the last one first, all of them at once.
		begin := make(chan struct{})
		acks := make([]func() error, width)
		for i := range acks {
			d, err := s.receive()
			if err != nil {
				return fmt.Errorf("%s: %w", left.missing(), err)
			}
			if !left.settled(d.text) {
				return fmt.Errorf("%v came, which was not published", d)
			}
			acks[width-1-i] = func() error {
				<-begin
				return d.ack()
			}
		}
		acks = append(acks, func() error {
			close(begin)
			return nil
		})
		if err := e.together(acks...); err != nil {
			return err
		}
	}
	return s.quiet()
}

func checkConcurrentHeaders(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	fields := []broker.Header{{Key: "tenant", Value: "acme"}, {Key: "tag", Value: "a"}, {Key: "tag", Value: "b"}}
	msg := broker.OutgoingMessage{Payload: []byte("read"), Headers: broker.NewHeaders(fields...).WithCorrelationID("c1")}
	if err := l.try(msg); err != nil {
		if err := mustBe("Publish with headers", err, broker.ErrInvalid); err != nil {
			return err
		}
		return e.notApplicable("the transport holds no such headers: %v", err)
	}
	d, err := s.one("read")
	if err != nil {
		return err
	}
	const readers = 8
	errs := make(chan error, readers)
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			for range 20 {
				h := d.Headers()
				if err := sameHeaders(fields, h); err != nil {
					errs <- err
					return
				}
				if got := h.CorrelationID(); got != "c1" {
					errs <- fmt.Errorf("the correlation id is %q, published was %q", got, "c1")
					return
				}
				_, _, _ = h.Len(), h.Has("x-none"), d.Name()
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	return d.ack()
}

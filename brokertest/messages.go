package brokertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gostream/gostream/broker"
)

// keyChecks: partition keys. That a key arrives is a check of the message shape.
var keyChecks = []check{
	{
		name:  "redelivered",
		rule:  "a redelivery has the key of the message, whatever the receiver did with the bytes of an earlier one",
		where: "broker.Partitioned, PartitionKey",
		needs: []need{needKeys, needRedelivers},
		run:   checkKeyRedelivered,
	},
	{
		name:  "header",
		rule:  "where the transport has no keys of its own the key travels in the header gostream-key",
		where: "broker.KeySupport, KeysHeader; broker.HeaderKey",
		needs: []need{needProperty("Keys in the header", func(p broker.Properties) bool { return p.Keys == broker.KeysHeader })},
		run:   checkKeyHeader,
	},
}

func checkKeyRedelivered(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	if err := l.send(broker.OutgoingMessage{Payload: []byte("m"), Key: []byte("key-1")}); err != nil {
		return err
	}
	for range 3 {
		d, err := s.one("m")
		if err != nil {
			return err
		}
		key, ok := broker.PartitionKey(d.IncomingMessage)
		if !ok || string(key) != "key-1" {
			return fmt.Errorf("published with the key %q, %v has %q, %v", "key-1", d, key, ok)
		}
		for i := range key {
			key[i] = '#'
		}
		if err := d.requeue(); err != nil {
			return err
		}
	}
	return s.elsewhereWith(l, func(d *delivery) error {
		if key, _ := broker.PartitionKey(d.IncomingMessage); string(key) != "key-1" {
			return fmt.Errorf("published with the key %q, on another connection %v has %q", "key-1", d, key)
		}
		return nil
	}, "m")
}

// elsewhereWith is elsewhere that looks at each delivery before it is settled. The
// broker of l is shut down by it.
func (s *stream) elsewhereWith(l *link, look func(*delivery) error, payloads ...string) error {
	if err := s.e.shutdown(l.b); err != nil {
		return err
	}
	s.book.released()
	other, err := s.e.dial(l.t)
	if err != nil {
		return err
	}
	again, err := other.subscribeWith(s.book)
	if err != nil {
		return err
	}
	for i := range payloads {
		d, err := again.receive()
		if err != nil {
			return fmt.Errorf("on another connection, %d of %d had come: %w", i, len(payloads), err)
		}
		if !slices.Contains(payloads, d.text) {
			return fmt.Errorf("on another connection %v came, expected one of %.200q", d, payloads)
		}
		if err := look(d); err != nil {
			return err
		}
		if err := d.ack(); err != nil {
			return err
		}
	}
	return nil
}

func checkKeyHeader(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	for _, key := range []string{"key-1", ""} {
		msg := broker.OutgoingMessage{Payload: []byte("keyed " + key)}
		if key != "" {
			msg.Key = []byte(key)
		}
		if err := l.send(msg); err != nil {
			return err
		}
		d, err := s.one(string(msg.Payload))
		if err != nil {
			return err
		}
		if got, ok := d.Headers().Lookup(broker.HeaderKey); got != key || ok != (key != "") {
			return fmt.Errorf("published with the key %q, the header %s is %q, %v", key, broker.HeaderKey, got, ok)
		}
		if err := d.ack(); err != nil {
			return err
		}
	}
	return nil
}

// countChecks: how often a message was delivered. A count may include deliveries that
// nobody saw, and so the checks leave room upwards where a broker uses it now and then.
var countChecks = []check{
	{
		name:  "first",
		rule:  "the count of a first delivery is 1",
		where: "broker.DeliveryCounter, DeliveryCount",
		run:   checkCountFirst,
	},
	{
		name:  "redelivered",
		rule:  "each redelivery adds one to the count",
		where: "broker.DeliveryCounter, DeliveryCount",
		needs: []need{needRedelivers, needUnsettled(4)},
		run:   checkCountRedelivered,
	},
	{
		name:  "another-connection",
		rule:  "the count survives a crash of the consumer: on another connection it goes on",
		where: "broker.Properties, CountsDeliveries",
		needs: []need{needCounts, needRedelivers},
		run:   checkCountElsewhere,
	},
}

// counted returns the count of d.
func (e *env) counted(l *link, d *delivery) (int, error) {
	n, ok := broker.DeliveryCount(d.IncomingMessage)
	switch {
	case !ok && l.props.CountsDeliveries:
		return 0, fmt.Errorf("the source declares CountsDeliveries, and %v has no delivery count", d)
	case !ok:
		e.saw(capCount, "no")
		return 0, errors.Join(d.ack(), e.notApplicable("messages have no delivery count"))
	case n < 1:
		return 0, fmt.Errorf("the delivery count of %v is %d, and the first is 1", d, n)
	}
	e.saw(capCount, "yes")
	return n, nil
}

func checkCountFirst(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	const n = 20
	if err := l.publish(numbered("m", n)...); err != nil {
		return err
	}
	var counts []int
	for range n {
		d, err := s.receive()
		if err != nil {
			return err
		}
		count, err := e.counted(l, d)
		if err != nil {
			return err
		}
		counts = append(counts, count)
		if err := d.ack(); err != nil {
			return err
		}
	}
	if !slices.Contains(counts, 1) {
		return fmt.Errorf("the counts of %d messages at their first delivery are %v: none is 1", n, counts)
	}
	return nil
}

func checkCountRedelivered(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	const n, rounds = 4, 5
	want := numbered("m", n)
	if err := l.publish(want...); err != nil {
		return err
	}
	last := make([]int, n)
	byOne := 0
	for round := range rounds {
		ds, err := s.expect(want...)
		if err != nil {
			return err
		}
		for i, d := range ds {
			count, err := e.counted(l, d)
			switch {
			case err != nil:
				return err
			case round > 0 && count <= last[i]:
				return fmt.Errorf("the delivery count of %q was %d, after a requeue it is %d", d.text, last[i], count)
			case round > 0 && count == last[i]+1:
				byOne++
			}
			last[i] = count
			settle := d.requeue
			if round == rounds-1 {
				settle = d.ack
			}
			if err := settle(); err != nil {
				return err
			}
		}
	}
	if byOne == 0 {
		return fmt.Errorf("the delivery counts of %d messages are %v after %d requeues each: never was one added", n, last, rounds-1)
	}
	return nil
}

func checkCountElsewhere(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	if err := l.publish("m"); err != nil {
		return err
	}
	last := 0
	for round := range 4 {
		d, err := s.one("m")
		if err != nil {
			return err
		}
		if last, err = e.counted(l, d); err != nil {
			return err
		}
		if round == 3 {
			break // it stays unsettled
		}
		if err := d.requeue(); err != nil {
			return err
		}
	}
	if err := s.elsewhereWith(l, func(d *delivery) error {
		count, err := e.counted(l, d)
		if err == nil && count < last {
			err = fmt.Errorf("the delivery count was %d, on another connection it is %d", last, count)
		}
		return err
	}, "m"); err != nil {
		return err
	}
	e.saw("CountsDeliveries", "yes")
	return nil
}

// leaseStateChecks: what a lease says of itself. That it keeps a delivery is a check of
// settlement.
var leaseStateChecks = []check{
	{
		name:  "fresh",
		rule:  "a delivery is not stale while it is ours, and its lease ends in the future",
		where: "broker.Leased, LeaseUntil; broker.Staler, Stale",
		run:   checkLeaseFresh,
	},
	{
		name:  "extend",
		rule:  "ExtendLease asks for the full time again",
		where: "broker.Leased, ExtendLease",
		needs: []need{needRedelivers},
		run:   checkLeaseExtend,
	},
	{
		name:  "lost",
		rule:  "a lease that is lost cannot be extended: not by a settled delivery, and not after Shutdown",
		where: "broker.Leased, ExtendLease; package broker, Rules that hold for every handle",
		needs: []need{needRedelivers},
		run:   checkLeaseLost,
	},
}

func checkLeaseFresh(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	if err := l.publish("m"); err != nil {
		return err
	}
	d, err := s.one("m")
	if err != nil {
		return err
	}
	if broker.Stale(d.IncomingMessage) {
		return errors.New("a delivery is stale right after Receive")
	}
	if until, ok := broker.LeaseUntil(d.IncomingMessage); ok && !until.After(time.Now()) {
		return fmt.Errorf("the lease of a delivery ended at %v, which was before it was received", until)
	}
	return d.ack()
}

// extend extends the lease on d.
func (e *env) extend(d *delivery) error {
	return e.call("ExtendLease", func(ctx context.Context) error { return broker.ExtendLease(ctx, d.IncomingMessage) })
}

func checkLeaseExtend(e *env) error {
	const attempts = 3
	for i := range attempts {
		_, _, d, err := e.leased(fmt.Sprintf("m%d", i))
		if err != nil {
			return err
		}
		before, _ := broker.LeaseUntil(d.IncomingMessage)
		full := time.Until(before)
		e.wait(full / 4)
		asked := time.Now()
		err = e.extend(d)
		if time.Now().After(before) {
			continue // a busy machine: too late to ask
		}
		if err != nil {
			return fmt.Errorf("ExtendLease: %w", err)
		}
		// A clock that counts in seconds may show up to one less.
		after, _ := broker.LeaseUntil(d.IncomingMessage)
		short := asked.Add(full - full/8).Sub(after)
		if full >= 4*time.Second {
			short -= time.Second
		}
		if short > 0 || after.Before(before) {
			return fmt.Errorf("a lease of %v ended at %v; extended after a quarter of it, it ends at %v", full.Round(time.Millisecond), before, after)
		}
		return d.ack()
	}
	return fmt.Errorf("the kit came too late to extend the lease, %d times: the lease of the harness is too short for this machine", attempts)
}

func checkLeaseLost(e *env) error {
	l, s, settled, err := e.leased("settled")
	if err != nil {
		return err
	}
	if err := settled.ack(); err != nil {
		return err
	}
	if err := e.extend(settled); err == nil {
		return errors.New("ExtendLease of a delivery that was acknowledged answers nil")
	}
	if err := l.publish("open"); err != nil {
		return err
	}
	open, err := s.one("open")
	if err != nil {
		return err
	}
	if err := e.shutdown(l.b); err != nil {
		return err
	}
	return mustBe("ExtendLease after Shutdown", e.extend(open), broker.ErrClosed)
}

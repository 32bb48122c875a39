package brokertest

import (
	"context"
	"errors"
	"fmt"

	"github.com/gostream/gostream/broker"
)

// received publishes one message to in and receives it.
func (x *txCase) received(payload string) (*delivery, error) {
	if err := x.in.publish(payload); err != nil {
		return nil, err
	}
	return x.s.one(payload)
}

func checkTransactionAck(x *txCase) error {
	d, err := x.received("input")
	if err != nil {
		return err
	}
	t, err := x.begin()
	if err != nil {
		return err
	}
	if err := t.ack(d.IncomingMessage); err != nil {
		return err
	}
	if err := t.publish("output"); err != nil {
		return err
	}
	for _, c := range []struct {
		what   string
		settle func(context.Context) error
	}{
		{"Ack", d.Ack},
		{"Nack with requeue", func(ctx context.Context) error { return d.Nack(ctx, true) }},
		{"Nack without requeue", func(ctx context.Context) error { return d.Nack(ctx, false) }},
	} {
		if err := mustBe(c.what+" of a delivery that an open transaction holds", x.e.call(c.what, c.settle), broker.ErrSettled); err != nil {
			return err
		}
	}
	if err := x.seen.quiet(); err != nil {
		return fmt.Errorf("before Commit: %w", err)
	}
	if err := t.commitAck(d); err != nil {
		return err
	}
	if err := x.seen.arriveIn(true, "output"); err != nil {
		return fmt.Errorf("after Commit: %w", err)
	}
	if err := mustBe("Ack of a delivery that a transaction acknowledged", x.e.call("Ack", d.Ack), broker.ErrSettled); err != nil {
		return err
	}
	// Nobody gets it again.
	if err := x.e.shutdown(x.in.b); err != nil {
		return err
	}
	other, err := x.e.dial(x.in.t)
	if err != nil {
		return err
	}
	again, err := other.subscribeWith(x.s.book)
	if err != nil {
		return err
	}
	if err := again.quiet(); err != nil {
		return fmt.Errorf("on another connection, after Commit: %w", err)
	}
	return nil
}

func checkTransactionAckAborted(x *txCase) error {
	d, err := x.received("input")
	if err != nil {
		return err
	}
	for _, requeue := range []bool{true, false} {
		t, err := x.begin()
		if err != nil {
			return err
		}
		if err := t.ack(d.IncomingMessage); err != nil {
			return err
		}
		if err := t.publish("ghost"); err != nil {
			return err
		}
		if err := t.abort(); err != nil {
			return err
		}
		settle := d.ack
		if requeue {
			settle = d.requeue
		}
		if err := settle(); err != nil {
			return fmt.Errorf("after Abort the delivery is unsettled: %w", err)
		}
		if !requeue {
			break
		}
		if d, err = x.s.one("input"); err != nil {
			return fmt.Errorf("after Abort and a requeue: %w", err)
		}
	}
	if err := x.s.quiet(); err != nil {
		return err
	}
	return x.seen.quiet()
}

func checkTransactionAckMisuse(x *txCase) error {
	if err := x.in.publish("added", "settled"); err != nil {
		return err
	}
	ds, err := x.s.expect("added", "settled")
	if err != nil {
		return err
	}
	added, settled := ds[0], ds[1]
	t, err := x.begin()
	if err != nil {
		return err
	}
	if err := t.ack(added.IncomingMessage); err != nil {
		return err
	}
	if err := settled.ack(); err != nil {
		return err
	}
	if err := mustBe("Ack in a transaction of a delivery that it holds already", t.tryAck(added.IncomingMessage), broker.ErrSettled); err != nil {
		return err
	}
	if err := mustBe("Ack in a transaction of a delivery that was acknowledged", t.tryAck(settled.IncomingMessage), broker.ErrSettled); err != nil {
		return err
	}
	if err := t.tryAck(filler{}); err == nil {
		return errors.New("ack in a transaction of a message that is not the broker's answers nil")
	}
	if err := t.commitAck(added); err != nil {
		return fmt.Errorf("after three acknowledgements that were refused: %w", err)
	}
	return x.s.quiet()
}

func checkTransactionShutdown(x *txCase) error {
	d, err := x.received("input")
	if err != nil {
		return err
	}
	committed, err := x.begin()
	if err != nil {
		return err
	}
	if err := committed.commit(); err != nil {
		return err
	}
	open, err := x.begin()
	if err != nil {
		return err
	}
	if err := open.publish("ghost"); err != nil {
		return err
	}
	err = open.tryAck(d.IncomingMessage)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("ack in a transaction: %w", err)
	}
	if err := x.e.shutdown(x.in.b); err != nil {
		return err
	}
	if err := open.allAnswer("that was open at Shutdown", broker.ErrClosed, d.IncomingMessage); err != nil {
		return err
	}
	if err := committed.allAnswer("that had ended before Shutdown", broker.ErrClosed, d.IncomingMessage); err != nil {
		return err
	}
	if err := x.seen.quiet(); err != nil {
		return fmt.Errorf("of a transaction that was open at Shutdown: %w", err)
	}
	if !x.in.props.Redelivers {
		return nil
	}
	x.s.book.released()
	other, err := x.e.dial(x.in.t)
	if err != nil {
		return err
	}
	s, err := other.subscribeWith(x.s.book)
	if err != nil {
		return err
	}
	if d, err = s.one("input"); err != nil {
		return fmt.Errorf("the delivery that an open transaction held at Shutdown must come back: %w", err)
	}
	return d.ack()
}

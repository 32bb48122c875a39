package brokertest

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/gostream/gostream/broker"
)

// transactionChecks run on the transactions of the publisher and on those of the
// subscription, whichever are there.
var transactionChecks = []check{
	{
		name:  "commit",
		rule:  "what a transaction publishes is invisible before Commit, and then becomes visible in the order of the calls",
		where: "broker.Transaction, Publish and Commit",
		run:   withTransactions(checkCommit),
	},
	{
		name:  "abort",
		rule:  "Abort drops the messages, and the next transaction is not affected",
		where: "broker.Transaction, Abort",
		run:   withTransactions(checkAbort),
	},
	{
		name:  "ended",
		rule:  "after Commit or Abort every method answers ErrSettled and does nothing",
		where: "broker.Transaction",
		run:   withTransactions(checkTransactionEnded),
	},
	{
		name:  "refused",
		rule:  "Publish in a transaction refuses what Publish refuses, and the rest can be committed",
		where: "broker.Transaction, Publish",
		run:   withTransactions(checkTransactionRefuses),
	},
	{
		name:  "buffer-reuse",
		rule:  "the caller owns the message's bytes again as soon as Publish in a transaction returns",
		where: "broker.Transaction, Publish; broker.Publisher, Publish",
		run:   withTransactions(checkTransactionBuffers),
	},
	{
		name:  "two",
		rule:  "two transactions are independent of each other; with SerialTransactions the second Begin waits, until ctx ends, for the first to end",
		where: "broker.Transactor, Begin; broker.Properties, SerialTransactions",
		run:   withTransactions(checkTwoTransactions),
	},
	{
		name:  "cancel",
		rule:  "a Commit whose context ends makes all visible or nothing; after an error that is not a context error nothing is",
		where: "broker.Transaction, Commit",
		run:   withTransactions(checkCommitCancelled),
	},
	{
		name:  "ack",
		rule:  "a delivery that was added is not settled otherwise before Commit, and is acknowledged by it",
		where: "broker.Transaction, Ack and Commit",
		needs: []need{needRedelivers},
		run:   withTransactions(checkTransactionAck),
	},
	{
		name:  "ack-abort",
		rule:  "after Abort the deliveries that were added are unsettled again and wait for their settlement",
		where: "broker.Transaction, Abort",
		needs: []need{needRedelivers},
		run:   withTransactions(checkTransactionAckAborted),
	},
	{
		name:  "ack-misuse",
		rule:  "Ack in a transaction answers ErrSettled for a delivery that was settled or added before, and an error for one that is not the broker's",
		where: "broker.Transaction, Ack; broker.IncomingMessage",
		needs: []need{needRedelivers, needUnsettled(2)},
		run:   withTransactions(checkTransactionAckMisuse),
	},
	{
		name:  "shutdown",
		rule:  "Shutdown aborts an open transaction, then every method answers ErrClosed",
		where: "broker.Transaction",
		run:   withTransactions(checkTransactionShutdown),
	},
	{
		name:  "atomic",
		rule:  "when Shutdown meets a Commit, the messages and acknowledgements become visible together or not at all",
		where: "broker.Transaction, Commit",
		run:   withTransactions(checkCommitMeetsShutdown),
	},
	{
		name:  "lifecycle",
		rule:  "Begin answers ErrNotConnected before Connect and ErrClosed after Shutdown",
		where: "package broker, Rules that hold for every handle",
		run:   withTransactions(checkBeginLifecycle),
	},
}

// txCase is where transactions are tried: in is what is received and acknowledged,
// out is what is published, on the same broker.
type txCase struct {
	e            *env
	ofPublisher  bool // else of the subscription
	in, out      *link
	s            *stream // receives in
	seen         *stream // receives out, on another broker
	transactions string  // whose they are, for errors
}

// withTransactions runs f for the transactions of the publisher and for those of the
// subscription.
func withTransactions(f func(*txCase) error) func(*env) error {
	return func(e *env) error {
		var why error
		tried := 0
		for _, ofPublisher := range []bool{true, false} {
			x, err := e.newTxCase(ofPublisher)
			if err == nil {
				err = f(x)
			}
			if _, na := isInapplicable(err); na {
				why = err
				continue
			}
			if err != nil {
				return fmt.Errorf("transactions of the %s: %w", x.transactions, err)
			}
			tried++
		}
		if tried == 0 {
			return why
		}
		return nil
	}
}

func (e *env) newTxCase(ofPublisher bool) (*txCase, error) {
	x := &txCase{e: e, ofPublisher: ofPublisher, transactions: "subscription"}
	name := capReceivedTx
	if ofPublisher {
		x.transactions, name = "publisher", capTransactions
	}
	t, err := e.target()
	if err != nil {
		return x, err
	}
	if _, x.seen, err = e.openOn(t); err != nil {
		return x, err
	}
	if err := x.reopen(t); err != nil {
		return x, err
	}
	tx, err := x.begin()
	if errors.Is(err, errors.ErrUnsupported) {
		e.saw(name, "no")
		return x, e.notApplicable("neither the publisher nor the subscription has transactions that this check can try")
	}
	if err != nil {
		return x, err
	}
	e.saw(name, "yes")
	return x, tx.abort()
}

// reopen makes a new broker for in and out, with a fresh target to receive from.
func (x *txCase) reopen(out Target) (err error) {
	if x.in, x.s, err = x.e.open(); err != nil {
		return err
	}
	x.out, err = x.e.link(out, x.in.b)
	return err
}

// inOrder reports whether what is published with one key comes in order.
func (x *txCase) inOrder() bool { return x.out.props.Ordered || x.out.props.OrderedByKey }

// declared returns the properties that hold for the transactions.
func (x *txCase) declared() broker.Properties {
	if x.ofPublisher {
		return x.out.props
	}
	return x.in.props
}

// tx is an open transaction.
type tx struct {
	x *txCase
	broker.Transaction
}

// begin opens a transaction.
func (x *txCase) begin() (*tx, error) {
	var t *tx
	err := x.e.call("Begin", func(ctx context.Context) (err error) {
		t, err = x.beginWith(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	return t, nil
}

func (x *txCase) beginWith(ctx context.Context) (*tx, error) {
	var t broker.Transaction
	var err error
	if x.ofPublisher {
		t, err = broker.Begin(ctx, x.out.pub)
	} else {
		t, err = broker.BeginReceived(ctx, x.s.sub)
	}
	if err == nil && t == nil {
		err = errors.New("neither a transaction nor an error")
	}
	if err != nil {
		return nil, err
	}
	return &tx{x, t}, nil
}

// message returns a message to out. All have one key where there are keys, so that
// they have an order.
func (x *txCase) message(payload string) broker.OutgoingMessage {
	msg := broker.OutgoingMessage{Name: x.out.t.Name, Payload: []byte(payload)}
	if x.out.props.Keys != broker.KeysNone {
		msg.Key = []byte("key")
	}
	return msg
}

func (t *tx) try(msg broker.OutgoingMessage) error {
	return t.x.e.call("Publish in a transaction", func(ctx context.Context) error { return t.Transaction.Publish(ctx, msg) })
}

func (t *tx) publish(payloads ...string) error {
	for _, p := range payloads {
		if err := t.try(t.x.message(p)); err != nil {
			return fmt.Errorf("publish of %q in a transaction: %w", p, err)
		}
	}
	return nil
}

// ack adds d. That a transaction has no acknowledgements makes the case not
// applicable.
func (t *tx) ack(m broker.IncomingMessage) error {
	err := t.tryAck(m)
	if errors.Is(err, errors.ErrUnsupported) {
		if err := t.abort(); err != nil {
			return err
		}
		return t.x.e.notApplicable("the transactions of the %s have no acknowledgements", t.x.transactions)
	}
	if err != nil {
		return fmt.Errorf("ack in a transaction: %w", err)
	}
	return nil
}

func (t *tx) tryAck(m broker.IncomingMessage) error {
	return t.x.e.call("Ack in a transaction", func(ctx context.Context) error { return t.Transaction.Ack(ctx, m) })
}

func (t *tx) commit() error {
	if err := t.x.e.call("Commit", t.Commit); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

func (t *tx) abort() error {
	if err := t.x.e.call("Abort", t.Abort); err != nil {
		return fmt.Errorf("abort: %w", err)
	}
	return nil
}

// commitAck commits a transaction that holds the acknowledgement of d.
func (t *tx) commitAck(d *delivery) error {
	first := true
	return d.settle("Commit of the acknowledgement", acked, func(ctx context.Context, m broker.IncomingMessage) error {
		if first {
			first = false
			return t.Commit(ctx)
		}
		return m.Ack(ctx)
	})
}

// allAnswer fails unless every method answers want.
func (t *tx) allAnswer(when string, want error, m broker.IncomingMessage) error {
	for _, c := range []struct {
		what string
		err  error
	}{
		{"Publish", t.try(t.x.message("ghost"))},
		{"Ack", t.tryAck(m)},
		{"Commit", t.x.e.call("Commit", t.Commit)},
		{"Abort", t.x.e.call("Abort", t.Abort)},
		{"Commit, once more,", t.x.e.call("Commit", t.Commit)},
	} {
		if c.what == "Ack" && errors.Is(c.err, errors.ErrUnsupported) {
			continue // it has no acknowledgements
		}
		if err := mustBe(c.what+" in a transaction "+when, c.err, want); err != nil {
			return err
		}
	}
	return nil
}

func checkCommit(x *txCase) error {
	for _, prefix := range []string{"first", "second"} {
		want := numbered(prefix, 10)
		t, err := x.begin()
		if err != nil {
			return err
		}
		if err := t.publish(want...); err != nil {
			return err
		}
		if err := x.seen.quiet(); err != nil {
			return fmt.Errorf("before Commit: %w", err)
		}
		if err := t.commit(); err != nil {
			return err
		}
		if err := x.seen.arriveIn(x.inOrder(), want...); err != nil {
			return fmt.Errorf("after Commit: %w", err)
		}
	}
	t, err := x.begin()
	if err != nil {
		return err
	}
	if err := t.commit(); err != nil {
		return fmt.Errorf("of an empty transaction: %w", err)
	}
	return nil
}

func checkAbort(x *txCase) error {
	t, err := x.begin()
	if err != nil {
		return err
	}
	if err := t.publish(numbered("gone", 5)...); err != nil {
		return err
	}
	if err := t.abort(); err != nil {
		return err
	}
	if t, err = x.begin(); err != nil {
		return err
	}
	if err := t.publish("kept"); err != nil {
		return err
	}
	if err := t.commit(); err != nil {
		return err
	}
	if err := x.seen.arriveIn(true, "kept"); err != nil {
		return fmt.Errorf("after an Abort and the Commit of another transaction: %w", err)
	}
	return x.seen.quiet()
}

func checkTransactionEnded(x *txCase) error {
	for _, c := range []struct {
		when string
		end  func(*tx) error
	}{{"after Commit", (*tx).commit}, {"after Abort", (*tx).abort}} {
		t, err := x.begin()
		if err != nil {
			return err
		}
		if err := t.publish(c.when); err != nil {
			return err
		}
		if err := x.in.publish(c.when); err != nil {
			return err
		}
		d, err := x.s.one(c.when)
		if err != nil {
			return err
		}
		if err := c.end(t); err != nil {
			return err
		}
		if err := t.allAnswer(c.when, broker.ErrSettled, d.IncomingMessage); err != nil {
			return err
		}
		if err := d.ack(); err != nil {
			return fmt.Errorf("the Ack that an ended transaction refused must do nothing: %w", err)
		}
	}
	if err := x.seen.arriveIn(true, "after Commit"); err != nil {
		return err
	}
	return x.seen.quiet()
}

func checkTransactionRefuses(x *txCase) error {
	t, err := x.begin()
	if err != nil {
		return err
	}
	if err := t.publish("before"); err != nil {
		return err
	}
	for _, bad := range x.out.badMessages() {
		msg := x.message("bad")
		bad.spoil(&msg)
		if err := mustBe("Publish in a transaction with "+bad.what, t.try(msg), bad.want); err != nil {
			return err
		}
	}
	if err := t.publish("after"); err != nil {
		return err
	}
	if err := t.commit(); err != nil {
		return err
	}
	if err := x.seen.arriveIn(x.inOrder(), "before", "after"); err != nil {
		return err
	}
	return x.seen.quiet()
}

func checkTransactionBuffers(x *txCase) error {
	t, err := x.begin()
	if err != nil {
		return err
	}
	want := numbered("m", 10)
	buf := make([]byte, 0, 8)
	for _, p := range want {
		buf = append(buf[:0], p...)
		msg := x.message("")
		msg.Payload = buf
		if err := t.try(msg); err != nil {
			return err
		}
		buf = append(buf[:0], "########"...)
	}
	if err := t.commit(); err != nil {
		return err
	}
	return x.seen.arriveIn(x.inOrder(), want...)
}

func checkTwoTransactions(x *txCase) error {
	if x.declared().SerialTransactions {
		return x.serial()
	}
	first, err := x.begin()
	if err != nil {
		return err
	}
	second, err := x.begin()
	if err != nil {
		return fmt.Errorf("while another transaction is open, and the properties do not say SerialTransactions: %w", err)
	}
	x.e.saw("SerialTransactions", "no")
	for _, step := range []func() error{
		func() error { return first.publish("a0") },
		func() error { return second.publish("b0") },
		func() error { return first.publish("a1") },
		second.commit,
		func() error { return x.seen.arriveIn(true, "b0") },
		x.seen.quiet,
		first.commit,
		func() error { return x.seen.arriveIn(x.inOrder(), "a0", "a1") },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("two transactions at once: %w", err)
		}
	}
	return nil
}

// serial tries that only one transaction is open at a time.
func (x *txCase) serial() error {
	first, err := x.begin()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(x.e.ctx, x.e.h.Quiet)
	defer cancel()
	err = x.e.bounded(ctx, "Begin", func(ctx context.Context) error {
		_, err := x.beginWith(ctx)
		return err
	})
	if err := mustBe("Begin with SerialTransactions while another transaction is open", err, context.DeadlineExceeded); err != nil {
		return err
	}
	var ended atomic.Bool
	var second *tx
	err = x.e.together(
		func() (err error) {
			if second, err = x.begin(); err == nil && !ended.Load() {
				err = errors.New("with SerialTransactions a second Begin returned before the first transaction ended")
			}
			return err
		},
		func() error {
			if err := first.publish("a"); err != nil {
				return err
			}
			x.e.wait(x.e.h.Quiet)
			ended.Store(true)
			return first.commit()
		},
	)
	if err != nil {
		return err
	}
	x.e.saw("SerialTransactions", "yes")
	if err := second.publish("b"); err != nil {
		return err
	}
	if err := second.commit(); err != nil {
		return err
	}
	return x.seen.arriveIn(x.inOrder(), "a", "b")
}

func checkBeginLifecycle(x *txCase) error {
	if x.ofPublisher {
		b, err := x.e.newBroker()
		if err != nil {
			return err
		}
		early := *x
		if early.out, err = x.e.link(x.out.t, b); err != nil {
			return err
		}
		_, err = early.begin()
		if err := mustBe("Begin before Connect", err, broker.ErrNotConnected); err != nil {
			return err
		}
	}
	if err := x.e.shutdown(x.in.b); err != nil {
		return err
	}
	_, err := x.begin()
	return mustBe("Begin after Shutdown", err, broker.ErrClosed)
}

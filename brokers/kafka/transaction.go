package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream/broker"
)

var (
	_ broker.Transactor  = (*txPublisher)(nil)
	_ broker.Transaction = (*transaction)(nil)
)

// txPublisher is the default publisher of a broker with a [TransactionalID].
type txPublisher struct{ publisher }

// transactions are those of one transactional id: one at a time.
type transactions struct {
	b      *Broker
	client *kgo.Client
	turn   chan struct{} // held by the open transaction

	mu      sync.Mutex
	current *transaction // nil for none
	unended bool         // the last one could not be ended: the next Begin tries again
	fenced  error
}

// abortTimeout bounds ending a transaction whose own context has ended.
const abortTimeout = 5 * time.Second

// newTransactions makes the second client and takes over the id.
func (b *Broker) newTransactions(ctx context.Context, opts ...kgo.Opt) (*transactions, error) {
	client, err := b.config.client(&b.link, append(opts, kgo.TransactionalID(b.config.transactionalID))...)
	if err != nil {
		return nil, err
	}
	if _, _, err := client.ProducerID(ctx); err != nil {
		client.Close()
		return nil, fmt.Errorf("the transactional id %s: %w", broker.Quote(b.config.transactionalID), err)
	}
	return &transactions{b: b, client: client, turn: make(chan struct{}, 1)}, nil
}

// Begin opens a transaction of messages; it waits until the open one has ended.
func (p *txPublisher) Begin(ctx context.Context) (broker.Transaction, error) {
	const op = "begin"
	b := p.b
	c, err := b.enter(op, "")
	if err != nil {
		return nil, err
	}
	defer b.life.leave()
	t := c.tx
	if err := ctx.Err(); err != nil {
		return nil, b.fail(op, "", err)
	}
	select {
	case t.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, b.fail(op, "", ctx.Err())
	case <-b.done.Done():
		return nil, fail(op, "", broker.ErrClosed, nil)
	}
	if err := t.begin(ctx); err != nil {
		<-t.turn
		return nil, b.fail(op, "", err)
	}
	x := &transaction{all: t}
	t.mu.Lock()
	t.current = x
	t.mu.Unlock()
	return x, nil
}

func (t *transactions) begin(ctx context.Context) error {
	t.mu.Lock()
	unended, fenced := t.unended, t.fenced
	t.mu.Unlock()
	if fenced != nil {
		return fenced
	}
	if unended {
		if err := t.abort(ctx); err != nil {
			return fmt.Errorf("the transaction before this one could not be ended: %w", err)
		}
	}
	return t.note(t.client.BeginTransaction())
}

// abort ends the transaction on the server without its messages.
func (t *transactions) abort(ctx context.Context) error {
	err := t.client.AbortBufferedRecords(ctx)
	if err == nil {
		err = t.client.EndTransaction(ctx, kgo.TryAbort)
	}
	t.mu.Lock()
	t.unended = err != nil
	t.mu.Unlock()
	return t.note(err)
}

// note remembers that the producer was fenced, which no later call can mend.
func (t *transactions) note(err error) error {
	if err != nil && errors.Is(t.b.fail("", "", err), ErrFenced) {
		t.mu.Lock()
		t.fenced = err
		t.mu.Unlock()
	}
	return err
}

func (t *transactions) trouble() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.fenced == nil {
		return nil
	}
	return fmt.Errorf("the transactional id %s: %w", broker.Quote(t.b.config.transactionalID), t.b.fail("transaction", "", t.fenced))
}

// end aborts the open transaction, at Shutdown.
func (t *transactions) end(ctx context.Context) error {
	t.mu.Lock()
	x, unended := t.current, t.unended
	t.mu.Unlock()
	if x != nil {
		if !x.mu.TryLock() { // an operation has outlived the time of Shutdown
			return errors.New("an open transaction was left for the server to abort")
		}
		open := x.open()
		x.state = txEnded
		x.mu.Unlock()
		unended = unended || open
	}
	if !unended {
		return nil
	}
	if err := t.abort(ctx); err != nil && !errors.Is(t.b.fail("", "", err), ErrFenced) {
		return fmt.Errorf("an open transaction was left for the server to abort: %w", err)
	}
	return nil
}

// transaction is one transaction.
type transaction struct {
	all *transactions

	mu     sync.Mutex // held by each operation
	state  txState
	failed promiseError
}

type txState int

const (
	txOpen txState = iota
	txEnded
)

func (x *transaction) open() bool { return x.state == txOpen }

// promiseError is the first error of records that were published and are on their way.
type promiseError struct {
	mu    sync.Mutex
	topic string
	err   error
}

func (p *promiseError) keep(rec *kgo.Record, err error) {
	if err == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.topic, p.err = rec.Topic, err
		if rec.Partition == noSuchPartition {
			p.err = errors.Join(broker.ErrInvalid, errNoSuchPartition)
		}
	}
}

func (p *promiseError) get() (topic string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.topic, p.err
}

// enter begins an operation of the transaction; after a nil error the caller calls leave.
func (x *transaction) enter(op, name string) error {
	b := x.all.b
	if _, err := b.enter(op, name); err != nil {
		return err
	}
	x.mu.Lock()
	if x.state != txOpen {
		x.mu.Unlock()
		b.life.leave()
		return fail(op, name, broker.ErrSettled, nil)
	}
	return nil
}

func (x *transaction) leave() {
	x.mu.Unlock()
	x.all.b.life.leave()
}

// Publish sends msg into the transaction. That it arrived is known at Commit.
func (x *transaction) Publish(ctx context.Context, msg broker.OutgoingMessage) error {
	const op = "publish"
	b := x.all.b
	if err := x.enter(op, msg.Name); err != nil {
		return err
	}
	defer x.leave()
	if err := ctx.Err(); err != nil {
		return b.fail(op, msg.Name, err)
	}
	rec, err := encode(&msg, true)
	if err != nil {
		return fail(op, msg.Name, broker.ErrInvalid, err)
	}
	if topic, err := x.failed.get(); err != nil {
		return b.fail(op, topic, x.all.note(err))
	}
	// The record must not follow the caller's context once this call has returned; while
	// the client's buffer is full ctx bounds the wait for room.
	sent := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { close(sent) })
	defer stop()
	x.all.client.Produce(detached{ctx, sent}, rec, x.failed.keep)
	return nil
}

// detached is a context that ends through its channel alone, which is closed while the
// call that it belongs to goes on and never after.
type detached struct {
	context.Context
	done <-chan struct{}
}

func (d detached) Done() <-chan struct{} { return d.done }

func (d detached) Err() error {
	select {
	case <-d.done:
		return d.Context.Err()
	default:
		return nil
	}
}

// Deadline is none.
func (detached) Deadline() (time.Time, bool) { return time.Time{}, false }

// Ack answers [errors.ErrUnsupported]: a transaction holds published messages alone.
func (x *transaction) Ack(context.Context, broker.IncomingMessage) error {
	if err := x.enter("ack", ""); err != nil {
		return err
	}
	defer x.leave()
	return fail("ack", "", errors.ErrUnsupported, errors.New("a transaction of Kafka's producer holds published messages alone: acknowledge when it is committed"))
}

// Commit makes the messages visible to consumers that read what is committed, as all of
// this package do. If one of them was not taken, or the producer was fenced, none is
// visible and the error says why.
func (x *transaction) Commit(ctx context.Context) error {
	const op = "commit"
	t := x.all
	if err := x.enter(op, ""); err != nil {
		return err
	}
	defer x.leave()
	if err := ctx.Err(); err != nil {
		return t.b.fail(op, "", err) // it is still open
	}
	if err := t.client.Flush(ctx); err != nil {
		x.finish(t.abortAnyway)
		return t.b.fail(op, "", err)
	}
	if topic, err := x.failed.get(); err != nil {
		x.finish(t.abortAnyway)
		return t.b.fail(op, topic, t.note(err))
	}
	var err error
	x.finish(func() {
		err = t.client.EndTransaction(ctx, kgo.TryCommit)
		if err != nil && t.note(err) != nil {
			t.abortAnyway()
		}
	})
	var answer *kerr.Error
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &answer) && !isContextError(err):
		// The server has not answered: it may have committed.
		err = fmt.Errorf("%w: the outcome is unknown: %w", context.DeadlineExceeded, err)
	}
	return t.b.fail(op, "", err)
}

func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// Abort drops the messages.
func (x *transaction) Abort(ctx context.Context) error {
	t := x.all
	if err := x.enter("abort", ""); err != nil {
		return err
	}
	defer x.leave()
	var err error
	x.finish(func() {
		if err = t.abort(ctx); err != nil && ctx.Err() != nil {
			t.abortAnyway()
		}
	})
	if err != nil {
		return t.b.fail("abort", "", err)
	}
	return nil
}

// finish ends the transaction by f and lets the next one begin; mu is held.
func (x *transaction) finish(f func()) {
	f()
	x.state = txEnded
	x.all.mu.Lock()
	x.all.current = nil
	x.all.mu.Unlock()
	<-x.all.turn
}

// abortAnyway aborts with a time of its own, where that of the caller may have ended.
// What fails is tried again by the next Begin.
func (t *transactions) abortAnyway() {
	ctx, cancel := context.WithTimeout(context.Background(), abortTimeout)
	defer cancel()
	_ = t.abort(ctx)
}

package gostream

import (
	"context"
	"errors"
	"fmt"

	"github.com/gostream/gostream/broker"
)

// commitReplies publishes replies and acknowledges their messages in one
// transaction. from holds the index in run.live of each reply's message. After an
// error every message has failed, and nothing is visible; only where the commit ended
// with its context the outcome is unknown.
func (c *consumer) commitReplies(ctx context.Context, run *batchRun, msgs []broker.OutgoingMessage, from []int) error {
	if len(msgs) == 0 {
		return nil
	}
	tx, err := c.begin(ctx)
	if err != nil {
		return fmt.Errorf("begin a transaction: %w", err)
	}
	acksInside, err := c.fill(ctx, tx, run, msgs, from)
	if err != nil {
		if e := tx.Abort(c.settleCtx); e != nil {
			err = errors.Join(err, fmt.Errorf("abort: %w", e))
		}
		return fmt.Errorf("transaction: %w", err)
	}
	if err := tx.Commit(ctx); err != nil {
		_ = tx.Abort(c.settleCtx) // where the commit left it open; else it has ended
		return fmt.Errorf("commit: %w", err)
	}
	if acksInside {
		for _, i := range from {
			run.live[i].acked = true
		}
	}
	return nil
}

// fill adds the replies and, where the broker can, the acknowledgements.
func (c *consumer) fill(ctx context.Context, tx broker.Transaction, run *batchRun, msgs []broker.OutgoingMessage, from []int) (acksInside bool, err error) {
	if err := c.plan.replyVia.publishIn(ctx, tx, msgs); err != nil {
		return false, err
	}
	for _, i := range from {
		err := tx.Ack(ctx, run.live[i].delivery.msg)
		if errors.Is(err, errors.ErrUnsupported) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("acknowledge: %w", err)
		}
	}
	return true, nil
}

// begin opens a transaction: on the subscription, where the acknowledgements belong
// inside, else on the publisher.
func (c *consumer) begin(ctx context.Context) (broker.Transaction, error) {
	c.mu.Lock()
	sub := c.sub
	c.mu.Unlock()
	if _, ok := sub.(broker.Transactor); ok {
		tx, err := broker.BeginReceived(ctx, sub)
		if !errors.Is(err, errors.ErrUnsupported) {
			return tx, err
		}
	}
	return broker.Begin(ctx, c.plan.replyVia.publisher)
}

// checkTransactions reports a transactional handler on a broker without
// transactions. A subscription may have them, so that this is known when it is open.
func (c *consumer) checkTransactions(sub broker.Subscription) error {
	send := c.plan.handler.send
	if send == nil || !send.transactional {
		return nil
	}
	_, onSubscription := sub.(broker.Transactor)
	_, onPublisher := c.plan.replyVia.publisher.(broker.Transactor)
	if onSubscription || onPublisher {
		return nil
	}
	return fmt.Errorf("ReplyBatch(…).Transactional: %s has no transactions: %w", c.plan.info.broker, errors.ErrUnsupported)
}

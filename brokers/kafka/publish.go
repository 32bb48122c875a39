package kafka

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream/broker"
)

var (
	_ broker.Publisher      = (*publisher)(nil)
	_ broker.BatchPublisher = (*publisher)(nil)
)

// publisher publishes and waits until all in-sync replicas have the message.
type publisher struct{ b *Broker }

var errNoSuchPartition = errors.New("kafka.PublishOptions: the topic has no such partition")

// encode returns msg as a record. With own the record shares no bytes with it.
func encode(msg *broker.OutgoingMessage, own bool) (*kgo.Record, error) {
	if err := checkTopic(msg.Name); err != nil {
		return nil, err
	}
	headers, err := encodeHeaders(msg.Headers)
	if err != nil {
		return nil, err
	}
	rec := &kgo.Record{Topic: msg.Name, Partition: anyPartition, Headers: headers, Key: msg.Key, Value: msg.Payload}
	if own {
		rec.Key, rec.Value = owned(msg.Key, msg.Payload)
	}
	if rec.Value == nil {
		rec.Value = []byte{} // nil would be a tombstone
	}
	return rec, applyOptions(rec, msg.Options)
}

// owned returns copies in one allocation. A nil key stays nil.
func owned(key, payload []byte) (k, p []byte) {
	all := make([]byte, len(key)+len(payload))
	if key != nil {
		k = all[:len(key):len(key)]
		copy(k, key)
	}
	p = all[len(key):]
	copy(p, payload)
	return k, p
}

// outlives reports that a call with ctx may return while the client still has the record:
// one that was sent cannot be called back.
func outlives(ctx context.Context) bool { return ctx.Done() != nil }

// promise waits for one record.
type promise struct {
	done  chan error
	keep  func(*kgo.Record, error) // made once, so that publishing makes no closure
	lacks bool                     // the record asked for a partition that does not exist
}

func newPromise() any {
	p := &promise{done: make(chan error, 1)}
	p.keep = func(rec *kgo.Record, err error) {
		p.lacks = rec.Partition == noSuchPartition
		p.done <- err
	}
	return p
}

// Publish publishes msg. A topic that does not exist is broker.ErrNotFound, unless
// [AllowTopicCreation] has the broker create it.
func (p *publisher) Publish(ctx context.Context, msg broker.OutgoingMessage) error {
	const op = "publish"
	b := p.b
	c, err := b.enter(op, msg.Name)
	if err != nil {
		return err
	}
	defer b.life.leave()
	if err := ctx.Err(); err != nil {
		return b.fail(op, msg.Name, err)
	}
	rec, err := encode(&msg, outlives(ctx))
	if err != nil {
		return fail(op, msg.Name, broker.ErrInvalid, err)
	}
	w := b.promises.Get().(*promise)
	c.producer.Produce(ctx, rec, w.keep)
	select {
	case err = <-w.done:
	case <-ctx.Done():
		return b.fail(op, msg.Name, ctx.Err()) // the promise is kept some time later
	}
	lacks := w.lacks
	b.promises.Put(w)
	if isRefusedAsBatch(err) {
		err = c.lonely.publish(ctx, rec)
	}
	switch {
	case err == nil:
		return nil
	case lacks:
		return fail(op, msg.Name, broker.ErrInvalid, errNoSuchPartition)
	}
	c.forgetRecreated(msg.Name, err)
	return b.fail(op, msg.Name, err)
}

// PublishBatch publishes all messages at once and waits for all.
func (p *publisher) PublishBatch(ctx context.Context, msgs []broker.OutgoingMessage) error {
	const op = "publish"
	b := p.b
	c, err := b.enter(op, "")
	if err != nil {
		return err
	}
	defer b.life.leave()
	if len(msgs) == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return b.fail(op, "", err)
	}
	// What the promises write to is this call's own: they may come after it has returned.
	batch := &batch{errs: make([]error, len(msgs)), done: make(chan struct{})}
	batch.left.Store(int64(len(msgs)))
	for i := range msgs {
		rec, err := encode(&msgs[i], outlives(ctx))
		if err != nil {
			batch.keep(i, fail(op, msgs[i].Name, broker.ErrInvalid, err))
			continue
		}
		c.producer.Produce(ctx, rec, func(rec *kgo.Record, err error) {
			switch {
			case rec.Partition == noSuchPartition:
				err = fail(op, rec.Topic, broker.ErrInvalid, errNoSuchPartition)
			case isRefusedAsBatch(err):
				batch.refuse(i, rec)
			case err != nil:
				err = b.fail(op, rec.Topic, err)
			}
			batch.keep(i, err)
		})
	}
	select {
	case <-batch.done:
	case <-ctx.Done():
		return b.fail(op, "", ctx.Err())
	}
	for _, r := range batch.inOrder() {
		batch.errs[r.index] = nil
		if err := c.lonely.publish(ctx, r.rec); err != nil {
			batch.errs[r.index] = b.fail(op, r.rec.Topic, err)
		}
	}
	failed := false
	for i, err := range batch.errs {
		failed = failed || err != nil
		c.forgetRecreated(msgs[i].Name, err)
	}
	if failed {
		return &broker.BatchError{Errs: batch.errs}
	}
	return nil
}

// forgetRecreated has the clients forget a topic that was deleted and made anew: else they
// publish to the old one for ever. The next publish finds the new one.
func (c *connection) forgetRecreated(topic string, err error) {
	if !errors.Is(err, kerr.UnknownTopicID) {
		return
	}
	c.producer.PurgeTopicsFromProducing(topic)
	c.lonely.forget(topic)
	if c.tx != nil {
		c.tx.client.PurgeTopicsFromProducing(topic)
	}
}

// isRefusedAsBatch reports an error that may be meant for another record of the batch that
// the client has sent.
func isRefusedAsBatch(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge)
}

// batch waits for several records.
type batch struct {
	errs []error
	left atomic.Int64
	done chan struct{}

	mu      sync.Mutex
	refused []refusedRecord
}

type refusedRecord struct {
	index int
	rec   *kgo.Record
}

// refuse notes a record that is to be published alone.
func (b *batch) refuse(i int, rec *kgo.Record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refused = append(b.refused, refusedRecord{i, rec})
}

// inOrder are those records, as they stood in the batch.
func (b *batch) inOrder() []refusedRecord {
	b.mu.Lock()
	defer b.mu.Unlock()
	slices.SortFunc(b.refused, func(x, y refusedRecord) int { return x.index - y.index })
	return b.refused
}

func (b *batch) keep(i int, err error) {
	b.errs[i] = err
	if b.left.Add(-1) == 0 {
		close(b.done)
	}
}

package dirbroker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/gostream/gostream/broker"
)

// delivery is one delivery of one message: a file in the folder of what this
// connection has claimed. It was read from the disk for this delivery alone, so that
// its bytes are the receiver's.
//
// Settling waits for nothing but the file system; ctx is not asked.
type delivery struct {
	s     *subscription
	entry entry
	content

	mu   sync.Mutex // held while a settlement works: a second one waits for its result
	done error      // nil: unsettled; else what settling answers
}

// String names the delivery and shows nothing of its content.
func (d *delivery) String() string {
	return fmt.Sprintf("dir message %s (delivery %d, %d bytes)", d.s.q.name, d.entry.count, len(d.payload))
}

// Name is the name of the queue.
func (d *delivery) Name() string { return d.s.q.name }

// Payload is the body.
func (d *delivery) Payload() []byte { return d.payload }

// Headers are the headers, byte for byte as published.
func (d *delivery) Headers() broker.Headers { return d.headers }

// PartitionKey is the key, nil for none.
func (d *delivery) PartitionKey() []byte { return d.key }

// DeliveryCount is 1 on the first delivery. A delivery that a crash or a Shutdown
// took back counts.
func (d *delivery) DeliveryCount() int { return d.entry.count }

// Ack removes the message.
func (d *delivery) Ack(context.Context) error {
	return d.settle("ack", func(q *queue) error { return q.remove(d.entry) })
}

// Nack gives the message back, or removes it.
func (d *delivery) Nack(_ context.Context, requeue bool) error {
	return d.settle("nack", func(q *queue) error {
		if !requeue {
			return q.remove(d.entry)
		}
		return q.giveBack(q.id, d.entry, 0)
	})
}

// NackAfter gives the message back so that it is not delivered before wait has
// passed, by the machine's clock. It is delivered at the latest one Config.Poll
// after that to a Receive that waits.
func (d *delivery) NackAfter(ctx context.Context, wait time.Duration) error {
	if wait <= 0 {
		return d.Nack(ctx, true)
	}
	due := time.Now().Add(wait).UnixNano()
	return d.settle("nack", func(q *queue) error { return q.giveBack(q.id, d.entry, due) })
}

// settle settles the delivery by step. What decides is the one rename or remove in
// step, also against a Shutdown: that waits until this operation has left. A step
// that failed may be tried again, unless the file is gone: then somebody took the
// message from us.
func (d *delivery) settle(op string, step func(*queue) error) error {
	b, q := d.s.b, d.s.q
	if err := b.enter(op, q.name); err != nil {
		return err
	}
	defer b.leave()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done != nil {
		return fail(op, q.name, d.done, nil)
	}
	err := step(q)
	switch {
	case err == nil:
		d.done = broker.ErrSettled
	case errors.Is(err, fs.ErrNotExist):
		d.done = broker.ErrStale
		err = fail(op, q.name, broker.ErrStale, err)
	default:
		return fail(op, q.name, nil, err)
	}
	d.s.settled()
	return err
}

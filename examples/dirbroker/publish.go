package dirbroker

import (
	"context"
	"fmt"

	"github.com/gostream/gostream/broker"
)

// publisher is the publisher of every queue of a broker.
type publisher struct{ b *Broker }

// Publish writes the message into its queue, whose folder is made when the broker uses
// it for the first time. A context that has ended publishes nothing; otherwise ctx is not asked.
// After any other error than ErrInvalid, ErrTooLarge, ErrNotConnected, ErrClosed and
// a context error the message may have been published.
func (p publisher) Publish(ctx context.Context, msg broker.OutgoingMessage) error {
	if err := p.b.enter("publish", msg.Name); err != nil {
		return err
	}
	defer p.b.leave()
	if err := p.b.CheckPublishName(msg.Name); err != nil {
		return err
	}
	if msg.Options != nil {
		return fail("publish", msg.Name, broker.ErrInvalid, fmt.Errorf("a message of this broker has no options, and not a %T", msg.Options))
	}
	if limit := p.b.config.MaxPayload; limit > 0 && len(msg.Payload) > limit {
		return fail("publish", msg.Name, broker.ErrTooLarge, fmt.Errorf("the payload has %d bytes, the limit is %d", len(msg.Payload), limit))
	}
	if err := ctx.Err(); err != nil {
		return fail("publish", msg.Name, nil, err)
	}
	q, err := p.b.queue(msg.Name)
	if err == nil {
		err = q.put(entry{seq: nextSeq(), from: p.b.id}, encode(&msg))
	}
	if err != nil {
		return fail("publish", msg.Name, nil, err)
	}
	return nil
}

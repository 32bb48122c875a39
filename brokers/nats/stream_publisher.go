package nats

import (
	"context"
	"errors"
	"fmt"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/broker"
)

var (
	_ broker.Publisher      = (*streamPublisher)(nil)
	_ broker.BatchPublisher = (*streamPublisher)(nil)
	_ broker.BatchPublisher = confirmedPublisher{}
	_ broker.Requester      = confirmedPublisher{}
)

// streamPublisher publishes into streams and waits for the server's confirmation.
type streamPublisher struct{ b *Broker }

// requestTimeout bounds one confirmation where ctx has no deadline.
const requestTimeout = 5 * time.Second

// batchWindow is how many messages of a batch may wait for their confirmation. It is
// below the bound of the client, at which that fails.
const batchWindow = 1000

// Publish returns when the server has confirmed that a stream has the message.
func (p *streamPublisher) Publish(ctx context.Context, msg broker.OutgoingMessage) error {
	c, err := p.b.enter("publish", msg.Name)
	if err != nil {
		return err
	}
	defer p.b.life.leave()
	if err := ctx.Err(); err != nil {
		return p.b.fail("publish", msg.Name, err)
	}
	ctx, cancel := withDefault(ctx, requestTimeout)
	defer cancel()
	if p.b.isInbox(msg.Name) {
		if err := p.b.core.publish(ctx, c, &msg); err != nil {
			return err
		}
		return p.reached(ctx, c, msg.Name)
	}
	for try := 1; ; try++ {
		f, err := p.send(c, &msg)
		if err == nil {
			err = p.awaitOne(ctx, c, f, msg.Name)
		}
		if try == silentTries || !errors.Is(err, jetstream.ErrNoStreamResponse) || !wait(ctx, silentWait) {
			return err
		}
	}
}

// When no stream answers it may be that its leader changes: a message is sent again.
const (
	silentTries = 3
	silentWait  = 250 * time.Millisecond
)

// wait waits for d; false means that ctx ended before.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// reached waits until the server has seen what was sent.
func (p *streamPublisher) reached(ctx context.Context, c *connection, name string) error {
	if err := c.roundTrip(ctx); err != nil {
		return p.b.fail("publish", name, err)
	}
	return nil
}

// send checks a message and sends it. Its confirmation comes through the future, or
// natsgo.ErrDisconnected when the connection is lost meanwhile.
func (p *streamPublisher) send(c *connection, msg *broker.OutgoingMessage) (jetstream.PubAckFuture, error) {
	out, opts, err := prepare(c, msg)
	if err != nil {
		return nil, fail("publish", msg.Name, broker.ErrInvalid, err)
	}
	f, err := c.js.PublishMsgAsync(out, opts...)
	if err != nil {
		return nil, p.b.fail("publish", msg.Name, err)
	}
	return f, nil
}

// prepare is msg as the client takes it; an error is a mistake in it.
func prepare(c *connection, msg *broker.OutgoingMessage) (*natsgo.Msg, []jetstream.PublishOpt, error) {
	if err := checkPublish(msg.Name); err != nil {
		return nil, nil, err
	}
	o, err := publishOptions(msg.Options)
	if err != nil {
		return nil, nil, err
	}
	if o.TTL > 0 && !c.atLeast(2, 11) {
		return nil, nil, fmt.Errorf("PublishOptions.TTL needs a server of version 2.11 or later, this one is %s", c.nc.ConnectedServerVersion())
	}
	header, err := encodeHeader(msg, "", nil)
	return &natsgo.Msg{Subject: msg.Name, Data: msg.Payload, Header: header}, o.client(), err
}

// PublishBatch sends all messages, then waits for all confirmations. A message whose
// confirmation does not come has ctx's error: it may have been stored.
func (p *streamPublisher) PublishBatch(ctx context.Context, msgs []broker.OutgoingMessage) error {
	c, err := p.b.enter("publish", firstName(msgs))
	if err != nil {
		return err
	}
	defer p.b.life.leave()
	if err := ctx.Err(); err != nil {
		return p.b.fail("publish", firstName(msgs), err)
	}
	ctx, cancel := withDefault(ctx, requestTimeout)
	defer cancel()
	errs := batchErrors{n: len(msgs)}
	futures := make([]jetstream.PubAckFuture, len(msgs))
	inboxes := false
	for i := range msgs {
		if i >= batchWindow {
			errs.set(i-batchWindow, p.await(ctx, futures[i-batchWindow], msgs[i-batchWindow].Name))
		}
		if p.b.isInbox(msgs[i].Name) {
			inboxes = true
			errs.set(i, p.b.core.publish(ctx, c, &msgs[i]))
			continue
		}
		if err := ctx.Err(); err != nil {
			errs.set(i, p.b.fail("publish", msgs[i].Name, err)) // it is not sent
			continue
		}
		f, err := p.send(c, &msgs[i])
		futures[i] = f
		errs.set(i, err)
	}
	for i := max(0, len(msgs)-batchWindow); i < len(msgs); i++ {
		errs.set(i, p.await(ctx, futures[i], msgs[i].Name))
	}
	if inboxes {
		if err := p.reached(ctx, c, firstName(msgs)); err != nil {
			return err
		}
	}
	return errs.err()
}

// awaitOne waits for a confirmation, and when half of the time is gone finds out whether
// one can come at all. Who else listens there may have the message: that is the reason why
// the server has not said at once that nobody does.
func (p *streamPublisher) awaitOne(ctx context.Context, c *connection, f jetstream.PubAckFuture, name string) error {
	deadline, _ := ctx.Deadline()
	half := time.NewTimer(time.Until(deadline) / 2)
	defer half.Stop()
	select {
	case <-f.Ok():
		return nil
	case err := <-f.Err():
		return p.failed(name, err)
	case <-ctx.Done():
		return p.await(ctx, f, name)
	case <-half.C:
	}
	lookup := c.ask(ctx, func(ctx context.Context) error {
		_, err := c.js.StreamNameBySubject(ctx, name)
		return err
	})
	err := p.await(ctx, f, name)
	if err != nil && ctx.Err() != nil && errors.Is(lookup, jetstream.ErrStreamNotFound) {
		return fail("publish", name, broker.ErrNotFound, fmt.Errorf("no stream keeps the subject, only subscribers of Core NATS listen there: %w", ctx.Err()))
	}
	return err
}

// await waits for a confirmation; a nil future has none to wait for.
func (p *streamPublisher) await(ctx context.Context, f jetstream.PubAckFuture, name string) error {
	if f == nil {
		return nil
	}
	select {
	case <-f.Ok():
		return nil
	case err := <-f.Err():
		return p.failed(name, err)
	default:
	}
	select {
	case <-f.Ok():
		return nil
	case err := <-f.Err():
		return p.failed(name, err)
	case <-ctx.Done():
		return p.b.fail("publish", name, fmt.Errorf("no stream has confirmed it: %w", ctx.Err()))
	}
}

// failed is why no confirmation came.
func (p *streamPublisher) failed(name string, err error) error {
	if errors.Is(err, jetstream.ErrJetStreamPublisherClosed) {
		err = natsgo.ErrDisconnected // by us, when the client had given up
	}
	return p.b.fail("publish", name, err)
}

// confirmedPublisher is the default publisher with [ConfirmPublishes]. It can ask, too:
// through Core NATS, to somebody who listens there.
type confirmedPublisher struct{ *streamPublisher }

// Request is that of the Core NATS publisher.
func (p confirmedPublisher) Request(ctx context.Context, msg broker.OutgoingMessage) (broker.IncomingMessage, error) {
	return p.b.request(ctx, msg)
}

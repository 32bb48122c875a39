package nats

import (
	"context"
	"errors"
	"fmt"
	"strings"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gostream/gostream/broker"
)

var (
	_ broker.Publisher      = (*corePublisher)(nil)
	_ broker.BatchPublisher = (*corePublisher)(nil)
	_ broker.Requester      = (*corePublisher)(nil)
)

// corePublisher publishes through Core NATS.
type corePublisher struct{ b *Broker }

// Publish puts the message into the client's buffer.
func (p *corePublisher) Publish(ctx context.Context, msg broker.OutgoingMessage) error {
	c, err := p.b.enter("publish", msg.Name)
	if err != nil {
		return err
	}
	defer p.b.life.leave()
	return p.publish(ctx, c, &msg)
}

func (p *corePublisher) publish(ctx context.Context, c *connection, msg *broker.OutgoingMessage) error {
	if err := ctx.Err(); err != nil {
		return p.b.fail("publish", msg.Name, err)
	}
	var empty natsgo.Header
	if msg.Headers.Len() > 0 || msg.Key != nil {
		empty = headerMaps.Get().(natsgo.Header)
		defer freeHeader(empty)
	}
	out, err := coreMsg(msg, empty)
	if err != nil {
		return fail("publish", msg.Name, broker.ErrInvalid, err)
	}
	if out.Header == nil && out.Reply == "" {
		err = c.nc.Publish(out.Subject, out.Data)
	} else {
		err = c.nc.PublishMsg(&out)
	}
	if err != nil {
		return p.b.fail("publish", msg.Name, err)
	}
	return nil
}

// coreMsg is msg as the client takes it. The reply-to is the native reply subject. empty is
// where its headers go, as at encodeHeader.
func coreMsg(msg *broker.OutgoingMessage, empty natsgo.Header) (natsgo.Msg, error) {
	if err := checkPublish(msg.Name); err != nil {
		return natsgo.Msg{}, err
	}
	if msg.Options != nil {
		o, err := publishOptions(msg.Options)
		if err != nil {
			return natsgo.Msg{}, err
		}
		if o != (PublishOptions{}) {
			return natsgo.Msg{}, errors.New("nats.PublishOptions need a stream: publish through JetStreamPublisher")
		}
	}
	out := natsgo.Msg{Subject: msg.Name, Data: msg.Payload, Reply: msg.Headers.ReplyTo()}
	if out.Reply != "" {
		if err := checkPublish(out.Reply); err != nil {
			return natsgo.Msg{}, fmt.Errorf("the reply-to: %w", err)
		}
	}
	var err error
	out.Header, err = encodeHeader(msg, broker.HeaderReplyTo, empty)
	return out, err
}

// PublishBatch puts the messages into the client's buffer and waits until the server
// has seen them all. It does not say that anybody received them.
func (p *corePublisher) PublishBatch(ctx context.Context, msgs []broker.OutgoingMessage) error {
	c, err := p.b.enter("publish", firstName(msgs))
	if err != nil {
		return err
	}
	defer p.b.life.leave()
	if err := ctx.Err(); err != nil {
		return p.b.fail("publish", firstName(msgs), err)
	}
	errs := batchErrors{n: len(msgs)}
	for i := range msgs {
		errs.set(i, p.publish(ctx, c, &msgs[i]))
	}
	if len(msgs) > 0 {
		ctx, cancel := withDefault(ctx, requestTimeout)
		defer cancel()
		if err := c.roundTrip(ctx); err != nil {
			return p.b.fail("publish", firstName(msgs), err)
		}
	}
	return errs.err()
}

// Request asks and waits for the first reply. A subject on which nobody listens
// answers [ErrNoResponders] at once. A ctx without a deadline gets one of 30 s.
func (p *corePublisher) Request(ctx context.Context, msg broker.OutgoingMessage) (broker.IncomingMessage, error) {
	return p.b.request(ctx, msg)
}

func (b *Broker) request(ctx context.Context, msg broker.OutgoingMessage) (broker.IncomingMessage, error) {
	c, err := b.enter("request", msg.Name)
	if err != nil {
		return nil, err
	}
	defer b.life.leave()
	if err := ctx.Err(); err != nil {
		return nil, b.fail("request", msg.Name, err)
	}
	out, err := coreMsg(&msg, nil)
	if err != nil {
		return nil, fail("request", msg.Name, broker.ErrInvalid, err)
	}
	out.Reply = "" // the client makes one
	ctx, cancel := withDefault(ctx, broker.DefaultTimeout)
	defer cancel()
	wait, end := context.WithCancel(ctx)
	defer end()
	defer context.AfterFunc(b.done, end)()
	reply, err := c.nc.RequestMsgWithContext(wait, &out)
	switch {
	case err == nil:
		return &CoreMessage{reply, b}, nil
	case b.life.isClosed():
		return nil, fail("request", msg.Name, broker.ErrClosed, nil)
	case ctx.Err() != nil:
		return nil, b.fail("request", msg.Name, ctx.Err())
	}
	return nil, b.fail("request", msg.Name, err)
}

// isInbox reports a subject on which a client waits for a reply: whatever prefix it was
// given, by convention it begins with "_".
func (b *Broker) isInbox(subject string) bool {
	own := b.config.inboxPrefix
	return strings.HasPrefix(subject, "_") ||
		own != "" && len(subject) > len(own) && subject[len(own)] == '.' && strings.HasPrefix(subject, own)
}

func firstName(msgs []broker.OutgoingMessage) string {
	if len(msgs) == 0 {
		return ""
	}
	return msgs[0].Name
}

// batchErrors collects which messages of a batch failed.
type batchErrors struct {
	n      int
	failed *broker.BatchError
}

func (e *batchErrors) set(i int, err error) {
	if err == nil {
		return
	}
	if e.failed == nil {
		e.failed = &broker.BatchError{Errs: make([]error, e.n)}
	}
	e.failed.Errs[i] = err
}

func (e *batchErrors) err() error {
	if e.failed == nil {
		return nil
	}
	return e.failed
}

package nats

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"
)

// order is the position of an ordered reader.
type order struct {
	stream   uint64 // the sequence in the stream of what was handed out last
	consumer uint64 // the same in the consumer
}

// verdict is what order says of a message.
type verdict int

const (
	inOrder verdict = iota
	foreign         // of another consumer
	gap             // something before it is missing
)

// next judges the message with that reply subject, from the consumer of that name.
func (o *order) next(reply, name string) verdict {
	if ackToken(reply, ackConsumer) != name {
		return foreign
	}
	if ackNumber(reply, ackConsumerSequence) != o.consumer+1 {
		return gap
	}
	o.consumer++
	o.stream = ackNumber(reply, ackStreamSequence)
	return inOrder
}

// renew makes the consumer of an ordered reader anew, behind what was handed out.
func (s *streamSubscription) renew(ctx context.Context) error {
	s.mu.Lock()
	src, old := s.src, s.from
	if s.order.stream > 0 {
		src = src.StartSequence(s.order.stream + 1)
	}
	s.mu.Unlock()
	stream, err := s.c.js.Stream(ctx, src.stream)
	if err != nil {
		return err
	}
	if !stream.CachedInfo().Created.Equal(old.streamMade) {
		return errMadeAnew // its sequences are those of other messages
	}
	config := src.consumerConfig()
	if src.policy == jetstream.DeliverByStartSequencePolicy {
		config.OptStartTime = nil
	}
	made, err := s.c.js.CreateConsumer(ctx, src.stream, config)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.from = s.b.handle(s.c, made.CachedInfo(), &src, old.streamMade)
	s.order.consumer = 0
	s.pull.reset()
	s.mu.Unlock()
	_ = s.c.js.DeleteConsumer(ctx, old.stream, old.name) // else the server does
	return nil
}

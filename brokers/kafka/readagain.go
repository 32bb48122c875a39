package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/gostream/gostream/broker"
)

// A message that was given back belonged to its receiver, who may have written into it. So
// it is read from its partition anew, by a fetch beside those that bring what is new.

const (
	// rereadWait is between two tries.
	rereadWait = 50 * time.Millisecond
	// rereadBytes is how much one fetch brings; a larger batch comes whole.
	rereadBytes = 1 << 20
	// rereadTimeout bounds one try.
	rereadTimeout = 2 * time.Second
)

// receiveBack hands out what was given back and was read anew. more reports that something
// is left.
func (p *partition) receiveBack(dst []broker.IncomingMessage) (n int, more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != held {
		return 0, false
	}
	for n < len(dst) && len(p.back) > 0 && p.back[0].again != nil {
		slot := p.back[0]
		p.back = p.back[1:]
		dst[n] = &Message{record: record{slot.again}, part: p, slot: slot}
		slot.again = nil
		p.out++
		n++
	}
	return n, len(p.back) > 0
}

// readAgain tries once to read what was given back to p. It counts as a poll, so that a
// rebalance can break it off.
func (s *trackedSubscription) readAgain(ctx context.Context, p *partition) {
	s.poller.run(ctx, func(ctx context.Context) {
		offset, wanted := p.firstBack()
		if !wanted {
			return
		}
		if records, past, err := s.fetchFrom(ctx, p, offset); err == nil {
			p.reread(records, past)
		}
	})
}

// firstBack is the offset of the first message that was given back and is not read anew.
func (p *partition) firstBack() (offset int64, wanted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != held || len(p.back) == 0 || p.back[0].again != nil {
		return 0, false
	}
	return p.back[0].rec.Offset, true
}

// reread keeps those records that were given back, of all there are below past. What the
// log no longer has, because it was compacted or is too old, is handed out as it is here.
func (p *partition) reread(records []*kgo.Record, past int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := 0
	for _, slot := range p.back {
		offset := slot.rec.Offset
		for i < len(records) && records[i].Offset < offset {
			i++
		}
		switch {
		case i < len(records) && records[i].Offset == offset:
			slot.again = records[i]
		case offset < past:
			slot.again = slot.rec
		default:
			return // it is in what the next fetch brings
		}
	}
}

// fetchFrom reads a partition from offset on, from its leader: all that there is in it
// below past.
func (s *trackedSubscription) fetchFrom(ctx context.Context, p *partition, offset int64) (records []*kgo.Record, past int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, rereadTimeout)
	defer cancel()
	id, leader, err := s.c.locate(ctx, p.topic, p.id)
	if err != nil {
		return nil, 0, err
	}
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID = -1
	req.MaxWaitMillis = int32(rereadTimeout / 2 / time.Millisecond)
	req.MinBytes = 1
	req.MaxBytes = rereadBytes
	req.SessionEpoch = -1 // outside of the client's own fetch sessions
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = p.topic, id
	part := kmsg.NewFetchRequestTopicPartition()
	part.Partition = p.id
	part.CurrentLeaderEpoch = -1
	part.FetchOffset = offset
	part.PartitionMaxBytes = rereadBytes
	t.Partitions = append(t.Partitions, part)
	req.Topics = append(req.Topics, t)
	// Not through the subscription's own client, on whose connection it would wait for the
	// fetch that waits for news.
	resp, err := req.RequestWith(ctx, s.c.producer.Broker(int(leader)))
	if err != nil {
		return nil, 0, err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, 0, err
	}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			if got := &resp.Topics[i].Partitions[j]; got.Partition == p.id {
				return read(p, got, offset)
			}
		}
	}
	return nil, 0, errNoLeader
}

// read reads the answer to a fetch.
func read(p *partition, got *kmsg.FetchResponseTopicPartition, offset int64) (records []*kgo.Record, past int64, err error) {
	// What is asked for was delivered, and so is committed.
	fetched, next := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{
		Offset: offset, Topic: p.topic, Partition: p.id, IsolationLevel: kgo.ReadUncommitted(),
	}, got, kgo.DefaultDecompressor(), nil)
	switch {
	case errors.Is(fetched.Err, kerr.OffsetOutOfRange) && offset < got.LogStartOffset:
		return nil, got.LogStartOffset, nil // it was too old
	case errors.Is(fetched.Err, kerr.OffsetOutOfRange) && offset >= got.HighWatermark && got.HighWatermark >= 0:
		return nil, offset + 1, nil // the brokers have lost it
	case fetched.Err != nil:
		return nil, 0, fetched.Err
	}
	return fetched.Records, next, nil
}

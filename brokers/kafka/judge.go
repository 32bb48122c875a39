package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream/broker"
)

// goneTopics tells, for one subscription, which errors of its fetches are for good. Whoever
// polls owns it.
type goneTopics struct {
	b       *Broker
	c       *connection
	pattern bool // a topic that is gone no longer matches
	unknown map[string]unknownID
}

// unknownID is since when, and until when, a topic that exists has answered to another id
// only.
type unknownID struct{ since, last time.Time }

// recreatedAfter is how long that lasts until the topic was deleted and made anew: brokers
// that do not know of a topic yet do so within less. The client never takes to the new id.
const recreatedAfter = 3 * time.Second

// judge returns the error that a fetch error means for good, nil where the client goes on by
// itself.
func (g *goneTopics) judge(ctx context.Context, topic string, err error) error {
	var loss *kgo.ErrDataLoss
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, kgo.ErrClientClosed):
		return nil
	case errors.As(err, &loss):
		g.b.tell(broker.Event{Kind: broker.EventFailed, Name: topic, Err: err})
		return nil
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
		if g.c.isGone(ctx, topic) {
			if g.pattern {
				return nil
			}
			break
		}
		if !errors.Is(err, kerr.UnknownTopicID) || !g.lasts(topic, time.Now()) {
			return nil // a change of leaders
		}
		err = fmt.Errorf("the topic was deleted and made anew: %w", err)
	case !isPermanent(err):
		return nil // the client tries again; why a group cannot be joined, its hook has noted
	}
	return g.b.fail("receive", topic, err)
}

// lasts reports that the topic has been answering so for recreatedAfter, without a pause.
func (g *goneTopics) lasts(topic string, now time.Time) bool {
	u := g.unknown[topic]
	if now.Sub(u.last) > recreatedAfter {
		u.since = now
	}
	u.last = now
	if g.unknown == nil {
		g.unknown = make(map[string]unknownID)
	}
	g.unknown[topic] = u
	return now.Sub(u.since) >= recreatedAfter
}

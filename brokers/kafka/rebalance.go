package kafka

import (
	"context"
	"time"

	"github.com/gostream/gostream/broker"
)

// commitTimeout bounds the last commit of a partition that goes to another member.
const commitTimeout = 5 * time.Second

// onAssigned takes over partitions.
func (s *trackedSubscription) onAssigned(added map[string][]int32) {
	// When partitions are lost the client forgets what it has of them only after onLost: a
	// poll that began in between may still bring it.
	s.poller.barrier()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions++
	for topic, ids := range added {
		if s.parts[topic] == nil {
			s.parts[topic] = make(map[int32]*partition)
		}
		for _, id := range ids {
			p := newPartition(s, topic, id)
			if s.closed {
				p.state = draining
			}
			s.parts[topic][id] = p
		}
	}
}

// onBegun sets where a partition begins.
func (s *trackedSubscription) onBegun(topic string, id int32, at beginning) {
	s.mu.Lock()
	p, old := s.parts[topic][id], s.lostOnes[topic][id]
	delete(s.lostOnes[topic], id)
	s.mu.Unlock()
	if p == nil {
		return
	}
	p.begin(at)
	if old != nil {
		p.adopt(old)
	}
	if !at.committed {
		select {
		case s.soon <- struct{}{}:
		default:
		}
	}
}

// onRevoked gives up partitions in good order: what is in flight finishes, within
// RevokeTimeout, and is committed. The rebalance waits for it; the other partitions go on.
func (s *trackedSubscription) onRevoked(revoked map[string][]int32) {
	parts := s.takeAway(revoked)
	var idle []<-chan struct{}
	for _, p := range parts {
		idle = append(idle, p.drain())
	}
	waitFor(idle, s.src.tracking.revokeTimeout, s.stop.Done())
	for _, p := range parts {
		p.letGo()
	}
	ctx, cancel := context.WithTimeout(s.client.Context(), commitTimeout)
	defer cancel()
	if err := s.commitFirmly(ctx, func() []*partition { return parts }); err != nil {
		// It is repeated by whoever gets the partition.
		s.mu.Lock()
		s.notGivenUp = err
		s.mu.Unlock()
		s.b.tell(broker.Event{Kind: broker.EventFailed, Name: s.src.Name(), Err: s.b.fail("commit", s.src.Name(), err)})
	}
}

// onLost gives up partitions that may belong to somebody else already: a commit could set
// back what that one has committed. Where they come back, and nobody has committed
// meanwhile, what was settled of them is still known.
func (s *trackedSubscription) onLost(lost map[string][]int32) {
	for _, p := range s.takeAway(lost) {
		p.letGo()
		s.mu.Lock()
		p.lost, p.lostIn = true, s.sessions
		if s.lostOnes[p.topic][p.id] != nil && !p.hasBegun() {
			s.mu.Unlock() // it is lost twice, and knows nothing yet
			continue
		}
		if s.lostOnes[p.topic] == nil {
			s.lostOnes[p.topic] = make(map[int32]*partition)
		}
		s.lostOnes[p.topic][p.id] = p
		s.mu.Unlock()
	}
}

// takeAway removes partitions and returns them when nothing that was fetched of them is on
// its way any more.
func (s *trackedSubscription) takeAway(ids map[string][]int32) []*partition {
	var parts []*partition
	s.mu.Lock()
	for topic, partitions := range ids {
		for _, id := range partitions {
			if p := s.parts[topic][id]; p != nil {
				parts = append(parts, p)
				delete(s.parts[topic], id)
			}
		}
	}
	s.mu.Unlock()
	s.poller.barrier()
	for _, p := range parts {
		p.drain()
		s.follow(p) // the client keeps a pause for whenever it gets the partition again
	}
	return parts
}

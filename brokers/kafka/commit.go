package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// commitAtIntervals commits what was settled, until the subscription leaves.
func (s *trackedSubscription) commitAtIntervals() {
	defer close(s.commits)
	ticker := time.NewTicker(s.src.tracking.commitInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-s.soon: // where a partition begins: it must not be found anew
		case <-s.stop.Done():
			return
		}
		// What fails is tried again the next time, or at the end.
		err := s.commit(s.stop, s.all())
		s.mu.Lock()
		s.uncommitted = nil
		if err != nil && !isOfRebalance(err) && s.stop.Err() == nil {
			s.uncommitted = err
		}
		s.mu.Unlock()
	}
}

const (
	// commitRetry is between two tries of a last commit.
	commitRetry = 20 * time.Millisecond
	// rebalancePatience is how long a last commit is tried again that a rebalance refuses.
	rebalancePatience = 2 * time.Second
)

// commitFirmly commits for the last time. While the cluster does not answer it tries again
// until ctx ends, and for a while where a rebalance refuses. A partition that is lost
// meanwhile is an error if something of it was not committed.
func (s *trackedSubscription) commitFirmly(ctx context.Context, parts func() []*partition) error {
	began := time.Now()
	mine := parts()
	var refused error // the last that a broker has said
	for {
		err := s.commit(ctx, s.existing(ctx, parts(), refused))
		if lost, final := s.lostOf(mine); err == nil && lost != nil {
			if final {
				return errors.Join(lost, refused)
			}
			err = lost
		}
		var answer *kerr.Error
		if errors.As(err, &answer) {
			refused = err
		}
		switch {
		case err == nil:
			return nil
		case answer != nil && !kerr.IsRetriable(answer) && !isOfRebalance(err),
			answer != nil && time.Since(began) > rebalancePatience:
			if errors.Is(err, kerr.UnknownTopicID) && !isOfRebalance(err) {
				return nil // the topic was deleted and made anew: what was read is gone
			}
			return err
		}
		select {
		case <-time.After(commitRetry):
		case <-ctx.Done():
			if refused != nil {
				return refused
			}
			return err
		}
	}
}

// existing leaves out the partitions of topics that were deleted, where refused is of such
// a topic: nobody will read them again.
func (s *trackedSubscription) existing(ctx context.Context, parts []*partition, refused error) []*partition {
	if !errors.Is(refused, kerr.UnknownTopicID) && !errors.Is(refused, kerr.UnknownTopicOrPartition) {
		return parts
	}
	var topics []string
	for _, p := range parts {
		topics = append(topics, p.topic)
	}
	slices.Sort(topics)
	found, err := s.c.describe(ctx, slices.Compact(topics))
	if err != nil {
		return parts
	}
	return slices.DeleteFunc(slices.Clone(parts), func(p *partition) bool {
		_, ok := found[p.topic]
		if !ok {
			p.forget()
		}
		return !ok
	})
}

var errLost = errors.New("the group has given the partition to another member before it was committed")

// lostOf reports a partition that was lost with something that is not committed. It is
// final when the group has assigned its partitions since, and this one elsewhere: else the
// subscription may get it again, with what it had settled.
func (s *trackedSubscription) lostOf(mine []*partition) (err error, final bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range mine {
		if _, _, due := p.due(); !due || !p.lost {
			continue // of one that is revoked, onRevoked sees to the commit
		}
		now := s.parts[p.topic][p.id]
		final = s.sessions > p.lostIn && (now == nil || now.hasBegun())
		return fmt.Errorf("partition %d of %s: %w", p.id, p.topic, errLost), final
	}
	return nil, false
}

// isOfRebalance reports an error of a commit that a rebalance explains.
func isOfRebalance(err error) bool {
	return errors.Is(err, kerr.RebalanceInProgress) || errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.UnknownMemberID)
}

// commit commits the watermarks of the partitions that have moved. One commit runs at a
// time: an older one must not come after a newer one.
func (s *trackedSubscription) commit(ctx context.Context, parts []*partition) error {
	if len(parts) == 0 {
		return nil
	}
	select {
	case s.committing <- struct{}{}:
		defer func() { <-s.committing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	due := make(commits)
	byID := make(map[string]map[int32]taken)
	for _, p := range parts {
		at, version, is := p.due()
		if !is {
			continue
		}
		due.set(p.topic, p.id, at)
		if byID[p.topic] == nil {
			byID[p.topic] = make(map[int32]taken)
		}
		byID[p.topic][p.id] = taken{p, version}
	}
	if len(due) == 0 {
		return nil
	}
	return s.member.commit(ctx, due, func(topic string, id int32) {
		if t, ok := byID[topic][id]; ok {
			t.p.hasCommitted(due[topic][id].at.Offset, t.version)
		}
	})
}

// taken is a partition as it was when its commit was put together.
type taken struct {
	p       *partition
	version uint64
}

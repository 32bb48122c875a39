package kafka

import (
	"context"
	"errors"
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

// commitRetry is between two tries of a commit that a rebalance refuses.
const commitRetry = 20 * time.Millisecond

// commitFirmly commits for the last time: what a rebalance refuses is tried again until it
// is over, the partitions are not ours any more, or ctx ends.
func (s *trackedSubscription) commitFirmly(ctx context.Context, parts func() []*partition) error {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	for {
		err := s.commit(ctx, parts())
		if !isOfRebalance(err) {
			return err
		}
		select {
		case <-time.After(commitRetry):
		case <-ctx.Done():
			return err
		}
	}
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

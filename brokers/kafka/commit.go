package kafka

import (
	"context"
	"time"
)

// commitAtIntervals commits what was settled, until the subscription leaves.
func (s *trackedSubscription) commitAtIntervals() {
	defer close(s.commits)
	ticker := time.NewTicker(s.src.tracking.commitInterval)
	defer ticker.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		select {
		case <-ticker.C:
			// What fails is tried again the next time, or at the end.
			_ = s.commit(ctx, s.all())
		case <-s.stop:
			return
		}
	}
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

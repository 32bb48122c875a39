package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/gostream/gostream/broker"
)

// member is the membership of a subscription in its group, with a client of its own.
type member struct {
	b      *Broker
	c      *connection
	src    TopicSource
	group  string
	known  map[string]int32 // the partitions of each topic when the subscription began
	client *kgo.Client
	cancel context.CancelFunc // ends the client at once

	// metadata is what the group has committed beside its offsets, until these are begun
	// with.
	metadata map[string]map[int32]string
	// plain says that the brokers take no metadata of our size.
	plain atomic.Bool

	// What the subscription does when partitions come and go. They are called one at a
	// time, on the client's own goroutine.
	assigned func(map[string][]int32)
	begun    func(topic string, partition int32, at beginning)
	revoked  func(map[string][]int32)
	lost     func(map[string][]int32)

	live     chan struct{} // closed at the first assignment
	liveOnce sync.Once
	hopeless chan error // gets a problem that time does not heal

	mu      sync.Mutex
	problem error // the group cannot be joined at present
	over    bool  // it was told to leave, perhaps before it had come
}

// beginning is where a partition is begun with.
type beginning struct {
	at        kgo.EpochOffset
	committed bool   // the group has committed it
	metadata  string // with this
}

var (
	_ kgo.HookNewClient        = (*member)(nil)
	_ kgo.HookGroupManageError = (*member)(nil)
)

// prepare finds the topics, or makes them.
func (m *member) prepare(ctx context.Context) error {
	m.group = m.src.groupOn(m.b)
	m.live, m.hopeless = make(chan struct{}), make(chan error, 1)
	topics := m.src.topics
	found, err := m.c.describe(ctx, topics)
	if err != nil {
		return err
	}
	if none := missing(topics, found); len(none) > 0 {
		if m.src.create == nil {
			return fmt.Errorf("%w: there is no topic %s: create it, or have the source do so with Create", broker.ErrNotFound, broker.Quote(none[0]))
		}
		if err := m.c.create(ctx, m.src.create, none); err != nil {
			return err
		}
		// They are new: whatever is in them is read.
	}
	m.known = found
	return nil
}

// join makes the client, which joins the group, and waits until it has its partitions.
func (m *member) join(ctx context.Context) error {
	own, cancel := context.WithCancel(context.Background())
	m.mu.Lock()
	m.cancel = cancel
	m.mu.Unlock()
	client, err := m.b.config.client(&m.b.link, append(m.options(), kgo.WithContext(own))...)
	if err != nil {
		cancel()
		return err
	}
	m.mu.Lock()
	over := m.over
	m.mu.Unlock()
	if over { // nobody else knows of the client
		cancel()
		client.Close()
		return kgo.ErrClientClosed
	}
	if m.src.isPattern && !m.anyMatches() {
		return nil // nobody joins a group for no topic
	}
	select {
	case <-m.live:
		return nil
	case err := <-m.hopeless:
		return err
	case <-m.b.done.Done():
		return kgo.ErrClientClosed
	case <-ctx.Done():
		if problem := m.trouble(); problem != nil {
			return fmt.Errorf("%w: %w", ctx.Err(), problem)
		}
		return fmt.Errorf("%w: the group %s has not admitted this member yet: it may wait for one that is gone, until its session times out", ctx.Err(), broker.Quote(m.group))
	}
}

func (m *member) anyMatches() bool {
	for topic := range m.known {
		if matchesPattern(m.src.re, topic) {
			return true
		}
	}
	return false
}

func (m *member) options() []kgo.Opt {
	opts := []kgo.Opt{
		kgo.WithHooks(m),
		kgo.ConsumerGroup(m.group),
		kgo.DisableAutoCommit(),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsAssigned(m.onAssigned),
		kgo.OnOffsetsFetched(m.onMetadata),
		kgo.AdjustFetchOffsetsFn(m.onOffsets),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, p map[string][]int32) { m.revoked(p) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, p map[string][]int32) { m.lost(p) }),
	}
	if m.src.isPattern {
		return append(opts, kgo.ConsumeRegex(), kgo.ConsumeTopics(anchored(m.src.pattern)))
	}
	return append(opts, kgo.ConsumeTopics(m.src.topics...))
}

// OnNewClient keeps the client before it does anything.
func (m *member) OnNewClient(c *kgo.Client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.client = c
}

// OnGroupManageError notes why the client is not in its group now. It tries again.
func (m *member) OnGroupManageError(err error) { m.note(err) }

func (m *member) note(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.problem = err
	if isPermanent(err) {
		select {
		case m.hopeless <- err:
		default:
		}
	}
}

// trouble is why the group cannot be joined, nil for nothing.
func (m *member) trouble() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.problem == nil {
		return nil
	}
	return fmt.Errorf("the group %s: %w", broker.Quote(m.group), m.problem)
}

func (m *member) onAssigned(_ context.Context, _ *kgo.Client, added map[string][]int32) {
	m.note(nil)
	m.assigned(added)
	if len(added) == 0 {
		m.isLive()
	}
}

func (m *member) isLive() { m.liveOnce.Do(func() { close(m.live) }) }

// onMetadata is given what the group has committed, before onOffsets is.
func (m *member) onMetadata(_ context.Context, _ *kgo.Client, resp *kmsg.OffsetFetchResponse) error {
	m.metadata = make(map[string]map[int32]string)
	for _, g := range resp.Groups {
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				if p.Metadata == nil || *p.Metadata == "" {
					continue
				}
				if m.metadata[t.Topic] == nil {
					m.metadata[t.Topic] = make(map[int32]string)
				}
				m.metadata[t.Topic][p.Partition] = *p.Metadata
			}
		}
	}
	return nil
}

// onOffsets is given where the group has committed, or that it has not, and returns where
// to begin.
func (m *member) onOffsets(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	wanted := make(map[string][]int32)
	for topic, partitions := range offsets {
		for p, o := range partitions {
			if at := o.EpochOffset(); at.Offset >= 0 {
				m.begun(topic, p, beginning{at, true, m.metadata[topic][p]})
			} else {
				wanted[topic] = append(wanted[topic], p)
			}
		}
	}
	if len(wanted) > 0 {
		found, err := m.src.start.resolve(ctx, m.c, wanted, m.known)
		if err != nil {
			return nil, err
		}
		for topic, partitions := range found {
			for p, at := range partitions {
				offsets[topic][p] = kgo.NewOffset().At(at.Offset)
				m.begun(topic, p, beginning{at: at})
			}
		}
	}
	m.note(nil)
	m.isLive()
	return offsets, nil
}

// leave leaves the group and closes the client. ctx bounds the good-bye.
func (m *member) leave(ctx context.Context) {
	m.mu.Lock()
	client, cancel := m.client, m.cancel
	m.over = true
	m.mu.Unlock()
	if client == nil {
		return
	}
	id, _ := client.GroupMetadata()
	err := client.LeaveGroupContext(ctx)
	cancel() // else Close waits for the answer to a join, which may be a minute away
	client.Close()
	if err != nil && id != "" && !m.b.life.isClosed() {
		m.strikeOff(id)
	}
}

// strikeOffTimeout bounds the good-bye of a member that could not say it in time.
const strikeOffTimeout = 500 * time.Millisecond

// strikeOff takes a member out of the group that has not left it, so that the others need
// not wait until its session has timed out.
func (m *member) strikeOff(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), strikeOffTimeout)
	defer cancel()
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group, req.MemberID = m.group, id
	one := kmsg.NewLeaveGroupRequestMember()
	one.MemberID = id
	req.Members = append(req.Members, one)
	_, _ = req.RequestWith(ctx, m.c.producer)
}

// commit is what is committed of a partition.
type commit struct {
	at       kgo.EpochOffset
	metadata string
}

// commits are those of several partitions, by topic.
type commits map[string]map[int32]commit

func (c commits) set(topic string, partition int32, at commit) {
	if c[topic] == nil {
		c[topic] = make(map[int32]commit)
	}
	c[topic][partition] = at
}

func (c commits) remove(topic string, partition int32) {
	delete(c[topic], partition)
	if len(c[topic]) == 0 {
		delete(c, topic)
	}
}

// commit commits, and tells done of each partition that the server has taken. A server that
// takes no metadata of that size is given none.
func (m *member) commit(ctx context.Context, all commits, done func(topic string, partition int32)) error {
	err := m.commitOnce(ctx, all, done)
	if errors.Is(err, kerr.OffsetMetadataTooLarge) {
		err = m.commitOnce(ctx, all, done)
	}
	return err
}

// commitOnce is one try of commit. The server answers for each partition.
func (m *member) commitOnce(ctx context.Context, all commits, done func(topic string, partition int32)) error {
	offsets := make(map[string]map[int32]kgo.EpochOffset, len(all))
	for topic, partitions := range all {
		offsets[topic] = make(map[int32]kgo.EpochOffset, len(partitions))
		for p, c := range partitions {
			offsets[topic][p] = c.at
		}
	}
	ctx = kgo.PreCommitFnContext(ctx, func(req *kmsg.OffsetCommitRequest) error {
		if m.plain.Load() {
			return nil
		}
		for i := range req.Topics {
			for j := range req.Topics[i].Partitions {
				p := &req.Topics[i].Partitions[j]
				if text := all[req.Topics[i].Topic][p.Partition].metadata; text != "" {
					p.Metadata = &text
				}
			}
		}
		return nil
	})
	var err error
	m.client.CommitOffsetsSync(ctx, offsets, func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, resp *kmsg.OffsetCommitResponse, failed error) {
		if err = failed; err == nil {
			err = m.committed(resp, done)
		}
	})
	return err
}

// committed reads the answer to a commit.
func (m *member) committed(resp *kmsg.OffsetCommitResponse, done func(topic string, partition int32)) error {
	var err error
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			refused := kerr.ErrorForCode(p.ErrorCode)
			if errors.Is(refused, kerr.OffsetMetadataTooLarge) {
				m.plain.Store(true)
			}
			if refused != nil {
				err = errors.Join(err, fmt.Errorf("partition %d of %s: %w", p.Partition, t.Topic, refused))
			} else {
				done(t.Topic, p.Partition)
			}
		}
	}
	return err
}

package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gostream/gostream/broker"
)

var (
	_ broker.Source          = TopicSource{}
	_ broker.SourceDescriber = TopicSource{}
	_ broker.Matcher         = TopicSource{}
)

// The defaults of a source that belongs to a group.
const (
	DefaultCommitInterval = time.Second
	DefaultMaxUncommitted = 1000
	DefaultRevokeTimeout  = 10 * time.Second
	DefaultLeaveTimeout   = time.Minute
)

var errNoGroup = errors.New("there is no consumer group: name one with Group, or for all with kafka.DefaultGroup; without a group read with kafka.Partitions")

// Topic is the source that reads a topic as a member of a consumer group: the members
// share its partitions, and the group's position is kept by the brokers. Deliveries are
// acknowledged one by one in any order; what is committed, and so not repeated after a
// crash, is everything before the first that is not settled.
//
// A topic that does not exist is broker.ErrNotFound; [TopicSource.Create] makes it.
func Topic(name string) TopicSource { return Topics(name) }

// Topics is the source that reads several topics with one membership. Its name is theirs
// with commas between.
func Topics(names ...string) TopicSource {
	return TopicSource{topics: slices.Clone(names), tracking: defaultTracking}
}

// TopicPattern is the source that reads every topic whose whole name the regular
// expression matches, in the syntax of package regexp, but for those that begin with "__".
// Topics that are created later are found when the client next looks, every five minutes
// unless kgo.MetadataMaxAge says otherwise in [ClientOptions], and are read from their
// beginning.
func TopicPattern(pattern string) TopicSource {
	s := TopicSource{pattern: pattern, isPattern: true, tracking: defaultTracking}
	s.re, s.reErr = compilePattern(pattern)
	return s
}

// TopicSource reads topics as a member of a group. Make one with [Topic], [Topics] or
// [TopicPattern]. It is a value: its methods return changed copies.
type TopicSource struct {
	topics    []string
	pattern   string
	isPattern bool
	re        *regexp.Regexp
	reErr     error

	group      string
	given      bool // the group was given
	start      start
	autoCommit bool
	create     *TopicConfig
	tracking   tracking
}

// tracking says how what is delivered and acknowledged is followed.
type tracking struct {
	commitInterval time.Duration
	maxUncommitted int
	revokeTimeout  time.Duration
	leaveTimeout   time.Duration
}

var defaultTracking = tracking{DefaultCommitInterval, DefaultMaxUncommitted, DefaultRevokeTimeout, DefaultLeaveTimeout}

// Group names the consumer group. The default is the broker's [DefaultGroup]; without
// either the source is a mistake that Check reports. So is "".
func (s TopicSource) Group(group string) TopicSource {
	s.group, s.given = group, true
	return s
}

// FromEarliest has a group that has committed nothing begin with the oldest message there
// is. It is the default.
func (s TopicSource) FromEarliest() TopicSource {
	s.start = start{at: earliest}
	return s
}

// FromLatest has a group that has committed nothing begin with what is published after
// Subscribe has returned. Where it begins is committed at once, so that a crash before the
// first acknowledgement loses nothing.
func (s TopicSource) FromLatest() TopicSource {
	s.start = start{at: latest}
	return s
}

// FromTime has a group that has committed nothing begin with what has the timestamp t or
// a later one. A time before 1970 is a mistake that Check reports.
func (s TopicSource) FromTime(t time.Time) TopicSource {
	s.start = start{at: atTime, time: t}
	return s
}

// AutoCommit is at most once: messages are committed before they are handed out, and there
// is no acknowledgement: a message that fails, or that a crash catches, is lost. For
// messages that the next one makes worthless. Without it they are tracked: at least once.
func (s TopicSource) AutoCommit() TopicSource {
	s.autoCommit = true
	return s
}

// Create makes the topics that do not exist, as t says. Those that exist stay as they are.
// It does not go with a pattern.
func (s TopicSource) Create(t TopicConfig) TopicSource {
	t.Configs = maps.Clone(t.Configs)
	s.create = &t
	return s
}

// CommitInterval is how often what was acknowledged is committed; it is also committed
// when a partition is given up, at Close and at Shutdown. A crash repeats what was
// acknowledged since. The default is [DefaultCommitInterval]; d <= 0 is a mistake that
// Check reports.
func (s TopicSource) CommitInterval(d time.Duration) TopicSource {
	s.tracking.commitInterval = d
	return s
}

// MaxUncommitted is how many messages of one partition may be handed out from the first
// on that is not settled. A partition that reaches it is paused until that one is settled,
// and Health names it; the other partitions go on. The default is
// [DefaultMaxUncommitted]; n < 1 is a mistake that Check reports.
func (s TopicSource) MaxUncommitted(n int) TopicSource {
	s.tracking.maxUncommitted = n
	return s
}

// RevokeTimeout is how long a partition that goes to another member waits for the messages
// that are in flight, before what is acknowledged by then is committed and it is let go.
// With five seconds for the commit it must be within the group's rebalance timeout, one minute unless
// kgo.RebalanceTimeout says otherwise. The default is [DefaultRevokeTimeout]; d < 0 is a
// mistake that Check reports. 0 does not wait.
func (s TopicSource) RevokeTimeout(d time.Duration) TopicSource {
	s.tracking.revokeTimeout = d
	return s
}

// LeaveTimeout is how long a subscription that was closed stays in its group for messages
// that are not settled; then they are stale, and other members get them. The default is
// [DefaultLeaveTimeout]; d < 0 is a mistake that Check reports. 0 does not wait.
func (s TopicSource) LeaveTimeout(d time.Duration) TopicSource {
	s.tracking.leaveTimeout = d
	return s
}

// Name is the topic; of several topics their names with commas between; of a pattern the
// pattern.
func (s TopicSource) Name() string {
	if s.isPattern {
		return s.pattern
	}
	return strings.Join(s.topics, ",")
}

// Check reports every mistake in the description, and a broker that is not a *Broker; each
// is broker.ErrInvalid.
func (s TopicSource) Check(b broker.Broker) error {
	var m mistakes
	switch {
	case s.isPattern:
		m.add(s.reErr)
		if s.create != nil {
			m.add(errors.New("Create does not go with a pattern: it names no topic"))
		}
	case len(s.topics) == 0:
		m.add(errors.New("there is no topic"))
	}
	for i, topic := range s.topics {
		m.add(checkTopic(topic))
		if slices.Contains(s.topics[:i], topic) {
			m.add(fmt.Errorf("the topic %s is there twice", broker.Quote(topic)))
		}
	}
	if s.given {
		m.add(checkGroup(s.group))
	} else if k, ok := b.(*Broker); ok && k != nil && k.config.group == "" {
		m.add(errNoGroup)
	}
	if k, ok := b.(*Broker); ok && k != nil && !s.autoCommit {
		k.config.probe.Do(k.config.probeClientOptions)
		if d := k.config.rebalanceTimeout; s.tracking.revokeTimeout+commitTimeout > d {
			m.add(fmt.Errorf("RevokeTimeout is %v: with %v for the commit it must be within the group's rebalance timeout, %v, else the group goes on without waiting", s.tracking.revokeTimeout, commitTimeout, d))
		}
	}
	m.add(s.start.check())
	m.add(s.create.check())
	m.add(s.checkTracking())
	return m.of(s, s.Name(), b)
}

func (s TopicSource) checkTracking() error {
	var m mistakes
	t := s.tracking
	if s.autoCommit {
		if t != defaultTracking {
			m.add(errors.New("AutoCommit tracks nothing: take out CommitInterval, MaxUncommitted, RevokeTimeout and LeaveTimeout, or AutoCommit"))
		}
		return errors.Join(m...)
	}
	if t.commitInterval <= 0 {
		m.add(fmt.Errorf("CommitInterval is %v: it must be positive", t.commitInterval))
	}
	if t.maxUncommitted < 1 {
		m.add(fmt.Errorf("MaxUncommitted is %d: at least one message must be allowed to be out", t.maxUncommitted))
	}
	if t.revokeTimeout < 0 {
		m.add(fmt.Errorf("RevokeTimeout is %v: 0 does not wait", t.revokeTimeout))
	}
	if t.leaveTimeout < 0 {
		m.add(fmt.Errorf("LeaveTimeout is %v: 0 does not wait", t.leaveTimeout))
	}
	return errors.Join(m...)
}

// groupOn is the group on that broker.
func (s TopicSource) groupOn(b *Broker) string {
	if s.given {
		return s.group
	}
	return b.config.group
}

// bindingVersion is that of the AsyncAPI bindings for Kafka.
const bindingVersion = "0.5.0"

// Spec describes the source. The group of a source without one of its own is the
// broker's, and not known here.
func (s TopicSource) Spec() broker.SourceSpec {
	spec := broker.SourceSpec{Group: s.group, Properties: trackedProperties}
	p := &spec.Properties
	p.Backlog = s.start.at == earliest
	if s.autoCommit {
		p.Redelivers = false
	}
	channel := map[string]any{"bindingVersion": bindingVersion}
	if len(s.topics) == 1 {
		channel["topic"] = s.topics[0]
	}
	if c := s.create; c != nil {
		if c.Partitions > 0 {
			channel["partitions"] = c.Partitions
		}
		if c.ReplicationFactor > 0 {
			channel["replicas"] = c.ReplicationFactor
		}
	}
	operation := map[string]any{"bindingVersion": bindingVersion}
	if s.group != "" {
		operation["groupId"] = map[string]any{"type": "string", "enum": []string{s.group}}
	}
	spec.Bindings = map[string]any{kindOfBroker: map[string]any{"channel": channel, "operation": operation}}
	return spec
}

// Match reports whether the source reads that topic.
func (s TopicSource) Match(name string) bool {
	if s.isPattern {
		return matchesPattern(s.re, name)
	}
	return slices.Contains(s.topics, name)
}

// Subscribe joins the group. It returns when the group has given out its partitions for
// the first time, and where they are read from is known. A ctx without a deadline gets one
// of 30 s.
func (s TopicSource) Subscribe(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
	if err := s.Check(b); err != nil {
		return nil, err
	}
	k := b.(*Broker)
	if s.autoCommit {
		return k.subscribeAutoCommit(ctx, s)
	}
	return k.subscribeTracked(ctx, s)
}

// String returns the call that makes the source, without its settings.
func (s TopicSource) String() string {
	var text string
	switch {
	case s.isPattern:
		text = fmt.Sprintf("kafka.TopicPattern(%s)", quotePattern(s.pattern))
	case len(s.topics) == 1:
		text = fmt.Sprintf("kafka.Topic(%s)", broker.Quote(s.topics[0]))
	default:
		quoted := make([]string, len(s.topics))
		for i, topic := range s.topics {
			quoted[i] = broker.Quote(topic)
		}
		text = fmt.Sprintf("kafka.Topics(%s)", strings.Join(quoted, ", "))
	}
	if s.given {
		text += fmt.Sprintf(".Group(%s)", broker.Quote(s.group))
	}
	if s.autoCommit {
		text += ".AutoCommit()"
	}
	return text
}

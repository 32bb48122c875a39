package memory

import (
	"context"
	"errors"
	"fmt"

	"github.com/gostream/gostream/broker"
)

// Queue is the source of a group: subscriptions with the same name and the same
// group share one queue, and each message goes to one of them. name is a concrete
// name or a pattern, see [Pattern]. The queue exists from the first subscription on
// and stays when all have left; what is published then waits in it.
func Queue(name, group string) QueueSource {
	return QueueSource{name: name, group: group, limit: DefaultLimit}
}

// QueueSource is the source of a group. Make one with [Queue]. It is a value: its
// methods return changed copies. It implements [broker.Source],
// [broker.SourceDescriber] and [broker.Matcher].
type QueueSource struct {
	name, group string
	limit       int
}

// Limit returns the source with at most n deliveries unsettled at once, for each
// subscription. The default is [DefaultLimit]; n < 1 is a mistake that Check reports.
func (s QueueSource) Limit(n int) QueueSource {
	s.limit = n
	return s
}

// Name is the name or the pattern.
func (s QueueSource) Name() string { return s.name }

// Check reports a name that is neither a concrete name nor a pattern, an empty
// group, a limit below 1, and a broker that is not a *Broker; each is
// broker.ErrInvalid.
func (s QueueSource) Check(b broker.Broker) error {
	var mistake error
	if s.group == "" {
		mistake = errors.New("the group is empty: for a subscription that shares with nobody use memory.Pattern")
	}
	return checkSource(s.String(), s.name, s.limit, b, mistake)
}

// Spec describes the source.
func (s QueueSource) Spec() broker.SourceSpec {
	return broker.SourceSpec{Group: s.group, Limit: s.limit, Properties: properties(0)}
}

// Match reports whether the source receives what is published to the concrete
// name.
func (s QueueSource) Match(name string) bool { return matches(s.name, name) }

// Subscribe opens the subscription on b.
func (s QueueSource) Subscribe(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
	if err := s.Check(b); err != nil {
		return nil, err
	}
	return b.(*Broker).subscribe(ctx, queueKey{s.name, s.group}, s.limit)
}

// String returns the call that makes the source.
func (s QueueSource) String() string {
	return fmt.Sprintf("memory.Queue(%s, %s)", broker.Quote(s.name), broker.Quote(s.group))
}

// Pattern is the source of a subscription that gets a copy of every message whose
// name matches. In a pattern a whole token may be "*", which stands for any one
// token, and the last may be ">", which stands for one or more: "orders.*" matches
// "orders.new", "orders.>" matches that and "orders.new.eu" and not "orders". A
// concrete name is a pattern, too: Pattern("orders") is the by-name subscription
// with a limit that can be set.
func Pattern(pattern string) PatternSource {
	return PatternSource{pattern: pattern, limit: DefaultLimit}
}

// PatternSource is the source of a subscription by pattern. Make one with
// [Pattern]. It is a value: its methods return changed copies. It implements
// [broker.Source], [broker.SourceDescriber] and [broker.Matcher].
type PatternSource struct {
	pattern string
	limit   int
}

// Limit returns the source with at most n deliveries unsettled at once. The
// default is [DefaultLimit]; n < 1 is a mistake that Check reports.
func (s PatternSource) Limit(n int) PatternSource {
	s.limit = n
	return s
}

// Name is the pattern.
func (s PatternSource) Name() string { return s.pattern }

// Check reports a pattern that is none, a limit below 1, and a broker that is not a
// *Broker; each is broker.ErrInvalid.
func (s PatternSource) Check(b broker.Broker) error {
	return checkSource(s.String(), s.pattern, s.limit, b, nil)
}

// Spec describes the source. Its subscriptions do not compete: each gets a copy.
func (s PatternSource) Spec() broker.SourceSpec {
	p := properties(0)
	p.CompetingConsumers = false
	return broker.SourceSpec{Limit: s.limit, Properties: p}
}

// Match reports whether the pattern matches the concrete name.
func (s PatternSource) Match(name string) bool { return matches(s.pattern, name) }

// Subscribe opens the subscription on b.
func (s PatternSource) Subscribe(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
	if err := s.Check(b); err != nil {
		return nil, err
	}
	return b.(*Broker).subscribe(ctx, queueKey{name: s.pattern}, s.limit)
}

// String returns the call that makes the source.
func (s PatternSource) String() string {
	return fmt.Sprintf("memory.Pattern(%s)", broker.Quote(s.pattern))
}

// checkSource checks what the sources have in common. mistake is one found before,
// or nil.
func checkSource(what, pattern string, limit int, b broker.Broker, mistake error) error {
	mistakes := []error{mistake}
	if err := checkPattern(pattern); err != nil {
		mistakes = append(mistakes, err)
	}
	if limit < 1 {
		mistakes = append(mistakes, fmt.Errorf("the limit is %d: at least one delivery must be allowed to be unsettled", limit))
	}
	var err error
	if err = errors.Join(mistakes...); err != nil {
		err = fmt.Errorf("%s: %w", what, err)
	}
	if m, ok := b.(*Broker); !ok || m == nil {
		err = errors.Join(err, fmt.Errorf("%s cannot subscribe on %T: it needs a *memory.Broker", what, b))
	}
	if err != nil {
		return fail("check", pattern, broker.ErrInvalid, err)
	}
	return nil
}

// matches is match for a pattern and a name that were not checked.
func matches(pattern, name string) bool {
	return checkPattern(pattern) == nil && checkName(name) == nil && match(pattern, name)
}

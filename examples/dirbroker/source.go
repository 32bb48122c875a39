package dirbroker

import (
	"context"
	"errors"
	"fmt"

	"github.com/gostream/gostream/broker"
)

// DefaultLimit is how many deliveries of one subscription may be unsettled at once
// unless its source says otherwise.
const DefaultLimit = 1000

// Queue is the source of a queue, for a limit other than [DefaultLimit]. Without one
// it is the same as [broker.ByName].
func Queue(name string) QueueSource { return QueueSource{name: name, limit: DefaultLimit} }

// QueueSource is the source of a queue. It is a value: its methods return changed
// copies.
type QueueSource struct {
	name  string
	limit int
}

// Limit returns the source with at most n deliveries unsettled at once. The default
// is [DefaultLimit]; n < 1 is a mistake that Check reports.
func (s QueueSource) Limit(n int) QueueSource {
	s.limit = n
	return s
}

// Name is the name of the queue.
func (s QueueSource) Name() string { return s.name }

// Check reports a name that is none, a limit below 1, and a broker that is not a
// *Broker; each is [broker.ErrInvalid].
func (s QueueSource) Check(b broker.Broker) error {
	mistakes := []error{checkName(s.name)}
	if s.limit < 1 {
		mistakes = append(mistakes, fmt.Errorf("the limit is %d: at least one delivery must be allowed to be unsettled", s.limit))
	}
	if d, ok := b.(*Broker); !ok || d == nil {
		mistakes = append(mistakes, fmt.Errorf("dirbroker.Queue cannot subscribe on %T: it needs a *dirbroker.Broker", b))
	}
	if err := errors.Join(mistakes...); err != nil {
		return fail("check", s.name, broker.ErrInvalid, err)
	}
	return nil
}

// Spec describes the source. Its consumers are one group, that of the queue.
func (s QueueSource) Spec() broker.SourceSpec {
	return broker.SourceSpec{Group: s.name, Limit: s.limit, Properties: properties(0)}
}

// Subscribe opens a subscription on b.
func (s QueueSource) Subscribe(ctx context.Context, b broker.Broker) (broker.Subscription, error) {
	if err := s.Check(b); err != nil {
		return nil, err
	}
	return b.(*Broker).subscribe(ctx, s.name, s.limit)
}

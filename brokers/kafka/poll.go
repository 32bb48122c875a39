package kafka

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// poller waits for records in such a way that the wait can be broken off from elsewhere,
// and that a rebalance can be sure that nothing is on its way from before it.
type poller struct {
	mu      sync.Mutex
	done    sync.Cond          // nothing runs any more, and what it brought is taken in
	cancel  context.CancelFunc // of what runs; nil for nothing
	waiting bool               // it is a poll, which may be broken off to see to something else
	runs    uint64             // how many are over
}

func (p *poller) init() { p.done.L = &p.mu }

// poll waits for at most n records and hands them to take; ready, asked under the lock of
// wake, says that there is no need to wait. Nothing is lost when it is broken off.
func (p *poller) poll(ctx context.Context, client *kgo.Client, n int, ready func() bool, take func(context.Context, kgo.Fetches)) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.mu.Lock()
	if ready() {
		p.mu.Unlock()
		return
	}
	p.cancel, p.waiting = cancel, true
	p.mu.Unlock()
	defer p.over()
	fetches := client.PollRecords(ctx, n)
	take(ctx, fetches)
	if ctx.Err() == nil && fetches.Empty() {
		// Errors alone: they come as fast as they are taken while a broker is gone.
		select {
		case <-time.After(errorPause):
		case <-ctx.Done():
		}
	}
}

// errorPause is how long a poll that brought nothing but errors waits.
const errorPause = 20 * time.Millisecond

// run runs f, whose context barrier ends and wake does not.
func (p *poller) run(ctx context.Context, f func(context.Context)) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.mu.Lock()
	p.cancel = cancel
	p.mu.Unlock()
	defer p.over()
	f(ctx)
}

func (p *poller) over() {
	p.mu.Lock()
	p.cancel, p.waiting = nil, false
	p.runs++
	p.mu.Unlock()
	p.done.Broadcast()
}

// wake breaks off the poll that runs, if one does.
func (p *poller) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting {
		p.cancel()
	}
}

// barrier breaks off whatever runs, and returns when what it has brought is taken in. What
// begins after is of no interest: the client has forgotten what was revoked by then.
func (p *poller) barrier() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cancel == nil {
		return
	}
	p.cancel()
	for run := p.runs; p.runs == run; {
		p.done.Wait()
	}
}

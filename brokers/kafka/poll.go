package kafka

import (
	"context"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// poller waits for records in such a way that the wait can be broken off from elsewhere,
// and that a rebalance can be sure that nothing is on its way from before it.
type poller struct {
	mu      sync.Mutex
	done    sync.Cond          // nothing runs any more, and what it brought is taken in
	cancel  context.CancelFunc // of what runs; nil for nothing
	waiting bool               // it is a poll, which may be broken off to see to something else
}

func (p *poller) init() { p.done.L = &p.mu }

// poll waits for at most n records and hands them to take; ready, asked under the lock of
// wake, says that there is no need to wait. Nothing is lost when it is broken off.
func (p *poller) poll(ctx context.Context, client *kgo.Client, n int, ready func() bool, take func(kgo.Fetches)) {
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
	take(client.PollRecords(ctx, n))
}

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

// barrier breaks off whatever runs, and returns when what it has brought is taken in.
func (p *poller) barrier() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.cancel != nil {
		p.cancel()
		p.done.Wait()
	}
}

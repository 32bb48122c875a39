package gostream

import (
	"container/heap"
	"time"
)

// parked is a delivery, or several of one batch, held unsettled for a later time.
type parked struct {
	frame   *frame
	batch   []*frame     // of a batch; frame is nil then
	pending *pendingSend // a publish to repeat; nil: the handler is called again
	alone   bool         // taken out of a batch that failed: the same attempt goes on
	held    bool         // until the drain, which gives it back
	due     time.Time
	index   int // in the heap
}

// frames are the deliveries.
func (p *parked) frames() []*frame {
	if p.batch != nil {
		return p.batch
	}
	return []*frame{p.frame}
}

// park holds p for delay, without a worker. It counts in MaxInFlight. When its time
// has come it needs a worker, and takes it from a Receive that waits. Where a drain
// has begun it is given back instead.
func (c *consumer) park(p *parked, delay time.Duration) {
	p.due = time.Now().Add(delay)
	if p.frame != nil && p.frame.lane != nil {
		p.frame.lane.block(p.frame, c.svc.since())
	}
	if c.svc.double != nil {
		for _, f := range p.frames() {
			c.svc.double.Parked(f.delivery.msg, p.due)
		}
	}
	c.mu.Lock()
	if c.stopping {
		c.mu.Unlock()
		for _, f := range p.frames() {
			c.giveBack(f, nil)
		}
		return
	}
	heap.Push(&c.parking, p)
	if p.index == 0 {
		c.setTimer(delay)
	}
	c.mu.Unlock()
	if c.obs.parked != nil {
		for _, f := range p.frames() {
			c.obs.onParked(&f.delivery, p.due)
		}
	}
}

// hold keeps a delivery whose failure shuts the app down. The drain gives it back;
// given back now, it would come again, and fail again, until then.
func (c *consumer) hold(f *frame, cause error) {
	const beyondAnyDrain = 1000 * time.Hour
	c.attemptEnded(f, OutcomeGivenBack, cause, 0)
	c.park(&parked{frame: f, held: true}, beyondAnyDrain)
}

// setTimer has parkedDue called after d; mu is held.
func (c *consumer) setTimer(d time.Duration) {
	if c.timer == nil {
		c.timer = time.AfterFunc(d, c.parkedDue)
		return
	}
	c.timer.Reset(d)
}

// parkedDue moves what is due to the front of the work. While the subscription is
// paused nothing is due; resume calls it again.
func (c *consumer) parkedDue() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paused || c.stopping {
		return
	}
	now := time.Now()
	for len(c.parking) > 0 && !c.parking[0].due.After(now) {
		c.nowDue(heap.Pop(&c.parking).(*parked))
	}
	if len(c.parking) > 0 {
		c.setTimer(time.Until(c.parking[0].due))
	}
	if len(c.due)+len(c.visits) > 0 {
		c.interrupt()
	}
}

// nowDue hands p to its lane, where it has one, else to the next worker; mu is held.
func (c *consumer) nowDue(p *parked) {
	if p.frame == nil || p.frame.lane == nil {
		c.due = append(c.due, p)
		return
	}
	if ln := p.frame.lane; ln.wake(task{parked: p}) {
		c.visits = append(c.visits, ln)
	}
}

// takeParked empties the parking; mu is held.
func (c *consumer) takeParked() []*parked {
	all := c.due
	c.due = nil
	for len(c.parking) > 0 {
		all = append(all, heap.Pop(&c.parking).(*parked))
	}
	if c.timer != nil {
		c.timer.Stop()
	}
	return all
}

// parkedHeap is a heap.Interface by due time.
type parkedHeap []*parked

func (h parkedHeap) Len() int           { return len(h) }
func (h parkedHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h parkedHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push is part of heap.Interface.
func (h *parkedHeap) Push(x any) {
	p := x.(*parked)
	p.index = len(*h)
	*h = append(*h, p)
}

// Pop is part of heap.Interface.
func (h *parkedHeap) Pop() any {
	old := *h
	p := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return p
}

package brokertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gostream/gostream/broker"
)

// cutter cuts the connection on demand.
type cutter struct {
	e    *env
	cut  chan struct{} // asks for a cut
	done chan struct{} // it is over
}

func (e *env) cutter() *cutter {
	return &cutter{e, make(chan struct{}, 1), make(chan struct{}, 1)}
}

// run cuts, each time for half of Quiet, until ctx ends or nobody asks any more.
func (c *cutter) run(ctx context.Context) error {
	for {
		select {
		case _, ok := <-c.cut:
			if !ok {
				return nil
			}
		case <-ctx.Done():
			return nil
		}
		restore, err := c.e.interrupt()
		if err != nil {
			return err
		}
		c.e.wait(c.e.h.Quiet / 2)
		if err := restore(); err != nil {
			return err
		}
		c.done <- struct{}{}
	}
}

// over waits for the end of a cut.
func (c *cutter) over(ctx context.Context) {
	select {
	case <-c.done:
	case <-ctx.Done():
	}
}

// flow is a stream of numbered messages through cuts.
type flow struct {
	e       *env
	l       *link // receives
	s       *stream
	pub     *link // publishes
	n, keys int
	index   map[string]int // the number of each payload
	window  int            // how many deliveries are unsettled at a time

	mu        sync.Mutex
	accepted  []bool // Publish returned nil
	published bool   // all was published

	// Of the receiver.
	first    []int        // the numbers in the order in which they first came
	seen     []bool       // it came
	acked    []bool       // Ack returned nil
	owed     map[int]bool // it was stale when it was settled and must come again
	repeated int
}

const flowCuts = 10

func (e *env) newFlow() (*flow, error) {
	t, err := e.target()
	if err != nil {
		return nil, err
	}
	f := &flow{e: e, n: max(e.h.Load, 4*flowCuts), keys: 1, window: 8, index: make(map[string]int), owed: make(map[int]bool)}
	if f.pub, err = e.dial(t); err != nil {
		return nil, err
	}
	if f.l, f.s, err = e.openOn(t); err != nil {
		return nil, err
	}
	if f.l.props.Keys != broker.KeysNone {
		f.keys = 8
	}
	if limit := e.specOf(t, f.l.b).Limit; limit > 0 {
		f.window = min(f.window, limit)
	}
	f.accepted, f.seen, f.acked = make([]bool, f.n), make([]bool, f.n), make([]bool, f.n)
	for i, p := range numbered("m", f.n) {
		f.index[p] = i
	}
	return f, nil
}

// publish publishes all messages, each once, and asks for a cut in the middle of each
// part.
func (f *flow) publish(ctx context.Context, c *cutter) error {
	defer close(c.cut)
	part := f.n / flowCuts
	for i := 0; i < f.n && ctx.Err() == nil; i++ {
		if i%part == part/2 && i/part < flowCuts {
			c.cut <- struct{}{}
		}
		msg := broker.OutgoingMessage{Payload: fmt.Appendf(nil, "m%d", i)}
		if f.keys > 1 {
			msg.Key = fmt.Appendf(nil, "key%d", i%f.keys)
		}
		// An error while the connection is lost means that the outcome is unknown.
		err := f.pub.try(msg)
		if errors.Is(err, broker.ErrClosed) || errors.Is(err, broker.ErrNotConnected) {
			return fmt.Errorf("publish while the connection was lost: %w", err)
		}
		f.mu.Lock()
		f.accepted[i] = err == nil
		f.mu.Unlock()
		if i%part == part-1 && i/part < flowCuts {
			c.over(ctx)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.published = true
	return nil
}

// receive receives until all that was accepted has come and nothing more does.
func (f *flow) receive(ctx context.Context) error {
	var hand []*delivery
	progress := time.Now()
	for ctx.Err() == nil {
		d, err := f.poll(ctx)
		if err != nil {
			return fmt.Errorf("receive while the connection was cut and came back: %w", err)
		}
		keep := 0
		if d != nil {
			progress = time.Now()
			if err := f.came(d); err != nil {
				return err
			}
			hand = append(hand, d)
			keep = f.window - 1
		}
		for len(hand) > keep {
			if err := f.settle(hand[0]); err != nil {
				return err
			}
			hand = hand[1:]
		}
		if d == nil {
			missing, published := f.missing()
			switch {
			case published && missing == "":
				return nil
			case published && time.Since(progress) > f.e.h.Timeout:
				return fmt.Errorf("nothing came for %v: %s", f.e.h.Timeout, missing)
			}
		}
	}
	return nil
}

// poll returns the next delivery, nil where none comes within Quiet.
func (f *flow) poll(ctx context.Context) (*delivery, error) {
	ctx, cancel := context.WithTimeout(ctx, f.e.h.Quiet)
	defer cancel()
	var d *delivery
	err := f.e.bounded(ctx, "Receive", func(ctx context.Context) (err error) {
		d, err = f.s.raw(ctx)
		return err
	})
	if err != nil && ctx.Err() != nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// came enters a delivery.
func (f *flow) came(d *delivery) error {
	i, ok := f.index[d.text]
	if !ok {
		return fmt.Errorf("%v came, which was never published", d)
	}
	delete(f.owed, i)
	if !f.seen[i] {
		f.seen[i] = true
		f.first = append(f.first, i)
		return nil
	}
	f.repeated++
	if n, ok := broker.DeliveryCount(d.IncomingMessage); ok && n < 2 {
		return fmt.Errorf("%v came again after a cut, and its delivery count is %d", d, n)
	}
	return nil
}

// settle acknowledges d, and tries again where the connection was lost.
func (f *flow) settle(d *delivery) error {
	i := f.index[d.text]
	var failed error
	err := f.e.eventually(func() string {
		failed = nil
		switch err := f.e.call("Ack", d.Ack); {
		case err == nil:
			f.acked[i] = true
			delete(f.owed, i)
		case errors.Is(err, broker.ErrStale):
			if !f.acked[i] {
				f.owed[i] = true
			}
		case errors.Is(err, broker.ErrSettled): // an earlier try did it
		case errors.Is(err, broker.ErrClosed), errors.Is(err, broker.ErrNotConnected), errors.Is(err, errors.ErrUnsupported):
			failed = fmt.Errorf("ack of %v while the connection was lost: %w", d, err)
		default:
			return fmt.Sprintf("Ack of %v: %v", d, err)
		}
		return ""
	})
	return errors.Join(err, failed)
}

// missing says what must still come, and whether all was published.
func (f *flow) missing() (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var lost []int
	for i, ok := range f.accepted {
		if ok && !f.seen[i] {
			lost = append(lost, i)
		}
	}
	switch {
	case len(lost) > 0:
		return fmt.Sprintf("%d of %d messages whose Publish returned nil are missing, the first is number %d", len(lost), f.n, lost[0]), f.published
	case len(f.owed) > 0:
		return fmt.Sprintf("%d deliveries were stale when they were settled, and did not come again", len(f.owed)), f.published
	}
	return "", f.published
}

// inOrder fails unless, of each key, the messages first came in the order in which
// they were published. Those whose publish failed may be late.
func (f *flow) inOrder() error {
	keys := f.keys
	if f.l.props.Ordered {
		keys = 1
	} else if !f.l.props.OrderedByKey {
		return nil
	}
	last := make([]int, keys)
	for _, i := range f.first {
		if !f.accepted[i] {
			continue
		}
		if i < last[i%keys] {
			return fmt.Errorf("across a cut message %d came after message %d, which was published later with the same key or on an ordered source", i, last[i%keys])
		}
		last[i%keys] = i
	}
	return nil
}

func checkCuts(e *env) error {
	f, err := e.newFlow()
	if err != nil {
		return err
	}
	c := e.cutter()
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	stopping := func(f func(ctx context.Context) error) func() error {
		return func() error {
			err := f(ctx)
			if err != nil {
				cancel()
			}
			return err
		}
	}
	err = e.together(
		stopping(c.run),
		stopping(func(ctx context.Context) error { return f.publish(ctx, c) }),
		stopping(f.receive),
	)
	if err != nil {
		return err
	}
	if err := f.inOrder(); err != nil {
		return err
	}
	// The acknowledgements are durable now.
	if err := f.s.close(); err != nil {
		return err
	}
	if err := e.shutdown(f.l.b); err != nil {
		return err
	}
	_, again, err := e.openOn(f.l.t)
	if err != nil {
		return err
	}
	d, err := again.untilQuiet()
	if err == nil && d != nil {
		err = fmt.Errorf("%v came on another connection, and Ack, Close and Shutdown had returned nil", d)
	}
	return err
}

func checkCutPublishes(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	publisher, err := e.dial(l.t)
	if err != nil {
		return err
	}
	const publishers, each, cuts = 4, 30, 3
	c := e.cutter()
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	var mu sync.Mutex
	accepted := make(map[string]bool)
	work := []func() error{
		func() error { defer cancel(); return c.run(ctx) },
		func() error {
			defer close(c.cut)
			for range cuts {
				c.cut <- struct{}{}
				c.over(ctx)
				e.wait(e.h.Quiet / 10)
			}
			return nil
		},
	}
	for p := range publishers {
		work = append(work, func() error {
			for _, payload := range numbered(fmt.Sprintf("p%d-", p), each) {
				if publisher.publish(payload) == nil {
					mu.Lock()
					accepted[payload] = true
					mu.Unlock()
				}
				e.wait(e.h.Quiet / 20)
			}
			return nil
		})
	}
	if err := e.together(work...); err != nil {
		return err
	}
	all := len(accepted)
	for len(accepted) > 0 {
		d, err := s.receive()
		if err != nil {
			return fmt.Errorf("%d of %d messages whose Publish returned nil are missing: %w", len(accepted), all, err)
		}
		delete(accepted, d.text)
		if err := d.ack(); err != nil {
			return err
		}
	}
	if all == 0 {
		return fmt.Errorf("of %d publishes through %d short cuts none returned nil", publishers*each, cuts)
	}
	return nil
}

package brokertest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gostream/gostream/broker"
)

// batchReceiveChecks: several deliveries at once.
var batchReceiveChecks = []check{
	{
		name:  "size",
		rule:  "a batch has at least one delivery and at most len(dst), without an error, and nothing is lost or repeated between batches",
		where: "broker.BatchReceiver, ReceiveBatch",
		run:   withBatches(checkBatchSize),
	},
	{
		name:  "first",
		rule:  "ReceiveBatch blocks for the first delivery",
		where: "broker.BatchReceiver, ReceiveBatch",
		run:   withBatches(checkBatchFirst),
	},
	{
		name:  "available",
		rule:  "ReceiveBatch returns what is there, without waiting for more",
		where: "broker.BatchReceiver, ReceiveBatch",
		run:   withBatches(checkBatchAvailable),
	},
	{
		name:  "empty",
		rule:  "an empty dst returns 0, nil and takes nothing",
		where: "broker.BatchReceiver, ReceiveBatch",
		run:   withBatches(checkBatchEmpty),
	},
	{
		name:  "cancel",
		rule:  "when ctx ends ReceiveBatch returns its error, and a message that was arriving is not lost",
		where: "broker.BatchReceiver, ReceiveBatch; broker.Subscription, Receive",
		run:   withBatches(checkBatchCancel),
	},
	{
		name:  "close",
		rule:  "after Close ReceiveBatch answers ErrClosed, even with a backlog, and one that waits returns",
		where: "broker.BatchReceiver, ReceiveBatch; broker.Subscription, Close",
		run:   withBatches(checkBatchClose),
	},
	{
		name:  "shutdown",
		rule:  "after Shutdown ReceiveBatch answers ErrClosed, and one that waits returns",
		where: "broker.BatchReceiver, ReceiveBatch; package broker, Rules that hold for every handle",
		run:   withBatches(checkBatchShutdown),
	},
	{
		name:  "settle",
		rule:  "the deliveries of a batch are settled one by one, in any order",
		where: "broker.IncomingMessage",
		needs: []need{needRedelivers, needUnsettled(4)},
		run:   withBatches(checkBatchSettle),
	},
	{
		name:  "limit",
		rule:  "a batch leaves no more deliveries unsettled than the source's limit",
		where: "broker.Subscription; broker.SourceSpec, Limit",
		needs: []need{needRedelivers, needLimit},
		run:   withBatches(checkBatchLimit),
	},
}

// mostLimited is the largest limit that a check fills up.
const mostLimited = 500

// needLimit is a need of a declared limit that can be reached.
var needLimit = need{"SourceSpec.Limit", func(e *env) (string, error) {
	spec, err := e.spec()
	switch {
	case err != nil || spec.Limit > 0 && spec.Limit <= mostLimited:
		return "", err
	case spec.Limit == 0:
		return "the source does not say how many deliveries may be unsettled", nil
	default:
		return fmt.Sprintf("the limit is %d, the check reaches %d", spec.Limit, mostLimited), nil
	}
}}

// withBatches hands an open subscription that receives batches to f.
func withBatches(f func(e *env, l *link, s *stream) error) func(*env) error {
	return func(e *env) error {
		l, s, err := e.open()
		if err != nil {
			return err
		}
		err = e.call("ReceiveBatch", func(ctx context.Context) error {
			_, err := broker.ReceiveBatch(ctx, s.sub, nil)
			return err
		})
		if errors.Is(err, errors.ErrUnsupported) {
			e.saw(capBatchReceive, "no")
			return e.notApplicable("the subscription does not receive batches")
		}
		e.saw(capBatchReceive, "yes")
		return f(e, l, s)
	}
}

// filler is put where a batch must not write, and where it must.
type filler struct{ broker.IncomingMessage }

// rawBatch receives a batch of at most size and checks its shape. On an error there
// is no delivery.
func (s *stream) rawBatch(ctx context.Context, size int) ([]*delivery, error) {
	const beyond = 3
	room := make([]broker.IncomingMessage, size+beyond)
	for i := range room {
		room[i] = filler{}
	}
	n, err := broker.ReceiveBatch(ctx, s.sub, room[:size])
	switch {
	case err != nil && n != 0:
		return nil, shapeError("ReceiveBatch returned %d together with the error %q", n, err)
	case err != nil:
		return nil, err
	case n > size:
		return nil, shapeError("ReceiveBatch returned %d for a dst of %d", n, size)
	case n <= 0:
		return nil, shapeError("ReceiveBatch returned %d, nil for a dst of %d: it must wait for the first delivery", n, size)
	}
	for i, m := range room {
		_, untouched := m.(filler)
		switch {
		case i < n && (untouched || m == nil):
			return nil, shapeError("ReceiveBatch returned %d and did not set element %d", n, i)
		case i >= size && !untouched:
			return nil, shapeError("ReceiveBatch wrote to element %d beyond a dst of %d", i, size)
		}
	}
	ds := make([]*delivery, n)
	for i, m := range room[:n] {
		ds[i] = &delivery{s: s, IncomingMessage: m, text: string(m.Payload())}
	}
	return ds, nil
}

// errShape says that a batch has a wrong shape, whatever the context says.
var errShape = errors.New("a batch of a wrong shape")

func shapeError(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errShape, fmt.Errorf(format, args...))
}

// batch is rawBatch with the ledger: it leaves out what repeats a delivery in hand.
// It may return none.
func (s *stream) batch(ctx context.Context, size int) ([]*delivery, error) {
	ds, err := s.rawBatch(ctx, size)
	if err != nil {
		return nil, err
	}
	kept := ds[:0]
	for _, d := range ds {
		repeated, err := s.book.received(d)
		if err != nil {
			return nil, err
		}
		if !repeated {
			kept = append(kept, d)
		}
	}
	return kept, nil
}

// receiveBatch receives a batch, which must come within the Timeout.
func (s *stream) receiveBatch(size int) (ds []*delivery, err error) {
	err = s.e.call("ReceiveBatch", func(ctx context.Context) (err error) {
		ds, err = s.batch(ctx, size)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ReceiveBatch with a dst of %d: %w", size, err)
	}
	return ds, nil
}

func checkBatchSize(e *env, l *link, s *stream) error {
	const n = 60
	want := numbered("m", n)
	sizes := []int{1, 2, 7, 3, 100, 4}
	next := make(map[string]bool, n)
	for _, w := range want {
		next[w] = true
	}
	if err := l.publish(want...); err != nil {
		return err
	}
	for i, got := 0, 0; got < n; i++ {
		var ds []*delivery
		var err error
		if i%4 == 3 { // one by one in between
			var d *delivery
			d, err = s.receive()
			ds = []*delivery{d}
		} else {
			ds, err = s.receiveBatch(sizes[i%len(sizes)])
		}
		if err != nil {
			return fmt.Errorf("%d of %d had come: %w", got, n, err)
		}
		for _, d := range ds {
			if !next[d.text] {
				return fmt.Errorf("%v came, which was not published or came before", d)
			}
			if l.props.Ordered && d.text != want[got] {
				return fmt.Errorf("%v came as number %d, expected %q", d, got+1, want[got])
			}
			delete(next, d.text)
			got++
		}
		if err := ackAll(ds...); err != nil {
			return err
		}
	}
	return s.quiet()
}

func checkBatchFirst(e *env, l *link, s *stream) error {
	begin := time.Now()
	var ds []*delivery
	var came time.Duration
	err := e.together(
		func() (err error) {
			ds, err = s.receiveBatch(5)
			came = time.Since(begin)
			return err
		},
		func() error {
			e.wait(e.h.Quiet)
			return l.publish("late")
		},
	)
	switch {
	case err != nil:
		return err
	case len(ds) != 1 || ds[0].text != "late":
		return fmt.Errorf("ReceiveBatch returned %v, expected the one message that was published while it waited", ds)
	case came < e.h.Quiet:
		return fmt.Errorf("ReceiveBatch returned after %v, and the message was published after %v", came, e.h.Quiet)
	}
	return ackAll(ds...)
}

func checkBatchAvailable(e *env, l *link, s *stream) error {
	const n = 3
	if err := l.publish(numbered("m", n)...); err != nil {
		return err
	}
	for got := 0; got < n; {
		begin := time.Now()
		ds, err := s.receiveBatch(50)
		if err != nil {
			return err
		}
		if took := time.Since(begin); took > e.h.Timeout/2 {
			return fmt.Errorf("ReceiveBatch returned %d messages after %v, with a context that ends after %v: it waited for more", len(ds), took, e.h.Timeout)
		}
		got += len(ds)
		if err := ackAll(ds...); err != nil {
			return err
		}
	}
	return nil
}

func checkBatchEmpty(e *env, l *link, s *stream) error {
	empty := func(when string, dst []broker.IncomingMessage) error {
		var n int
		err := e.call("ReceiveBatch with an empty dst", func(ctx context.Context) (err error) {
			n, err = broker.ReceiveBatch(ctx, s.sub, dst)
			return err
		})
		if err != nil || n != 0 {
			return fmt.Errorf("ReceiveBatch with an empty dst, %s, answers %d, %v", when, n, err)
		}
		return nil
	}
	if err := empty("while nothing waits", nil); err != nil {
		return err
	}
	if err := l.publish("a", "b"); err != nil {
		return err
	}
	d, err := s.receive()
	if err != nil {
		return err
	}
	room := []broker.IncomingMessage{filler{}}
	if err := empty("while a message waits, or is on its way", room[:0]); err != nil {
		return err
	}
	if _, ok := room[0].(filler); !ok {
		return errors.New("ReceiveBatch with an empty dst wrote beyond it")
	}
	if err := d.ack(); err != nil {
		return err
	}
	if d, err = s.receive(); err != nil {
		return fmt.Errorf("after a ReceiveBatch with an empty dst: %w", err)
	}
	return d.ack()
}

func checkBatchCancel(e *env, l *link, s *stream) error {
	ended := func(ctx context.Context, want error) error {
		err := e.bounded(ctx, "ReceiveBatch", func(ctx context.Context) error {
			ds, err := s.rawBatch(ctx, 5)
			if err == nil {
				err = fmt.Errorf("%d deliveries came, expected none", len(ds))
			}
			return err
		})
		return mustBe("ReceiveBatch with nothing to receive", err, want)
	}
	dead, cancel := context.WithCancel(e.ctx)
	cancel()
	if err := ended(dead, context.Canceled); err != nil {
		return err
	}
	short, cancel := context.WithTimeout(e.ctx, e.h.Quiet/2)
	defer cancel()
	if err := ended(short, context.DeadlineExceeded); err != nil {
		return err
	}

	// Cancelled while messages arrive.
	const n = 300
	want := numbered("m", n)
	missing := make(map[string]bool, n)
	for _, w := range want {
		missing[w] = true
	}
	take := func(ds []*delivery) error {
		for _, d := range ds {
			if !missing[d.text] {
				return fmt.Errorf("%v came, which was not published or came before", d)
			}
			delete(missing, d.text)
		}
		return ackAll(ds...)
	}
	err := e.together(
		func() error { return l.publish(want...) },
		func() error {
			for i := 0; i < n && len(missing) > 0; i++ {
				var ds []*delivery
				ctx, cancel := context.WithTimeout(e.ctx, time.Duration(i%7)*50*time.Microsecond)
				if i%2 == 0 { // it ends where it is asked
					cancel()
					ctx, cancel = context.WithTimeout(e.ctx, time.Millisecond)
					ctx, _ = newFuse(ctx, i/2%4)
				}
				err := e.bounded(ctx, "ReceiveBatch", func(ctx context.Context) (err error) {
					ds, err = s.batch(ctx, 1+i%5)
					return err
				})
				cancel()
				if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
					return fmt.Errorf("ReceiveBatch whose context ended: %w", err)
				}
				if err := take(ds); err != nil {
					return err
				}
			}
			return nil
		},
	)
	for err == nil && len(missing) > 0 {
		var ds []*delivery
		if ds, err = s.receiveBatch(50); err != nil {
			return fmt.Errorf("%d of %d messages are missing after ReceiveBatch was cancelled many times: %w", len(missing), n, err)
		}
		err = take(ds)
	}
	return err
}

// untilClosed receives batches until the answer is ErrClosed. Where the source
// redelivers that must be the first answer.
func (s *stream) untilClosed(when string) error {
	for {
		ds, err := s.receiveBatch(5)
		if err != nil {
			return mustBe("ReceiveBatch "+when, err, broker.ErrClosed)
		}
		if s.book.redelivers {
			return fmt.Errorf("ReceiveBatch %s returned %d deliveries, and the source redelivers", when, len(ds))
		}
	}
}

func checkBatchClose(e *env, l *link, s *stream) error {
	if err := l.publish(numbered("m", 10)...); err != nil {
		return err
	}
	ds, err := s.receiveBatch(2)
	if err != nil {
		return err
	}
	if err := s.close(); err != nil {
		return err
	}
	if err := s.untilClosed("after Close, with a backlog,"); err != nil {
		return err
	}
	if err := ackAll(ds...); err != nil {
		return fmt.Errorf("after Close: %w", err)
	}
	_, waiting, err := e.open()
	if err != nil {
		return err
	}
	return e.together(
		func() error { return waiting.untilClosed("that waited when Close was called") },
		func() error {
			e.wait(e.h.Quiet / 4)
			return waiting.close()
		},
	)
}

func checkBatchShutdown(e *env, l *link, s *stream) error {
	err := e.together(
		func() error { return s.untilClosed("that waited when Shutdown was called") },
		func() error {
			e.wait(e.h.Quiet / 4)
			return e.shutdown(l.b)
		},
	)
	if err != nil {
		return err
	}
	return s.untilClosed("after Shutdown")
}

func checkBatchSettle(e *env, l *link, s *stream) error {
	if err := l.publish("acked", "requeued", "rejected", "last"); err != nil {
		return err
	}
	by := make(map[string]*delivery)
	for len(by) < 4 {
		ds, err := s.receiveBatch(4)
		if err != nil {
			return err
		}
		for _, d := range ds {
			by[d.text] = d
		}
	}
	for _, step := range []struct {
		payload string
		settle  func(*delivery) error
	}{
		{"last", (*delivery).ack}, {"rejected", (*delivery).reject}, {"requeued", (*delivery).requeue}, {"acked", (*delivery).ack},
	} {
		d := by[step.payload]
		if d == nil {
			return fmt.Errorf("%q did not come", step.payload)
		}
		if err := step.settle(d); err != nil {
			return err
		}
	}
	d, err := s.one("requeued")
	if err != nil {
		return err
	}
	if err := d.ack(); err != nil {
		return err
	}
	return s.quiet()
}

func checkBatchLimit(e *env, l *link, s *stream) error {
	limit := e.specOf(l.t, l.b).Limit
	if err := l.publish(numbered("m", limit+5)...); err != nil {
		return err
	}
	var out []*delivery
	for len(out) < limit {
		ds, err := s.receiveBatch(limit + 5)
		if err != nil {
			return fmt.Errorf("with %d unsettled of %d that are allowed: %w", len(out), limit, err)
		}
		out = append(out, ds...)
	}
	if len(out) > limit {
		return fmt.Errorf("%d deliveries are unsettled, and the source's limit is %d", len(out), limit)
	}
	if err := s.quiet(); err != nil {
		return fmt.Errorf("with %d unsettled, which is the source's limit: %w", len(out), err)
	}
	if err := ackAll(out...); err != nil {
		return err
	}
	for rest := 5; rest > 0; {
		ds, err := s.receiveBatch(limit + 5)
		if err != nil {
			return fmt.Errorf("after all was settled: %w", err)
		}
		rest -= len(ds)
		if err := ackAll(ds...); err != nil {
			return err
		}
	}
	return nil
}

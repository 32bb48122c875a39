package brokertest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/gostream/gostream/broker"
)

// trigger is a context that does something when it has been asked a number of times
// whether it has ended: at a moment that differs for each number.
type trigger struct {
	context.Context
	left atomic.Int64
	pull func()
}

// newTrigger returns ctx with a trigger that is pulled once, when it is asked after it
// was asked that often.
func newTrigger(ctx context.Context, asked int, pull func()) *trigger {
	t := &trigger{Context: ctx, pull: sync.OnceFunc(pull)}
	t.left.Store(int64(asked))
	return t
}

func (t *trigger) Err() error {
	if t.left.Add(-1) < 0 {
		t.pull()
	}
	return t.Context.Err()
}

// newFuse returns a context that ends when it has been asked that often whether it has
// ended, or with ctx.
func newFuse(ctx context.Context, asked int) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	return newTrigger(ctx, asked, cancel), cancel
}

// outcome fails unless of all messages, as many as came are what a Commit that
// answered err may have made visible.
func outcome(err error, came, all int) error {
	ofContext := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
	switch {
	case came != 0 && came != all:
		return fmt.Errorf("commit answered %s, and %d of the %d messages became visible", answer(err), came, all)
	case err == nil && came == 0:
		return errors.New("commit answered nil, and none of the messages became visible")
	case err != nil && !ofContext && came != 0:
		return fmt.Errorf("commit answered %q, and the messages became visible", err)
	}
	return nil
}

func checkCommitCancelled(x *txCase) error {
	const attempts, n = 24, 6
	errs := make([]error, attempts)
	for i := range attempts {
		t, err := x.begin()
		if err != nil {
			return err
		}
		if err := t.publish(numbered(fmt.Sprintf("attempt%d-", i), n)...); err != nil {
			return err
		}
		errs[i] = x.e.call("Commit", func(ctx context.Context) error {
			ctx, cancel := newFuse(ctx, i)
			defer cancel()
			return t.Commit(ctx)
		})
		// Where the transaction is still open it must not stay so.
		if err := x.e.call("Abort", t.Abort); err != nil && !errors.Is(err, broker.ErrSettled) {
			return fmt.Errorf("abort after a Commit that answered %s: %w", answer(errs[i]), err)
		}
	}
	came, err := x.seen.parts(errs, n, "attempt")
	if err != nil {
		return err
	}
	for i, err := range errs {
		if err := outcome(err, came[i], n); err != nil {
			return fmt.Errorf("a Commit whose context ended: %w", err)
		}
	}
	return nil
}

// parts receives what became visible of transactions whose Commit answered errs, each
// with n messages prefix0-0, prefix0-1 … and returns how many came of each.
func (s *stream) parts(errs []error, n int, prefix string) (came []int, err error) {
	came = make([]int, len(errs))
	index := make(map[string]int)
	for i := range errs {
		for _, p := range numbered(fmt.Sprintf("%s%d-", prefix, i), n) {
			index[p] = i
		}
	}
	for {
		// Silence is enough to see that nothing comes, but not that something is missing.
		missing := false
		for i, err := range errs {
			missing = missing || came[i] < n && (err == nil || came[i] > 0)
		}
		var d *delivery
		if missing {
			if d, err = s.receive(); errors.Is(err, context.DeadlineExceeded) {
				return came, nil
			}
		} else {
			d, err = s.untilQuiet()
		}
		if err != nil || d == nil {
			return came, err
		}
		i, ok := index[d.text]
		if !ok {
			return came, fmt.Errorf("%v came, which no transaction published", d)
		}
		came[i]++
		if err := d.ack(); err != nil {
			return came, err
		}
	}
}

// answer is err in an error text.
func answer(err error) string {
	if err == nil {
		return "nil"
	}
	return strconv.Quote(err.Error())
}

func checkCommitMeetsShutdown(x *txCase) error {
	const rounds, n = 8, 12
	type round struct {
		in    Target
		book  *ledger
		acked bool // the transaction holds an acknowledgement
		err   error
	}
	var all []*round
	out := x.out.t
	for i := range rounds {
		if i > 0 {
			if err := x.reopen(out); err != nil {
				return err
			}
		}
		r := &round{in: x.in.t, book: x.s.book}
		all = append(all, r)
		d, err := x.received("input")
		if err != nil {
			return err
		}
		t, err := x.begin()
		if err != nil {
			return err
		}
		switch err := t.tryAck(d.IncomingMessage); {
		case err == nil:
			r.acked = true
		case !errors.Is(err, errors.ErrUnsupported):
			return fmt.Errorf("ack in a transaction: %w", err)
		}
		if err := t.publish(numbered(fmt.Sprintf("round%d-", i), n)...); err != nil {
			return err
		}
		// The last round leaves it to chance, the others shut down in the middle of Commit,
		// where the context is asked.
		ending := make(chan error, 1)
		shutdown := sync.OnceFunc(func() { go func() { ending <- x.e.shutdown(x.in.b) }() })
		if i == rounds-1 {
			shutdown()
		}
		r.err = x.e.call("Commit", func(ctx context.Context) error {
			return t.Commit(newTrigger(ctx, i, func() {
				shutdown()
				x.e.wait(x.e.h.Quiet / 20) // Shutdown may wait for Commit
			}))
		})
		shutdown()
		if err := <-ending; err != nil {
			return err
		}
	}
	errs := make([]error, rounds)
	for i, r := range all {
		errs[i] = r.err
	}
	came, err := x.seen.parts(errs, n, "round")
	if err != nil {
		return err
	}
	for i, r := range all {
		if err := outcome(r.err, came[i], n); err != nil {
			return fmt.Errorf("when Shutdown met a Commit: %w", err)
		}
	}
	if !x.in.props.Redelivers {
		return nil
	}
	// What must come back of the inputs, and what must not, is seen at once.
	other, err := x.e.connect()
	if err != nil {
		return err
	}
	var work []func() error
	for i, r := range all {
		if !r.acked {
			continue
		}
		l, err := x.e.link(r.in, other)
		if err != nil {
			return err
		}
		r.book.released()
		s, err := l.subscribeWith(r.book)
		if err != nil {
			return err
		}
		work = append(work, func() error {
			if came[i] == n {
				if err := s.quiet(); err != nil {
					return fmt.Errorf("when Shutdown met a Commit, the messages became visible, and the acknowledgement did not: %w", err)
				}
				return nil
			}
			d, err := s.one("input")
			if err != nil {
				return fmt.Errorf("when Shutdown met a Commit, no message became visible, and the acknowledgement did: %w", err)
			}
			return d.ack()
		})
	}
	return x.e.together(work...)
}

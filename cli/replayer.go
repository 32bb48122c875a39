package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

// mostHeld bounds what is held where the source does not say its own limit.
const mostHeld = 10_000

// replayer is a replay at work: one message at a time, in the order in which they come.
type replayer struct {
	*program
	d      gostream.Description
	name   string
	flags  replayFlags
	filter filter
	pace   pace
	broker int // its index
	source broker.Source
	limit  int // of unsettled messages, as the source says; 0: it does not

	session *session
	sub     broker.Subscription
	targets map[string]*target
	held    held
	quiet   int // how often in a row nothing came in time

	done     int            // replayed; in a dry run, what would be
	passed   map[string]int // not matching, by reason
	homeless int            // without a source to go to
	began    time.Time
	young    int // dead letters since then
}

// target is a name that is published to.
type target struct {
	publisher broker.Publisher
	err       error
}

// run replays until the limit, the end of the backlog, a failure or the end of ctx.
func (r *replayer) run(ctx context.Context) error {
	r.passed, r.began = make(map[string]int), time.Now()
	most, why := r.limit, "that is the source's limit"
	if most == 0 {
		most, why = mostHeld, "more are not held"
	}
	for r.flags.limit == 0 || r.done < r.flags.limit {
		if r.pace.wait(ctx) != nil {
			return interrupted("ended by a signal")
		}
		m, err := r.receive(ctx)
		switch {
		case err != nil:
			return err
		case m == nil:
			if ended, err := r.atEnd(ctx); ended || err != nil {
				return err
			}
			continue
		}
		r.quiet = 0
		if err := r.take(ctx, m); err != nil {
			return err
		}
		if r.held.count() >= most && (r.flags.limit == 0 || r.done < r.flags.limit) {
			return failed(r.full(why))
		}
	}
	return nil
}

// receive returns the next message, nil where none came in time.
func (r *replayer) receive(ctx context.Context) (broker.IncomingMessage, error) {
	waiting, cancel := context.WithTimeout(ctx, r.flags.wait)
	defer cancel()
	m, err := r.sub.Receive(waiting)
	switch {
	case err == nil:
		return m, nil
	case ctx.Err() != nil:
		return nil, interrupted("ended by a signal")
	case waiting.Err() != nil:
		return nil, nil
	}
	return nil, failed(fmt.Errorf("receive %s: %w", broker.Quote(r.name), err))
}

// take replays m, or holds it.
func (r *replayer) take(ctx context.Context, m broker.IncomingMessage) error {
	if !r.filter.matches(m) {
		r.passed[reasonOf(m)]++
		r.held.add(m)
		return nil
	}
	if r.isYoung(m) {
		r.young++
		r.held.add(m)
		return nil
	}
	to := r.flags.to
	if r.flags.toSource {
		to = m.Headers().Get(gostream.HeaderDeadSource)
	}
	if to == "" {
		r.homeless++
		r.held.add(m)
		return nil
	}
	t, err := r.target(to)
	if err != nil {
		r.held.add(m)
		return failed(fmt.Errorf("to %s: %w", broker.Quote(to), err))
	}
	if r.flags.dryRun {
		r.done++
		r.list(m, to)
		r.held.add(m)
		return nil
	}
	if err := r.session.publish(ctx, t.publisher, r.copyOf(m, to)); err != nil {
		r.held.add(m)
		return failed(fmt.Errorf("publish to %s: %w; the message stays in %s", broker.Quote(to), err, broker.Quote(r.name)))
	}
	r.done++
	settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.flags.timeout)
	defer cancel()
	if err := m.Ack(settle); err != nil {
		return failed(fmt.Errorf("a message was published to %s, but not acknowledged: it will be in %s again: %w", broker.Quote(to), broker.Quote(r.name), err))
	}
	r.pace.used()
	return nil
}

// isYoung reports a dead letter of the time since the replay began: it may be one that was
// replayed and failed again, and would go round and round. The header has whole seconds.
func (r *replayer) isYoung(m broker.IncomingMessage) bool {
	at, err := time.Parse(time.RFC3339, m.Headers().Get(gostream.HeaderDeadTime))
	return err == nil && at.After(r.began)
}

// copyOf is the message as it goes to name.
func (r *replayer) copyOf(m broker.IncomingMessage, name string) broker.OutgoingMessage {
	headers := m.Headers()
	if !r.flags.keepHeaders {
		headers = headers.Without(deadHeaders...)
	}
	out := broker.OutgoingMessage{Name: name, Payload: m.Payload(), Headers: headers}
	if key, ok := broker.PartitionKey(m); ok {
		out.Key = key
	}
	return out
}

// target finds the publisher for name, once.
func (r *replayer) target(name string) (*target, error) {
	t := r.targets[name]
	if t == nil {
		t = new(target)
		t.publisher, t.err = r.findTarget(name)
		if r.targets == nil {
			r.targets = make(map[string]*target)
		}
		r.targets[name] = t
	}
	return t, t.err
}

func (r *replayer) findTarget(name string) (broker.Publisher, error) {
	b := r.d.Brokers[r.broker].Broker
	if err := broker.CheckPublishName(b, name); err != nil {
		return nil, err
	}
	if broker.Matches(r.source, b, name) {
		return nil, fmt.Errorf("%s comes back to the dead letters of %s", broker.Quote(name), broker.Quote(r.name))
	}
	pub, buffers, err := publisherTo(r.d, r.broker, name, r.source)
	if err != nil {
		return nil, err
	}
	if buffers && !r.flags.loss {
		return nil, fmt.Errorf("messages to %s go through a publisher that only buffers: a crash would lose what was acknowledged here; accept that with --allow-loss", broker.Quote(name))
	}
	return pub, nil
}

// mostQuiet is how often nothing may come in time although the broker says that there is
// something.
const mostQuiet = 3

// atEnd reports whether that nothing came is the end. Where something waits all the same,
// the source was slow, or what is held keeps it from handing out the rest.
func (r *replayer) atEnd(ctx context.Context) (ended bool, err error) {
	r.quiet++
	ctx, cancel := context.WithTimeout(ctx, r.flags.timeout)
	defer cancel()
	lag, err := broker.Lag(ctx, r.sub)
	switch {
	case err != nil || lag <= 0:
		return true, nil
	case r.quiet < mostQuiet:
		return false, nil
	case r.held.count() == 0:
		return true, failed(fmt.Errorf("nothing came for %v, though %d wait", time.Duration(r.quiet)*r.flags.wait, lag))
	}
	return true, failed(r.full(fmt.Sprintf("the source hands out no more, though %d wait", lag)))
}

// full says that no more can be held, and what helps.
func (r *replayer) full(why string) error {
	return fmt.Errorf("%s held until the end: %s; raise the limit of a source given with cli.DeadLetters, or replay with --limit or a filter that matches more", count(r.held.count(), "message"), why)
}

// giveBack ends the intake and returns what is held. It keeps err and adds to it.
func (r *replayer) giveBack(err error) error {
	ctx, cancel := context.WithTimeout(context.Background(), r.flags.timeout)
	defer cancel()
	var errs []error
	if e := r.sub.Close(ctx); e != nil && !errors.Is(e, broker.ErrClosed) {
		errs = append(errs, fmt.Errorf("close the subscription of %s: %w", broker.Quote(r.name), e))
	}
	errs = append(errs, r.held.giveBack(ctx))
	if e := errors.Join(errs...); e != nil {
		return failed(errors.Join(err, e))
	}
	if err == nil && r.homeless > 0 {
		return failed(fmt.Errorf("%s without the header %s: they stay; say with --to where they go", count(r.homeless, "message"), gostream.HeaderDeadSource))
	}
	return err
}

// list writes what a dry run would replay, a line for each message.
func (r *replayer) list(m broker.IncomingMessage, to string) {
	h := m.Headers()
	fmt.Fprintf(r.out, "%s -> %s  %s, %s attempts, %s, %d bytes: %s\n",
		clean(orDash(h.Get(gostream.HeaderDeadSource))), clean(to), clean(orDash(reasonOf(m))),
		clean(orDash(h.Get(gostream.HeaderDeadAttempts))), clean(orDash(h.Get(gostream.HeaderDeadTime))),
		len(m.Payload()), clean(orDash(h.Get(gostream.HeaderDeadError))))
}

// summary says what was done.
func (r *replayer) summary(err error) {
	if r.sub == nil {
		return
	}
	to := "their sources"
	if !r.flags.toSource {
		to = broker.Quote(r.flags.to)
	}
	verb := "replayed"
	if r.flags.dryRun {
		verb = "would replay"
	}
	text := fmt.Sprintf("%s %s from %s to %s", verb, count(r.done, "message"), broker.Quote(r.name), to)
	total := 0
	var reasons []string
	for _, reason := range slices.Sorted(maps.Keys(r.passed)) {
		total += r.passed[reason]
		reasons = append(reasons, fmt.Sprintf("%s %d", clean(orDash(reason)), r.passed[reason]))
	}
	if total > 0 {
		text += fmt.Sprintf("; %d did not match and stay (%s)", total, strings.Join(reasons, ", "))
	}
	if r.young > 0 {
		text += fmt.Sprintf("; %d came meanwhile and stay: they failed again, or are new", r.young)
	}
	if err == nil && r.flags.limit > 0 && r.done == r.flags.limit {
		text += "; the limit was reached"
	}
	fmt.Fprintln(r.out, text)
}

func reasonOf(m broker.IncomingMessage) string { return m.Headers().Get(gostream.HeaderDeadReason) }

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// pace keeps a rate.
type pace struct {
	interval time.Duration // 0: no limit
	next     time.Time
}

// used says that a message went out. Time that was lost is not made up for.
func (p *pace) used() {
	if p.interval == 0 {
		return
	}
	if now := time.Now(); now.Sub(p.next) > p.interval {
		p.next = now
	}
	p.next = p.next.Add(p.interval)
}

// wait returns when the next message may go, or with the error of ctx.
func (p *pace) wait(ctx context.Context) error {
	d := time.Until(p.next)
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

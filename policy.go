package gostream

import (
	"fmt"
	"time"
)

// action is what is done with a message.
type action uint8

const (
	actionAck action = iota + 1
	actionIgnore
	actionReject
	actionRetry
	actionDeadLetter
	actionReplyError
	actionGiveBack
	actionFailFast
)

func (a action) String() string { return wordsOf(a, "") }

func wordsOf(a action, to string) string {
	switch a {
	case actionAck:
		return "acknowledge"
	case actionIgnore:
		return "ignore"
	case actionReject:
		return "reject"
	case actionRetry:
		return "retry"
	case actionDeadLetter:
		if to == "" {
			return "dead letter"
		}
		return fmt.Sprintf("dead letter to %q", to)
	case actionReplyError:
		return "reply with the error"
	case actionGiveBack:
		return "give back"
	case actionFailFast:
		return "fail fast"
	default:
		return "nothing"
	}
}

// PanicPolicy says what a panic does; see [OnPanic].
type PanicPolicy int

const (
	// PanicAsError treats a panic as an error that the handler returned. It is
	// the default.
	PanicAsError PanicPolicy = iota
	// PanicFailFast gives the message back and shuts the app down.
	PanicFailFast
)

// UndecodablePolicy says what happens to a payload that cannot be decoded where
// no rule matches; see [OnUndecodable].
type UndecodablePolicy int

const (
	// UndecodableKeep sends it to the declared dead letter at once; where none is
	// declared it is kept and tried again at the longest interval, so that the
	// next deployment can heal it. It is the default.
	UndecodableKeep UndecodablePolicy = iota
	// UndecodableReject throws it away, with a log line: nack without requeue.
	UndecodableReject
)

// LostPolicy says what happens when a subscription is lost for good; see
// [OnSubscriptionLost].
type LostPolicy int

const (
	// LostReopen marks the subscription down and opens it again with backoff, for
	// ever. It is the default.
	LostReopen LostPolicy = iota
	// LostFailFast shuts the app down.
	LostFailFast
)

// failureKind is what failed.
type failureKind uint8

const (
	failedHandler failureKind = iota
	failedPanic
	failedDecode
	failedProcess // delivered so often that the process must have ended on it
)

// failure is the input of decide: all of it, so that decide is pure.
type failure struct {
	kind     failureKind
	err      error
	attempt  int     // the first is 1
	request  bool    // somebody waits for a reply
	draining bool    // retries become give-backs
	random   float64 // in [0, 1), for the jitter
}

// decision is the output of decide.
type decision struct {
	action action
	delay  time.Duration // of a retry
	to     string        // of a dead letter
	reason string        // why, in a word or two: for logs and dead letters
	// undeclared: DeadLetter was asked for where no dead letter is declared.
	undeclared bool
}

// policy decides what happens to a failed message. It is plain data.
type policy struct {
	rules       []Rule // subscription before router before app; the first match wins
	deadLetter  string // "" for none
	retry       Backoff
	panics      PanicPolicy
	undecodable UndecodablePolicy
}

func (k failureKind) reason() string {
	switch k {
	case failedPanic:
		return ReasonPanic
	case failedDecode:
		return ReasonUndecodable
	case failedProcess:
		return ReasonDeliveries
	default:
		return ReasonError
	}
}

// decide says what to do with a failed message. It is pure.
func (p *policy) decide(f failure) decision {
	d := p.choose(f)
	if d.action == actionRetry && f.draining {
		d.action = actionGiveBack
	}
	return d
}

func (p *policy) choose(f failure) decision {
	reason := f.kind.reason()
	if f.kind == failedProcess {
		return decision{action: actionDeadLetter, to: p.deadLetter, reason: reason}
	}
	rule := p.ruleFor(f.err)
	undeclared := false
	if v, ok := verdictOf(f.err); ok {
		switch v.action {
		case actionRetry:
			delay := v.delay
			if delay < 0 {
				delay = p.scheduleFor(rule).delay(f.attempt, f.random)
			}
			return decision{action: actionRetry, delay: delay, reason: ReasonVerdict}
		case actionDeadLetter:
			if to := p.deadLetterFor(rule); to != "" {
				return decision{action: actionDeadLetter, to: to, reason: ReasonVerdict}
			}
			undeclared = true
		default:
			return decision{action: v.action, reason: ReasonVerdict}
		}
	}
	d := p.byRule(f, rule)
	d.undeclared = undeclared
	if d.reason == "" {
		d.reason = reason
	}
	return d
}

// byRule applies the matching rule, or the defaults where rule is nil.
func (p *policy) byRule(f failure, rule *Rule) decision {
	switch {
	case f.kind == failedPanic && p.panics == PanicFailFast:
		return decision{action: actionFailFast}
	case rule != nil && rule.action != actionRetry:
		return decision{action: rule.action, to: rule.to}
	case rule != nil:
		if rule.retry.attempts > 0 && f.attempt >= rule.retry.attempts {
			if rule.then != 0 {
				return decision{action: rule.then, to: rule.thenTo, reason: ReasonExhausted}
			}
			return decision{action: actionDeadLetter, to: p.deadLetter, reason: ReasonExhausted}
		}
		return decision{action: actionRetry, delay: rule.retry.delay(f.attempt, f.random)}
	case f.request:
		return decision{action: actionReplyError}
	case f.kind == failedDecode && p.undecodable == UndecodableReject:
		return decision{action: actionReject}
	case f.kind == failedDecode && p.deadLetter != "":
		return decision{action: actionDeadLetter, to: p.deadLetter}
	case f.kind == failedDecode:
		return decision{action: actionRetry, delay: p.longest(f.random)}
	case p.deadLetter != "" && f.attempt >= p.attempts():
		return decision{action: actionDeadLetter, to: p.deadLetter, reason: ReasonExhausted}
	default:
		return decision{action: actionRetry, delay: p.retry.delay(f.attempt, f.random)}
	}
}

func (p *policy) ruleFor(err error) *Rule {
	for i := range p.rules {
		if p.rules[i].match.matches(err) {
			return &p.rules[i]
		}
	}
	return nil
}

func (p *policy) scheduleFor(rule *Rule) Backoff {
	if rule != nil && rule.action == actionRetry {
		return rule.retry
	}
	return p.retry
}

// deadLetterFor is where DeadLetter(err) sends: the matching rule's own target,
// else the declared one.
func (p *policy) deadLetterFor(rule *Rule) string {
	switch {
	case rule != nil && rule.action == actionDeadLetter:
		return rule.to
	case rule != nil && rule.then == actionDeadLetter:
		return rule.thenTo
	default:
		return p.deadLetter
	}
}

// attempts is how often a message is handled before the declared dead letter.
func (p *policy) attempts() int {
	if p.retry.attempts > 0 {
		return p.retry.attempts
	}
	return DefaultAttempts
}

// longest is the schedule's longest delay: for what only a deployment can heal.
func (p *policy) longest(random float64) time.Duration {
	const far = 1 << 20
	return p.retry.delay(far, random)
}

// mostAttempts is the largest number of attempts that any part of the policy
// allows before a dead letter; 0 where something retries without end or no dead
// letter is declared.
func (p *policy) mostAttempts() int {
	if p.deadLetter == "" {
		return 0
	}
	n := p.attempts()
	if p.endless() {
		return 0
	}
	for i := range p.rules {
		n = max(n, p.rules[i].retry.attempts)
	}
	return n
}

// endless reports a rule that retries without a limit of attempts.
func (p *policy) endless() bool {
	for i := range p.rules {
		if r := &p.rules[i]; r.action == actionRetry && r.retry.attempts == 0 {
			return true
		}
	}
	return false
}

// endsAll reports a rule for every error that ends somewhere, so that the defaults
// never apply.
func (p *policy) endsAll() bool {
	for i := range p.rules {
		if r := &p.rules[i]; r.match.any {
			return r.action != actionRetry || r.retry.attempts > 0
		}
	}
	return false
}

// targets are all dead letters that the policy can choose.
func (p *policy) targets() []string {
	var names []string
	add := func(name string) {
		if name == "" {
			return
		}
		for _, n := range names {
			if n == name {
				return
			}
		}
		names = append(names, name)
	}
	for i := range p.rules {
		if p.rules[i].action == actionDeadLetter {
			add(p.rules[i].to)
		}
		if p.rules[i].then == actionDeadLetter {
			add(p.rules[i].thenTo)
		}
	}
	add(p.deadLetter)
	return names
}

// words says the policy line by line, in the order in which it is applied.
func (p *policy) words(request bool) []string {
	var w []string
	if p.panics == PanicFailFast {
		w = append(w, "panic: fail fast")
	}
	for _, r := range p.rules {
		line := r.String()
		if r.retry.attempts > 0 && r.then == 0 {
			line += ", then " + wordsOf(actionDeadLetter, p.deadLetter)
		}
		w = append(w, line)
	}
	if request {
		w = append(w, "any other failure of a request: reply with the error, without a retry")
	}
	switch {
	case p.undecodable == UndecodableReject:
		w = append(w, "undecodable: reject")
	case p.deadLetter != "":
		w = append(w, "undecodable: "+wordsOf(actionDeadLetter, p.deadLetter)+" at once")
	default:
		w = append(w, fmt.Sprintf("undecodable: kept, tried again every %v", p.longest(0)))
	}
	retry := p.retry
	if p.deadLetter != "" {
		retry.attempts = p.attempts()
		w = append(w, "any other error: retry "+retry.String()+", then "+wordsOf(actionDeadLetter, p.deadLetter))
	} else {
		w = append(w, "any other error: retry "+retry.String()+", without end (no dead letter is declared)")
	}
	return w
}

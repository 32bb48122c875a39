package gostream

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/gostream/gostream/broker"
)

// Rule is one line of a failure policy: which errors, and what to do with them.
// Begin it with [Is], [As] or [AnyError]. Rules are plain data.
type Rule struct {
	match  Matcher
	action action
	to     string // of a dead letter
	retry  Backoff
	then   action // after the last attempt; 0: nothing is said
	thenTo string
	bad    error
}

// Matcher says which errors a rule is for.
type Matcher struct {
	words   string
	any     bool // it matches everything
	matches func(error) bool
	bad     error
}

// Is matches errors for which errors.Is(err, target) holds for one of the targets.
func Is(targets ...error) Matcher {
	if len(targets) == 0 || slices.Contains(targets, nil) {
		return Matcher{words: "nil", bad: errors.New("Is(nil): an error to look for is needed")}
	}
	words := make([]string, len(targets))
	for i, target := range targets {
		words[i] = fmt.Sprintf("%q", target.Error())
	}
	return Matcher{
		words: "error is " + strings.Join(words, " or "),
		matches: func(err error) bool {
			return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
		},
	}
}

// As matches errors in whose chain errors.As finds an E.
func As[E error]() Matcher {
	return Matcher{
		words: "error as " + reflect.TypeFor[E]().String(),
		matches: func(err error) bool {
			var e E
			return errors.As(err, &e)
		},
	}
}

// AnyError matches every error: panics and undecodable payloads too.
func AnyError() Matcher {
	return Matcher{words: "any error", any: true, matches: func(error) bool { return true }}
}

// DeadLetterTo sends a copy to name at once and acknowledges the message.
func (m Matcher) DeadLetterTo(name string) Rule {
	return Rule{match: m, action: actionDeadLetter, to: name}
}

// Reject gives the message up at once: nack without requeue.
func (m Matcher) Reject() Rule { return Rule{match: m, action: actionReject} }

// Ignore acknowledges the message, unprocessed.
func (m Matcher) Ignore() Rule { return Rule{match: m, action: actionIgnore} }

// FailFast gives the message back and shuts the app down; Run returns the error.
func (m Matcher) FailFast() Rule { return Rule{match: m, action: actionFailFast} }

// Retry has the message handled again by the schedule b. Where b limits the
// attempts, say what comes after them with a Then… method; without one the
// message goes to the declared [DeadLetterTo], and where there is none either,
// that is a start error.
func (m Matcher) Retry(b Backoff) RetryRule {
	return RetryRule{Rule{match: m, action: actionRetry, retry: b}}
}

// RetryRule is a rule that retries. It may say what comes after the last attempt.
type RetryRule struct{ rule Rule }

// ThenDeadLetterTo sends a copy to name after the last attempt.
func (r RetryRule) ThenDeadLetterTo(name string) Rule { return r.and(actionDeadLetter, name) }

// ThenReject gives the message up after the last attempt.
func (r RetryRule) ThenReject() Rule { return r.and(actionReject, "") }

// ThenIgnore acknowledges the message after the last attempt.
func (r RetryRule) ThenIgnore() Rule { return r.and(actionIgnore, "") }

// ThenFailFast shuts the app down after the last attempt.
func (r RetryRule) ThenFailFast() Rule { return r.and(actionFailFast, "") }

func (r RetryRule) and(a action, to string) Rule {
	rule := r.rule
	rule.then, rule.thenTo = a, to
	if rule.retry.attempts == 0 && rule.retry.bad == nil {
		rule.bad = fmt.Errorf("%s after retries without end can never happen: add Attempts(n) to the backoff", a)
	}
	return rule
}

// PolicyRule is what [OnError] takes: a [Rule] or a [RetryRule].
type PolicyRule interface{ policyRule() Rule }

func (r Rule) policyRule() Rule      { return r }
func (r RetryRule) policyRule() Rule { return r.rule }

// String says the rule in words.
func (r Rule) String() string {
	s := r.match.words + ": "
	if r.action != actionRetry {
		return s + wordsOf(r.action, r.to)
	}
	s += "retry " + r.retry.String()
	if r.then != 0 {
		s += ", then " + wordsOf(r.then, r.thenTo)
	}
	return s
}

// check reports what is wrong with the rule; hasDeadLetter says whether the
// subscription declares one for what has no target of its own.
func (r Rule) check(hasDeadLetter bool) error {
	var errs []error
	if r.match.matches == nil && r.match.bad == nil {
		return errors.New("an empty rule: begin it with Is, As or AnyError")
	}
	errs = append(errs, r.match.bad, r.bad)
	if r.action == actionRetry {
		errs = append(errs, r.retry.check())
	}
	if r.action == actionDeadLetter && r.to == "" || r.then == actionDeadLetter && r.thenTo == "" {
		errs = append(errs, fmt.Errorf("rule %s: the dead letter has no name", broker.Quote(r.match.words)))
	}
	if r.action == actionRetry && r.retry.attempts > 0 && r.then == 0 && !hasDeadLetter {
		errs = append(errs, fmt.Errorf("rule %s: Attempts(%d) has nothing after it: add ThenDeadLetterTo, ThenReject, ThenIgnore or ThenFailFast, or declare DeadLetterTo", broker.Quote(r.match.words), r.retry.attempts))
	}
	return errors.Join(errs...)
}

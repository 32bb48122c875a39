package gostream

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// Errors and names that the policies of this file are about.
var (
	errAny    = errors.New("any")
	errListed = errors.New("listed")
	errOther  = errors.New("other")
)

const (
	declaredDead = "orders.dead"
	ruleDead     = "orders.rule-dead"
)

// policyOf resolves the policy of a subscription whose options stand at several
// levels, the nearest one first.
func policyOf(t *testing.T, levels ...[]HandleOption) policy {
	t.Helper()
	var set settings
	for _, level := range slices.Backward(levels) {
		var own settings
		applyHandleOptions(&own, level)
		if err := errors.Join(own.errs...); err != nil {
			t.Fatal(err)
		}
		set = own.within(set)
	}
	var s subscriptionPlan
	s.resolve(set, func(err error) {
		if err != nil {
			t.Error(err)
		}
	})
	return s.policy
}

// one is a list of options, short enough for a table.
func one(opts ...HandleOption) []HandleOption { return opts }

// decideCase is a failure and what must be decided about it.
type decideCase struct {
	name    string
	options []HandleOption
	failure failure
	want    decision
}

// check decides, again and again, and once more during a drain, which turns a
// retry into a give-back and changes nothing else.
func (c decideCase) check(t *testing.T) {
	t.Helper()
	p := policyOf(t, c.options)
	if got := p.decide(c.failure); got != c.want {
		t.Errorf("%s:\ndecided %+v\nwant    %+v", c.name, got, c.want)
	}
	f, want := c.failure, c.want
	f.draining = true
	if want.action == actionRetry {
		want.action = actionGiveBack
	}
	if got := p.decide(f); got != want {
		t.Errorf("%s, draining:\ndecided %+v\nwant    %+v", c.name, got, want)
	}
	if got := p.decide(c.failure); got != c.want {
		t.Errorf("%s: the same failure is decided otherwise the second time: %+v", c.name, got)
	}
}

// The failures of the tables below.
func handlerFailed(attempt int) failure {
	return failure{kind: failedHandler, err: errAny, attempt: attempt}
}

func panicked(attempt int) failure {
	return failure{kind: failedPanic, err: &PanicError{Value: "broken"}, attempt: attempt}
}

func undecodable(attempt int) failure {
	return failure{kind: failedDecode, err: &UndecodableError{Err: errAny}, attempt: attempt}
}

func failedWith(err error, attempt int) failure {
	return failure{kind: failedHandler, err: err, attempt: attempt}
}

// ofRequest makes f the failure of a message whose sender waits.
func ofRequest(f failure) failure {
	f.request = true
	return f
}

func retryIn(d time.Duration, reason string) decision {
	return decision{action: actionRetry, delay: d, reason: reason}
}

func deadTo(name, reason string) decision {
	return decision{action: actionDeadLetter, to: name, reason: reason}
}

func TestDecideDefaults(t *testing.T) {
	t.Parallel()
	dead := one(DeadLetterTo(declaredDead))
	reject := one(OnUndecodable(UndecodableReject))
	failFast := one(OnPanic(PanicFailFast))
	cases := []decideCase{
		{"panic as the default", one(OnPanic(PanicAsError)), panicked(1), retryIn(200*time.Millisecond, ReasonPanic)},
		{"panic, late", nil, panicked(1000), retryIn(time.Minute, ReasonPanic)},
		{"panic with a dead letter", dead, panicked(4), retryIn(1600*time.Millisecond, ReasonPanic)},
		{"panic, attempts exhausted", dead, panicked(5), deadTo(declaredDead, ReasonExhausted)},
		{"panic that fails fast", failFast, panicked(1), decision{action: actionFailFast, reason: ReasonPanic}},
		{"panic that fails fast with a dead letter", append(failFast, dead...), panicked(9), decision{action: actionFailFast, reason: ReasonPanic}},
		{"panic that fails fast before a rule", append(failFast, OnError(AnyError().Ignore())), panicked(1), decision{action: actionFailFast, reason: ReasonPanic}},
		{"panic that fails fast, of a request", failFast, ofRequest(panicked(1)), decision{action: actionFailFast, reason: ReasonPanic}},
		{"error where a panic fails fast", failFast, handlerFailed(1), retryIn(200*time.Millisecond, ReasonError)},

		{"undecodable, kept", nil, undecodable(1), retryIn(time.Minute, ReasonUndecodable)},
		{"undecodable, kept by name", one(OnUndecodable(UndecodableKeep)), undecodable(2), retryIn(time.Minute, ReasonUndecodable)},
		{"undecodable, kept for long", nil, undecodable(1 << 30), retryIn(time.Minute, ReasonUndecodable)},
		{"undecodable with a dead letter", dead, undecodable(1), deadTo(declaredDead, ReasonUndecodable)},
		{"undecodable with a dead letter, later", dead, undecodable(7), deadTo(declaredDead, ReasonUndecodable)},
		{"undecodable, rejected", reject, undecodable(1), decision{action: actionReject, reason: ReasonUndecodable}},
		{"undecodable, rejected despite a dead letter", append(reject, dead...), undecodable(1), decision{action: actionReject, reason: ReasonUndecodable}},
		{"error where the undecodable is rejected", reject, handlerFailed(1), retryIn(200*time.Millisecond, ReasonError)},

		{"request failed", nil, ofRequest(handlerFailed(1)), decision{action: actionReplyError, reason: ReasonError}},
		{"request failed, later", nil, ofRequest(handlerFailed(3)), decision{action: actionReplyError, reason: ReasonError}},
		{"request failed with a dead letter", dead, ofRequest(handlerFailed(5)), decision{action: actionReplyError, reason: ReasonError}},
		{"request panicked", nil, ofRequest(panicked(1)), decision{action: actionReplyError, reason: ReasonPanic}},
		{"request undecodable", nil, ofRequest(undecodable(1)), decision{action: actionReplyError, reason: ReasonUndecodable}},
		{"request undecodable with a dead letter", append(reject, dead...), ofRequest(undecodable(1)), decision{action: actionReplyError, reason: ReasonUndecodable}},
		{"request that a rule retries", one(OnError(AnyError().Retry(Constant(3 * time.Second)))), ofRequest(handlerFailed(1)), retryIn(3*time.Second, ReasonError)},
		{"request that a rule gives up", one(OnError(AnyError().Retry(Constant(1).Attempts(2)).ThenReject())), ofRequest(handlerFailed(2)), decision{action: actionReject, reason: ReasonExhausted}},
		{"request that no rule matches", one(OnError(Is(errListed).Reject())), ofRequest(handlerFailed(1)), decision{action: actionReplyError, reason: ReasonError}},

		{"own schedule", one(RetryBackoff(Constant(5 * time.Second))), handlerFailed(1000), retryIn(5*time.Second, ReasonError)},
		{"own schedule with a dead letter", append(dead, RetryBackoff(Constant(5*time.Second))), handlerFailed(4), retryIn(5*time.Second, ReasonError)},
		{"own schedule, the default of attempts exhausted", append(dead, RetryBackoff(Constant(5*time.Second))), handlerFailed(5), deadTo(declaredDead, ReasonExhausted)},
		{"own attempts", append(dead, RetryBackoff(Constant(5*time.Second).Attempts(8))), handlerFailed(7), retryIn(5*time.Second, ReasonError)},
		{"own attempts, exhausted", append(dead, RetryBackoff(Constant(5*time.Second).Attempts(8))), handlerFailed(8), deadTo(declaredDead, ReasonExhausted)},
		{"own schedule of the undecodable", one(RetryBackoff(Steps(time.Second, time.Hour))), undecodable(1), retryIn(time.Hour, ReasonUndecodable)},
		{"own schedule of a verdict", one(RetryBackoff(Constant(5 * time.Second))), failedWith(Retry(errAny), 1), retryIn(5*time.Second, ReasonVerdict)},
		{"own schedule, but a rule", one(RetryBackoff(Constant(5*time.Second)), OnError(AnyError().Retry(Constant(7*time.Second)))), handlerFailed(1), retryIn(7*time.Second, ReasonError)},

		{"process ended", dead, failure{kind: failedProcess}, deadTo(declaredDead, ReasonDeliveries)},
		{"process ended despite a rule", append(dead, OnError(AnyError().Ignore())), failure{kind: failedProcess, err: ErrDeliveriesExceeded}, deadTo(declaredDead, ReasonDeliveries)},
		{"process ended on a request", dead, failure{kind: failedProcess, request: true}, deadTo(declaredDead, ReasonDeliveries)},
	}
	for attempt, delay := range map[int]time.Duration{
		1: 200 * time.Millisecond, 2: 400 * time.Millisecond, 3: 800 * time.Millisecond, 4: 1600 * time.Millisecond,
		5: 3200 * time.Millisecond, 9: 51_200 * time.Millisecond, 10: time.Minute, 1 << 30: time.Minute,
	} {
		name := fmt.Sprintf("error at attempt %d", attempt)
		cases = append(cases, decideCase{name, nil, handlerFailed(attempt), retryIn(delay, ReasonError)})
		want := retryIn(delay, ReasonError)
		if attempt >= DefaultAttempts {
			want = deadTo(declaredDead, ReasonExhausted)
		}
		cases = append(cases, decideCase{name + " with a dead letter", dead, handlerFailed(attempt), want})
	}
	for _, c := range cases {
		c.check(t)
	}
}

func TestDecideVerdicts(t *testing.T) {
	t.Parallel()
	dead := one(DeadLetterTo(declaredDead))
	rule := one(OnError(
		Is(errListed).DeadLetterTo(ruleDead),
		Is(errOther).Retry(Constant(7*time.Second).Attempts(2)).ThenDeadLetterTo(ruleDead),
		AnyError().Retry(Constant(9*time.Second).Attempts(2)).ThenIgnore(),
	))
	decided := func(a action) decision { return decision{action: a, reason: ReasonVerdict} }
	undeclared := func(d decision) decision {
		d.undeclared = true
		return d
	}
	for _, c := range []decideCase{
		{"reject", dead, failedWith(Reject(errAny), 1), decided(actionReject)},
		{"ignore", dead, failedWith(Ignore(errAny), 1), decided(actionIgnore)},
		{"fail fast", dead, failedWith(FailFast(errAny), 1), decided(actionFailFast)},
		{"reject without an error", nil, failedWith(Reject(nil), 1), decided(actionReject)},
		{"ignore without an error", nil, failedWith(Ignore(nil), 1), decided(actionIgnore)},
		{"fail fast without an error", nil, failedWith(FailFast(nil), 1), decided(actionFailFast)},

		{"retry", nil, failedWith(Retry(errAny), 2), retryIn(400*time.Millisecond, ReasonVerdict)},
		{"retry without an error", nil, failedWith(Retry(nil), 2), retryIn(400*time.Millisecond, ReasonVerdict)},
		{"retry beyond the attempts", dead, failedWith(Retry(errAny), 50), retryIn(time.Minute, ReasonVerdict)},
		{"retry by the rule's schedule", rule, failedWith(Retry(errOther), 1), retryIn(7*time.Second, ReasonVerdict)},
		{"retry beyond the rule's attempts", rule, failedWith(Retry(errOther), 50), retryIn(7*time.Second, ReasonVerdict)},
		{"retry where the rule has no schedule", rule, failedWith(Retry(errListed), 2), retryIn(400*time.Millisecond, ReasonVerdict)},
		{"retry without an error, by a rule for any", rule, failedWith(Retry(nil), 1), retryIn(9*time.Second, ReasonVerdict)},
		{"retry after", dead, failedWith(RetryAfter(42*time.Second, errAny), 50), retryIn(42*time.Second, ReasonVerdict)},
		{"retry after, longer than any backoff", nil, failedWith(RetryAfter(24*time.Hour, nil), 1), retryIn(24*time.Hour, ReasonVerdict)},
		{"retry after nothing", nil, failedWith(RetryAfter(0, errAny), 3), retryIn(0, ReasonVerdict)},
		{"retry after less than nothing", nil, failedWith(RetryAfter(-time.Second, errAny), 3), retryIn(0, ReasonVerdict)},

		{"dead letter", dead, failedWith(DeadLetter(errAny), 1), deadTo(declaredDead, ReasonVerdict)},
		{"dead letter without an error", dead, failedWith(DeadLetter(nil), 1), deadTo(declaredDead, ReasonVerdict)},
		{"dead letter of the rule", append(dead, rule...), failedWith(DeadLetter(errListed), 1), deadTo(ruleDead, ReasonVerdict)},
		{"dead letter after the rule's attempts", append(dead, rule...), failedWith(DeadLetter(errOther), 1), deadTo(ruleDead, ReasonVerdict)},
		{"dead letter where the rule has none", append(dead, rule...), failedWith(DeadLetter(errAny), 1), deadTo(declaredDead, ReasonVerdict)},
		{"dead letter, undeclared", nil, failedWith(DeadLetter(errAny), 2), undeclared(retryIn(400*time.Millisecond, ReasonError))},
		{"dead letter without an error, undeclared", nil, failedWith(DeadLetter(nil), 1), undeclared(retryIn(200*time.Millisecond, ReasonError))},
		{"dead letter, undeclared, by the rule", rule, failedWith(DeadLetter(errAny), 1), undeclared(retryIn(9*time.Second, ReasonError))},
		{"dead letter, undeclared, the rule's attempts exhausted", rule, failedWith(DeadLetter(errAny), 2), undeclared(decision{action: actionIgnore, reason: ReasonExhausted})},
		{"dead letter, undeclared, of a request", nil, ofRequest(failedWith(DeadLetter(errAny), 1)), undeclared(decision{action: actionReplyError, reason: ReasonError})},

		{"wrapped", nil, failedWith(fmt.Errorf("order 17: %w", Reject(errAny)), 1), decided(actionReject)},
		{"wrapped twice", nil, failedWith(fmt.Errorf("a: %w", fmt.Errorf("b: %w", Ignore(nil))), 1), decided(actionIgnore)},
		{"of two the outermost", nil, failedWith(Reject(fmt.Errorf("a: %w", Ignore(errAny))), 1), decided(actionReject)},
		{"of two the outermost, the other way", nil, failedWith(Ignore(Reject(errAny)), 1), decided(actionIgnore)},
		{"of three the outermost", nil, failedWith(fmt.Errorf("a: %w", RetryAfter(time.Second, Ignore(Reject(nil)))), 1), retryIn(time.Second, ReasonVerdict)},
		{"joined", nil, failedWith(errors.Join(errAny, Reject(errOther)), 1), decided(actionReject)},
		{"of two joined the first", nil, failedWith(errors.Join(errAny, Ignore(errOther), Reject(errOther)), 1), decided(actionIgnore)},
		{"around a join", nil, failedWith(Reject(errors.Join(Ignore(nil), Retry(nil))), 1), decided(actionReject)},
		{"before a rule", one(OnError(AnyError().DeadLetterTo(ruleDead))), failedWith(Ignore(errAny), 1), decided(actionIgnore)},
		{"before a rule that matches the verdict's error", one(OnError(Is(errAny).FailFast())), failedWith(Reject(errAny), 1), decided(actionReject)},
		{"of a request", nil, ofRequest(failedWith(Reject(errAny), 1)), decided(actionReject)},
		{"panicked with", one(OnPanic(PanicFailFast)), failure{kind: failedPanic, err: &PanicError{Value: Reject(errAny)}, attempt: 1}, decided(actionReject)},
	} {
		c.check(t)
	}
}

// partError is an error type for As.
type partError struct{ part string }

func (e *partError) Error() string { return "part " + e.part }

func TestDecideMatchers(t *testing.T) {
	t.Parallel()
	part := &partError{"wheel"}
	for _, tt := range []struct {
		name    string
		matcher Matcher
		err     error
		want    bool
	}{
		{"Is, itself", Is(errListed), errListed, true},
		{"Is, wrapped", Is(errListed), fmt.Errorf("a: %w", errListed), true},
		{"Is, joined", Is(errListed), errors.Join(errOther, errListed), true},
		{"Is, in a verdict", Is(errListed), Reject(errListed), true},
		{"Is, by the error's own rule", Is(ErrUndecodable), &UndecodableError{Err: errAny}, true},
		{"Is, of the same text", Is(errListed), errors.New(errListed.Error()), false},
		{"Is, another", Is(errListed), errOther, false},
		{"Is, the second of two", Is(errListed, errOther), fmt.Errorf("a: %w", errOther), true},
		{"Is, none of two", Is(errListed, errOther), errAny, false},
		{"As, itself", As[*partError](), part, true},
		{"As, wrapped", As[*partError](), fmt.Errorf("a: %w", part), true},
		{"As, joined", As[*partError](), errors.Join(errOther, part), true},
		{"As, panicked with", As[*partError](), &PanicError{Value: part}, true},
		{"As, an interface", As[net.Error](), fmt.Errorf("a: %w", context.DeadlineExceeded), true},
		{"As, another", As[*fs.PathError](), part, false},
		{"any, an error", AnyError(), errAny, true},
		{"any, a panic", AnyError(), panicked(1).err, true},
		{"any, undecodable", AnyError(), undecodable(1).err, true},
	} {
		p := policyOf(t, one(OnError(tt.matcher.Reject())))
		if got := p.decide(failedWith(tt.err, 1)).action == actionReject; got != tt.want {
			t.Errorf("%s: matches is %v, want %v", tt.name, got, tt.want)
		}
	}
}

// A rule for any error is for panics, undecodable payloads and requests too.
func TestDecideAnyError(t *testing.T) {
	t.Parallel()
	for _, f := range []failure{handlerFailed(1), panicked(1), undecodable(1), ofRequest(handlerFailed(1))} {
		decideCase{
			fmt.Sprintf("failure %d", f.kind), one(OnError(AnyError().DeadLetterTo(ruleDead)), DeadLetterTo(declaredDead)),
			f, deadTo(ruleDead, f.kind.reason()),
		}.check(t)
	}
}

// The first rule that matches decides: in order of writing, and those of the
// subscription before those of its router before those of the app.
func TestDecideRulesInOrder(t *testing.T) {
	t.Parallel()
	to := func(name string, err error) Option { return OnError(Is(err).DeadLetterTo(name)) }
	p := policyOf(t,
		one(to("subscription.listed", errListed), OnError(Is(errOther).DeadLetterTo("first"), Is(errOther).DeadLetterTo("second"))),
		one(to("router.listed", errListed), to("router.other", errOther), to("router.any", errAny)),
		one(OnError(AnyError().DeadLetterTo("app"))),
	)
	for _, tt := range []struct {
		err  error
		want string
	}{
		{errListed, "subscription.listed"},
		{errOther, "first"},
		{errAny, "router.any"},
		{errors.Join(errAny, errOther), "first"}, // by the order of the rules, not of the errors
		{errors.New("nowhere listed"), "app"},
	} {
		if got, want := p.decide(failedWith(tt.err, 1)), deadTo(tt.want, ReasonError); got != want {
			t.Errorf("%v: decided %+v, want %+v", tt.err, got, want)
		}
	}

	// The other way: a rule for any error that stands nearest hides all others.
	p = policyOf(t, one(OnError(AnyError().Ignore())), one(to("router", errListed)))
	if got := p.decide(failedWith(errListed, 1)).action; got != actionIgnore {
		t.Errorf("a rule for any error before another: %v", got)
	}
}

// What is no rule is the nearest one's too.
func TestPolicyNearestWins(t *testing.T) {
	t.Parallel()
	app := one(DeadLetterTo("app.dead"), OnPanic(PanicFailFast), OnUndecodable(UndecodableReject), RetryBackoff(Constant(time.Hour)))
	router := one(DeadLetterTo("router.dead"), OnPanic(PanicAsError))
	p := policyOf(t, nil, nil, app)
	if p.deadLetter != "app.dead" || p.panics != PanicFailFast || p.undecodable != UndecodableReject || p.retry.initial != time.Hour {
		t.Errorf("the policy is %+v", p)
	}
	p = policyOf(t, nil, router, app)
	if p.deadLetter != "router.dead" || p.panics != PanicAsError || p.undecodable != UndecodableReject {
		t.Errorf("the policy is %+v", p)
	}
	p = policyOf(t, one(NoDeadLetter()), router, app)
	if p.deadLetter != "" || len(p.targets()) != 0 || p.panics != PanicAsError {
		t.Errorf("the policy is %+v", p)
	}
	p = policyOf(t, one(DeadLetterTo("own.dead"), OnUndecodable(UndecodableKeep), RetryBackoff(Constant(1))), router, app)
	if p.deadLetter != "own.dead" || p.undecodable != UndecodableKeep || p.retry.initial != 1 {
		t.Errorf("the policy is %+v", p)
	}
}

func TestDecideRules(t *testing.T) {
	t.Parallel()
	attempts := Exponential(100*time.Millisecond, 30*time.Second).Attempts(3)
	rule := func(r PolicyRule) []HandleOption { return one(OnError(r)) }
	withDead := func(r PolicyRule) []HandleOption { return one(OnError(r), DeadLetterTo(declaredDead)) }
	gone := func(a action, to string) decision {
		return decision{action: a, to: to, reason: ReasonExhausted}
	}
	for _, c := range []decideCase{
		{"dead letter at once", rule(Is(errAny).DeadLetterTo(ruleDead)), handlerFailed(1), deadTo(ruleDead, ReasonError)},
		{"reject at once", withDead(Is(errAny).Reject()), handlerFailed(1), decision{action: actionReject, reason: ReasonError}},
		{"ignore at once", withDead(Is(errAny).Ignore()), handlerFailed(1), decision{action: actionIgnore, reason: ReasonError}},
		{"fail fast at once", withDead(Is(errAny).FailFast()), handlerFailed(1), decision{action: actionFailFast, reason: ReasonError}},
		{"no match", rule(Is(errListed).Reject()), handlerFailed(2), retryIn(400*time.Millisecond, ReasonError)},
		{"no match with a dead letter", withDead(Is(errListed).Reject()), handlerFailed(5), deadTo(declaredDead, ReasonExhausted)},

		{"retry, first", rule(AnyError().Retry(attempts).ThenReject()), handlerFailed(1), retryIn(100*time.Millisecond, ReasonError)},
		{"retry, second", rule(AnyError().Retry(attempts).ThenReject()), handlerFailed(2), retryIn(200*time.Millisecond, ReasonError)},
		{"then reject", rule(AnyError().Retry(attempts).ThenReject()), handlerFailed(3), gone(actionReject, "")},
		{"then reject, later", rule(AnyError().Retry(attempts).ThenReject()), handlerFailed(4), gone(actionReject, "")},
		{"then ignore", rule(AnyError().Retry(attempts).ThenIgnore()), handlerFailed(3), gone(actionIgnore, "")},
		{"then fail fast", rule(AnyError().Retry(attempts).ThenFailFast()), handlerFailed(3), gone(actionFailFast, "")},
		{"then dead letter", rule(AnyError().Retry(attempts).ThenDeadLetterTo(ruleDead)), handlerFailed(3), gone(actionDeadLetter, ruleDead)},
		{"then the rule's, not the declared one", withDead(AnyError().Retry(attempts).ThenDeadLetterTo(ruleDead)), handlerFailed(3), gone(actionDeadLetter, ruleDead)},
		{"then nothing but the declared one", withDead(AnyError().Retry(attempts)), handlerFailed(3), gone(actionDeadLetter, declaredDead)},
		{"one attempt in all", rule(AnyError().Retry(Constant(0).Attempts(1)).ThenIgnore()), handlerFailed(1), gone(actionIgnore, "")},

		{"retry without end", rule(AnyError().Retry(Constant(5 * time.Second))), handlerFailed(1000), retryIn(5*time.Second, ReasonError)},
		{"retry without end despite a dead letter", withDead(AnyError().Retry(Constant(5 * time.Second))), handlerFailed(1000), retryIn(5*time.Second, ReasonError)},
		{"panic by a rule", rule(AnyError().Retry(attempts).ThenReject()), panicked(1), retryIn(100*time.Millisecond, ReasonPanic)},
		{"undecodable by a rule", withDead(Is(ErrUndecodable).Retry(attempts).ThenReject()), undecodable(1), retryIn(100*time.Millisecond, ReasonUndecodable)},
		{"undecodable by a rule, exhausted", rule(Is(ErrUndecodable).Retry(attempts).ThenReject()), undecodable(3), gone(actionReject, "")},
		{"undecodable by a rule before the rejection", one(OnError(Is(ErrUndecodable).DeadLetterTo(ruleDead)), OnUndecodable(UndecodableReject)), undecodable(1), deadTo(ruleDead, ReasonUndecodable)},
	} {
		c.check(t)
	}
}

// The jitter comes after the cap: a capped delay is spread too, and never below
// the cap.
func TestDecideJitterAfterCap(t *testing.T) {
	t.Parallel()
	capped := one(OnError(Is(errListed).Retry(Exponential(time.Second, 10*time.Second).Jitter(1))))
	for _, tt := range []struct {
		name        string
		options     []HandleOption
		failure     failure
		least, most time.Duration
	}{
		{"default, first", nil, handlerFailed(1), 200 * time.Millisecond, 240 * time.Millisecond},
		{"default, capped", nil, handlerFailed(1 << 30), time.Minute, 72 * time.Second},
		{"undecodable, kept", nil, undecodable(1), time.Minute, 72 * time.Second},
		{"rule, capped", capped, failedWith(errListed, 5), 10 * time.Second, 20 * time.Second},
		{"verdict, by the rule", capped, failedWith(Retry(errListed), 5), 10 * time.Second, 20 * time.Second},
		{"verdict with its own delay", capped, failedWith(RetryAfter(time.Second, errListed), 5), time.Second, time.Second},
		{"constant", one(OnError(AnyError().Retry(Constant(time.Second)))), handlerFailed(1), time.Second, time.Second},
	} {
		p := policyOf(t, tt.options)
		delay := func(random float64) time.Duration {
			f := tt.failure
			f.random = random
			return p.decide(f).delay
		}
		if got := delay(0); got != tt.least {
			t.Errorf("%s: with random 0 the delay is %v, want %v", tt.name, got, tt.least)
		}
		if got := delay(justBelowOne); got > tt.most || got < tt.most-1 {
			t.Errorf("%s: with random just below 1 the delay is %v, want %v", tt.name, got, tt.most)
		}
		if got, want := delay(0.5), (tt.least+tt.most)/2; got != want {
			t.Errorf("%s: with random 0.5 the delay is %v, want %v", tt.name, got, want)
		}
	}
}

// A verdict says what it decides and keeps its error.
func TestVerdictErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		of         func(error) error
		alone, any string
	}{
		{Reject, "reject", "reject: any"},
		{Ignore, "ignore", "ignore: any"},
		{Retry, "retry", "retry: any"},
		{func(err error) error { return RetryAfter(time.Second, err) }, "retry", "retry: any"},
		{DeadLetter, "dead letter", "dead letter: any"},
		{FailFast, "fail fast", "fail fast: any"},
	} {
		if got := tt.of(nil).Error(); got != tt.alone {
			t.Errorf("without an error the text is %q, want %q", got, tt.alone)
		}
		err := tt.of(errAny)
		if got := err.Error(); got != tt.any {
			t.Errorf("the text is %q, want %q", got, tt.any)
		}
		if !errors.Is(err, errAny) {
			t.Errorf("%q does not unwrap to its error", err)
		}
	}
}

// The reasons are what users search their dead letters for.
func TestReasons(t *testing.T) {
	t.Parallel()
	got := []string{
		failedHandler.reason(), failedPanic.reason(), failedDecode.reason(), failedProcess.reason(),
		ReasonExhausted, ReasonVerdict,
	}
	want := []string{"error", "panic", "undecodable", "deliveries exceeded", "attempts exhausted", "handler decided"}
	if !slices.Equal(got, want) {
		t.Errorf("the reasons are %q, want %q", got, want)
	}
}

func TestPolicyWords(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		options []HandleOption
		request bool
		want    []string
	}{
		{"defaults", nil, false, []string{
			"undecodable: kept, tried again every 1m0s",
			"any other error: retry after 200ms, doubled up to 1m0s, plus up to 20%, without end (no dead letter is declared)",
		}},
		{"dead letter", one(DeadLetterTo(declaredDead)), false, []string{
			`undecodable: dead letter to "orders.dead" at once`,
			`any other error: retry after 200ms, doubled up to 1m0s, plus up to 20%, 5 attempts in all, then dead letter to "orders.dead"`,
		}},
		{"request", one(OnError(Is(errListed).Ignore())), true, []string{
			`error is "listed": ignore`,
			"any other failure of a request: reply with the error, without a retry",
			"undecodable: kept, tried again every 1m0s",
			"any other error: retry after 200ms, doubled up to 1m0s, plus up to 20%, without end (no dead letter is declared)",
		}},
		{"everything", one(
			OnPanic(PanicFailFast), OnUndecodable(UndecodableReject), DeadLetterTo("größe \"dead\""),
			OnError(
				Is(errListed).DeadLetterTo(ruleDead),
				As[*partError]().Retry(Exponential(100*time.Millisecond, 30*time.Second).Attempts(8)).ThenDeadLetterTo(ruleDead),
				As[net.Error]().Reject(),
			),
			RetryBackoff(Constant(time.Minute).Attempts(3)),
			OnError(
				Is(errOther, errAny).FailFast(),
				Is(errAny).Retry(Steps(time.Second, time.Minute)),
				Is(errAny).Retry(Constant(time.Second).Attempts(2)),
				Is(errAny).Retry(Constant(time.Second).Attempts(2)).ThenReject(),
				Is(errAny).Retry(Constant(time.Second).Attempts(2)).ThenIgnore(),
				AnyError().Retry(Constant(time.Second).Attempts(2)).ThenFailFast(),
			),
		), false, []string{
			"panic: fail fast",
			`error is "listed": dead letter to "orders.rule-dead"`,
			`error as *gostream.partError: retry after 100ms, doubled up to 30s, plus up to 20%, 8 attempts in all, then dead letter to "orders.rule-dead"`,
			"error as net.Error: reject",
			`error is "other" or "any": fail fast`,
			`error is "any": retry after 1s, 1m0s`,
			`error is "any": retry every 1s, 2 attempts in all, then dead letter to "größe \"dead\""`,
			`error is "any": retry every 1s, 2 attempts in all, then reject`,
			`error is "any": retry every 1s, 2 attempts in all, then ignore`,
			"any error: retry every 1s, 2 attempts in all, then fail fast",
			"undecodable: reject",
			`any other error: retry every 1m0s, 3 attempts in all, then dead letter to "größe \"dead\""`,
		}},
	} {
		p := policyOf(t, tt.options)
		if got := p.words(tt.request); !slices.Equal(got, tt.want) {
			t.Errorf("%s: the words are\n%s\nwant\n%s", tt.name, strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
		}
	}
}

// mostAttempts is the guard against messages that end the process: it may only be
// on where every path has an end and a dead letter.
func TestPolicyMostAttempts(t *testing.T) {
	t.Parallel()
	dead := DeadLetterTo(declaredDead)
	retry := func(n int) Option { return OnError(Is(errAny).Retry(Constant(1).Attempts(n)).ThenReject()) }
	endless := OnError(Is(errAny).Retry(Constant(1)))
	for _, tt := range []struct {
		name    string
		options []HandleOption
		want    int
	}{
		{"nothing declared", nil, 0},
		{"a rule's dead letter alone", one(OnError(AnyError().Retry(Constant(1).Attempts(9)).ThenDeadLetterTo(ruleDead))), 0},
		{"dead letter", one(dead), DefaultAttempts},
		{"a rule with fewer attempts", one(dead, retry(2)), DefaultAttempts},
		{"a rule with more attempts", one(dead, retry(9)), 9},
		{"the most of several rules", one(dead, retry(9), retry(12), retry(7)), 12},
		{"an own schedule", one(dead, RetryBackoff(Constant(1))), DefaultAttempts},
		{"own attempts", one(dead, RetryBackoff(Constant(1).Attempts(3))), 3},
		{"own attempts and a rule with more", one(dead, RetryBackoff(Constant(1).Attempts(3)), retry(4)), 4},
		{"rules that do not retry", one(dead, OnError(Is(errAny).Ignore(), AnyError().Reject())), DefaultAttempts},
		{"a rule without end", one(dead, endless), 0},
		{"a rule without end before another", one(dead, endless, retry(9)), 0},
		{"a rule without end after another", one(dead, retry(9), endless), 0},
	} {
		p := policyOf(t, tt.options)
		if got := p.mostAttempts(); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestPolicyTargets(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		options []HandleOption
		want    []string
	}{
		{"nothing declared", nil, nil},
		{"declared", one(DeadLetterTo(declaredDead)), []string{declaredDead}},
		{"rules that send nowhere", one(OnError(AnyError().Retry(Constant(1).Attempts(2)).ThenReject(), AnyError().Ignore())), nil},
		{"rules before the declared one, each once", one(
			DeadLetterTo(declaredDead),
			OnError(
				Is(errAny).DeadLetterTo("b"),
				Is(errAny).Retry(Constant(1).Attempts(2)).ThenDeadLetterTo("a"),
				Is(errAny).DeadLetterTo("a"),
				Is(errAny).Retry(Constant(1).Attempts(2)).ThenDeadLetterTo("b"),
			),
		), []string{"b", "a", declaredDead}},
		{"a rule's that is the declared one too", one(DeadLetterTo(declaredDead), OnError(AnyError().DeadLetterTo(declaredDead))), []string{declaredDead}},
	} {
		p := policyOf(t, tt.options)
		if got := p.targets(); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

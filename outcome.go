package gostream

import (
	"errors"
	"time"
)

// Outcome says how one attempt at a message ended.
type Outcome int

const (
	// OutcomeAcked: the handler succeeded and the message was acknowledged.
	OutcomeAcked Outcome = iota + 1
	// OutcomeIgnored: acknowledged, unprocessed, because the handler or a rule said so.
	OutcomeIgnored
	// OutcomeRejected: given up without a copy, because the handler or a rule said so.
	OutcomeRejected
	// OutcomeRetried: it will be attempted again.
	OutcomeRetried
	// OutcomeDeadLettered: a copy stands in the dead letter, the message is acknowledged.
	OutcomeDeadLettered
	// OutcomeErrorReplied: the request failed, its error went back as the reply.
	OutcomeErrorReplied
	// OutcomeGivenBack: returned to the broker unprocessed, by a drain or by FailFast.
	OutcomeGivenBack
	// OutcomeUnsettled: the broker did not accept the settlement, or the delivery
	// had become stale. The message comes again where the transport redelivers.
	OutcomeUnsettled
)

// String returns the outcome in lower case: "acked", "dead-lettered" …
func (o Outcome) String() string {
	switch o {
	case OutcomeAcked:
		return "acked"
	case OutcomeIgnored:
		return "ignored"
	case OutcomeRejected:
		return "rejected"
	case OutcomeRetried:
		return "retried"
	case OutcomeDeadLettered:
		return "dead-lettered"
	case OutcomeErrorReplied:
		return "error-replied"
	case OutcomeGivenBack:
		return "given-back"
	case OutcomeUnsettled:
		return "unsettled"
	default:
		return "unknown"
	}
}

// Reject gives the message up: it is nacked without requeue and not retried. The
// transport's own dead-lettering may take it. err may be nil.
func Reject(err error) error { return &verdict{action: actionReject, err: err} }

// Ignore acknowledges the message although it was not processed; a Reply handler
// publishes no reply. err may be nil.
func Ignore(err error) error { return &verdict{action: actionIgnore, err: err} }

// Retry has the message handled again after the delay that the policy would
// choose for this attempt. It decides outright: no limit of attempts applies.
// err may be nil.
func Retry(err error) error { return &verdict{action: actionRetry, delay: -1, err: err} }

// RetryAfter has the message handled again after d. It decides outright: no limit
// of attempts applies. d <= 0 is at once. err may be nil.
func RetryAfter(d time.Duration, err error) error {
	return &verdict{action: actionRetry, delay: max(d, 0), err: err}
}

// DeadLetter sends the message to the dead letter that a rule or [DeadLetterTo]
// declares for it. Where none is declared the error follows the policy as any
// other, and a log line says so. err may be nil.
func DeadLetter(err error) error { return &verdict{action: actionDeadLetter, err: err} }

// FailFast shuts the app down and makes Run return an error that wraps err. The message
// is held and given back to the broker at the drain; where the transport does not
// redeliver it is lost, and counted. err may be nil.
func FailFast(err error) error { return &verdict{action: actionFailFast, err: err} }

// OutcomeOf says what [Reject], [Ignore] or their like decided, err being what a handler
// or a middleware returned: the outcome that follows where nothing fails on the way. ok is
// false for an error that the policy is asked about, and for nil. A middleware learns here
// that Ignore(nil) is no failure.
func OutcomeOf(err error) (o Outcome, ok bool) {
	v, ok := verdictOf(err)
	if !ok {
		return 0, false
	}
	switch v.action {
	case actionIgnore:
		return OutcomeIgnored, true
	case actionReject:
		return OutcomeRejected, true
	case actionRetry:
		return OutcomeRetried, true
	case actionDeadLetter:
		return OutcomeDeadLettered, true
	default:
		return OutcomeGivenBack, true
	}
}

// verdict is an error that decides outright. It is found through wrapping; of
// several the outermost wins.
type verdict struct {
	action action
	delay  time.Duration // of a retry; negative: the policy's
	err    error         // may be nil
}

func (v *verdict) Error() string {
	if v.err == nil {
		return v.action.String()
	}
	return v.action.String() + ": " + v.err.Error()
}

func (v *verdict) Unwrap() error { return v.err }

// verdictOf finds the outermost verdict in err.
func verdictOf(err error) (*verdict, bool) {
	var v *verdict
	ok := errors.As(err, &v)
	return v, ok
}

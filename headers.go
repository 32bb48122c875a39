package gostream

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gostream/gostream/broker"
)

// The headers that gostream itself writes. The well-known ones (content type,
// correlation id, reply-to, message id) are in package broker.
const (
	// HeaderError is the error's text on a reply to a request whose handler failed.
	HeaderError = "gostream-error"
	// HeaderDeadReason says in a word why a message is in the dead letter: one of
	// the Reason constants.
	HeaderDeadReason = "gostream-dead-reason"
	// HeaderDeadError is the text of the last error, at most 1,024 bytes.
	HeaderDeadError = "gostream-dead-error"
	// HeaderDeadSource is the concrete name that the message had come from.
	HeaderDeadSource = "gostream-dead-source"
	// HeaderDeadSubscription is the subscription that gave it up.
	HeaderDeadSubscription = "gostream-dead-subscription"
	// HeaderDeadAttempts is how often it was attempted, in decimal.
	HeaderDeadAttempts = "gostream-dead-attempts"
	// HeaderDeadTime is when it was given up, RFC 3339 in UTC.
	HeaderDeadTime = "gostream-dead-time"
)

// Why a message failed, as logs and [HeaderDeadReason] say it.
const (
	// ReasonError: a rule for the handler's error said so.
	ReasonError = "error"
	// ReasonPanic: a rule for its panic said so.
	ReasonPanic = "panic"
	// ReasonUndecodable: the payload could not be decoded.
	ReasonUndecodable = "undecodable"
	// ReasonExhausted: the last attempt failed too.
	ReasonExhausted = "attempts exhausted"
	// ReasonDeliveries: it was delivered too often, see [ErrDeliveriesExceeded].
	ReasonDeliveries = "deliveries exceeded"
	// ReasonVerdict: the handler said so, with [DeadLetter] or its like.
	ReasonVerdict = "handler decided"
)

// reasonCode is a Reason constant in a byte: frames are many.
type reasonCode uint8

var reasons = [...]string{"", ReasonError, ReasonPanic, ReasonUndecodable, ReasonExhausted, ReasonDeliveries, ReasonVerdict}

// reasonOf is the code of a Reason constant, 0 for any other text.
func reasonOf(reason string) reasonCode { return reasonCode(max(0, slices.Index(reasons[:], reason))) }

func (r reasonCode) String() string { return reasons[r] }

// carried are the headers of an incoming message that go on to what is published
// while it is handled: trace context and baggage. The correlation id goes on too.
var carried = [...]string{"traceparent", "tracestate", "baggage"}

// maxErrorText bounds an error's text in a header, in bytes.
const maxErrorText = 1024

// errorText is err's text in a form that every transport's headers can hold:
// printable, on one line, at most maxErrorText bytes.
func errorText(err error) string {
	s := strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, textOf(err))
	if len(s) <= maxErrorText {
		return s
	}
	cut := maxErrorText - len("…")
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// textOf is err.Error(), also where that panics, as the method of a typed nil does.
func textOf(err error) (text string) {
	defer func() {
		if r := recover(); r != nil {
			text = fmt.Sprintf("%T: its Error method panicked: %v", err, r)
		}
	}()
	return err.Error()
}

// fieldList collects header fields without an allocation of its own.
type fieldList struct {
	n      int
	fields [8]broker.Header
}

func (l *fieldList) add(key, value string) {
	if value != "" {
		l.fields[l.n] = broker.Header{Key: key, Value: value}
		l.n++
	}
}

// carry adds to l what goes on from in to a message with the headers out: the
// correlation id (in's own, else its message id) and the trace context, each
// unless out says otherwise.
func (l *fieldList) carry(in, out broker.Headers) {
	if !out.Has(broker.HeaderCorrelationID) {
		id := in.CorrelationID()
		if id == "" {
			id = in.MessageID()
		}
		l.add(broker.HeaderCorrelationID, id)
	}
	for _, key := range carried {
		if v, ok := in.Lookup(key); ok && !out.Has(key) {
			l.add(key, v)
		}
	}
}

// onto returns base with the collected fields after it.
func (l *fieldList) onto(base broker.Headers) broker.Headers {
	if l.n == 0 {
		return base
	}
	if base.Len() == 0 {
		return broker.NewHeaders(l.fields[:l.n]...)
	}
	return base.WithAll(l.fields[:l.n]...)
}

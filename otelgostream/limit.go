package otelgostream

import (
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
)

// What comes with messages is bounded here: who sends them does not decide how much is
// kept of them.

// maxText bounds an attribute that a message or an error has chosen, in bytes.
const maxText = 1024

// maxBaggage is the most of baggage that is passed on, in bytes: what the W3C asks of
// everybody to pass on, and what more of is not read.
const maxBaggage = 8192

// bounded is s as an attribute: valid UTF-8, without which an exporter refuses all spans of
// its batch, and of at most maxText bytes.
func bounded(s string) string {
	if len(s) > maxText {
		cut := maxText - len("…")
		for cut > maxText-len("…")-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	return strings.ToValidUTF8(s, "\ufffd")
}

// maxErrorTypes bounds the types of errors that metrics tell apart.
const maxErrorTypes = 100

// otherType is the conventions' name for all others.
const otherType = "_OTHER"

// limitedSet is the types of errors that were seen first. It is safe for concurrent use.
type limitedSet struct {
	seen sync.Map // of string
	n    atomic.Int32
}

// within returns s, or otherType where too many others came first.
func (l *limitedSet) within(s string) string {
	if _, known := l.seen.Load(s); known {
		return s
	}
	if l.n.Add(1) > maxErrorTypes {
		l.n.Add(-1)
		return otherType
	}
	if _, known := l.seen.LoadOrStore(s, nil); known {
		l.n.Add(-1)
	}
	return s
}

// labelCache keeps labels that end with the type of an error. There are no more of them
// than limitedSet lets through. It is safe for concurrent use.
type labelCache struct{ known sync.Map }

type labelKey struct{ operation, errorType string }

// get returns the labels with and the error's type.
func (c *labelCache) get(operation, errorType string, with func(...attribute.KeyValue) labels, more ...attribute.KeyValue) labels {
	key := labelKey{operation, errorType}
	if l, ok := c.known.Load(key); ok {
		return l.(labels)
	}
	l, _ := c.known.LoadOrStore(key, with(append(more, keyErrorType.String(errorType))...))
	return l.(labels)
}

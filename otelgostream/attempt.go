package otelgostream

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/gostream/gostream"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// attempt is the span of one processing while it is open, and the context that finds it
// again. How a message was settled is known only after the middleware has returned: the
// span waits for that, and ends as of the moment at which the handler had returned.
type attempt struct {
	context.Context
	carrier // of what is extracted

	span     trace.Span
	batch    int                // 0 for a single message
	delivery *gostream.Delivery // of a single message
	creation trace.SpanContext  // of a single message: what sent it
	links    []trace.Link       // of a batch: what sent its messages

	mu       sync.Mutex
	open     int       // messages whose end is not known yet
	returned time.Time // when the handler did; zero while it has not
	whole    string    // the type of the error that it failed with as a whole
	outcomes [gostream.OutcomeUnsettled + 1]int
	failed   int    // of a batch: messages that failed by themselves
	kind     string // the type of the first one's error
	ended    bool
	// told are those of a batch whose end is known, and of which more may be heard: what is
	// retried is parked then, and what is pending is settled in the end.
	told    map[*gostream.Delivery]bool
	sources map[trace.SpanID]bool // of links; made when it is asked for
}

type attemptKey struct{}

// Value finds the attempt in the contexts that descend from it.
func (a *attempt) Value(key any) any {
	if _, ok := key.(attemptKey); ok {
		return a
	}
	return a.Context.Value(key)
}

// attemptIn is the attempt that ctx belongs to, nil for none.
func attemptIn(ctx context.Context) *attempt {
	a, _ := ctx.Value(attemptKey{}).(*attempt)
	return a
}

// cameFrom reports the context in which a message of the attempt was sent.
func (a *attempt) cameFrom(sc trace.SpanContext) bool {
	if a.batch == 0 {
		return a.creation.Equal(sc)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.sources == nil {
		a.sources = make(map[trace.SpanID]bool, len(a.links))
		for _, l := range a.links {
			a.sources[l.SpanContext.SpanID()] = true
		}
	}
	return a.sources[sc.SpanID()]
}

// pending is in place of an outcome where a message waits for a publish that failed.
const pending gostream.Outcome = 0

// settled notes how a message of the attempt ended, and what failed.
func (a *attempt) settled(d *gostream.Delivery, o gostream.Outcome, f failure) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open == 0 || a.told[d] {
		return
	}
	if a.batch > 0 && (o == pending || o == gostream.OutcomeRetried || o == gostream.OutcomeGivenBack) {
		if a.told == nil {
			a.told = make(map[*gostream.Delivery]bool)
		}
		a.told[d] = true
	}
	if a.batch > 0 && f.kind != "" {
		if a.failed++; a.kind == "" {
			a.kind = f.kind
		}
	}
	a.open--
	a.outcomes[o]++
	a.endIfDone()
}

// handled notes that the handler has returned.
func (a *attempt) handled(f failure, now time.Time) {
	f.record(a.span)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.returned, a.whole = now, f.kind
	a.endIfDone()
}

// reason is why a request failed that is answered with its error, as gostream says it.
func (a *attempt) reason() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch a.whole {
	case typePanic:
		return gostream.ReasonPanic
	case typeUndecodable:
		return gostream.ReasonUndecodable
	default:
		return gostream.ReasonError
	}
}

// abandon ends the span of an attempt that nobody will settle.
func (a *attempt) abandon() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.returned.IsZero() {
		a.returned = time.Now()
	}
	a.open = 0
	a.endIfDone()
}

// endIfDone ends the span when the handler has returned and every message is settled; mu
// is held.
func (a *attempt) endIfDone() {
	if a.open > 0 || a.returned.IsZero() || a.ended {
		return
	}
	a.ended = true
	if !a.span.IsRecording() {
		a.span.End()
		return
	}
	a.setOutcome()
	a.span.End(trace.WithTimestamp(a.returned))
}

func (a *attempt) setOutcome() {
	var all []string
	for o, n := range a.outcomes {
		if n == 0 {
			continue
		}
		name := gostream.Outcome(o).String()
		if gostream.Outcome(o) == pending {
			name = "pending"
		}
		if a.batch == 0 {
			a.span.SetAttributes(keyOutcome.String(name))
			return
		}
		all = append(all, name+"="+strconv.Itoa(n))
	}
	if all != nil {
		a.span.SetAttributes(keyOutcomes.StringSlice(all))
	}
	if a.failed > 0 && a.whole == "" {
		a.span.SetAttributes(keyErrorType.String(a.kind))
		a.span.SetStatus(codes.Error, strconv.Itoa(a.failed)+" of "+strconv.Itoa(a.batch)+" messages failed")
	}
}

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
	outcomes [gostream.OutcomeUnsettled + 1]int
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

// settled notes how a message of the attempt ended.
func (a *attempt) settled(d *gostream.Delivery, o gostream.Outcome) {
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
	a.open--
	a.outcomes[o]++
	a.endIfDone()
}

// handled notes that the handler has returned.
func (a *attempt) handled(err error, now time.Time) {
	if isFailure(err) {
		a.span.SetAttributes(errorType(err))
		a.span.SetStatus(codes.Error, err.Error())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.returned = now
	a.endIfDone()
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
}

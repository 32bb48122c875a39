package gostream

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// The default backoff: exponential from DefaultRetryInitial, doubled each time,
// capped at DefaultRetryMax, plus up to DefaultJitter of the delay.
const (
	DefaultRetryInitial = 200 * time.Millisecond
	DefaultRetryMax     = time.Minute
	DefaultJitter       = 0.2
	// DefaultAttempts is how often a message is handled at most where a dead
	// letter is declared and no rule says otherwise.
	DefaultAttempts = 5
)

// Backoff is a schedule of delays between attempts. It is plain data; make it
// with [Exponential], [Constant] or [Steps]. The zero value is a mistake that Check
// finds.
type Backoff struct {
	made         bool // by a constructor
	initial, max time.Duration
	steps        []time.Duration // of Steps; nil otherwise
	jitter       float64
	attempts     int // 0: without end
	bad          error
}

// Exponential waits initial before the second attempt and twice as long before
// each further one, never longer than max. Jitter is added to that: see
// [Backoff.Jitter]. Attempts are without end: see [Backoff.Attempts].
func Exponential(initial, max time.Duration) Backoff {
	b := Backoff{made: true, initial: initial, max: max, jitter: DefaultJitter}
	if initial <= 0 || max < initial {
		b.bad = fmt.Errorf("Exponential(%v, %v): the first delay must be positive and not above the second", initial, max)
	}
	return b
}

// Constant waits d before each attempt, without jitter.
func Constant(d time.Duration) Backoff {
	b := Backoff{made: true, initial: d, max: d}
	if d < 0 {
		b.bad = fmt.Errorf("Constant(%v): the delay must not be negative", d)
	}
	return b
}

// Steps waits the given delays in turn, and the last of them from then on,
// without jitter.
func Steps(delays ...time.Duration) Backoff {
	b := Backoff{made: true, steps: append([]time.Duration(nil), delays...)}
	if len(delays) == 0 {
		b.bad = errors.New("Steps(): at least one delay is needed")
	}
	for _, d := range delays {
		if d < 0 {
			b.bad = errors.Join(b.bad, fmt.Errorf("Steps: the delay %v must not be negative", d))
		}
	}
	return b
}

// Attempts limits how often a message is handled in all, the first time
// included. n must be at least 1, and something must come after the last
// attempt: a Then… of the rule, or [DeadLetterTo].
func (b Backoff) Attempts(n int) Backoff {
	if n < 1 {
		b.bad = errors.Join(b.bad, fmt.Errorf("Attempts(%d): at least 1 is needed; leave it out for retries without end", n))
	}
	b.attempts = n
	return b
}

// Jitter adds a random part of up to fraction times the delay, after the cap: 0
// for none, at most 1. It spreads messages that failed together.
func (b Backoff) Jitter(fraction float64) Backoff {
	if !(fraction >= 0 && fraction <= 1) {
		b.bad = errors.Join(b.bad, fmt.Errorf("Jitter(%v): the fraction must lie between 0 and 1", fraction))
	}
	b.jitter = fraction
	return b
}

// check reports what is wrong with the schedule.
func (b Backoff) check() error {
	if !b.made && b.bad == nil {
		return errors.New("an empty Backoff: make it with Exponential, Constant or Steps")
	}
	return b.bad
}

// delay is how long to wait after the attempt-th attempt (the first is 1) failed;
// random lies in [0, 1).
func (b Backoff) delay(attempt int, random float64) time.Duration {
	attempt = max(attempt, 1)
	d := b.initial
	switch {
	case b.steps != nil:
		d = b.steps[min(attempt, len(b.steps))-1]
	default:
		for i := 1; i < attempt && d < b.max; i++ {
			if d > b.max/2 {
				d = b.max
				break
			}
			d *= 2
		}
	}
	extra := time.Duration(b.jitter * random * float64(d))
	return d + min(extra, math.MaxInt64-d)
}

// String says the schedule in words.
func (b Backoff) String() string {
	var s strings.Builder
	switch {
	case b.steps != nil:
		s.WriteString("after ")
		for i, d := range b.steps {
			if i > 0 {
				s.WriteString(", ")
			}
			s.WriteString(d.String())
		}
	case b.initial == b.max:
		fmt.Fprintf(&s, "every %v", b.initial)
	default:
		fmt.Fprintf(&s, "after %v, doubled up to %v", b.initial, b.max)
	}
	if b.jitter > 0 {
		fmt.Fprintf(&s, ", plus up to %.0f%%", b.jitter*100)
	}
	if b.attempts > 0 {
		fmt.Fprintf(&s, ", %d attempts in all", b.attempts)
	}
	return s.String()
}

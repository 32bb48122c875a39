package gostream

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// endless is an attempt that no schedule with a loop per attempt survives.
const endless = 1 << 30

// justBelowOne is the largest random number that decide can be handed.
var justBelowOne = math.Nextafter(1, 0)

func TestBackoffDelay(t *testing.T) {
	t.Parallel()
	const forever = time.Duration(math.MaxInt64)
	byDefault := Exponential(DefaultRetryInitial, DefaultRetryMax)
	for _, tt := range []struct {
		name    string
		backoff Backoff
		random  float64
		want    map[int]time.Duration // by attempt
	}{
		{"the default without jitter", byDefault, 0, map[int]time.Duration{
			1: 200 * time.Millisecond, 2: 400 * time.Millisecond, 3: 800 * time.Millisecond,
			9: 51_200 * time.Millisecond, 10: time.Minute, 11: time.Minute, endless: time.Minute,
		}},
		{"the default with jitter", byDefault, 0.5, map[int]time.Duration{
			1: 220 * time.Millisecond, 2: 440 * time.Millisecond, 10: 66 * time.Second, endless: 66 * time.Second,
		}},
		{"a cap that no doubling meets", Exponential(3*time.Second, 10*time.Second), 0, map[int]time.Duration{
			1: 3 * time.Second, 2: 6 * time.Second, 3: 10 * time.Second, 4: 10 * time.Second, endless: 10 * time.Second,
		}},
		{"a cap that a doubling meets", Exponential(time.Second, 8*time.Second), 0, map[int]time.Duration{
			3: 4 * time.Second, 4: 8 * time.Second, 5: 8 * time.Second, endless: 8 * time.Second,
		}},
		{"first delay and cap in one", Exponential(time.Second, time.Second), 0, map[int]time.Duration{
			1: time.Second, 2: time.Second, endless: time.Second,
		}},
		{"attempts before the first", Exponential(time.Second, time.Minute), 0, map[int]time.Duration{
			0: time.Second, -1: time.Second, math.MinInt: time.Second,
		}},
		{"the smallest and the largest", Exponential(1, forever), 0, map[int]time.Duration{
			1: 1, 2: 2, 62: 1 << 61, 63: 1 << 62, 64: forever, 65: forever, endless: forever,
		}},
		{"jitter on the largest", Exponential(1, forever).Jitter(1), 0.75, map[int]time.Duration{
			1: 1, 62: 1<<61 + 3<<59, 63: 1<<62 + 3<<60, 64: forever, endless: forever,
		}},
		{"constant", Constant(3 * time.Second), 0.75, map[int]time.Duration{
			1: 3 * time.Second, 2: 3 * time.Second, endless: 3 * time.Second,
		}},
		{"constant with jitter", Constant(4 * time.Second).Jitter(0.5), 0.5, map[int]time.Duration{
			1: 5 * time.Second, endless: 5 * time.Second,
		}},
		{"at once", Constant(0), 0.75, map[int]time.Duration{1: 0, 2: 0, endless: 0, math.MaxInt: 0}},
		{"steps", Steps(time.Second, 0, time.Minute), 0.75, map[int]time.Duration{
			0: time.Second, 1: time.Second, 2: 0, 3: time.Minute, 4: time.Minute, endless: time.Minute,
		}},
		{"steps with jitter", Steps(time.Second, 10*time.Second).Jitter(1), 0.5, map[int]time.Duration{
			1: 1500 * time.Millisecond, 2: 15 * time.Second, endless: 15 * time.Second,
		}},
		{"a limit of attempts changes no delay", byDefault.Attempts(3), 0, map[int]time.Duration{
			1: 200 * time.Millisecond, 4: 1600 * time.Millisecond,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if err := tt.backoff.check(); err != nil {
				t.Fatal(err)
			}
			for attempt, want := range tt.want {
				if got := tt.backoff.delay(attempt, tt.random); got != want {
					t.Errorf("after attempt %d: %v, want %v", attempt, got, want)
				}
			}
		})
	}
}

// The jitter lies on top of the delay, between nothing and its fraction.
func TestBackoffJitterBounds(t *testing.T) {
	t.Parallel()
	for _, fraction := range []float64{0, 0.2, 0.5, 1} {
		b := Exponential(100*time.Millisecond, 30*time.Second).Jitter(fraction)
		plain := b.Jitter(0)
		for attempt := 1; attempt <= 12; attempt++ {
			d := plain.delay(attempt, justBelowOne)
			if got := b.delay(attempt, 0); got != d {
				t.Errorf("jitter %v, attempt %d: random 0 gives %v, want %v", fraction, attempt, got, d)
			}
			most := d + time.Duration(fraction*float64(d))
			if got := b.delay(attempt, justBelowOne); got > most || got < most-1 {
				t.Errorf("jitter %v, attempt %d: random just below 1 gives %v, want %v", fraction, attempt, got, most)
			}
		}
	}
}

// A backoff is plain data: a method changes a copy, and Steps keeps no slice of
// the caller's.
func TestBackoffIsAValue(t *testing.T) {
	t.Parallel()
	b := Exponential(time.Second, time.Minute)
	_ = b.Attempts(3)
	_ = b.Jitter(1)
	_ = b.Attempts(0)
	if b.attempts != 0 || b.jitter != DefaultJitter || b.check() != nil {
		t.Errorf("a method changed its receiver: %+v", b)
	}
	delays := []time.Duration{time.Second, 2 * time.Second}
	s := Steps(delays...)
	delays[0] = time.Hour
	if got := s.delay(1, 0); got != time.Second {
		t.Errorf("the caller's slice changed the schedule: %v", got)
	}
}

// Each mistake is kept until start, and one does not hide another.
func TestBackoffMistakes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		backoff Backoff
		want    []string // none: it is fine
	}{
		{Exponential(time.Millisecond, time.Millisecond), nil},
		{Constant(0), nil},
		{Steps(0), nil},
		{Constant(1).Attempts(1).Jitter(0).Jitter(1), nil},
		{Backoff{}, []string{"an empty Backoff: make it with Exponential, Constant or Steps"}},
		{Backoff{}.Attempts(3).Jitter(1), []string{"an empty Backoff: make it with Exponential, Constant or Steps"}},
		{Exponential(0, time.Second), []string{"Exponential(0s, 1s): the first delay must be positive"}},
		{Exponential(-time.Second, time.Second), []string{"Exponential(-1s, 1s): the first delay must be positive"}},
		{Exponential(2*time.Second, time.Second), []string{"Exponential(2s, 1s): the first delay must be positive and not above the second"}},
		{Constant(-1), []string{"Constant(-1ns): the delay must not be negative"}},
		{Steps(), []string{"Steps(): at least one delay is needed"}},
		{Steps(1, -2, 3, -4), []string{"Steps: the delay -2ns must not be negative", "Steps: the delay -4ns must not be negative"}},
		{Constant(1).Attempts(0), []string{"Attempts(0): at least 1 is needed; leave it out for retries without end"}},
		{Constant(1).Attempts(-3), []string{"Attempts(-3): at least 1 is needed"}},
		{Constant(1).Jitter(-0.1), []string{"Jitter(-0.1): the fraction must lie between 0 and 1"}},
		{Constant(1).Jitter(1.1), []string{"Jitter(1.1): the fraction must lie between 0 and 1"}},
		{Constant(1).Jitter(math.NaN()), []string{"Jitter(NaN): the fraction must lie between 0 and 1"}},
		{Constant(1).Jitter(math.Inf(1)), []string{"Jitter(+Inf): the fraction must lie between 0 and 1"}},
		{Constant(-1).Attempts(0).Jitter(2), []string{"Constant(-1ns): ", "Attempts(0): ", "Jitter(2): "}},
		{Constant(-1).Attempts(2).Jitter(0.5), []string{"Constant(-1ns): "}},
	} {
		err := tt.backoff.check()
		if err == nil {
			if tt.want != nil {
				t.Errorf("%v: no mistake, want %q", tt.backoff, tt.want)
			}
			continue
		}
		got := strings.Split(err.Error(), "\n")
		if !slices.EqualFunc(got, tt.want, strings.HasPrefix) {
			t.Errorf("%v: mistakes %q, want %q", tt.backoff, got, tt.want)
		}
	}
}

func TestBackoffString(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		backoff Backoff
		want    string
	}{
		{Exponential(DefaultRetryInitial, DefaultRetryMax), "after 200ms, doubled up to 1m0s, plus up to 20%"},
		{Exponential(100*time.Millisecond, 30*time.Second).Attempts(8), "after 100ms, doubled up to 30s, plus up to 20%, 8 attempts in all"},
		{Exponential(time.Second, time.Second), "every 1s, plus up to 20%"},
		{Exponential(time.Second, time.Minute).Jitter(0), "after 1s, doubled up to 1m0s"},
		{Constant(5 * time.Second), "every 5s"},
		{Constant(5 * time.Second).Jitter(1).Attempts(2), "every 5s, plus up to 100%, 2 attempts in all"},
		{Steps(time.Second, 10*time.Second, time.Minute), "after 1s, 10s, 1m0s"},
		{Steps(time.Second).Attempts(1), "after 1s, 1 attempts in all"},
	} {
		if got := tt.backoff.String(); got != tt.want {
			t.Errorf("the words are %q, want %q", got, tt.want)
		}
	}
}

func FuzzBackoffDelay(f *testing.F) {
	f.Add(int64(DefaultRetryInitial), int64(DefaultRetryMax), 5, DefaultJitter, 0.5)
	f.Add(int64(1), int64(math.MaxInt64), endless, 1.0, justBelowOne)
	f.Add(int64(1), int64(math.MaxInt64), 64, 1.0, 0.5)
	f.Add(int64(math.MaxInt64/2+1), int64(math.MaxInt64), 2, 0.2, 0.9)
	f.Add(int64(3), int64(10), -1, 0.0, 0.0)
	f.Add(int64(0), int64(-1), 1, math.NaN(), 2.0)
	f.Fuzz(func(t *testing.T, initial, most int64, attempt int, jitter, random float64) {
		if !(random >= 0 && random < 1) {
			t.Skip("no random number")
		}
		first, limit := time.Duration(initial), time.Duration(most)
		checkBackoffDelay(t, Exponential(first, limit).Jitter(jitter), limit, attempt, random)
		checkBackoffDelay(t, Constant(first).Jitter(jitter), first, attempt, random)
		checkBackoffDelay(t, Steps(first, limit).Jitter(jitter), max(first, limit), attempt, random)
	})
}

// checkBackoffDelay checks one delay of a schedule whose longest one is known.
func checkBackoffDelay(t *testing.T, b Backoff, longest time.Duration, attempt int, random float64) {
	t.Helper()
	if b.check() != nil {
		return // no app starts with it
	}
	plain := b.Jitter(0)
	d, got := plain.delay(attempt, random), b.delay(attempt, random)
	what := fmt.Sprintf("%v: attempt %d", b, attempt)
	switch {
	case d < 0 || d > longest:
		t.Errorf("%s: %v without jitter, want between 0 and %v", what, d, longest)
	case got < d:
		t.Errorf("%s: %v is less than without jitter, %v", what, got, d)
	case float64(got-d) > b.jitter*float64(d):
		t.Errorf("%s: %v is more than %v of %v", what, got-d, b.jitter, d)
	}
	if b.steps == nil && attempt < math.MaxInt && plain.delay(attempt+1, random) < d {
		t.Errorf("%s: the next delay is shorter than %v", what, d)
	}
}

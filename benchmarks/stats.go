package main

import (
	"math"
	"slices"
)

// Summary is several measurements of one thing. Min and Max are the spread.
type Summary struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// median is the middle value; of an even number, the mean of the middle two. Of
// none it is NaN.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	v := slices.Sorted(slices.Values(values))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// summarize needs at least one value.
func summarize(values []float64) Summary {
	return Summary{Median: median(values), Min: slices.Min(values), Max: slices.Max(values)}
}

// ratios divides pair by pair: what was measured in the same round belongs
// together. Both have the same length.
func ratios(values, base []float64) []float64 {
	r := make([]float64, len(values))
	for i := range values {
		r[i] = values[i] / base[i]
	}
	return r
}

// A verdict says what the ratios of one entrant to the base mean.
const (
	slower            = "slower"
	faster            = "faster"
	indistinguishable = "indistinguishable"
)

// verdict is indistinguishable where the spread of the ratios covers 1: some rounds
// say faster, others slower.
func verdict(ratio Summary) string {
	switch {
	case ratio.Min > 1:
		return slower
	case ratio.Max < 1:
		return faster
	default:
		return indistinguishable
	}
}

// quantile is the smallest value that at least the fraction q of sorted does not
// exceed. sorted must not be empty.
func quantile(sorted []float64, q float64) float64 {
	// The tolerance: 0.99 * 100 is a little more than 99.
	i := int(math.Ceil(q*float64(len(sorted))-1e-9)) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

package main

import (
	"math"
	"slices"
	"testing"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{7}, 7},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 3, 2}, 2.5},
		{[]float64{1, 1, 1, 1000}, 1},
	} {
		if got := median(tt.values); got != tt.want {
			t.Errorf("median(%v) is %v, want %v", tt.values, got, tt.want)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("the median of nothing is %v", got)
	}
	values := []float64{3, 1, 2}
	median(values)
	if !slices.Equal(values, []float64{3, 1, 2}) {
		t.Errorf("median sorted the rounds: %v", values)
	}
}

func TestSummarize(t *testing.T) {
	t.Parallel()
	if got, want := summarize([]float64{5, 1, 3}), (Summary{Median: 3, Min: 1, Max: 5}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// The machine gets slower from round to round; pair by pair it does not show.
func TestRatiosArePairByPair(t *testing.T) {
	t.Parallel()
	got := summarize(ratios([]float64{20, 200, 2000}, []float64{10, 100, 1000}))
	if want := (Summary{Median: 2, Min: 2, Max: 2}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		ratios []float64
		want   string
	}{
		{[]float64{1.2, 1.1, 1.3}, slower},
		{[]float64{0.8, 0.9, 0.7}, faster},
		{[]float64{0.9, 1.2, 1.3}, indistinguishable},
		{[]float64{1, 1.5, 2}, indistinguishable},
		{[]float64{1, 1, 1}, indistinguishable},
	} {
		if got := verdict(summarize(tt.ratios)); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.ratios, got, tt.want)
		}
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	v := make([]float64, 1000)
	for i := range v {
		v[i] = float64(i + 1)
	}
	for q, want := range map[float64]float64{0: 1, 0.5: 500, 0.99: 990, 0.999: 999, 1: 1000} {
		if got := quantile(v, q); got != want {
			t.Errorf("the quantile %v is %v, want %v", q, got, want)
		}
	}
	if got := quantile([]float64{4}, 0.99); got != 4 {
		t.Errorf("of one value: %v", got)
	}
}

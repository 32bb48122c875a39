package main

import (
	"strconv"
	"testing"
	"time"
)

func TestEveryGrowthEntrantHandlesEachMessageOnce(t *testing.T) {
	t.Parallel()
	for _, c := range []contest{subscriptionGrowth(), laneGrowth(1000), middlewareGrowth(), payloadGrowth()} {
		for _, e := range c.entrants {
			t.Run(c.name+"/"+e.name, func(t *testing.T) {
				t.Parallel()
				size, n := 64, 500
				if e.traffic != nil {
					size = len(e.traffic.payload(0))
				}
				if size > 1<<12 {
					n = 20
				}
				load := numbered(c.traffic, size)
				if load.key != nil {
					load.key = func(i int) []byte { return strconv.AppendInt(nil, int64(i), 10) }
				}
				checkEntrant(t, e, load, c.inFlight, n)
			})
		}
	}
}

// Every name of the subscriptions has its turn, and what they hold is measured.
func TestSubscriptionGrowthMeasuresWhatIsHeld(t *testing.T) {
	r, err := shape{subscriptions: 1000}.start(newFlight(1).probe(), same())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if r.held < 100 {
		t.Errorf("an idle subscription holds %.0f bytes", r.held)
	}
}

func TestLatency(t *testing.T) {
	t.Parallel()
	cases, err := latency(t.Context(), settings{rounds: minRounds, sample: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range cases[0].Rows {
		l := r.Latency
		if l.Rate <= 0 || l.P50.Median <= 0 || l.P50.Median > l.P99.Median || l.P99.Median > l.P999.Median {
			t.Errorf("%s: %+v", r.Name, *l)
		}
	}
}

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// latencyFlight is how many may be in flight while the peak is measured.
	latencyFlight = 64
	// latencyMost bounds the messages of a round.
	latencyMost = 200_000
)

// latency is the time from publish to handled, at half the rate that a side can do,
// and of gostream also at the rate of Watermill.
func latency(ctx context.Context, s settings) ([]Case, error) {
	c, err := paced(ctx, s, []pacedEntrant{
		{name: "gostream", start: gostreamPeer(noop, false)},
		{name: "watermill", start: watermillPeer(noop, false, true)},
		{name: "gostream at watermill's rate", start: gostreamPeer(noop, false), as: "watermill"},
	})
	return []Case{c}, err
}

type pacedEntrant struct {
	name  string
	start func(probe, traffic) (*rig, error)
	as    string // takes the rate of that entrant; "" for its own
}

// stopwatch is the probe and the traffic of a paced entrant: the payload is when the
// message was published.
type stopwatch struct {
	began   time.Time
	flight  *flight
	paced   bool // written while nothing is in flight
	took    []float64
	handled atomic.Int64
	noted   atomic.Int64 // of these, whose time stands in took
	last    chan struct{}
}

// payload is made for each message on both sides.
func (w *stopwatch) payload(int) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(time.Since(w.began)))
}

func (w *stopwatch) raw(payload []byte) {
	if !w.paced {
		w.flight.handled()
		return
	}
	took := time.Since(w.began) - time.Duration(binary.BigEndian.Uint64(payload))
	n := int64(len(w.took)) // read before the last one has noted its time
	if i := w.handled.Add(1) - 1; i < n {
		w.took[i] = float64(took)
	}
	if w.noted.Add(1) == n {
		close(w.last)
	}
}

// pace publishes n messages, one each interval, and returns how long each took, sorted.
// Where the publisher is late it catches up.
func (w *stopwatch) pace(ctx context.Context, r *rig, n int, interval time.Duration) ([]float64, error) {
	w.took, w.last, w.paced = make([]float64, n), make(chan struct{}), true
	w.handled.Store(0)
	w.noted.Store(0)
	runtime.GC()
	begun := time.Now()
	for i := range n {
		for due := time.Duration(i) * interval; time.Since(begun) < due; {
			runtime.Gosched()
		}
		if err := r.send(i); err != nil {
			return nil, err
		}
	}
	timer := time.NewTimer(stuck)
	defer timer.Stop()
	select {
	case <-w.last:
	case <-timer.C:
		return nil, errors.New("messages were published and not handled")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	w.paced = false
	if got := w.handled.Load(); got != int64(n) {
		return nil, fmt.Errorf("%d messages were handled, %d were published", got, n)
	}
	slices.Sort(w.took)
	return w.took, nil
}

func paced(ctx context.Context, s settings, entrants []pacedEntrant) (result Case, err error) {
	type paced struct {
		runner
		watch         *stopwatch
		interval      time.Duration
		p50, p99, p3n []float64
	}
	var all []*paced
	defer func() {
		for _, p := range all {
			err = errors.Join(err, p.rig.stop())
		}
	}()
	for _, e := range entrants {
		p := &paced{runner: runner{name: e.name, flight: newFlight(latencyFlight), least: minCount}}
		p.watch = &stopwatch{began: time.Now(), flight: p.flight}
		if p.rig, err = e.start(probe{raw: p.watch.raw}, traffic{payload: p.watch.payload}); err != nil {
			return Case{}, fmt.Errorf("%s: %w", e.name, err)
		}
		all = append(all, p)
		if err = p.calibrate(ctx, s.sample); err != nil {
			return Case{}, fmt.Errorf("%s: %w", e.name, err)
		}
	}
	// The peak rates, in turns; the best of the rounds is the peak.
	best := make(map[string]float64)
	err = rounds(s.rounds, len(all), func(i int, counts bool) error {
		got, err := all[i].measure(ctx)
		if b, ok := best[all[i].name]; counts && (!ok || got.ns < b) {
			best[all[i].name] = got.ns
		}
		return err
	})
	if err != nil {
		return Case{}, err
	}
	for i, p := range all {
		as := entrants[i].as
		if as == "" {
			as = p.name
		}
		p.interval = time.Duration(2 * best[as])
	}
	err = rounds(s.rounds, len(all), func(i int, counts bool) error {
		p := all[i]
		n := min(max(int(2*s.sample/p.interval), 1000), latencyMost)
		took, err := p.watch.pace(ctx, p.rig, n, p.interval)
		if err == nil && counts {
			p.p50 = append(p.p50, quantile(took, 0.5))
			p.p99 = append(p.p99, quantile(took, 0.99))
			p.p3n = append(p.p3n, quantile(took, 0.999))
		}
		return errors.Join(err, ctx.Err())
	})
	if err != nil {
		return Case{}, err
	}
	result.Name = "publish to handled, at half the peak rate"
	for _, p := range all {
		result.Rows = append(result.Rows, Row{Name: p.name, Latency: &Latency{
			Rate: float64(time.Second) / float64(p.interval),
			P50:  summarize(p.p50), P99: summarize(p.p99), P999: summarize(p.p3n),
		}})
	}
	return result, nil
}

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// record is a probe that notes what came.
type record struct {
	mu     sync.Mutex
	flight *flight
	seen   map[string]int
	wrong  []string
}

func (r *record) note(id string) {
	r.mu.Lock()
	r.seen[id]++
	r.mu.Unlock()
	r.flight.handled()
}

func (r *record) probe() probe {
	return probe{
		raw:   func(payload []byte) { r.note(rawID(payload)) },
		order: func(o Order) { r.note(orderID(r, o.ID, o.Cents)) },
		reply: func(c Confirmation) { r.note(orderID(r, c.Order, c.Cents)) },
	}
}

// orderID checks that the cents are those of the order with that id.
func orderID(r *record, id string, cents int64) string {
	if id != strconv.FormatInt(cents, 10) {
		r.mu.Lock()
		r.wrong = append(r.wrong, fmt.Sprintf("order %s with %d cents", id, cents))
		r.mu.Unlock()
	}
	return id
}

func rawID(payload []byte) string {
	if len(payload) < 8 {
		return ""
	}
	return strconv.FormatUint(binary.BigEndian.Uint64(payload), 10)
}

// numbered is traffic in which every message is another, as long as one of t.
func numbered(t traffic, size int) traffic {
	t.payload = func(i int) []byte {
		b := make([]byte, max(size, 8))
		binary.BigEndian.PutUint64(b, uint64(i))
		return b
	}
	t.order = func(i int) Order { return Order{ID: strconv.Itoa(i), Customer: "c-1", Cents: int64(i)} }
	return t
}

// checkEntrant runs an entrant with few messages: each must be handled once.
func checkEntrant(t *testing.T, e entrant, load traffic, inFlight, n int) {
	t.Helper()
	r := &record{flight: newFlight(inFlight), seen: map[string]int{}}
	rig, err := e.start(r.probe(), load)
	if err != nil {
		t.Fatal(err)
	}
	err = r.flight.pass(t.Context(), rig, n)
	if err := errors.Join(err, rig.stop()); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range n {
		if got := r.seen[strconv.Itoa(i)]; got != 1 {
			t.Errorf("message %d was handled %d times", i, got)
		}
	}
	if len(r.seen) != n {
		t.Errorf("%d different messages came, %d were sent", len(r.seen), n)
	}
	for _, w := range r.wrong {
		t.Error(w)
	}
}

func TestEveryInProcessEntrantHandlesEachMessageOnce(t *testing.T) {
	t.Parallel()
	for _, c := range inProcess() {
		for _, e := range c.entrants {
			t.Run(c.name+"/"+e.name, func(t *testing.T) {
				t.Parallel()
				checkEntrant(t, e, numbered(c.traffic, 64), c.inFlight, 2*c.inFlight+50)
			})
		}
	}
}

// No more are in flight than the limit, and pass returns when all are handled.
func TestFlight(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{1, 2, 3, 64} {
		f := newFlight(limit)
		p := f.probe()
		queue := make(chan struct{}, 1000)
		var inFlight, most, handled atomic.Int64
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range queue {
					handled.Add(1)
					inFlight.Add(-1)
					p.raw(nil)
				}
			})
		}
		r := &rig{send: func(int) error {
			most.Store(max(most.Load(), inFlight.Add(1)))
			queue <- struct{}{}
			return nil
		}}
		for range 10 {
			if err := f.pass(t.Context(), r, 500); err != nil {
				t.Fatal(err)
			}
			if n := inFlight.Load(); n != 0 {
				t.Errorf("limit %d: pass returned with %d in flight", limit, n)
			}
		}
		close(queue)
		wg.Wait()
		if most.Load() > int64(limit) || handled.Load() != 5000 {
			t.Errorf("limit %d: %d were in flight, %d of 5000 handled", limit, most.Load(), handled.Load())
		}
	}
	broken := errors.New("broken")
	if err := newFlight(3).pass(t.Context(), &rig{send: func(int) error { return broken }}, 1); !errors.Is(err, broken) {
		t.Errorf("a send that fails: %v", err)
	}
}

func TestFlightEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := newFlight(1).pass(ctx, &rig{send: func(int) error { return nil }}, 2)
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "of 1 messages 0 were handled") {
		t.Errorf("a message that nobody handles: %v", err)
	}
}

// Rounds take turns, and the first does not count.
func TestRounds(t *testing.T) {
	t.Parallel()
	var got []string
	if err := rounds(2, 3, func(i int, counts bool) error {
		got = append(got, fmt.Sprint("ABC"[i:i+1], counts))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"Afalse", "Bfalse", "Cfalse", "Atrue", "Btrue", "Ctrue", "Atrue", "Btrue", "Ctrue",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the turns were %q, want %q", got, want)
	}
}

// BenchmarkPeers is for profiles: one entrant, 64 messages in flight.
func BenchmarkPeers(b *testing.B) {
	for _, w := range []work{noop, jsonIn, jsonReply} {
		c := peers(w, 64, false)
		for _, e := range c.entrants {
			b.Run(w.String()+"/"+e.name, func(b *testing.B) {
				f := newFlight(c.inFlight)
				r, err := e.start(f.probe(), c.traffic)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				b.ResetTimer()
				if err := f.pass(b.Context(), r, b.N); err != nil {
					b.Error(err)
				}
				b.StopTimer()
				if err := r.stop(); err != nil {
					b.Error(err)
				}
			})
		}
	}
}

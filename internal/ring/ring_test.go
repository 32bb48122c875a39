package ring

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// The ring is compared with a slice.
func TestAgainstModel(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	var r Ring[int]
	var model []int
	for i := range 200_000 {
		// Bursts and lulls, so that it grows and shrinks.
		grow := (i/5000)%2 == 0
		switch n := random.IntN(10); {
		case n < 6 && grow || n < 2:
			r.Push(i)
			model = append(model, i)
		case n < 7 && grow || n < 3:
			r.PushFront(i)
			model = slices.Insert(model, 0, i)
		case len(model) > 0:
			if got := r.Pop(); got != model[0] {
				t.Fatalf("step %d: Pop is %d, want %d", i, got, model[0])
			}
			model = model[1:]
		}
		if r.Len() != len(model) {
			t.Fatalf("step %d: Len is %d, want %d", i, r.Len(), len(model))
		}
		if n := len(model); n > 0 && r.At(n-1) != model[n-1] {
			t.Fatalf("step %d: the last is %d, want %d", i, r.At(n-1), model[n-1])
		}
	}
}

func TestMemoryIsGivenBack(t *testing.T) {
	t.Parallel()
	var r Ring[*int]
	if r.Cap() != 0 {
		t.Errorf("an empty ring has a buffer of %d", r.Cap())
	}
	for range 100_000 {
		r.Push(new(int))
	}
	for r.Len() > 0 {
		r.Pop()
	}
	if r.Cap() > shrinkAt {
		t.Errorf("an emptied ring keeps a buffer of %d", r.Cap())
	}
	for _, p := range r.buf {
		if p != nil {
			t.Fatal("an emptied ring holds on to an element")
		}
	}
}

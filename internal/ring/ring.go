// Package ring is a first-in, first-out buffer.
package ring

// Ring is a first-in, first-out buffer. The zero value is empty and holds no
// memory. It grows by doubling, and shrinks by half when three quarters of a large
// buffer are unused, so that a burst does not keep its memory. It is not safe for
// concurrent use.
type Ring[T any] struct {
	buf  []T // its length is 0 or a power of two
	head int // where the first one is
	n    int
}

const (
	least    = 8   // the first buffer
	shrinkAt = 512 // a buffer of this length or less is not shrunk
)

// Len is the number of elements.
func (r *Ring[T]) Len() int { return r.n }

// Cap is the number of elements that there is memory for.
func (r *Ring[T]) Cap() int { return len(r.buf) }

// Push adds v behind the last element.
func (r *Ring[T]) Push(v T) {
	r.grow()
	r.buf[(r.head+r.n)&(len(r.buf)-1)] = v
	r.n++
}

// PushFront adds v before the first element.
func (r *Ring[T]) PushFront(v T) {
	r.grow()
	r.head = (r.head - 1) & (len(r.buf) - 1)
	r.buf[r.head] = v
	r.n++
}

// Pop removes the first element and returns it. The ring must not be empty.
func (r *Ring[T]) Pop() T {
	var zero T
	v := r.buf[r.head]
	r.buf[r.head] = zero
	r.head = (r.head + 1) & (len(r.buf) - 1)
	r.n--
	if len(r.buf) > shrinkAt && r.n < len(r.buf)/4 {
		r.resize(len(r.buf) / 2)
	}
	return v
}

// At returns the i-th element, the first is 0.
func (r *Ring[T]) At(i int) T { return r.buf[(r.head+i)&(len(r.buf)-1)] }

func (r *Ring[T]) grow() {
	if r.n == len(r.buf) {
		r.resize(max(2*r.n, least))
	}
}

func (r *Ring[T]) resize(size int) {
	buf := make([]T, size)
	for i := range r.n {
		buf[i] = r.At(i)
	}
	r.buf, r.head = buf, 0
}

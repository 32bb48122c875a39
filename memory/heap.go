package memory

import "time"

// ordered is an element of a heap.
type ordered[T any] interface {
	before(T) bool
}

// heap is a binary heap, the smallest element first. The zero value is empty and
// holds no memory. A large buffer is given up when the heap runs empty.
type heap[T ordered[T]] struct {
	items []T
}

// heapKeep is the largest buffer that an empty heap keeps.
const heapKeep = 64

func (h *heap[T]) len() int { return len(h.items) }

// first returns the smallest element. The heap must not be empty.
func (h *heap[T]) first() T { return h.items[0] }

func (h *heap[T]) push(v T) {
	h.items = append(h.items, v)
	i := len(h.items) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !h.items[i].before(h.items[parent]) {
			break
		}
		h.items[i], h.items[parent] = h.items[parent], h.items[i]
		i = parent
	}
}

// pop removes and returns the smallest element. The heap must not be empty.
func (h *heap[T]) pop() T {
	last := len(h.items) - 1
	v := h.items[0]
	h.items[0] = h.items[last]
	var none T
	h.items[last] = none
	h.items = h.items[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			break
		}
		if child+1 < last && h.items[child+1].before(h.items[child]) {
			child++
		}
		if !h.items[child].before(h.items[i]) {
			break
		}
		h.items[i], h.items[child] = h.items[child], h.items[i]
		i = child
	}
	if last == 0 && cap(h.items) > heapKeep {
		h.items = nil
	}
	return v
}

// returned is a message that came back; the order is that of publishing.
type returned struct{ m *Message }

func (a returned) before(b returned) bool { return a.m.seq < b.m.seq }

// delayed is a message that comes back at a time. The order of those that are due
// together is that of returned, where they go.
type delayed struct {
	due time.Time
	m   *Message
}

func (a delayed) before(b delayed) bool {
	return a.due.Before(b.due)
}

package memory

// ring is a first-in, first-out buffer of messages. The zero value is empty and
// holds no memory. It grows by doubling, and shrinks by half when three quarters of
// a large buffer are unused, so that a burst does not keep its memory.
type ring struct {
	buf  []*Message // its length is 0 or a power of two
	head int        // where the first one is
	n    int
}

const (
	ringMin    = 8   // the first buffer
	ringShrink = 512 // a buffer of this length or less is not shrunk
)

func (r *ring) len() int { return r.n }

func (r *ring) push(m *Message) {
	if r.n == len(r.buf) {
		r.resize(max(2*r.n, ringMin))
	}
	r.buf[(r.head+r.n)&(len(r.buf)-1)] = m
	r.n++
}

// pop returns the first message. The ring must not be empty.
func (r *ring) pop() *Message {
	m := r.buf[r.head]
	r.buf[r.head] = nil
	r.head = (r.head + 1) & (len(r.buf) - 1)
	r.n--
	if len(r.buf) > ringShrink && r.n < len(r.buf)/4 {
		r.resize(len(r.buf) / 2)
	}
	return m
}

// at returns the i-th message, the first is 0.
func (r *ring) at(i int) *Message { return r.buf[(r.head+i)&(len(r.buf)-1)] }

func (r *ring) resize(size int) {
	buf := make([]*Message, size)
	for i := range r.n {
		buf[i] = r.at(i)
	}
	r.buf, r.head = buf, 0
}

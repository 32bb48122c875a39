package kafka

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"sort"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A commit of Kafka is one offset: everything below it is done. What was settled above it
// would be repeated after a crash or a rebalance, though Ack returned nil. So it is written
// into the commit's metadata, which the brokers keep beside the offset, and the next member
// passes over it.
//
// It is a text that begins with settledPrefix, then in base64 the numbers, as varints: the
// highest leader epoch of the messages, plus one; the committed offset; then for each run of
// settled messages how many offsets lie before it, and how many it has. Other clients, and
// tools that move a group, write no such text; one that moves the offset and carries the
// text along is seen by the offset in it. Then nothing is passed over.

const settledPrefix = "gostream/1 "

// maxMetadata is the longest text: the brokers' default of offset.metadata.max.bytes. Runs
// that have no room are repeated.
const maxMetadata = 4096

// span is a run of offsets, both ends included.
type span struct{ first, last int64 }

// settledSet is what was settled above a committed offset. The zero value is empty.
type settledSet struct {
	spans []span // ascending
	epoch int32  // messages of a later one are others: the log was cut off and written anew
}

// has reports whether rec was settled.
func (s *settledSet) has(rec *kgo.Record) bool {
	if len(s.spans) == 0 || rec.LeaderEpoch > s.epoch {
		return false
	}
	i := sort.Search(len(s.spans), func(i int) bool { return s.spans[i].last >= rec.Offset })
	return i < len(s.spans) && s.spans[i].first <= rec.Offset
}

// from returns the part of the set that begins with offset.
func (s *settledSet) from(offset int64) []span {
	i := sort.Search(len(s.spans), func(i int) bool { return s.spans[i].last >= offset })
	rest := slices.Clone(s.spans[i:])
	if len(rest) > 0 {
		rest[0].first = max(rest[0].first, offset)
	}
	return rest
}

// settledAbove is the text for what is settled above the mark, "" for nothing; mu is held.
func (p *partition) settledAbove() string {
	set := p.above()
	return set.text(p.mark.Offset)
}

// above is what is settled above the mark; mu is held.
func (p *partition) above() settledSet {
	set := settledSet{epoch: -1}
	before := p.mark.Offset - 1
	within := false // the message before is settled
	whole := true
	p.eachOut(func(m *Message) bool {
		offset := m.rec.Offset
		if offset <= before {
			whole = false // the log was cut off and written anew: what follows is repeated
			return false
		}
		before = offset
		switch n := len(set.spans); {
		case !m.done:
			within = false
		case within:
			set.spans[n-1].last = offset
		default:
			set.spans = append(set.spans, span{offset, offset})
			within = true
		}
		if m.done {
			set.epoch = max(set.epoch, m.rec.LeaderEpoch)
		}
		return true
	})
	// And what an earlier member had settled that has not had its turn yet. Epochs rise with
	// the offsets: behind a message of a later one there are none of those any more.
	if rest := p.before.from(max(p.position, p.mark.Offset)); whole && len(rest) > 0 && set.epoch <= p.before.epoch {
		set.spans = append(set.spans, rest...)
		set.epoch = p.before.epoch
	}
	return set
}

// adopt takes over what was settled of the partition when it was lost, if the group is
// where it was then.
func (p *partition) adopt(lost *partition) {
	lost.mu.Lock()
	at, mark, set := lost.committed, lost.mark, lost.above()
	lost.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if at < 0 || at != p.committed {
		return // somebody has committed meanwhile, or nothing is known
	}
	if mark.Offset > at {
		set.spans = append([]span{{at, mark.Offset - 1}}, set.spans...)
		set.epoch = max(set.epoch, mark.Epoch)
		p.mark = mark
	}
	p.before = p.before.and(set)
	p.version++
	lost.forget()
}

// and returns what is in either set.
func (s settledSet) and(other settledSet) settledSet {
	all := slices.Concat(s.spans, other.spans)
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	both := settledSet{epoch: max(s.epoch, other.epoch)}
	for _, run := range all {
		if n := len(both.spans); n > 0 && run.first <= both.spans[n-1].last+1 {
			both.spans[n-1].last = max(both.spans[n-1].last, run.last)
			continue
		}
		both.spans = append(both.spans, run)
	}
	return both
}

// eachOut calls f for each message from head to next until it returns false; mu is held.
func (p *partition) eachOut(f func(*Message) bool) {
	left, i := p.gap, p.head
	for _, slab := range p.slabs {
		for ; i < len(slab); i++ {
			if left == 0 || !f(&slab[i]) {
				return
			}
			left--
		}
		i = 0
	}
}

// text writes the set for a commit of the offset from.
func (s settledSet) text(from int64) string {
	if len(s.spans) == 0 {
		return ""
	}
	const most = (maxMetadata - len(settledPrefix)) / 4 * 3
	b := binary.AppendUvarint(nil, uint64(s.epoch+1))
	b = binary.AppendUvarint(b, uint64(from))
	for _, run := range s.spans {
		n := len(b)
		b = binary.AppendUvarint(b, uint64(run.first-from))
		b = binary.AppendUvarint(b, uint64(run.last-run.first+1))
		if len(b) > most {
			b = b[:n]
			break
		}
		from = run.last + 1
	}
	return settledPrefix + base64.RawStdEncoding.EncodeToString(b)
}

// parseSettled reads a text beside the committed offset from. One that somebody else wrote
// is the empty set.
func parseSettled(text string, from int64) settledSet {
	encoded, ok := strings.CutPrefix(text, settledPrefix)
	if !ok {
		return settledSet{}
	}
	b, err := base64.RawStdEncoding.DecodeString(encoded)
	if err != nil {
		return settledSet{}
	}
	next := func() (n int64, ok bool) {
		v, size := binary.Uvarint(b)
		if size <= 0 || v > 1<<62 {
			return 0, false
		}
		b = b[size:]
		return int64(v), true
	}
	epoch, ok := next()
	if !ok || epoch > 1<<31-1 {
		return settledSet{}
	}
	if at, ok := next(); !ok || at != from {
		return settledSet{}
	}
	s := settledSet{epoch: int32(epoch - 1)}
	for len(b) > 0 {
		skip, ok1 := next()
		n, ok2 := next()
		if !ok1 || !ok2 || n == 0 || from > 1<<62-skip || from+skip > 1<<62-n {
			return settledSet{}
		}
		s.spans = append(s.spans, span{from + skip, from + skip + n - 1})
		from += skip + n
	}
	return s
}

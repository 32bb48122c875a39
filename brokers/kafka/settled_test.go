package kafka

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// written is the text of those numbers.
func written(numbers ...uint64) string {
	var b []byte
	for _, n := range numbers {
		b = binary.AppendUvarint(b, n)
	}
	return settledPrefix + base64.RawStdEncoding.EncodeToString(b)
}

func TestSettledText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		set  settledSet
		from int64
		text string
	}{
		{settledSet{}, 0, ""},
		{settledSet{epoch: 7}, 12, ""},
		{settledSet{[]span{{1, 1}}, 0}, 0, written(1, 0, 1, 1)},
		{settledSet{[]span{{5, 9}}, -1}, 5, written(0, 5, 0, 5)}, // brokers without epochs
		{settledSet{[]span{{11, 12}, {14, 14}, {1000, 1999}}, 3}, 10, written(4, 10, 1, 2, 1, 1, 985, 1000)},
		{settledSet{[]span{{1 << 61, 1 << 61}}, math.MaxInt32 - 1}, 0, written(math.MaxInt32, 0, 1<<61, 1)},
	} {
		text := tt.set.text(tt.from)
		if text != tt.text {
			t.Errorf("%v from %d is %q, want %q", tt.set, tt.from, text, tt.text)
		}
		got := parseSettled(text, tt.from)
		if !slices.Equal(got.spans, tt.set.spans) || len(got.spans) > 0 && got.epoch != tt.set.epoch {
			t.Errorf("%q from %d is read as %v, want %v", text, tt.from, got, tt.set)
		}
	}
}

// What somebody else wrote, or what was cut off, is nothing.
func TestForeignTextIsIgnored(t *testing.T) {
	t.Parallel()
	whole := written(1, 10, 5, 5, 5, 5)
	if got := parseSettled(whole, 10); len(got.spans) != 2 {
		t.Fatalf("%q is read as %v", whole, got)
	}
	for _, text := range []string{
		"", " ", "consumer-1", `{"offset":1}`, "gostream/1", "gostream/1 ", "gostream/2 " + whole[len(settledPrefix):], " " + whole, strings.ToUpper(whole),
		settledPrefix + "!!!!", settledPrefix + "\x00", whole + "=", whole + " ", whole[:len(whole)-1],
		written(1<<32, 10, 1, 1), written(1), written(1, 10, 0), written(1, 10, 0, 0), written(1, 10, 1, 1, 1), written(1, 10, 3, 0), // no epoch, half a run, an empty one
		written(1, 9, 5, 5), written(1, 11, 5, 5), written(1, 5, 5), // of another offset, of none
		written(1, 10, 1<<63, 1), written(1, 10, 1, 1<<63), written(1, 10, 1<<62, 1), written(1, 10, 1, 1<<62), written(1, 10, math.MaxUint64, 1),
		written(1, 10, 1, 1<<61, 1, 1<<61), settledPrefix + base64.RawStdEncoding.EncodeToString([]byte{1, 0x80, 0x80}),
		settledPrefix + base64.RawStdEncoding.EncodeToString(slices.Repeat([]byte{0xff}, 11)),
	} {
		if got := parseSettled(text, 10); len(got.spans) > 0 {
			t.Errorf("%q is read as %v", text, got)
		}
	}
	if got := parseSettled(whole, math.MaxInt64); len(got.spans) > 0 {
		t.Errorf("beyond the last offset: %v", got)
	}
}

// A text has a largest size; the runs that have room are the first, and whole.
func TestSettledTextIsBounded(t *testing.T) {
	t.Parallel()
	for _, step := range []int64{2, 200, 20_000, 1 << 40} {
		set := settledSet{epoch: math.MaxInt32 - 1}
		for i := range int64(5000) {
			set.spans = append(set.spans, span{i * step, i * step})
		}
		text := set.text(0)
		if len(text) > maxMetadata || len(text) < maxMetadata-20 {
			t.Errorf("with a step of %d the text has %d bytes", step, len(text))
		}
		got := parseSettled(text, 0)
		if n := len(got.spans); n == 0 || n >= 5000 || !slices.Equal(got.spans, set.spans[:n]) {
			t.Errorf("with a step of %d there are %d runs", step, n)
		}
	}
}

// A message of a later epoch than those that were settled is another one.
func TestEpochsOfSettled(t *testing.T) {
	t.Parallel()
	rec := func(offset int64, epoch int32) *kgo.Record { return &kgo.Record{Offset: offset, LeaderEpoch: epoch} }
	set := settledSet{[]span{{10, 12}, {14, 14}, {20, 20}}, 3}
	for _, tt := range []struct {
		offset int64
		epoch  int32
		want   bool
	}{
		{9, 3, false},
		{10, 3, true},
		{11, 4, false}, // written anew
		{12, 0, true},
		{13, 3, false},
		{14, -1, true},
		{19, 3, false},
		{20, 3, true},
		{21, 3, false},
	} {
		if got := set.has(rec(tt.offset, tt.epoch)); got != tt.want {
			t.Errorf("has offset %d of epoch %d: %v", tt.offset, tt.epoch, got)
		}
	}
	for from, want := range map[int64]string{0: "[{10 12} {14 14} {20 20}]", 11: "[{11 12} {14 14} {20 20}]", 13: "[{14 14} {20 20}]", 21: "[]"} {
		if got := fmt.Sprint(set.from(from)); got != want {
			t.Errorf("from %d on it is %s, want %s", from, got, want)
		}
	}
	none := settledSet{}
	if none.has(rec(0, 0)) {
		t.Error("the empty set has something")
	}
}

// wellFormed reports what is wrong with a set that was read beside a commit of from.
func wellFormed(s settledSet, from int64) error {
	if s.epoch < -1 {
		return fmt.Errorf("the epoch is %d", s.epoch)
	}
	for i, run := range s.spans {
		if run.first < from || run.last < run.first {
			return fmt.Errorf("run %d is %v, from %d", i, run, from)
		}
		from = run.last + 1
	}
	return nil
}

// FuzzParseSettled: whatever stands beside a commit, what is read is in order and not
// below the commit, and survives being written again.
func FuzzParseSettled(f *testing.F) {
	for _, text := range []string{
		"", "x", settledPrefix, written(1, 0, 1, 1), written(0, 0, 0, 1, 0, 1), written(1, 0, 1<<62, 1<<62), written(1<<31, 0, 1<<61, 1<<61),
		written(5, 0, 3, 2, 9, 1<<40), written(5, 1<<62, 3, 2), settledPrefix + "____", settledPrefix + "AAAA",
	} {
		f.Add(text, int64(0))
		f.Add(text, int64(1)<<62)
		f.Add(text, int64(math.MaxInt64))
	}
	f.Fuzz(func(t *testing.T, text string, from int64) {
		if from < 0 {
			return // no group has committed that
		}
		s := parseSettled(text, from)
		if err := wellFormed(s, from); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		again := s.text(from)
		if len(again) > maxMetadata {
			t.Errorf("%d bytes", len(again))
		}
		back := parseSettled(again, from)
		if n := len(back.spans); n > len(s.spans) || !slices.Equal(back.spans, s.spans[:n]) || n < len(s.spans) && len(again) < maxMetadata-30 {
			t.Errorf("%v became %v", s, back)
		}
		if len(back.spans) > 0 && back.epoch != s.epoch {
			t.Errorf("the epoch %d became %d", s.epoch, back.epoch)
		}
	})
}

// FuzzSettledRoundTrip: a set that was written is read as it was.
func FuzzSettledRoundTrip(f *testing.F) {
	f.Add([]byte{1, 1, 2, 2, 3, 3}, int64(0), int32(0))
	f.Add([]byte{255, 255, 0, 1}, int64(1<<40), int32(-1))
	f.Add(slices.Repeat([]byte{200, 200}, 3000), int64(1), int32(math.MaxInt32-1))
	f.Fuzz(func(t *testing.T, runs []byte, from int64, epoch int32) {
		if from < 0 || from > 1<<50 || epoch < -1 || epoch == math.MaxInt32 {
			return
		}
		s := settledSet{epoch: epoch}
		next := from
		for pair := range slices.Chunk(runs, 2) {
			first := next + int64(pair[0])*int64(pair[0])
			last := first + int64(pair[len(pair)-1])
			s.spans = append(s.spans, span{first, last})
			next = last + 2
		}
		text := s.text(from)
		back := parseSettled(text, from)
		if n := len(back.spans); !slices.Equal(back.spans, s.spans[:min(n, len(s.spans))]) || n != len(s.spans) && len(text) < maxMetadata-30 {
			t.Fatalf("%v became %v", s, back)
		}
		if len(back.spans) > 0 && back.epoch != epoch {
			t.Errorf("the epoch %d became %d", epoch, back.epoch)
		}
		for _, run := range back.spans {
			for _, offset := range []int64{run.first, run.last} {
				set := parseSettled(text, from)
				if !set.has(&kgo.Record{Offset: offset, LeaderEpoch: epoch}) {
					t.Errorf("offset %d is missing in %v", offset, back)
				}
				set = parseSettled(text, from)
				if set.has(&kgo.Record{Offset: offset, LeaderEpoch: epoch + 1}) {
					t.Errorf("offset %d of a later epoch is in %v", offset, back)
				}
				if len(back.spans) > 100 {
					return
				}
			}
		}
	})
}

// What an earlier member had settled says nothing of messages that were written anew, also
// where one of those is settled already.
func TestRestBehindALaterEpoch(t *testing.T) {
	t.Parallel()
	before := settledSet{spans: []span{{70, 79}}, epoch: 1}
	p := apart(t, 100, beginning{at: kgo.EpochOffset{Epoch: 1, Offset: 58}, committed: true, metadata: before.text(58)})
	p.add(append(at(1, 58, 59), at(2, 60, 61, 62)...)) // the log was cut off at 60
	var received []*Message
	for m := p.receive(); m != nil; m = p.receive() {
		received = append(received, m)
	}
	if err := received[3].Ack(t.Context()); err != nil { // 61
		t.Fatal(err)
	}
	c, _, _ := p.due()
	next := apart(t, 100, beginning{at: c.at, committed: true, metadata: c.metadata})
	next.add(at(2, 70, 71))
	if m := next.receive(); m == nil {
		t.Fatal("offset 70 of epoch 2, which nobody has settled, is passed over")
	}
}

// Nor does what was settled before a log was cut off, where what follows is not settled.
func TestCutOffBehindUnsettled(t *testing.T) {
	t.Parallel()
	p := apart(t, 100, beginning{at: kgo.EpochOffset{Epoch: 1, Offset: 50}, committed: true})
	p.add(at(1, 50, 51, 52, 53, 54, 55))
	p.add(at(2, 53, 54, 55, 56, 57)) // cut off at 53
	var received []*Message
	for m := p.receive(); m != nil; m = p.receive() {
		received = append(received, m)
	}
	for _, i := range []int{5, 10} { // 55 of epoch 1, 57 of epoch 2
		if err := received[i].Ack(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c, _, _ := p.due()
	if set := parseSettled(c.metadata, c.at.Offset); set.has(at(2, 55)[0]) {
		t.Fatal("offset 55 of epoch 2, which nobody has settled, is passed over")
	}
}

// A partition that is lost, comes back, and is lost again before anything is known of it
// still comes back with what was settled.
func TestLostTwice(t *testing.T) {
	t.Parallel()
	p := apart(t, 100, beginning{at: kgo.EpochOffset{Epoch: 1, Offset: 50}, committed: true})
	s := p.sub
	s.parts = map[string]map[int32]*partition{"t": {0: p}}
	s.lostOnes = map[string]map[int32]*partition{}
	p.add(at(1, 50, 51))
	if err := p.receive().Ack(t.Context()); err != nil {
		t.Fatal(err)
	}
	all := map[string][]int32{"t": {0}}
	s.onLost(all)
	s.onAssigned(all)
	s.onLost(all)
	s.onAssigned(all)
	s.onBegun("t", 0, beginning{at: kgo.EpochOffset{Epoch: 1, Offset: 50}, committed: true})
	again := s.parts["t"][0]
	again.add(at(1, 50, 51))
	if m := again.receive(); m.Offset() != 51 {
		t.Fatalf("offset %d comes again", m.Offset())
	}
}

package msgpack_test

import (
	"testing"

	library "github.com/shamaton/msgpack/v3"

	"github.com/gostream/gostream/codec/msgpack"
)

// plain holds no byte slices; carrier does.
type plain struct {
	ID    string   `msgpack:"id"`
	Cents int64    `msgpack:"cents"`
	Tags  []string `msgpack:"tags"`
	To    address  `msgpack:"to"`
}

type carrier struct {
	ID   string `msgpack:"id"`
	Body []byte `msgpack:"body"`
}

func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	codec := msgpack.New()
	p := plain{ID: "o-1", Cents: 1999, Tags: []string{"a", "b"}, To: address{City: "Ulm"}}
	c := carrier{ID: "o-1", Body: make([]byte, 100)}
	open := map[string]any{"a": []any{"b"}}
	mixed := struct {
		plain
		Any  any
		Next *plain
	}{Any: "x"}
	for _, tt := range []struct {
		name   string
		v, to  any
		beyond float64 // the library's own, when decoding
	}{
		{"without bytes", &p, new(plain), 0},
		{"with bytes", &c, new(carrier), 1}, // the library hands out a part of the payload
		{"a struct with an interface", &mixed, new(struct{ Any any }), 0},
		{"an interface", &open, new(map[string]any), 1},
	} {
		data, err := library.Marshal(tt.v)
		if err != nil {
			t.Fatal(err)
		}
		own := testing.AllocsPerRun(100, func() { _, _ = library.Marshal(tt.v) })
		ours := testing.AllocsPerRun(100, func() { _, _ = codec.Append(nil, tt.v) })
		if ours > own {
			t.Errorf("%s: Append allocates %v times, the budget is %v", tt.name, ours, own)
		}
		own = testing.AllocsPerRun(100, func() { _ = library.Unmarshal(data, tt.to) })
		ours = testing.AllocsPerRun(100, func() { _ = codec.Unmarshal(data, tt.to) })
		if ours > own+tt.beyond {
			t.Errorf("%s: Unmarshal allocates %v times, the budget is %v and %v", tt.name, ours, own, tt.beyond)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	v := &plain{ID: "o-1", Cents: 1999, Tags: []string{"a", "b"}, To: address{City: "Ulm"}}
	b.Run("codec", func(b *testing.B) {
		b.ReportAllocs()
		codec := msgpack.New()
		for b.Loop() {
			_, _ = codec.Append(nil, v)
		}
	})
	b.Run("library", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = library.Marshal(v)
		}
	})
}

func BenchmarkUnmarshal(b *testing.B) {
	data, err := library.Marshal(plain{ID: "o-1", Cents: 1999, Tags: []string{"a", "b"}, To: address{City: "Ulm"}})
	if err != nil {
		b.Fatal(err)
	}
	b.Run("codec", func(b *testing.B) {
		b.ReportAllocs()
		codec := msgpack.New()
		for b.Loop() {
			_ = codec.Unmarshal(data, new(plain))
		}
	})
	b.Run("library", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = library.Unmarshal(data, new(plain))
		}
	})
}

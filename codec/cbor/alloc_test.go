package cbor_test

import (
	"testing"

	library "github.com/fxamacker/cbor/v2"

	"github.com/gostream/gostream/codec/cbor"
)

type plain struct {
	ID    string   `cbor:"id"`
	Cents int64    `cbor:"cents"`
	Tags  []string `cbor:"tags"`
	To    address  `cbor:"to"`
	Body  []byte   `cbor:"body"`
}

func plainOrder() *plain {
	return &plain{ID: "o-1", Cents: 1999, Tags: []string{"a", "b"}, To: address{City: "Ulm"}, Body: []byte("body")}
}

// The library as the codec sets it up, as far as it costs.
func libraryModes(tb testing.TB) (library.EncMode, library.DecMode) {
	enc, err := library.CoreDetEncOptions().EncMode()
	if err != nil {
		tb.Fatal(err)
	}
	dec, err := library.DecOptions{DupMapKey: library.DupMapKeyEnforcedAPF}.DecMode()
	if err != nil {
		tb.Fatal(err)
	}
	return enc, dec
}

func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	codec := cbor.New()
	enc, dec := libraryModes(t)
	open := map[string]any{"a": []any{"b"}}
	mixed := struct {
		plain
		Any  any
		Next *plain
	}{Any: "x"}
	for _, tt := range []struct {
		name   string
		v, to  any
		beyond float64 // the library's own, when encoding
	}{
		{"a struct", plainOrder(), new(plain), 0},
		{"a struct with an interface", &mixed, new(struct{ Any any }), 0},
		{"an interface", &open, new(map[string]any), 3}, // the walk that looks for a value that holds itself
	} {
		data, err := codec.Append(nil, tt.v)
		if err != nil {
			t.Fatal(err)
		}
		own := testing.AllocsPerRun(100, func() { _, _ = enc.Marshal(tt.v) })
		ours := testing.AllocsPerRun(100, func() { _, _ = codec.Append(nil, tt.v) })
		if ours > own+tt.beyond {
			t.Errorf("%s: Append allocates %v times, the budget is %v and %v", tt.name, ours, own, tt.beyond)
		}
		own = testing.AllocsPerRun(100, func() { _ = dec.Unmarshal(data, tt.to) })
		ours = testing.AllocsPerRun(100, func() { _ = codec.Unmarshal(data, tt.to) })
		if ours > own {
			t.Errorf("%s: Unmarshal allocates %v times, the budget is %v", tt.name, ours, own)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	v := plainOrder()
	enc, _ := libraryModes(b)
	b.Run("codec", func(b *testing.B) {
		b.ReportAllocs()
		codec := cbor.New()
		for b.Loop() {
			_, _ = codec.Append(nil, v)
		}
	})
	b.Run("library", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = enc.Marshal(v)
		}
	})
}

func BenchmarkUnmarshal(b *testing.B) {
	enc, dec := libraryModes(b)
	data, err := enc.Marshal(plainOrder())
	if err != nil {
		b.Fatal(err)
	}
	b.Run("codec", func(b *testing.B) {
		b.ReportAllocs()
		codec := cbor.New()
		for b.Loop() {
			_ = codec.Unmarshal(data, new(plain))
		}
	})
	b.Run("library", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = dec.Unmarshal(data, new(plain))
		}
	})
}

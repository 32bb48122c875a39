package protobuf_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/gostream/gostream/codec/protobuf"
	"github.com/gostream/gostream/codec/protobuf/internal/orderpb"
)

// small is an order without a map, whose iterators would be counted.
func small() *orderpb.Order {
	return &orderpb.Order{Id: "o-1", Cents: 1999, Lines: []*orderpb.Line{{Sku: "a", Quantity: 1}, {Sku: "b", Quantity: 2}}}
}

func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	codec := protobuf.New()
	m := small()
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	own := testing.AllocsPerRun(100, func() { _, _ = proto.Marshal(m) })
	if ours := testing.AllocsPerRun(100, func() { _, _ = codec.Append(nil, m) }); ours > own {
		t.Errorf("Append allocates %v times, the library %v", ours, own)
	}
	room := make([]byte, 0, 1024)
	if ours := testing.AllocsPerRun(100, func() { _, _ = codec.Append(room, m) }); ours > 0 {
		t.Errorf("Append to where there is room allocates %v times", ours)
	}
	var order *orderpb.Order
	own = testing.AllocsPerRun(100, func() {
		order = new(orderpb.Order)
		_ = proto.Unmarshal(data, order)
	})
	if ours := testing.AllocsPerRun(100, func() {
		order = nil
		_ = codec.Unmarshal(data, &order)
	}); ours > own {
		t.Errorf("Unmarshal allocates %v times, the library %v", ours, own)
	}
}

func BenchmarkAppend(b *testing.B) {
	m := small()
	b.Run("codec", func(b *testing.B) {
		b.ReportAllocs()
		codec := protobuf.New()
		for b.Loop() {
			_, _ = codec.Append(nil, m)
		}
	})
	b.Run("library", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = proto.Marshal(m)
		}
	})
}

func BenchmarkUnmarshal(b *testing.B) {
	data, err := proto.Marshal(small())
	if err != nil {
		b.Fatal(err)
	}
	b.Run("codec", func(b *testing.B) {
		b.ReportAllocs()
		codec := protobuf.New()
		var m *orderpb.Order
		for b.Loop() {
			m = nil
			_ = codec.Unmarshal(data, &m)
		}
	})
	b.Run("library", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = proto.Unmarshal(data, new(orderpb.Order))
		}
	})
}

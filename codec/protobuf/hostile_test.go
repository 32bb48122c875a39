package protobuf_test

import (
	"bytes"
	"errors"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/gostream/gostream/codec/protobuf"
	"github.com/gostream/gostream/codec/protobuf/internal/orderpb"
)

// targets are pointers to what handlers take.
func targets() []any {
	return []any{
		new(*orderpb.Order), new(orderpb.Order), new(*orderpb.Node), new(*structpb.Struct), new(*timestamppb.Timestamp),
		new(*descriptorpb.FileDescriptorProto), // proto2, with extensions
	}
}

// deep is a payload of n messages in field number of one another, each with its right
// length.
func deep(number protowire.Number, n, most int) string {
	var b []byte
	for range n {
		b = protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), b)
		if len(b) > most {
			break
		}
	}
	return string(b)
}

// Payloads that announce more than they have, or are nested without end. Each is small,
// and each must be refused before memory is reserved for what it announces.
var bombs = map[string]string{
	"a length of 2^31":         "\x0a\xff\xff\xff\xff\x07x",
	"a length of 2^63":         "\x1a\xff\xff\xff\xff\xff\xff\xff\xff\x7fx",
	"a length of 2^64":         "\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01x",
	"a varint without end":     "\x10" + strings.Repeat("\xff", 1<<20),
	"a tag without end":        strings.Repeat("\xff", 1<<20),
	"field number 0":           "\x02\x00",
	"a group without end":      "\x1b",
	"groups in one another":    strings.Repeat("\x1b", 1<<20),
	"unknown groups":           strings.Repeat("\xa3\x06", 1<<19),
	"the end of no group":      "\x1c",
	"a type that there is not": "\x0f",
}

func TestBombs(t *testing.T) {
	codec := protobuf.New()
	for _, v := range targets() {
		_ = codec.Unmarshal(nil, v) // what the library keeps of a type
	}
	for name, data := range bombs {
		payload := []byte(data)
		for _, v := range targets() {
			var err error
			got := allocated(func() { err = codec.Unmarshal(payload, v) })
			if err == nil {
				t.Errorf("%s was decoded to %T", name, v)
			}
			if got > 64<<10 {
				t.Errorf("%s into %T: %d bytes were allocated for a payload of %d", name, v, got, len(payload))
			}
		}
	}
}

// A level is refused before the levels below it are decoded.
func TestDeepPayloads(t *testing.T) {
	codec := protobuf.New()
	payload := []byte(deep(2, 10_000, 64<<10))
	var node *orderpb.Node
	var err error
	got := allocated(func() { err = codec.Unmarshal(payload, &node) })
	if !errors.Is(err, protobuf.ErrLimit) {
		t.Errorf("%v, want ErrLimit", err)
	}
	if got > 64<<10 {
		t.Errorf("%d bytes were allocated", got)
	}
	// Where it is unknown it is kept, not decoded.
	var stamp *timestamppb.Timestamp
	if err := codec.Unmarshal([]byte(deep(9, 10_000, 64<<10)), &stamp); err != nil {
		t.Error(err)
	}
}

// What is decoded takes a multiple of the payload, which MaxSize bounds.
func TestMemoryIsBoundedByTheSize(t *testing.T) {
	codec := protobuf.New()
	payload := bytes.Repeat([]byte("\x12\x00"), 1<<16) // empty children
	var node *orderpb.Node
	got := allocated(func() {
		if err := codec.Unmarshal(payload, &node); err != nil {
			t.Error(err)
		}
	})
	if most := uint64(200 * len(payload)); got > most {
		t.Errorf("%d bytes were allocated for a payload of %d", got, len(payload))
	}
	err := protobuf.New(protobuf.MaxSize(len(payload)-1)).Unmarshal(payload, &node)
	if !errors.Is(err, protobuf.ErrLimit) {
		t.Errorf("%v, want ErrLimit", err)
	}
}

// allocated is how many bytes f allocates. Tests that run beside it would count too.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func FuzzUnmarshal(f *testing.F) {
	codec := protobuf.New()
	full, err := codec.Append(nil, fullOrder())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	f.Add([]byte(deep(2, 120, 1000)))
	for _, data := range bombs {
		f.Add([]byte(data[:min(len(data), 200)]))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		for _, v := range targets() {
			if codec.Unmarshal(data, v) != nil {
				continue
			}
			b, err := codec.Append(nil, v)
			if err != nil {
				t.Errorf("%T was decoded and cannot be encoded: %v", v, err)
			} else if err := codec.Unmarshal(b, v); err != nil {
				t.Errorf("%T was encoded and cannot be decoded: %v", v, err)
			}
		}
		if !bytes.Equal(data, before) {
			t.Error("the payload was changed")
		}
	})
}

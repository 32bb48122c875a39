package msgpack_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gostream/gostream/codec/msgpack"
)

type address struct {
	City string `msgpack:"city"`
	Zip  string `msgpack:"zip,omitempty"`
}

// Audit is embedded: its fields stand beside those around it.
type Audit struct {
	By string    `msgpack:"by"`
	At time.Time `msgpack:"at"`
}

type order struct {
	Audit
	ID        string              `msgpack:"id"`
	Cents     int64               `msgpack:"cents"`
	Big       uint64              `msgpack:"big"`
	Small     int8                `msgpack:"small"`
	Ratio     float64             `msgpack:"ratio"`
	Paid      bool                `msgpack:"paid"`
	Tags      []string            `msgpack:"tags"`
	Lines     []address           `msgpack:"lines"`
	Labels    map[string]string   `msgpack:"labels"`
	Prices    map[int]float32     `msgpack:"prices"`
	To        *address            `msgpack:"to"`
	Nobody    *address            `msgpack:"nobody"`
	Signature []byte              `msgpack:"signature"`
	Hash      [4]byte             `msgpack:"hash"`
	Parts     map[string][]byte   `msgpack:"parts"`
	Any       any                 `msgpack:"any"`
	Secret    string              `msgpack:"-"`
	Deep      map[string][]*Audit `msgpack:"deep"`
}

func fullOrder() order {
	at := time.Date(2024, 2, 29, 23, 59, 58, 123456789, time.UTC)
	return order{
		Audit: Audit{By: "jo", At: at}, ID: "o-1 ✓", Cents: math.MinInt64, Big: math.MaxUint64, Small: -128,
		Ratio: math.SmallestNonzeroFloat64, Paid: true, Tags: []string{"", "a"}, Lines: []address{{City: "Ulm"}, {City: "Bonn", Zip: "53111"}},
		Labels: map[string]string{"k": "v"}, Prices: map[int]float32{-1: 1.5, 1 << 40: math.MaxFloat32},
		To: &address{City: "Kiel"}, Signature: []byte{0, 255}, Hash: [4]byte{1, 2, 3, 4}, Parts: map[string][]byte{"a": {1}, "b": {2, 3}},
		Any: []any{nil, true, "x", []byte{9}, map[any]any{"k": at}}, Deep: map[string][]*Audit{"x": {nil, {By: "al"}}},
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for name, codec := range map[string]msgpack.Codec{
		"maps": msgpack.New(), "arrays": msgpack.New(msgpack.StructsAsArrays()), "the zero value": {},
	} {
		for name2, want := range map[string]order{"full": fullOrder(), "zero": {}} {
			for _, v := range []any{want, &want} {
				b, err := codec.Append(nil, v)
				if err != nil {
					t.Fatalf("%s, %s, %T: %v", name, name2, v, err)
				}
				var got order
				if err := codec.Unmarshal(b, &got); err != nil {
					t.Fatalf("%s, %s, %T: %v", name, name2, v, err)
				}
				if want := want; !reflect.DeepEqual(got, want) {
					t.Errorf("%s, %s, %T: back came\n%+v, want\n%+v", name, name2, v, got, want)
				}
			}
		}
	}
}

func TestRoundTripOfOtherTypes(t *testing.T) {
	t.Parallel()
	codec := msgpack.New()
	at := time.Date(1950, 1, 1, 0, 0, 0, 7, time.UTC) // before the epoch: 96 bits
	roundTrip(t, codec, 7)
	roundTrip(t, codec, "")
	roundTrip(t, codec, []byte{})
	roundTrip(t, codec, [][]byte{{1}, {}, {2}})
	roundTrip(t, codec, at)
	roundTrip(t, codec, []int64{math.MinInt64, -33, -32, -1, 0, 127, 128, 1 << 16, 1 << 32, math.MaxInt64})
	roundTrip(t, codec, map[string]any(nil))
	roundTrip(t, codec, map[string]any{"a": "b", "n": nil})
	roundTrip(t, codec, &address{City: "Ulm"})
	roundTrip(t, codec, (*address)(nil))
	roundTrip(t, codec, strings.Repeat("x", 70_000))
	roundTrip(t, codec, make([]address, 70_000))
}

func roundTrip[T any](t *testing.T, codec msgpack.Codec, want T) {
	t.Helper()
	b, err := codec.Append(nil, &want)
	if err != nil {
		t.Errorf("%T: %v", want, err)
		return
	}
	var got T
	if err := codec.Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%T: back came %.100v, %v, want %.100v", want, got, err, want)
	}
}

// The names on the wire are those of the tags, and what is left out is not there.
func TestWire(t *testing.T) {
	t.Parallel()
	b, err := msgpack.New().Append(nil, struct {
		A int    `msgpack:"a"`
		B string `msgpack:"-"`
		C string `msgpack:"c,omitempty"`
		D bool
		E []byte `json:"other"`
	}{A: 1, B: "x", E: []byte{5}})
	if want := "\x83\xa1a\x01\xa1D\xc2\xa5other\xc4\x01\x05"; err != nil || string(b) != want {
		t.Errorf("it is %q, %v, want %q", b, err, want)
	}
	b, err = msgpack.New(msgpack.StructsAsArrays()).Append(nil, address{"Ulm", "z"})
	if want := "\x92\xa3Ulm\xa1z"; err != nil || string(b) != want {
		t.Errorf("as an array it is %q, %v, want %q", b, err, want)
	}
}

func TestAppend(t *testing.T) {
	t.Parallel()
	codec := msgpack.New()
	v := address{City: "Ulm"}
	alone, err := codec.Append(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	room := append(make([]byte, 0, 64), "before "...)
	got, err := codec.Append(room, v)
	if err != nil || string(got) != "before "+string(alone) || &got[0] != &room[0] {
		t.Errorf("it is %q, %v, want the same bytes behind what was there", got, err)
	}
	tight := []byte("before")[:6:6]
	if got, err := codec.Append(tight, v); err != nil || string(got) != "before"+string(alone) || string(tight) != "before" {
		t.Errorf("it is %q behind %q, %v", got, tight, err)
	}
	for _, bad := range []any{make(chan int), func() {}, struct{ C chan int }{}} {
		if got, err := codec.Append([]byte("before"), bad); err == nil || len(got) != 0 {
			t.Errorf("%T became %q, %v", bad, got, err)
		}
	}
	if got, err := codec.Append(nil, nil); err != nil || string(got) != "\xc0" {
		t.Errorf("nil became %q, %v", got, err)
	}
}

type text string

// What was decoded has no part of the payload, and the payload is as it was.
func TestUnmarshalKeepsNothing(t *testing.T) {
	t.Parallel()
	codec := msgpack.New()
	want := fullOrder()
	data, err := codec.Append(nil, want)
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(data)
	var got order
	if err := codec.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, before) {
		t.Error("the payload was changed")
	}
	clear(data)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("when the payload was overwritten it became\n%+v, want\n%+v", got, want)
	}

	// Text that was sent as bin, and bytes that were sent as text.
	for _, tt := range []struct {
		data string
		into any
		want string
	}{
		{"\xc4\x03abc", new(string), "abc"},
		{"\xa3abc", new([]byte), "[97 98 99]"},
		{"\xc4\x03abc", new(any), "[97 98 99]"},
		{"\x81\xc4\x01k\xc4\x01v", new(map[text]text), "map[k:v]"},
		{"\x91\xc4\x01v", new([]text), "[v]"},
	} {
		data := []byte(tt.data)
		if err := codec.Unmarshal(data, tt.into); err != nil {
			t.Errorf("%q into %T: %v", tt.data, tt.into, err)
			continue
		}
		clear(data)
		if got := fmt.Sprint(reflect.ValueOf(tt.into).Elem()); got != tt.want {
			t.Errorf("%q into %T is %s when the payload was overwritten, want %s", tt.data, tt.into, got, tt.want)
		}
	}
}

// To append to one must not change another.
func TestByteSlicesAreApart(t *testing.T) {
	t.Parallel()
	type holder struct {
		A, B []byte
		In   struct{ C []byte }
		List [][]byte
		Map  map[string][]byte
		Any  any
		Ptr  *[]byte
		Arr  [2][]byte
	}
	p := []byte("ptr")
	v := holder{
		A: []byte("a"), B: []byte("b"), List: [][]byte{[]byte("l1"), []byte("l2")}, Map: map[string][]byte{"x": []byte("m"), "y": []byte("m")},
		Any: []any{[]byte("i1"), []byte("i2"), map[any]any{"k": []byte("i3")}},
		Ptr: &p, Arr: [2][]byte{[]byte("r1"), []byte("r2")},
	}
	v.In.C = []byte("c")
	codec := msgpack.New()
	data, err := codec.Append(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	var got holder
	if err := codec.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	list := got.Any.([]any)
	for name, b := range map[string][]byte{
		"A": got.A, "B": got.B, "In.C": got.In.C, "List": got.List[0], "Map": got.Map["x"], "Any": list[0].([]byte),
		"Any.k": list[2].(map[any]any)["k"].([]byte), "Ptr": *got.Ptr, "Arr": got.Arr[1],
	} {
		if cap(b) != len(b) {
			t.Errorf("%s has room for %d bytes behind its %d", name, cap(b)-len(b), len(b))
		}
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	if got := msgpack.New().ContentType(); got != "application/msgpack" {
		t.Errorf("the content type is %q", got)
	}
	if got := (msgpack.Codec{}).ContentType(); got != "application/msgpack" {
		t.Errorf("the content type of the zero value is %q", got)
	}
	if got := msgpack.New(msgpack.ContentType("application/x-msgpack")).ContentType(); got != "application/x-msgpack" {
		t.Errorf("the content type is %q", got)
	}
	if err := msgpack.New(msgpack.MaxDepth(4), msgpack.MaxSize(1), msgpack.ContentType("a/b; c=d")).Check(); err != nil {
		t.Error(err)
	}
	bad := msgpack.New(nil, msgpack.MaxDepth(3), msgpack.MaxSize(0), msgpack.ContentType(""))
	for _, want := range []string{"an option is nil", "MaxDepth(3)", "MaxSize(0)", `ContentType("")`} {
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Check says %v, want %s in it", err, want)
		}
	}
	if got := bad.ContentType(); got != "" {
		t.Errorf("a codec with mistakes has the content type %q", got)
	}
	if _, err := bad.Append(nil, 1); err == nil || err.Error() != bad.Check().Error() {
		t.Errorf("Append says %v", err)
	}
	if err := bad.Unmarshal([]byte{1}, new(int)); err == nil || err.Error() != bad.Check().Error() {
		t.Errorf("Unmarshal says %v", err)
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	codec := msgpack.New()
	want := fullOrder()
	data, err := codec.Append(nil, want)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				var got order
				if err := codec.Unmarshal(data, &got); err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("back came %+v, %v", got, err)
				}
				if _, err := codec.Append(nil, &got); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

type node struct {
	Next *node
	Down *node `msgpack:"-"`
	Any  any
	List []any
	Map  map[string]any
}

// Embeds embeds itself: its fields have no end.
type Embeds struct {
	*Embeds
	X int
}

// What holds itself would overflow the stack, and with it end the process.
func TestValuesThatHoldThemselves(t *testing.T) {
	t.Parallel()
	codec := msgpack.New()
	next, throughAny, throughList, throughMap := &node{}, &node{}, &node{}, &node{}
	next.Next = next
	throughAny.Any = throughAny
	throughList.List = []any{throughList}
	throughMap.Map = map[string]any{"x": throughMap}
	list := make([]any, 1)
	list[0] = list
	var pointer any
	pointer = &pointer
	for name, v := range map[string]any{"pointer": next, "any": throughAny, "list": throughList, "map": throughMap, "itself": list, "pointers alone": pointer} {
		if _, err := codec.Append(nil, v); !errors.Is(err, msgpack.ErrLimit) {
			t.Errorf("%s: %v, want ErrLimit", name, err)
		}
	}
	leftOut := &node{}
	leftOut.Down = leftOut
	if _, err := codec.Append(nil, leftOut); err != nil {
		t.Errorf("a field that is left out: %v", err)
	}
	if _, err := codec.Append(nil, Embeds{}); err == nil || !strings.Contains(err.Error(), "Embeds embeds itself") {
		t.Errorf("a type that embeds itself: %v", err)
	}
	if err := codec.Unmarshal([]byte{0x80}, new(Embeds)); err == nil || !strings.Contains(err.Error(), "Embeds embeds itself") {
		t.Errorf("a type that embeds itself: %v", err)
	}
}

// What one side writes within the limits the other reads, and one more neither does.
func TestLimitsOfBothSides(t *testing.T) {
	t.Parallel()
	nested := func(n int) any {
		v := any("x")
		for range n {
			v = []any{v}
		}
		return v
	}
	codec, free := msgpack.New(msgpack.MaxDepth(7), msgpack.MaxSize(50)), msgpack.New()
	for _, tt := range []struct {
		name  string
		v     any
		fits  bool
		words string
	}{
		{"7 levels", nested(7), true, ""},
		{"8 levels", nested(8), false, "MaxDepth is 7"},
		{"50 bytes", strings.Repeat("x", 48), true, ""},
		{"51 bytes", strings.Repeat("x", 49), false, "has 51 bytes"},
		{"51 bytes and more", []string{strings.Repeat("x", 51), strings.Repeat("x", 51)}, false, "MaxSize is 50"},
	} {
		data, err := free.Append(nil, tt.v)
		if err != nil {
			t.Fatal(err)
		}
		var got any
		_, wrote := codec.Append(nil, tt.v)
		read := codec.Unmarshal(data, &got)
		for side, err := range map[string]error{"write": wrote, "read": read} {
			if tt.fits && err != nil {
				t.Errorf("%s, %s: %v", tt.name, side, err)
			}
			if !tt.fits && (!errors.Is(err, msgpack.ErrLimit) || !strings.Contains(err.Error(), tt.words)) {
				t.Errorf("%s, %s: %v, want ErrLimit with %q", tt.name, side, err, tt.words)
			}
		}
	}
}

package cbor_test

import (
	"bytes"
	"errors"
	"math"
	"math/big"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gostream/gostream/codec/cbor"
)

type address struct {
	City string `cbor:"city"`
	Zip  string `cbor:"zip,omitempty"`
}

// Audit is embedded: its fields stand beside those around it.
type Audit struct {
	By string    `json:"by"`
	At time.Time `json:"at"`
}

type order struct {
	Audit
	ID        string              `json:"id"`
	Cents     int64               `json:"cents"`
	Big       uint64              `cbor:"big"`
	Huge      *big.Int            `cbor:"huge"`
	Small     int8                `cbor:"small"`
	Ratio     float64             `cbor:"ratio"`
	Paid      bool                `cbor:"paid"`
	Tags      []string            `cbor:"tags"`
	Lines     []address           `cbor:"lines"`
	Labels    map[string]string   `cbor:"labels"`
	Prices    map[int]float32     `cbor:"prices"`
	To        *address            `cbor:"to"`
	Nobody    *address            `cbor:"nobody"`
	Signature []byte              `cbor:"signature"`
	Hash      [4]byte             `cbor:"hash"`
	Parts     map[string][]byte   `cbor:"parts"`
	Any       any                 `cbor:"any"`
	Secret    string              `cbor:"-"`
	Hidden    string              `json:"-"`
	Deep      map[string][]*Audit `cbor:"deep"`
}

func fullOrder() order {
	at := time.Date(2024, 2, 29, 23, 59, 58, 123456789, time.UTC)
	huge, _ := new(big.Int).SetString("-123456789012345678901234567890", 10)
	return order{
		Audit: Audit{By: "jo", At: at}, ID: "o-1 ✓", Cents: math.MinInt64, Big: math.MaxUint64, Huge: huge, Small: -128,
		Ratio: math.SmallestNonzeroFloat64, Paid: true, Tags: []string{"", "a"}, Lines: []address{{City: "Ulm"}, {City: "Bonn", Zip: "53111"}},
		Labels: map[string]string{"k": "v"}, Prices: map[int]float32{-1: 1.5, 1 << 40: math.MaxFloat32},
		To: &address{City: "Kiel"}, Signature: []byte{0, 255}, Hash: [4]byte{1, 2, 3, 4}, Parts: map[string][]byte{"a": {1}, "b": {2, 3}},
		Any: []any{nil, true, "x", []byte{9}, map[any]any{"k": at}}, Deep: map[string][]*Audit{"x": {nil, {By: "al", At: at}}},
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for name, codec := range map[string]cbor.Codec{"made": cbor.New(), "with an option": cbor.New(cbor.MaxDepth(50)), "the zero value": {}} {
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
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s, %s, %T: back came\n%+v, want\n%+v", name, name2, v, got, want)
				}
			}
		}
	}
}

func TestRoundTripOfOtherTypes(t *testing.T) {
	t.Parallel()
	codec := cbor.New()
	roundTrip(t, codec, 7)
	roundTrip(t, codec, "")
	roundTrip(t, codec, []byte{})
	roundTrip(t, codec, [][]byte{{1}, {}, {2}})
	roundTrip(t, codec, time.Date(1950, 1, 1, 0, 0, 0, 7, time.UTC))
	roundTrip(t, codec, time.Time{})
	roundTrip(t, codec, []int64{math.MinInt64, -25, -24, -1, 0, 23, 24, 1 << 16, 1 << 32, math.MaxInt64})
	roundTrip(t, codec, map[string]any(nil))
	roundTrip(t, codec, map[string]any{"a": "b", "n": nil})
	roundTrip(t, codec, &address{City: "Ulm"})
	roundTrip(t, codec, (*address)(nil))
	roundTrip(t, codec, strings.Repeat("x", 70_000))
	roundTrip(t, codec, make([]address, 200_000)) // more than the library takes by itself
}

func roundTrip[T any](t *testing.T, codec cbor.Codec, want T) {
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

// The same value has the same bytes: those of section 4.2.1 of RFC 8949.
func TestDeterministic(t *testing.T) {
	t.Parallel()
	codec := cbor.New()
	east := time.FixedZone("east", 3600)
	for _, tt := range []struct {
		name string
		v    any
		want string
	}{
		{"keys in the order of their bytes", map[any]any{"b": 1, "aa": 2, 10: 3, -1: 4, false: 5, "a": 6}, "\xa6\x0a\x03\x20\x04\x61a\x06\x61b\x01\x62aa\x02\xf4\x05"},
		{"fields too", struct{ B, AA, A int }{1, 2, 3}, "\xa3\x61A\x03\x61B\x01\x62AA\x02"},
		{"short floats", []float64{1.5, 100000, 1.1}, "\x83\xf9\x3e\x00\xfa\x47\xc3\x50\x00\xfb\x3f\xf1\x99\x99\x99\x99\x99\x9a"},
		{"one NaN", math.Float64frombits(0x7ff8000000000123), "\xf9\x7e\x00"},
		{"a time, in UTC", time.Date(2024, 1, 1, 1, 0, 0, 5, east), "\xc0\x78\x1e2024-01-01T00:00:00.000000005Z"},
		{"short numbers", []uint64{23, 24, 256, 65536, 1 << 32}, "\x85\x17\x18\x18\x19\x01\x00\x1a\x00\x01\x00\x00\x1b\x00\x00\x00\x01\x00\x00\x00\x00"},
		{"nil", map[string][]int{"x": nil}, "\xa1\x61x\xf6"},
	} {
		for range 20 { // maps are ranged over in another order each time
			if got, err := codec.Append(nil, tt.v); err != nil || string(got) != tt.want {
				t.Errorf("%s: %x, %v, want %x", tt.name, got, err, tt.want)
				break
			}
		}
	}
}

// What is read, and what is not: the policies of the package documentation.
func TestPolicies(t *testing.T) {
	t.Parallel()
	type pair struct{ A, B int }
	codec := cbor.New()
	huge, _ := new(big.Int).SetString("18446744073709551616", 10)
	for _, tt := range []struct {
		name, data string
		into, want any // want: nil for an error
	}{
		{"a key twice, of a map", "\xa2\x61a\x01\x61a\x02", new(map[string]int), nil},
		{"a key twice, in an interface", "\xa2\x61a\x01\x61a\x02", new(any), nil},
		{"a key twice, of a struct", "\xa2\x61A\x01\x61A\x02", new(pair), nil},
		{"a key twice, which the struct has not", "\xa2\x61X\x01\x61X\x02", new(pair), nil},
		{"an indefinite array", "\x9f\x01\x02\xff", new([]int), []int{1, 2}},
		{"an indefinite map", "\xbf\x61A\x01\xff", new(pair), pair{A: 1}},
		{"an indefinite text", "\x7f\x61a\x61b\xff", new(string), "ab"},
		{"indefinite bytes", "\x5f\x41a\x41b\xff", new([]byte), []byte("ab")},
		{"an indefinite array without end", "\x9f\x01\x02", new([]int), nil},
		{"a tag that says that it is CBOR", "\xd9\xd9\xf7\x01", new(int), 1},
		{"seconds as a time", "\xc1\x01", new(time.Time), time.Unix(1, 0).UTC()},
		{"a time in an interface", "\xc0\x74" + "2024-01-01T00:00:00Z", new(any), time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)},
		{"a time that is none", "\xc0\x61x", new(any), nil},
		{"a big number in an interface", "\xc2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00", new(any), *huge},
		{"another tag, of a known type", "\xd8\x64\x01", new(int), 1},
		{"a number too large", "\x19\x01\x2c", new(int8), nil},
		{"a number below zero", "\x20", new(uint), nil},
		{"a text that is not UTF-8", "\x61\xff", new(string), nil},
		{"bytes for a text", "\x41a", new(string), nil},
		{"unknown fields", "\xa2\x61X\x01\x61A\x02", new(pair), pair{A: 2}},
		{"null", "\xf6", new(pair), pair{}},
		{"a field in another case", "\xa1\x61a\x02", new(pair), pair{A: 2}},
		{"something behind", "\x01\x02", new(int), nil},
		{"nothing", "", new(int), nil},
		{"a reserved head", "\x1c", new(any), nil},
		{"a lone break", "\xff", new(any), nil},
	} {
		err := codec.Unmarshal([]byte(tt.data), tt.into)
		if tt.want == nil {
			if err == nil {
				t.Errorf("%s: it was decoded to %+v", tt.name, reflect.ValueOf(tt.into).Elem())
			} else if !strings.HasPrefix(err.Error(), "cbor: ") {
				t.Errorf("%s: the error is %v", tt.name, err)
			}
			continue
		}
		got := reflect.ValueOf(tt.into).Elem().Interface()
		if want, is := tt.want.(time.Time); is && err == nil && want.Equal(got.(time.Time)) {
			continue
		}
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: %+v, %v, want %+v", tt.name, got, err, tt.want)
		}
	}
}

func TestAppend(t *testing.T) {
	t.Parallel()
	codec := cbor.New()
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
	if got, err := codec.Append(nil, nil); err != nil || string(got) != "\xf6" {
		t.Errorf("nil became %q, %v", got, err)
	}
}

// What was decoded has no part of the payload, and the payload is as it was.
func TestUnmarshalKeepsNothing(t *testing.T) {
	t.Parallel()
	codec := cbor.New()
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
	cat := append(got.Signature, 7, 7, 7)
	if !reflect.DeepEqual(got, want) || len(cat) != 5 {
		t.Errorf("an append to one field changed another: %+v", got)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	if got := cbor.New().ContentType(); got != "application/cbor" {
		t.Errorf("the content type is %q", got)
	}
	if got := (cbor.Codec{}).ContentType(); got != "application/cbor" {
		t.Errorf("the content type of the zero value is %q", got)
	}
	if got := cbor.New(cbor.ContentType("application/vnd.shop+cbor")).ContentType(); got != "application/vnd.shop+cbor" {
		t.Errorf("the content type is %q", got)
	}
	for _, good := range [][]cbor.Option{{cbor.MaxDepth(4), cbor.MaxSize(1)}, {cbor.MaxDepth(10_000), cbor.MaxSize(math.MaxInt32)}} {
		if err := cbor.New(good...).Check(); err != nil {
			t.Error(err)
		}
	}
	bad := cbor.New(nil, cbor.MaxDepth(3), cbor.MaxSize(-1), cbor.ContentType(""))
	for _, want := range []string{"an option is nil", "MaxDepth(3)", "MaxSize(-1)", `ContentType("")`} {
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
	for _, into := range []any{7, nil, (*int)(nil)} {
		if err := cbor.New().Unmarshal([]byte{1}, into); err == nil {
			t.Errorf("it was decoded to %T", into)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	codec := cbor.New()
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
				if again, err := codec.Append(nil, &got); err != nil || !bytes.Equal(again, data) {
					t.Errorf("again it is %x, %v", again, err)
				}
			}
		})
	}
	all.Wait()
}

type node struct {
	Next *node
	Down *node `json:"-"`
	Any  any
	List []any
	Map  map[string]any
}

// What holds itself would overflow the stack, and with it end the process.
func TestValuesThatHoldThemselves(t *testing.T) {
	t.Parallel()
	codec := cbor.New()
	next, throughAny, throughList, throughMap := &node{}, &node{}, &node{}, &node{}
	next.Next = next
	throughAny.Any = throughAny
	throughList.List = []any{throughList}
	throughMap.Map = map[string]any{"x": throughMap}
	list := make([]any, 1)
	list[0] = list
	for name, v := range map[string]any{"pointer": next, "any": throughAny, "list": throughList, "map": throughMap, "itself": list} {
		if _, err := codec.Append(nil, v); !errors.Is(err, cbor.ErrLimit) {
			t.Errorf("%s: %v, want ErrLimit", name, err)
		}
	}
	leftOut := &node{}
	leftOut.Down = leftOut
	if _, err := codec.Append(nil, leftOut); err != nil {
		t.Errorf("a field that is left out: %v", err)
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
	codec, free := cbor.New(cbor.MaxDepth(7), cbor.MaxSize(50)), cbor.New()
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
			if !tt.fits && (!errors.Is(err, cbor.ErrLimit) || !strings.Contains(err.Error(), tt.words)) {
				t.Errorf("%s, %s: %v, want ErrLimit with %q", tt.name, side, err, tt.words)
			}
		}
	}
}

// cents encodes itself, and holds itself: what it writes is its own business.
type cents struct {
	n    int
	Self *cents
}

func (c *cents) MarshalCBOR() ([]byte, error) { return []byte{byte(c.n)}, nil }

func (c *cents) UnmarshalCBOR(b []byte) error {
	c.n = int(b[0])
	return nil
}

func TestTypesThatEncodeThemselves(t *testing.T) {
	t.Parallel()
	codec := cbor.New()
	v := &cents{n: 7}
	v.Self = v
	for _, tt := range []any{v, &v, []any{v}, map[string]*cents{"a": v}} {
		if b, err := codec.Append(nil, tt); err != nil || b[len(b)-1] != 7 {
			t.Errorf("%T became %x, %v", tt, b, err)
		}
	}
	roundTrip(t, codec, []cents{{n: 3}})
}

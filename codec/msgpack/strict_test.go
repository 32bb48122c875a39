package msgpack_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	library "github.com/shamaton/msgpack/v3"

	"github.com/gostream/gostream/codec/msgpack"
)

// A number is the same in its field, or it is an error; a float alone is rounded.
func TestNumbersFit(t *testing.T) {
	t.Parallel()
	codec := msgpack.New()
	for _, tt := range []struct {
		v    any
		into any
		want any // nil for an error
	}{
		{127, new(int8), int8(127)},
		{128, new(int8), nil},
		{300, new(int8), nil},
		{-129, new(int8), nil},
		{-1, new(uint8), nil},
		{-1, new(uint64), nil},
		{256, new(uint8), nil},
		{1 << 16, new(uint16), nil},
		{1 << 31, new(int32), nil},
		{1 << 32, new(uint32), nil},
		{uint64(1 << 63), new(int64), nil},
		{uint64(math.MaxInt64), new(int64), int64(math.MaxInt64)},
		{uint64(math.MaxUint64), new(uint64), uint64(math.MaxUint64)},
		{uint64(math.MaxUint64), new(any), uint64(math.MaxUint64)},
		{200, new(any), int64(200)},
		{-200, new(any), int64(-200)},
		{float32(1.5), new(any), 1.5},
		{2.0, new(int), 2},
		{-2.0, new(int), -2},
		{2.0, new(uint8), uint8(2)},
		{2.5, new(int), nil},
		{-2.0, new(uint), nil},
		{256.0, new(uint8), nil},
		{math.NaN(), new(int), nil},
		{math.Inf(1), new(int64), nil},
		{0x1p63, new(int64), nil},
		{-0x1p63, new(int64), int64(math.MinInt64)},
		{0x1p63, new(uint64), uint64(1 << 63)},
		{0x1p64, new(uint64), nil},
		{7, new(float32), float32(7)},
		{uint64(math.MaxUint64), new(float64), 0x1p64},
		{1.1, new(float32), float32(1.1)},
		{1e300, new(float32), nil},
		{math.Inf(-1), new(float32), float32(math.Inf(-1))},
		{map[int]int{300: 1}, new(map[int8]int), nil},
		{[]int{300}, new([]int8), nil},
		{struct{ Small int }{300}, new(struct{ Small int8 }), nil},
	} {
		data, err := codec.Append(nil, tt.v)
		if err != nil {
			t.Fatal(err)
		}
		err = codec.Unmarshal(data, tt.into)
		got := reflect.ValueOf(tt.into).Elem().Interface()
		if tt.want == nil && (err == nil || !strings.Contains(err.Error(), "which does not fit")) {
			t.Errorf("%v into %T: %v, %v, want an error", tt.v, tt.into, got, err)
		}
		if tt.want != nil && (err != nil || got != tt.want) {
			t.Errorf("%v into %T: %v, %v, want %v", tt.v, tt.into, got, err, tt.want)
		}
	}
	err := codec.Unmarshal([]byte("\x81\xa5lines\x91\x81\xa4city\x01"), new(order))
	if want := "msgpack: field city of msgpack_test.address: byte 14 begins a number, which does not fit string"; err == nil || err.Error() != want {
		t.Errorf("the error is %v, want %s", err, want)
	}
}

// wide has more fields than a word has bits.
type wide struct {
	F00, F01, F02, F03, F04, F05, F06, F07, F08, F09, F10, F11, F12, F13, F14, F15, F16, F17, F18, F19, F20, F21, F22, F23 int8
	F24, F25, F26, F27, F28, F29, F30, F31, F32, F33, F34, F35, F36, F37, F38, F39, F40, F41, F42, F43, F44, F45, F46, F47 int8
	F48, F49, F50, F51, F52, F53, F54, F55, F56, F57, F58, F59, F60, F61, F62, F63, F64, F65, F66, F67, F68, F69, F70, F71 int8
}

// Of two values under one key none is taken.
func TestKeysThatOccurTwice(t *testing.T) {
	t.Parallel()
	codec := msgpack.New()
	for _, tt := range []struct {
		name, data string
		into       any
		fits       bool
	}{
		{"a map", "\x82\xa1a\x01\xa1a\x02", new(map[string]int), false},
		{"numbers", "\x82\x01\x01\xcc\x01\x02", new(map[int]int), false},
		{"in an interface", "\x82\xa1a\x01\xa1a\x02", new(any), false},
		{"numbers in an interface", "\x82\x01\x01\xcc\x01\x02", new(any), false},
		{"a field", "\x82\xa2id\xa1a\xa2id\xa1b", new(order), false},
		{"the 64th field", "\x82\xa3F63\x01\xa3F63\x01", new(wide), false},
		{"the 65th field", "\x82\xa3F64\x01\xa3F64\x01", new(wide), false},
		{"the 72nd field", "\x82\xa3F71\x01\xa3F71\x01", new(wide), false},
		{"fields that are a word apart", "\x84\xa3F00\x01\xa3F64\x01\xa3F07\x01\xa3F71\x01", new(wide), true},
		{"a field that is not", "\x82\xa4nope\xa1a\xa4nope\xa1b", new(order), true},
	} {
		err := codec.Unmarshal([]byte(tt.data), tt.into)
		if fits := err == nil; fits != tt.fits || err != nil && !strings.Contains(err.Error(), "a key that its map has already") {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	for name, v := range map[string]any{
		"numbers":   map[any]int{int8(1): 1, int16(1): 2},
		"addresses": map[netip.Addr]int{{}: 1, netip.MustParseAddr("::1"): 2, netip.MustParseAddr("::2"): 3},
		"NaN":       map[float64]int{math.NaN(): 1},
		"pointers":  map[*int]int{new(int): 1},
	} {
		_, err := codec.Append(nil, v)
		if bad := name != "addresses"; bad != (err != nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTextIsUTF8(t *testing.T) {
	t.Parallel()
	codec := msgpack.New()
	for _, into := range []any{new(string), new(any), new(netip.Addr)} {
		if err := codec.Unmarshal([]byte("\xa2a\xff"), into); err == nil || !strings.Contains(err.Error(), "not UTF-8") {
			t.Errorf("%T: %v", into, err)
		}
	}
	if err := codec.Unmarshal([]byte("\xa2a\xff"), new([]byte)); err != nil {
		t.Errorf("bytes: %v", err)
	}
	if err := codec.Unmarshal([]byte("\xc4\x01\xff"), new(string)); err == nil {
		t.Error("bytes became a text")
	}
	if b, err := codec.Append(nil, map[string]int{"\xff": 1}); err == nil {
		t.Errorf("it was encoded to %q", b)
	}
}

// An element has nothing of the one before it, and nil is the zero value.
func TestNothingIsLeftOver(t *testing.T) {
	t.Parallel()
	codec := msgpack.New()
	type key struct{ A, B int }
	var got map[key]address
	data := "\x82\x82\xa1A\x01\xa1B\x02\x82\xa4city\xa1u\xa3zip\xa11\x81\xa1A\x03\x81\xa4city\xa1v"
	want := map[key]address{{1, 2}: {"u", "1"}, {A: 3}: {City: "v"}}
	if err := codec.Unmarshal([]byte(data), &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("it is %+v, %v, want %+v", got, err, want)
	}
	for _, into := range []any{&order{ID: "x"}, ptr(7), ptr("x"), ptr(true), ptr([]int{1}), ptr(map[string]int{"a": 1}), ptr(ptr(1)), ptr[any](1), ptr(time.Unix(1, 0)), ptr([2]byte{1})} {
		if err := codec.Unmarshal([]byte("\xc0"), into); err != nil || !reflect.ValueOf(into).Elem().IsZero() {
			t.Errorf("nil into %T: %+v, %v", into, reflect.ValueOf(into).Elem(), err)
		}
	}
}

func ptr[T any](v T) *T { return &v }

// The same value has the same bytes.
func TestDeterministic(t *testing.T) {
	t.Parallel()
	codec := msgpack.New()
	inner := map[any]any{"b": 1, "a": map[int]bool{3: true, -1: false, 200: true}, 7: nil}
	want := "\x81\xa1x\x83\x07\xc0\xa1a\x83\x03\xc3\xcc\xc8\xc3\xff\xc2\xa1b\x01"
	for range 50 { // maps are ranged over in another order each time
		if got, err := codec.Append(nil, map[string]any{"x": inner}); err != nil || string(got) != want {
			t.Fatalf("it is %x, %v, want %x", got, err, want)
		}
	}
}

type level string

func (l level) MarshalText() ([]byte, error) { return []byte("level " + string(l)), nil }

func (l *level) UnmarshalText(b []byte) error {
	text, ok := strings.CutPrefix(string(b), "level ")
	if !ok {
		return errors.New("no level")
	}
	*l = level(text)
	return nil
}

// half writes itself, and cannot read it: its fields are taken.
type half struct{ A int }

func (half) MarshalText() ([]byte, error) { return []byte("half"), nil }

// What reads and writes itself as text does so here, as it does in JSON.
func TestTypesThatEncodeThemselves(t *testing.T) {
	t.Parallel()
	codec := msgpack.New()
	where, err := url.Parse("https://example.org/a?b=c")
	if err != nil {
		t.Fatal(err)
	}
	type holder struct {
		Addr   netip.Addr
		Sum    *big.Int
		Level  level
		URL    *url.URL
		Half   half
		Nobody *big.Int
		Levels map[level]level
	}
	want := holder{
		Addr: netip.MustParseAddr("10.0.0.1"), Sum: big.NewInt(-7), Level: "2", URL: where, Half: half{A: 1},
		Levels: map[level]level{"a": "b", "c": "d"},
	}
	roundTrip(t, codec, want)
	roundTrip(t, codec, []any{"x"})
	for _, tt := range []struct {
		v    any
		want string
	}{
		{level("2"), "\xa7level 2"},
		{new(big.Int).Lsh(big.NewInt(1), 70), "\xb61180591620717411303424"},
		{*big.NewInt(7), "\xa17"},
		{*where, "\xc4\x19https://example.org/a?b=c"},
		{json.Number("12"), "\xa212"},
		{json.RawMessage("{}"), "\xc4\x02{}"},
	} {
		if got, err := codec.Append(nil, tt.v); err != nil || string(got) != tt.want {
			t.Errorf("%T became %q, %v, want %q", tt.v, got, err, tt.want)
		}
	}
	if err := codec.Unmarshal([]byte("\xa1x"), new(level)); err == nil || !strings.Contains(err.Error(), "no level") {
		t.Errorf("a level: %v", err)
	}
	if err := codec.Unmarshal([]byte("\x01"), new(level)); err == nil {
		t.Error("a number became a level")
	}
}

// Base and Other are embedded.
type Base struct {
	ID   string
	Kind string `json:"kind"`
}

type Other struct {
	ID    string
	Other int
}

type Tagged struct {
	X int `json:"ID"`
}

type hidden struct{ Seen int }

// A field stands for its name by the rules of Go and of encoding/json.
func TestFields(t *testing.T) {
	t.Parallel()
	codec := msgpack.New()
	for _, tt := range []struct {
		v    any
		want string
	}{
		{struct {
			Base
			ID string
		}{Base{"in", "k"}, "out"}, "\x82\xa4kind\xa1k\xa2ID\xa3out"},
		{struct {
			*Base
			N int
		}{nil, 1}, "\x81\xa1N\x01"},
		{struct {
			*Base `json:"base"`
		}{&Base{"a", "b"}}, "\x81\xa4base\x82\xa2ID\xa1a\xa4kind\xa1b"},
		{struct{ hidden }{hidden{7}}, "\x81\xa4Seen\x07"},
		{struct {
			A int `msgpack:"b" json:"c"`
			B int `msgpack:"-" json:"d"`
			C int `json:"-"`
			D int `msgpack:"-,"`
		}{1, 2, 3, 4}, "\x82\xa1b\x01\xa1-\x04"},
		{struct {
			A int       `json:",omitempty"`
			B []int     `json:",omitempty"`
			C time.Time `json:",omitzero"`
			D *int      `json:",omitzero"`
			E string    `msgpack:"e,omitempty"`
			F [2]int    `json:",omitzero"`
		}{B: []int{}}, "\x80"},
		{struct {
			X int `json:"ID"`
			Base
		}{1, Base{"no", "k"}}, "\x82\xa2ID\x01\xa4kind\xa1k"},
		{struct {
			Base
			Tagged
		}{Base{"no", "k"}, Tagged{1}}, "\x82\xa4kind\xa1k\xa2ID\x01"},
		{struct{}{}, "\x80"},
	} {
		got, err := codec.Append(nil, tt.v)
		if err != nil || string(got) != tt.want {
			t.Errorf("%+v became %q, %v, want %q", tt.v, got, err, tt.want)
			continue
		}
		back := reflect.New(reflect.TypeOf(tt.v))
		if err := codec.Unmarshal(got, back.Interface()); err != nil {
			t.Errorf("%T: %v", tt.v, err)
		}
	}
	// Through embedded pointers, which are made where there is something for them.
	type pointers struct {
		*Base
		*Other
		N int
	}
	for name, codec := range map[string]msgpack.Codec{"maps": codec, "arrays": msgpack.New(msgpack.StructsAsArrays())} {
		type one struct {
			*Base
			N int
		}
		for _, want := range []one{{N: 1}, {&Base{"a", "b"}, 1}} {
			data, err := codec.Append(nil, want)
			var got one
			if err == nil {
				err = codec.Unmarshal(data, &got)
			}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %+v, %v, want %+v", name, got, err, want)
			}
		}
	}
	if _, err := codec.Append(nil, pointers{}); err == nil || !strings.Contains(err.Error(), `two fields that are called "ID"`) {
		t.Errorf("two of one name: %v", err)
	}
	type private struct{ *hidden }
	if err := codec.Unmarshal([]byte("\x81\xa4Seen\x01"), new(private)); err == nil || !strings.Contains(err.Error(), "an embedded pointer that is not exported") {
		t.Errorf("an embedded pointer that cannot be set: %v", err)
	}
}

type itself *itself

// What has no form is said with what to change, before any message.
func TestCheckType(t *testing.T) {
	t.Parallel()
	codec := msgpack.New()
	type deep struct {
		Lines []map[string]*struct {
			Done chan int
		}
	}
	for _, tt := range []struct {
		t    reflect.Type
		want []string // none: it is right
	}{
		{nil, nil},
		{reflect.TypeFor[any](), nil},
		{reflect.TypeFor[error](), nil}, // a publisher may have it
		{reflect.TypeFor[*order](), nil},
		{reflect.TypeFor[node](), nil},
		{reflect.TypeFor[struct{}](), nil},
		{reflect.TypeFor[struct {
			F func() `json:"-"`
		}](), nil},
		{reflect.TypeFor[chan int](), []string{"chan int has no form in MessagePack"}},
		{reflect.TypeFor[[]func()](), []string{"func() has no form"}},
		{reflect.TypeFor[complex128](), []string{"complex128 has no form"}},
		{reflect.TypeFor[deep](), []string{"field Lines of msgpack_test.deep: field Done of struct", "chan int has no form", "leave it out with the tag `msgpack:\"-\"`"}},
		{reflect.TypeFor[struct{ M sync.Mutex }](), []string{"sync.Mutex has no exported field"}},
		{reflect.TypeFor[Embeds](), []string{"Embeds embeds itself: give the embedded field a name"}},
		{reflect.TypeFor[map[*int]int](), []string{"pointers as keys"}},
		{reflect.TypeFor[itself](), []string{"points to itself"}},
	} {
		err := codec.CheckType(tt.t)
		if (err == nil) != (tt.want == nil) {
			t.Errorf("%v: %v", tt.t, err)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "msgpack: ") {
				t.Errorf("%v: %v, want %q in it", tt.t, err, want)
			}
		}
		if err != nil {
			if err := codec.Unmarshal([]byte("\x01"), reflect.New(tt.t).Interface()); err == nil {
				t.Errorf("%v was decoded", tt.t)
			}
		}
	}
}

// What holds another many times over ends at MaxSize, not after the age of the universe.
func TestValuesThatMultiply(t *testing.T) {
	t.Parallel()
	v := any("x")
	for range 60 {
		v = []any{v, v}
	}
	if _, err := msgpack.New(msgpack.MaxSize(1<<16)).Append(nil, v); !errors.Is(err, msgpack.ErrLimit) || !strings.Contains(err.Error(), "MaxSize") {
		t.Errorf("%v, want ErrLimit", err)
	}
}

// A list of large elements takes memory for those that are there, not for those that
// a payload announces, also where all of its bytes are there.
func TestMemoryGrowsWithWhatIsRead(t *testing.T) {
	codec := msgpack.New()
	numbers := "\xdd\x00\x10\x00\x00" + strings.Repeat("\x01", 1<<20)
	for _, v := range []any{new([]large), new([]*large), new(map[string]large), new([]string), new([][]large)} {
		var err error
		got := allocated(func() { err = codec.Unmarshal([]byte(numbers), v) })
		if err == nil || got > 1<<20+64<<10 { // the conversion to bytes is one
			t.Errorf("%T: %d bytes were allocated, %v", v, got, err)
		}
	}
}

// Types that refer to one another may be met by several goroutines first.
func TestTypesAreMetConcurrently(t *testing.T) {
	t.Parallel()
	type (
		a struct{ Next *struct{ Back []a } }
		b struct{ A map[string]a }
	)
	want := b{map[string]a{"x": {&struct{ Back []a }{[]a{{}}}}}}
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			data, err := msgpack.New().Append(nil, want)
			var got b
			if err == nil {
				err = msgpack.New().Unmarshal(data, &got)
			}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("back came %+v, %v", got, err)
			}
		})
	}
	all.Wait()
}

// Another implementation reads what this one writes, and the other way round.
func TestInterop(t *testing.T) {
	t.Parallel()
	type both struct { // as an array, embedded fields have another place there
		Map   order
		Array plain
	}
	want := both{fullOrder(), plain{ID: "o-1", Cents: -1, Tags: []string{"a"}}}
	want.Map.Any, want.Map.Deep = nil, nil // numbers and nil elements come back otherwise there
	check := func(name string, data []byte, read func([]byte, any) error) {
		t.Helper()
		var got both
		to, wanted := any(&got.Map), both{Map: want.Map}
		if name[0] == 'a' {
			to, wanted = &got.Array, both{Array: want.Array}
		}
		if err := read(data, to); err != nil || !reflect.DeepEqual(got, wanted) {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, wanted)
		}
	}
	for name, c := range map[string]struct {
		codec msgpack.Codec
		write func(any) ([]byte, error)
		read  func([]byte, any) error
	}{
		"maps":   {msgpack.New(), library.MarshalAsMap, library.UnmarshalAsMap},
		"arrays": {msgpack.New(msgpack.StructsAsArrays()), library.MarshalAsArray, library.UnmarshalAsArray},
	} {
		v := any(want.Map)
		if name == "arrays" {
			v = want.Array
		}
		ours, err := c.codec.Append(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		check(name+", the other reads", ours, c.read)
		theirs, err := c.write(v)
		if err != nil {
			t.Fatal(err)
		}
		check(name+", the other writes", theirs, c.codec.Unmarshal)
	}
	for _, at := range []time.Time{
		time.Unix(0, 0), time.Unix(1, 5), time.Unix(1<<32, 0), time.Unix(1<<34-1, 999_999_999), time.Unix(1<<34, 0),
		time.Unix(-1, 1), time.Date(-5000, 1, 1, 0, 0, 0, 1, time.UTC), time.Date(90000, 1, 1, 0, 0, 0, 0, time.UTC),
		{},
	} {
		ours, err := msgpack.New().Append(nil, at)
		if err != nil {
			t.Fatal(err)
		}
		var here, there time.Time
		if err := msgpack.New().Unmarshal(ours, &here); err != nil || !here.Equal(at) || here.Location() != time.UTC {
			t.Errorf("%v came back as %v, %v", at, here, err)
		}
		if err := library.Unmarshal(ours, &there); err != nil || !there.Equal(at) {
			t.Errorf("%v came to the other as %v, %v", at, there, err)
		}
	}
	for _, n := range []int64{
		0, 1, 127, 128, 255, 256, 1<<15 - 1, 1 << 15, 1<<16 - 1, 1 << 16, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, math.MaxInt64,
		-1, -32, -33, -128, -129, -1 << 15, -1<<15 - 1, -1 << 31, -1<<31 - 1, math.MinInt64,
	} {
		ours, err := msgpack.New().Append(nil, n)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := library.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		var a, b, c int64
		if err := errors.Join(library.Unmarshal(ours, &a), msgpack.New().Unmarshal(ours, &b), msgpack.New().Unmarshal(theirs, &c)); err != nil || a != n || b != n || c != n {
			t.Errorf("%d is %d, %d and %d, %v", n, a, b, c, err)
		}
	}
	for _, n := range []int{0, 15, 16, 31, 32, 255, 256, 65535, 65536} {
		type lengths struct {
			Text  string
			Bytes []byte
			List  []bool
			Map   map[string]bool
		}
		want := lengths{strings.Repeat("x", n), make([]byte, n), make([]bool, n), make(map[string]bool)}
		for i := range min(n, 300) {
			want.Map[fmt.Sprint(i)] = true
		}
		ours, err := msgpack.New().Append(nil, want)
		var a, b lengths
		if err := errors.Join(err, library.Unmarshal(ours, &a), msgpack.New().Unmarshal(ours, &b)); err != nil || !reflect.DeepEqual(a, want) || !reflect.DeepEqual(b, want) {
			t.Errorf("of the length %d: %v", n, err)
		}
	}
}

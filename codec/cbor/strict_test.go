package cbor_test

import (
	"bytes"
	"math/big"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gostream/gostream/codec/cbor"
)

func TestStrict(t *testing.T) {
	t.Parallel()
	codec, strict := cbor.New(), cbor.New(cbor.Strict())
	for _, tt := range []struct {
		name, data, words string // words: "" where it is taken
	}{
		{"an indefinite array", "\x9f\x01\xff", "byte 0 begins something of indefinite length"},
		{"an indefinite map", "\xbf\x61a\x01\xff", "indefinite"},
		{"an indefinite text", "\x7f\x61a\xff", "indefinite"},
		{"indefinite bytes", "\x5f\x41a\xff", "indefinite"},
		{"in an array", "\x82\x01\x9f\xff", "byte 2 begins something of indefinite length"},
		{"in a map", "\xa1\x61a\x9f\xff", "byte 3 begins"},
		{"in a tag", "\xd9\xd9\xf7\x9f\xff", "byte 3 begins"},
		{"behind a float", "\x82\xfb\x3f\xf1\x99\x99\x99\x99\x99\x9a\x9f\xff", "byte 10 begins"},
		{"behind bytes", "\x82\x58\x02\xff\xff\x9f\xff", "byte 5 begins"},
		{"behind a simple value", "\x83\xf8\x20\xf4\x9f\xff", "byte 4 begins"},
		{"a tag", "\xd8\x64\x01", "byte 0 begins the tag 100"},
		{"a tag of eight bytes", "\x81\xdb\x00\x00\x00\x01\x00\x00\x00\x00\x01", "byte 1 begins the tag 4294967296"},
		{"a small tag", "\xc4\x82\x01\x01", "the tag 4"},
		{"numbers of all lengths", "\x85\x17\x18\x18\x19\x01\x00\x1a\x00\x01\x00\x00\x3b\x00\x00\x00\x01\x00\x00\x00\x00", ""},
		{"a time", "\xc0\x74" + "2024-01-01T00:00:00Z", ""},
		{"seconds", "\xc1\x01", ""},
		{"a big number", "\xc2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00", ""},
		{"what says that it is CBOR", "\xd9\xd9\xf7\x01", ""},
		{"a long text", "\x78\x20" + strings.Repeat("x", 32), ""},
	} {
		var got any
		if err := codec.Unmarshal([]byte(tt.data), &got); err != nil {
			t.Errorf("%s, not strict: %v", tt.name, err)
		}
		err := strict.Unmarshal([]byte(tt.data), &got)
		if (err == nil) != (tt.words == "") || err != nil && !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.words)
		}
	}
	for _, data := range []string{"\x9f", "\x82\x01", "\x01\x02", "\x1c", "\x78\xff"} { // not well-formed
		if err := strict.Unmarshal([]byte(data), new(any)); err == nil {
			t.Errorf("%x was decoded", data)
		}
	}
	full := fullOrder()
	data, err := strict.Append(nil, full)
	if err != nil {
		t.Fatal(err)
	}
	var got order
	if err := strict.Unmarshal(data, &got); err != nil || !reflect.DeepEqual(got, full) {
		t.Errorf("back came %+v, %v", got, err)
	}
}

// FuzzStrict compares what is refused with the bytes that the codec writes itself.
func FuzzStrict(f *testing.F) {
	codec, strict := cbor.New(), cbor.New(cbor.Strict())
	for _, data := range []string{"\x9f\x01\xff", "\xd8\x64\x01", "\xa1\x61a\x9f\xff", "\xc1\xfb\x3f\xf1\x99\x99\x99\x99\x99\x9a"} {
		f.Add([]byte(data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var loose, got any
		err := codec.Unmarshal(data, &loose)
		strictErr := strict.Unmarshal(data, &got)
		if err != nil && strictErr == nil {
			t.Errorf("%x is taken by Strict alone, without it: %v", data, err)
		}
		if err != nil {
			return
		}
		mayBeTag := func(b byte) bool { return b>>5 == 6 }
		if b, err := codec.Append(nil, loose); err == nil && bytes.Equal(b, data) && !slices.ContainsFunc(data, mayBeTag) && strictErr != nil {
			t.Errorf("%x is what is written without tags, and Strict says %v", data, strictErr)
		}
	})
}

// Embeds embeds itself.
type Embeds struct {
	*Embeds
	X int
}

func TestCheckType(t *testing.T) {
	t.Parallel()
	codec := cbor.New()
	type deep struct {
		Lines []map[string]*struct{ Done chan int }
	}
	type hidden struct{ x int }
	_ = hidden{x: 1}
	for _, tt := range []struct {
		t    reflect.Type
		want []string // none: it is right
	}{
		{nil, nil},
		{reflect.TypeFor[any](), nil},
		{reflect.TypeFor[*order](), nil},
		{reflect.TypeFor[node](), nil},
		{reflect.TypeFor[Embeds](), nil},
		{reflect.TypeFor[struct{}](), nil},
		{reflect.TypeFor[big.Int](), nil},
		{reflect.TypeFor[struct {
			F func() `json:"-"`
		}](), nil},
		{reflect.TypeFor[chan int](), []string{"chan int has no form in CBOR"}},
		{reflect.TypeFor[map[string][]func()](), []string{"func() has no form"}},
		{reflect.TypeFor[[2]complex64](), []string{"complex64 has no form"}},
		{reflect.TypeFor[deep](), []string{"field Lines of cbor_test.deep: field Done of struct", "chan int has no form", "leave it out with the tag `cbor:\"-\"`"}},
		{reflect.TypeFor[struct{ H hidden }](), []string{"hidden has no exported field"}},
	} {
		err := codec.CheckType(tt.t)
		if (err == nil) != (tt.want == nil) {
			t.Errorf("%v: %v", tt.t, err)
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "cbor: ") {
				t.Errorf("%v: %v, want %q in it", tt.t, err, want)
			}
		}
	}
	if b, err := codec.Append(nil, Embeds{X: 1}); err != nil || string(b) != "\xa1\x61X\x01" {
		t.Errorf("what embeds itself became %x, %v", b, err)
	}
}

// price writes itself as text.
type price struct{ cents int }

func (p price) MarshalText() ([]byte, error) { return []byte(strings.Repeat("c", p.cents)), nil }

func (p *price) UnmarshalText(b []byte) error {
	p.cents = len(b)
	return nil
}

// What has but MarshalText is text, and not a map without its fields.
func TestText(t *testing.T) {
	t.Parallel()
	codec := cbor.New()
	for _, v := range []any{price{2}, &price{2}} {
		if b, err := codec.Append(nil, v); err != nil || string(b) != "\x62cc" {
			t.Errorf("%T became %x, %v", v, b, err)
		}
	}
	roundTrip(t, codec, price{3})
	roundTrip(t, codec, map[price][]*price{{1}: {{4}, nil}})
	roundTrip(t, codec, netip.MustParseAddr("10.0.0.1"))
	roundTrip(t, codec, struct {
		At    time.Time
		Price price
	}{time.Unix(1, 0).UTC(), price{1}})
}

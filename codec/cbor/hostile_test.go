package cbor_test

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/gostream/gostream/codec/cbor"
)

// large is what a list of one-byte elements would be multiplied by.
type large struct {
	Numbers [128]int64
	Next    *large
	Bytes   []byte
	Any     any
}

// targets are pointers to the kinds of types that handlers take.
func targets() []any {
	return []any{
		new(any), new(order), new(node), new([]large), new(map[string]any), new(map[string]large), new([]string), new([][]byte), new([4]int),
		new([]int), new(string), new(int8), new(float32), new(error), new(fmt.Stringer), new(map[any]any), new(map[[2]byte]int), new(*large), new(bool),
	}
}

// Payloads that announce more than they have, or are nested without end. Each is small,
// and each must be refused before memory is reserved for what it announces.
var bombs = map[string]string{
	"array of 2^32":            "\x9b\x00\x00\x00\x01\x00\x00\x00\x00",
	"array of 2^63":            "\x9b\x80\x00\x00\x00\x00\x00\x00\x00",
	"array of 2^24":            "\x9a\x01\x00\x00\x00\x01",
	"array within the limit":   "\x9a\x00\xff\xff\xff\x01",
	"map of 2^32":              "\xbb\x00\x00\x00\x01\x00\x00\x00\x00\x61a\x01",
	"map within the limit":     "\xba\x00\xff\xff\xff\x61a\x01",
	"text":                     "\x7b\x00\x00\x00\x01\x00\x00\x00\x00abc",
	"bytes":                    "\x5b\x7f\xff\xff\xff\xff\xff\xff\xffabc",
	"bytes of 2^64":            "\x5b\xff\xff\xff\xff\xff\xff\xff\xffabc",
	"big number":               "\xc2\x5a\x7f\xff\xff\xff\x01",
	"in a field":               "\xa1\x64tags\x9a\x00\xff\xff\xff",
	"in a field that is not":   "\xa1\x64nope\x9a\x00\xff\xff\xff",
	"deep arrays":              strings.Repeat("\x81", 1<<20),
	"deep maps":                strings.Repeat("\xa1\x61a", 1<<18),
	"deep keys":                strings.Repeat("\xa1", 1<<20),
	"deep tags":                strings.Repeat("\xc6", 1<<20),
	"deep and indefinite":      strings.Repeat("\x9f", 1<<20),
	"deep and announced twice": strings.Repeat("\x9a\x00\x02\x00\x00", 1<<17),
	"wide within the depth":    strings.Repeat("\x9a\x00\x0f\x00\x00", 90) + strings.Repeat("\x01", 1<<20),
	"wide maps within it":      strings.Repeat("\xba\x00\x07\x00\x00\x01", 90) + strings.Repeat("\x01", 1<<20),
}

func TestBombs(t *testing.T) {
	codec := cbor.New()
	for _, v := range targets() {
		_ = codec.Unmarshal([]byte{0xf6}, v) // what the library keeps of a type
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

// allocated is how many bytes f allocates. Tests that run beside it would count too.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestLimits(t *testing.T) {
	t.Parallel()
	codec := cbor.New()
	for name, tt := range map[string]struct{ data, words string }{
		"depth": {strings.Repeat("\x81", 101) + "\x01", "MaxDepth is 100"},
		"tags":  {strings.Repeat("\xc6", 102) + "\x01", "MaxDepth is 100"},
		"size":  {strings.Repeat("\x01", cbor.DefaultMaxSize+1), "MaxSize is 16777216"},
	} {
		var got any
		err := codec.Unmarshal([]byte(tt.data), &got)
		if !errors.Is(err, cbor.ErrLimit) || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: %v, want ErrLimit with %q", name, err, tt.words)
		}
	}
	var got any
	if err := codec.Unmarshal([]byte("\x81"), &got); err == nil || errors.Is(err, cbor.ErrLimit) {
		t.Errorf("a cut payload: %v", err)
	}
}

func FuzzUnmarshal(f *testing.F) {
	codec := cbor.New()
	full, err := codec.Append(nil, fullOrder())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	for _, data := range bombs {
		f.Add([]byte(data[:min(len(data), 200)]))
	}
	for _, data := range []string{"", "\x1c", "\xff", "\xa1\x41a\x01", "\xc0\x61x", "\xbf\x61A\x01\xff", "\xa1\xf9\x7e\x00\x41x"} {
		f.Add([]byte(data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		for _, v := range targets() {
			if codec.Unmarshal(data, v) != nil {
				continue
			}
			b, err := codec.Append(nil, v)
			if errors.Is(err, cbor.ErrLimit) {
				continue // a tag, which the value counts and the payload did not
			}
			if err != nil {
				t.Errorf("%T was decoded from %x and cannot be encoded: %v", v, data, err)
			} else if again, err := codec.Append(nil, v); err != nil || !bytes.Equal(b, again) {
				t.Errorf("%T became %x and %x, %v", v, b, again, err)
			}
		}
		if !bytes.Equal(data, before) {
			t.Error("the payload was changed")
		}
	})
}

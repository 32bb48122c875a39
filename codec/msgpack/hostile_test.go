package msgpack_test

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gostream/gostream/codec/msgpack"
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
		new([]int), new(string), new(int8), new(float32), new(error), new(fmt.Stringer), new(map[any]any), new(map[[2]byte]int), new(*large), new(bool), new(wide), new(map[float64]time.Time), new([]uint16),
	}
}

// Payloads that announce more than they have, or are nested without end. Each is small,
// and each must be refused before memory is reserved for what it announces.
var bombs = map[string]string{
	"array 32":                 "\xdd\xff\xff\xff\xff",
	"array 32 of a little":     "\xdd\xff\xff\xff\xff\x01\x02\x03",
	"array 16":                 "\xdc\xff\xff\x01",
	"map 32":                   "\xdf\xff\xff\xff\xff\xa1a\x01",
	"map 16":                   "\xde\xff\xff\xa1a\x01",
	"str 32":                   "\xdb\xff\xff\xff\xffabc",
	"bin 32":                   "\xc6\xff\xff\xff\xffabc",
	"ext 32":                   "\xc9\xff\xff\xff\xff\x01abc",
	"in a field":               "\x81\xa4tags\xdd\xff\xff\xff\xff",
	"in a field that is not":   "\x81\xa4nope\xdd\xff\xff\xff\xff",
	"deep arrays":              strings.Repeat("\x91", 1<<20),
	"deep maps":                strings.Repeat("\x81\xa1a", 1<<18),
	"deep keys":                strings.Repeat("\x81", 1<<20),
	"deep and announced twice": strings.Repeat("\xdd\x00\x02\x00\x00", 1<<17),
	"wide within the depth":    strings.Repeat("\xdd\x00\x0f\x00\x00", 90) + strings.Repeat("\x01", 1<<20),
	"wide maps within it":      strings.Repeat("\xdf\x00\x07\x00\x00\x01", 90) + strings.Repeat("\x01", 1<<20),
}

func TestBombs(t *testing.T) {
	codec := msgpack.New()
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

func TestRefused(t *testing.T) {
	t.Parallel()
	codec := msgpack.New()
	for _, tt := range []struct {
		name, data, words string
		limit             bool
		into              any
	}{
		{"nothing", "", "is empty", false, new(any)},
		{"a type that there is not", "\xc1", "byte 0 is 0xc1", false, new(any)},
		{"a cut length", "\xdd\xff", "ends inside the value that begins at byte 0", false, new(any)},
		{"a cut number", "\x92\x01\xcd\x01", "ends inside the value that begins at byte 2", false, new(any)},
		{"a missing element", "\x92\x91\x01", "announces 1 elements, and 1 bytes are left", false, new(any)},
		{"a missing number", "\x93\x01\xcc\x01", "ends inside", false, new(any)},
		{"a cut fixext", "\xd6\xff\x01", "announces 5 bytes", false, new(any)},
		{"a length", "\xdb\x7f\xff\xff\xffx", "announces 2147483647 bytes, and 1 bytes are left", false, new(any)},
		{"elements", "\xdf\x7f\xff\xff\xffx", "announces 2147483647 elements, and 1 bytes are left", false, new(any)},
		{"something behind", "\x01\x02\x03", "2 bytes follow the value", false, new(any)},
		{"depth", strings.Repeat("\x91", 101) + "\x01", "MaxDepth is 100", true, new(any)},
		{"size", strings.Repeat("\x01", msgpack.DefaultMaxSize+1), "MaxSize is 16777216", true, new(any)},
		{"bytes for texts", "\xc4\x01a", "does not fit []string", false, new([]string)},
		{"bytes for numbers", "\xc4\x01a", "does not fit [2]string", false, new([2]string)},
		{"a number for an interface with methods", "\x01", "error is an interface with methods", false, new(error)},
		{"bytes as a key", "\x81\xc4\x01a\x01", "a key of a map that is bytes", false, new(any)},
		{"bytes as a key of a map of anything", "\x81\xc4\x01a\x01", "a key of a map that is bytes", false, new(map[any]int)},
		{"a list in a key", "\x81\x81\xa1A\x90\x01", "a key of a map that is bytes", false, new(map[struct{ A any }]int)},
		{"NaN as a key", "\x81\xcb\x7f\xf8\x00\x00\x00\x00\x00\x01\x01", "not a number", false, new(any)},
		{"NaN as a key of a map of numbers", "\x81\xcb\x7f\xf8\x00\x00\x00\x00\x00\x01\x01", "not a number", false, new(map[float32]int)},
		{"nil as a key", "\x81\xc0\x01", "a key that is nil, which does not fit string", false, new(map[string]int)},
		{"more bytes than there is room for", "\xc4\x03abc", "begins 3 bytes, which do not fit [2]uint8", false, new([2]byte)},
		{"more elements than there is room for", "\x93\x01\x01\x01", "begins an array of 3, which does not fit [2]int", false, new([2]int)},
		{"fewer elements than that", "\x91\x01", "begins an array of 1, which does not fit [2]int", false, new([2]int)},
		{"an array for a struct", "\x91\x01", "begins an array, which does not fit", false, new(order)},
		{"a text for a number", "\xa1a", "msgpack: ", false, new(int)},
		{"a number as a field's name", "\x81\x01\x01", "msgpack: ", false, new(order)},
		{"an extension that nobody knows", "\xd4\x05\x01", "msgpack: ", false, new(any)},
		{"a time with too many nanoseconds", "\xd7\xff\xff\xff\xff\xff\x00\x00\x00\x00", "nanoseconds", false, new(any)},
		{"no pointer", "\x01", "a pointer that is not nil is needed", false, 7},
		{"no target", "\x01", "a pointer that is not nil is needed", false, nil},
		{"a nil pointer", "\x01", "a pointer that is not nil is needed", false, (*int)(nil)},
	} {
		err := codec.Unmarshal([]byte(tt.data), tt.into)
		if err == nil || !strings.Contains(err.Error(), tt.words) || !strings.HasPrefix(err.Error(), "msgpack: ") {
			t.Errorf("%s: %v, want %q in it", tt.name, err, tt.words)
		}
		if errors.Is(err, msgpack.ErrLimit) != tt.limit {
			t.Errorf("%s: %v is ErrLimit: %v", tt.name, err, !tt.limit)
		}
	}
}

// Each type of the format is walked over as it is long, or what follows would be
// taken for something else.
func TestEveryFormat(t *testing.T) {
	t.Parallel()
	codec := msgpack.New()
	for _, data := range []string{
		"\x00", "\x7f", "\xe0", "\xff", "\xc0", "\xc2", "\xc3", "\xa0", "\xa1x", "\xbf" + strings.Repeat("x", 31),
		"\x90", "\x91\x01", "\x80", "\x81\xa1a\x01",
		"\xc4\x01x", "\xc5\x00\x01x", "\xc6\x00\x00\x00\x01x", "\xca\x00\x00\x00\x00", "\xcb\x00\x00\x00\x00\x00\x00\x00\x00",
		"\xcc\x01", "\xcd\x00\x01", "\xce\x00\x00\x00\x01", "\xcf\x00\x00\x00\x00\x00\x00\x00\x01",
		"\xd0\x01", "\xd1\x00\x01", "\xd2\x00\x00\x00\x01", "\xd3\x00\x00\x00\x00\x00\x00\x00\x01",
		"\xd9\x01x", "\xda\x00\x01x", "\xdb\x00\x00\x00\x01x", "\xdc\x00\x01\x01", "\xdd\x00\x00\x00\x01\x01",
		"\xde\x00\x01\xa1a\x01", "\xdf\x00\x00\x00\x01\xa1a\x01",
		"\xd6\xff\x00\x00\x00\x01", "\xd7\xff\x00\x00\x00\x00\x00\x00\x00\x01", "\xc7\x0c\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01",
	} {
		var got any
		if err := codec.Unmarshal([]byte(data), &got); err != nil {
			t.Errorf("% x: %v", data, err)
		}
		var both []any
		if err := codec.Unmarshal([]byte("\x92"+data+"\xa3end"), &both); err != nil || len(both) != 2 || both[1] != "end" {
			t.Errorf("% x and a text are %v, %v", data, both, err)
		}
		// As an unknown field, which is skipped; and cut at every place.
		var o order
		if err := codec.Unmarshal([]byte("\x82\xa4nope"+data+"\xa2id\xa3end"), &o); err != nil || o.ID != "end" {
			t.Errorf("% x as an unknown field: %+v, %v", data, o.ID, err)
		}
		for i := range len(data) {
			if err := codec.Unmarshal([]byte(data[:i]), &got); err == nil {
				t.Errorf("% x was decoded, cut from % x", data[:i], data)
			}
		}
	}
	// The extensions that are not known are walked over all the same.
	for _, data := range []string{
		"\xd4\x05x", "\xd5\x05xx", "\xd6\x05xxxx", "\xd7\x05xxxxxxxx", "\xd8\x05xxxxxxxxxxxxxxxx",
		"\xc7\x02\x05xx", "\xc8\x00\x02\x05xx", "\xc9\x00\x00\x00\x02\x05xx", "\xc7\x00\x05",
	} {
		var o order
		if err := codec.Unmarshal([]byte("\x82\xa4nope"+data+"\xa2id\xa3end"), &o); err != nil || o.ID != "end" {
			t.Errorf("% x as an unknown field: %+v, %v", data, o.ID, err)
		}
	}
}

func FuzzUnmarshal(f *testing.F) {
	codec := msgpack.New()
	full, err := codec.Append(nil, fullOrder())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	for _, data := range bombs {
		f.Add([]byte(data[:min(len(data), 200)]))
	}
	for _, data := range []string{"", "\xc1", "\xc4\x01a", "\x81\xc4\x01a\x01", "\xd6\xff\x00\x00\x00\x01", "\x81\xcb\x7f\xf8\x00\x00\x00\x00\x00\x01\xc4\x01x"} {
		f.Add([]byte(data))
	}
	codecs := []msgpack.Codec{codec, msgpack.New(msgpack.StructsAsArrays())}
	f.Fuzz(func(t *testing.T, data []byte) {
		before := bytes.Clone(data)
		for _, c := range codecs {
			for _, v := range targets() {
				if c.Unmarshal(data, v) != nil {
					continue
				}
				b, err := c.Append(nil, v)
				if err != nil {
					t.Errorf("%T was decoded and cannot be encoded: %v", v, err)
				} else if err := c.Unmarshal(b, v); err != nil {
					t.Errorf("%T was encoded and cannot be decoded: %v", v, err)
				} else if again, err := c.Append(nil, v); err != nil || !bytes.Equal(again, b) {
					t.Errorf("%T became %x and %x, %v", v, b, again, err)
				}
			}
		}
		if !bytes.Equal(data, before) {
			t.Error("the payload was changed")
		}
	})
}

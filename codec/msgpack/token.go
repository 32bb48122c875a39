package msgpack

import (
	"encoding/binary"
	"fmt"
	"math"
)

// decoder reads one value. What a payload announces is compared with what is left, all
// that was announced before included, and is not reserved at once: memory grows with
// what has been read. Nothing that it hands out is a part of the payload.
type decoder struct {
	cfg  *config
	data []byte
	off  int
	owed int // how many values are still to come, each of a byte at least
}

// kind is what a value in the payload is.
type kind uint8

const (
	isNil kind = iota
	isBool
	isInt   // below zero, in token.n as an int64
	isUint  // in token.n
	isFloat // in token.n as the bits of a float64
	isText
	isBytes
	isArray
	isMap
	isExtension
)

var kindNames = [...]string{"nil", "a bool", "a number", "a number", "a number", "a text", "bytes", "an array", "a map", "an extension type"}

// token is the head of a value: all of a simple one.
type token struct {
	at   int // of its first byte
	kind kind
	ext  int8   // the type of an extension
	n    uint64 // a number, or how many bytes or elements follow; 1 for true
}

// next reads a head. The bytes that it announces are there, and of the elements as many
// bytes.
func (d *decoder) next() (t token, err error) {
	t.at = d.off
	if d.off >= len(d.data) {
		return t, d.ends(t.at)
	}
	code := d.data[d.off]
	d.off++
	d.owed--
	switch {
	case code <= 0x7f:
		t.kind, t.n = isUint, uint64(code)
		return t, nil
	case code >= 0xe0:
		t.kind, t.n = isInt, uint64(int64(int8(code)))
		return t, nil
	case code <= 0x8f:
		t.kind, t.n = isMap, uint64(code&0x0f)
		return t, d.announced(t)
	case code <= 0x9f:
		t.kind, t.n = isArray, uint64(code&0x0f)
		return t, d.announced(t)
	case code <= 0xbf:
		t.kind, t.n = isText, uint64(code&0x1f)
		return t, d.announced(t)
	}
	switch code {
	case 0xc0:
		return t, nil
	case 0xc2, 0xc3:
		t.kind, t.n = isBool, uint64(code&1)
		return t, nil
	case 0xc4, 0xc5, 0xc6:
		return d.sized(t, isBytes, 1<<(code-0xc4))
	case 0xc7, 0xc8, 0xc9:
		if t.n, err = d.number(t.at, 1<<(code-0xc7)); err != nil {
			return t, err
		}
		return d.extension(t)
	case 0xca:
		bits, err := d.number(t.at, 4)
		t.kind, t.n = isFloat, math.Float64bits(float64(math.Float32frombits(uint32(bits))))
		return t, err
	case 0xcb:
		t.kind = isFloat
		t.n, err = d.number(t.at, 8)
		return t, err
	case 0xcc, 0xcd, 0xce, 0xcf:
		t.kind = isUint
		t.n, err = d.number(t.at, 1<<(code-0xcc))
		return t, err
	case 0xd0, 0xd1, 0xd2, 0xd3:
		width := 1 << (code - 0xd0)
		bits, err := d.number(t.at, width)
		n := int64(bits<<(64-8*width)) >> (64 - 8*width)
		if t.kind, t.n = isUint, uint64(n); n < 0 {
			t.kind = isInt
		}
		return t, err
	case 0xd4, 0xd5, 0xd6, 0xd7, 0xd8:
		t.n = 1 << (code - 0xd4)
		return d.extension(t)
	case 0xd9, 0xda, 0xdb:
		return d.sized(t, isText, 1<<(code-0xd9))
	case 0xdc, 0xdd:
		return d.sized(t, isArray, 2<<(code-0xdc))
	case 0xde, 0xdf:
		return d.sized(t, isMap, 2<<(code-0xde))
	}
	return t, fmt.Errorf("byte %d is %#x, which is not MessagePack", t.at, code)
}

// sized reads a length of width bytes.
func (d *decoder) sized(t token, k kind, width int) (token, error) {
	n, err := d.number(t.at, width)
	if err != nil {
		return t, err
	}
	t.kind, t.n = k, n
	return t, d.announced(t)
}

// extension reads the type of an extension, of t.n bytes.
func (d *decoder) extension(t token) (token, error) {
	t.kind = isExtension
	t.n++ // for the type
	if err := d.announced(t); err != nil {
		return t, err
	}
	t.n--
	t.ext = int8(d.data[d.off])
	d.off++
	return t, nil
}

// announced compares what a head announces with what is left for it. n is less than 2^33.
func (d *decoder) announced(t token) error {
	what, least := "bytes", t.n
	switch t.kind {
	case isArray:
		what = "elements"
	case isMap:
		what, least = "elements", 2*t.n
	}
	if left := len(d.data) - d.off; least+uint64(d.owed) > uint64(left) {
		return fmt.Errorf("byte %d announces %d %s, and %d bytes are left for all that was announced", t.at, t.n, what, left)
	}
	if t.kind == isArray || t.kind == isMap {
		d.owed += int(least)
	}
	return nil
}

// number reads width bytes.
func (d *decoder) number(at, width int) (uint64, error) {
	if len(d.data)-d.off < width {
		return 0, d.ends(at)
	}
	b := d.data[d.off:]
	d.off += width
	switch width {
	case 1:
		return uint64(b[0]), nil
	case 2:
		return uint64(binary.BigEndian.Uint16(b)), nil
	case 4:
		return uint64(binary.BigEndian.Uint32(b)), nil
	default:
		return binary.BigEndian.Uint64(b), nil
	}
}

func (d *decoder) ends(at int) error {
	return fmt.Errorf("the payload ends inside the value that begins at byte %d", at)
}

// take returns the bytes of t. They are a part of the payload.
func (d *decoder) take(t token) []byte {
	b := d.data[d.off : d.off+int(t.n)]
	d.off += int(t.n)
	return b
}

// skip walks over a value, the elements of t included.
func (d *decoder) skip(t token, depth int) error {
	switch t.kind {
	case isText, isBytes, isExtension:
		d.off += int(t.n)
		return nil
	case isArray, isMap:
	default:
		return nil
	}
	if depth >= d.cfg.MaxDepth {
		return d.cfg.TooDeep()
	}
	values := t.n
	if t.kind == isMap {
		values *= 2
	}
	for range values {
		inner, err := d.next()
		if err != nil {
			return err
		}
		if err := d.skip(inner, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// int is a number as an int64; ok is false where it is none.
func (t token) int() (n int64, ok bool) {
	switch t.kind {
	case isInt:
		return int64(t.n), true
	case isUint:
		return int64(t.n), t.n <= math.MaxInt64
	}
	f := math.Float64frombits(t.n)
	if f < -1<<63 || f >= 1<<63 || f != math.Trunc(f) { // NaN is not itself
		return 0, false
	}
	return int64(f), true
}

// uint is a number as a uint64; ok is false where it is none.
func (t token) uint() (n uint64, ok bool) {
	switch t.kind {
	case isInt:
		return 0, false
	case isUint:
		return t.n, true
	}
	f := math.Float64frombits(t.n)
	if f < 0 || f >= 1<<64 || f != math.Trunc(f) {
		return 0, false
	}
	return uint64(f), true
}

func (t token) float() float64 {
	switch t.kind {
	case isInt:
		return float64(int64(t.n))
	case isUint:
		return float64(t.n)
	}
	return math.Float64frombits(t.n)
}

// number is a number as a text.
func (t token) number() string {
	switch t.kind {
	case isInt:
		return fmt.Sprint(int64(t.n))
	case isUint:
		return fmt.Sprint(t.n)
	}
	return fmt.Sprint(math.Float64frombits(t.n))
}

package msgpack

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/gostream/gostream/codec/internal/limits"
)

// scanner walks a payload without decoding it. The library trusts the lengths that a
// payload announces and reserves memory for them, at each level anew, and it calls
// itself for each level. After a scan without an error every announced element is
// there, and the depth is within the limit. It allocates nothing but its errors.
type scanner struct {
	data   []byte
	off    int
	limits *limits.Limits

	bin bool // there is a bin
	ext bool // there is an extension type
}

var errNothing = errors.New("msgpack: the payload is empty")

// scan checks that the payload is one value and no more.
func (s *scanner) scan() error {
	if len(s.data) == 0 {
		return errNothing
	}
	if err := s.value(0); err != nil {
		return err
	}
	if n := len(s.data) - s.off; n > 0 {
		return fmt.Errorf("msgpack: %d bytes follow the value", n)
	}
	return nil
}

// value walks over one value that is inside of depth maps and arrays.
func (s *scanner) value(depth int) error {
	head := s.off
	if head >= len(s.data) {
		return s.cut(head)
	}
	code := s.data[head]
	s.off++
	switch {
	case code <= 0x7f, code >= 0xe0: // a small number
		return nil
	case code <= 0x8f:
		return s.elements(head, uint64(code&0x0f), 2, depth)
	case code <= 0x9f:
		return s.elements(head, uint64(code&0x0f), 1, depth)
	case code <= 0xbf:
		return s.skip(head, uint64(code&0x1f))
	}
	switch code {
	case 0xc0, 0xc2, 0xc3: // nil, false, true
		return nil
	case 0xc4, 0xc5, 0xc6: // bin 8, 16, 32
		s.bin = true
		return s.sized(head, 1<<(code-0xc4), 0)
	case 0xc7, 0xc8, 0xc9: // ext 8, 16, 32: the length does not count the type
		s.ext = true
		return s.sized(head, 1<<(code-0xc7), 1)
	case 0xca: // float 32
		return s.skip(head, 4)
	case 0xcb: // float 64
		return s.skip(head, 8)
	case 0xcc, 0xcd, 0xce, 0xcf: // uint 8 to 64
		return s.skip(head, 1<<(code-0xcc))
	case 0xd0, 0xd1, 0xd2, 0xd3: // int 8 to 64
		return s.skip(head, 1<<(code-0xd0))
	case 0xd4, 0xd5, 0xd6, 0xd7, 0xd8: // fixext 1 to 16
		s.ext = true
		return s.skip(head, 1+1<<(code-0xd4))
	case 0xd9, 0xda, 0xdb: // str 8, 16, 32
		return s.sized(head, 1<<(code-0xd9), 0)
	case 0xdc, 0xdd: // array 16, 32
		n, err := s.length(head, 2<<(code-0xdc))
		if err != nil {
			return err
		}
		return s.elements(head, n, 1, depth)
	case 0xde, 0xdf: // map 16, 32
		n, err := s.length(head, 2<<(code-0xde))
		if err != nil {
			return err
		}
		return s.elements(head, n, 2, depth)
	}
	return fmt.Errorf("msgpack: byte %d is %#x, which is not MessagePack", head, code)
}

// elements walks over n elements of values each.
func (s *scanner) elements(head int, n, values uint64, depth int) error {
	if depth >= s.limits.MaxDepth {
		return s.limits.TooDeep()
	}
	if left := uint64(len(s.data) - s.off); n*values > left { // a value is a byte at least
		return fmt.Errorf("msgpack: byte %d announces %d elements, and %d bytes are left", head, n, left)
	}
	for range n * values {
		if err := s.value(depth + 1); err != nil {
			return err
		}
	}
	return nil
}

// sized walks over a length of width bytes and what it announces, and extra bytes.
func (s *scanner) sized(head, width int, extra uint64) error {
	n, err := s.length(head, width)
	if err != nil {
		return err
	}
	return s.skip(head, n+extra)
}

// length reads a length of width bytes.
func (s *scanner) length(head, width int) (uint64, error) {
	at := s.off
	if len(s.data)-at < width {
		return 0, s.cut(head)
	}
	s.off += width
	switch width {
	case 1:
		return uint64(s.data[at]), nil
	case 2:
		return uint64(binary.BigEndian.Uint16(s.data[at:])), nil
	default:
		return uint64(binary.BigEndian.Uint32(s.data[at:])), nil
	}
}

func (s *scanner) skip(head int, n uint64) error {
	if left := uint64(len(s.data) - s.off); n > left {
		return fmt.Errorf("msgpack: byte %d announces %d bytes, and %d are left", head, n, left)
	}
	s.off += int(n)
	return nil
}

func (s *scanner) cut(head int) error {
	return fmt.Errorf("msgpack: the payload ends inside the value that begins at byte %d", head)
}

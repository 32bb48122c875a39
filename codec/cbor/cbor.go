package cbor

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/fxamacker/cbor/v2"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/codec/internal/limits"
)

var (
	_ gostream.Codec        = Codec{}
	_ gostream.CodecChecker = Codec{}
	_ gostream.TypeChecker  = Codec{}
)

// Codec is a [gostream.Codec] for CBOR. Make it with [New]; the zero value has the
// defaults. It is safe for concurrent use.
type Codec struct{ c *config }

// config is what the options say. It does not change once the codec is made.
type config struct {
	limits.Limits
	strict bool
	enc    cbor.EncMode
	dec    cbor.DecMode
}

var defaults = newConfig(nil)

// New returns a codec. An app that is given one with a mistake in an option does not
// start: it has no content type, and Check says what the mistake is.
func New(opts ...Option) Codec {
	if len(opts) == 0 {
		return Codec{defaults}
	}
	return Codec{newConfig(opts)}
}

func newConfig(opts []Option) *config {
	c := &config{Limits: limits.New("cbor", "application/cbor")}
	for _, o := range opts {
		if o == nil {
			c.Bad(errors.New("an option is nil"))
			continue
		}
		o.apply(c)
	}
	write := cbor.CoreDetEncOptions()
	write.Time = cbor.TimeRFC3339NanoUTC
	write.TimeTag = cbor.EncTagRequired
	write.TextMarshaler = cbor.TextMarshalerTextString
	var err error
	if c.enc, err = write.EncMode(); err != nil {
		c.Bad(err)
	}
	// The structure is checked before memory is reserved, and an element is a byte at
	// least, so that the size is the limit on elements too.
	elements := max(c.MaxSize, leastElements)
	read := cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:  c.MaxDepth,
		MaxArrayElements: elements,
		MaxMapPairs:      elements,
		TextUnmarshaler:  cbor.TextUnmarshalerTextString,
	}
	if c.dec, err = read.DecMode(); err != nil {
		c.Bad(err)
	}
	return c
}

// leastElements is the least that the library takes as a limit on elements.
const leastElements = 16

func (c Codec) config() *config {
	if c.c == nil {
		return defaults
	}
	return c.c
}

// Check reports all mistakes in the options, joined.
func (c Codec) Check() error { return c.config().Err() }

// ContentType is "application/cbor", or what the option [ContentType] says. It is
// empty where Check reports a mistake.
func (c Codec) ContentType() string { return c.config().Declared() }

// CheckType reports what in t has no form in CBOR, with what to change. Append and
// Unmarshal refuse most of it too, where they come to it. What an interface will hold is
// not known here.
func (c Codec) CheckType(t reflect.Type) error {
	if t == nil {
		return nil
	}
	if why := unfit(t, make(map[reflect.Type]bool)); why != "" {
		return fmt.Errorf("cbor: %s", why)
	}
	return nil
}

// Append implements [gostream.Codec]. A value over a limit is an error that unwraps to
// [ErrLimit]; so is one that holds itself.
func (c Codec) Append(dst []byte, v any) ([]byte, error) {
	cfg := c.config()
	if err := cfg.Err(); err != nil {
		return nil, err
	}
	if err := cfg.bounded(v); err != nil {
		return nil, err
	}
	b, err := cfg.enc.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("cbor: encode %T: %w", v, err)
	}
	if err := cfg.CheckSize(len(b)); err != nil {
		return nil, err
	}
	if len(dst) == 0 {
		return b, nil
	}
	return append(dst, b...), nil
}

var errNothing = errors.New("cbor: the payload is empty")

// Unmarshal implements [gostream.Codec]. What is not well-formed, what follows the
// value, and what does not fit v is an error; what is over a limit is one that unwraps
// to [ErrLimit].
func (c Codec) Unmarshal(data []byte, v any) error {
	cfg := c.config()
	if err := cfg.Err(); err != nil {
		return err
	}
	if len(data) == 0 {
		return errNothing
	}
	if err := cfg.CheckSize(len(data)); err != nil {
		return err
	}
	if cfg.strict {
		if err := cfg.dec.Wellformed(data); err != nil {
			return cfg.refused(v, err)
		}
		if _, err := strictly(data, 0); err != nil {
			return err
		}
	}
	if err := cfg.dec.Unmarshal(data, v); err != nil {
		return cfg.refused(v, err)
	}
	return nil
}

// refused is the error of a payload that the library does not take.
func (cfg *config) refused(v any, err error) error {
	var deep *cbor.MaxNestedLevelError
	if errors.As(err, &deep) {
		return cfg.TooDeep()
	}
	return fmt.Errorf("cbor: decode to %T: %w", v, err)
}

// strictly walks over the value that begins at byte at, and refuses what Strict does.
// data is well-formed, and within the depth. It returns where the value ends.
func strictly(data []byte, at int) (end int, err error) {
	major, info := data[at]>>5, data[at]&0x1f
	end = at + 1
	n := uint64(info)
	switch {
	case info == 31:
		return 0, fmt.Errorf("cbor: byte %d begins something of indefinite length, which Strict does not take", at)
	case info >= 24: // 1, 2, 4 or 8 bytes
		n = 0
		for range 1 << (info - 24) {
			n = n<<8 | uint64(data[end])
			end++
		}
	}
	inside := n
	switch major {
	case 2, 3:
		return end + int(n), nil
	case 4:
	case 5:
		inside = 2 * n
	case 6:
		if n > 3 && n != 55799 {
			return 0, fmt.Errorf("cbor: byte %d begins the tag %d, which Strict does not take", at, n)
		}
		inside = 1
	default:
		return end, nil
	}
	for range inside {
		if end, err = strictly(data, end); err != nil {
			return 0, err
		}
	}
	return end, nil
}

package cbor

import (
	"encoding"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/codec/internal/limits"
	"github.com/gostream/gostream/codec/internal/shape"
)

var _ gostream.Codec = Codec{}

// Codec is a [gostream.Codec] for CBOR. Make it with [New]; the zero value has the
// defaults. It is safe for concurrent use.
type Codec struct{ c *config }

// config is what the options say. It does not change once the codec is made.
type config struct {
	limits.Limits
	enc cbor.EncMode
	dec cbor.DecMode
}

var defaults = newConfig(nil)

// New returns a codec. A codec with a mistake in an option has no content type, so
// that an app that is given it does not start; Check says what the mistake is.
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

// shapes knows the types that were seen. What encodes itself is looked at no further.
var shapes = shape.Shapes{Tags: []string{"cbor", "json"}, Leaf: encodesItself}

// selfEncoding keeps what encodesItself found: it is asked for each value in an
// interface.
var selfEncoding sync.Map // reflect.Type to bool

func encodesItself(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Array, reflect.Struct:
	default:
		return false
	}
	if known, ok := selfEncoding.Load(t); ok {
		return known.(bool)
	}
	p := reflect.PointerTo(t)
	does := t == reflect.TypeFor[time.Time]() || t == reflect.TypeFor[big.Int]() ||
		p.Implements(reflect.TypeFor[cbor.Marshaler]()) || p.Implements(reflect.TypeFor[encoding.BinaryMarshaler]())
	selfEncoding.Store(t, does)
	return does
}

// Append implements [gostream.Codec]. A value over a limit is an error that unwraps to
// [ErrLimit]; so is one that holds itself.
func (c Codec) Append(dst []byte, v any) ([]byte, error) {
	cfg := c.config()
	if err := cfg.Err(); err != nil {
		return nil, err
	}
	if !shapes.Within(v, cfg.MaxDepth) {
		return nil, cfg.TooDeep()
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
	err := cfg.dec.Unmarshal(data, v)
	if err == nil {
		return nil
	}
	var deep *cbor.MaxNestedLevelError
	if errors.As(err, &deep) {
		return cfg.TooDeep()
	}
	return fmt.Errorf("cbor: decode to %T: %w", v, err)
}

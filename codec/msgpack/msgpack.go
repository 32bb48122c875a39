package msgpack

import (
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/shamaton/msgpack/v3"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/codec/internal/limits"
	"github.com/gostream/gostream/codec/internal/shape"
)

var _ gostream.Codec = Codec{}

// Codec is a [gostream.Codec] for MessagePack. Make it with [New]; the zero value has
// the defaults. It is safe for concurrent use.
type Codec struct{ c *config }

// config is what the options say. It does not change once the codec is made.
type config struct {
	limits.Limits
	arrays bool
}

var defaults = &config{Limits: limits.New("msgpack", "application/msgpack")}

// New returns a codec. A codec with a mistake in an option has no content type, so
// that an app that is given it does not start; Check says what the mistake is.
func New(opts ...Option) Codec {
	c := *defaults
	for _, o := range opts {
		if o == nil {
			c.Bad(errors.New("an option is nil"))
			continue
		}
		o.apply(&c)
	}
	return Codec{&c}
}

func (c Codec) config() *config {
	if c.c == nil {
		return defaults
	}
	return c.c
}

// Check reports all mistakes in the options, joined.
func (c Codec) Check() error { return c.config().Err() }

// ContentType is "application/msgpack", or what the option [ContentType] says. It is
// empty where Check reports a mistake.
func (c Codec) ContentType() string { return c.config().Declared() }

// shapes knows the types that were seen.
var shapes = shape.Shapes{
	Tags: []string{"msgpack"},
	Leaf: func(t reflect.Type) bool { return t == reflect.TypeFor[time.Time]() },
}

// Append implements [gostream.Codec]. A value over a limit is an error that unwraps to
// [ErrLimit]; so is one that holds itself.
func (c Codec) Append(dst []byte, v any) (b []byte, err error) {
	cfg := c.config()
	if err := cfg.Err(); err != nil {
		return nil, err
	}
	if v != nil {
		if err := checkType(reflect.TypeOf(v)); err != nil {
			return nil, err
		}
	}
	if !shapes.Within(v, cfg.MaxDepth) {
		return nil, cfg.TooDeep()
	}
	defer func() {
		if r := recover(); r != nil {
			b, err = nil, fmt.Errorf("msgpack: %T cannot be encoded: %v", v, r)
		}
	}()
	if cfg.arrays {
		b, err = msgpack.MarshalAsArray(v)
	} else {
		b, err = msgpack.MarshalAsMap(v)
	}
	if err != nil {
		return nil, fmt.Errorf("msgpack: %w", err)
	}
	if err := cfg.CheckSize(len(b)); err != nil {
		return nil, err
	}
	if len(dst) == 0 {
		return b, nil
	}
	return append(dst, b...), nil
}

// Unmarshal implements [gostream.Codec]. What is announced but is not there, what
// follows the value, and what does not fit v is an error; what is over a limit is one
// that unwraps to [ErrLimit].
func (c Codec) Unmarshal(data []byte, v any) (err error) {
	cfg := c.config()
	if err := cfg.Err(); err != nil {
		return err
	}
	if err := cfg.CheckSize(len(data)); err != nil {
		return err
	}
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Pointer || rv.IsNil() {
		return fmt.Errorf("msgpack: decode to %T: a pointer that is not nil is needed", v)
	}
	t := rv.Type().Elem()
	if err := checkType(t); err != nil {
		return err
	}
	s := scanner{data: data, limits: &cfg.Limits}
	if err := s.scan(); err != nil {
		return err
	}
	// The library hands out parts of data, which is not ours to hand out: what was sent
	// as bin, to strings too, and text where the type has a byte slice. It copies text to
	// strings. An extension of the user's may do either.
	parts := s.bin || shapes.Of(t).Bytes
	if parts || s.ext {
		data = append(make([]byte, 0, len(data)), data...)
	}
	// It panics where bytes meet an array of numbers, or an interface with methods. To
	// a sender that must be undecodable, as any other value of another type is.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("msgpack: the payload does not fit %v: %v", t, r)
		}
	}()
	if cfg.arrays {
		err = msgpack.UnmarshalAsArray(data, v)
	} else {
		err = msgpack.UnmarshalAsMap(data, v)
	}
	if err != nil {
		return fmt.Errorf("msgpack: %w", err)
	}
	if parts {
		clip(rv.Elem())
	}
	return nil
}

// checkType reports a type that the library would not come to an end with.
func checkType(t reflect.Type) error {
	if shapes.Of(t).EmbedsItself {
		return fmt.Errorf("msgpack: %v embeds itself: give the embedded field a name", t)
	}
	return nil
}

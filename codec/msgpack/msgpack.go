package msgpack

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/codec/internal/limits"
)

var (
	_ gostream.Codec        = Codec{}
	_ gostream.CodecChecker = Codec{}
	_ gostream.TypeChecker  = Codec{}
)

// Codec is a [gostream.Codec] for MessagePack. Make it with [New]; the zero value has
// the defaults. It is safe for concurrent use.
type Codec struct{ c *config }

// config is what the options say. It does not change once the codec is made.
type config struct {
	limits.Limits
	arrays bool
}

var defaults = &config{Limits: limits.New("msgpack", "application/msgpack")}

// New returns a codec. An app that is given one with a mistake in an option does not
// start: it has no content type, and Check says what the mistake is.
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

// CheckType reports what in t has no form in MessagePack, with what to change. Append
// and Unmarshal report the same, where they come to it. What an interface will hold is
// not known here.
func (c Codec) CheckType(t reflect.Type) error {
	if t == nil {
		return nil
	}
	if why := layoutOf(t).check(make(map[*layout]bool)); why != "" {
		return fmt.Errorf("msgpack: %s", why)
	}
	return nil
}

// Append implements [gostream.Codec]. The same value has the same bytes. A value over a
// limit is an error that unwraps to [ErrLimit]; so is one that holds itself.
func (c Codec) Append(dst []byte, v any) ([]byte, error) {
	cfg := c.config()
	if err := cfg.Err(); err != nil {
		return nil, err
	}
	if v == nil {
		return append(dst, 0xc0), nil
	}
	e := encoders.Get().(*encoder)
	defer e.free()
	e.cfg = cfg
	rv := reflect.ValueOf(v)
	err := e.value(layoutOf(rv.Type()), rv, 0)
	if err == nil {
		err = cfg.CheckSize(len(e.b))
	}
	if err != nil {
		return nil, named(err)
	}
	return append(dst, e.b...), nil
}

// Unmarshal implements [gostream.Codec]. What is announced but is not there, what
// follows the value, and what does not fit v is an error; what is over a limit is one
// that unwraps to [ErrLimit]. After an error v may have been set in part.
func (c Codec) Unmarshal(data []byte, v any) error {
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
	if len(data) == 0 {
		return named(errNothing)
	}
	d := decoder{cfg: cfg, data: data, owed: 1}
	if err := d.value(layoutOf(rv.Type().Elem()), rv.Elem(), 0); err != nil {
		return named(err)
	}
	if n := len(data) - d.off; n > 0 {
		return fmt.Errorf("msgpack: %d bytes follow the value", n)
	}
	return nil
}

// named puts the package's name before an error that has not got it.
func named(err error) error {
	if errors.Is(err, ErrLimit) {
		return err
	}
	return fmt.Errorf("msgpack: %w", err)
}

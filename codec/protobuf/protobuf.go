package protobuf

import (
	"errors"
	"fmt"
	"reflect"

	"google.golang.org/protobuf/proto"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/codec/internal/limits"
)

var (
	_ gostream.Codec        = Codec{}
	_ gostream.CodecChecker = Codec{}
	_ gostream.TypeChecker  = Codec{}
)

// Codec is a [gostream.Codec] for Protocol Buffers. Make it with [New]; the zero value
// has the defaults. It is safe for concurrent use.
type Codec struct{ c *config }

// config is what the options say. It does not change once the codec is made.
type config struct{ limits.Limits }

var defaults = &config{limits.New("protobuf", "application/protobuf")}

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

// ContentType is "application/protobuf", or what the option [ContentType] says. It is
// empty where Check reports a mistake.
func (c Codec) ContentType() string { return c.config().Declared() }

// CheckType reports that t is no message nor a pointer to one, with what to change. An
// interface may hold a message, which a publisher can encode, so that it passes, as long
// as a message can be one; what a handler takes must say which message it is.
func (c Codec) CheckType(t reflect.Type) error {
	if t == nil {
		return nil
	}
	message, p := reflect.TypeFor[proto.Message](), t
	switch t.Kind() {
	case reflect.Interface:
		if t.Implements(message) || message.Implements(t) {
			return nil
		}
		return notMessage(t)
	case reflect.Pointer:
	default:
		p = reflect.PointerTo(t)
	}
	if !p.Implements(message) {
		return notMessage(t)
	}
	return nil
}

// Append implements [gostream.Codec]. A message over a limit is an error that unwraps
// to [ErrLimit]; so is one that holds itself.
func (c Codec) Append(dst []byte, v any) ([]byte, error) {
	cfg := c.config()
	if err := cfg.Err(); err != nil {
		return nil, err
	}
	m, err := messageOf(v)
	if err != nil {
		return nil, err
	}
	if err := cfg.bounded(m.ProtoReflect()); err != nil {
		return nil, err
	}
	if err := cfg.CheckSize(proto.Size(m)); err != nil {
		return nil, err
	}
	b, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(dst, m)
	if err != nil {
		return nil, fmt.Errorf("protobuf: encode %T: %w", m, err)
	}
	return b, nil
}

// Unmarshal implements [gostream.Codec]. What is over a limit is an error that unwraps
// to [ErrLimit].
func (c Codec) Unmarshal(data []byte, v any) error {
	cfg := c.config()
	if err := cfg.Err(); err != nil {
		return err
	}
	if err := cfg.CheckSize(len(data)); err != nil {
		return err
	}
	t, err := targetOf(v)
	if err != nil {
		return err
	}
	// A lazy field would be checked when the handler reads it, which cannot fail.
	read := proto.UnmarshalOptions{RecursionLimit: cfg.MaxDepth, NoLazyDecoding: true}
	if err := read.Unmarshal(data, t.Message); err != nil {
		if !payloadWithin(data, t.ProtoReflect().Descriptor(), cfg.MaxDepth) {
			return cfg.TooDeep()
		}
		return fmt.Errorf("protobuf: decode to %T: %w", t.Message, err)
	}
	t.keep()
	return nil
}

// messageOf returns the message that v is, or points to.
func messageOf(v any) (proto.Message, error) {
	m, ok := v.(proto.Message)
	if !ok {
		rv := reflect.ValueOf(v)
		switch {
		case !rv.IsValid():
			return nil, errors.New("protobuf: nil is no message")
		case rv.Kind() == reflect.Pointer && rv.IsNil():
			return nil, notMessage(rv.Type().Elem())
		case rv.Kind() == reflect.Pointer: // of a reply, to the R of the handler
			elem := rv.Elem()
			if elem.Kind() == reflect.Interface && elem.IsNil() {
				return nil, fmt.Errorf("protobuf: a nil %v is no message: there would be nothing to encode", elem.Type())
			}
			if m, ok = elem.Interface().(proto.Message); !ok {
				return nil, notMessage(elem.Type())
			}
		default: // a message by value: its methods are those of a pointer
			p := reflect.New(rv.Type())
			if m, ok = p.Interface().(proto.Message); !ok {
				return nil, notMessage(rv.Type())
			}
			p.Elem().Set(rv)
		}
	}
	if rv := reflect.ValueOf(m); rv.Kind() == reflect.Pointer && rv.IsNil() {
		return nil, fmt.Errorf("protobuf: a nil %T is no message: there would be nothing to encode", m)
	}
	if m.ProtoReflect().Descriptor() == nil {
		return nil, noDescriptor(m)
	}
	return m, nil
}

// target is where a payload is decoded to.
type target struct {
	proto.Message
	fresh, place reflect.Value // a message made here, and the pointer that it is for
}

// keep puts a message that was made here where it belongs, once it is decoded.
func (t *target) keep() {
	if t.place.IsValid() {
		t.place.Set(t.fresh)
	}
}

// targetOf finds the message that v is or points to, or makes it where v points to a
// nil pointer.
func targetOf(v any) (t target, err error) {
	m, ok := v.(proto.Message)
	if !ok {
		rv := reflect.ValueOf(v)
		if rv.Kind() != reflect.Pointer || rv.IsNil() {
			return t, fmt.Errorf("protobuf: decode to %T: a pointer that is not nil is needed", v)
		}
		elem := rv.Elem()
		switch {
		case elem.Kind() == reflect.Pointer && elem.IsNil():
			t.fresh, t.place = reflect.New(elem.Type().Elem()), elem
			m, ok = t.fresh.Interface().(proto.Message)
		case elem.Kind() == reflect.Pointer, elem.Kind() == reflect.Interface && !elem.IsNil():
			m, ok = elem.Interface().(proto.Message)
		}
		if !ok {
			return t, notMessage(elem.Type())
		}
	}
	if rv := reflect.ValueOf(m); rv.Kind() == reflect.Pointer && rv.IsNil() {
		return t, fmt.Errorf("protobuf: decode to a nil %T: a pointer that is not nil is needed", m)
	}
	if m.ProtoReflect().Descriptor() == nil {
		return t, noDescriptor(m)
	}
	t.Message = m
	return t, nil
}

func notMessage(t reflect.Type) error {
	if t.Kind() == reflect.Interface {
		return fmt.Errorf("protobuf: %v is an interface, which does not say which message it is: take a pointer to a generated message, such as *pb.Order", t)
	}
	return fmt.Errorf("protobuf: %v is no protobuf message: take a pointer to a generated message, such as *pb.Order", t)
}

func noDescriptor(m proto.Message) error {
	return fmt.Errorf("protobuf: %T has no descriptor, so that its fields are not known: take a pointer to a generated message, such as *pb.Order", m)
}

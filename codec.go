package gostream

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Codec turns values into payloads and back. It is safe for concurrent use.
type Codec interface {
	// ContentType is the media type that the codec writes and reads:
	// "application/json". It is the same at every call.
	ContentType() string
	// Append encodes v, which is the handler's value or a pointer to it, appends
	// the bytes to dst and returns the extended slice. It keeps neither.
	Append(dst []byte, v any) ([]byte, error)
	// Unmarshal decodes data into v, a pointer to the handler's type. It must not
	// keep or change data.
	Unmarshal(data []byte, v any) error
}

// CodecChecker is a [Codec] that knows its own mistakes, those of its options for one.
// [App.Check] asks it of each codec that it is given.
type CodecChecker interface {
	// Check reports all mistakes, joined; nil where there is none. It does no I/O.
	Check() error
}

// TypeChecker is a [Codec] that knows which types it cannot encode or decode.
// [App.Check] asks the main codec of each handler and publisher, and those of [Codecs]
// that stand at the subscription itself: one of a router or an app is there for some of
// its subscriptions, and need not fit them all.
type TypeChecker interface {
	// CheckType reports why no value of type t, a handler's T or R, can be encoded or
	// decoded. It does no I/O.
	CheckType(t reflect.Type) error
}

// JSON is the default codec: encoding/json, "application/json".
var JSON Codec = jsonCodec{}

type jsonCodec struct{}

func (jsonCodec) ContentType() string { return "application/json" }

func (jsonCodec) Append(dst []byte, v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil || len(dst) == 0 {
		return b, err
	}
	return append(dst, b...), nil
}

func (jsonCodec) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// codecTable is a subscription's codecs, fixed at start.
type codecTable struct {
	main        Codec
	contentType string // of main
	others      map[string]Codec
}

// newCodecTable makes the table; others come first to last, the first of one
// content type wins.
func newCodecTable(main Codec, others []Codec) codecTable {
	t := codecTable{main: main, contentType: main.ContentType()}
	for _, c := range others {
		key := mediaType(c.ContentType())
		if key == mediaType(t.contentType) {
			continue
		}
		if _, ok := t.others[key]; ok {
			continue
		}
		if t.others == nil {
			t.others = make(map[string]Codec)
		}
		t.others[key] = c
	}
	return t
}

// checkCodec reports what is wrong with a codec that an option was given, as
// "WithCodec(*T): what to change".
func checkCodec(option string, c Codec) []error {
	if isNil(c) {
		return []error{fmt.Errorf("%s(nil): a codec is needed", option)}
	}
	if k, ok := c.(CodecChecker); ok {
		if err := k.Check(); err != nil {
			parts, ok := joined(err)
			if !ok {
				parts = []error{err}
			}
			var errs []error
			for _, err := range parts {
				errs = append(errs, fmt.Errorf("%s(%T): %w", option, c, err))
			}
			return errs
		}
	}
	if c.ContentType() == "" {
		return []error{fmt.Errorf("%s(%T): the codec has no content type", option, c)}
	}
	return nil
}

// checkTypes reports the types that the codecs of a subscription cannot encode or
// decode: the main one, and those that stand at the subscription itself.
func (s *subscriptionPlan) checkTypes(own []Codec, bad func(error)) {
	bad(s.handler.in.checkType(s.codecs.main))
	if s.handler.out.typ != s.handler.in.typ {
		bad(s.handler.out.checkType(s.codecs.main))
	}
	for _, c := range own {
		if mediaType(c.ContentType()) != mediaType(s.codecs.contentType) {
			bad(s.handler.in.checkType(c))
		}
	}
}

// checkType reports that c cannot encode or decode b's type.
func (b body) checkType(c Codec) error {
	if k, ok := c.(TypeChecker); ok && b.mode == bodyCodec && b.typ != nil {
		if err := k.CheckType(b.typ); err != nil {
			return fmt.Errorf("codec %T: %w", c, err)
		}
	}
	return nil
}

// forContentType returns the codec for a message that declares contentType; the
// main one where it declares nothing.
func (t *codecTable) forContentType(contentType string) (Codec, error) {
	if contentType == "" || contentType == t.contentType {
		return t.main, nil
	}
	key := mediaType(contentType)
	if key == mediaType(t.contentType) {
		return t.main, nil
	}
	if c, ok := t.others[key]; ok {
		return c, nil
	}
	return nil, errUnknownContentType
}

var errUnknownContentType = errors.New("no codec for this content type: add one with Codecs")

// mediaType is the content type in lower case without its parameters.
func mediaType(contentType string) string {
	if i := strings.IndexByte(contentType, ';'); i >= 0 {
		contentType = contentType[:i]
	}
	return strings.ToLower(strings.TrimSpace(contentType))
}

// encode is Append with a panic of the codec turned into an error.
func encode(c Codec, v any) (b []byte, err error) {
	returned := false
	defer catchPanic(&returned, &err)
	b, err = c.Append(nil, v)
	returned = true
	if err != nil {
		return nil, fmt.Errorf("encode as %s: %w", c.ContentType(), err)
	}
	return b, nil
}

// contentTypes are all that the table can decode, the main one first, the others
// sorted.
func (t *codecTable) contentTypes() []string {
	return append([]string{t.contentType}, slices.Sorted(maps.Keys(t.others))...)
}

package asyncapi

import (
	"fmt"
	"reflect"
	"strings"
)

// A message is a payload in one encoding. The same one in several places is one.
type message struct {
	typ         reflect.Type // nil for raw bytes
	contentType string       // "" for a raw payload
}

var textType = reflect.TypeFor[string]()

// raw reports a payload that no codec decodes. One message stands for all of a kind.
func (m message) raw() bool { return m.contentType == "" }

// newMessage is the message of a payload type; of a pointer that of what it points to.
func newMessage(t reflect.Type, contentType string) message {
	if contentType == "" && t != textType {
		return message{}
	}
	if t != nil {
		t = indirect(t)
	}
	return message{t, contentType}
}

// media is a content type in lower case without its parameters.
func media(contentType string) string {
	contentType, _, _ = strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(contentType))
}

// isJSON reports a content type whose payloads are JSON.
func isJSON(contentType string) bool {
	m := media(contentType)
	return m == "application/json" || m == "text/json" || strings.HasSuffix(m, "+json")
}

// hasSchema reports whether the schema of the type as JSON describes the payload.
func (m message) hasSchema() bool {
	if m.raw() || protobufName(m.typ) != "" {
		return false
	}
	switch c := media(m.contentType); {
	case isJSON(c):
		return true
	case strings.HasSuffix(c, "cbor"): // application/cbor, application/x-cbor, …+cbor
		return sameShape(m.typ, true, "cbor", "json")
	case strings.HasSuffix(c, "msgpack"):
		return sameShape(m.typ, false, "msgpack")
	default:
		return false
	}
}

// protobufName is the full name of a protobuf message, "" for another type. Nothing of
// protobuf is imported: that is the codec's.
func protobufName(t reflect.Type) (name string) {
	if t == nil {
		return ""
	}
	pointer := reflect.PointerTo(indirect(t))
	if _, ok := pointer.MethodByName("ProtoReflect"); !ok {
		return ""
	}
	name = indirect(t).String()
	defer func() { _ = recover() }() // another method of that name: the Go name does
	step := reflect.New(indirect(t))
	for _, method := range [...]string{"ProtoReflect", "Descriptor", "FullName"} {
		out := step.MethodByName(method).Call(nil)
		if step = out[0]; step.Kind() == reflect.Interface {
			step = step.Elem()
		}
	}
	if full := step.String(); step.Kind() == reflect.String && full != "" {
		name = full
	}
	return name
}

// identity is what tells messages apart, the same in every run.
func (m message) identity() string {
	if m.typ == nil {
		return m.contentType
	}
	return m.typ.PkgPath() + "." + m.typ.String() + " " + m.contentType
}

// base is what the message is called, before keys are told apart; typeKey is that of a
// named type.
func (m message) base(typeKey string) string {
	if m.raw() {
		if m.typ == textType {
			return "text"
		}
		return "bytes"
	}
	name := typeKey
	if name == "" {
		name = plainName(m.typ)
	}
	if media(m.contentType) != "application/json" {
		_, sub, _ := strings.Cut(media(m.contentType), "/")
		name += "." + sub
	}
	k, _ := key(name)
	return k
}

// plainName is a name for a type that has none: "Order_list".
func plainName(t reflect.Type) string {
	switch {
	case t.Name() != "":
		return typeName(t.Name())
	case t.Kind() == reflect.Slice, t.Kind() == reflect.Array:
		return plainName(indirect(t.Elem())) + "_list"
	case t.Kind() == reflect.Map:
		return plainName(indirect(t.Elem())) + "_map"
	case t.Kind() == reflect.Interface:
		return "any"
	default:
		return t.Kind().String()
	}
}

// object is the message as it stands in the document.
func (m message) object(k string, s *schemas) (*object, []error) {
	if m.raw() {
		if m.typ == textType {
			return obj("name", k, "title", "a text", "contentType", "text/plain", "payload", obj("type", "string")), nil
		}
		return obj("name", k, "title", "any bytes", "summary", "The payload is handled as it is, of any content type."), nil
	}
	title, err := ownName(m.typ)
	text, err2 := ownDescription(m.typ)
	var errs []error
	for _, err := range []error{err, err2} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	if title == "" {
		title = plainName(m.typ)
	}
	out := obj("name", k, "title", title)
	proto := protobufName(m.typ)
	switch {
	case proto != "":
		out.add("summary", "The protobuf message "+proto+".")
	case !m.hasSchema():
		out.add("summary", fmt.Sprintf("The type %v as %s; its schema as JSON would not be that of the payload.", m.typ, media(m.contentType)))
	}
	out.add("description", text)
	out.add("contentType", m.contentType)
	if m.hasSchema() {
		schema, failed := s.of(m.typ)
		errs = append(errs, failed...)
		if len(failed) == 0 && len(s.keys) > 0 {
			schema = s.final(schema)
		}
		if schema != nil {
			out.set("payload", schema)
		}
	}
	out.add("x-gostream-protobuf", proto)
	return out, errs
}

package protobuf

import (
	"sync"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/runtime/protoimpl"
)

// unbounded is the depth of a message that may be of any depth.
const unbounded = -1

// depths is how deep messages can be by their schema: *protoimpl.MessageInfo to int.
// There is one of these for each generated message.
var depths sync.Map

// depthOf returns how deep a message of this kind can be, or unbounded.
func depthOf(m protoreflect.Message) int {
	info, generated := m.Type().(*protoimpl.MessageInfo)
	if !generated {
		return unbounded // not worth keeping: such a type may be made anew each time
	}
	if d, ok := depths.Load(info); ok {
		return d.(int)
	}
	d := schemaDepth(m.Descriptor(), make(map[protoreflect.FullName]int))
	depths.Store(info, d)
	return d
}

// schemaDepth walks through the messages that a message refers to, each once. known
// has unbounded for those that the walk is inside of.
func schemaDepth(md protoreflect.MessageDescriptor, known map[protoreflect.FullName]int) int {
	if d, ok := known[md.FullName()]; ok {
		return d
	}
	if md.ExtensionRanges().Len() > 0 {
		return unbounded // an extension may be any message
	}
	known[md.FullName()] = unbounded
	deepest := 0
	for i := range md.Fields().Len() {
		// The entry of a map is a message.
		if inner := md.Fields().Get(i).Message(); inner != nil {
			d := schemaDepth(inner, known)
			if d == unbounded {
				return unbounded
			}
			deepest = max(deepest, d)
		}
	}
	known[md.FullName()] = deepest + 1
	return deepest + 1
}

// bounded returns an error where m is nested too deeply, as the library counts when it
// decodes, or has more messages in it than the size allows. A message that holds itself
// is too deep; encoding it would overflow the stack, which ends the process.
func (c *config) bounded(m protoreflect.Message) error {
	if d := depthOf(m); d != unbounded && d <= c.MaxDepth {
		return nil
	}
	// A message inside of another is a byte at least. One that holds another many times
	// over would be walked over without end.
	b := bounds{messages: c.MaxSize, cfg: c}
	b.walk(m, c.MaxDepth)
	return b.err
}

// bounds are what is left of the limits in a walk over a message.
type bounds struct {
	messages int
	cfg      *config
	err      error
}

// walk walks over m, which may be of left levels; false where there is an error.
func (b *bounds) walk(m protoreflect.Message, left int) bool {
	if left--; left < 0 {
		b.err = b.cfg.TooDeep()
		return false
	}
	if b.messages--; b.messages < 0 {
		b.err = b.cfg.TooLarge()
		return false
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			if left < 1 { // for the entry
				b.err = b.cfg.TooDeep()
				return false
			}
			if fd.MapValue().Message() == nil {
				return true
			}
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				return b.walk(v.Message(), left-1)
			})
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				if !b.walk(v.List().Get(i).Message(), left) {
					break
				}
			}
		default:
			b.walk(v.Message(), left)
		}
		return b.err == nil
	})
	return b.err == nil
}

// payloadWithin reports whether a payload is nested at most left levels deep. It is asked about one that was refused,
// because the library's error does not say why. Extensions are not looked into.
func payloadWithin(b []byte, md protoreflect.MessageDescriptor, left int) bool {
	if left--; left < 0 {
		return false
	}
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return true // broken, which is another error
		}
		b = b[n:]
		var inner []byte
		fd := md.Fields().ByNumber(number)
		isMessage := fd != nil && fd.Message() != nil
		switch {
		case isMessage && kind == protowire.BytesType:
			inner, n = protowire.ConsumeBytes(b)
		case isMessage && kind == protowire.StartGroupType:
			inner, n = protowire.ConsumeGroup(number, b)
		default:
			n = protowire.ConsumeFieldValue(number, kind, b)
			isMessage = false
		}
		if isMessage && n >= 0 && !payloadWithin(inner, fd.Message(), left) {
			return false
		}
		if n < 0 {
			return true
		}
		b = b[n:]
	}
	return true
}

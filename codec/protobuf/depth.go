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

// within reports whether m is nested at most most levels deep, as the library counts
// them when it decodes. A message that holds itself is not; encoding it would overflow
// the stack, which ends the process.
func within(m protoreflect.Message, most int) bool {
	if d := depthOf(m); d != unbounded && d <= most {
		return true
	}
	return valueWithin(m, most)
}

func valueWithin(m protoreflect.Message, left int) bool {
	if left--; left < 0 {
		return false
	}
	ok := true
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			if left < 1 { // for the entry
				ok = false
				return false
			}
			if fd.MapValue().Message() == nil {
				return true
			}
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				ok = valueWithin(v.Message(), left-1)
				return ok
			})
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				if ok = valueWithin(v.List().Get(i).Message(), left); !ok {
					break
				}
			}
		default:
			ok = valueWithin(v.Message(), left)
		}
		return ok
	})
	return ok
}

// payloadWithin is within for a payload. It is asked about one that was refused,
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

package protobuf_test

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/gostream/gostream"
)

// ProtoJSON is a codec of our own: messages of type M as the JSON that protobuf has
// for them.
type ProtoJSON[M proto.Message] struct{}

var _ gostream.Codec = ProtoJSON[proto.Message]{}

func (ProtoJSON[M]) ContentType() string { return "application/json" }

func (ProtoJSON[M]) Append(dst []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case M: // from a publisher
		return protojson.MarshalOptions{}.MarshalAppend(dst, v)
	case *M: // the reply of a handler
		return protojson.MarshalOptions{}.MarshalAppend(dst, *v)
	}
	return nil, fmt.Errorf("protojson: %T is not for this codec", v)
}

func (ProtoJSON[M]) Unmarshal(data []byte, v any) error {
	p, ok := v.(*M)
	if !ok {
		return fmt.Errorf("protojson: %T is not for this codec", v)
	}
	m := (*p).ProtoReflect().New().Interface() // *p is a nil pointer, which knows its type
	if err := protojson.Unmarshal(data, m); err != nil {
		return err
	}
	*p = m.(M)
	return nil
}

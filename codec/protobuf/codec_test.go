package protobuf_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/gostream/gostream/codec/protobuf"
	"github.com/gostream/gostream/codec/protobuf/internal/orderpb"
)

func fullOrder() *orderpb.Order {
	return &orderpb.Order{
		Id: "o-1 ✓", Cents: math.MinInt64, Big: math.MaxUint64,
		Lines:     []*orderpb.Line{{Sku: "a", Quantity: -1}, {}, {Sku: "b", Quantity: math.MaxInt32}},
		Labels:    map[string]string{"k": "v", "": "empty"},
		Placed:    timestamppb.New(time.Date(2024, 2, 29, 23, 59, 58, 123456789, time.UTC)),
		Signature: []byte{0, 255},
	}
}

// structOf is a value with all that a Struct can hold.
func structOf(t *testing.T) *structpb.Struct {
	t.Helper()
	s, err := structpb.NewStruct(map[string]any{"n": nil, "b": true, "f": 1.5, "s": "x", "l": []any{1, []any{}}, "m": map[string]any{"k": "v"}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	full := fullOrder()
	for name, codec := range map[string]protobuf.Codec{"made": protobuf.New(), "the zero value": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			roundTrip(t, codec, full)
			roundTrip(t, codec, &orderpb.Order{})
			roundTrip(t, codec, structOf(t))
			roundTrip(t, codec, wrapperspb.UInt64(math.MaxUint64))
			roundTrip(t, codec, wrapperspb.Bytes(nil))
			roundTrip(t, codec, &orderpb.Node{Named: map[string]*orderpb.Node{"a": {Children: []*orderpb.Node{{}, {Name: "x"}}}}})
			roundTrip(t, codec, &descriptorpb.FieldDescriptorProto{Name: proto.String("proto2")})
		})
	}
}

// roundTrip sends want in each of the ways in which gostream hands it over.
func roundTrip[T proto.Message](t *testing.T, codec protobuf.Codec, want T) {
	t.Helper()
	for _, v := range []any{want, &want} {
		b, err := codec.Append(nil, v)
		if err != nil {
			t.Errorf("%T: %v", v, err)
			continue
		}
		var got T // a nil pointer, as the argument of a handler is
		if err := codec.Unmarshal(b, &got); err != nil || !proto.Equal(got, want) {
			t.Errorf("%T: back came %v, %v, want %v", v, got, err, want)
		}
		into := want.ProtoReflect().New().Interface() // as the argument of a handler that takes it by value is
		if err := codec.Unmarshal(b, into); err != nil || !proto.Equal(into, want) {
			t.Errorf("%T: into a message came %v, %v, want %v", v, into, err, want)
		}
	}
}

// A handler may take a message by value, against the advice of go vet; then it is
// replied and published by value.
func TestByValue(t *testing.T) {
	t.Parallel()
	codec := protobuf.New()
	want := fullOrder()
	alone, err := proto.MarshalOptions{Deterministic: true}.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	b, err := codec.Append(nil, reflect.ValueOf(want).Elem().Interface())
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != len(alone) {
		t.Errorf("by value it has %d bytes, want %d", len(b), len(alone))
	}
	var got orderpb.Order
	if err := codec.Unmarshal(b, &got); err != nil || !proto.Equal(&got, want) {
		t.Errorf("back came %v, %v", &got, err)
	}
}

// A message decoded to before is emptied, as the library does.
func TestUnmarshalReplaces(t *testing.T) {
	t.Parallel()
	codec := protobuf.New()
	data, err := codec.Append(nil, &orderpb.Order{Id: "new"})
	if err != nil {
		t.Fatal(err)
	}
	old := &orderpb.Order{Cents: 7}
	target := proto.Message(old)
	for name, v := range map[string]any{"a message": old, "a pointer to one": &old, "an interface with one": &target} {
		proto.Reset(old)
		old.Cents = 7
		if err := codec.Unmarshal(data, v); err != nil || old.GetCents() != 0 || old.GetId() != "new" {
			t.Errorf("%s: %v, %v", name, old, err)
		}
	}
}

func TestUnknownFieldsAreKept(t *testing.T) {
	t.Parallel()
	codec := protobuf.New()
	data, err := codec.Append(nil, &orderpb.Order{Id: "o-1", Labels: map[string]string{"a": "b"}, Big: 7})
	if err != nil {
		t.Fatal(err)
	}
	var older *orderpb.Confirmation // which has the first field alone
	if err := codec.Unmarshal(data, &older); err != nil {
		t.Fatal(err)
	}
	data, err = codec.Append(nil, older)
	if err != nil {
		t.Fatal(err)
	}
	var got *orderpb.Order
	if err := codec.Unmarshal(data, &got); err != nil || got.GetBig() != 7 || got.GetLabels()["a"] != "b" {
		t.Errorf("what an older program passed on is %v, %v", got, err)
	}
}

func TestDynamicMessages(t *testing.T) {
	t.Parallel()
	codec := protobuf.New()
	want := fullOrder()
	data, err := codec.Append(nil, want)
	if err != nil {
		t.Fatal(err)
	}
	m := dynamicpb.NewMessage((*orderpb.Order)(nil).ProtoReflect().Descriptor())
	if err := codec.Unmarshal(data, m); err != nil {
		t.Fatal(err)
	}
	again, err := codec.Append(nil, m)
	if err != nil {
		t.Fatal(err)
	}
	var got *orderpb.Order
	if err := codec.Unmarshal(again, &got); err != nil || !proto.Equal(got, want) {
		t.Errorf("back came %v, %v", got, err)
	}
}

type plain struct{ ID string }

// Whatever is no message is refused with the name of its type, in both directions.
func TestOtherTypes(t *testing.T) {
	t.Parallel()
	codec := protobuf.New()
	var (
		none    *orderpb.Order
		message proto.Message
		dynamic *dynamicpb.Message
	)
	for _, tt := range []struct {
		v     any
		words string
	}{
		{plain{}, "protobuf_test.plain is no protobuf message: take a pointer to a generated message"},
		{&plain{}, "protobuf_test.plain is no protobuf message"},
		{7, "int is no protobuf message"},
		{"text", "string is no protobuf message"},
		{[]*orderpb.Order{{}}, "[]*orderpb.Order is no protobuf message"},
		{map[string]any{}, "map[string]interface {} is no protobuf message"},
		{nil, "nil is no message"},
		{none, "a nil *orderpb.Order is no message"},
		{&none, "a nil *orderpb.Order is no message"},
		{&message, "a nil protoreflect.ProtoMessage is no message"},
		{(*plain)(nil), "protobuf_test.plain is no protobuf message"},
		{&dynamicpb.Message{}, "*dynamicpb.Message has no descriptor"},
	} {
		if b, err := codec.Append(nil, tt.v); b != nil || err == nil || !strings.Contains(err.Error(), "protobuf: "+tt.words) {
			t.Errorf("Append(%T): %q, %v, want %q", tt.v, b, err, tt.words)
		}
	}
	text := new(plain)
	for _, tt := range []struct {
		v     any
		words string
	}{
		{&plain{}, "protobuf_test.plain is no protobuf message: take a pointer to a generated message"},
		{&text, "*protobuf_test.plain is no protobuf message"},
		{new(*plain), "*protobuf_test.plain is no protobuf message"},
		{new(int), "int is no protobuf message"},
		{new(any), "interface {} is an interface, which does not say which message it is"},
		{&message, "protoreflect.ProtoMessage is an interface"},
		{new(**orderpb.Order), "**orderpb.Order is no protobuf message"},
		{&dynamic, "*dynamicpb.Message has no descriptor"},
		{none, "decode to a nil *orderpb.Order"},
		{(**orderpb.Order)(nil), "decode to **orderpb.Order: a pointer that is not nil is needed"},
		{plain{}, "decode to protobuf_test.plain: a pointer"},
		{nil, "decode to <nil>: a pointer"},
	} {
		if err := codec.Unmarshal(nil, tt.v); err == nil || !strings.Contains(err.Error(), "protobuf: "+tt.words) {
			t.Errorf("Unmarshal(%T): %v, want %q", tt.v, err, tt.words)
		}
	}
	if dynamic != nil {
		t.Error("a message without a descriptor was handed out")
	}
}

// Fields that proto2 requires are checked in both directions.
func TestRequiredFields(t *testing.T) {
	t.Parallel()
	codec := protobuf.New()
	if _, err := codec.Append(nil, &descriptorpb.UninterpretedOption_NamePart{}); err == nil || !strings.Contains(err.Error(), "required") {
		t.Errorf("Append: %v", err)
	}
	var got *descriptorpb.UninterpretedOption_NamePart
	if err := codec.Unmarshal(nil, &got); err == nil || !strings.Contains(err.Error(), "required") {
		t.Errorf("Unmarshal: %v", err)
	}
	if got != nil {
		t.Error("a message that was refused was handed out")
	}
}

func TestAppend(t *testing.T) {
	t.Parallel()
	codec := protobuf.New()
	v := &orderpb.Line{Sku: "a", Quantity: 3}
	alone, err := codec.Append(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	room := append(make([]byte, 0, 64), "before "...)
	got, err := codec.Append(room, v)
	if err != nil || string(got) != "before "+string(alone) || &got[0] != &room[0] {
		t.Errorf("it is %q, %v, want the same bytes behind what was there", got, err)
	}
	tight := []byte("before")[:6:6]
	if got, err := codec.Append(tight, v); err != nil || string(got) != "before"+string(alone) || string(tight) != "before" {
		t.Errorf("it is %q behind %q, %v", got, tight, err)
	}
	if got, err := codec.Append([]byte("before"), wrapperspb.String("\xff")); err == nil || len(got) != 0 {
		t.Errorf("a text that is not UTF-8 became %q, %v", got, err)
	}
	// A message that grew since its size was last asked for.
	v.Sku = strings.Repeat("x", 1000)
	got, err = codec.Append(nil, v)
	var back *orderpb.Line
	if err != nil || codec.Unmarshal(got, &back) != nil || !proto.Equal(back, v) {
		t.Errorf("it is %v, %v", back, err)
	}
}

// What was decoded has no part of the payload, and the payload is as it was.
func TestUnmarshalKeepsNothing(t *testing.T) {
	t.Parallel()
	codec := protobuf.New()
	want := fullOrder()
	want.ProtoReflect().SetUnknown(protowire.AppendString(protowire.AppendTag(nil, 99, protowire.BytesType), "unknown"))
	data, err := codec.Append(nil, want)
	if err != nil {
		t.Fatal(err)
	}
	before := bytes.Clone(data)
	var got *orderpb.Order
	if err := codec.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, before) {
		t.Error("the payload was changed")
	}
	clear(data)
	if !proto.Equal(got, want) {
		t.Errorf("when the payload was overwritten it became %v, want %v", got, want)
	}
}

func TestOptions(t *testing.T) {
	t.Parallel()
	if got := protobuf.New().ContentType(); got != "application/protobuf" {
		t.Errorf("the content type is %q", got)
	}
	if got := (protobuf.Codec{}).ContentType(); got != "application/protobuf" {
		t.Errorf("the content type of the zero value is %q", got)
	}
	if got := protobuf.New(protobuf.ContentType("application/x-protobuf")).ContentType(); got != "application/x-protobuf" {
		t.Errorf("the content type is %q", got)
	}
	if err := protobuf.New(protobuf.MaxDepth(4), protobuf.MaxSize(1)).Check(); err != nil {
		t.Error(err)
	}
	bad := protobuf.New(nil, protobuf.MaxDepth(10_001), protobuf.MaxSize(0), protobuf.ContentType("proto"))
	for _, want := range []string{"an option is nil", "MaxDepth(10001)", "MaxSize(0)", `ContentType("proto")`} {
		if err := bad.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Check says %v, want %s in it", err, want)
		}
	}
	if got := bad.ContentType(); got != "" {
		t.Errorf("a codec with mistakes has the content type %q", got)
	}
	if _, err := bad.Append(nil, &emptypb.Empty{}); err == nil || err.Error() != bad.Check().Error() {
		t.Errorf("Append says %v", err)
	}
	if err := bad.Unmarshal(nil, &emptypb.Empty{}); err == nil || err.Error() != bad.Check().Error() {
		t.Errorf("Unmarshal says %v", err)
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	codec := protobuf.New()
	want := fullOrder()
	data, err := codec.Append(nil, want)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 50 {
				var got *orderpb.Order
				if err := codec.Unmarshal(data, &got); err != nil || !proto.Equal(got, want) {
					t.Errorf("back came %v, %v", got, err)
				}
				if _, err := codec.Append(nil, want); err != nil { // one message, encoded by all
					t.Error(err)
				}
				if _, err := codec.Append(nil, &orderpb.Node{Children: []*orderpb.Node{{}}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// What holds itself would overflow the stack, and with it end the process.
func TestMessagesThatHoldThemselves(t *testing.T) {
	t.Parallel()
	codec := protobuf.New()
	list, named := &orderpb.Node{}, &orderpb.Node{}
	list.Children = []*orderpb.Node{{}, list}
	named.Named = map[string]*orderpb.Node{"x": named}
	value := structpb.NewListValue(&structpb.ListValue{})
	value.GetListValue().Values = []*structpb.Value{value}
	for name, m := range map[string]proto.Message{"list": list, "map": named, "oneof": value} {
		if _, err := codec.Append(nil, m); !errors.Is(err, protobuf.ErrLimit) {
			t.Errorf("%s: %v, want ErrLimit", name, err)
		}
	}
}

// What holds another many times over ends at MaxSize, not after the age of the universe.
func TestMessagesThatMultiply(t *testing.T) {
	t.Parallel()
	m := &orderpb.Node{}
	for range 60 {
		m = &orderpb.Node{Children: []*orderpb.Node{m, m}}
	}
	if _, err := protobuf.New(protobuf.MaxSize(1<<12)).Append(nil, m); !errors.Is(err, protobuf.ErrLimit) || !strings.Contains(err.Error(), "MaxSize") {
		t.Errorf("%v, want ErrLimit", err)
	}
}

// What cannot be a message is said before any message.
func TestCheckType(t *testing.T) {
	t.Parallel()
	codec := protobuf.New()
	for _, tt := range []struct {
		t    reflect.Type
		want string // "" where it is right
	}{
		{nil, ""},
		{reflect.TypeFor[*orderpb.Order](), ""},
		{reflect.TypeFor[orderpb.Order](), ""},
		{reflect.TypeFor[*dynamicpb.Message](), ""},
		{reflect.TypeFor[proto.Message](), ""}, // of a publisher
		{reflect.TypeFor[any](), ""},
		{reflect.TypeFor[interface {
			proto.Message
			GetId() string
		}](), ""},
		{reflect.TypeFor[fmt.Stringer](), "fmt.Stringer is an interface"},
		{reflect.TypeFor[plain](), "protobuf_test.plain is no protobuf message: take a pointer to a generated message, such as *pb.Order"},
		{reflect.TypeFor[*plain](), "*protobuf_test.plain is no protobuf message"},
		{reflect.TypeFor[**orderpb.Order](), "**orderpb.Order is no protobuf message"},
		{reflect.TypeFor[[]*orderpb.Order](), "[]*orderpb.Order is no protobuf message"},
		{reflect.TypeFor[int](), "int is no protobuf message"},
	} {
		err := codec.CheckType(tt.t)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.t, err, tt.want)
		}
	}
}

// What one side writes within the limits the other reads, and one more neither does.
func TestLimitsOfBothSides(t *testing.T) {
	t.Parallel()
	children := func(n int) proto.Message {
		m := &orderpb.Node{Name: "x"}
		for range n - 1 {
			m = &orderpb.Node{Children: []*orderpb.Node{m}}
		}
		return m
	}
	named := func(n int) proto.Message { // a level for the entry of each map
		m := &orderpb.Node{Name: "x"}
		for range n {
			m = &orderpb.Node{Named: map[string]*orderpb.Node{"": m}}
		}
		return m
	}
	noted := func(n int) proto.Message { // the innermost has a map, of texts
		m := &orderpb.Node{Notes: map[string]string{"a": "b"}}
		for range n - 1 {
			m = &orderpb.Node{Children: []*orderpb.Node{m}}
		}
		return m
	}
	labels := &orderpb.Order{Labels: map[string]string{"a": "b"}}
	asDynamic := func(m proto.Message) proto.Message {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		d := dynamicpb.NewMessage(m.ProtoReflect().Descriptor())
		if err := proto.Unmarshal(b, d); err != nil {
			t.Fatal(err)
		}
		return d
	}
	codec, free := protobuf.New(protobuf.MaxDepth(7), protobuf.MaxSize(50)), protobuf.New()
	for _, tt := range []struct {
		name  string
		v     proto.Message
		fits  bool
		words string
	}{
		{"7 levels", children(7), true, ""},
		{"8 levels", children(8), false, "MaxDepth is 7"},
		{"7 levels with maps", named(3), true, ""},
		{"9 levels with maps", named(4), false, "MaxDepth is 7"},
		{"a dynamic message of 7 levels", asDynamic(children(7)), true, ""},
		{"a dynamic message of 8 levels", asDynamic(children(8)), false, "MaxDepth is 7"},
		{"a dynamic message of 7 levels with maps", asDynamic(named(3)), true, ""},
		{"a dynamic message of 9 levels with maps", asDynamic(named(4)), false, "MaxDepth is 7"},
		{"a map of texts in the 6th level", noted(6), true, ""},
		{"a map of texts in the 7th level", noted(7), false, "MaxDepth is 7"},
		{"labels", labels, true, ""},
		{"50 bytes", wrapperspb.String(strings.Repeat("x", 48)), true, ""},
		{"51 bytes", wrapperspb.String(strings.Repeat("x", 49)), false, "has 51 bytes"},
	} {
		data, err := free.Append(nil, tt.v)
		if err != nil {
			t.Fatal(err)
		}
		got := tt.v.ProtoReflect().New().Interface()
		_, wrote := codec.Append(nil, tt.v)
		read := codec.Unmarshal(data, got)
		for side, err := range map[string]error{"write": wrote, "read": read} {
			if tt.fits && err != nil {
				t.Errorf("%s, %s: %v", tt.name, side, err)
			}
			if !tt.fits && (!errors.Is(err, protobuf.ErrLimit) || !strings.Contains(err.Error(), tt.words)) {
				t.Errorf("%s, %s: %v, want ErrLimit with %q", tt.name, side, err, tt.words)
			}
		}
	}
}

// An extension may be of any depth, whatever the schema of the message says.
func TestExtensionsCount(t *testing.T) {
	t.Parallel()
	node := (*orderpb.Node)(nil).ProtoReflect().Descriptor()
	options := &descriptorpb.FileOptions{}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name:       proto.String("extension.proto"),
		Dependency: []string{node.ParentFile().Path(), options.ProtoReflect().Descriptor().ParentFile().Path()},
		Extension: []*descriptorpb.FieldDescriptorProto{{
			Name: proto.String("node"), Number: proto.Int32(50_000), Extendee: proto.String(".google.protobuf.FileOptions"),
			Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), TypeName: proto.String("." + string(node.FullName())),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	extension := dynamicpb.NewExtensionType(file.Extensions().Get(0))
	for n, want := range map[int]error{90: nil, 110: protobuf.ErrLimit} {
		value := extension.New()
		if err := proto.Unmarshal([]byte(deep(2, n, 1<<20)), value.Message().Interface()); err != nil {
			t.Fatal(err)
		}
		options.ProtoReflect().Set(extension.TypeDescriptor(), value)
		if _, err := protobuf.New().Append(nil, options); !errors.Is(err, want) {
			t.Errorf("an extension of %d levels: %v, want %v", n, err, want)
		}
	}
}

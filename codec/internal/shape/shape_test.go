package shape_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/gostream/gostream/codec/internal/shape"
)

type leaf struct{ X int }

type embedding struct {
	leaf
	*Named
	When time.Time
}

type Named struct{ Names map[string][]leaf }

type recursive struct{ Next *recursive }

type mutual struct{ Other *other }

type other struct{ Back []mutual }

type behindTag struct {
	Out  *behindTag `tag:"-"`
	Out2 *behindTag `second:"-"`
	In   *int       `tag:"in" second:"-"`
	own  *behindTag
}

type holder struct {
	Text  string
	Body  []byte
	Any   any
	Inner struct{ Parts map[int][]byte }
	Hash  [8]byte
	Node  *recursive
}

type A struct{ *B }

type B struct{ *A }

type aroundA struct{ Field *B }

func newShapes() *shape.Shapes {
	return &shape.Shapes{Tags: []string{"tag", "second"}, Leaf: func(t reflect.Type) bool { return t == reflect.TypeFor[time.Time]() }}
}

func TestOf(t *testing.T) {
	t.Parallel()
	_ = behindTag{own: nil}
	shapes := newShapes()
	for _, tt := range []struct {
		t    reflect.Type
		want shape.Shape
	}{
		{reflect.TypeFor[int](), shape.Shape{}},
		{reflect.TypeFor[time.Time](), shape.Shape{}},
		{reflect.TypeFor[**leaf](), shape.Shape{Depth: 1}},
		{reflect.TypeFor[[]byte](), shape.Shape{Bytes: true}},
		{reflect.TypeFor[[4]byte](), shape.Shape{}},
		{reflect.TypeFor[[][]byte](), shape.Shape{Depth: 1, Bytes: true}},
		{reflect.TypeFor[map[leaf][]int](), shape.Shape{Depth: 2}},
		{reflect.TypeFor[embedding](), shape.Shape{Depth: 4}},
		{reflect.TypeFor[any](), shape.Shape{Depth: shape.Unbounded, Interfaces: true}},
		{reflect.TypeFor[recursive](), shape.Shape{Depth: shape.Unbounded}},
		{reflect.TypeFor[mutual](), shape.Shape{Depth: shape.Unbounded}},
		{reflect.TypeFor[behindTag](), shape.Shape{Depth: 1}},
		{reflect.TypeFor[holder](), shape.Shape{Depth: shape.Unbounded, Bytes: true, Interfaces: true, Fields: []int{1, 2, 3}}},
		{reflect.TypeFor[A](), shape.Shape{Depth: shape.Unbounded, EmbedsItself: true}},
		{reflect.TypeFor[aroundA](), shape.Shape{Depth: shape.Unbounded, EmbedsItself: true}},
	} {
		for range 2 { // the second time it is known
			got := shapes.Of(tt.t)
			if !slices.Equal(got.Fields, tt.want.Fields) || got.Depth != tt.want.Depth || got.Bytes != tt.want.Bytes ||
				got.Interfaces != tt.want.Interfaces || got.EmbedsItself != tt.want.EmbedsItself {
				t.Errorf("%v is %+v, want %+v", tt.t, *got, tt.want)
			}
		}
	}
}

func TestWithin(t *testing.T) {
	t.Parallel()
	shapes := newShapes()
	list := any(1)
	for range 5 {
		list = []any{list}
	}
	chain := &recursive{&recursive{&recursive{}}}
	loop := &recursive{}
	loop.Next = loop
	var itself any
	itself = &itself
	tagged := &behindTag{}
	tagged.Out, tagged.Out2, tagged.own = tagged, tagged, tagged
	for _, tt := range []struct {
		name string
		v    any
		deep int // the least limit that it is within; 0 for none
	}{
		{"a list", list, 5},
		{"a chain", chain, 3},
		{"a map", map[string]any{"a": map[string]any{"b": []byte{1}}}, 2},
		{"keys", map[any]int{[1]any{leaf{}}: 1}, 3},
		{"a loop", loop, 0},
		{"a pointer to itself", itself, 0},
		{"what is left out", tagged, 1},
	} {
		for most := 1; most < 8; most++ {
			if got, want := shapes.Within(tt.v, most), tt.deep > 0 && most >= tt.deep; got != want {
				t.Errorf("%s is within %d: %v", tt.name, most, got)
			}
		}
	}
	if !shapes.Within(nil, 1) {
		t.Error("nil is nested too deeply")
	}
}

// Each level refers to the next in two ways.
type (
	level[T any]    struct{ A, B *T }
	levels4[T any]  = level[level[level[level[T]]]]
	levels16[T any] = levels4[levels4[levels4[levels4[T]]]]
)

// Types that refer to one another in very many ways are walked over once each.
func TestManyWays(t *testing.T) {
	t.Parallel()
	if got := newShapes().Of(reflect.TypeFor[levels16[levels16[int]]]()).Depth; got != 32 { // 2^32 ways
		t.Errorf("its depth is %d", got)
	}
}

package cbor

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gostream/gostream/codec/internal/limits"
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
	Out  *behindTag `cbor:"-"`
	Out2 *behindTag `json:"-"`
	In   *int       `cbor:"in" json:"-"`
	own  *behindTag
}

type A struct{ *B }

type B struct{ *A }

func TestShapeOf(t *testing.T) {
	t.Parallel()
	_ = behindTag{own: nil}
	for _, tt := range []struct {
		t    reflect.Type
		want int
	}{
		{reflect.TypeFor[int](), 0},
		{reflect.TypeFor[time.Time](), 0},
		{reflect.TypeFor[**leaf](), 1},
		{reflect.TypeFor[[]byte](), 0},
		{reflect.TypeFor[[4]byte](), 0},
		{reflect.TypeFor[[][]byte](), 1},
		{reflect.TypeFor[map[leaf][]int](), 2},
		{reflect.TypeFor[embedding](), 4},
		{reflect.TypeFor[any](), unbounded},
		{reflect.TypeFor[recursive](), unbounded},
		{reflect.TypeFor[mutual](), unbounded},
		{reflect.TypeFor[behindTag](), 1},
		{reflect.TypeFor[A](), unbounded},
		{reflect.TypeFor[levels16[levels16[int]]](), 32}, // 2^32 ways
	} {
		for range 2 { // the second time it is known
			if got := shapeOf(tt.t).depth; got != tt.want {
				t.Errorf("the depth of %v is %d, want %d", tt.t, got, tt.want)
			}
		}
	}
}

func TestWithin(t *testing.T) {
	t.Parallel()
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
			c := &config{Limits: limits.New("cbor", "application/cbor")}
			c.MaxDepth = most
			err := c.bounded(tt.v)
			if got, want := err == nil, tt.deep > 0 && most >= tt.deep; got != want || err != nil && !errors.Is(err, ErrLimit) {
				t.Errorf("%s is within %d: %v", tt.name, most, err)
			}
		}
	}
	if err := defaults.bounded(nil); err != nil {
		t.Errorf("nil: %v", err)
	}
}

// What holds another many times over ends at MaxSize, not after the age of the universe.
func TestValuesThatMultiply(t *testing.T) {
	t.Parallel()
	v := any("x")
	for range 60 {
		v = []any{v, v}
	}
	if _, err := New(MaxSize(1<<16)).Append(nil, v); !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), "MaxSize") {
		t.Errorf("%v, want ErrLimit", err)
	}
}

// Each level refers to the next in two ways.
type (
	level[T any]    struct{ A, B *T }
	levels4[T any]  = level[level[level[level[T]]]]
	levels16[T any] = levels4[levels4[levels4[levels4[T]]]]
)

package gostream_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/gostream/gostream"
)

// faultyCodec was made with mistakes.
type faultyCodec struct {
	checkCodec
	mistakes error
}

func (c faultyCodec) Check() error { return c.mistakes }

// pickyCodec can encode and decode values of one type alone.
type pickyCodec struct {
	checkCodec
	only reflect.Type
}

func (c pickyCodec) CheckType(t reflect.Type) error {
	if t != c.only {
		return fmt.Errorf("%v is no %v: use a %v", t, c.only, c.only)
	}
	return nil
}

func codecMistakes() []mistake {
	faulty := faultyCodec{"", errors.Join(errors.New("Depth(-1): at least 1"), errors.New("Size(-1): at least 1"))}
	picky := pickyCodec{"x/picky", reflect.TypeFor[checkOrder]()}
	const no = "codec gostream_test.pickyCodec: gostream_test.checkReceipt is no gostream_test.checkOrder"
	return []mistake{
		{name: "codec without a content type", make: func(r *checkRig) {
			r.handle("nameless", gostream.WithCodec(checkCodec("")), gostream.Codecs(checkCodec("")))
		}, want: []string{
			`subscription "nameless": WithCodec(gostream_test.checkCodec): the codec has no content type`,
			`subscription "nameless": Codecs(gostream_test.checkCodec): the codec has no content type`,
		}},
		{name: "faulty codec", make: func(r *checkRig) {
			r.handle("faulty", gostream.WithCodec(faulty), gostream.Codecs(faultyCodec{"x/y", errors.New("not joined")}))
			gostream.NewPublisher[checkOrder](r.app, r.memory, "faulty-publisher", gostream.WithCodec(faulty))
		}, want: []string{
			`subscription "faulty": WithCodec(gostream_test.faultyCodec): Depth(-1): at least 1`,
			`subscription "faulty": WithCodec(gostream_test.faultyCodec): Size(-1): at least 1`,
			`subscription "faulty": Codecs(gostream_test.faultyCodec): not joined`,
			`NewPublisher "faulty-publisher": WithCodec(gostream_test.faultyCodec): Depth(-1): at least 1`,
			`NewPublisher "faulty-publisher": WithCodec(gostream_test.faultyCodec): Size(-1): at least 1`,
		}},
		{name: "type that the codec cannot take", make: func(r *checkRig) {
			r.onMemory.Handle("type-in", gostream.Consume(func(context.Context, checkReceipt) error { return nil }), gostream.WithCodec(picky))
			r.onMemory.Handle("type-out", gostream.Reply(answer).To("answers"), gostream.WithCodec(picky))
			r.onMemory.Handle("type-listed", gostream.Consume(func(context.Context, gostream.Message[checkReceipt]) error { return nil }), gostream.Codecs(picky))
			gostream.NewPublisher[checkReceipt](r.app, r.memory, "type-publisher", gostream.WithCodec(picky))
			gostream.NewRequester[checkOrder, checkReceipt](r.app, r.memory, "type-requester", gostream.WithCodec(picky))
			// One of the app's, among others, is not for everybody.
			r.handle("type-fits", gostream.WithCodec(picky))
		}, app: []gostream.AppOption{gostream.Codecs(picky)}, want: []string{
			`subscription "type-in": ` + no,
			`subscription "type-out": ` + no,
			`subscription "type-listed": ` + no,
			`NewPublisher "type-publisher": ` + no,
			`NewRequester "type-requester": ` + no,
		}},
	}
}

package asyncapi

import (
	"fmt"
	"reflect"
)

// Named is implemented by types that choose the name under which they stand in documents,
// as payloads and inside of them. It is called on a zero value. Without it, and for "", the
// name is that of the Go type, without its package.
type Named interface{ AsyncAPIName() string }

// Described is implemented by types that describe themselves in documents, in a sentence
// or a few paragraphs of Markdown. It is called on a zero value. Without it a type has no
// description.
type Described interface{ AsyncAPIDescription() string }

// ownName is what a type says of itself, "" for nothing.
func ownName(t reflect.Type) (name string, err error) {
	return says(t, "AsyncAPIName", func(n Named) string { return n.AsyncAPIName() })
}

// ownDescription is the same for its description.
func ownDescription(t reflect.Type) (text string, err error) {
	return says(t, "AsyncAPIDescription", func(d Described) string { return d.AsyncAPIDescription() })
}

// says asks a zero value of t, or a pointer to one. What an embedded field would say, too,
// is that field's, and not what t says of itself.
func says[I any](t reflect.Type, method string, ask func(I) string) (text string, err error) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.Interface {
		return "", nil
	}
	i, ok := reflect.New(t).Interface().(I) // has the methods of t, too
	if !ok {
		return "", nil
	}
	if text, err = call(t, method, func() string { return ask(i) }); err != nil || t.Kind() != reflect.Struct {
		return text, err
	}
	for i := range t.NumField() {
		f := t.Field(i)
		if !f.Anonymous || f.Type.Kind() == reflect.Pointer && f.Type.Elem() == t {
			continue
		}
		if embedded, err := says(f.Type, method, ask); err == nil && embedded == text {
			return "", nil
		}
	}
	return text, nil
}

func call(t reflect.Type, method string, f func() string) (text string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s of a zero %v panics: %v", method, t, r)
		}
	}()
	return f(), nil
}

package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

// maxPayload bounds a payload that is read: no broker takes more.
const maxPayload = 64 << 20

var errPayloadTooLarge = fmt.Errorf("a payload is larger than %d MiB: with --lines each line is a message", maxPayload>>20)

// input is where payloads come from. A read that waits is given up when its ctx ends.
type input struct {
	r      *bufio.Reader
	close  func()
	number int // of the line that was read last
}

// input finds out where the payload comes from; what it returns opens it.
func (p *program) input(cmd *cobra.Command, f publishFlags, rest []string) (open func() (*input, error), err error) {
	stdin := func() (*input, error) { return &input{bufio.NewReader(p.in), func() {}, 0}, nil }
	changed := cmd.Flags().Changed
	fromLine := func(name string) bool { return changed(name) && given(cmd, name) == "--"+name }
	if len(rest) > 0 {
		if rest[0] != "-" {
			return nil, &exitError{codeUsage, fmt.Errorf("after the name comes nothing, or - for the standard input; got %q", rest[0]), "the payload of a message is given with --data"}
		}
		for _, name := range []string{"data", "file"} {
			if fromLine(name) && (name != "file" || f.file != "-") {
				return nil, wrongf("- together with --%s: give one of them", name)
			}
		}
		return stdin, nil
	}
	if err := atMostOne(cmd, "data", "file"); err != nil {
		return nil, err
	}
	switch {
	case changed("data"):
		return func() (*input, error) { return &input{bufio.NewReader(strings.NewReader(f.data)), func() {}, 0}, nil }, nil
	case f.file == "-":
		return stdin, nil
	case f.file != "":
		return func() (*input, error) {
			file, err := os.Open(f.file)
			if err != nil {
				return nil, err
			}
			return &input{bufio.NewReader(file), func() { _ = file.Close() }, 0}, nil
		}, nil
	}
	return nil, wrongf("there is no payload: give it with --data, --file, or - for the standard input")
}

// whole reads all that there is.
func (in *input) whole(ctx context.Context) ([]byte, error) {
	return in.read(ctx, func() ([]byte, error) {
		data, err := io.ReadAll(io.LimitReader(in.r, maxPayload+1))
		if err == nil && len(data) > maxPayload {
			err = errPayloadTooLarge
		}
		return data, err
	})
}

// line reads the next line that is not empty; io.EOF where there is none.
func (in *input) line(ctx context.Context) ([]byte, error) {
	return in.read(ctx, func() ([]byte, error) {
		for {
			line, err := in.rawLine()
			if err != nil && !errors.Is(err, io.EOF) {
				return nil, err // what was read of the line is not all of it
			}
			if line = bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r")); len(line) > 0 {
				return line, nil
			}
			if err != nil {
				return nil, err
			}
		}
	})
}

// rawLine reads up to a line end, or what is left.
func (in *input) rawLine() ([]byte, error) {
	in.number++
	var line []byte
	for {
		part, err := in.r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxPayload:
			return nil, errPayloadTooLarge
		case errors.Is(err, bufio.ErrBufferFull):
		case len(line) > 0 && errors.Is(err, io.EOF):
			return line, nil
		default:
			return line, err
		}
	}
}

// read calls f, and does not wait for it longer than ctx: what reads a terminal or a pipe
// cannot be interrupted otherwise.
func (in *input) read(ctx context.Context, f func() ([]byte, error)) ([]byte, error) {
	type result struct {
		data []byte
		err  error
	}
	got := make(chan result, 1)
	go func() {
		data, err := f()
		got <- result{data, err}
	}()
	select {
	case r := <-got:
		if r.err != nil && !errors.Is(r.err, io.EOF) {
			return nil, failed(fmt.Errorf("read the payload: %w", r.err))
		}
		return r.data, r.err
	case <-ctx.Done():
		return nil, interrupted("ended by a signal")
	}
}

// checkPayload refuses what a subscription or a publisher of the app says that it is not:
// of another content type, or JSON that does not fit the type.
func checkPayload(d gostream.Description, i int, name, contentType string, payload []byte) error {
	for k := range d.Subscriptions {
		s := &d.Subscriptions[k]
		if s.Broker != i || len(s.ContentTypes) == 0 || !receivesName(d, s, name) {
			continue
		}
		who := "subscription " + broker.Quote(s.Subscription.Name())
		if contentType != "" && !slices.ContainsFunc(s.ContentTypes, func(known string) bool { return mediaType(known) == mediaType(contentType) }) {
			return fmt.Errorf("%s takes %s, not %s (--no-check publishes it all the same)", who, strings.Join(s.ContentTypes, ", "), contentType)
		}
		is := contentType
		if is == "" {
			is = s.ContentTypes[0]
		}
		if err := fits(is, payload, s.Payload); err != nil {
			return fmt.Errorf("%s could not decode the payload as %s: %w (--no-check publishes it all the same)", who, typeName(s.Payload), err)
		}
	}
	for _, pub := range d.Publishers {
		if pub.Broker != i || pub.Name != name || pub.ContentType == "" || mediaType(pub.ContentType) != mediaType(contentType) {
			continue
		}
		if err := fits(contentType, payload, pub.Payload); err != nil {
			return fmt.Errorf("what the app publishes to %s is %s: %w (--no-check publishes it all the same)", broker.Quote(name), typeName(pub.Payload), err)
		}
	}
	return nil
}

// fits decodes JSON into a value of t. Other content types are not looked into.
func fits(contentType string, payload []byte, t reflect.Type) error {
	if mediaType(contentType) != mediaType(gostream.JSON.ContentType()) || t == nil {
		return nil
	}
	if _, is := reflect.PointerTo(t).MethodByName("ProtoReflect"); is {
		return nil // its JSON is not that of encoding/json
	}
	return json.Unmarshal(payload, reflect.New(t).Interface())
}

// mediaType is a content type without its parameters.
func mediaType(contentType string) string {
	if media, _, err := mime.ParseMediaType(contentType); err == nil {
		return media
	}
	return strings.ToLower(strings.TrimSpace(contentType))
}

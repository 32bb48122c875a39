package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/gostream/gostream/asyncapi"
)

// source is where an AsyncAPI document comes from: the service in a folder, a file, or the
// standard input.
type source struct {
	name    string
	service *service // nil for a file
	text    []byte   // of the standard input
}

// stdinName is the file name that stands for the standard input.
const stdinName = "-"

// openSource finds what arg names. The caller owes a close.
func openSource(ctx context.Context, arg string) (*source, error) {
	s := &source{name: arg}
	if arg == stdinName {
		text, err := io.ReadAll(os.Stdin)
		s.text = text
		return s, err
	}
	info, err := os.Stat(arg)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, mistakef("there is no file or folder %s", arg)
	case err != nil:
		return nil, err
	case info.IsDir():
		s.service, err = openService(ctx, arg)
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *source) close() {
	if s.service != nil {
		s.service.close()
	}
}

// load reads the document. A bad one is a mistake.
func (s *source) load(ctx context.Context) (*asyncapi.Spec, error) {
	text, err := s.text, error(nil)
	switch {
	case s.service != nil:
		text, err = s.service.document(ctx)
	case s.name != stdinName:
		text, err = os.ReadFile(s.name)
	}
	if err != nil {
		return nil, err
	}
	spec, err := asyncapi.Parse(text)
	if err != nil {
		// A line for each mistake, behind the name of the file.
		return nil, mistakef("%s: %s", s.name, strings.TrimPrefix(err.Error(), "asyncapi: "))
	}
	return spec, nil
}

// mistakef is an error with the exit code of a mistake, without the advice to read how the
// command is used.
func mistakef(format string, args ...any) error {
	return &usageError{error: fmt.Errorf(format, args...)}
}

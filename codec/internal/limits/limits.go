// Package limits holds what the codecs of this module share: how large and how
// deep a payload may be, and the mistakes in options.
package limits

import (
	"errors"
	"fmt"
	"math"
	"mime"
	"strings"
)

// The defaults, and what may be set.
const (
	DefaultMaxSize  = 16 << 20
	DefaultMaxDepth = 100

	MostSize   = math.MaxInt32
	LeastDepth = 4
	MostDepth  = 10_000
)

// ErrExceeded is what every error about a limit unwraps to.
var ErrExceeded = errors.New("over a limit of the codec")

// Limits are a codec's name for messages, its content type, its limits, and the
// mistakes made in setting them.
type Limits struct {
	Codec       string // the package, as errors name it
	ContentType string
	MaxSize     int
	MaxDepth    int

	errs []error
}

// New returns the defaults.
func New(codec, contentType string) Limits {
	return Limits{Codec: codec, ContentType: contentType, MaxSize: DefaultMaxSize, MaxDepth: DefaultMaxDepth}
}

// SetContentType sets the content type, a media type.
func (l *Limits) SetContentType(s string) {
	if name, _, err := mime.ParseMediaType(s); err != nil || !strings.Contains(name, "/") {
		l.Bad(fmt.Errorf("ContentType(%q): a media type such as %q is needed", s, l.ContentType))
		return
	}
	l.ContentType = s
}

// SetMaxSize sets the most bytes of a payload.
func (l *Limits) SetMaxSize(n int) {
	if n < 1 || n > MostSize {
		l.Bad(fmt.Errorf("MaxSize(%d): it must be between 1 and %d bytes", n, MostSize))
		return
	}
	l.MaxSize = n
}

// SetMaxDepth sets how deep values may be nested.
func (l *Limits) SetMaxDepth(n int) {
	if n < LeastDepth || n > MostDepth {
		l.Bad(fmt.Errorf("MaxDepth(%d): it must be between %d and %d levels", n, LeastDepth, MostDepth))
		return
	}
	l.MaxDepth = n
}

// Bad keeps a mistake.
func (l *Limits) Bad(err error) { l.errs = append(l.errs, fmt.Errorf("%s: %w", l.Codec, err)) }

// Err is all mistakes, joined; nil for none.
func (l *Limits) Err() error { return errors.Join(l.errs...) }

// Declared is the content type; empty where there are mistakes, so that an app with
// such a codec does not start.
func (l *Limits) Declared() string {
	if len(l.errs) > 0 {
		return ""
	}
	return l.ContentType
}

// CheckSize reports a payload of n bytes that is too large.
func (l *Limits) CheckSize(n int) error {
	if n <= l.MaxSize {
		return nil
	}
	return fmt.Errorf("%s: the payload has %d bytes, %w: MaxSize is %d", l.Codec, n, ErrExceeded, l.MaxSize)
}

// TooLarge is the error of a value that would become too large; by how much is not known.
func (l *Limits) TooLarge() error {
	return fmt.Errorf("%s: the payload would be too large, %w: MaxSize is %d bytes", l.Codec, ErrExceeded, l.MaxSize)
}

// TooDeep is the error of a value that is nested too deeply.
func (l *Limits) TooDeep() error {
	return fmt.Errorf("%s: the value is nested too deeply, %w: MaxDepth is %d", l.Codec, ErrExceeded, l.MaxDepth)
}

package msgpack

import "github.com/gostream/gostream/codec/internal/limits"

// The defaults of the limits.
const (
	DefaultMaxSize  = limits.DefaultMaxSize
	DefaultMaxDepth = limits.DefaultMaxDepth
)

// ErrLimit is what the error of a payload or a value over a limit unwraps to.
var ErrLimit = limits.ErrExceeded

// Option configures a codec. Where one is given twice the last counts.
type Option interface{ apply(*config) }

type option func(*config)

func (o option) apply(c *config) { o(c) }

// MaxSize sets the most bytes of a payload, read or written. The default is
// [DefaultMaxSize]; n must be positive. Decoding takes a multiple of that in memory:
// an element of one byte is a value of your type, with all of its fields.
func MaxSize(n int) Option { return option(func(c *config) { c.SetMaxSize(n) }) }

// MaxDepth sets how many maps and arrays may be inside one another, read or written.
// The default is [DefaultMaxDepth]; n must be between 4 and 10,000.
func MaxDepth(n int) Option { return option(func(c *config) { c.SetMaxDepth(n) }) }

// ContentType sets the content type, a media type. The default is
// "application/msgpack".
func ContentType(s string) Option { return option(func(c *config) { c.SetContentType(s) }) }

// StructsAsArrays makes a struct an array of its fields in their order, without
// their names: shorter, and a field can only be added at the end. Both sides must say
// it. The default is maps.
func StructsAsArrays() Option { return option(func(c *config) { c.arrays = true }) }

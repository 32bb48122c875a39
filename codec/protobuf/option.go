package protobuf

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
// an empty message in a list is two bytes, and a struct with all of its fields.
func MaxSize(n int) Option { return option(func(c *config) { c.SetMaxSize(n) }) }

// MaxDepth sets how many messages may be inside one another, read or written; a map
// counts as one. The default is [DefaultMaxDepth]; n must be between 4 and 10,000.
// Unknown fields do not count: they are kept as bytes.
func MaxDepth(n int) Option { return option(func(c *config) { c.SetMaxDepth(n) }) }

// ContentType sets the content type, a media type. The default is
// "application/protobuf".
func ContentType(s string) Option { return option(func(c *config) { c.SetContentType(s) }) }

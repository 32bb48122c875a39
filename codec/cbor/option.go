package cbor

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

// MaxDepth sets how many maps, arrays and tags may be inside one another, read or
// written. The default is [DefaultMaxDepth]; n must be between 4 and 10,000.
func MaxDepth(n int) Option { return option(func(c *config) { c.SetMaxDepth(n) }) }

// ContentType sets the content type, a media type. The default is "application/cbor".
func ContentType(s string) Option { return option(func(c *config) { c.SetContentType(s) }) }

// Strict makes indefinite lengths an error, and tags but those that this codec knows: 0
// and 1, which are times, 2 and 3, which are big numbers, and 55799, which says that this
// is CBOR. Then one value has fewer encodings that are read as the same. The default is
// to read them.
func Strict() Option { return option(func(c *config) { c.strict = true }) }

package otelgostream

import (
	"github.com/gostream/gostream/broker"
)

// carrier reads and writes a message's headers for a propagator.
type carrier struct{ headers broker.Headers }

// Get, Set and Keys make it a propagation.TextMapCarrier.

func (c *carrier) Get(key string) string { return c.headers.Get(key) }

func (c *carrier) Set(key, value string) { c.headers = c.headers.With(key, value) }

func (c *carrier) Keys() []string {
	var keys []string
	for k := range c.headers.All() {
		keys = append(keys, k)
	}
	return keys
}

// Values makes it a propagation.ValuesGetter: baggage may come in several fields.
func (c *carrier) Values(key string) []string { return c.headers.Values(key) }

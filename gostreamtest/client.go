package gostreamtest

import (
	"context"
	"testing"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

// Client is the double without an app: for the author of a broker who tests code on
// top of its sources and publishers. It serves any broker by its sources' Match and
// Spec, and its own MatchName.
type Client struct {
	t   testing.TB
	of  broker.Broker
	bus *bus
}

// StartClient returns a client of a double of b. It ends with the test.
func StartClient(t testing.TB, b broker.Broker) *Client {
	c := &Client{t: t, of: b, bus: newBus()}
	t.Cleanup(c.Shutdown)
	return c
}

// Broker is the broker that the double stands for.
func (c *Client) Broker() broker.Broker { return c.of }

// Publish publishes v to name, encoded as [TS.Publish] does. An error ends the test.
func (c *Client) Publish(name string, v any, opts ...gostream.PublishOption) {
	c.t.Helper()
	msg, err := outgoing(name, v, opts)
	if err == nil {
		err = c.Publisher().Publish(context.Background(), msg)
	}
	if err != nil {
		c.t.Fatalf("gostreamtest: publish to %q: %v", name, err)
	}
}

// Publisher is the double of the broker's default publisher.
func (c *Client) Publisher() broker.Publisher {
	real, _ := broker.DefaultPublisher(c.of)
	return c.bus.Publisher(c.of, real)
}

// Subscribe opens a subscription of src on the double. A source that does not fit the
// broker ends the test.
func (c *Client) Subscribe(src broker.Source) broker.Subscription {
	c.t.Helper()
	if err := src.Check(c.of); err != nil {
		c.t.Fatalf("gostreamtest: %v", err)
	}
	return c.bus.Subscribe(c.of, src, src.Name())
}

// ExpectPublished waits until n messages were published to name, and returns them; it
// ends the test, with the timeline, when timeout has passed before, or where there are
// more.
func (c *Client) ExpectPublished(name string, n int, timeout time.Duration) []Published {
	c.t.Helper()
	ts := &TS{t: c.t, bus: c.bus}
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	for {
		_, _, _, change := c.bus.rest.look()
		found := ts.Published(name)
		if len(found) == n {
			return found
		}
		late := len(found) > n
		if !late {
			select {
			case <-change:
			case <-limit.C:
				late = true
			}
		}
		if late {
			ts.fatal("%d messages were published to %q, want %d", len(ts.Published(name)), name, n)
		}
	}
}

// Shutdown ends the double: settling and publishing answer [broker.ErrClosed] from
// then on.
func (c *Client) Shutdown() {
	c.bus.mu.Lock()
	defer c.bus.mu.Unlock()
	c.bus.shut[c.of] = true
	for _, s := range c.bus.subs {
		s.closed = true
		s.poke()
	}
}

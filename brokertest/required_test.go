package brokertest_test

import (
	"context"
	"testing"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokertest"
)

// TestRequiredOnly: a broker that has the required methods and nothing else passes.
func TestRequiredOnly(t *testing.T) {
	t.Parallel()
	r := newRig()
	requiredOnly(r)
	brokertest.Run(t, r.Harness)
}

// requiredOnly hides every optional interface of memory but the properties, without
// which nothing would be promised. What cannot be seen any more is not declared.
func requiredOnly(r *rig) {
	r.Lease = nil
	r.Misconfigured = nil // nothing to say before I/O
	r.Pattern = nil       // without Match a source matches its own name
	r.declare = func(p *broker.Properties) {
		p.CountsDeliveries = false
		p.Keys, p.OrderedByKey = broker.KeysNone, false
	}
	r.broker = func(c *conn) client { return bareBroker{c} }
	r.source = func(s source) broker.Source { return struct{ broker.Source }{s} }
	r.subscription = func(s subscription) broker.Subscription { return struct{ broker.Subscription }{s} }
	r.message = func(m message) broker.IncomingMessage { return struct{ broker.IncomingMessage }{m} }
	r.publisher = func(p publisher) broker.Publisher { return keyless{p} }
}

// bareBroker has no optional interface but [broker.PropertiesDescriber].
type bareBroker struct{ c *conn }

func (b bareBroker) inner() *conn                       { return b.c }
func (b bareBroker) Connect(ctx context.Context) error  { return b.c.Connect(ctx) }
func (b bareBroker) Shutdown(ctx context.Context) error { return b.c.Shutdown(ctx) }
func (b bareBroker) Properties() broker.Properties      { return b.c.Properties() }

// keyless is a publisher that refuses keys.
type keyless struct{ p broker.Publisher }

func (k keyless) Publish(ctx context.Context, msg broker.OutgoingMessage) error {
	if msg.Key != nil {
		return &broker.Error{Op: "publish", Broker: "memory", Name: msg.Name, Kind: broker.ErrInvalid}
	}
	return k.p.Publish(ctx, msg)
}

// Package seam is where the app test kit takes hold of the runtime: it starts an app
// with every broker replaced by a double. Nothing but package gostreamtest uses it.
package seam

import (
	"context"
	"time"

	"github.com/gostream/gostream/broker"
)

// Double stands in for all brokers of an app. Its methods are called concurrently.
type Double interface {
	// Properties are those of every subscription.
	Properties() broker.Properties
	// Subscribe opens the subscription that the app calls name, of src on b.
	Subscribe(b broker.Broker, src broker.Source, name string) broker.Subscription
	// Publisher replaces the publisher real of b.
	Publisher(b broker.Broker, real broker.Publisher) broker.Publisher

	// Parked and Unparked tell that a delivery is held until a time, and no more.
	Parked(m broker.IncomingMessage, until time.Time)
	Unparked(m broker.IncomingMessage)
	// Finished tells that the runtime has let a delivery go. Hooks may still run.
	Finished(m broker.IncomingMessage)
	// Hold and Release surround what is to be waited for besides: hooks.
	Hold(n int)
	Release()
}

// Start starts an app, a *gostream.App, on a double, and returns the
// *gostream.Service. Package gostream sets it.
var Start func(ctx context.Context, app any, d Double) (service any, err error)

// Package gostream is a messaging framework: write a plain function, mount it on
// a broker, and run it in production.
//
//	func Confirm(ctx context.Context, o Order) (Confirmation, error) { … }
//
//	r := gostream.NewRouter()
//	r.Handle("orders", gostream.Reply(Confirm).To("confirmations"), gostream.DeadLetterTo("orders.dead"))
//
//	app := gostream.New("shop", "1.0.0")
//	app.Mount(memory.New(), r)
//	err := app.Run(ctx)
//
// A [Router] collects handlers, an [App] mounts routers on brokers, a [Service]
// is an app that runs. Handlers are made by [Consume], [Reply] and [Raw]. The
// error that a handler returns decides what happens to the message: nil
// acknowledges it, [Reject], [Ignore], [Retry], [RetryAfter], [DeadLetter] and
// [FailFast] decide outright, and any other error goes to the failure policy
// ([OnError], [DeadLetterTo]).
//
// Two commitments hold everywhere. The package knows no broker: it depends on the
// contract in package broker and on the standard library. And nothing is lost
// that the user did not say may be lost: publishes come before the
// acknowledgement, a failed message is retried with backoff, and what is given
// up is given up by a written rule, with a log line.
package gostream

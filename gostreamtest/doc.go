// Package gostreamtest runs a production app inside a test, as net/http/httptest runs
// a handler. The app is started as it is, with every broker replaced by one in the
// process:
//
//	ts := gostreamtest.Start(t, App())
//	ts.Publish("orders", Order{ID: "o-1"})
//	got := gostreamtest.One[Confirmation](ts, "confirmations")
//
// Publish returns when everything that it set off has come to rest: handlers, replies,
// retries, dead letters, hooks. That is found by counting, never by waiting for
// silence: a message is counted from its publish until the runtime has finished with
// it.
//
// What is real: the app, its middleware, codecs, policies, retries and dead letters,
// concurrency and drain. What is not: the broker. Published messages go to the
// subscriptions whose source matches the name, members of a group compete, a nack
// with requeue comes again. Durable cursors, redelivery timers, offsets and a broker's
// own dead-lettering are not imitated; they are proven against a real server.
//
// Inside a testing/synctest bubble there is one clock, and Publish runs through the
// delays of retries: hours take milliseconds. Outside of one a message that waits for
// a retry counts as at rest; [TS.Parked] shows it.
package gostreamtest

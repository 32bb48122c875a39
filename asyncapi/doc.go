// Package asyncapi makes the AsyncAPI 3 document of an app, and says what of a change
// breaks others.
//
//	d, err := app.Describe()
//	…
//	spec, err := asyncapi.Document(d)
//	…
//	data, err := spec.YAML()
//
// The document is made of what the code declares: subscriptions, their payload types and
// failure policies, publishers, servers. It needs no connection, and is the same, byte for
// byte, each time. [Parse] reads a document, [Diff] compares two.
package asyncapi

// Package nats is gostream's broker for NATS: Core NATS and JetStream.
//
// A [Broker] is one connection, made by [New] or, around a connection that the
// program has already, by [FromConn]. It reconnects for ever by default. Two kinds
// of sources subscribe on it:
//
//   - [Subject] is Core NATS: what is published while nobody listens is gone, and so
//     is what a process had in hand when it died. At most once. A subscription by
//     name is this, too.
//   - [Stream] is JetStream: a stream keeps the messages, a consumer remembers what
//     was acknowledged. At least once.
//
// # Publishing
//
// [Broker.Publisher] is Core NATS: a nil from Publish means that the message is in
// the client's buffer, which Shutdown flushes. [Broker.JetStreamPublisher] waits for
// the server to say that a stream has the message; it is what replies and dead
// letters of [Stream] sources go through, and with [ConfirmPublishes] it is the
// default.
//
// # Names and headers
//
// A name is a subject: tokens with dots between them, no token empty, no white space,
// at most [MaxName] bytes. '*' and '>' as whole tokens are wildcards and stand in
// subscriptions only. Nothing can be published to "$JS." and "$SYS.": these are the
// server's own.
//
// A header key consists of letters, digits and !#$%&'*+-.^_`|~; a value holds any
// bytes but line ends and has no white space around it. The keys "Status",
// "Description" and all that begin with "Nats-" are reserved by NATS: Publish refuses
// them, and on arrival they are not among the headers but typed, see
// [Message.Native]. So whatever arrived can be published again. The partition key
// travels in the header gostream-key, with bytes that a header cannot hold, and '%',
// written as in a URL: %0A.
package nats

// Package broker is the contract between gostream and a message broker: what
// the author of a broker module implements, and what the runtime relies on.
//
// The contract has three parts.
//
//   - Required interfaces: [Broker], [Source], [Subscription], [IncomingMessage]
//     and [Publisher]. They are small, carry bytes only, and know no codec.
//   - Capabilities: optional interfaces of one concern each, such as
//     [DelayedNacker] or [BatchReceiver]. Callers reach them through a helper of
//     this package ([NackAfter], [ReceiveBatch]), never by a type assertion of
//     their own. A helper whose method returns an error answers
//     [errors.ErrUnsupported] where the capability is absent or refused; a helper
//     whose method returns data adds an ok result. No helper panics, none does
//     nothing in silence.
//   - Data: [Properties], [SourceSpec] and [ServerSpec] say what no operation
//     can express.
//
// A broker object is never wrapped: its optional interfaces and the sources that
// look for its concrete type would no longer find it. Wrappers stand around
// sources, subscriptions, messages and publishers.
//
// # Rules that hold for every handle
//
// Before Connect every operation of every handle answers [ErrNotConnected], and
// after Shutdown [ErrClosed]; this includes publishers made earlier. An
// operation that silently succeeds in either state is the worst defect that a
// broker can have.
//
// When the connection is lost the broker reconnects and subscribes again, for
// ever by default. Receive blocks meanwhile. Only permanent errors surface, and
// a consumer that vanished on the server is noticed, not waited for.
//
// Errors are the sentinels of this package ([ErrClosed], [ErrInvalid], …),
// usually inside an [*Error] that also unwraps to the client's own error. Each
// broker translates its client's errors in one place. Context errors stay
// recognisable with errors.Is. No error text carries a credential. New errors
// may appear in later versions: ask with errors.Is, never by comparing texts.
package broker

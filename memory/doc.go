// Package memory is the in-process broker of gostream, and the executable
// reference of the contract in package broker: where a sentence of the contract
// leaves room, this package shows one way to keep it.
//
// A [Store] holds messages; a [Broker], made by [New], is a connection to a store.
// Without [On] a broker has a store of its own. Several brokers over one store
// see the same messages, as several connections to one server do, so that a test
// can shut one down and look at what the next one finds. The store lives as long
// as the process: nothing is persistent.
//
// # Who receives what
//
// Every subscription by name ([broker.ByName]) and every [Pattern] subscription
// has a queue of its own and gets a copy of each message that matches. The members
// of a group ([Queue]) share one queue, and each message goes to one of them.
//
//   - What is published to a name that no queue takes waits in that name's
//     backlog. The first subscription that matches the name, of whatever kind,
//     takes all of it over, in publish order across names.
//   - The queue of a group stays in the store when its members have left and goes
//     on receiving.
//   - The queue of a subscription by name or pattern receives nothing new once its
//     subscription is closed. What it still holds, and what comes back to it, waits
//     for the next subscription to the same name or pattern, which takes over the
//     oldest queue of that kind. Other subscriptions do not get these messages: they
//     had copies of their own. Such a queue goes away when it is empty and nothing of
//     it is unsettled; until then it takes memory.
//
// # Names
//
// A name is one or more tokens with dots between them, such as "orders.new". No
// token is empty. A name is valid UTF-8, has no white space and no control
// character, and is at most [MaxName] bytes long. '*' and '>' stand in patterns
// only; see [Pattern]. Names whose first token is "_inbox" are the reply-to names
// that a Request makes: one can publish to them and nothing else. Header keys are
// not empty and have no white space, control character or colon; header values hold
// any bytes. Whatever breaks these rules is broker.ErrInvalid.
//
// # Order and redelivery
//
// A queue is first in, first out. A message that comes back (nacked with requeue,
// nacked with a delay that has passed, or unsettled at Shutdown) is delivered
// before anything that was not yet received, and several come back in publish
// order. It is delivered as a new [*Message] with fresh bytes: the handle of an
// earlier delivery, and the slices that it gave out, are never used again.
//
// # Bounds
//
// A queue, and a backlog, holds at most [Capacity] messages that were not yet
// received. Publishing to a full one waits for room; see [ErrFull]. Because every
// copy is put into its queue at the same moment, one full queue holds up a
// publisher for all of them. What comes back is never held up by the bound and
// does not count against it.
package memory

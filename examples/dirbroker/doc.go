// Package dirbroker is a broker that needs no server: a queue is a folder, a
// message is a file. It is the example of the guide for broker authors, complete
// and small enough to be read in one go, and its structure is there to be copied.
//
// # The folder
//
//	Dir/
//	  .connections/<id>        locked for as long as that connection lives
//	  orders/                  the queue "orders"
//	    tmp/                   files that are being written
//	    ready/                 messages that wait
//	    claimed/<id>/          messages that the connection <id> has in hand
//	    corrupt/               files that could not be read as a message
//
// Every step is one rename within a queue, which a file system does completely or
// not at all. Publish writes the file into tmp and renames it into ready. Receive
// renames it into claimed: of several consumers exactly one succeeds. Ack removes
// it, Nack with requeue and Shutdown rename it back. The name of the file holds
// what changes (the number of deliveries, the time before which it must not come
// again), its content is written once.
//
// # What it promises
//
//   - A nil from Publish means that the message is in ready, and on the disk unless
//     [Config].NoSync is set.
//   - Every subscription to a queue competes with all others, in this process and
//     in any other of the machine.
//   - Messages come in publish order, and what comes back comes before what was not
//     yet received. The order is that of the machine's clock: when it is set back
//     between the publishes of two processes, these two may change places. What
//     another process gives back is noticed within a second.
//   - The count of deliveries is in the name of the file and so survives everything.
//   - An acknowledgement survives the end of the process at once, and a power
//     failure when Shutdown has returned nil. A power failure before that may
//     deliver the message once more.
//
// # A consumer that crashed
//
// A connection holds a lock (flock) on its file in .connections until it shuts
// down. When a process ends in whatever way the kernel releases the lock. The
// subscriptions of other connections look at the locks when they open and, while
// they wait, once a second: what a connection without a lock has claimed is renamed
// back. There is no lease and no time limit: a consumer that lives may keep a
// message for as long as it likes.
//
// # Bounds
//
// The processes must run on one machine, and the folder must be on a local file
// system: flock does not reach further. A Receive that waits looks into the folder
// every [Config].Poll; it is woken at once by what the same broker publishes or
// gives back. Watching a folder would need more than the standard library. It works
// where flock is: Linux, macOS and the BSDs. Elsewhere Connect answers
// [errors.ErrUnsupported].
package dirbroker

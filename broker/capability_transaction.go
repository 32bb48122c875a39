package broker

import "context"

// Transactor is the capability of a publisher to publish several messages
// together, or of a subscription where the acknowledgements belong inside.
// Without it transactions are unsupported, which is found at start.
type Transactor interface {
	// Begin opens a transaction. Where [Properties].SerialTransactions says so it
	// waits, until ctx ends, for the open one to end.
	Begin(ctx context.Context) (Transaction, error)
}

// Transaction makes publishes and acknowledgements visible together or not at
// all. It is used from one goroutine at a time. After Commit or Abort every
// method answers [ErrSettled]; a Shutdown of the broker aborts it, and then
// every method answers [ErrClosed].
type Transaction interface {
	// Publish adds a message. It becomes visible at Commit, in the order of the
	// calls. The rules for names, headers, options and bytes are those of
	// [Publisher.Publish].
	Publish(ctx context.Context, msg OutgoingMessage) error
	// Ack adds the acknowledgement of m, a delivery of the same broker. Until
	// Commit m is unsettled, but settling it otherwise answers [ErrSettled]. A
	// transaction without acknowledgements answers [errors.ErrUnsupported].
	Ack(ctx context.Context, m IncomingMessage) error
	// Commit makes all of it visible at once. After an error that is not a
	// context error nothing is visible.
	Commit(ctx context.Context) error
	// Abort drops the messages; the deliveries that were added are unsettled
	// again and wait for their settlement.
	Abort(ctx context.Context) error
}

// Begin opens a transaction on p. It answers [errors.ErrUnsupported] where p has
// no transactions.
func Begin(ctx context.Context, p Publisher) (Transaction, error) {
	if t, ok := p.(Transactor); ok {
		return t.Begin(ctx)
	}
	return nil, unsupported(p, "transactions")
}

// BeginReceived opens a transaction on sub, for transports where the
// acknowledgements of received messages belong inside. It answers
// [errors.ErrUnsupported] where sub has no transactions.
func BeginReceived(ctx context.Context, sub Subscription) (Transaction, error) {
	if t, ok := sub.(Transactor); ok {
		return t.Begin(ctx)
	}
	return nil, unsupported(sub, "transactions")
}

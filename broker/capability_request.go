package broker

import "context"

// Requester is the capability of a publisher to ask and wait for the answer.
// Without it request-reply is unsupported, which is found at start.
type Requester interface {
	// Request publishes msg with a reply-to of its own and returns the first
	// reply. ctx carries the time limit. Replies are correlated: an answer that
	// comes late, or twice, resolves nothing else. Where the transport knows that
	// nobody listens, it answers at once with an error of its module. A Shutdown
	// of the broker ends it with [ErrClosed].
	Request(ctx context.Context, msg OutgoingMessage) (IncomingMessage, error)
}

// Request asks through p. It answers [errors.ErrUnsupported] where p has no
// request-reply.
func Request(ctx context.Context, p Publisher, msg OutgoingMessage) (IncomingMessage, error) {
	if r, ok := p.(Requester); ok {
		return r.Request(ctx, msg)
	}
	return nil, unsupported(p, "request-reply")
}

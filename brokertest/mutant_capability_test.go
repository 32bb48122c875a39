package brokertest_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/gostream/gostream/broker"
)

// Faults of transactions and of request-reply.
var transactionMutants = []mutant{
	{
		"what a transaction publishes is visible before Commit", "transactions/commit", "before Commit: ",
		transactions(func(t *faultyTransaction, c *conn) {
			t.publish = c.Publisher().Publish
		}),
	},
	{
		"Commit makes the messages visible in reverse order", "transactions/commit", "after Commit: ",
		transactions(func(t *faultyTransaction, _ *conn) {
			var msgs []broker.OutgoingMessage
			t.publish = func(_ context.Context, msg broker.OutgoingMessage) error {
				msgs = append(msgs, msg)
				return nil
			}
			t.commit = func(ctx context.Context) error {
				slices.Reverse(msgs)
				for _, msg := range msgs {
					if err := t.Transaction.Publish(ctx, msg); err != nil {
						return err
					}
				}
				return t.Transaction.Commit(ctx)
			}
		}),
	},
	{
		"Abort publishes", "transactions/abort", "expected",
		transactions(func(t *faultyTransaction, _ *conn) {
			t.abort = func(ctx context.Context) error { return t.Transaction.Commit(ctx) }
		}),
	},
	{"a Commit that is interrupted has published a part", "transactions/cancel", "messages became visible", commitOneByOne},
	{"a Commit that meets Shutdown has published a part", "transactions/atomic", "messages became visible", commitOneByOne},
	{
		"a transaction that has ended accepts messages and drops them", "transactions/ended", "Publish in a transaction after Commit answers nil",
		transactions(func(t *faultyTransaction, _ *conn) {
			t.publish = func(ctx context.Context, msg broker.OutgoingMessage) error {
				err := t.Transaction.Publish(ctx, msg)
				if errors.Is(err, broker.ErrSettled) {
					return nil
				}
				return err
			}
		}),
	},
	{
		"a second Commit answers nil", "transactions/ended", "Commit in a transaction after Commit answers nil",
		transactions(func(t *faultyTransaction, _ *conn) {
			t.commit = func(ctx context.Context) error {
				err := t.Transaction.Commit(ctx)
				if errors.Is(err, broker.ErrSettled) {
					return nil
				}
				return err
			}
		}),
	},
	{
		"Publish in a transaction takes what Publish refuses, and Commit drops it", "transactions/refused", "answers nil",
		transactions(func(t *faultyTransaction, _ *conn) {
			t.publish = func(ctx context.Context, msg broker.OutgoingMessage) error {
				err := t.Transaction.Publish(ctx, msg)
				if errors.Is(err, broker.ErrInvalid) {
					return nil
				}
				return err
			}
		}),
	},
	{
		"a transaction keeps the caller's buffer until Commit", "transactions/buffer-reuse", "##",
		transactions(func(t *faultyTransaction, _ *conn) {
			var msgs []broker.OutgoingMessage
			t.publish = func(_ context.Context, msg broker.OutgoingMessage) error {
				msgs = append(msgs, msg)
				return nil
			}
			t.commit = func(ctx context.Context) error {
				for _, msg := range msgs {
					if err := t.Transaction.Publish(ctx, msg); err != nil {
						return err
					}
				}
				return t.Transaction.Commit(ctx)
			}
		}),
	},
	{
		"serial transactions are declared, and two are open at once", "transactions/two", "while another transaction is open",
		declares(func(p *broker.Properties) { p.SerialTransactions = true }),
	},
	{
		"a second transaction waits for the first, and that is not declared", "transactions/two", "do not say SerialTransactions",
		func(r *rig) {
			free := make(chan struct{}, 1)
			publishers(func(p *faultyPublisher) {
				p.begin = func(ctx context.Context) (broker.Transaction, error) {
					select {
					case free <- struct{}{}:
					case <-ctx.Done():
						return nil, ctx.Err()
					}
					t, err := p.publisher.Begin(ctx)
					if err != nil {
						<-free
						return nil, err
					}
					end := sync.OnceFunc(func() { <-free })
					return &faultyTransaction{
						Transaction: t,
						commit:      func(ctx context.Context) error { defer end(); return t.Commit(ctx) },
						abort:       func(ctx context.Context) error { defer end(); return t.Abort(ctx) },
					}, nil
				}
			})(r)
		},
	},
	{
		"all transactions of a publisher are one", "transactions/two", "expected",
		func(r *rig) {
			var mu sync.Mutex
			open := make(map[*conn]broker.Transaction)
			publishers(func(p *faultyPublisher) {
				p.begin = func(ctx context.Context) (broker.Transaction, error) {
					mu.Lock()
					defer mu.Unlock()
					if open[p.on()] == nil {
						t, err := p.publisher.Begin(ctx)
						if err != nil {
							return nil, err
						}
						open[p.on()] = t
					}
					end := func(ctx context.Context, f func(context.Context) error) error {
						mu.Lock()
						defer mu.Unlock()
						open[p.on()] = nil
						return f(ctx)
					}
					t := &faultyTransaction{Transaction: open[p.on()]}
					t.commit = func(ctx context.Context) error { return end(ctx, t.Transaction.Commit) }
					t.abort = func(ctx context.Context) error { return end(ctx, t.Transaction.Abort) }
					return t, nil
				}
			})(r)
		},
	},
	{
		"a delivery is acked when it is added to a transaction", "transactions/ack-abort", "already settled",
		transactions(func(t *faultyTransaction, _ *conn) {
			t.ack = func(ctx context.Context, m broker.IncomingMessage) error { return m.Ack(ctx) }
		}),
	},
	{
		"Commit forgets the acknowledgements", "transactions/ack", "Ack of a delivery that a transaction acknowledged answers nil",
		transactions(func(t *faultyTransaction, c *conn) {
			var acks broker.Transaction
			t.ack = func(ctx context.Context, m broker.IncomingMessage) (err error) {
				if acks == nil {
					if acks, err = broker.Begin(ctx, c.Broker.Publisher()); err != nil {
						return err
					}
				}
				return acks.Ack(ctx, m.(message).unwrap())
			}
			t.commit = func(ctx context.Context) error {
				if acks != nil {
					_ = acks.Abort(ctx)
				}
				return t.Transaction.Commit(ctx)
			}
		}),
	},
	{
		"a transaction acknowledges twice what it holds already", "transactions/ack-misuse", "answers nil",
		transactions(func(t *faultyTransaction, _ *conn) {
			t.ack = func(ctx context.Context, m broker.IncomingMessage) error {
				err := t.Transaction.Ack(ctx, m)
				if errors.Is(err, broker.ErrSettled) {
					return nil
				}
				return err
			}
		}),
	},
	{
		"Commit after Shutdown answers nil", "transactions/shutdown", "Commit in a transaction that was open at Shutdown answers nil",
		transactions(func(t *faultyTransaction, _ *conn) {
			t.commit = func(ctx context.Context) error {
				err := t.Transaction.Commit(ctx)
				if errors.Is(err, broker.ErrClosed) {
					return nil
				}
				return err
			}
		}),
	},
	{
		"Begin before Connect answers nil", "transactions/lifecycle", "Begin before Connect answers nil",
		publishers(func(p *faultyPublisher) {
			p.begin = func(ctx context.Context) (broker.Transaction, error) {
				t, err := p.publisher.Begin(ctx)
				if errors.Is(err, broker.ErrNotConnected) {
					return &faultyTransaction{
						publish: p.publisher.Publish,
						commit:  func(context.Context) error { return nil },
						abort:   func(context.Context) error { return nil },
					}, nil
				}
				return t, err
			}
		}),
	},
}

var requestMutants = []mutant{
	{
		"the reply loses its headers", "request-reply/reply", "the reply came with the headers",
		publishers(func(p *faultyPublisher) {
			p.request = func(ctx context.Context, msg broker.OutgoingMessage) (broker.IncomingMessage, error) {
				m, err := p.publisher.Request(ctx, msg)
				if err != nil {
					return nil, err
				}
				return headless{m}, nil
			}
		}),
	},
	{"replies go to the requests in the order of asking", "request-reply/correlated", "was resolved by the reply", firstAskedFirstAnswered},
	{"a late reply resolves the next request", "request-reply/late", "was resolved by the reply", lateReplies},
	{
		"a request to nobody gets an empty reply", "request-reply/no-responder", "returned the reply",
		publishers(func(p *faultyPublisher) {
			p.request = func(ctx context.Context, msg broker.OutgoingMessage) (broker.IncomingMessage, error) {
				m, err := p.publisher.Request(ctx, msg)
				if err != nil && ctx.Err() == nil {
					return nothing{}, nil
				}
				return m, err
			}
		}),
	},
	{
		"a request waits for ever", "request-reply/time-limit", "did not return",
		publishers(func(p *faultyPublisher) {
			p.request = func(ctx context.Context, msg broker.OutgoingMessage) (broker.IncomingMessage, error) {
				return p.publisher.Request(context.WithoutCancel(ctx), msg)
			}
		}),
	},
	{
		"a request that waits does not see that the broker was shut down", "request-reply/shutdown", "Request that waited when Shutdown was called answers",
		publishers(func(p *faultyPublisher) {
			p.request = func(ctx context.Context, msg broker.OutgoingMessage) (broker.IncomingMessage, error) {
				m, err := p.publisher.Request(ctx, msg)
				if errors.Is(err, broker.ErrClosed) {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return m, err
			}
		}),
	},
	{
		"a request ignores the options that it does not know", "request-reply/refused", "with options of a foreign type",
		publishers(func(p *faultyPublisher) {
			p.request = func(ctx context.Context, msg broker.OutgoingMessage) (broker.IncomingMessage, error) {
				msg.Options = nil
				return p.publisher.Request(ctx, msg)
			}
		}),
	},
	{
		"a request after Shutdown answers a context error", "request-reply/lifecycle", "Request after Shutdown answers",
		publishers(func(p *faultyPublisher) {
			p.request = func(ctx context.Context, msg broker.OutgoingMessage) (broker.IncomingMessage, error) {
				m, err := p.publisher.Request(ctx, msg)
				if errors.Is(err, broker.ErrClosed) {
					return nil, context.Canceled
				}
				return m, err
			}
		}),
	},
}

// commitOneByOne publishes what the transaction holds one message after the other,
// as long as its context lives and the broker is open.
func commitOneByOne(r *rig) {
	transactions(func(t *faultyTransaction, c *conn) {
		var msgs []broker.OutgoingMessage
		t.publish = func(_ context.Context, msg broker.OutgoingMessage) error {
			msg.Payload = slices.Clone(msg.Payload)
			msgs = append(msgs, msg)
			return nil
		}
		t.commit = func(ctx context.Context) error {
			for _, msg := range msgs {
				time.Sleep(20 * time.Microsecond)
				if err := c.Publisher().Publish(ctx, msg); err != nil {
					return errors.Join(err, t.Transaction.Abort(ctx))
				}
			}
			return t.Transaction.Commit(ctx)
		}
	})(r)
}

// headless has lost its headers.
type headless struct{ broker.IncomingMessage }

func (headless) Headers() broker.Headers { return broker.Headers{} }

// nothing is a reply that nobody sent.
type nothing struct{}

func (nothing) Name() string                     { return "" }
func (nothing) Payload() []byte                  { return nil }
func (nothing) Headers() broker.Headers          { return broker.Headers{} }
func (nothing) Ack(context.Context) error        { return nil }
func (nothing) Nack(context.Context, bool) error { return nil }

// firstAskedFirstAnswered hands each reply to who has waited longest.
func firstAskedFirstAnswered(r *rig) {
	type result struct {
		m   broker.IncomingMessage
		err error
	}
	var mu sync.Mutex
	waiting := make(map[*conn][]chan result)
	publishers(func(p *faultyPublisher) {
		p.request = func(ctx context.Context, msg broker.OutgoingMessage) (broker.IncomingMessage, error) {
			mine := make(chan result, 1)
			mu.Lock()
			waiting[p.on()] = append(waiting[p.on()], mine)
			mu.Unlock()
			m, err := p.publisher.Request(ctx, msg)
			mu.Lock()
			waiting[p.on()][0] <- result{m, err}
			waiting[p.on()] = waiting[p.on()][1:]
			mu.Unlock()
			r := <-mine
			return r.m, r.err
		}
	})(r)
}

// lateReplies has one inbox for all requests of a connection.
func lateReplies(r *rig) {
	type result struct {
		m   broker.IncomingMessage
		err error
	}
	var mu sync.Mutex
	inboxes := make(map[*conn]chan result)
	publishers(func(p *faultyPublisher) {
		p.request = func(ctx context.Context, msg broker.OutgoingMessage) (broker.IncomingMessage, error) {
			mu.Lock()
			inbox := inboxes[p.on()]
			if inbox == nil {
				inbox = make(chan result, 10)
				inboxes[p.on()] = inbox
			}
			mu.Unlock()
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			go func() {
				m, err := p.publisher.Request(context.WithoutCancel(ctx), msg)
				inbox <- result{m, err}
			}()
			select {
			case r := <-inbox:
				return r.m, r.err
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	})(r)
}

// Package brokertest is the conformance kit for brokers: it proves that a broker
// keeps the contract of package broker. It is for the authors of broker modules,
// as testing/slogtest is for the authors of handlers.
//
//	func TestConformance(t *testing.T) {
//		store := memory.NewStore()
//		brokertest.Run(t, brokertest.Harness{
//			New: func() broker.Broker { return memory.New(memory.On(store)) },
//			Source: func(ctx context.Context, id string) (brokertest.Target, error) {
//				return brokertest.Target{Source: broker.ByName(id), Name: id}, nil
//			},
//		})
//	}
//
// The [Harness] says how to reach the system under test. [Run] makes every check
// of [Checks] a subtest, in a fixed order. A failure prints the rule, what was
// seen, and where the rule is written. At the end a table of capabilities,
// properties and results is logged; the [Report] that Run returns has it as
// Markdown, too.
//
// # What a result means
//
// A check that needs a capability, a property or a function of the harness that is
// absent is not applicable: it is skipped with the reason and never counts as
// passed. What is declared must hold: a declared property or capability that does
// not is a failure. What holds and is not declared is shown in the table and is no
// failure, but for settling: a broker whose Properties do not say Redelivers must
// answer errors.ErrUnsupported to every settlement.
//
// Where a source redelivers, a message may be delivered more than once before one
// of its deliveries was settled; the kit allows that everywhere. After Ack returned
// nil it must not come again.
//
// # Isolation
//
// Every check asks the harness for fresh sources and hands it a unique id to build
// their names from, so that the suite can be repeated against one server and two
// suites can run at once. Each check closes what it opened, and an error of that
// is a failure. A watchdog ends a check that hangs, and prints the stacks of the
// goroutines that it started.
package brokertest

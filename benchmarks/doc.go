// Command benchmarks measures gostream against others, in one process, on one
// machine, in one run:
//
//	go run ./benchmarks                    # everything, as a table
//	go run ./benchmarks -only in-process   # one group: in-process, growth, latency, nats, jetstream, kafka
//	go run ./benchmarks -json              # for programs
//	go run ./benchmarks -svg docs/images   # pictures, too
//	go run ./benchmarks -gate              # the goals alone; exit code 1 on a miss
//
// What is compared takes turns: A B C A B C … The first round is thrown away, and
// ratios are taken within a round, so that what else the machine does meets both
// sides. The groups of brokers run on servers in the process, and check that each message
// came once. docs/benchmarks.md has the method and the figures.
package main

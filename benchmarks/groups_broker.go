package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kfake"
)

// The groups of the brokers: the client's own loop, the module alone through the contract,
// the full runtime, and Watermill's module, on one server.

// The names of rows that the gate and the pictures look for.
const (
	rowRaw      = "raw client"
	rowAgain    = "raw client again"
	rowCallback = "raw client, callback"      // of NATS
	rowByPoll   = "raw client, marks by poll" // of Kafka
	rowModule   = "module"
	rowRuntime  = "runtime"
)

// brokerFlight is how many messages are in flight while a loop consumes.
const brokerFlight = 1024

// kafkaFlight is the same where a cluster hands out batches: with few in flight a fetch
// brings one message or many, as it happens, and that is most of what is measured.
const kafkaFlight = 8 * brokerFlight

func consumed(w work) string {
	if w == noop {
		return fmt.Sprintf("consume %d bytes", payloadSize)
	}
	return "consume JSON, decoded"
}

// consuming is a contest of loops. The ledger checks that each message came once.
func consuming(name string, w work, entrants ...entrant) contest {
	return contest{name: name, inFlight: brokerFlight, ledger: &w, entrants: entrants}
}

// publishing is a contest of publishers whose messages are confirmed, so many together.
func publishing(w work, together int, entrants ...entrant) contest {
	c := contest{name: fmt.Sprintf("publish %d bytes, each confirmed", payloadSize), inFlight: together, entrants: entrants}
	if w != noop {
		c.name = fmt.Sprintf("publish JSON, %d together confirmed", together)
	}
	c.traffic = newLedger(w).traffic()
	return c
}

func natsContests(s *natsSite) []contest {
	stub := newStubNATS()
	consume := func(w work, more ...entrant) contest {
		return consuming(consumed(w), w, append([]entrant{
			{name: rowRaw, start: rawCore(s, w)},
			{name: rowModule, start: moduleCore(s, w)},
			{name: rowRuntime, start: runtimeCore(s, w)},
			{name: "watermill", start: millCore(s, w)},
		}, more...)...)
	}
	publish := func(w work, more ...entrant) contest {
		c := contest{name: fmt.Sprintf("publish %d bytes", payloadSize), inFlight: brokerFlight, ledger: &w, entrants: append([]entrant{
			{name: rowRaw, start: corePublish(s, rawCoreSender(s, w))},
			{name: rowModule, start: corePublish(s, moduleCoreSender(s, w))},
			{name: rowRuntime, start: corePublish(s, runtimeCoreSender(s, w))},
		}, more...)}
		if w != noop {
			c.name = "publish JSON"
		}
		return c
	}
	return []contest{
		consume(noop, entrant{name: rowCallback, start: callbackCore(s, noop)}, entrant{name: rowAgain, start: rawCore(s, noop)}),
		consume(jsonIn),
		stubbed(consuming(consumed(noop)+overStub, noop,
			entrant{name: rowRaw, start: rawCore(stub, noop)},
			entrant{name: rowModule, start: moduleCore(stub, noop)},
			entrant{name: rowRuntime, start: runtimeCore(stub, noop)},
			entrant{name: rowCallback, start: callbackCore(stub, noop)},
		)),
		publish(noop, entrant{name: "watermill", start: corePublish(s, millCoreSender(s))}),
		publish(jsonIn),
	}
}

func jetStreamContests(s *natsSite) ([]contest, error) {
	stub, err := newStubJetStream(s)
	if err != nil {
		return nil, err
	}
	consume := func(name string, from store, w work, more ...entrant) contest {
		return consuming(name, w, append([]entrant{
			{name: rowRaw, start: jetStreamWith(from, w, rawMessages)},
			{name: rowModule, start: jetStreamWith(from, w, moduleStream)},
			{name: rowRuntime, start: jetStreamWith(from, w, runtimeStream)},
		}, more...)...)
	}
	mills := func(w work) []entrant {
		return []entrant{
			{name: "watermill", start: millStream(s, w)},
			{name: "watermill, jetstream beta", start: jetStreamWith(s, w, millJetStream)},
		}
	}
	publish := func(w work, together int, more ...entrant) contest {
		return publishing(w, together, append([]entrant{
			{name: rowRaw, start: streamPublish(s, rawStreamSender(w))},
			{name: rowModule, start: streamPublish(s, moduleStreamSender(w))},
			{name: rowRuntime, start: streamPublish(s, runtimeStreamSender(w))},
		}, more...)...)
	}
	return []contest{
		consume(consumed(noop), s, noop, append(mills(noop),
			entrant{name: rowCallback, start: jetStreamWith(s, noop, rawConsume)},
			entrant{name: rowAgain, start: jetStreamWith(s, noop, rawMessages)})...),
		consume(consumed(jsonIn), s, jsonIn, mills(jsonIn)...),
		stubbed(consume(consumed(noop)+overStub, stub, noop,
			entrant{name: rowCallback, start: jetStreamWith(stub, noop, rawConsume)})),
		publish(noop, 1, entrant{name: "watermill, jetstream beta", start: streamPublish(s, millStreamSender)}),
		publish(jsonIn, batchSize),
	}, nil
}

func kafkaContests(s, synthetic *kafkaSite) []contest {
	consume := func(w work, more ...entrant) contest {
		c := consuming(consumed(w), w, append([]entrant{
			{name: rowRaw, start: kafkaWith(s, w, rawKafka)},
			{name: rowModule, start: kafkaWith(s, w, moduleKafka)},
			{name: rowRuntime, start: kafkaWith(s, w, runtimeKafka)},
			{name: "watermill", start: kafkaWith(s, w, millKafka)},
		}, more...)...)
		c.inFlight = kafkaFlight
		return c
	}
	publish := func(w work, together int, more ...entrant) contest {
		return publishing(w, together, append([]entrant{
			{name: rowRaw, start: kafkaPublish(s, rawKafkaSender(w))},
			{name: rowModule, start: kafkaPublish(s, moduleKafkaSender(w))},
			{name: rowRuntime, start: kafkaPublish(s, runtimeKafkaSender(w))},
		}, more...)...)
	}
	stub := contest{name: consumed(noop) + ", over a stub", inFlight: brokerFlight, entrants: []entrant{
		{name: rowRaw, start: syntheticWith(synthetic, rawKafka)},
		{name: rowModule, start: syntheticWith(synthetic, moduleKafka)},
		{name: rowRuntime, start: syntheticWith(synthetic, runtimeKafka)},
		{name: rowByPoll, start: syntheticWith(synthetic, rawKafkaByPoll)},
	}}
	return []contest{
		consume(noop, entrant{name: rowByPoll, start: kafkaWith(s, noop, rawKafkaByPoll)}, entrant{name: rowAgain, start: kafkaWith(s, noop, rawKafka)}),
		consume(jsonIn),
		stubbed(stub),
		publish(noop, 1, entrant{name: "watermill", start: kafkaPublish(s, millKafkaSender)}),
		publish(jsonIn, batchSize),
	}
}

// stubbed marks a contest that has no server: what it takes is the client's own.
func stubbed(c contest) contest {
	c.stub = true
	return c
}

// syntheticCluster is the stub of Kafka.
func syntheticCluster() (*kafkaSite, error) {
	return openKafka("", kfake.SyntheticFetch(kfake.SyntheticBatch{RecordBytes: payloadSize}))
}

func natsGroup(ctx context.Context, s settings) ([]Case, error) { return onServer(ctx, s, natsArena) }

func jetStreamGroup(ctx context.Context, s settings) ([]Case, error) {
	return onServer(ctx, s, jetStreamArena)
}

func kafkaGroup(ctx context.Context, s settings) ([]Case, error) { return onServer(ctx, s, kafkaArena) }

// arena is a server that runs, with the contests on it.
type arena struct {
	where    string
	contests []contest
	close    func() error
}

func natsArena(s settings) (arena, error) {
	site, err := openNATS(s.nats)
	if err != nil {
		return arena{}, err
	}
	return arena{site.where(), natsContests(site), site.close}, nil
}

func jetStreamArena(s settings) (arena, error) {
	site, err := openNATS(s.nats)
	if err != nil {
		return arena{}, err
	}
	contests, err := jetStreamContests(site)
	if err != nil {
		return arena{}, errors.Join(err, site.close())
	}
	return arena{site.where(), contests, site.close}, nil
}

func kafkaArena(s settings) (arena, error) {
	site, err := openKafka(s.kafka)
	if err != nil {
		return arena{}, err
	}
	synthetic, err := syntheticCluster()
	if err != nil {
		site.close()
		return arena{}, err
	}
	return arena{site.where(), kafkaContests(site, synthetic), func() error {
		site.close()
		synthetic.close()
		return nil
	}}, nil
}

// onServer runs the contests of an arena that choose takes, all without it, and relates
// those over a stub to the others.
func onServer(ctx context.Context, s settings, open func(settings) (arena, error), choose ...func(*contest) bool) (cases []Case, err error) {
	a, err := open(s)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	var contests []contest
	for _, c := range a.contests {
		c.level = true
		if len(choose) == 0 || choose[0](&c) {
			contests = append(contests, c)
		}
	}
	if cases, err = runAll(ctx, s, contests); err != nil {
		return nil, err
	}
	for i := range cases {
		if !contests[i].stub {
			cases[i].Server = a.where
		}
	}
	relate(cases)
	return cases, nil
}

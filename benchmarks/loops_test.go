package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
)

// brokerContests are the contests of the three groups, on servers that end with the test.
func brokerContests(t testing.TB) map[string][]contest {
	t.Helper()
	site, err := openNATS("")
	if err != nil {
		t.Fatal(err)
	}
	streams, err := jetStreamContests(site)
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := openKafka("")
	if err != nil {
		t.Fatal(err)
	}
	synthetic, err := syntheticCluster()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := site.close(); err != nil {
			t.Error(err)
		}
		cluster.close()
		synthetic.close()
	})
	return map[string][]contest{
		"nats": natsContests(site), "jetstream": streams, "kafka": kafkaContests(cluster, synthetic),
	}
}

// begin starts an entrant as a contest does.
func begin(t testing.TB, c contest, e entrant) *runner {
	t.Helper()
	r := &runner{name: e.name, flight: newFlight(c.inFlight)}
	p, load := r.flight.probe(), c.traffic
	if c.ledger != nil {
		r.ledger = newLedger(*c.ledger)
		p, load = r.ledger.probe(r.flight), r.ledger.traffic()
	}
	var err error
	if r.rig, err = e.start(p, load); err != nil {
		t.Fatal(err)
	}
	return r
}

// Every loop and publisher moves messages on an embedded server, more of them than are in
// flight at once, and stops with all of them accounted for.
func TestEveryBrokerEntrant(t *testing.T) {
	t.Parallel()
	for group, contests := range brokerContests(t) {
		for _, c := range contests {
			for _, e := range c.entrants {
				t.Run(group+"/"+c.name+"/"+e.name, func(t *testing.T) {
					r := begin(t, c, e)
					for _, r.count = range []int{1, c.inFlight + c.inFlight/2 + 1, 3} {
						err := r.ready(t.Context())
						if err == nil {
							err = r.pass(t.Context())
						}
						if err != nil {
							t.Error(err)
							break
						}
					}
					if err := r.rig.stop(); err != nil {
						t.Errorf("stop: %v", err)
					}
				})
			}
		}
	}
}

// A run of a whole group, from the flags to the report.
func TestRunOfABroker(t *testing.T) {
	t.Parallel()
	cases, err := natsGroup(t.Context(), settings{rounds: minRounds, sample: time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	if got := cases[0]; got.Server == "" || len(got.Notes) != 1 || !strings.Contains(got.Notes[0], "over a stub") {
		t.Errorf("%s: on %q, notes %q", got.Name, got.Server, got.Notes)
	}
	for _, c := range cases {
		if !strings.HasSuffix(c.Name, overStub) {
			continue
		}
		if r, ok := c.row(rowRuntime); !ok || r.Added == nil || r.AddedShare == nil {
			t.Errorf("%s: %+v", c.Name, r)
		}
	}
}

// faulty makes rigs whose feed does something else with the third message.
func faulty(with func(send func(int) error, i int) error) func(probe, traffic) (*rig, error) {
	return func(p probe, t traffic) (*rig, error) {
		send := func(i int) error { p.raw(t.payload(i)); return nil }
		return &rig{send: func(i int) error {
			if i == 2 {
				return with(send, i)
			}
			return send(i)
		}, stop: func() error { return nil }}, nil
	}
}

// A loop that loses, repeats or spoils a message does not get a figure.
func TestABrokenLoopIsFound(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		start func(probe, traffic) (*rig, error)
		want  string
	}{
		{"one is lost", func(p probe, t traffic) (*rig, error) {
			return faulty(func(func(int) error, int) error { t.payload(0); return nil })(p, t)
		}, "of 8 messages 7 were handled"},
		{"one comes twice, another is lost", func(p probe, t traffic) (*rig, error) {
			return faulty(func(func(int) error, int) error {
				data := append([]byte(nil), t.payload(0)...)
				data[7] = 1 // that of the first
				p.raw(data)
				return nil
			})(p, t)
		}, "some came twice"},
		{"one is cut short", func(p probe, t traffic) (*rig, error) {
			return faulty(func(func(int) error, int) error { p.raw(t.payload(0)[:9]); return nil })(p, t)
		}, "it has 9 bytes"},
		{"one more comes", func(p probe, t traffic) (*rig, error) {
			return faulty(func(send func(int) error, i int) error { p.raw(make([]byte, payloadSize)); return send(i) })(p, t)
		}, "8 messages were sent, 9 were handled"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := noop
			r := begin(t, contest{inFlight: 64, ledger: &w}, entrant{start: tt.start})
			r.count = 8
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			if err := r.pass(ctx); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// A loop that handles everything and does not acknowledge is found at the end.
func TestALoopThatDoesNotAcknowledgeIsFound(t *testing.T) {
	t.Parallel()
	site, err := openNATS("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := site.close(); err != nil {
			t.Error(err)
		}
	})
	stub, err := newStubJetStream(site)
	if err != nil {
		t.Fatal(err)
	}
	stub.patience = 50 * time.Millisecond
	start := jetStreamWith(stub, noop, func(nc *natsgo.Conn, stream string, _ work, p probe) (func() error, error) {
		consumer, err := rawConsumer(nc, stream)
		if err != nil {
			return nil, err
		}
		it, err := consumer.Messages()
		if err != nil {
			return nil, err
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for n := 0; ; n++ {
				m, err := it.Next()
				if err != nil {
					return
				}
				if p.raw(m.Data()); n == 0 {
					continue
				}
				if err := m.Ack(); err != nil {
					return
				}
			}
		}()
		return func() error { it.Stop(); <-ended; return nil }, nil
	})
	w := noop
	r := begin(t, contest{inFlight: 64, ledger: &w}, entrant{start: start})
	r.count = 100
	if err := errors.Join(r.ready(t.Context()), r.pass(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := r.rig.stop(); err == nil || !strings.Contains(err.Error(), "delivered 100 messages, 99 were acknowledged") {
		t.Errorf("a message that is not acknowledged: %v", err)
	}
}

// What the stub says while a loop waits for its turn is understood by all.
func TestHeartbeatsOfTheStub(t *testing.T) {
	t.Parallel()
	site, err := openNATS("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := site.close(); err != nil {
			t.Error(err)
		}
	})
	stub, err := newStubJetStream(site)
	if err != nil {
		t.Fatal(err)
	}
	stub.patience = 5 * time.Second
	w := noop
	for name, run := range map[string]streamLoop{
		rowRaw: rawMessages, rowCallback: rawConsume, rowModule: moduleStream, rowRuntime: runtimeStream,
	} {
		r := begin(t, contest{inFlight: 64, ledger: &w}, entrant{name: name, start: jetStreamWith(stub, noop, run)})
		r.count = 100
		err := errors.Join(r.ready(t.Context()), r.pass(t.Context()))
		stub.mu.Lock()
		c := stub.conns[stub.stream]
		stub.mu.Unlock()
		for i := 0; i < 3 && err == nil; i++ {
			c.heartbeat()
			err = r.pass(t.Context())
		}
		if err := errors.Join(err, r.rig.stop()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The stub delivers no more than is asked for, and wakes who has forgotten to ask.
func TestTheStubDeliversWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	stub := newStubNATS()
	stub.stream = "S"
	c := &stubConn{stub: stub, subs: make(map[string]string)}
	c.readable.L = &c.mu
	const request = `{"batch":2,"expires":30000000000}`
	var n uint64
	_, err := fmt.Fprintf(c, "SUB in 7\r\nPUB $JS.API.CONSUMER.MSG.NEXT.S.loop in %d\r\n%s\r\n", len(request), request)
	if err = errors.Join(err, c.grant(5, func() uint64 { n++; return n })); err != nil {
		t.Fatal(err)
	}
	read := func() string {
		buf := make([]byte, 1<<16)
		n, err := c.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
	if got := strings.Count(read(), "MSG S 7 $JS.ACK.S."); got != 2 {
		t.Errorf("%d messages came, 2 were asked for", got)
	}
	if c.heartbeat(); !strings.HasPrefix(read(), "HMSG in 7 ") || c.acked != 0 {
		t.Error("no sign of life")
	}
	if c.heartbeat(); !strings.Contains(read(), "408 Request Timeout") {
		t.Error("3 messages wait, nobody asks, and the request has not run out")
	}
	_, err = fmt.Fprintf(c, "PUB $JS.API.CONSUMER.MSG.NEXT.S.loop in %d\r\n%s\r\n", len(request), request)
	if got := strings.Count(read(), "MSG S 7 "); err != nil || got != 2 {
		t.Errorf("%d messages came, 2 more were asked for: %v", got, err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// BenchmarkLoops is for profiles: one loop of a broker.
func BenchmarkLoops(b *testing.B) {
	all := brokerContests(b)
	for _, group := range []string{"nats", "jetstream", "kafka"} {
		for _, c := range all[group] {
			for _, e := range c.entrants {
				b.Run(group+"/"+c.name+"/"+e.name, func(b *testing.B) {
					r := begin(b, c, e)
					r.count = b.N
					if err := r.ready(b.Context()); err != nil {
						b.Fatal(err)
					}
					b.ReportAllocs()
					b.ResetTimer()
					if err := r.pass(b.Context()); err != nil {
						b.Error(err)
					}
					b.StopTimer()
					if err := r.rig.stop(); err != nil {
						b.Error(err)
					}
				})
			}
		}
	}
}

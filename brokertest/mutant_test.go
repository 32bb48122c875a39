package brokertest_test

import (
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokertest"
)

// mutant is a broker with one fault, and the check that must find it.
type mutant struct {
	fault string // one sentence
	check string // that must fail
	seen  string // a part of what it must have seen, so that it fails for this reason
	make  func(*rig)
}

// family is the mutants of one broker.
type family struct {
	of      string
	make    func(*rig) // before the fault
	mutants []mutant
}

// families are all mutants.
func families() []family {
	return []family{
		{"memory", func(*rig) {}, slices.Concat(
			publishMutants, settlementMutants, orderMutants, lifecycleMutants, concurrencyMutants, batchMutants,
			transactionMutants, requestMutants, describeMutants,
		)},
		{"a transport without acknowledgements", unacknowledged, unacknowledgedMutants},
		{"a broker with keys in a header", keysInHeader, keyMutants},
		{"a broker whose connection can be cut", remotely(func(*remoteRig) {}), remoteMutants},
	}
}

// TestMain allows more tests at once than there are processors: most of a check of a
// mutant is waiting for what does not come.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", "12"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// TestMutants shows that the kit can fail: each mutant is killed by the check that
// names its rule, and what it is a mutant of passes that check.
func TestMutants(t *testing.T) {
	t.Parallel()
	var sound sync.Map // func() error: what a check says without a fault
	for _, f := range families() {
		for _, m := range f.mutants {
			t.Run(strings.ReplaceAll(m.fault, " ", "_"), func(t *testing.T) {
				t.Parallel()
				once, _ := sound.LoadOrStore(f.of+" "+m.check, sync.OnceValue(func() error {
					r := newRig()
					f.make(r)
					return r.run(t, m.check)
				}))
				if err := once.(func() error)(); err != nil {
					t.Fatalf("%s without the fault: %v", f.of, err)
				}
				r := newRig()
				f.make(r)
				m.make(r)
				m.mustDie(t, r.run(t, m.check))
			})
		}
	}
}

// TestEveryCheckHasAMutant: no check is in the kit that was not seen to fail.
func TestEveryCheckHasAMutant(t *testing.T) {
	t.Parallel()
	killers := make(map[string]bool)
	for _, f := range families() {
		for _, m := range f.mutants {
			killers[m.check] = true
		}
	}
	for _, c := range brokertest.Checks() {
		if !killers[c.Name] {
			t.Errorf("no mutant is killed by %s: %s", c.Name, c.Rule)
		}
	}
}

// mustDie judges what the check said.
func (m *mutant) mustDie(t *testing.T, err error) {
	t.Helper()
	var f *brokertest.Failure
	switch {
	case err == nil:
		t.Fatalf("it survived %s", m.check)
	case !errors.As(err, &f):
		t.Fatalf("%s did not run: %v", m.check, err)
	case !strings.Contains(f.Seen.Error(), m.seen) || m.seen == "":
		t.Fatalf("killed by %s, but not for %q:\n%v", m.check, m.seen, err)
	}
	seen, _, _ := strings.Cut(f.Seen.Error(), "\n")
	t.Logf("killed by %s: %s: %s", m.check, f.Check.Rule, seen)
}

// run runs one check. What the rig's wrappers wait for ends with the test.
func (r *rig) run(t *testing.T, check string) error {
	t.Helper()
	t.Cleanup(func() { close(r.ended) })
	return brokertest.RunCheck(check, r.Harness)
}

// The hooks of a mutant, as its make.

func messages(f func(*faultyMessage)) func(*rig) {
	return func(r *rig) {
		r.message = func(m message) broker.IncomingMessage {
			x := &faultyMessage{message: m}
			f(x)
			return x
		}
	}
}

func leases(f func(*faultyLease)) func(*rig) {
	return func(r *rig) {
		r.leased = func(m leasedMessage) broker.IncomingMessage {
			x := &faultyLease{leasedMessage: m}
			f(x)
			return x
		}
	}
}

func subscriptions(f func(*faultySubscription)) func(*rig) {
	return func(r *rig) {
		r.subscription = func(s subscription) broker.Subscription {
			x := &faultySubscription{subscription: s}
			f(x)
			return x
		}
	}
}

func publishers(f func(*faultyPublisher)) func(*rig) {
	return func(r *rig) {
		r.publisher = func(p publisher) broker.Publisher {
			x := &faultyPublisher{publisher: p}
			f(x)
			return x
		}
	}
}

func transactions(f func(*faultyTransaction, *conn)) func(*rig) {
	return func(r *rig) {
		r.transaction = func(c *conn, t broker.Transaction) broker.Transaction {
			x := &faultyTransaction{Transaction: t}
			f(x, c)
			return x
		}
	}
}

func sources(f func(*faultySource)) func(*rig) {
	return func(r *rig) {
		r.source = func(s source) broker.Source {
			x := &faultySource{source: s}
			f(x)
			return x
		}
	}
}

func brokers(f func(*faultyBroker)) func(*rig) {
	return func(r *rig) {
		r.broker = func(c *conn) client {
			x := &faultyBroker{conn: c}
			f(x)
			return x
		}
	}
}

func declares(f func(*broker.Properties)) func(*rig) {
	return func(r *rig) { r.declare = f }
}

// all makes several faults one.
func all(faults ...func(*rig)) func(*rig) {
	return func(r *rig) {
		for _, f := range faults {
			f(r)
		}
	}
}

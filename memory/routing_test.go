package memory_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

func TestFanOut(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	b, p := connect(t, memory.On(store))
	subs := []broker.Subscription{
		subscribe(t, b, broker.ByName("orders.new")),
		subscribe(t, b, broker.ByName("orders.new")),
		subscribe(t, b, memory.Pattern("orders.*")),
		subscribe(t, b, memory.Pattern(">")),
		subscribe(t, b, memory.Queue("orders.new", "g1")),
		subscribe(t, b, memory.Queue("orders.new", "g2")),
		subscribe(t, b, memory.Queue("orders.>", "g1")),
	}
	stranger := subscribe(t, b, broker.ByName("orders"))
	publish(t, p, "orders.new", "1", "2")
	wantLen(t, store, "orders.new", 2*len(subs))
	for _, sub := range subs {
		for _, m := range expect(t, sub, "1", "2") {
			if m.Name() != "orders.new" {
				t.Errorf("name %q, want the concrete one", m.Name())
			}
			ack(t, m)
		}
		expectNothing(t, sub)
	}
	expectNothing(t, stranger)
	wantLen(t, store, "orders.new", 0)
}

func TestCopiesShareNoBytes(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 64, 65, 1000, 5000} {
		b, p := connect(t)
		subs := []broker.Subscription{subscribe(t, b, broker.ByName("a")), subscribe(t, b, broker.ByName("a"))}
		payload, key := fill(size, 'p'), fill(3, 'k')
		if err := p.Publish(t.Context(), broker.OutgoingMessage{Name: "a", Payload: payload, Key: key}); err != nil {
			t.Fatal(err)
		}
		scribble(payload)
		scribble(key)
		for _, sub := range subs {
			m := receive(t, sub)
			checkBytes(t, m, size)
			scribble(m.Payload())
			k, _ := broker.PartitionKey(m)
			scribble(k)
		}
	}
}

func fill(n int, c byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = c
	}
	return b
}

// scribble does what the owner of bytes may do.
func scribble(b []byte) {
	for i := range b {
		b[i] = '!'
	}
	_ = append(b, '!')
}

// checkBytes checks a message with a payload of size and a key of three bytes.
func checkBytes(t *testing.T, m broker.IncomingMessage, size int) {
	t.Helper()
	if string(m.Payload()) != string(fill(size, 'p')) {
		t.Errorf("the payload of %d bytes was changed by somebody else", size)
	}
	if k, ok := broker.PartitionKey(m); !ok || string(k) != "kkk" {
		t.Errorf("the key was changed by somebody else: %q", k)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	b, p := connect(t)
	sub := subscribe(t, b, broker.ByName("a"))
	for _, want := range [][]byte{nil, {}, []byte("k")} {
		if err := p.Publish(t.Context(), broker.OutgoingMessage{Name: "a", Key: want}); err != nil {
			t.Fatal(err)
		}
		m := receive(t, sub)
		got, ok := broker.PartitionKey(m)
		if !ok || string(got) != string(want) || (got == nil) != (want == nil) {
			t.Errorf("key %#v, want %#v", got, want)
		}
		if len(m.Payload()) != 0 {
			t.Errorf("payload %q, want none", m.Payload())
		}
	}
}

func TestGroupMembersCompete(t *testing.T) {
	t.Parallel()
	b, p := connect(t)
	src := memory.Queue("a.*", "g")
	one, two := subscribe(t, b, src), subscribe(t, b, src)
	publish(t, p, "a.b", "1", "2", "3")
	expect(t, one, "1")
	expect(t, two, "2")
	m := expect(t, one, "3")
	expectNothing(t, two)
	requeue(t, m...)
	expect(t, two, "3")
}

func TestGroupQueueStays(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	b, p := connect(t, memory.On(store))
	src := memory.Queue("a", "g")
	sub := subscribe(t, b, src)
	publish(t, p, "a", "1", "2")
	requeue(t, expect(t, sub, "1")...)
	closeSub(t, sub)
	publish(t, p, "a", "3")

	// It is no backlog: others get nothing of it.
	expectNothing(t, subscribe(t, b, broker.ByName("a")))
	expectNothing(t, subscribe(t, b, memory.Queue("a", "other")))
	shutdown(t, b)

	next, _ := connect(t, memory.On(store))
	expect(t, subscribe(t, next, src), "1", "2", "3")
}

func TestBacklog(t *testing.T) {
	t.Parallel()
	for what, src := range map[string]broker.Source{
		"by name": broker.ByName("a.x"),
		"group":   memory.Queue("a.x", "g"),
		"pattern": memory.Pattern("a.*"),
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			store := memory.NewStore()
			b, p := connect(t, memory.On(store))
			publish(t, p, "a.x", "1", "2")
			publish(t, p, "b", "another name")
			wantLen(t, store, "a.x", 2)
			expectNothing(t, subscribe(t, b, broker.ByName("a.z")))
			sub := subscribe(t, b, src)
			second := subscribe(t, b, broker.ByName("a.x"))
			expectNothing(t, second) // the first took all of it
			publish(t, p, "a.x", "3")
			expect(t, sub, "1", "2", "3")
			expect(t, second, "3")
			expectNothing(t, sub)
			wantLen(t, store, "b", 1)
		})
	}
}

func TestBacklogsComeInPublishOrder(t *testing.T) {
	t.Parallel()
	b, p := connect(t)
	want := numbered("", 40)
	for i, s := range want {
		publish(t, p, fmt.Sprintf("a.%d", i*7%5), s)
	}
	expect(t, subscribe(t, b, memory.Pattern("a.*")), want...)
}

// Nothing is lost of what is published while a subscription takes a backlog over,
// and the order is kept.
func TestPublishingRacesTheFirstSubscription(t *testing.T) {
	t.Parallel()
	for i := range 500 {
		b, p := connect(t)
		want := numbered("", 20)
		var wg sync.WaitGroup
		wg.Go(func() { publish(t, p, "a", want...) })
		src := broker.Source(broker.ByName("a"))
		if i%2 == 0 {
			src = memory.Pattern("*")
		}
		sub := subscribe(t, b, src)
		wg.Wait()
		expect(t, sub, want...)
		expectNothing(t, sub)
	}
}

func TestDetachedQueue(t *testing.T) {
	t.Parallel()
	for _, src := range []broker.Source{broker.ByName("a"), memory.Pattern("a"), memory.Pattern("*")} {
		store := memory.NewStore()
		b, p := connect(t, memory.On(store))
		sub := subscribe(t, b, src)
		publish(t, p, "a", "1", "2", "3", "4")
		out := expect(t, sub, "1", "2")
		requeue(t, out[0])
		closeSub(t, sub)
		publish(t, p, "a", "5") // to the backlog: the queue receives nothing new
		wantLen(t, store, "a", 5)

		// Another identity matches the name, and gets the backlog and nothing else.
		other := subscribe(t, b, memory.Pattern(">"))
		expect(t, other, "5")
		closeSub(t, other)

		heir := subscribe(t, b, src)
		publish(t, p, "a", "6")
		expect(t, heir, "1", "3")
		requeue(t, out[1]) // comes back from the closed subscription
		expect(t, heir, "2", "4", "6")
		expectNothing(t, heir)
	}
}

func TestByNameAndPatternAreOneIdentity(t *testing.T) {
	t.Parallel()
	b, p := connect(t)
	sub := subscribe(t, b, broker.ByName("a"))
	publish(t, p, "a", "1")
	closeSub(t, sub)
	expect(t, subscribe(t, b, memory.Pattern("a").Limit(1)), "1")
}

func TestDetachedQueuesAreAdoptedOldestFirst(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	b, p := connect(t, memory.On(store))
	one, two := subscribe(t, b, broker.ByName("a")), subscribe(t, b, broker.ByName("a"))
	publish(t, p, "a", "1")
	closeSub(t, two)
	publish(t, p, "a", "2")
	closeSub(t, one)

	heir := subscribe(t, b, broker.ByName("a"))
	ack(t, expect(t, heir, "1", "2")...)
	closeSub(t, heir) // the queue is empty now and goes away
	heir = subscribe(t, b, broker.ByName("a"))
	ack(t, expect(t, heir, "1")...)
	expectNothing(t, subscribe(t, b, broker.ByName("a")))
	wantLen(t, store, "a", 0)
}

// A detached queue goes away when the last delivery is settled, and not before.
func TestDetachedQueueWithDeliveriesOut(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	b, p := connect(t, memory.On(store))
	sub := subscribe(t, b, broker.ByName("a"))
	publish(t, p, "a", "1", "2")
	ms := expect(t, sub, "1", "2")
	closeSub(t, sub)
	wantLen(t, store, "a", 2)
	ack(t, ms[0])
	requeue(t, ms[1])
	wantLen(t, store, "a", 1)
	expect(t, subscribe(t, b, broker.ByName("a")), "2")
}

func TestSubscribersComeAndGo(t *testing.T) {
	t.Parallel()
	b, p := connect(t)
	all := subscribe(t, b, memory.Pattern(">"))
	publish(t, p, "a", "1") // the route is known now
	named := subscribe(t, b, broker.ByName("a"))
	publish(t, p, "a", "2")
	pattern := subscribe(t, b, memory.Pattern("*"))
	publish(t, p, "a", "3")
	closeSub(t, named)
	publish(t, p, "a", "4")
	closeSub(t, pattern)
	publish(t, p, "a", "5")
	expect(t, all, "1", "2", "3", "4", "5")
	expect(t, subscribe(t, b, broker.ByName("a")), "2", "3")
	expect(t, subscribe(t, b, memory.Pattern("*")), "3", "4")
}

func TestLen(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	b, p := connect(t, memory.On(store))
	sub := subscribe(t, b, memory.Pattern("a.*"))
	publish(t, p, "a.x", "1", "2", "3", "4")
	publish(t, p, "a.y", "1")
	ms := expect(t, sub, "1", "2", "3")
	wantLen(t, store, "a.x", 4)
	wantLen(t, store, "a.y", 1)
	ack(t, ms[0])
	wantLen(t, store, "a.x", 3)
	requeue(t, ms[1])
	if err := broker.NackAfter(t.Context(), ms[2], 1e18); err != nil {
		t.Fatal(err)
	}
	wantLen(t, store, "a.x", 3)
	closeSub(t, sub)
	wantLen(t, store, "a.x", 3)
	wantLen(t, store, "a.*", 0)
	wantLen(t, store, "nobody", 0)
}

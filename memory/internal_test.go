package memory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/gostream/gostream/broker"
)

func TestHeap(t *testing.T) {
	t.Parallel()
	var h heap[returned]
	var model []uint64
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		for range rnd.IntN(50) {
			n := rnd.Uint64N(1000)
			h.push(returned{&Message{seq: n}})
			model = append(model, n)
		}
		slices.Sort(model)
		for range min(rnd.IntN(60), len(model)) {
			if h.first().m.seq != model[0] || h.pop().m.seq != model[0] {
				t.Fatal("not the smallest")
			}
			model = model[1:]
		}
	}
	for range 1000 {
		h.push(returned{new(Message)})
	}
	for h.len() > 0 {
		h.pop()
	}
	if cap(h.items) > heapKeep {
		t.Errorf("an empty heap keeps %d places", cap(h.items))
	}
}

func TestWaiters(t *testing.T) {
	t.Parallel()
	var l waiters
	ws := []*waiter{newWaiter(), newWaiter(), newWaiter(), newWaiter()}
	for _, w := range ws {
		l.add(w)
		l.add(w)
	}
	if !l.remove(ws[1]) || l.remove(ws[1]) {
		t.Error("remove does not tell whether it was there")
	}
	l.wakeOne()
	if len(ws[0].wake) != 1 || len(ws[2].wake) != 0 {
		t.Error("not the first was woken")
	}
	l.remove(ws[3])
	l.wakeAll()
	l.wakeAll()
	if len(ws[2].wake) != 1 || len(ws[1].wake)+len(ws[3].wake) != 0 || l.head != nil || l.tail != nil {
		t.Error("not the rest was woken")
	}
}

// A message with 64 bytes of data fills a size class of the allocator.
func TestMessageSize(t *testing.T) {
	t.Parallel()
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("the sizes are those of 64-bit systems")
	}
	if got := unsafe.Sizeof(message128{}); got != 288 {
		t.Errorf("a small message has %d bytes, want 288", got)
	}
}

func connectInternal(tb testing.TB, opts ...Option) *Broker {
	b := New(opts...)
	if err := b.Connect(context.Background()); err != nil {
		tb.Fatal(err)
	}
	return b
}

// The cache of routes is bounded, whatever is published.
func TestRouteCacheIsBounded(t *testing.T) {
	t.Parallel()
	b := connectInternal(t)
	st := b.store
	ctx := context.Background()
	sub, err := Pattern(">").Limit(1).Subscribe(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 * routesKept {
		if err := b.Publisher().Publish(ctx, broker.OutgoingMessage{Name: fmt.Sprintf("n.%d", i)}); err != nil {
			t.Fatal(err)
		}
		m, err := sub.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Ack(ctx); err != nil {
			t.Fatal(err)
		}
		if n := len(st.routes); n > routesKept {
			t.Fatalf("%d routes are cached", n)
		}
	}
	if len(st.backlogs) != 0 {
		t.Errorf("%d backlogs", len(st.backlogs))
	}
}

// Nothing is left in the store of what came and went.
func TestStoreForgets(t *testing.T) {
	t.Parallel()
	b := connectInternal(t, Capacity(2))
	st := b.store
	ctx := context.Background()
	p := b.Publisher()
	full, err := b.Subscribe(ctx, "full")
	if err != nil {
		t.Fatal(err)
	}
	for range st.capacity {
		if err := p.Publish(ctx, broker.OutgoingMessage{Name: "full"}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 300 {
		name := fmt.Sprintf("n.%d", i)
		sub, err := b.Subscribe(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Publish(ctx, broker.OutgoingMessage{Name: name}); err != nil {
			t.Fatal(err)
		}
		m, err := sub.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		first, second := func() error { return m.Ack(ctx) }, func() error { return sub.Close(ctx) }
		if i%2 == 0 {
			first, second = second, first
		}
		if err := errors.Join(first(), second()); err != nil {
			t.Fatal(err)
		}

		short, cancel := context.WithCancel(ctx)
		responder, err := Queue("ask", "g").Subscribe(ctx, b)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := broker.Request(short, p, broker.OutgoingMessage{Name: "ask"}); err == nil {
			t.Fatal("a reply from nobody")
		}
		if _, err := broker.Request(ctx, p, broker.OutgoingMessage{Name: name}); err == nil {
			t.Fatal("a reply from nobody")
		}
		if err := responder.Close(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := broker.Request(ctx, p, broker.OutgoingMessage{Name: "ask"}); err == nil {
			t.Fatal("a reply from nobody")
		}

		// A commit that fails leaves no backlog.
		tx, err := broker.Begin(ctx, p)
		if err != nil {
			t.Fatal(err)
		}
		for range st.capacity + 1 {
			if err := tx.Publish(ctx, broker.OutgoingMessage{Name: name + ".never"}); err != nil {
				t.Fatal(err)
			}
		}
		if err := tx.Commit(ctx); err == nil {
			t.Fatal("the commit found room")
		}
		tx, err = broker.Begin(ctx, p)
		if err != nil {
			t.Fatal(err)
		}
		short, cancel = context.WithCancel(ctx)
		if err := errors.Join(
			tx.Publish(ctx, broker.OutgoingMessage{Name: name}),
			tx.Publish(ctx, broker.OutgoingMessage{Name: "full"}),
		); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Microsecond, cancel)
		if err := tx.Commit(short); !errors.Is(err, context.Canceled) {
			t.Fatalf("Commit: %v", err)
		}
	}
	for range st.capacity {
		m, err := full.Receive(ctx)
		if err != nil || m.Ack(ctx) != nil {
			t.Fatal(err)
		}
	}
	if err := full.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if n := len(st.named); n != 1 { // the group's queue
		t.Errorf("%d names have queues", n)
	}
	if n := len(st.detached) + len(st.backlogs) + len(st.patterns) + len(st.inboxes.waiting); n != 0 {
		t.Errorf("%d detached, %d backlogs, %d patterns, %d inboxes", len(st.detached), len(st.backlogs), len(st.patterns), len(st.inboxes.waiting))
	}
	if n := len(b.subs); n != 0 {
		t.Errorf("the broker remembers %d subscriptions", n)
	}
	for _, q := range st.groups {
		if len(q.subs) != 0 || q.attached != 0 || q.timer != nil {
			t.Error("the group's queue remembers its members")
		}
	}
}

// A publisher that found its queue just before it left the routes does not put a
// message where nobody looks.
func TestQueueThatLeftTheRoutes(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := connectInternal(t)
	st := b.store
	leave := func(change func()) {
		t.Helper()
		r := st.resolve("a", true)
		change()
		if r.queues[0].tryPush(newMessage("a", &broker.OutgoingMessage{})) {
			t.Error("a single push was accepted")
		}
		if how, _ := r.put([]*Message{new(Message)}, false, nil); how != outdated {
			t.Errorf("a push was answered with %d", how)
		}
		if !r.stale.Load() {
			t.Error("the route is not stale")
		}
	}
	var sub broker.Subscription
	leave(func() { sub, _ = b.Subscribe(ctx, "a") }) // takes the backlog over
	leave(func() { _ = sub.Close(ctx) })             // idle: the queue goes away
	leave(func() { sub, _ = b.Subscribe(ctx, "a") }) //
	leave(func() { _ = b.Shutdown(ctx) })            //
	if n := len(st.named) + len(st.detached); n != 0 {
		t.Errorf("%d queues are left", n)
	}
}

// A second Shutdown does not return before the first is done.
func TestSecondShutdownWaits(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	b := connectInternal(t)
	sub, err := b.Subscribe(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	q := sub.(*subscription).q
	q.mu.Lock() // holds the first one up
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- b.Shutdown(ctx) }()
	for !b.isClosed() {
		runtime.Gosched()
	}
	go func() { second <- b.Shutdown(ctx) }()
	for range 10_000 {
		runtime.Gosched()
	}
	if len(second) != 0 {
		t.Error("the second Shutdown returned before the first")
	}
	q.mu.Unlock()
	if err := errors.Join(<-first, <-second); err != nil {
		t.Error(err)
	}
}

// Nothing ticks while nobody is attached.
func TestTimerIsStopped(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, end := range []func(b *Broker, sub broker.Subscription) error{
		func(_ *Broker, sub broker.Subscription) error { return sub.Close(ctx) },
		func(b *Broker, _ broker.Subscription) error { return b.Shutdown(ctx) },
	} {
		b := connectInternal(t)
		sub, err := b.Subscribe(ctx, "a")
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Publisher().Publish(ctx, broker.OutgoingMessage{Name: "a"}); err != nil {
			t.Fatal(err)
		}
		m, err := sub.Receive(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := broker.NackAfter(ctx, m, time.Hour); err != nil {
			t.Fatal(err)
		}
		timer := sub.(*subscription).q.timer
		if err := end(b, sub); err != nil {
			t.Fatal(err)
		}
		if timer.Stop() {
			t.Error("the timer runs")
		}
	}
}

// Ten thousand idle subscriptions are cheap.
func TestIdleSubscriptionsAreSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("measures memory")
	}
	b := connectInternal(t)
	ctx := context.Background()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const n = 10_000
	for i := range n {
		if _, err := b.Subscribe(ctx, fmt.Sprintf("names.%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n; each > 1500 {
		t.Errorf("an idle subscription takes %d bytes", each)
	} else {
		t.Logf("an idle subscription takes %d bytes", each)
	}
	if err := b.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
}

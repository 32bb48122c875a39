package gostream_test

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

// rig is an app that handles n messages at each call of run, and waits for them.
type rig struct {
	run  func(n int)
	stop func()
}

// counter tells when n messages have been handled.
type counter struct {
	left int // the handler's
	want chan int
	done chan struct{}
}

func newCounter() *counter {
	return &counter{want: make(chan int, 1), done: make(chan struct{}, 1)}
}

// hit counts one message; one goroutine calls it.
func (c *counter) hit() {
	if c.left == 0 {
		c.left = <-c.want
	}
	c.left--
	if c.left == 0 {
		c.done <- struct{}{}
	}
}

func start(tb testing.TB, app *gostream.App) func() {
	tb.Helper()
	s, err := app.Start(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	return func() {
		if err := s.Shutdown(context.Background()); err != nil {
			tb.Error(err)
		}
	}
}

func pass(next gostream.Next) gostream.Next {
	return func(ctx context.Context, b *gostream.Batch) error { return next(ctx, b) }
}

// dispatchRig handles messages of a stub subscription: dispatch alone.
func dispatchRig(tb testing.TB, handler func(c *counter) gostream.Handler, middleware int) rig {
	t := &tap{msg: &bareMessage{payload: []byte("x")}, more: make(chan int)}
	b := &stubBroker{
		properties: broker.Properties{Redelivers: true},
		subscribe:  func(context.Context, string) (broker.Subscription, error) { return t, nil },
	}
	c := newCounter()
	r := gostream.NewRouter()
	r.Handle("stub", handler(c))
	app := gostream.New("bench", "0", quiet())
	for range middleware {
		app.Use(pass)
	}
	app.Mount(b, r)
	stop := start(tb, app)
	return rig{stop: stop, run: func(n int) {
		c.want <- n
		t.more <- n
		<-c.done
	}}
}

func rawHandler(c *counter) gostream.Handler {
	return gostream.Raw(func(context.Context, *gostream.Delivery) error { c.hit(); return nil })
}

func bytesHandler(c *counter) gostream.Handler {
	return gostream.Consume(func(context.Context, []byte) error { c.hit(); return nil })
}

// parallelCounter is a counter that several goroutines may hit.
type parallelCounter struct {
	left atomic.Int64
	done chan struct{}
}

func (c *parallelCounter) hit(n int) {
	if c.left.Add(int64(-n)) == 0 {
		c.done <- struct{}{}
	}
}

// poolRig handles keyed messages of a stub subscription, with those options.
func poolRig(tb testing.TB, keys int, handler func(c *parallelCounter) gostream.Handler, options ...gostream.HandleOption) rig {
	messages := make([]broker.IncomingMessage, keys)
	for i := range messages {
		messages[i] = &keyedMessage{bareMessage: bareMessage{payload: []byte("x")}, key: strconv.AppendInt(nil, int64(i), 10)}
	}
	t := &keyTap{messages: messages, more: make(chan int)}
	b := &stubBroker{
		properties: broker.Properties{Redelivers: true, Keys: broker.KeysNative},
		subscribe:  func(context.Context, string) (broker.Subscription, error) { return t, nil },
	}
	c := &parallelCounter{done: make(chan struct{}, 1)}
	r := gostream.NewRouter()
	r.Handle("stub", handler(c), options...)
	app := gostream.New("bench", "0", quiet())
	app.Mount(b, r)
	stop := start(tb, app)
	return rig{stop: stop, run: func(n int) {
		c.left.Store(int64(n))
		t.more <- n
		<-c.done
	}}
}

func pooledHandler(c *parallelCounter) gostream.Handler {
	return gostream.Raw(func(context.Context, *gostream.Delivery) error { c.hit(1); return nil })
}

func batchHandler(c *parallelCounter) gostream.Handler {
	return gostream.ConsumeBatch(func(_ context.Context, vs [][]byte) error { c.hit(len(vs)); return nil }, 128, 0)
}

// keyedMessage is a message with a key that costs nothing.
type keyedMessage struct {
	bareMessage
	key []byte
}

func (m *keyedMessage) PartitionKey() []byte { return m.key }

// keyTap is a tap that hands out many messages in turn, also in batches.
type keyTap struct {
	messages []broker.IncomingMessage
	next     int
	left     int
	more     chan int
}

func (t *keyTap) wait(ctx context.Context) error {
	for t.left == 0 {
		select {
		case t.left = <-t.more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (t *keyTap) take() broker.IncomingMessage {
	t.left--
	t.next++
	if t.next == len(t.messages) {
		t.next = 0
	}
	return t.messages[t.next]
}

func (t *keyTap) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	if err := t.wait(ctx); err != nil {
		return nil, err
	}
	return t.take(), nil
}

func (t *keyTap) ReceiveBatch(ctx context.Context, dst []broker.IncomingMessage) (int, error) {
	if err := t.wait(ctx); err != nil {
		return 0, err
	}
	n := min(len(dst), t.left)
	for i := range n {
		dst[i] = t.take()
	}
	return n, nil
}
func (t *keyTap) Close(context.Context) error { return nil }

// memoryRig publishes 64 bytes to memory and handles them.
func memoryRig(tb testing.TB, middleware int) rig {
	mem := memory.New()
	c := newCounter()
	r := gostream.NewRouter()
	r.Handle("in", rawHandler(c))
	app := gostream.New("bench", "0", quiet())
	for range middleware {
		app.Use(pass)
	}
	app.Mount(mem, r)
	pub := app.RawPublisher(mem)
	stop := start(tb, app)
	payload := make([]byte, 64)
	return rig{stop: stop, run: func(n int) {
		c.want <- n
		for range n {
			if err := pub.Publish(context.Background(), broker.OutgoingMessage{Name: "in", Payload: payload}); err != nil {
				tb.Error(err)
				return
			}
		}
		<-c.done
	}}
}

type benchOrder struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
	Cents    int64  `json:"cents"`
}

type benchConfirmation struct {
	Order string `json:"order"`
	Cents int64  `json:"cents"`
}

// replyRig publishes JSON, replies with JSON, and reads the reply.
func replyRig(tb testing.TB) rig {
	mem := memory.New()
	c := newCounter()
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Reply(func(_ context.Context, o benchOrder) (benchConfirmation, error) {
		return benchConfirmation{Order: o.ID, Cents: o.Cents}, nil
	}).To("confirmations"))
	r.Handle("confirmations", gostream.Consume(func(context.Context, benchConfirmation) error { c.hit(); return nil }))
	app := gostream.New("bench", "0", quiet())
	app.Mount(mem, r)
	pub := gostream.NewPublisher[benchOrder](app, mem, "orders")
	stop := start(tb, app)
	return rig{stop: stop, run: func(n int) {
		c.want <- n
		for range n {
			if err := pub.Publish(context.Background(), someOrder); err != nil {
				tb.Error(err)
				return
			}
		}
		<-c.done
	}}
}

var someOrder = benchOrder{ID: "o-1", Customer: "c-1", Cents: 1999}

// jsonAlone does what JSON itself costs in replyRig.
func jsonAlone(tb testing.TB) {
	data, err := json.Marshal(someOrder)
	if err != nil {
		tb.Fatal(err)
	}
	o := new(benchOrder)
	if err := json.Unmarshal(data, o); err != nil {
		tb.Fatal(err)
	}
	if data, err = json.Marshal(benchConfirmation{Order: o.ID, Cents: o.Cents}); err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(data, new(benchConfirmation)); err != nil {
		tb.Fatal(err)
	}
}

// perMessage is the number of allocations for each message.
func perMessage(r rig) float64 {
	const n = 512
	defer r.stop()
	r.run(n) // the queues have grown, the paths are warm
	return testing.AllocsPerRun(20, func() { r.run(n) }) / n
}

// TestAllocations gates what a message may cost. A hundredth is left for what is
// not per message.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	const slack = 0.01
	json := testing.AllocsPerRun(100, func() { jsonAlone(t) })
	t.Logf("JSON's own: %.2f allocations", json)
	for _, tc := range []struct {
		name string
		rig  rig
		max  float64
	}{
		{"dispatch, raw", dispatchRig(t, rawHandler, 0), 1},
		{"dispatch, bytes", dispatchRig(t, bytesHandler, 0), 1},
		{"dispatch, 4 middlewares", dispatchRig(t, rawHandler, 4), 1},
		{"dispatch, 8 workers", poolRig(t, 1, pooledHandler, gostream.Workers(8)), 1},
		{"dispatch, 8 lanes, 10,000 keys", poolRig(t, 10_000, pooledHandler, gostream.Workers(8), gostream.ByKey()), 1},
		{"batches of 128", poolRig(t, 1, batchHandler), 0.1},
		{"memory: publish, handle, ack", memoryRig(t, 0), 2},
		{"memory, 4 middlewares", memoryRig(t, 4), 2},
		{"JSON in, JSON reply out and read", replyRig(t), json + 5},
	} {
		got := perMessage(tc.rig)
		t.Logf("%s: %.2f allocations a message", tc.name, got)
		if got > tc.max+slack {
			t.Errorf("%s: %.2f allocations a message, at most %.2f are allowed", tc.name, got, tc.max)
		}
	}
}

// benchmark runs rig with 64 messages in flight.
func benchmark(b *testing.B, r rig) { benchmarkIn(b, r, 64) }

func benchmarkIn(b *testing.B, r rig, inFlight int) {
	r.run(inFlight)
	b.ReportAllocs()
	b.ResetTimer()
	for left := b.N; left > 0; left -= inFlight {
		r.run(min(left, inFlight))
	}
	b.StopTimer()
	r.stop()
}

func BenchmarkDispatch(b *testing.B) {
	for _, n := range []int{0, 1, 4, 16} {
		b.Run(fmt.Sprintf("middlewares=%d", n), func(b *testing.B) {
			benchmark(b, dispatchRig(b, rawHandler, n))
		})
	}
}

func BenchmarkPool(b *testing.B) {
	for _, tc := range []struct {
		name string
		rig  func() rig
	}{
		{"workers=1", func() rig { return poolRig(b, 10_000, pooledHandler) }},
		{"workers=8", func() rig { return poolRig(b, 10_000, pooledHandler, gostream.Workers(8)) }},
		{"lanes=8", func() rig { return poolRig(b, 10_000, pooledHandler, gostream.Workers(8), gostream.ByKey()) }},
		{"batches=128", func() rig { return poolRig(b, 10_000, batchHandler) }},
	} {
		b.Run(tc.name, func(b *testing.B) { benchmarkIn(b, tc.rig(), 1024) })
	}
}

// BenchmarkKeys shows that the cost of a message does not grow with the number of
// distinct keys.
func BenchmarkKeys(b *testing.B) {
	for _, keys := range []int{1_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			benchmarkIn(b, poolRig(b, keys, pooledHandler, gostream.Workers(64), gostream.ByKey()), 1024)
		})
	}
}

// BenchmarkSubscriptions shows what an idle subscription holds in memory, and that
// the cost of a message does not grow with the number of subscriptions.
func BenchmarkSubscriptions(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("n=%d", n), func(b *testing.B) {
			before := heap()
			mem := memory.New()
			c := newCounter()
			r := gostream.NewRouter()
			for i := range n {
				r.Handle(fmt.Sprintf("in.%d", i), rawHandler(c))
			}
			app := gostream.New("bench", "0", quiet())
			app.Mount(mem, r)
			pub := app.RawPublisher(mem)
			stop := start(b, app)
			held := heap() - before
			names := make([]string, n)
			for i := range names {
				names[i] = fmt.Sprintf("in.%d", i)
			}
			payload := make([]byte, 64)
			i := 0
			one := rig{stop: stop, run: func(k int) {
				for range k {
					c.want <- 1
					i = (i + 7919) % n
					if err := pub.Publish(context.Background(), broker.OutgoingMessage{Name: names[i], Payload: payload}); err != nil {
						b.Error(err)
						return
					}
					<-c.done
				}
			}}
			one.run(2 * n) // every queue and stack has grown
			b.ResetTimer()
			benchmark(b, one)
			b.ReportMetric(float64(held)/float64(n), "B/subscription")
		})
	}
}

// heap is what is in use on the heap and on stacks.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

func BenchmarkMemory(b *testing.B)          { benchmark(b, memoryRig(b, 0)) }
func BenchmarkMemoryJSONReply(b *testing.B) { benchmark(b, replyRig(b)) }
func BenchmarkJSONAlone(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		jsonAlone(b)
	}
}

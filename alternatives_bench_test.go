package gostream_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/internal/ring"
)

// BenchmarkAlternatives compares the building blocks that the runtime is made of with
// those that it is not made of. Each one is the block alone, without the runtime around
// it, but for the timeout. docs/architecture.md has the figures.
func BenchmarkAlternatives(b *testing.B) {
	for _, group := range []struct {
		name string
		of   []alternative
	}{
		{"queue", queueAlternatives()},
		{"workers", workerAlternatives()},
		{"frame", frameAlternatives()},
		{"timeout", timeoutAlternatives()},
	} {
		b.Run(group.name, func(b *testing.B) {
			for _, a := range group.of {
				b.Run(a.name, a.run)
			}
		})
	}
}

type alternative struct {
	name string
	run  func(b *testing.B)
}

// benchTask has the size of what waits in a lane.
type benchTask [5]*int

// benchQueue is a queue of a lane. pop is called only where something is in it.
type benchQueue interface {
	push(t benchTask)
	pop() benchTask
}

// ringQueue is what lane has: a ring under a mutex.
type ringQueue struct {
	mu   sync.Mutex
	ring ring.Ring[benchTask]
}

func (q *ringQueue) push(t benchTask) {
	q.mu.Lock()
	q.ring.Push(t)
	q.mu.Unlock()
}

func (q *ringQueue) pop() benchTask {
	q.mu.Lock()
	t := q.ring.Pop()
	q.mu.Unlock()
	return t
}

// slicesQueue has two slices under a mutex: one is filled, the other emptied, and then
// they are swapped.
type slicesQueue struct {
	mu      sync.Mutex
	in, out []benchTask
	next    int // of out
}

func (q *slicesQueue) push(t benchTask) {
	q.mu.Lock()
	q.in = append(q.in, t)
	q.mu.Unlock()
}

func (q *slicesQueue) pop() benchTask {
	q.mu.Lock()
	if q.next == len(q.out) {
		q.in, q.out, q.next = q.out[:0], q.in, 0
	}
	t := q.out[q.next]
	q.out[q.next] = benchTask{}
	q.next++
	q.mu.Unlock()
	return t
}

type channelQueue chan benchTask

func (q channelQueue) push(t benchTask) { q <- t }
func (q channelQueue) pop() benchTask   { return <-q }

// selectQueue is a channel beside one that ends the waiting.
type selectQueue struct {
	tasks chan benchTask
	done  chan struct{}
}

func (q *selectQueue) push(t benchTask) {
	select {
	case q.tasks <- t:
	case <-q.done:
	}
}

func (q *selectQueue) pop() benchTask {
	select {
	case t := <-q.tasks:
		return t
	case <-q.done:
		return benchTask{}
	}
}

func queueAlternatives() (all []alternative) {
	const size = 1024
	for _, q := range []struct {
		name string
		make func() benchQueue
	}{
		{"ring", func() benchQueue { return new(ringQueue) }},
		{"slices", func() benchQueue { return new(slicesQueue) }},
		{"channel", func() benchQueue { return make(channelQueue, size) }},
		{"select", func() benchQueue { return &selectQueue{make(chan benchTask, size), make(chan struct{})} }},
	} {
		// One goroutine puts 64 in and takes them out.
		all = append(all, alternative{"alone/" + q.name, func(b *testing.B) {
			queue := q.make()
			b.ReportAllocs()
			for left := b.N; left > 0; left -= 64 {
				n := min(left, 64)
				for range n {
					queue.push(benchTask{})
				}
				for range n {
					queue.pop()
				}
			}
		}})
		// As many goroutines as processors do that at once, with one each time.
		all = append(all, alternative{"shared/" + q.name, func(b *testing.B) {
			queue := q.make()
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					queue.push(benchTask{})
					queue.pop()
				}
			})
		}})
	}
	return all
}

// benchSource is a subscription: it hands out as many messages as it is told to.
// receive answers false at its end.
type benchSource struct {
	left int // the receiver's
	more chan int
}

func (s *benchSource) receive() bool {
	for s.left == 0 {
		n, ok := <-s.more
		if !ok {
			return false
		}
		s.left = n
	}
	s.left--
	return true
}

// passRight has the workers take turns in receiving, by a channel.
func passRight(workers int, s *benchSource, handle func()) (wait func()) {
	var wg sync.WaitGroup
	right := make(chan struct{}, 1)
	right <- struct{}{}
	for range workers {
		wg.Go(func() {
			for {
				<-right
				ok := s.receive()
				right <- struct{}{}
				if !ok {
					return
				}
				handle()
			}
		})
	}
	return wg.Wait
}

// passLock is passRight with a mutex as the right: who unlocks it may be the next to
// lock it, while others wait.
func passLock(workers int, s *benchSource, handle func()) (wait func()) {
	var wg sync.WaitGroup
	var right sync.Mutex
	for range workers {
		wg.Go(func() {
			for {
				right.Lock()
				ok := s.receive()
				right.Unlock()
				if !ok {
					return
				}
				handle()
			}
		})
	}
	return wg.Wait
}

// passCond is passLock with a condition variable, on which a goroutine of a synctest
// bubble may wait, as the runtime does.
func passCond(workers int, s *benchSource, handle func()) (wait func()) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	free := sync.NewCond(&mu)
	taken := false
	for range workers {
		wg.Go(func() {
			for {
				mu.Lock()
				for taken {
					free.Wait()
				}
				taken = true
				mu.Unlock()
				ok := s.receive()
				mu.Lock()
				taken = false
				mu.Unlock()
				free.Signal()
				if !ok {
					return
				}
				handle()
			}
		})
	}
	return wg.Wait
}

// oneReceiver has one goroutine receive, and hand each message to a worker.
func oneReceiver(buffer int) func(int, *benchSource, func()) func() {
	return func(workers int, s *benchSource, handle func()) (wait func()) {
		var wg sync.WaitGroup
		messages := make(chan struct{}, buffer)
		wg.Go(func() {
			defer close(messages)
			for s.receive() {
				messages <- struct{}{}
			}
		})
		for range workers {
			wg.Go(func() {
				for range messages {
					handle()
				}
			})
		}
		return wg.Wait
	}
}

func workerAlternatives() (all []alternative) {
	const workers = 8
	for _, load := range []struct {
		name     string
		inFlight int
		work     int // rounds of a loop
	}{
		{"busy", 1024, 0},         // handlers that do nothing
		{"work=1µs", 1024, 700},   // handlers that take about a microsecond
		{"work=10µs", 1024, 7000}, // and ten
		{"idle", 1, 0},            // one message, and the next when it was handled
	} {
		for _, how := range []struct {
			name  string
			start func(int, *benchSource, func()) func()
		}{
			{"right", passRight},
			{"lock", passLock},
			{"cond", passCond},
			{"channel", oneReceiver(0)},
			{"buffered", oneReceiver(64)},
		} {
			all = append(all, alternative{load.name + "/" + how.name, func(b *testing.B) {
				s := &benchSource{more: make(chan int)}
				c := &parallelCounter{done: make(chan struct{}, 1)}
				wait := how.start(workers, s, func() {
					spin(load.work)
					c.hit(1)
				})
				run := func(n int) {
					c.left.Store(int64(n))
					s.more <- n
					<-c.done
				}
				run(load.inFlight)
				b.ReportAllocs()
				b.ResetTimer()
				for left := b.N; left > 0; left -= load.inFlight {
					run(min(left, load.inFlight))
				}
				b.StopTimer()
				close(s.more)
				wait()
			}})
		}
	}
	return all
}

var spun atomic.Uint64

// spin works for n rounds.
func spin(n int) {
	if n == 0 {
		return
	}
	x := uint64(n)
	for range n {
		x = x*6364136223846793005 + 1442695040888963407
	}
	if x == 0 {
		spun.Add(1)
	}
}

// benchDelivery is what a handler's context leads to.
type benchDelivery struct {
	msg     any
	attempt int
}

type benchKey struct{}

// benchFrame is the delivery and the context in one.
type benchFrame struct {
	context.Context
	delivery benchDelivery
}

func (f *benchFrame) Value(key any) any {
	if _, ok := key.(benchKey); ok {
		return &f.delivery
	}
	return f.Context.Value(key)
}

// benchHandler finds the delivery of its context, as a middleware does. It is a
// variable so that what it is given escapes, as to a handler that nobody knows.
var benchHandler = func(ctx context.Context) int { return ctx.Value(benchKey{}).(*benchDelivery).attempt }

func frameAlternatives() []alternative {
	parent, cancel := context.WithCancel(context.Background())
	cancel()
	return []alternative{
		{"one frame", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				benchHandler(&benchFrame{Context: parent, delivery: benchDelivery{msg: b, attempt: 1}})
			}
		}},
		{"context.WithValue", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				benchHandler(context.WithValue(parent, benchKey{}, &benchDelivery{msg: b, attempt: 1}))
			}
		}},
	}
}

// timeoutAlternatives measures the runtime itself: a message with and without Timeout.
func timeoutAlternatives() (all []alternative) {
	for _, d := range []time.Duration{0, time.Minute} {
		name, options := "none", []gostream.HandleOption(nil)
		if d > 0 {
			name, options = fmt.Sprint("Timeout=", d), append(options, gostream.Timeout(d))
		}
		all = append(all, alternative{name, func(b *testing.B) {
			benchmarkIn(b, poolRig(b, 1, pooledHandler, options...), 1024)
		}})
	}
	return all
}

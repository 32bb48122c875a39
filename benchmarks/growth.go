package main

import (
	"context"
	"fmt"
	"runtime"
	"strconv"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

const (
	growthInFlight = 64
	manyKeys       = 1_000_000
	// heldFrom is from how many subscriptions on their memory is measured: with few, most
	// of it is the app's.
	heldFrom = 1000
)

// shape is what a point of a growth case differs in.
type shape struct {
	subscriptions int // 0 is 1
	lanes         int // 0 for one worker, without order by key
	middlewares   int
}

// growth is gostream alone: what a message costs as something grows.
func growth() []contest {
	return []contest{subscriptionGrowth(), laneGrowth(manyKeys), middlewareGrowth(), payloadGrowth()}
}

func subscriptionGrowth() contest {
	c := contest{name: "subscriptions, messages to all in turn", inFlight: growthInFlight, traffic: same()}
	for _, n := range []int{1, 10, 100, 1_000, 10_000} {
		c.entrants = append(c.entrants, entrant{name: strconv.Itoa(n), start: shape{subscriptions: n}.start})
	}
	return c
}

func laneGrowth(keys int) contest {
	all := make([][]byte, keys)
	for i := range all {
		all[i] = strconv.AppendInt(nil, int64(i), 10)
	}
	t := same()
	next := 0
	t.key = func(int) []byte { // goes on where the sample before ended, so that all keys come
		next = (next + 1) % keys
		return all[next]
	}
	c := contest{name: fmt.Sprintf("lanes, order by key, %d keys", keys), inFlight: growthInFlight, traffic: t}
	for _, n := range []int{1, 4, 16, 64} {
		c.entrants = append(c.entrants, entrant{name: strconv.Itoa(n), start: shape{lanes: n}.start})
	}
	return c
}

func middlewareGrowth() contest {
	c := contest{name: "middlewares that do nothing", inFlight: growthInFlight, traffic: same()}
	for _, n := range []int{0, 1, 4, 16} {
		c.entrants = append(c.entrants, entrant{name: strconv.Itoa(n), start: shape{middlewares: n}.start})
	}
	return c
}

func payloadGrowth() contest {
	c := contest{name: "bytes of payload", inFlight: growthInFlight}
	for _, n := range []int{0, 64, 1 << 10, 16 << 10, 256 << 10, 1 << 20} {
		payload := make([]byte, n)
		c.entrants = append(c.entrants, entrant{
			name:    strconv.Itoa(n),
			start:   shape{}.start,
			traffic: &traffic{payload: func(int) []byte { return payload }},
		})
	}
	return c
}

func nothing(next gostream.Next) gostream.Next {
	return func(ctx context.Context, b *gostream.Batch) error { return next(ctx, b) }
}

func (s shape) start(p probe, t traffic) (*rig, error) {
	n := max(s.subscriptions, 1)
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("in.%d", i)
	}
	var options []gostream.HandleOption
	if s.lanes > 0 {
		options = append(options, gostream.Workers(s.lanes), gostream.ByKey())
	}
	before := inUse()
	mem, app, r := memory.New(), newApp(), gostream.NewRouter()
	handler := gostream.Raw(func(_ context.Context, d *gostream.Delivery) error {
		p.raw(d.Payload())
		return nil
	})
	for _, name := range names {
		r.Handle(name, handler, options...)
	}
	for range s.middlewares {
		app.Use(nothing)
	}
	app.Mount(mem, r)
	pub := app.RawPublisher(mem)
	ctx := context.Background()
	at := 0
	started, err := startApp(app, func(i int) error {
		msg := broker.OutgoingMessage{Name: names[at], Payload: t.payload(i)}
		if t.key != nil {
			msg.Key = t.key(i)
		}
		at = (at + 1) % n
		return pub.Publish(ctx, msg)
	})
	if err == nil && s.subscriptions >= heldFrom {
		started.held = (inUse() - before) / float64(n)
	}
	return started, err
}

// inUse is what is in use on the heap and on stacks.
func inUse() float64 {
	runtime.GC()
	runtime.GC() // what the first one only swept
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}

package main

import (
	"encoding/json"
	"fmt"
	"runtime"
)

// Order is what the JSON cases send.
type Order struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
	Cents    int64  `json:"cents"`
}

// Confirmation is what they reply.
type Confirmation struct {
	Order string `json:"order"`
	Cents int64  `json:"cents"`
}

// confirm is the handler's work, the same on all sides.
func confirm(o Order) Confirmation { return Confirmation{Order: o.ID, Cents: o.Cents} }

// work is what a handler does with a message.
type work int

const (
	noop      work = iota // nothing with the payload
	jsonIn                // decode it
	jsonReply             // decode it, publish a reply, read that
)

func (w work) String() string { return [...]string{"no-op", "JSON in", "JSON in, JSON reply read"}[w] }

// same sends the same message each time.
func same() traffic {
	payload := make([]byte, 64)
	return traffic{
		payload: func(int) []byte { return payload },
		order:   func(int) Order { return Order{ID: "o-1", Customer: "c-1", Cents: 1999} },
	}
}

// inProcess is gostream on memory, Watermill and a bare channel.
func inProcess() []contest {
	var all []contest
	for _, w := range []work{noop, jsonIn, jsonReply} {
		for _, n := range []int{1, 64, 1024} {
			all = append(all, peers(w, n, false))
		}
		all = append(all, peers(w, 64, true))
	}
	return all
}

// peers is one contest of the group.
func peers(w work, inFlight int, middleware bool) contest {
	c := contest{name: fmt.Sprintf("%v, %d in flight", w, inFlight), inFlight: inFlight, traffic: same()}
	if middleware {
		c.name += ", 4 middlewares"
	}
	c.entrants = []entrant{
		{name: "gostream", start: gostreamPeer(w, middleware)},
		{name: "watermill", start: watermillPeer(w, middleware, true)},
	}
	if w == noop {
		c.entrants = append(c.entrants, entrant{name: "watermill, no UUIDs", start: watermillPeer(w, middleware, false)})
	} else {
		c.entrants = append(c.entrants, entrant{name: "watermill cqrs", start: cqrsPeer(w, middleware)})
	}
	if !middleware {
		c.entrants = append(c.entrants, entrant{name: "bare channel", start: channelPeer(w)})
	}
	return c
}

// jsonAlone does what JSON itself costs where a reply is read.
func jsonAlone() error {
	data, err := json.Marshal(same().order(0))
	if err != nil {
		return err
	}
	o := new(Order)
	if err := json.Unmarshal(data, o); err != nil {
		return err
	}
	if data, err = json.Marshal(confirm(*o)); err != nil {
		return err
	}
	return json.Unmarshal(data, new(Confirmation))
}

// jsonAllocs is the number of allocations of jsonAlone.
func jsonAllocs() (float64, error) {
	const n = 1000
	if err := jsonAlone(); err != nil { // JSON learns the types
		return 0, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		if err := jsonAlone(); err != nil {
			return 0, err
		}
	}
	runtime.ReadMemStats(&after)
	return float64((after.Mallocs - before.Mallocs) / n), nil // what is not of jsonAlone is less than one
}

package main

import (
	"encoding/json"
	"sync"
)

// channelPeer is the floor: a channel and a goroutine that reads it, nothing else.
// There is nothing to acknowledge and nobody to be recovered.
func channelPeer(w work) func(probe, traffic) (*rig, error) {
	return func(p probe, t traffic) (*rig, error) {
		in, replies := make(chan []byte, buffer), make(chan []byte, buffer)
		var wg sync.WaitGroup
		var failed error // of the goroutine that reads in; read when it has ended
		var unread error // of the one that reads replies
		wg.Go(func() {
			defer close(replies)
			for data := range in {
				switch w {
				case noop:
					p.raw(data)
					continue
				}
				o := new(Order)
				if failed = json.Unmarshal(data, o); failed != nil {
					return
				}
				if w == jsonIn {
					p.order(*o)
					continue
				}
				if data, failed = json.Marshal(confirm(*o)); failed != nil {
					return
				}
				replies <- data
			}
		})
		wg.Go(func() {
			for data := range replies {
				c := new(Confirmation)
				if unread = json.Unmarshal(data, c); unread != nil {
					return
				}
				p.reply(*c)
			}
		})
		return &rig{
			send: func(i int) error {
				if w == noop {
					in <- t.payload(i)
					return nil
				}
				data, err := json.Marshal(t.order(i))
				if err != nil {
					return err
				}
				in <- data
				return nil
			},
			stop: func() error {
				close(in)
				wg.Wait()
				if failed != nil {
					return failed
				}
				return unread
			},
		}, nil
	}
}

package main

import "encoding/json"

// handler is what the raw loops and those of the modules do with a payload: the same as
// the runtime's handlers.
func handler(w work, p probe) func(payload []byte) error {
	if w == noop {
		return func(payload []byte) error {
			p.raw(payload)
			return nil
		}
	}
	return func(payload []byte) error {
		var o Order
		if err := json.Unmarshal(payload, &o); err != nil {
			return err
		}
		p.order(o)
		return nil
	}
}

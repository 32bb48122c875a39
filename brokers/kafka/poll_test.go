package kafka

import (
	"context"
	"testing"
)

// TestBarrier: it waits for what runs, and for nothing that begins after it.
func TestBarrier(t *testing.T) {
	var p poller
	p.init()
	p.barrier() // nothing runs

	began, took := make(chan struct{}), make(chan struct{})
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.run(t.Context(), func(ctx context.Context) {
			close(began)
			<-ctx.Done()
			close(took)
		})
		// The receiver is back at once, for as long as the barrier may take.
		for {
			select {
			case <-stop:
				return
			default:
				p.run(t.Context(), func(context.Context) {})
			}
		}
	}()
	<-began
	p.barrier()
	select {
	case <-took:
	default:
		t.Error("the barrier has not waited for what ran")
	}
	for range 1000 {
		p.barrier()
	}
	close(stop)
	<-ended
}

// TestWakeBreaksOffPollsAlone: what was given back is read to its end.
func TestWakeBreaksOffPollsAlone(t *testing.T) {
	var p poller
	p.init()
	p.run(t.Context(), func(ctx context.Context) {
		p.wake()
		if ctx.Err() != nil {
			t.Error("wake has broken off something else than a poll")
		}
	})
	p.wake() // nothing runs
}

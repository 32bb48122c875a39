package nats

import (
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
)

// consume has p receive n messages, with a time between them, from a server that has
// many and takes a millisecond to send what it is asked for. It returns the most that
// waited or was owed at once.
func consume(p *pull, now *int64, n int, took time.Duration) (most int) {
	const way = int64(time.Millisecond)
	due := *now + way
	arrive := func() {
		for range p.asked {
			p.push(arrival{&natsgo.Msg{}, due})
		}
	}
	for range n {
		if *now >= due {
			arrive()
		}
		if p.buffered() == 0 {
			if p.ask(*now, 0, 1) > 0 {
				due = *now + way
			}
			*now = max(*now, due)
			arrive()
		}
		_, _ = p.pop()
		if p.ask(*now, 1, 1) > 0 {
			due = *now + way
		}
		most = max(most, p.buffered()+p.asked)
		*now += int64(took)
	}
	return most
}

func TestPullWindow(t *testing.T) {
	t.Parallel()
	var now int64
	p := new(pull)
	p.init(&consumer{ackWait: 30 * time.Second}, 16)
	if most := consume(p, &now, 1, 0); most > 0 {
		t.Errorf("asks for %d messages before anything is known", most)
	}
	if most := consume(p, &now, 500, 10*time.Microsecond); most != 16 {
		t.Errorf("received fast, it asks for %d messages ahead, want 16", most)
	}
	consume(p, &now, 20, 10*time.Second)
	if most := consume(p, &now, 20, 10*time.Second); most > 1 {
		t.Errorf("received slowly, it asks for %d messages ahead", most)
	}
	if most := consume(p, &now, 500, 10*time.Microsecond); most != 16 {
		t.Errorf("received fast again, it asks for %d messages ahead", most)
	}
}

func TestPullAsks(t *testing.T) {
	t.Parallel()
	p := new(pull)
	p.init(&consumer{ackWait: 30 * time.Second, maxBatch: 8, maxExpires: 3 * time.Second}, 64)
	if p.expires != 3*time.Second || p.heartbeat != time.Second {
		t.Errorf("a request waits %v, with a sign of life each %v", p.expires, p.heartbeat)
	}
	if n := p.ask(0, 0, 100); n != 8 {
		t.Errorf("a batch asks for %d, the consumer allows 8", n)
	}
	if n := p.ask(0, 0, 100); n != 0 {
		t.Errorf("it asks for %d more while 8 are owed", n)
	}
	p.doubt()
	if n := p.ask(0, 0, 1); n != 0 {
		t.Errorf("in doubt it asks for %d", n)
	}
	p.trust()
	if n := p.ask(0, 0, 1); n == 0 {
		t.Error("nothing is asked for after the doubt")
	}
	p.forgetRequests()
	if n := p.ask(0, 0, 1); n == 0 {
		t.Error("nothing is asked for after the connection was lost")
	}
}

func TestPullQueue(t *testing.T) {
	t.Parallel()
	p := new(pull)
	next, want := int64(0), int64(0)
	for i := range 1000 {
		for range i % 7 {
			p.push(arrival{at: next})
			next++
		}
		for range i % 5 {
			if a, ok := p.pop(); ok {
				if a.at != want {
					t.Fatalf("%d came, want %d", a.at, want)
				}
				want++
			}
		}
	}
	for _, a := range p.reset() {
		if a.at != want {
			t.Fatalf("%d is left, want %d", a.at, want)
		}
		want++
	}
	if want != next {
		t.Errorf("%d came out of %d", want, next)
	}
}

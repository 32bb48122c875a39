package memory_test

import (
	"fmt"
	"testing"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

func TestFirstInFirstOut(t *testing.T) {
	t.Parallel()
	b, p := connect(t)
	sub := subscribe(t, b, broker.ByName("a"))
	// Fill and drain in waves, so that the buffer grows, wraps and shrinks.
	next, want := 0, 0
	for wave := range 50 {
		for range wave * 37 % 1000 {
			publish(t, p, "a", fmt.Sprint(next))
			next++
		}
		for want < next && (wave%3 != 0 || want%2 == 0) {
			ack(t, expect(t, sub, fmt.Sprint(want))...)
			want++
		}
	}
	for ; want < next; want++ {
		ack(t, expect(t, sub, fmt.Sprint(want))...)
	}
	expectNothing(t, sub)
}

func TestRequeuedComesBeforeWhatWasNotReceived(t *testing.T) {
	t.Parallel()
	b, p := connect(t)
	sub := subscribe(t, b, broker.ByName("a"))
	publish(t, p, "a", numbered("", 8)...)
	ms := expect(t, sub, "0", "1", "2", "3", "4")
	requeue(t, ms[3], ms[0], ms[4], ms[2])
	again := expect(t, sub, "0", "2")
	requeue(t, again[0])
	expect(t, sub, "0", "3", "4", "5", "6", "7")
}

func TestNackWithoutRequeue(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	b, p := connect(t, memory.On(store))
	sub := subscribe(t, b, broker.ByName("a"))
	publish(t, p, "a", "1")
	if err := expect(t, sub, "1")[0].Nack(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	expectNothing(t, sub)
	wantLen(t, store, "a", 0)
}

func TestDeliveryCount(t *testing.T) {
	t.Parallel()
	store := memory.NewStore()
	b, p := connect(t, memory.On(store))
	src := memory.Queue("a", "g")
	sub := subscribe(t, b, src)
	publish(t, p, "a", "x")
	for want := 1; want <= 5; want++ {
		m := expect(t, sub, "x")[0]
		if n, ok := broker.DeliveryCount(m); !ok || n != want {
			t.Errorf("delivery count %d, want %d", n, want)
		}
		if want%2 == 1 {
			requeue(t, m)
			continue
		}
		shutdown(t, b) // takes the delivery back
		b, _ = connect(t, memory.On(store))
		sub = subscribe(t, b, src)
	}
}

// A redelivery is another message: what the receiver of the first did to its bytes
// does not show, and the old handle settles nothing.
func TestRedeliveryIsFresh(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 61, 64, 125, 128, 253, 256, 509, 512, 1021, 1024, 1025, 100_000} {
		store := memory.NewStore()
		b, p := connect(t, memory.On(store))
		src := memory.Queue("a", "g")
		sub := subscribe(t, b, src)
		msg := broker.OutgoingMessage{
			Name: "a", Key: []byte("kkk"), Payload: fill(size, 'p'),
			Headers: broker.NewHeaders(broker.Header{Key: "h", Value: "v"}),
		}
		if err := p.Publish(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
		var old []broker.IncomingMessage
		for i := range 4 {
			m := receive(t, sub)
			checkBytes(t, m, size)
			if m.Headers().Get("h") != "v" || m.Headers().Len() != 1 || m.Name() != "a" {
				t.Errorf("the redelivery lacks the name or the headers")
			}
			scribble(m.Payload())
			k, _ := broker.PartitionKey(m)
			if string(k) != "kkk" {
				t.Errorf("appending to the payload changed the key to %q", k)
			}
			scribble(k)
			for _, before := range old {
				if before == m {
					t.Error("a redelivery is the same object")
				}
			}
			old = append(old, m)
			if i < 3 {
				requeue(t, m)
			}
		}
		for _, m := range old[:3] {
			wantError(t, "Ack of an earlier delivery", m.Ack(t.Context()), broker.ErrSettled)
		}
		wantLen(t, store, "a", 1)
		if string(old[0].Payload()) != string(fill(size, '!')) {
			t.Error("the bytes of an earlier delivery were changed")
		}
		shutdown(t, b)
		next, _ := connect(t, memory.On(store))
		checkBytes(t, receive(t, subscribe(t, next, src)), size)
	}
}

package nats_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
)

// A Close is given up while the network swallows everything, and the broker is shut down
// before the server has answered it.
func TestCloseGivenUpThenShutdown(t *testing.T) {
	onServers(t, func(t *testing.T, s *faultServer) {
		for _, cut := range []bool{false, true} {
			t.Run(fmt.Sprintf("cut=%t", cut), func(t *testing.T) {
				t.Parallel()
				name := unique()
				s.stream(t, name)
				p := s.proxy(t)
				b := nats.New(p.Addr(), quick()...)
				told := connectBroker(t, b)
				s.put(t, name+".orders", 1, 1)
				sub := subscribe(t, b, nats.Stream(name+".>", name).Durable("desk"))
				receive(t, sub) // it keeps the subscription from being forgotten
				p.Stall()
				ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
				defer cancel()
				if err := sub.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("a Close that no server answers: %v", err)
				}
				if cut {
					p.CutOnce()
					told.await(t, broker.EventDisconnected, 1)
				}
				time.AfterFunc(100*time.Millisecond, p.Resume)
			})
		}
	})
}

// A member of a queue group that is closed while the connection is lost takes nothing
// more when it is back.
func TestQueueGroupClosedWhileCut(t *testing.T) {
	onServers(t, func(t *testing.T, s *faultServer) {
		subject := unique()
		p := s.proxy(t)
		b := nats.New(p.Addr(), quick()...)
		told := connectBroker(t, b)
		source := nats.Subject(subject).QueueGroup("desk")
		gone := subscribe(t, b, source)
		p.Cut()
		told.await(t, broker.EventDisconnected, 1)
		ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
		defer cancel()
		if err := gone.Close(ctx); err != nil {
			t.Errorf("closing while the connection is lost: %v", err)
		}
		p.Restore()
		told.await(t, broker.EventReconnected, 1)

		other := nats.New(s.url, quick()...)
		connectBroker(t, other)
		sub := subscribe(t, other, source)
		const all = 50
		var msgs []broker.OutgoingMessage
		for i := range all {
			msgs = append(msgs, broker.OutgoingMessage{Name: subject, Payload: []byte(strconv.Itoa(i))})
		}
		if err := broker.PublishBatch(ctx, other.Publisher(), msgs); err != nil {
			t.Fatal(err)
		}
		for i := range all {
			got, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			m, err := sub.Receive(got)
			cancel()
			if err != nil {
				t.Fatalf("message %d of %d: %v", i, all, err)
			}
			if n := number(t, m.Payload()); n != i {
				t.Fatalf("received %d, want %d: the member that was closed still has a share", n, i)
			}
		}
	})
}

// The network swallows everything under a load that fills all buffers. Health and
// Shutdown keep their time.
func TestStalledWithFullBuffers(t *testing.T) {
	onServers(t, func(t *testing.T, s *faultServer) {
		p := s.proxy(t)
		b := nats.New(p.Addr(), quick()...)
		if err := b.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.Stall()
		defer p.Resume()
		load, stop := context.WithTimeout(t.Context(), 20*time.Second)
		defer stop()
		var publishing sync.WaitGroup
		blocked := make(chan struct{})
		publishing.Go(func() {
			payload := bytes.Repeat([]byte("x"), 512<<10)
			var once sync.Once
			for load.Err() == nil {
				watch := time.AfterFunc(300*time.Millisecond, func() { once.Do(func() { close(blocked) }) })
				err := b.Publisher().Publish(load, broker.OutgoingMessage{Name: "void", Payload: payload})
				watch.Stop()
				if errors.Is(err, broker.ErrClosed) || errors.Is(err, natsgo.ErrReconnectBufExceeded) {
					once.Do(func() { close(blocked) })
					return
				}
			}
		})
		closed(t, "that the buffers are full", blocked)

		const limit = 500 * time.Millisecond
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		if err := b.Health(ctx); err == nil {
			t.Error("healthy, though the server takes nothing")
		}
		if took := time.Since(began); took > 4*limit {
			t.Errorf("Health took %v, want %v", took, limit)
		}
		began = time.Now()
		ctx, cancel = context.WithTimeout(t.Context(), limit)
		defer cancel()
		if err := b.Shutdown(ctx); err == nil {
			t.Error("Shutdown says that everything was sent")
		}
		if took := time.Since(began); took > 4*limit {
			t.Errorf("Shutdown took %v, want %v", took, limit)
		}
		publishing.Wait()
	})
}

// The network takes nothing of what is written, and the client, which is locked meanwhile,
// cannot find it out by its pings.
func TestStalledWriteIsGivenUp(t *testing.T) {
	onServers(t, func(t *testing.T, s *faultServer) {
		p := s.proxy(t)
		b := nats.New(p.Addr(), quick(nats.PingInterval(300*time.Millisecond), nats.ReconnectBuffer(1<<20))...)
		told := connectBroker(t, b)
		p.Stall()
		payload := bytes.Repeat([]byte("x"), 512<<10)
		ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
		defer cancel()
		began := time.Now()
		for ctx.Err() == nil && len(told.of(broker.EventDisconnected)) == 0 {
			// An error is that of the connection, or of the buffer.
			_ = b.Publisher().Publish(ctx, broker.OutgoingMessage{Name: "void", Payload: payload})
		}
		if took := time.Since(began); took > 25*time.Second {
			t.Errorf("the connection was given up after %v, want some seconds", took)
		}
		p.Resume()
		told.await(t, broker.EventReconnected, 1)
	})
}

// A Shutdown without a server does not wait for it when nothing is to be sent: what is
// unsettled comes back by itself. It may begin before the client has noticed.
func TestShutdownWithoutAServer(t *testing.T) {
	onServers(t, func(t *testing.T, s *faultServer) {
		name := unique()
		s.stream(t, name)
		s.put(t, name+".orders", 1, 100)
		for round := range 10 {
			p := s.proxy(t)
			b := nats.New(p.Addr(), quick()...)
			told := listen(b)
			if err := b.Connect(t.Context()); err != nil {
				t.Fatal(err)
			}
			sub := subscribe(t, b, nats.Stream(name+".>", name).Durable(fmt.Sprintf("desk%d", round)))
			for range 5 {
				receive(t, sub)
			}
			p.Cut()
			if round%2 == 0 {
				told.await(t, broker.EventDisconnected, 1)
			}
			began := time.Now()
			err := b.Shutdown(context.Background())
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("round %d: Shutdown took %v: %v", round, took, err)
			}
			if round%2 == 0 && err != nil {
				t.Errorf("round %d: Shutdown: %v", round, err)
			}
		}
	})
}

// The connection breaks while Shutdown waits for the server to confirm the
// acknowledgements. There is time for another one.
func TestCutWhileShutdownFlushes(t *testing.T) {
	onServers(t, func(t *testing.T, s *faultServer) {
		name := unique()
		s.stream(t, name)
		s.put(t, name+".orders", 1, 1)
		p := s.proxy(t)
		b := nats.New(p.Addr(), quick()...)
		if err := b.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		sub := subscribe(t, b, nats.Stream(name+".>", name).Durable("desk").AckWait(10*time.Minute))
		m := receive(t, sub)
		if err := sub.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.Stall()
		if err := m.Ack(t.Context()); err != nil {
			t.Fatal(err)
		}
		down := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), faultLimit)
			defer cancel()
			down <- b.Shutdown(ctx)
		}()
		wait := time.NewTimer(200 * time.Millisecond) // Shutdown flushes by now
		<-wait.C
		p.CutOnce()
		p.Resume()
		if err := <-down; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		s.settled(t, name, "desk")
	})
}

// A listener may shut the broker down.
func TestShutdownInAListener(t *testing.T) {
	onServers(t, func(t *testing.T, s *faultServer) {
		p := s.proxy(t)
		b := nats.New(p.Addr(), quick()...)
		ended := make(chan error, 1)
		var once sync.Once
		b.Notify(func(e broker.Event) {
			if e.Kind == broker.EventDisconnected {
				once.Do(func() {
					ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
					defer cancel()
					ended <- b.Shutdown(ctx)
				})
			}
		})
		if err := b.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.CutOnce()
		select {
		case <-ended:
		case <-time.After(faultLimit):
			t.Error("Shutdown hangs in the listener")
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if err := b.Shutdown(ctx); err != nil {
			t.Errorf("another Shutdown: %v", err)
		}
	})
}

// Many more publishes wait for their confirmation than the client takes by default, and
// none comes. Each ends with its own context.
func TestManyPublishesWithoutConfirmation(t *testing.T) {
	onServers(t, func(t *testing.T, s *faultServer) {
		const many = 6000
		name := unique()
		s.stream(t, name)
		p := s.proxy(t)
		b := nats.New(p.Addr(), quick()...)
		connectBroker(t, b)
		pub := b.JetStreamPublisher()
		if err := pub.Publish(t.Context(), broker.OutgoingMessage{Name: name + ".a"}); err != nil {
			t.Fatal(err)
		}
		p.Stall()
		defer p.Resume()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var all sync.WaitGroup
		errs := make([]error, many)
		for i := range many {
			all.Go(func() { errs[i] = pub.Publish(ctx, broker.OutgoingMessage{Name: name + ".a"}) })
		}
		all.Wait()
		for i, err := range errs {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("publish %d: %v", i, err)
			}
		}
	})
}

// A batch whose context ends is not sent to its end.
func TestBatchGivenUp(t *testing.T) {
	onServers(t, func(t *testing.T, s *faultServer) {
		const all = 5000
		name := unique()
		s.stream(t, name)
		p := s.proxy(t)
		b := nats.New(p.Addr(), quick()...)
		connectBroker(t, b)
		p.Stall()
		msgs := make([]broker.OutgoingMessage, all)
		for i := range msgs {
			msgs[i].Name = name + ".a"
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		err := broker.PublishBatch(ctx, b.JetStreamPublisher(), msgs)
		for i, err := range broker.BatchErrors(err, all) {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("message %d: %v", i, err)
			}
		}
		p.Resume()
		if err := b.Health(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), faultLimit)
		defer cancel()
		st, err := s.js.Stream(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if n := st.CachedInfo().State.Msgs; n > all/2 {
			t.Errorf("%d of %d messages were sent, most of them after the context had ended", n, all)
		}
	})
}

// A Subscribe is under way when the connection breaks. It asks again on the next one.
func TestCutWhileSubscribing(t *testing.T) {
	onServers(t, func(t *testing.T, s *faultServer) {
		name := unique()
		s.stream(t, name)
		for what, source := range map[string]broker.Source{
			"core":   nats.Subject(name + ".core"),
			"stream": nats.Stream(name+".>", name).Durable("desk"),
		} {
			t.Run(what, func(t *testing.T) {
				t.Parallel()
				p := s.proxy(t)
				b := nats.New(p.Addr(), quick()...)
				connectBroker(t, b)
				p.Stall()
				subscribed := make(chan error, 1)
				began := time.Now()
				go func() {
					ctx, cancel := context.WithTimeout(context.Background(), faultLimit)
					defer cancel()
					_, err := source.Subscribe(ctx, b)
					subscribed <- err
				}()
				wait := time.NewTimer(200 * time.Millisecond) // the question is on its way by now
				<-wait.C
				p.CutOnce()
				p.Resume()
				if err := <-subscribed; err != nil {
					t.Errorf("Subscribe: %v", err)
				}
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("Subscribe took %v", took)
				}
			})
		}
	})
}

// A batch is cut. It is not said that the client has given up.
func TestCutInACoreBatch(t *testing.T) {
	onServers(t, func(t *testing.T, s *faultServer) {
		p := s.proxy(t)
		b := nats.New(p.Addr(), quick()...)
		connectBroker(t, b)
		p.Stall()
		ended := make(chan error, 1)
		go func() {
			ended <- broker.PublishBatch(context.Background(), b.Publisher(), []broker.OutgoingMessage{{Name: "void"}})
		}()
		wait := time.NewTimer(200 * time.Millisecond)
		<-wait.C
		p.CutOnce()
		p.Resume()
		if err := <-ended; !errors.Is(err, natsgo.ErrDisconnected) || errors.Is(err, broker.ErrNotConnected) {
			t.Errorf("a batch that was cut: %v", err)
		}
	})
}

// The header of a message has room for 64 KiB in a stream.
func TestHeaderTooLargeForAStream(t *testing.T) {
	onServers(t, func(t *testing.T, s *faultServer) {
		name := unique()
		s.stream(t, name)
		b := nats.New(s.url, quick()...)
		connectBroker(t, b)
		err := b.JetStreamPublisher().Publish(t.Context(), broker.OutgoingMessage{
			Name:    name + ".a",
			Headers: broker.NewHeaders(broker.Header{Key: "long", Value: string(bytes.Repeat([]byte("x"), 70_000))}),
		})
		if !errors.Is(err, broker.ErrTooLarge) {
			t.Errorf("a header of 70,000 bytes: %v", err)
		}
	})
}

// With FromConn the prefix of inboxes is the connection's.
func TestReplyToTheInboxOfAConn(t *testing.T) {
	onServers(t, func(t *testing.T, s *faultServer) {
		nc, err := natsgo.Connect(s.url, natsgo.CustomInboxPrefix("boxes"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		b := nats.FromConn(nc)
		connectBroker(t, b)
		inbox := nc.NewInbox()
		arrived, err := nc.SubscribeSync(inbox)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := b.JetStreamPublisher().Publish(ctx, broker.OutgoingMessage{Name: inbox, Payload: []byte("reply")}); err != nil {
			t.Errorf("a reply to the connection's own inbox: %v", err)
		}
		if _, err := arrived.NextMsgWithContext(ctx); err != nil {
			t.Errorf("the reply did not arrive: %v", err)
		}
	})
}

// Where only subscribers of Core NATS listen a confirmed publish fails in time, and says why.
func TestConfirmedPublishWithoutAStream(t *testing.T) {
	onServers(t, func(t *testing.T, s *faultServer) {
		subject := unique()
		b := nats.New(s.url, quick()...)
		connectBroker(t, b)
		subscribe(t, b, nats.Subject(subject))
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		err := b.JetStreamPublisher().Publish(ctx, broker.OutgoingMessage{Name: subject})
		if !errors.Is(err, broker.ErrNotFound) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a publish that nobody can confirm: %v", err)
		}
		err = broker.PublishBatch(ctx, b.JetStreamPublisher(), []broker.OutgoingMessage{{Name: subject}})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a batch after its time: %v", err)
		}
	})
}

package nats_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
	"github.com/gostream/gostream/brokers/nats/embedded"
	"github.com/gostream/gostream/internal/cutproxy"
	"github.com/gostream/gostream/internal/testserver"
)

// faultLimit bounds whatever a fault test waits for. Nothing comes near it, but where
// something is lost.
const faultLimit = 30 * time.Second

// faultServer is a server with a client beside the brokers of the test: on a connection
// that no fault reaches.
type faultServer struct {
	url string
	js  jetstream.JetStream
}

// onServers runs f on a server of this process, and on the one of NATS_URL.
func onServers(t *testing.T, f func(t *testing.T, s *faultServer)) {
	t.Parallel()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		f(t, startServer(t))
	})
	t.Run("NATS_URL", func(t *testing.T) {
		t.Parallel()
		f(t, beside(t, testserver.Address(t, "NATS_URL", "nats://127.0.0.1:4222", "./brokers/nats")))
	})
}

// startServer starts a server whose streams end with the test.
func startServer(t *testing.T) *faultServer {
	t.Helper()
	s, err := embedded.Start(embedded.Config{Memory: true, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return beside(t, s.URL())
}

// beside connects the test's own client.
func beside(t *testing.T, address string) *faultServer {
	t.Helper()
	nc, err := natsgo.Connect(address, natsgo.MaxReconnects(-1), natsgo.ReconnectWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return &faultServer{url: address, js: js}
}

// unique returns a name that no other run uses: for a stream, and for what its subjects
// begin with.
func unique() string { return "fault" + strings.ToLower(rand.Text()) }

// old reports a server before version 2.10.
func (s *faultServer) old() bool {
	return strings.HasPrefix(s.js.Conn().ConnectedServerVersion(), "2.9.")
}

// stream makes a stream of the subjects name.>, which ends with the test.
func (s *faultServer) stream(t *testing.T, name string) {
	t.Helper()
	if err := createStream(t.Context(), s.js, jetstream.StreamConfig{Name: name, Subjects: []string{name + ".>"}}); err != nil {
		t.Fatal(err)
	}
	s.dropAtEnd(t, name)
}

// dropAtEnd deletes the stream at the end of the test, if it is there.
func (s *faultServer) dropAtEnd(t *testing.T, name string) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), faultLimit)
		defer cancel()
		if err := s.js.DeleteStream(ctx, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			t.Errorf("deleting the stream: %v", err)
		}
	})
}

// put publishes the numbers from first to last to the subject, in this order.
func (s *faultServer) put(t *testing.T, subject string, first, last int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
	defer cancel()
	var sent []jetstream.PubAckFuture
	confirmed := func(f jetstream.PubAckFuture) {
		select {
		case <-f.Ok():
		case err := <-f.Err():
			t.Fatal(err)
		case <-ctx.Done():
			t.Fatalf("publishing %d to %d: %v", first, last, ctx.Err())
		}
	}
	const window = 500 // the client takes no more than 4000 that wait
	for n := first; n <= last; n++ {
		f, err := s.js.PublishMsgAsync(&natsgo.Msg{Subject: subject, Data: []byte(strconv.Itoa(n))})
		if err != nil {
			t.Fatal(err)
		}
		if sent = append(sent, f); len(sent) > window {
			confirmed(sent[0])
			sent = sent[1:]
		}
	}
	for _, f := range sent {
		confirmed(f)
	}
}

// consumer asks for the state of a consumer.
func (s *faultServer) consumer(t *testing.T, stream, name string) *jetstream.ConsumerInfo {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
	defer cancel()
	c, err := s.js.Consumer(ctx, stream, name)
	if err != nil {
		t.Fatalf("the consumer %s: %v", name, err)
	}
	return c.CachedInfo()
}

// settled waits until the consumer has nothing left, neither on its way nor in the stream.
func (s *faultServer) settled(t *testing.T, stream, name string) {
	t.Helper()
	until(t, "that everything is acknowledged", func() bool {
		c := s.consumer(t, stream, name)
		return c.NumAckPending == 0 && c.NumPending == 0
	})
}

// proxy puts a bad network before the server.
func (s *faultServer) proxy(t *testing.T) *cutproxy.Proxy {
	t.Helper()
	u, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	p, err := cutproxy.Start(u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// quick are the options of a broker that is to be back soon after a cut.
func quick(more ...nats.Option) []nats.Option {
	return append([]nats.Option{nats.ReconnectWait(20 * time.Millisecond)}, more...)
}

// connectBroker connects a broker, whose events are recorded.
func connectBroker(t *testing.T, b *nats.Broker) *events {
	t.Helper()
	e := listen(b)
	ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
	defer cancel()
	if err := b.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shutdownBroker(t, b) })
	return e
}

func shutdownBroker(t *testing.T, b *nats.Broker) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), faultLimit)
	defer cancel()
	if err := b.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

func subscribe(t *testing.T, b *nats.Broker, src broker.Source) broker.Subscription {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
	defer cancel()
	sub, err := src.Subscribe(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

func receive(t *testing.T, sub broker.Subscription) broker.IncomingMessage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
	defer cancel()
	m, err := sub.Receive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// number is the payload of what put and the publishers publish.
func number(t *testing.T, payload []byte) int {
	n, err := strconv.Atoi(string(payload))
	if err != nil {
		t.Errorf("a payload that nobody published: %q", payload)
	}
	return n
}

// startApp starts an app with one subscription.
func startApp(t *testing.T, b *nats.Broker, src broker.Source, h gostream.Handler, o gostream.Observer) *gostream.Service {
	t.Helper()
	r := gostream.NewRouter()
	r.HandleSource(src, h)
	app := gostream.New("fault", "0", gostream.WithLogger(slog.New(slog.DiscardHandler)))
	app.Mount(b, r)
	app.Observe(o)
	ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
	defer cancel()
	s, err := app.Start(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { shutdownApp(t, s) })
	return s
}

func shutdownApp(t *testing.T, s *gostream.Service) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), faultLimit)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

// until waits for what can only be asked for.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	look := time.NewTicker(2 * time.Millisecond)
	defer look.Stop()
	limit := time.NewTimer(faultLimit)
	defer limit.Stop()
	for !is() {
		select {
		case <-look.C:
		case <-limit.C:
			t.Fatalf("waited %v in vain: %s", faultLimit, what)
		}
	}
}

// closed waits for a channel to be closed.
func closed(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	limit := time.NewTimer(faultLimit)
	defer limit.Stop()
	select {
	case <-c:
	case <-limit.C:
		t.Fatalf("waited %v in vain: %s", faultLimit, what)
	}
}

// events are those of a broker.
type events struct {
	mu  sync.Mutex
	all []broker.Event
}

// listen records the events of b, which is not connected yet.
func listen(b *nats.Broker) *events {
	e := new(events)
	b.Notify(func(event broker.Event) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.all = append(e.all, event)
	})
	return e
}

func (e *events) of(kind broker.EventKind) (found []broker.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, event := range e.all {
		if event.Kind == kind {
			found = append(found, event)
		}
	}
	return found
}

// await waits until n events of the kind were told and returns them.
func (e *events) await(t *testing.T, kind broker.EventKind, n int) []broker.Event {
	t.Helper()
	until(t, fmt.Sprintf("%d times the event %v", n, kind), func() bool { return len(e.of(kind)) >= n })
	return e.of(kind)
}

// holds checks how many messages a stream has.
func (s *faultServer) holds(t *testing.T, stream string, want int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), faultLimit)
	defer cancel()
	st, err := s.js.Stream(ctx, stream)
	if err != nil {
		t.Fatal(err)
	}
	if n := st.CachedInfo().State.Msgs; n != uint64(want) {
		t.Errorf("the stream has %d messages, %d were published: one is lost, or a second publish of one was not recognised", n, want)
	}
}

// flow is what is published to some subjects, 0, 1, 2 … to each of them, and handled. It
// complains of a wrong order.
type flow struct {
	// strict: each subject's first handlings are in order and without a gap. Else the
	// deliveries are in order that the server counts as the first of their message.
	strict bool
	ahead  int // how many messages may be published and not handled; 0 for any number
	// recounts: the server may deliver again, as for the first time, what it had sent
	// last when a connection broke. Those before version 2.10 do.
	recounts bool

	mu       sync.Mutex
	changed  *sync.Cond
	ended    bool // nothing more is published
	subjects map[string]*subjectFlow
	wrong    int

	// All but the retries count messages.
	published, retries           int
	handled, redelivered, reruns int
}

type subjectFlow struct {
	handled []bool
	next    int // what may come first
}

func newFlow(prefix string, subjects int) *flow {
	f := &flow{subjects: make(map[string]*subjectFlow)}
	f.changed = sync.NewCond(&f.mu)
	for i := range subjects {
		f.subjects[prefix+"."+strconv.Itoa(i)] = new(subjectFlow)
	}
	return f
}

// publish publishes most messages, or until end is called, in batches of one message for
// each subject. A batch is sent when the stream has the one before: so the stream has
// the numbers of each subject in their order. What was not confirmed is published
// again, with the same MsgID.
func (f *flow) publish(t *testing.T, p broker.Publisher, most int) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*faultLimit)
	defer cancel()
	defer context.AfterFunc(ctx, f.end)()
	for n := 0; f.mayPublish(most); n++ {
		var batch []broker.OutgoingMessage
		for subject := range f.subjects {
			batch = append(batch, broker.OutgoingMessage{
				Name:    subject,
				Payload: []byte(strconv.Itoa(n)),
				Options: nats.PublishOptions{MsgID: subject + " " + strconv.Itoa(n)},
			})
		}
		for len(batch) > 0 {
			err := broker.PublishBatch(ctx, p, batch)
			if ctx.Err() != nil {
				t.Errorf("publishing number %d: %v", n, err)
				return
			}
			batch = f.accepted(batch, err)
		}
	}
}

func (f *flow) mayPublish(most int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.ahead > 0 && f.published-f.handled > f.ahead && !f.ended {
		f.changed.Wait()
	}
	f.ended = f.ended || f.published >= most
	return !f.ended
}

// accepted counts what was confirmed, and returns the rest.
func (f *flow) accepted(batch []broker.OutgoingMessage, err error) (again []broker.OutgoingMessage) {
	for i, err := range broker.BatchErrors(err, len(batch)) {
		if err != nil {
			again = append(again, batch[i])
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.published += len(batch) - len(again)
	if err != nil {
		f.retries++
	}
	return again
}

// end ends publishing.
func (f *flow) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.changed.Broadcast()
}

// count is how many messages were accepted, and how many were handled.
func (f *flow) count() (published, handled int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.published, f.handled
}

// handle takes a message down.
func (f *flow) handle(t *testing.T, m broker.IncomingMessage) {
	n := number(t, m.Payload())
	deliveries, _ := broker.DeliveryCount(m)
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.subjects[m.Name()]
	switch {
	case s == nil:
		f.complain(t, "nothing was published to %s", m.Name())
		return
	case f.strict && n > s.next:
		f.complain(t, "%s %d was handled before %d (delivery %d)", m.Name(), n, s.next, deliveries)
	case deliveries == 1 && n < s.next && !(f.recounts && n == s.next-1):
		f.complain(t, "%s %d was delivered for the first time after %d (sequence %d)", m.Name(), n, s.next-1, m.(*nats.Message).Sequence())
	}
	if f.strict || deliveries == 1 {
		s.next = max(s.next, n+1)
	}
	if deliveries > 1 {
		f.redelivered++
	}
	for len(s.handled) <= n {
		s.handled = append(s.handled, false)
	}
	if s.handled[n] {
		f.reruns++
		return
	}
	s.handled[n] = true
	f.handled++
	f.changed.Broadcast()
}

// complain reports the first of many mistakes.
func (f *flow) complain(t *testing.T, format string, args ...any) {
	if f.wrong++; f.wrong <= 5 {
		t.Errorf(format, args...)
	}
}

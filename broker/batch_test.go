package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream/broker"
)

// script is a subscription that plays a list of steps: wait, then deliver or fail.
// At the end of the list it waits for the context.
type script struct {
	steps  []step
	calls  int
	closed int
}

type step struct {
	wait time.Duration
	ids  []int // delivered; one at a time unless the receiver is native
	err  error
}

func (s *script) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	var dst [1]broker.IncomingMessage
	if _, err := s.play(ctx, dst[:]); err != nil {
		return nil, err
	}
	return dst[0], nil
}

func (s *script) play(ctx context.Context, dst []broker.IncomingMessage) (int, error) {
	s.calls++
	if len(s.steps) == 0 {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	now := &s.steps[0]
	start := time.Now()
	select {
	case <-time.After(now.wait):
	case <-ctx.Done():
		now.wait -= time.Since(start) // what is arriving arrives later
		return 0, ctx.Err()
	}
	now.wait = 0
	if now.err != nil {
		err := now.err
		s.steps = s.steps[1:]
		return 0, err
	}
	n := 0
	for n < len(dst) && len(now.ids) > 0 {
		dst[n] = bareMessage{id: now.ids[0]}
		now.ids = now.ids[1:]
		n++
	}
	if len(now.ids) == 0 {
		s.steps = s.steps[1:]
	}
	return n, nil
}

func (s *script) Close(context.Context) error {
	s.closed++
	return nil
}

// nativeScript is a script that receives batches.
type nativeScript struct{ *script }

func (s nativeScript) ReceiveBatch(ctx context.Context, dst []broker.IncomingMessage) (int, error) {
	return s.play(ctx, dst)
}

func ids(dst []broker.IncomingMessage) []int {
	got := []int{}
	for _, m := range dst {
		got = append(got, m.(bareMessage).id)
	}
	return got
}

var (
	errCut     = errors.New("cut")
	errTimeout = fmt.Errorf("client: %w", context.DeadlineExceeded)
)

func TestBuffered(t *testing.T) {
	t.Parallel()
	type want struct {
		ids   []int
		err   error
		after time.Duration // since the test began
	}
	const ms = time.Millisecond
	one := func(wait time.Duration, id int) step { return step{wait: wait, ids: []int{id}} }
	for _, tt := range []struct {
		name  string
		wait  time.Duration
		size  int
		end   time.Duration // of the caller's context; 0 for none
		steps []step
		want  []want // one for each call
	}{
		{
			name: "a full batch does not wait", wait: time.Hour, size: 3,
			steps: []step{one(0, 1), one(0, 2), one(0, 3), one(0, 4), one(0, 5), one(0, 6)},
			want:  []want{{ids: []int{1, 2, 3}}, {ids: []int{4, 5, 6}}},
		},
		{
			name: "the wait begins with the first delivery", wait: 50 * ms, size: 4,
			steps: []step{one(time.Second, 1), one(30*ms, 2), one(30*ms, 3)},
			want: []want{
				{ids: []int{1, 2}, after: 1050 * ms},
				{ids: []int{3}, after: 1110 * ms}, // it came at 1060
			},
		},
		{
			name: "wait 0 takes what is there", wait: 0, size: 4,
			steps: []step{one(10*ms, 1), one(0, 2)},
			want:  []want{{ids: []int{1}, after: 10 * ms}, {ids: []int{2}, after: 10 * ms}},
		},
		{
			name: "a negative wait is wait 0", wait: -time.Hour, size: 4,
			steps: []step{one(10*ms, 1), one(0, 2)},
			want:  []want{{ids: []int{1}, after: 10 * ms}, {ids: []int{2}, after: 10 * ms}},
		},
		{
			name: "the end of ctx keeps what was collected", wait: time.Hour, size: 4, end: 100 * ms,
			steps: []step{one(10*ms, 1), one(10*ms, 2), one(time.Second, 3)},
			want: []want{
				{ids: []int{1, 2}, after: 100 * ms},
				{err: context.DeadlineExceeded, after: 100 * ms},
			},
		},
		{
			name: "the end of ctx before the first", wait: time.Hour, size: 4, end: 100 * ms,
			steps: []step{one(time.Second, 1)},
			want:  []want{{err: context.DeadlineExceeded, after: 100 * ms}},
		},
		{
			name: "an error before the first", wait: time.Hour, size: 4,
			steps: []step{{err: errCut}, one(0, 1), {err: broker.ErrClosed}},
			want:  []want{{err: errCut}, {ids: []int{1}}, {err: broker.ErrClosed}},
		},
		{
			name: "an error after the first comes with the next call", wait: 50 * ms, size: 4,
			steps: []step{one(0, 1), {wait: 10 * ms, err: errCut}, one(0, 2)},
			want: []want{
				{ids: []int{1}, after: 10 * ms},
				{err: errCut, after: 10 * ms},
				{ids: []int{2}, after: 60 * ms}, // once, and the stream goes on
			},
		},
		{
			name: "a time limit of the client's own is an error like others", wait: 50 * ms, size: 4,
			steps: []step{one(0, 1), {wait: 10 * ms, err: errTimeout}},
			want:  []want{{ids: []int{1}, after: 10 * ms}, {err: errTimeout, after: 10 * ms}},
		},
	} {
		for _, native := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/native=%v", tt.name, native), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					if tt.end > 0 {
						var cancel context.CancelFunc
						ctx, cancel = context.WithTimeout(ctx, tt.end)
						defer cancel()
					}
					var sub broker.Subscription = &script{steps: slices.Clone(tt.steps)}
					if native {
						sub = nativeScript{sub.(*script)}
					}
					b := broker.Buffered(sub, tt.wait)
					start := time.Now()
					for i, want := range tt.want {
						dst := make([]broker.IncomingMessage, tt.size)
						n, err := broker.ReceiveBatch(ctx, b, dst)
						if got := ids(dst[:n]); !slices.Equal(got, want.ids) || !errors.Is(err, want.err) {
							t.Errorf("call %d: deliveries %v and error %v, want %v and %v", i, got, err, want.ids, want.err)
						}
						if got := time.Since(start); want.after > 0 && got != want.after || want.after == 0 && got != 0 {
							t.Errorf("call %d returned after %v, want %v", i, got, want.after)
						}
					}
				})
			})
		}
	}
}

func TestBufferedFillsFromNativeBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &script{steps: []step{{ids: []int{1, 2}}, {wait: time.Second, ids: []int{3, 4, 5, 6}}, {wait: time.Second, ids: []int{7}}}}
		b := broker.Buffered(nativeScript{s}, 1500*time.Millisecond)
		dst := make([]broker.IncomingMessage, 5)
		n, err := b.ReceiveBatch(t.Context(), dst)
		if got := ids(dst[:n]); err != nil || !slices.Equal(got, []int{1, 2, 3, 4, 5}) {
			t.Errorf("first call: deliveries %v, error %v", got, err)
		}
		if s.calls != 2 {
			t.Errorf("the native receiver was called %d times, want 2", s.calls)
		}
		n, err = b.ReceiveBatch(t.Context(), dst)
		if got := ids(dst[:n]); err != nil || !slices.Equal(got, []int{6, 7}) {
			t.Errorf("second call: deliveries %v, error %v", got, err)
		}
	})
}

// An error that comes when the wait is over is still an error: it would be the
// last word of a subscription that has ended.
func TestBufferedKeepsAnErrorThatComesWithTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := broker.Buffered(&lastWord{}, time.Second)
		dst := make([]broker.IncomingMessage, 2)
		if n, err := b.ReceiveBatch(t.Context(), dst); n != 1 || err != nil {
			t.Fatalf("first call: %d deliveries, error %v", n, err)
		}
		if n, err := b.ReceiveBatch(t.Context(), dst); n != 0 || !errors.Is(err, errCut) {
			t.Errorf("second call: %d deliveries, error %v, want %v", n, err, errCut)
		}
	})
}

// lastWord delivers one message, then fails when the context ends.
type lastWord struct{ said bool }

func (s *lastWord) Receive(ctx context.Context) (broker.IncomingMessage, error) {
	if !s.said {
		s.said = true
		return bareMessage{}, nil
	}
	<-ctx.Done()
	return nil, errCut
}
func (*lastWord) Close(context.Context) error { return nil }

func TestBufferedReceive(t *testing.T) {
	t.Parallel()
	s := &script{steps: []step{{ids: []int{1}}, {err: errCut}, {ids: []int{2}}}}
	b := broker.Buffered(s, time.Hour)
	dst := make([]broker.IncomingMessage, 2)
	if n, err := b.ReceiveBatch(t.Context(), dst); n != 1 || err != nil {
		t.Fatalf("%d deliveries, error %v", n, err)
	}
	if m, err := b.Receive(t.Context()); m != nil || !errors.Is(err, errCut) {
		t.Errorf("Receive answers %v, %v; it owes the error %v", m, err, errCut)
	}
	if m, err := b.Receive(t.Context()); err != nil || m.(bareMessage).id != 2 {
		t.Errorf("Receive answers %v, %v, want the second delivery", m, err)
	}
}

func TestBufferedEmptyDst(t *testing.T) {
	t.Parallel()
	s := &script{steps: []step{{ids: []int{1}}, {err: errCut}}}
	b := broker.Buffered(s, time.Hour)
	for range 2 {
		if n, err := b.ReceiveBatch(t.Context(), nil); n != 0 || err != nil {
			t.Errorf("an empty dst answers %d, %v", n, err)
		}
	}
	if s.calls != 0 {
		t.Errorf("an empty dst asked the subscription %d times", s.calls)
	}
	dst := make([]broker.IncomingMessage, 2)
	if n, err := b.ReceiveBatch(t.Context(), dst); n != 1 || err != nil {
		t.Errorf("%d deliveries, error %v", n, err)
	}
	if n, err := b.ReceiveBatch(t.Context(), nil); n != 0 || err != nil {
		t.Errorf("an empty dst answers %d, %v and swallows an error", n, err)
	}
	if n, err := b.ReceiveBatch(t.Context(), dst); n != 0 || !errors.Is(err, errCut) {
		t.Errorf("%d deliveries, error %v; want %v", n, err, errCut)
	}
}

func TestBufferedHidesNothing(t *testing.T) {
	t.Parallel()
	s := &script{}
	if err := broker.Buffered(s, 0).Close(t.Context()); err != nil || s.closed != 1 {
		t.Errorf("Close answers %v, and the subscription was closed %d times", err, s.closed)
	}

	ctx := callerContext()
	full := broker.Buffered(fullSubscription{}, 0)
	if n, err := broker.Lag(ctx, full); n != 7 || err != nil {
		t.Errorf("Lag answers %d, %v", n, err)
	}
	if tx, err := broker.BeginReceived(ctx, full); tx == nil || err != nil {
		t.Errorf("BeginReceived answers %v, %v", tx, err)
	}
	bare := broker.Buffered(bareSubscription{}, 0)
	if _, err := broker.Lag(ctx, bare); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Lag without the capability answers %v", err)
	}
	if _, err := broker.BeginReceived(ctx, bare); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("BeginReceived without the capability answers %v", err)
	}
}

// recorder publishes one by one and fails where told.
type recorder struct {
	got  []string
	fail map[string]error
	then func(name string)
}

func (r *recorder) Publish(_ context.Context, msg broker.OutgoingMessage) error {
	r.got = append(r.got, msg.Name)
	if r.then != nil {
		r.then(msg.Name)
	}
	return r.fail[msg.Name]
}

func named(names ...string) []broker.OutgoingMessage {
	var msgs []broker.OutgoingMessage
	for _, n := range names {
		msgs = append(msgs, broker.OutgoingMessage{Name: n})
	}
	return msgs
}

func TestPublishBatchOneByOne(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	if err := broker.PublishBatch(t.Context(), r, named("a", "b", "c")); err != nil {
		t.Errorf("without a failure: %v", err)
	}
	if !slices.Equal(r.got, []string{"a", "b", "c"}) {
		t.Errorf("published %q", r.got)
	}
	if err := broker.PublishBatch(t.Context(), r, nil); err != nil {
		t.Errorf("an empty batch: %v", err)
	}
}

func TestPublishBatchOneByOneTriesAll(t *testing.T) {
	t.Parallel()
	tooLarge := &broker.Error{Op: "publish", Broker: "test", Name: "b", Kind: broker.ErrTooLarge}
	r := &recorder{fail: map[string]error{"b": tooLarge, "d": errCut}}
	err := broker.PublishBatch(t.Context(), r, named("a", "b", "c", "d"))
	var be *broker.BatchError
	if !errors.As(err, &be) {
		t.Fatalf("the error is %v, want a *BatchError", err)
	}
	if !slices.Equal(be.Errs, []error{nil, tooLarge, nil, errCut}) {
		t.Errorf("the errors are %v", be.Errs)
	}
	if !slices.Equal(r.got, []string{"a", "b", "c", "d"}) {
		t.Errorf("tried %q", r.got)
	}
	if !errors.Is(err, broker.ErrTooLarge) || !errors.Is(err, errCut) || errors.Is(err, broker.ErrClosed) {
		t.Errorf("errors.Is does not find the failures of %v", err)
	}
	want := `publish a batch: 2 of 4 messages failed, the first at index 1: test: publish "b": message too large`
	if err.Error() != want {
		t.Errorf("the text is %q, want %q", err, want)
	}
}

// When ctx ends the rest fails with its error, also on a publisher that does not
// look at it.
func TestPublishBatchOneByOneStopsWithContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	r := &recorder{then: func(name string) {
		if name == "b" {
			cancel()
		}
	}}
	err := broker.PublishBatch(ctx, r, named("a", "b", "c", "d"))
	if !slices.Equal(r.got, []string{"a", "b"}) {
		t.Errorf("published %q after the context had ended", r.got)
	}
	want := []error{nil, nil, context.Canceled, context.Canceled}
	if got := broker.BatchErrors(err, 4); !slices.Equal(got, want) {
		t.Errorf("the errors are %v, want %v", got, want)
	}
}

func TestBatchErrorText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  *broker.BatchError
		want string
	}{
		{&broker.BatchError{}, "publish a batch: no message failed"},
		{&broker.BatchError{Errs: make([]error, 3)}, "publish a batch: no message failed"},
		{&broker.BatchError{Errs: []error{nil, errCut}}, "publish a batch: 1 of 2 messages failed, the first at index 1: cut"},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("the text is %q, want %q", got, tt.want)
		}
	}
	if got := (&broker.BatchError{Errs: make([]error, 3)}).Unwrap(); len(got) != 0 {
		t.Errorf("without a failure it unwraps to %v", got)
	}
}

func TestBatchErrors(t *testing.T) {
	t.Parallel()
	partly := &broker.BatchError{Errs: []error{nil, errCut}}
	for _, tt := range []struct {
		name string
		err  error
		n    int
		want []error
	}{
		{"success", nil, 2, []error{nil, nil}},
		{"nothing to publish", errCut, 0, []error{}},
		{"some failed", partly, 2, []error{nil, errCut}},
		{"some failed, wrapped", fmt.Errorf("tx: %w", partly), 2, []error{nil, errCut}},
		{"the outcome is unknown", errCut, 2, []error{errCut, errCut}},
		{"a list of another length says nothing", partly, 3, []error{partly, partly, partly}},
	} {
		got := broker.BatchErrors(tt.err, tt.n)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
		if len(got) > 0 {
			got[0] = broker.ErrClosed // the slice is the caller's
		}
	}
	if !slices.Equal(partly.Errs, []error{nil, errCut}) {
		t.Errorf("the caller's change reached the error: %v", partly.Errs)
	}
}

package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/gostream/gostream/broker"
)

func TestMessagesEndsWithClose(t *testing.T) {
	t.Parallel()
	closed := &broker.Error{Op: "receive", Broker: "test", Kind: broker.ErrClosed, Err: errCut}
	for _, end := range []error{broker.ErrClosed, fmt.Errorf("test: %w", broker.ErrClosed), closed} {
		var got []int
		for m, err := range broker.Messages(t.Context(), &script{steps: []step{{ids: []int{1, 2, 3}}, {err: end}}}) {
			if err != nil {
				t.Fatalf("closed by %v: the loop sees the error %v", end, err)
			}
			got = append(got, m.(bareMessage).id)
		}
		if !slices.Equal(got, []int{1, 2, 3}) {
			t.Errorf("closed by %v: received %v", end, got)
		}
	}
}

func TestMessagesYieldsAnErrorOnce(t *testing.T) {
	t.Parallel()
	s := &script{steps: []step{{ids: []int{1}}, {err: errCut}, {ids: []int{2}}, {err: broker.ErrClosed}}}
	var got []int
	var errs []error
	seq := broker.Messages(t.Context(), s)
	collect := func() {
		for m, err := range seq {
			if err != nil {
				if m != nil {
					t.Errorf("the error %v comes with a message", err)
				}
				errs = append(errs, err)
				continue
			}
			got = append(got, m.(bareMessage).id)
		}
	}
	collect()
	if !slices.Equal(got, []int{1}) || !slices.Equal(errs, []error{errCut}) {
		t.Errorf("received %v and the errors %v", got, errs)
	}
	collect() // the same sequence again goes on where the subscription stands
	if !slices.Equal(got, []int{1, 2}) || len(errs) != 1 {
		t.Errorf("after the error received %v and the errors %v", got, errs)
	}
}

func TestMessagesYieldsTheContextsError(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []int
	var errs []error
	for m, err := range broker.Messages(ctx, &script{steps: []step{{ids: []int{1}}}}) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		got = append(got, m.(bareMessage).id)
		cancel()
	}
	if len(got) != 1 || len(errs) != 1 || !errors.Is(errs[0], context.Canceled) {
		t.Errorf("received %v and the errors %v", got, errs)
	}
}

func TestMessagesEarlyBreakLosesNothing(t *testing.T) {
	t.Parallel()
	s := &script{steps: []step{{ids: []int{1, 2, 3, 4}}, {err: broker.ErrClosed}}}
	var got []int
	for m := range broker.Messages(t.Context(), s) {
		got = append(got, m.(bareMessage).id)
		if len(got) == 2 {
			break
		}
	}
	if s.calls != 2 {
		t.Errorf("two deliveries took %d calls of Receive", s.calls)
	}
	m, err := s.Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, m.(bareMessage).id)
	for m := range broker.Messages(t.Context(), s) {
		got = append(got, m.(bareMessage).id)
	}
	if !slices.Equal(got, []int{1, 2, 3, 4}) {
		t.Errorf("received %v", got)
	}
}

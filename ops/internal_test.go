package ops

import (
	"testing"

	"github.com/gostream/gostream"
)

// What the service says corrects a change that was overtaken by another one, unless
// something was told after the service was asked.
func TestOvertakenChange(t *testing.T) {
	t.Parallel()
	app := gostream.New("shop", "1.0.0")
	h, err := New(app)
	if err != nil {
		t.Fatal(err)
	}
	d := new(gostream.Subscription)
	answer := &gostream.Health{Subscriptions: []gostream.SubscriptionHealth{{Subscription: d, State: gostream.StatePaused}}}
	h.onStateChanged(d, gostream.StateDown) // came late
	h.keep(answer, &flight{changes: h.changes})
	if got := h.states[""]; got != gostream.StatePaused {
		t.Errorf("the state is %v, want paused", got)
	}
	f := &flight{changes: h.changes}
	h.onStateChanged(d, gostream.StateRunning) // while the service is asked
	h.keep(answer, f)
	if got := h.states[""]; got != gostream.StateRunning {
		t.Errorf("the state is %v, want running", got)
	}
}

func TestCut(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		s    string
		n    int
		want string
	}{
		{"", 0, ""},
		{"abc", 3, "abc"},
		{"abcd", 3, "abc"},
		{"aé", 2, "a"},
		{"aéb", 3, "aé"},
		{"€", 2, ""},
		{"\x80\x80", 1, ""},
	} {
		if got := cut(tc.s, tc.n); got != tc.want {
			t.Errorf("cut(%q, %d) = %q, want %q", tc.s, tc.n, got, tc.want)
		}
	}
}

package account

import (
	"bytes"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/gostream/gostream/broker"
)

func orders(ids ...string) []broker.OutgoingMessage {
	var msgs []broker.OutgoingMessage
	for _, id := range ids {
		msgs = append(msgs, broker.OutgoingMessage{Headers: broker.Headers{}.WithMessageID(id)})
	}
	return msgs
}

func confirm(c *Counts) { c.Confirmed++ }

// What does not add up is an error.
func TestLedgerCheck(t *testing.T) {
	t.Parallel()
	l := New(orders("1", "2"))
	expect := func(when, want string) {
		t.Helper()
		got := ""
		if err := l.Check(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: the check says %q, want %q", when, got, want)
		}
	}
	l.settle("1", confirm)
	expect("one is missing", "1 of 2 orders are not settled: 2")
	l.settle("2", func(c *Counts) { c.Dead["too late"]++ })
	<-l.Done()
	expect("all are there", "")
	l.settle("2", confirm)
	expect("one came twice", "1 came twice")
	l.settle("3", confirm)
	expect("one came from nowhere", "1 were never read\n1 came twice")
	if c := l.Counts(); c.Confirmed != 1 || !maps.Equal(c.Dead, map[string]int{"too late": 1}) || c.Settled() != 2 {
		t.Errorf("counts: %+v", c)
	}
}

func TestLedgerAtLeastOnce(t *testing.T) {
	t.Parallel()
	l := NewAtLeastOnce(orders("1"))
	l.settle("1", confirm)
	l.settle("1", confirm)
	if c := l.Counts(); c.Confirmed != 1 || c.Repeats != 1 {
		t.Errorf("counts: %+v", c)
	}
	if err := l.Check(); err != nil {
		t.Errorf("one came twice: %v", err)
	}
	l.settle("2", confirm)
	if err := l.Check(); err == nil {
		t.Error("one came from nowhere, and the check says nothing")
	}
}

func TestReportSummary(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		c    Counts
		want string
		not  string
	}{
		{"one run", Counts{Read: 3, Handled: 3, Confirmed: 2, Recovered: 1, Dead: map[string]int{"too late": 1}}, "at the first attempt 1 after retries 1 dead-lettered 1 too late 1 3 read = 2 confirmed + 1 dead-lettered, in 1.0 s", "this run"},
		{"a later run", Counts{Read: 3, Handled: 2, Confirmed: 3, Repeats: 1}, "handled by this run 2 settled a second time 1 3 read = 3 confirmed + 0 dead-lettered", "first attempt"},
		{"unfinished", Counts{Read: 3, Handled: 1, Confirmed: 1}, "not settled 2 3 read ≠ 1 confirmed + 0 dead-lettered", "this run"},
	} {
		var out bytes.Buffer
		(&Report{Out: &out}).Summary(tt.c, time.Second)
		if words := strings.Join(strings.Fields(out.String()), " "); !strings.Contains(words, tt.want) {
			t.Errorf("%s: no %q in\n%s", tt.name, tt.want, out.String())
		}
		if strings.Contains(out.String(), tt.not) {
			t.Errorf("%s: %q in\n%s", tt.name, tt.not, out.String())
		}
	}
}

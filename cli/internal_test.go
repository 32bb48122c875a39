package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

func TestErrorLines(t *testing.T) {
	t.Parallel()
	drain := &gostream.DrainError{
		DrainReport: gostream.DrainReport{Finished: 1, GivenBack: 2, Abandoned: 3, Lost: 4},
		Errs:        []error{errors.Join(errors.New("gostream: a"), errors.New("b"))},
	}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{errors.New("gostream: one\n two\n\n"), "one|two"},
		{errors.Join(errors.New("a"), errors.Join(errors.New("b"), errors.New("c"))), "a|b|c"},
		{drain, "the drain was not clean: 1 finished, 2 given back, 3 abandoned, 4 lost|a|b"},
		{errors.Join(errors.New("why"), drain), "why|the drain was not clean: 1 finished, 2 given back, 3 abandoned, 4 lost|a|b"},
		{errors.New("bell\a \x1b[31mred\u202e"), `bell\a \x1b[31mred\u202e`},
		{errors.New(""), "an error without a text (*errors.errorString)"},
	} {
		if got := strings.Join(errorLines(tt.err), "|"); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.err, got, tt.want)
		}
	}
	var plain, coloured bytes.Buffer
	err := errors.Join(errors.New("a"), errors.New("b"))
	drawError(&plain, false, err)
	drawError(&coloured, true, err)
	if plain.String() != "error: a\n  - b\n" || coloured.String() != "\x1b[1;31merror:\x1b[0m a\n  \x1b[1;31m-\x1b[0m b\n" {
		t.Errorf("drawn %q and %q", plain.String(), coloured.String())
	}
}

func TestFill(t *testing.T) {
	t.Parallel()
	word := strings.Repeat("ä", 30)
	for _, tt := range []struct{ head, text, want string }{
		{"  a ", "b", "  a   b\n"},
		{"  long head ", "b", "  long head b\n"},
		{"  a ", "", "  a\n"},
		{"", word + " " + word + " " + word + " " + word, "      " + word + " " + word + " " + word + "\n      " + word + "\n"},
		{"", strings.Repeat("x", 120) + " y", "      " + strings.Repeat("x", 120) + "\n      y\n"},
	} {
		var b bytes.Buffer
		fill(&b, 6, tt.head, tt.text)
		if b.String() != tt.want {
			t.Errorf("%q, %q: %q, want %q", tt.head, tt.text, b.String(), tt.want)
		}
	}
}

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"ops", "ops", 0}, {"ops", "opps", 1}, {"limit", "lmit", 1}, {"rate", "rota", 2}, {"", "abc", 3}, {"kitten", "sitting", 3}} {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("%q and %q: %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestParseRate(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"": 0, "50/s": 20 * time.Millisecond, "50": 20 * time.Millisecond, "600/m": 100 * time.Millisecond,
		"1/h": time.Hour, "0.5/s": 2 * time.Second,
	} {
		if got, err := parseRate(text); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"0/s", "-1/s", "x/s", "5/d", "5/", "/s", "NaN/s", "Inf/s", "1e-300/h"} {
		if got, err := parseRate(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func TestPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := pace{interval: time.Second}
		began := time.Now()
		for i := range 4 {
			if err := p.wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := time.Since(began); got != time.Duration(i)*time.Second {
				t.Errorf("message %d goes after %v", i, got)
			}
			if i == 1 {
				time.Sleep(700 * time.Millisecond) // what a publish takes
			}
			p.used()
		}
		time.Sleep(time.Hour) // lost time is not made up for
		began = time.Now()
		for range 3 {
			_ = p.wait(t.Context())
			p.used()
		}
		if got := time.Since(began); got != 2*time.Second {
			t.Errorf("three messages after a pause take %v", got)
		}
	})
}

// leased is a message with a lease of ten seconds.
type leased struct {
	broker.IncomingMessage
	until    atomic.Pointer[time.Time]
	extended atomic.Int64
	nacked   bool
	err      error
}

func newLeased() *leased {
	m := new(leased)
	m.renew()
	return m
}

func (m *leased) renew() { until := time.Now().Add(10 * time.Second); m.until.Store(&until) }

func (m *leased) LeaseUntil() time.Time { return *m.until.Load() }

func (m *leased) ExtendLease(context.Context) error {
	m.extended.Add(1)
	if m.err != nil {
		return m.err
	}
	m.renew()
	return nil
}

func (m *leased) Nack(context.Context, bool) error { m.nacked = true; return m.err }

// Leases of what is held never run out, and no goroutine stays behind.
func TestHeldLeases(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var h held
		first, second, stale := newLeased(), newLeased(), newLeased()
		stale.err = broker.ErrStale
		h.add(first)
		h.add(stale)
		for i := range 100 {
			time.Sleep(time.Second)
			if i == 3 {
				h.add(second)
			}
			synctest.Wait()
			if rest := time.Until(first.LeaseUntil()); rest <= 0 {
				t.Fatalf("after %d s a lease has run out", i+1)
			}
		}
		if n := first.extended.Load(); n < 10 || n > 30 {
			t.Errorf("a lease of 10 s was extended %d times in 100 s", n)
		}
		if n := stale.extended.Load(); n != 1 {
			t.Errorf("a lease that is gone was extended %d times", n)
		}
		if err := h.giveBack(t.Context()); err != nil {
			t.Error(err)
		}
		if !first.nacked || !second.nacked {
			t.Error("not all were given back")
		}
	})
}

func TestHeldGiveBackFails(t *testing.T) {
	t.Parallel()
	var h held
	gone, broken := newLeased(), newLeased()
	gone.err, broken.err = broker.ErrSettled, errors.New("cut")
	h.add(gone)
	h.add(broken)
	h.add(broken)
	if err := h.giveBack(t.Context()); err == nil || err.Error() != "2 messages could not be given back at once, and will come again when the broker misses them: cut" {
		t.Errorf("it says %v", err)
	}
}

// Which logger is Go's own, and which is not.
func TestIsGos(t *testing.T) {
	t.Parallel()
	if !isGos(slog.Default()) {
		t.Error("slog's own default is not known")
	}
	if isGos(slog.New(slog.DiscardHandler)) {
		t.Error("another one is taken for it")
	}
}

// Which publisher a name gets.
func TestPublisherTo(t *testing.T) {
	t.Parallel()
	b := memory.New()
	own := &ownPublisher{PatternSource: memory.Pattern("orders")}
	app := gostream.New("shop", "1")
	r := gostream.NewRouter()
	ok := gostream.Reply(func(context.Context, string) (string, error) { return "", nil }).To("out")
	r.HandleSource(own, ok, gostream.DeadLetterTo("dead"))
	app.Mount(b, r)
	d, err := app.Describe()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]broker.Publisher{"orders": own, "dead": own, "out": own, "else": b.Publisher()} {
		if got, _, err := publisherTo(d, 0, name, nil); err != nil || got != want {
			t.Errorf("%s is published through %T, %v", name, got, err)
		}
	}
	if got, _, err := publisherTo(d, 0, "else", own); err != nil || got != own {
		t.Errorf("with a fallback it is %T, %v", got, err)
	}
}

// ownPublisher is a source with a matching publisher.
type ownPublisher struct{ memory.PatternSource }

func (s *ownPublisher) Publisher(broker.Broker) broker.Publisher            { return s }
func (*ownPublisher) Publish(context.Context, broker.OutgoingMessage) error { return nil }

// A line that could not be read to its end is no message.
func TestLineCutByAnError(t *testing.T) {
	t.Parallel()
	broken := errors.New("the disk is gone")
	in := &input{r: bufio.NewReader(io.MultiReader(strings.NewReader("whole\ncut of"), iotest.ErrReader(broken)))}
	if line, err := in.line(t.Context()); string(line) != "whole" || err != nil {
		t.Fatalf("the first line is %q, %v", line, err)
	}
	if line, err := in.line(t.Context()); line != nil || !errors.Is(err, broken) {
		t.Errorf("the second line is %q, %v; want the error", line, err)
	}
}

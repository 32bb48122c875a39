package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/gostream/gostream/memory"
)

// lines are events as a file holds them.
func lines() []string {
	repo := `"repository":{"full_name":"octo/pond"}`
	return []string{
		`{"event":"push","payload":{"ref":"refs/heads/main","commits":[{"id":"a1"},{"id":"b2"}],` + repo + `}}`,
		`{"event":"issues","payload":{"action":"opened","issue":{"number":1},` + repo + `}}`,
		`{"event":"ping","payload":{"zen":"Keep it logically awesome."}}`,
		`{"event":"issues","payload":{"action":"closed","issue":{"number":1},` + repo + `}}`,
		`{"event":"pull_request","payload":{"action":"opened","pull_request":{"number":2,"draft":true},` + repo + `}}`,
		`{"event":"star","payload":{"action":"created",` + repo + `}}`,
		`{"event":"push","payload":{"ref":"refs/heads/old","deleted":true,"commits":[],` + repo + `}}`,
		`{"event":"meta","payload":{"repository":null}}`,
	}
}

// write makes a file of lines.
func write(t *testing.T, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "events.ndjson")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// fields joins the words of each line by one space.
func fields(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		all = append(all, strings.Join(strings.Fields(line), " "))
	}
	return all
}

func TestEvents(t *testing.T) {
	t.Parallel()
	// One line is longer than any buffer, one is blank, the last has no end.
	long := fmt.Sprintf(`{"event":"release","payload":{"body":%q}}`, strings.Repeat("x", 3<<20))
	in := strings.Join(append(lines(), "", long), "\n")
	tests := []struct {
		name string
		args []string
		want []string
	}{
		{"as they are", nil, []string{
			"push: commits 2, refs deleted 1",
			"issues: closed 1, opened 1",
			"pull_request: opened 1; drafts 1",
			"EVENT READ AUDITED HANDLED DEAD-LETTERED",
			"issues 2 2 2 0",
			"meta 1 1 - -",
			"ping 1 1 - -",
			"pull_request 1 1 1 0",
			"push 2 2 2 0",
			"release 1 1 - -",
			"star 1 1 - -",
			"total 9 9 5 0",
			"keyless: 3 (events without a repository)",
			"corrupted: 0",
			"9 read = 9 audited; 5 of them typed = 5 handled + 0 dead-lettered",
		}},
		{"some corrupted", []string{"-corrupt", "2", "-workers", "1"}, []string{
			"push: commits 0, refs deleted 1",
			"issues: opened 1",
			"issues 2 2 1 1",
			"push 2 2 1 1",
			"pull_request 1 1 1 0",
			"total 9 9 3 2",
			"keyless: 3 (events without a repository)",
			"corrupted: 2",
			"dead-lettered as undecodable: 2",
			"9 read = 9 audited; 5 of them typed = 3 handled + 2 dead-lettered",
		}},
		{"all corrupted", []string{"-corrupt", "5"}, []string{
			"pull_request: none; drafts 0",
			"total 9 9 0 5",
			"dead-lettered as undecodable: 5",
		}},
		{"by key", []string{"-by-key", "-workers", "8", "-corrupt", "1"}, []string{
			"total 9 9 4 1",
			"order per repository: kept",
			"9 read = 9 audited; 5 of them typed = 4 handled + 1 dead-lettered",
		}},
		{"audit in batches", []string{"-batch", "16"}, []string{
			"total 9 9 5 0",
			"keyless: 3 (events without a repository)",
			"9 read = 9 audited; 5 of them typed = 5 handled + 0 dead-lettered",
		}},
		{"batches of one", []string{"-batch", "1", "-by-key"}, []string{
			"audited in batches: 9",
			"order per repository: kept",
			"9 read = 9 audited; 5 of them typed = 5 handled + 0 dead-lettered",
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var stdout, stderr bytes.Buffer
			status := command(t.Context(), append([]string{"-in", write(t, in)}, test.args...), &stdout, &stderr)
			if status != 0 || stderr.Len() > 0 {
				t.Errorf("exit status %d: %s", status, &stderr)
			}
			got := "\n" + strings.Join(fields(stdout.String()), "\n") + "\n"
			for _, want := range test.want {
				if !strings.Contains(got, "\n"+want+"\n") {
					t.Errorf("no line %q in the output:\n%s", want, &stdout)
				}
			}
		})
	}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	good := strings.Join(lines(), "\n") + "\n"
	tests := []struct {
		name    string
		content string
		args    []string // -in FILE is added unless noFile
		noFile  bool
		status  int
		want    string // on standard error
	}{
		{"no -in", "", nil, true, 2, "-in is missing"},
		{"no workers", good, []string{"-workers", "0"}, false, 2, "-workers 0: at least 1"},
		{"negative workers", good, []string{"-workers", "-3"}, false, 2, "-workers -3: at least 1"},
		{"negative corrupt", good, []string{"-corrupt", "-1"}, false, 2, "-corrupt -1: it must not be negative"},
		{"negative batch", good, []string{"-batch", "-1"}, false, 2, "-batch -1: it must not be negative"},
		{"batch is no number", good, []string{"-batch", "many"}, false, 2, "invalid value"},
		{"a batch that the broker cannot hold", good, []string{"-batch", "70000"}, false, 1, "a batch of 70000 is above the source's limit"},
		{"workers is no number", good, []string{"-workers", "x"}, false, 2, "invalid value"},
		{"unknown flag", good, []string{"-fast"}, false, 2, "not defined: -fast"},
		{"an argument", good, []string{"more.ndjson"}, false, 2, `unexpected argument "more.ndjson"`},
		{"no such file", "", []string{"-in", filepath.Join(t.TempDir(), "none.ndjson")}, true, 1, "none.ndjson"},
		{"a folder", "", []string{"-in", t.TempDir()}, true, 1, "webhooks: "},
		{"empty file", "", nil, false, 1, "there is no event in it"},
		{"blank file", "\n \n", nil, false, 1, "there is no event in it"},
		{"not JSON", good + "oops\n", nil, false, 1, "line 9: not an event: "},
		{"cut line", good + "\n" + lines()[0][:40], nil, false, 1, "line 10: not an event: "},
		{"two values in a line", lines()[0] + lines()[1], nil, false, 1, "line 1: not an event: "},
		{"not an object", "[1]\n", nil, false, 1, "line 1: not an event: "},
		{"no name", `{"payload":{}}`, nil, false, 1, `line 1: not an event: it needs "event" and "payload"`},
		{"no payload", `{"event":"push"}`, nil, false, 1, `line 1: not an event: it needs "event" and "payload"`},
		{"impossible name", good + `{"event":"a > b","payload":{}}`, nil, false, 1, "line 9: "},
		{"too many to corrupt", good, []string{"-corrupt", "6"}, false, 1, "-corrupt 6: only 5 of the 8 events have a typed handler"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			args := test.args
			if !test.noFile {
				args = append([]string{"-in", write(t, test.content)}, args...)
			}
			var stdout, stderr bytes.Buffer
			if status := command(t.Context(), args, &stdout, &stderr); status != test.status {
				t.Errorf("exit status %d, want %d", status, test.status)
			}
			if !strings.Contains(stderr.String(), test.want) {
				t.Errorf("no %q on standard error:\n%s", test.want, &stderr)
			}
			if stdout.Len() > 0 {
				t.Errorf("standard output:\n%s", &stdout)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	t.Parallel()
	var stderr bytes.Buffer
	status := command(t.Context(), []string{"-h"}, io.Discard, &stderr)
	for _, name := range []string{"-in", "-workers", "-by-key", "-batch", "-corrupt", "-v"} {
		if status != 0 || !strings.Contains(stderr.String(), "  "+name) {
			t.Errorf("exit status %d, and no %s in:\n%s", status, name, &stderr)
		}
	}
}

// Whatever a typed event holds, it cannot be decoded once it is corrupted, and the
// others are left alone.
func TestCorrupt(t *testing.T) {
	t.Parallel()
	var in []string
	for _, payload := range []string{`{}`, `{"action":"opened"}`, `{"a":{"b":[1,2,{}]}}`, `null`, `"text"`, `12`} {
		for _, kind := range []string{"push", "ping", "issues", "pull_request"} {
			in = append(in, fmt.Sprintf(`{"event":%q,"payload":%s}`, kind, payload))
		}
	}
	for n := range 19 {
		events, err := readEvents(strings.NewReader(strings.Join(in, "\n")))
		if err != nil {
			t.Fatal(err)
		}
		if err := corrupt(events, n); err != nil {
			t.Fatal(err)
		}
		corrupted := 0
		for _, e := range events {
			var p PullRequest
			if e.corrupted {
				corrupted++
				if err := json.Unmarshal(e.payload, &p); err == nil {
					t.Errorf("line %d: %s can be decoded", e.line, e.payload)
				}
			} else if !strings.HasSuffix(in[e.line-1], fmt.Sprintf(`"payload":%s}`, e.payload)) {
				t.Errorf("line %d has changed: %s", e.line, e.payload)
			}
		}
		if corrupted != n {
			t.Errorf("%d corrupted, want %d", corrupted, n)
		}
	}
}

// What no handler can take is dead-lettered, and an error unless it was asked for.
func TestUndecodableByItself(t *testing.T) {
	t.Parallel()
	in := strings.Join(append(lines(), `{"event":"push","payload":["not","a","push"]}`), "\n")
	var stdout, stderr bytes.Buffer
	status := command(t.Context(), []string{"-in", write(t, in)}, &stdout, &stderr)
	if status != 1 || !strings.Contains(stderr.String(), "0 corrupted, but 1 dead-lettered") {
		t.Errorf("exit status %d: %s", status, &stderr)
	}
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stderr bytes.Buffer
	if status := command(ctx, []string{"-in", write(t, lines()[0])}, io.Discard, &stderr); status != 1 {
		t.Errorf("exit status %d: %s", status, &stderr)
	}
}

// Where nothing happens any more, wait does not wait for ever.
func TestWaitGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		events, err := readEvents(strings.NewReader(lines()[0]))
		if err != nil {
			t.Fatal(err)
		}
		account := NewAccount(events, false)
		svc, err := App(memory.New(), account, NewActivity(), config{workers: 4, log: slog.New(slog.DiscardHandler)}).Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := wait(t.Context(), svc, account); err == nil || !strings.Contains(err.Error(), "nothing has happened") {
			t.Errorf("wait: %v", err)
		}
		if err := svc.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := account.Check(); err == nil || !strings.Contains(err.Error(), "push: 1 read, but 0 audited") {
			t.Errorf("the account: %v", err)
		}
	})
}

// What is handled out of order is found, and named.
func TestOrder(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		handled []int // lines, in the order in which they are handled
		want    string
	}{
		{[]int{1, 2, 4}, ""},
		{[]int{1, 4, 2}, "1 events were handled out of order, the first: issues of octo/pond: line 2 was handled after line 4"},
		{[]int{4, 2, 1}, "2 events were handled out of order, the first: issues of octo/pond: line 2 was handled after line 4"},
		{[]int{1, 3, 2, 4}, ""}, // line 3 is of another kind
		{[]int{1, 5, 2, 4}, ""}, // line 5 is of another repository
	} {
		issue := func(repo string) string {
			return fmt.Sprintf(`{"event":"issues","payload":{"action":"opened","repository":{"full_name":%q}}}`, repo)
		}
		in := []string{issue("octo/pond"), issue("octo/pond"), lines()[0], issue("octo/pond"), issue("octo/lake")}
		events, err := readEvents(strings.NewReader(strings.Join(in, "\n")))
		if err != nil {
			t.Fatal(err)
		}
		var chosen []event
		for _, line := range test.handled {
			chosen = append(chosen, events[line-1])
		}
		account, b := NewAccount(chosen, true), memory.New()
		app := App(b, account, NewActivity(), config{workers: 1, log: slog.New(slog.DiscardHandler)})
		publisher := app.RawPublisher(b)
		svc, err := app.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		err = errors.Join(publish(t.Context(), publisher, chosen), wait(t.Context(), svc, account), svc.Shutdown(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		if err := account.Check(); (err == nil) != (test.want == "") || err != nil && err.Error() != test.want {
			t.Errorf("lines %v: %v, want %q", test.handled, err, test.want)
		}
		var out strings.Builder
		account.Print(&out)
		if got := strings.Contains(out.String(), "kept"); got != (test.want == "") {
			t.Errorf("lines %v: the account says:\n%s", test.handled, &out)
		}
	}
}

// A handler is a plain function: its test needs no broker.
func TestPush(t *testing.T) {
	t.Parallel()
	var p Push
	payload := `{"deleted":true,"commits":[{"id":"a1"}],"pusher":{"name":"x"}}`
	a := NewActivity()
	if err := errors.Join(json.Unmarshal([]byte(payload), &p), a.Push(t.Context(), p)); err != nil {
		t.Fatal(err)
	}
	if a.commits != 1 || a.deleted != 1 {
		t.Errorf("%d commits, %d deleted refs", a.commits, a.deleted)
	}
}

//go:build unix

package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestGettingStarted does what docs/getting-started.md says, from an empty folder: it types
// the commands as they stand there, and compares what they answer with what stands below
// them. Times, durations, ports, process numbers and folders differ. A comment before a
// block says what a reader does without being told:
//
//	<!-- try: in the checkout -->       the block is typed there
//	<!-- try: terminal 1 -->            it keeps running in a terminal of its own
//	<!-- try: terminal 1 says -->       what follows is said there now
//	<!-- try: Ctrl-C in terminal 1 -->  and this after Ctrl-C
//	<!-- try: not -->                   nothing
func TestGettingStarted(t *testing.T) {
	t.Parallel()
	if testing.Short() || raceEnabled {
		t.Skip("it builds the tool and a project: left out with -short, and with -race, which would see none of the processes")
	}
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", "getting-started.md"))
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	r := &reader{t: t, root: root, work: work, dir: filepath.Join(work, "empty"), terminals: map[string]*job{}}
	for _, dir := range []string{"empty", "bin", "tmp", "home"} {
		if err := os.Mkdir(filepath.Join(work, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// In a new home the go command begins a process for its telemetry, which may still write
	// there when the folder is removed.
	for _, dir := range []string{".config", "Library/Application Support"} {
		dir = filepath.Join(work, "home", dir, "go", "telemetry")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "mode"), []byte("off"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	addr, release, err := keepPort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	r.env = append(goVars(t),
		"NATS_LISTEN="+addr, // the page has the default, which may be taken
		"GOBIN="+filepath.Join(work, "bin"), "HOME="+filepath.Join(work, "home"), "TMPDIR="+filepath.Join(work, "tmp"),
		"PATH="+filepath.Join(work, "bin")+string(filepath.ListSeparator)+os.Getenv("PATH"))
	t.Cleanup(r.close)
	steps := pageSteps(t, string(text))
	for _, s := range steps {
		r.do(s)
		if t.Failed() {
			t.FailNow()
		}
	}
	if r.typed < 10 || r.compared < 10 {
		t.Errorf("%d blocks were typed and %d compared: the page has more", r.typed, r.compared)
	}
}

// pageStep is a fence of the page.
type pageStep struct {
	line      int
	directive string // what the comment before it says
	command   bool   // it is typed; else it is what is answered
	lines     []string
}

var tryComment = regexp.MustCompile(`^<!-- try: (.+) -->$`)

// pageSteps returns the fences that are typed, and those without a language, which are
// answers.
func pageSteps(t *testing.T, text string) (steps []pageStep) {
	t.Helper()
	var s *pageStep
	directive, other := "", false
	for i, line := range strings.Split(text, "\n") {
		fence := strings.HasPrefix(line, "```")
		switch {
		case fence && s == nil && !other:
			lang := strings.TrimPrefix(line, "```")
			if lang == "sh" || lang == "" {
				s = &pageStep{line: i + 1, directive: directive, command: lang == "sh"}
			} else {
				other = true
			}
			directive = ""
		case fence && other:
			other = false
		case fence:
			steps = append(steps, *s)
			s = nil
		case s != nil:
			s.lines = append(s.lines, line)
		default:
			if m := tryComment.FindStringSubmatch(line); m != nil {
				directive = m[1]
			}
		}
	}
	if s != nil || other || directive != "" {
		t.Fatalf("the page ends in a fence, or with a comment that belongs to none: %q", directive)
	}
	return steps
}

// reader reads the page, with several terminals.
type reader struct {
	t               *testing.T
	root, work, dir string
	env             []string
	terminals       map[string]*job
	asked           string // the terminal that the last block went to, "" for none
	answer          string
	typed, compared int
}

var (
	inTerminal = regexp.MustCompile(`^terminal (\d+)$`)
	says       = regexp.MustCompile(`^terminal (\d+) says$`)
	ctrlC      = regexp.MustCompile(`^Ctrl-C in terminal (\d+)$`)
)

func (r *reader) do(s pageStep) {
	r.t.Helper()
	text := strings.Join(s.lines, "\n")
	switch m := inTerminal.FindStringSubmatch(s.directive); {
	case s.directive == "not":
	case s.command && m != nil:
		r.typed++
		r.asked = m[1]
		r.terminals[m[1]] = r.open(text)
	case s.command && (s.directive == "" || s.directive == "in the checkout"):
		r.typed++
		r.asked = ""
		r.answer = r.typeIn(s, text)
	case s.command:
		r.t.Fatalf("docs/getting-started.md:%d: the comment says %q, which is nothing to type in", s.line, s.directive)
	case s.directive == "" && r.asked == "":
		r.compared++
		if got, want := mask(r, r.answer), mask(r, text); got != want {
			r.t.Errorf("docs/getting-started.md:%d: the answer is\n%s\nand the page has\n%s\nwhich differ in\n%s\n%s", s.line, r.answer, text, got, want)
		}
	case s.directive == "":
		r.await(s, r.asked)
	default:
		if m := says.FindStringSubmatch(s.directive); m != nil {
			r.await(s, m[1])
			return
		}
		m := ctrlC.FindStringSubmatch(s.directive)
		if m == nil {
			r.t.Fatalf("docs/getting-started.md:%d: the comment says %q, which nobody understands", s.line, s.directive)
		}
		j := r.terminals[m[1]]
		if err := syscall.Kill(-j.cmd.Process.Pid, syscall.SIGINT); err != nil {
			r.t.Fatal(err)
		}
		r.await(s, m[1])
		select {
		case <-j.done:
		case <-time.After(patience):
			r.t.Errorf("docs/getting-started.md:%d: Ctrl-C does not end it", s.line)
		}
	}
}

// shell is the command that types text.
func (r *reader) shell(text, dir string) *exec.Cmd {
	// The page has the default port; here it may be taken.
	text = strings.ReplaceAll(text, "asyncapi serve", "asyncapi serve --listen 127.0.0.1:0")
	cmd := exec.Command("sh", "-ec", text)
	cmd.Dir = dir
	cmd.Env = append(r.env, "PWD="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// typeIn types a block, and returns what it answers.
func (r *reader) typeIn(s pageStep, text string) string {
	r.t.Helper()
	dir := r.dir
	if s.directive == "in the checkout" {
		dir = r.root
	}
	pwd := filepath.Join(r.work, "pwd")
	cmd := r.shell(text+"\npwd >"+pwd, dir)
	out, err := cmd.CombinedOutput()
	// A command that finds something answers 1: the next line of the page tells.
	if exit, ok := err.(*exec.ExitError); err != nil && (!ok || exit.ExitCode() != exitFailure) {
		r.t.Fatalf("docs/getting-started.md:%d: %v\n%s", s.line, err, out)
	} else if err == nil && s.directive == "" {
		now, err := os.ReadFile(pwd)
		if err != nil {
			r.t.Fatal(err)
		}
		r.dir = strings.TrimSpace(string(now))
	}
	return string(out)
}

// open types a block in a terminal of its own.
func (r *reader) open(text string) *job {
	r.t.Helper()
	cmd := r.shell("exec "+text, r.dir)
	j := &job{cmd: cmd, out: &output{said: make(chan struct{})}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = j.out, j.out
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() {
		defer close(j.done)
		_ = cmd.Wait()
	}()
	return j
}

// await waits until the terminal has said the lines of the step, in their order, after what
// was compared before.
func (r *reader) await(s pageStep, terminal string) {
	r.t.Helper()
	r.compared++
	j := r.terminals[terminal]
	if j == nil {
		r.t.Fatalf("docs/getting-started.md:%d: nothing runs in terminal %s", s.line, terminal)
	}
	want := slices.DeleteFunc(strings.Split(mask(r, strings.Join(s.lines, "\n")), "\n"), func(l string) bool { return l == "" })
	late := time.NewTimer(patience)
	defer late.Stop()
	for ended := false; ; {
		j.out.mu.Lock()
		text := j.out.text.String()
		said := j.out.said
		j.out.mu.Unlock()
		left, at := want, 0
		for line := range strings.Lines(text[j.out.shown:]) {
			at += len(line)
			if len(left) > 0 && mask(r, strings.TrimSuffix(line, "\n")) == left[0] {
				if left = left[1:]; len(left) == 0 {
					j.out.shown += at
					return
				}
			}
		}
		if ended {
			r.t.Fatalf("docs/getting-started.md:%d: terminal %s has ended and not said %q; it said\n%s", s.line, terminal, left[0], text)
		}
		select {
		case <-said:
		case <-j.done:
			ended = true
		case <-late.C:
			r.t.Fatalf("docs/getting-started.md:%d: terminal %s has not said %q; it said\n%s", s.line, terminal, left[0], text)
		}
	}
}

func (r *reader) close() {
	for name, j := range r.terminals {
		select {
		case <-j.done:
		default:
			_ = syscall.Kill(-j.cmd.Process.Pid, syscall.SIGTERM)
			select {
			case <-j.done:
			case <-time.After(10 * time.Second):
				_ = syscall.Kill(-j.cmd.Process.Pid, syscall.SIGKILL)
				<-j.done
			}
		}
		if r.t.Failed() {
			r.t.Logf("terminal %s:\n%s", name, j.out.text.String())
		}
	}
}

// masks are what differs from run to run.
var masks = []struct {
	re *regexp.Regexp
	by string
}{
	{regexp.MustCompile(`\d\d:\d\d:\d\d`), "TIME"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`), "TIME"},
	{regexp.MustCompile(`\b(\d+h)?(\d+m)?\d+(\.\d+)?(ns|µs|ms|s)\b`), "DURATION"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "ADDRESS"},
	{regexp.MustCompile(`process \d+`), "process N"},
	{regexp.MustCompile(`(?m)^go: downloading .*\n`), ""},
	{regexp.MustCompile(`(?m)[ \t]+$`), ""},
	{regexp.MustCompile(`\(cached\)`), "DURATION"},
}

func mask(r *reader, text string) string {
	text = strings.ReplaceAll(text, r.root, "/home/me/gostream")
	text = strings.ReplaceAll(text, r.work, "/home/me")
	for _, m := range masks {
		text = m.re.ReplaceAllString(text, m.by)
	}
	return strings.Trim(text, "\n")
}

// The page's parser sees what it should.
func TestPageSteps(t *testing.T) {
	t.Parallel()
	page := "# A page\n\n```sh\na\nb\n```\n\n```\nanswer\n```\n```go\npackage x\n```\n<!-- try: terminal 1 -->\n```sh\nc\n```\n<!-- try: not -->\n```\nd\n```\n"
	var got bytes.Buffer
	for _, s := range pageSteps(t, page) {
		fmt.Fprintf(&got, "%d %q %v %q\n", s.line, s.directive, s.command, s.lines)
	}
	want := `3 "" true ["a" "b"]
8 "" false ["answer"]
15 "terminal 1" true ["c"]
19 "not" false ["d"]
`
	if got.String() != want {
		t.Errorf("the steps are\n%s, want\n%s", &got, want)
	}
}

// A busy machine takes minutes for what the page has in seconds.
func TestMask(t *testing.T) {
	t.Parallel()
	r := &reader{root: "/r/o/o/t", work: "/w"}
	for _, text := range []string{"built in 1.28s; x", "built in 1m3.1s; x", "built in 1h0m3s; x", "built in 87.6µs; x", "go: downloading example.com/a v1.0.0\nbuilt in 0s; x"} {
		if got := mask(r, text); got != "built in DURATION; x" {
			t.Errorf("%q is masked as %q", text, got)
		}
	}
}

// A port that is kept is free for a server, and nobody else is given it.
func TestKeepPort(t *testing.T) {
	t.Parallel()
	addr, release, err := keepPort()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	for range 2 {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/gostream/gostream/brokers/nats/embedded"
)

// patience bounds what a script waits for: builds on a busy machine, above all.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"gostream": main})
}

// The scripts in testdata/script. Those in the folder scaffold build and run whole
// projects, which takes a while, and are left out of short tests.
func TestScripts(t *testing.T) {
	t.Parallel()
	runScripts(t, "script")
}

func TestScaffolds(t *testing.T) {
	t.Parallel()
	if testing.Short() || raceEnabled {
		t.Skip("it builds and runs a project for each broker: left out with -short, and with -race, which would see none of the processes")
	}
	runScripts(t, "scaffold")
}

func runScripts(t *testing.T, folder string) {
	t.Helper()
	vars := goVars(t)
	checkout, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", folder),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Vars = append(e.Vars, vars...)
			e.Vars = append(e.Vars, "CHECKOUT="+checkout)
			e.Values[jobsKey{}] = make(map[string]*job)
			e.Values[valuesKey{}] = make(map[string]chan error)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"nomodules": noModules,
			"start":     start, "await": await, "signal": sendSignal, "ended": ended,
			"freeport": freePort, "natsserver": natsServer, "kafkacluster": kafkaCluster,
			"edit": edit, "get": get, "same": sameLines, "url": urlOf, "orders": orders, "handled": handled,
		},
	})
}

// goVars has the go command use the caches of this machine, and no workspace: a script's
// home is empty.
func goVars(t testing.TB) []string {
	t.Helper()
	names := []string{"GOCACHE", "GOMODCACHE", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GONOPROXY", "GOTOOLCHAIN"}
	out, err := exec.Command("go", append([]string{"env"}, names...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	vars := []string{"GOWORK=off", "GOFLAGS=", "GOSTREAM_LOG_FORMAT=text"}
	for i, value := range strings.Split(strings.TrimSuffix(string(out), "\n"), "\n") {
		vars = append(vars, names[i]+"="+value)
	}
	return vars
}

// jobsKey finds a script's jobs by their names.
type jobsKey struct{}

// job is a process that a script has started.
type job struct {
	cmd  *exec.Cmd
	out  *output
	done chan struct{}
}

// output is what a process has said so far. It can be waited for.
type output struct {
	mu    sync.Mutex
	text  strings.Builder
	said  chan struct{} // closed when there is more
	shown int           // what await has looked at
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.said)
	o.said = make(chan struct{})
	return o.text.Write(p)
}

func jobOf(ts *testscript.TestScript, name string) *job {
	j := ts.Value(jobsKey{}).(map[string]*job)[name]
	if j == nil {
		ts.Fatalf("nothing was started with the name %s", name)
	}
	return j
}

// start NAME COMMAND ARGS...: a process whose output the script can wait for.
func start(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: start name command args...")
	}
	bin, err := lookPath(ts, args[1])
	ts.Check(err)
	cmd := exec.Command(bin, args[2:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{
		"PATH", "HOME", "TMPDIR", "WORK", "GOCACHE", "GOMODCACHE", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GONOPROXY", "GOTOOLCHAIN",
		"GOWORK", "GOFLAGS", "NATS_URL", "NATS_LISTEN", "NATS_DIR", "KAFKA_BROKERS", "GOSTREAM_LOG_FORMAT", "SystemRoot",
	} {
		if v := ts.Getenv(name); v != "" {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	j := &job{cmd: cmd, out: &output{said: make(chan struct{})}, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = j.out, j.out
	cmd.WaitDelay = 10 * time.Second // what it has started may hold the output open
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ts.Check(cmd.Start())
	go func() {
		defer close(j.done)
		_ = cmd.Wait()
	}()
	ts.Value(jobsKey{}).(map[string]*job)[args[0]] = j
	ts.Defer(func() {
		select {
		case <-j.done:
		default:
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
			select {
			case <-j.done:
			case <-time.After(10 * time.Second):
				_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
				<-j.done
			}
		}
		ts.Logf("%s said:\n%s", args[0], j.out.text.String())
	})
}

// lookPath finds a command in the script's PATH.
func lookPath(ts *testscript.TestScript, name string) (string, error) {
	if strings.ContainsRune(name, filepath.Separator) {
		return ts.MkAbs(name), nil
	}
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && !info.IsDir() {
			return file, nil
		}
	}
	return "", fmt.Errorf("%s is not in PATH", name)
}

// await NAME REGEXP: waits until the process says it, after what the last await has
// found. "! await" waits for its end, and fails where it has said it.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: await name regexp")
	}
	j := jobOf(ts, args[0])
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	late := time.NewTimer(patience)
	defer late.Stop()
	if neg {
		select {
		case <-j.done:
		case <-late.C:
			ts.Fatalf("%s has not ended", args[0])
		}
	}
	for ended := false; ; {
		j.out.mu.Lock()
		text := j.out.text.String()[j.out.shown:]
		at := re.FindStringIndex(text)
		if at != nil {
			j.out.shown += at[1]
		}
		said := j.out.said
		j.out.mu.Unlock()
		switch {
		case at != nil && neg:
			ts.Fatalf("%s has said %q", args[0], args[1])
		case at != nil || neg:
			return
		case ended:
			ts.Fatalf("%s has ended and not said %q", args[0], args[1])
		}
		select {
		case <-said:
		case <-j.done:
			ended = true
		case <-late.C:
			ts.Fatalf("%s has not said %q; it said\n%s", args[0], args[1], text)
		}
	}
}

// signal NAME INT|TERM|KILL: to the whole group of the process, as a terminal does.
func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}
	if neg || len(args) != 2 || signals[args[1]] == 0 {
		ts.Fatalf("usage: signal name INT|TERM|KILL")
	}
	ts.Check(syscall.Kill(-jobOf(ts, args[0]).cmd.Process.Pid, signals[args[1]]))
}

// ended NAME CODE: waits for the end of a process and compares its exit code.
func ended(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: ended name code")
	}
	j := jobOf(ts, args[0])
	select {
	case <-j.done:
	case <-time.After(patience):
		ts.Fatalf("%s has not ended", args[0])
	}
	if got := fmt.Sprint(j.cmd.ProcessState.ExitCode()); got != args[1] {
		ts.Fatalf("%s has ended with code %s, want %s (%v)", args[0], got, args[1], j.cmd.ProcessState)
	}
}

// noModules ("nomodules") takes away the modules that were downloaded, and the way to others.
func noModules(ts *testscript.TestScript, _ bool, _ []string) {
	ts.Setenv("GOMODCACHE", ts.MkAbs("nothing"))
	ts.Setenv("GOPROXY", "off")
}

// freeport VAR: an address of this machine that nobody listens at.
func freePort(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: freeport variable")
	}
	addr, release, err := keepPort()
	ts.Check(err)
	ts.Defer(release)
	ts.Setenv(args[0], addr)
}

// keepPort returns an address of this machine that nobody listens at. On Linux it stays
// bound until release is called, so that the system gives it to nobody else, while a server
// that asks for it by its number gets it. Elsewhere another process may come first.
func keepPort() (addr string, release func(), err error) {
	if runtime.GOOS != "linux" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return "", nil, err
		}
		return l.Addr().String(), func() {}, l.Close()
	}
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return "", nil, err
	}
	bound, err := syscall.Sockaddr(nil), syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	if err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	if err == nil {
		bound, err = syscall.Getsockname(fd)
	}
	if err != nil {
		return "", nil, errors.Join(err, syscall.Close(fd))
	}
	port := bound.(*syscall.SockaddrInet4).Port
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), func() { _ = syscall.Close(fd) }, nil
}

// natsserver VAR: a server, whose URL is put into the variable. It ends with the script.
func natsServer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: natsserver variable")
	}
	s, err := embedded.Start(embedded.Config{Memory: true, Listen: "127.0.0.1:0"})
	ts.Check(err)
	ts.Defer(func() { _ = s.Shutdown(context.Background()) })
	ts.Setenv(args[0], s.URL())
}

// kafkacluster VAR: a cluster, whose addresses are put into the variable. It ends with the
// script.
func kafkaCluster(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: kafkacluster variable")
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1))
	ts.Check(err)
	ts.Defer(c.Close)
	ts.Setenv(args[0], strings.Join(c.ListenAddrs(), ","))
}

// edit FILE OLD NEW: replaces every OLD, at once, as an editor does.
func edit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: edit file old new")
	}
	file := ts.MkAbs(args[0])
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("%s has no %q", args[0], args[1])
	}
	text = strings.ReplaceAll(text, args[1], args[2])
	ts.Check(os.WriteFile(file+"~", []byte(text), 0o644))
	ts.Check(os.Rename(file+"~", file))
}

// get URL: prints what a server answers; with "!" it must answer an error.
func get(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: get url")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0], nil)
	ts.Check(err)
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	fmt.Fprintf(ts.Stdout(), "%s\n%s", resp.Status, body)
	if ok := resp.StatusCode == http.StatusOK; ok == neg {
		ts.Fatalf("it answers %s", resp.Status)
	}
}

// url NAME VAR: puts the last address of a page that the process has said into the variable,
// and its host and port into HOST.
func urlOf(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: url name variable")
	}
	j := jobOf(ts, args[0])
	j.out.mu.Lock()
	defer j.out.mu.Unlock()
	found := regexp.MustCompile(`http://([0-9.]+:[0-9]+)/`).FindAllStringSubmatch(j.out.text.String(), -1)
	if found == nil {
		ts.Fatalf("%s has said no address", args[0])
	}
	last := found[len(found)-1]
	ts.Setenv(args[1], last[0])
	ts.Setenv("HOST", last[1])
}

// same N REGEXP NAME: the process has said exactly n lines that match.
func sameLines(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: same n regexp name")
	}
	j := jobOf(ts, args[2])
	re, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	j.out.mu.Lock()
	defer j.out.mu.Unlock()
	if got := fmt.Sprint(len(re.FindAllString(j.out.text.String(), -1))); got != args[0] {
		ts.Fatalf("%s has said %q %s times, want %s", args[2], args[1], got, args[0])
	}
}

// valuesKey finds the end of what "orders" does.
type valuesKey struct{}

// orders N: begins to publish n orders to NATS_URL, one each 25 ms, until "handled" waits
// for them.
func orders(ts *testscript.TestScript, neg bool, args []string) {
	n := numberOf(ts, neg, args)
	nc, err := natsgo.Connect(ts.Getenv("NATS_URL"))
	ts.Check(err)
	js, err := jetstream.New(nc)
	ts.Check(err)
	published := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(25 * time.Millisecond)
		defer tick.Stop()
		for i := range n {
			if _, err := js.Publish(ctx, "orders", fmt.Appendf(nil, `{"id":"n-%d"}`, i)); err != nil {
				published <- err
				return
			}
			<-tick.C
		}
		published <- nil
	}()
	ts.Defer(func() {
		cancel()
		<-done
		nc.Close()
	})
	ts.Value(valuesKey{}).(map[string]chan error)["published"] = published
}

// handled N: waits until each of the n orders has a confirmation in the stream of demo.
func handled(ts *testscript.TestScript, neg bool, args []string) {
	n := numberOf(ts, neg, args)
	ts.Check(<-ts.Value(valuesKey{}).(map[string]chan error)["published"])
	nc, err := natsgo.Connect(ts.Getenv("NATS_URL"))
	ts.Check(err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := js.OrderedConsumer(ctx, "demo", jetstream.OrderedConsumerConfig{FilterSubjects: []string{"confirmations"}})
	ts.Check(err)
	confirmed := map[string]bool{}
	repeated := 0
	for len(confirmed) < n {
		m, err := c.Next(jetstream.FetchContext(ctx))
		if err != nil {
			ts.Fatalf("%d of %d orders are confirmed: %v", len(confirmed), n, err)
		}
		if text := string(m.Data()); strings.Contains(text, `"n-`) {
			if confirmed[text] {
				repeated++
			}
			confirmed[text] = true
		}
	}
	ts.Logf("%d orders are confirmed, %d confirmations were repeated", n, repeated)
}

func numberOf(ts *testscript.TestScript, neg bool, args []string) int {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: one number")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	return n
}

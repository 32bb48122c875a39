package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/gostream/gostream/cmd/gostream/internal/child"
	"github.com/gostream/gostream/cmd/gostream/internal/gobuild"
	"github.com/gostream/gostream/cmd/gostream/internal/watch"
)

// drainTimeout is more than a service takes by default: 25 s for its handlers and 3 s for
// the rest.
const drainTimeout = 30 * time.Second

func newRun() *cobra.Command {
	r := runner{}
	cmd := &cobra.Command{
		Use:   "run [DIR] [-- ARGS]",
		Short: "Build a service and run it, with --reload again when its source changes",
		Long: `Build the service in DIR, by default this folder, and run it there: its command "run"
with ARGS. Ctrl-C and SIGTERM are passed on, so that it drains.

With --reload it is built again when a Go file, go.mod or an embedded file changes that it
is made of. A build that fails is shown, and what runs goes on. Else the old service
drains, and the new one starts when it has ended: the two never share a port or a folder.
What is published meanwhile waits in the broker.`,
		Args: func(cmd *cobra.Command, args []string) error {
			dirs, _ := split(cmd, args)
			return between(0, 1)(cmd, dirs)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			dirs, rest := split(cmd, args)
			r.name = first(dirs)
			r.args = append([]string{"run"}, rest...)
			r.stderr = cmd.ErrOrStderr()
			if r.drain <= 0 {
				return usagef("--drain %v: it must be positive", r.drain)
			}
			return r.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.BoolVar(&r.reload, "reload", false, "build and start it again when its source changes")
	f.DurationVar(&r.drain, "drain", drainTimeout, "how long it may take to drain; then it is killed")
	return cmd
}

// split returns the arguments before and after "--".
func split(cmd *cobra.Command, args []string) (before, after []string) {
	if n := cmd.ArgsLenAtDash(); n >= 0 {
		return args[:n], args[n:]
	}
	return args, nil
}

// first is the folder of the arguments, by default this one.
func first(dirs []string) string {
	if len(dirs) == 0 {
		return "."
	}
	return dirs[0]
}

// runner runs the service in a folder. Everything happens in the goroutine of run, but for
// builds and the waiting for the process.
type runner struct {
	name   string // of the folder, as the user has it
	dir    string
	args   []string
	reload bool
	drain  time.Duration
	stderr io.Writer

	tmp     string // for the binaries
	builds  int
	watcher *watch.Watcher // nil without reload
	service *child.Process // nil while none runs
	program string         // what service is
}

func (r *runner) run(ctx context.Context) (err error) {
	if err := gobuild.Check(ctx, r.name); err != nil {
		return &usageError{error: err}
	}
	if r.dir, err = filepath.Abs(r.name); err != nil {
		return err
	}
	if r.tmp, err = os.MkdirTemp("", "gostream-run-*"); err != nil {
		return err
	}
	defer os.RemoveAll(r.tmp)
	// From here on a signal ends the service first, and then the tool.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	if !r.reload {
		return r.once(ctx, signals)
	}
	if r.watcher, err = watch.New(); err != nil {
		return err
	}
	defer r.watcher.Close()
	return r.loop(ctx, signals)
}

// once runs the service until it ends.
func (r *runner) once(ctx context.Context, signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	built := r.build(ctx)
	select {
	case s := <-signals:
		cancel()
		<-built
		return interrupted(s)
	case b := <-built:
		if b.err != nil {
			return b.err
		}
		if err := r.start(b.program); err != nil {
			return err
		}
	}
	select {
	case s := <-signals:
		return r.end(s, signals)
	case <-r.service.Done():
		return code(r.service)
	}
}

// loop runs the service, and each new build of it, until a signal comes.
func (r *runner) loop(ctx context.Context, signals <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	built := r.build(ctx)
	again := false // something has changed since this build began
	for {
		var ended <-chan struct{}
		if r.service != nil {
			ended = r.service.Done()
		}
		select {
		case s := <-signals:
			cancel()
			if built != nil {
				<-built
			}
			if r.service == nil {
				return interrupted(s)
			}
			return r.end(s, signals)
		case <-ended:
			r.say("the service has ended with exit code %d: it starts again when its source changes", r.service.ExitCode())
			r.service = nil
		case files := <-r.watcher.Changes():
			r.say("%s", changed(r.dir, files))
			if built != nil {
				again = true
				continue
			}
			built = r.build(ctx)
		case err := <-r.watcher.Errors():
			r.say("watching: %v", err)
		case b := <-built:
			built = nil
			if again {
				again = false
				built = r.build(ctx)
				continue
			}
			if s, err := r.replace(b, signals); err != nil {
				return err
			} else if s != nil {
				return interrupted(s)
			}
		}
	}
}

// replace puts what was built in the place of what runs. s is the signal that came
// meanwhile; then nothing was started.
func (r *runner) replace(b build, signals <-chan os.Signal) (s os.Signal, err error) {
	switch {
	case b.err != nil:
		complain(r.stderr, b.err)
		if r.service != nil {
			r.say("what was built before goes on")
		}
		return nil, nil
	case r.service != nil && same(r.program, b.program):
		r.say("nothing is different in the program: it goes on")
		return nil, os.Remove(b.program)
	case r.service != nil:
		r.say("built in %v; the old one drains", b.took.Round(10*time.Millisecond))
		// One after the other: both together would clash on ports and folders.
		if err := r.service.Signal(child.Terminate); err != nil {
			return nil, err
		}
		s = r.wait(signals)
		r.service = nil
		if s != nil {
			return s, nil
		}
		if err := os.Remove(r.program); err != nil {
			return nil, err
		}
	}
	return nil, r.start(b.program)
}

// start starts the program.
func (r *runner) start(program string) (err error) {
	r.service, err = child.Start(program, r.dir, r.args...)
	r.program = program
	if err == nil && r.reload {
		r.say("started, process %d", r.service.Pid())
	}
	return err
}

// end passes on the signal that has come, waits for the end of the service and returns its
// exit code.
func (r *runner) end(s os.Signal, signals <-chan os.Signal) error {
	if err := r.service.Signal(s); err != nil {
		return err
	}
	r.wait(signals)
	return code(r.service)
}

// wait waits for the end of the service, which was asked to. It is killed when it has not
// ended in time. A signal that comes meanwhile is passed on, for the service to end at
// once, and returned.
func (r *runner) wait(signals <-chan os.Signal) (got os.Signal) {
	timer := time.NewTimer(r.drain)
	defer timer.Stop()
	for {
		select {
		case <-r.service.Done():
			return got
		case got = <-signals:
			_ = r.service.Signal(got) // the timer is there for what fails
		case <-timer.C:
			r.say("the service has not drained within %v (--drain): it is killed", r.drain)
			r.service.Kill()
			return got
		}
	}
}

// build is the end of a build.
type build struct {
	program string
	took    time.Duration
	err     error
}

// build begins a build. With reload the watcher knows what to watch before the build reads
// it, so that no change is missed.
func (r *runner) build(ctx context.Context) <-chan build {
	r.builds++
	b := build{program: filepath.Join(r.tmp, fmt.Sprintf("service-%d", r.builds))}
	if filepath.Separator == '\\' {
		b.program += ".exe"
	}
	done := make(chan build, 1)
	go func() {
		began := time.Now()
		if r.watcher != nil {
			inputs, err := gobuild.FindInputs(ctx, r.dir)
			if err != nil { // the build says it better
				inputs = gobuild.Folders(r.dir)
			}
			if b.err = r.watcher.Set(inputs); b.err != nil {
				b.err = fmt.Errorf("watching the source: %w", b.err)
				done <- b
				return
			}
		}
		b.err = named(gobuild.Build(ctx, r.dir, b.program), r.name)
		b.took = time.Since(began)
		done <- b
	}()
	return done
}

func (r *runner) say(format string, args ...any) {
	fmt.Fprintf(r.stderr, "gostream: "+format+"\n", args...)
}

// changed names the files that have changed, as seen from dir.
func changed(dir string, files []string) string {
	name := files[0]
	if rel, err := filepath.Rel(dir, name); err == nil && !strings.HasPrefix(rel, "..") {
		name = rel
	}
	if len(files) == 1 {
		return name + " has changed"
	}
	return fmt.Sprintf("%s and %d more have changed", name, len(files)-1)
}

// same reports whether two files have the same content.
func same(a, b string) bool {
	x, err := os.ReadFile(a)
	if err != nil {
		return false
	}
	y, err := os.ReadFile(b)
	return err == nil && string(x) == string(y)
}

// code is the error that gives the exit code of the service to the shell.
func code(p *child.Process) error {
	if c := p.ExitCode(); c != 0 {
		return exitCode(c)
	}
	return nil
}

// interrupted is the exit code of a tool that a signal ended while nothing ran.
func interrupted(s os.Signal) error {
	if n, ok := s.(syscall.Signal); ok {
		return exitCode(128 + int(n))
	}
	return errors.New("interrupted")
}

// Package child runs a process of the user's, and ends it.
package child

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// Process is a process that runs, or has ended. Its methods may be called concurrently.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// Start starts the program bin in dir, with the standard output and error of this process
// and without input. On Unix it has a process group of its own: a terminal sends Ctrl-C
// to its whole foreground group, and the process gets the signal from this one, once.
func Start(bin, dir string, args ...string) (*Process, error) {
	cmd := exec.Command(bin, args...)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = attributes()
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// Linux ends the process with the thread that has started it, where this process is
		// killed. So the thread must stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // the state says it all
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Pid is the number of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Signal sends a signal; to a process that has ended it does nothing.
func (p *Process) Signal(s os.Signal) error {
	if err := signal(p.cmd.Process, s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Stop asks the process to end, and kills it when it has not ended within patience. It
// reports whether that was needed.
func (p *Process) Stop(patience time.Duration) (killed bool) {
	if err := p.Signal(Terminate); err == nil {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case <-p.done:
			return false
		case <-timer.C:
		}
	}
	p.Kill()
	return true
}

// Kill kills the process and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// ExitCode is that of a process that has ended; of one that a signal has ended 128 and the
// number of the signal, as a shell says it.
func (p *Process) ExitCode() int {
	<-p.done
	return exitCode(p.cmd.ProcessState)
}
